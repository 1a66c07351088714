//! Pages of keys, versions and common prefixes against a list in memory, and how much of the devices they read.

mod support;

use std::collections::BTreeMap;

use engine::format::body::Numbering;
use engine::ids::VersionId;
use engine::index::directory::{After, EntryKind, PageQuery, VersionAfter, VersionPageQuery};
use engine::{Layout, Precondition};
use proptest::prelude::*;
use support::{TestStore, formatted, run};

/// A version: its id, when it was made, and whether it is an object.
type ModelVersion = (VersionId, u64, bool);

/// The versions of each key.
#[derive(Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, Vec<ModelVersion>>,
    made: u64,
}

impl Model {
    fn put(&mut self, key: &[u8], version: VersionId, is_object: bool) {
        self.made += 1;
        let versions = self.keys.entry(key.to_vec()).or_default();
        versions.retain(|(id, ..)| *id != version);
        versions.push((version, self.made, is_object));
    }

    fn current(&self, key: &[u8]) -> Option<ModelVersion> {
        self.keys.get(key)?.iter().max_by_key(|(_, made, _)| *made).copied()
    }

    fn remove(&mut self, key: &[u8], version: VersionId) {
        if let Some(versions) = self.keys.get_mut(key) {
            versions.retain(|(id, ..)| *id != version);
            if versions.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    fn objects(&self) -> impl Iterator<Item = &[u8]> {
        self.keys
            .keys()
            .filter(|key| self.current(key).is_some_and(|(.., is_object)| is_object))
            .map(Vec::as_slice)
    }
}

/// What a page shows, in order: keys and common prefixes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    Key(Vec<u8>),
    CommonPrefix(Vec<u8>),
}

/// Everything that comes after that place, without any index.
fn naive<'a>(
    keys: impl Iterator<Item = &'a [u8]>,
    prefix: &[u8],
    delimiter: &[u8],
    after: &After,
) -> Vec<Shown> {
    let mut shown = Vec::new();
    for key in keys.filter(|key| key.starts_with(prefix)) {
        let is_after = match after {
            After::Nothing => true,
            After::Key(last) => key > last.as_slice(),
            After::CommonPrefix(last) => key > last.as_slice() && !key.starts_with(last),
        };
        if !is_after {
            continue;
        }
        let rest = &key[prefix.len()..];
        let group = (!delimiter.is_empty())
            .then(|| rest.windows(delimiter.len()).position(|window| window == delimiter))
            .flatten()
            .map(|at| key[..prefix.len() + at + delimiter.len()].to_vec());
        let next = group.map_or_else(|| Shown::Key(key.to_vec()), Shown::CommonPrefix);
        if shown.last() != Some(&next) {
            shown.push(next);
        }
    }
    shown
}

#[derive(Clone, Debug)]
enum Op {
    Put(usize, bool),
    Marker(usize, bool),
    RemoveCurrent(usize),
    RemoveBelow(usize),
    Checkpoint,
    Upkeep,
    Empty,
    List(Look),
}

/// A listing: parts of keys that begin and follow, which delimiter, and how long a page is.
#[derive(Clone, Debug)]
struct Look {
    prefix: (usize, usize),
    after: Option<(usize, usize, bool)>,
    delimiter: usize,
    max: usize,
}

const DELIMITERS: [&[u8]; 6] = [b"/", b"/", b"/", b"", b"--", b"/b"];

/// Names of directories: two differ after a delimiter that is none, one holds what is escaped, and some are so long that few of them fit an outline.
fn part(i: usize) -> Vec<u8> {
    match i % 6 {
        0 => b"a".to_vec(),
        1 => b"b".to_vec(),
        2 => b"b--c".to_vec(),
        3 => b"\x00\x01".to_vec(),
        4 => [&[b'l'; 150][..], &[b'0' + (i / 6 % 8) as u8]].concat(),
        _ => format!("d{}", i / 6 % 20).into_bytes(),
    }
}

fn key(i: usize) -> Vec<u8> {
    let depth = i % 4;
    let mut key = Vec::new();
    for level in 0..depth {
        key.extend(part(i / 4 / 13usize.pow(level as u32)));
        key.push(b'/');
    }
    key.extend(part(i / 7));
    key
}

fn key_part((i, len): (usize, usize)) -> Vec<u8> {
    let mut key = key(i);
    key.truncate(len % (key.len() + 1));
    key
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let look = (
        prop_oneof![2 => Just((0, 0)), 1 => (0usize..4000, 0usize..30)],
        prop::option::of((0usize..4000, 0usize..200, any::<bool>())),
        0..DELIMITERS.len(),
        prop_oneof![Just(1usize), 1usize..6, Just(1000)],
    );
    let look = look.prop_map(|(prefix, after, delimiter, max)| Look { prefix, after, delimiter, max });
    let op = prop_oneof![
        30 => (0usize..4000, any::<bool>()).prop_map(|(key, numbered)| Op::Put(key, numbered)),
        3 => (0usize..4000, any::<bool>()).prop_map(|(key, numbered)| Op::Marker(key, numbered)),
        5 => (0usize..40).prop_map(Op::RemoveCurrent),
        1 => (0usize..4000).prop_map(Op::RemoveBelow),
        5 => Just(Op::Checkpoint),
        1 => Just(Op::Upkeep),
        1 => Just(Op::Empty),
        10 => look.prop_map(Op::List),
    ];
    prop::collection::vec(op, 1..150)
}

async fn put(store: &TestStore, model: &mut Model, key: &[u8], numbering: Numbering, is_object: bool) {
    let mut new = store.new_version("", b"");
    new.key = key.to_vec();
    new.meta.numbering = numbering;
    let draft = match is_object {
        true => {
            let content = store.content(b"some", Layout::InlineIfSmall).await.expect("taken in");
            store.core.draft_version(&store.sealing(), new, content).expect("drafted")
        }
        false => store.core.draft_marker(&store.sealing(), new).expect("drafted"),
    };
    let id = store.home().put(draft, Precondition::None).await.expect("stored");
    model.put(key, id, is_object);
}

async fn remove(store: &TestStore, model: &mut Model, key: &[u8]) {
    let Some((id, ..)) = model.current(key) else { return };
    let (core, time) = (&store.core, engine::ids::UnixMillis(6));
    let draft = core.draft_tombstone(&store.sealing(), store.bucket(), key, id, time).expect("drafted");
    assert!(store.home().delete(draft, Precondition::None).await.expect("removed"), "the version was there");
    model.remove(key, id);
}

async fn apply(store: &TestStore, model: &mut Model, op: &Op) {
    let numbering = |is_numbered: &bool| if *is_numbered { Numbering::Numbered } else { Numbering::Null };
    match op {
        Op::Put(i, is_numbered) => put(store, model, &key(*i), numbering(is_numbered), true).await,
        Op::Marker(i, is_numbered) => put(store, model, &key(*i), numbering(is_numbered), false).await,
        Op::RemoveCurrent(nth) => {
            if let Some(key) = model.keys.keys().nth(*nth).cloned() {
                remove(store, model, &key).await;
            }
        }
        Op::RemoveBelow(i) => {
            let prefix = key_part((*i, 4));
            let keys: Vec<_> = model.keys.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
            for key in keys {
                while model.keys.contains_key(&key) {
                    remove(store, model, &key).await;
                }
            }
        }
        Op::Checkpoint => store.home().checkpoint().await.expect("a checkpoint"),
        Op::Upkeep => store.settle().await,
        Op::Empty => {
            store.home().empty_bucket(store.bucket()).await.expect("emptied");
            model.keys.clear();
        }
        Op::List(look) => {
            keys_are_listed(store, model, look).await;
            versions_are_listed(store, model, look).await;
        }
    }
}

/// Walks all pages from the place on.
async fn keys_are_listed(store: &TestStore, model: &Model, look: &Look) {
    let (prefix, delimiter) = (key_part(look.prefix), DELIMITERS[look.delimiter]);
    let first = match look.after {
        None => After::Nothing,
        Some((i, len, true)) => After::Key(key_part((i, len))),
        Some((i, len, false)) => After::CommonPrefix(key_part((i, len))),
    };
    // Before the prefix, whatever comes after is all.
    let first = match first {
        After::CommonPrefix(after) if after < prefix => After::Nothing,
        other => other,
    };
    let expected = naive(model.objects(), &prefix, delimiter, &first);
    let (mut found, mut after) = (Vec::new(), first.clone());
    loop {
        let query = PageQuery { prefix: prefix.clone(), delimiter: delimiter.to_vec(), after, max: look.max };
        let page = store.home().page(store.bucket(), &query).await.expect("a page");
        let count = page.entries.len() + page.common_prefixes.len();
        assert!(count <= look.max);
        let keys = page.entries.into_iter().map(|(key, _)| Shown::Key(key));
        found.extend(keys.chain(page.common_prefixes.into_iter().map(Shown::CommonPrefix)));
        match page.next_after {
            Some(next) => {
                assert_eq!(count, look.max, "a page that more follow is full");
                after = next;
            }
            None => break,
        }
    }
    found.sort_by(|a, b| shown_bytes(a).cmp(shown_bytes(b)));
    assert_eq!(found, expected, "prefix {prefix:?}, delimiter {delimiter:?}, after {first:?}");
}

fn shown_bytes(shown: &Shown) -> &[u8] {
    match shown {
        Shown::Key(bytes) | Shown::CommonPrefix(bytes) => bytes,
    }
}

/// One long page of versions.
async fn versions_are_listed(store: &TestStore, model: &Model, look: &Look) {
    let (prefix, delimiter) = (key_part(look.prefix), DELIMITERS[look.delimiter]);
    let keys = model.keys.keys().map(Vec::as_slice);
    let expected = naive(keys, &prefix, delimiter, &After::Nothing);
    let query = VersionPageQuery {
        prefix: prefix.clone(),
        delimiter: delimiter.to_vec(),
        after: VersionAfter::Nothing,
        max: 1000,
    };
    let page = store.home().version_page(store.bucket(), &query).await.expect("a page");
    let mut found: Vec<Shown> = page.common_prefixes.into_iter().map(Shown::CommonPrefix).collect();
    for version in &page.versions {
        let is_object = version.kind == EntryKind::Object;
        let known = model.keys[&version.key].iter().find(|(id, ..)| *id == version.version);
        assert_eq!(known.map(|(.., is_object)| *is_object), Some(is_object));
        if version.is_latest {
            found.push(Shown::Key(version.key.clone()));
        }
    }
    found.sort_by(|a, b| shown_bytes(a).cmp(shown_bytes(b)));
    assert_eq!(found, expected, "versions: prefix {prefix:?}, delimiter {delimiter:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn pages_show_what_a_list_of_all_keys_shows(ops in ops()) {
        run(async {
            let devices = formatted(1, 96 << 20, 1).await;
            let store = TestStore::open(&devices).await.expect("a store");
            let mut model = Model::default();
            for op in &ops {
                apply(&store, &mut model, op).await;
            }
        });
    }
}

/// A store whose keys lie in that many directories: a run for each count, with so many keys of each directory.
async fn many_directories(directories: usize, runs: &[usize]) -> (TestStore, Model) {
    let devices = formatted(1, 256 << 20, 1).await;
    let store = TestStore::open(&devices).await.expect("a store");
    let mut model = Model::default();
    for (run, count) in runs.iter().enumerate() {
        for i in 0..directories * count {
            let key = format!("p{:03}/k{:02}{run}", i % directories, i / directories);
            put(&store, &mut model, key.as_bytes(), Numbering::Null, true).await;
        }
        store.home().checkpoint().await.expect("a checkpoint");
    }
    assert_eq!(store.home().footprint().run_count, runs.len());
    (store, model)
}

/// Device reads of a page of common prefixes with nothing in the cache.
async fn reads_of_a_page(store: &TestStore, model: &Model, after: After) -> u64 {
    store.core.block_cache.clear();
    let before = store.devices[0].reads();
    let expected = naive(model.objects(), b"", b"/", &after);
    let query = PageQuery { delimiter: b"/".to_vec(), after, max: 1000, ..PageQuery::default() };
    let page = store.home().page(store.bucket(), &query).await.expect("a page");
    let found: Vec<_> = page.common_prefixes.into_iter().map(Shown::CommonPrefix).collect();
    assert_eq!(found, expected[..expected.len().min(1000)]);
    store.devices[0].reads() - before
}

#[test]
fn a_page_of_common_prefixes_reads_nothing_below_them() {
    run(async {
        let (store, mut model) = many_directories(200, &[10, 10, 10, 10]).await;
        assert_eq!(
            reads_of_a_page(&store, &model, After::Nothing).await,
            0,
            "the outlines of four runs tell all of it"
        );
        let keys = PageQuery { max: 1000, ..PageQuery::default() };
        let before = store.devices[0].reads();
        store.home().page(store.bucket(), &keys).await.expect("a page");
        assert!(store.devices[0].reads() > before, "pages of keys are read from blocks");
        // Less is removed of each directory than is there, in a run and in the memtable.
        for i in 0..2 {
            for directory in 0..200 {
                remove(&store, &mut model, format!("p{directory:03}/k{i:02}0").as_bytes()).await;
            }
            if i == 0 {
                store.home().checkpoint().await.expect("a checkpoint");
            }
        }
        assert_eq!(reads_of_a_page(&store, &model, After::Nothing).await, 0, "removals are counted");
    });
}

#[test]
fn a_directory_that_is_empty_is_read_and_no_other() {
    run(async {
        let (store, mut model) = many_directories(60, &[40, 40]).await;
        let keys: Vec<_> = model.keys.keys().filter(|key| key.starts_with(b"p030/")).cloned().collect();
        for key in keys {
            remove(&store, &mut model, &key).await;
        }
        let reads = reads_of_a_page(&store, &model, After::Nothing).await;
        assert!((1..=6).contains(&reads), "{reads} reads for one directory in two runs");
    });
}

#[test]
fn small_runs_with_too_many_directories_are_read_and_large_ones_are_not() {
    run(async {
        // 160 blocks, and twice eight.
        let (store, model) = many_directories(1300, &[20, 1, 1]).await;
        let reads = reads_of_a_page(&store, &model, After::CommonPrefix(b"p900/".to_vec())).await;
        assert!((1..=16).contains(&reads), "{reads} reads");
    });
}

#[test]
fn outlines_are_there_again_after_a_start() {
    run(async {
        let (store, model) = many_directories(60, &[40, 40]).await;
        let devices = store.devices.clone();
        drop(store);
        let store = TestStore::open(&devices).await.expect("opened again");
        assert_eq!(reads_of_a_page(&store, &model, After::Nothing).await, 0);
    });
}
