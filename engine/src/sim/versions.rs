//! Versioned buckets: each belongs to one client, who makes one change at a time. So what a bucket may hold is what it held before the change under way, or
//! what it holds after it.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::chance::Chance;
use super::machine::{FoundVersion, Machine};
use super::model::{Answer, Object};
use super::oracle::{Oracle, show};
use crate::error::{Error, Result};
use crate::format::body::Numbering;
use crate::ids::VersionId;

/// Buckets of the clients, by their numbers.
pub const VERSIONED_BUCKETS: [&str; 4] = ["v0", "v1", "v2", "v3"];

const KEYS: [&str; 5] = ["a", "a/1", "a/1/x", "b", "c"];

/// What of a bucket's versions a test can tell: by key, the newest first.
pub type Versions = BTreeMap<Vec<u8>, Vec<Known>>;

/// A version as the model has it.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its id, once it was told or seen.
    pub id: Option<VersionId>,
    /// Whether it has an id of its own.
    pub numbering: Numbering,
    /// What is in it; of a delete marker only the ETag counts.
    pub object: Rc<Object>,
    /// Whether it is a delete marker.
    pub is_marker: bool,
}

/// What a versioned bucket may hold.
#[derive(Clone, Debug, Default)]
pub struct VersionedBucket {
    /// One state, or two while a change is under way or open.
    pub possible: Vec<Versions>,
    /// Whether a change of this session was left open: the next look after a restart decides.
    pub is_open: bool,
}

/// A change that a client makes.
enum Change {
    Put(Numbering),
    Marker(Numbering),
    Remove(VersionId),
    Empty,
}

/// One request of a client to its own bucket.
pub async fn request(oracle: &Oracle, machine: &Machine, client: usize, core: usize, chance: &mut Chance) {
    let name = VERSIONED_BUCKETS[client];
    let bucket = oracle.versioned(name);
    if bucket.is_open || bucket.possible.len() > 1 {
        return;
    }
    if !machine.buckets().iter().any(|there| there == name) {
        let result = machine.create_bucket(name).await;
        oracle.answer("create bucket", name.as_bytes(), &result);
        return;
    }
    let before = bucket.possible.first().cloned().unwrap_or_default();
    let key = chance.pick(&KEYS).as_bytes().to_vec();
    if chance.below(4) == 0 {
        return look(oracle, machine, name, core, &key, &before, chance).await;
    }
    let change = choose(&before, &key, chance);
    let len_max = if chance.below(3) == 0 { 200_000 } else { 3000 };
    let len = chance.below(len_max) as usize;
    let object = oracle.object(vec![oracle.span(len)]);
    let after = changed(&before, &key, &change, &object);
    oracle.set_versioned(name, vec![before.clone(), after.clone()], false);
    let result = perform(machine, core, name, &key, &change, &object).await;
    let answer = oracle.answer("change versions", &key, &result);
    let (possible, is_open) = match answer {
        Answer::Done => (vec![with_id(after, &key, result.ok().flatten())], false),
        Answer::Refused => (vec![before], false),
        Answer::Open | Answer::Unheard => (vec![before, after], true),
    };
    if matches!(result, Err(Error::NotFound | Error::BucketNotFound | Error::PreconditionFailed)) {
        oracle.fail(format!("{name}/{}: {result:?} for a change that nothing stood against", show(&key)));
    }
    oracle.set_versioned(name, possible, is_open);
}

fn choose(before: &Versions, key: &[u8], chance: &mut Chance) -> Change {
    let there = before.get(key).map_or(&[][..], Vec::as_slice);
    match chance.below(20) {
        0..=8 => Change::Put(Numbering::Numbered),
        9 | 10 => Change::Put(Numbering::Null),
        11 | 12 => Change::Marker(Numbering::Numbered),
        13 => Change::Marker(Numbering::Null),
        14 => Change::Empty,
        _ if there.is_empty() => Change::Put(Numbering::Numbered),
        _ => match chance.pick(there).id {
            Some(id) => Change::Remove(id),
            None => Change::Marker(Numbering::Numbered),
        },
    }
}

/// What a bucket holds after a change.
fn changed(before: &Versions, key: &[u8], change: &Change, object: &Rc<Object>) -> Versions {
    let mut after = before.clone();
    let versions = after.entry(key.to_vec()).or_default();
    match change {
        Change::Put(numbering) | Change::Marker(numbering) => {
            if *numbering == Numbering::Null {
                versions.retain(|version| version.numbering != Numbering::Null);
            }
            let is_marker = matches!(change, Change::Marker(_));
            let id = (*numbering == Numbering::Null).then_some(VersionId::Null);
            versions.insert(0, Known { id, numbering: *numbering, object: object.clone(), is_marker });
        }
        Change::Remove(id) => versions.retain(|version| version.id != Some(*id)),
        Change::Empty => after.clear(),
    }
    after.retain(|_, versions| !versions.is_empty());
    after
}

fn with_id(mut after: Versions, key: &[u8], id: Option<VersionId>) -> Versions {
    if let (Some(id), Some(newest)) = (id, after.get_mut(key).and_then(|versions| versions.first_mut())) {
        newest.id = Some(id);
    }
    after
}

async fn perform(
    machine: &Machine,
    core: usize,
    bucket: &str,
    key: &[u8],
    change: &Change,
    object: &Object,
) -> Result<Option<VersionId>> {
    match change {
        Change::Put(numbering) => machine.put_version(core, bucket, key, object, *numbering).await.map(Some),
        Change::Marker(numbering) => {
            machine.put_marker(core, bucket, key, object, *numbering).await.map(Some)
        }
        Change::Remove(id) => match machine.remove_version(core, bucket, key, *id).await {
            // It was there, as the model knows.
            Ok(false) => Err(Error::NotFound),
            other => other.map(|_| None),
        },
        Change::Empty => machine.empty_bucket(bucket).await.map(|()| None),
    }
}

/// Gets a version by its id, or the current object.
async fn look(
    oracle: &Oracle,
    machine: &Machine,
    bucket: &str,
    core: usize,
    key: &[u8],
    before: &Versions,
    chance: &mut Chance,
) {
    let there = before.get(key).map_or(&[][..], Vec::as_slice);
    let by_id = there.iter().filter(|version| version.id.is_some()).collect::<Vec<_>>();
    let (id, expected) = match by_id.is_empty() || chance.below(3) == 0 {
        true => (None, there.first().filter(|version| !version.is_marker)),
        false => {
            let version = *chance.pick(&by_id);
            (version.id, Some(version).filter(|version| !version.is_marker))
        }
    };
    match machine.get_version(core, bucket, key, id).await {
        Ok(found) => {
            let is_right = match (&found, expected) {
                (None, None) => true,
                (Some(found), Some(version)) => {
                    found.etag == version.object.etag && found.bytes == version.object.bytes()
                }
                _ => false,
            };
            if !is_right {
                let found = found.map(|found| found.etag);
                oracle
                    .fail(format!("get {bucket}/{} {id:?}: {found:?}, while it is {expected:?}", show(key)));
            }
        }
        Err(error) if oracle.excuses_read(error) => {}
        Err(error) => oracle.fail(format!("get {bucket}/{} {id:?}: {error:?}", show(key))),
    }
}

/// Holds a versioned bucket against what it may be: its versions, its keys and its own counts.
pub async fn check(oracle: &Oracle, machine: &Machine, name: &str) {
    let found = match machine.list_versions(name, 3).await {
        Ok(found) => found,
        Err(error) if oracle.excuses_read(error) => return,
        Err(error) => return oracle.fail(format!("list versions of {name}: {error:?}")),
    };
    let bucket = oracle.versioned(name);
    let mut possible = bucket.possible.clone();
    if possible.is_empty() {
        possible.push(Versions::new());
    }
    let Some(state) = possible.iter().find(|state| is_it(state, &found)) else {
        return oracle.fail(format!("versions of {name}: {found:?}, while they are one of {possible:?}"));
    };
    check_counts(oracle, machine, name, state).await;
    let mut seen = state.clone();
    for version in found {
        let of = seen
            .get_mut(&version.key)
            .and_then(|versions| versions.iter_mut().find(|known| known.object.etag == version.etag));
        if let Some(known) = of {
            known.id = Some(version.id);
        }
    }
    if !bucket.is_open {
        oracle.set_versioned(name, vec![seen], false);
    }
}

fn is_it(state: &Versions, found: &[FoundVersion]) -> bool {
    let expected = state.iter().flat_map(|(key, versions)| {
        versions.iter().enumerate().map(move |(i, version)| (key, version, i == 0))
    });
    let is_same = |(found, (key, version, is_latest)): (&FoundVersion, (&Vec<u8>, &Known, bool))| {
        found.key == *key
            && found.etag == version.object.etag
            && found.is_marker == version.is_marker
            && found.is_latest == is_latest
            && (found.id == VersionId::Null) == (version.numbering == Numbering::Null)
            && version.id.is_none_or(|id| id == found.id)
    };
    found.len() == state.values().map(Vec::len).sum::<usize>() && found.iter().zip(expected).all(is_same)
}

async fn check_counts(oracle: &Oracle, machine: &Machine, name: &str, state: &Versions) {
    let is_object = |versions: &Vec<Known>| versions.first().is_some_and(|version| !version.is_marker);
    let objects: Vec<&Vec<u8>> =
        state.iter().filter(|(_, versions)| is_object(versions)).map(|(key, _)| key).collect();
    match machine.list(name, b"", b"", None, 1000).await {
        Ok(listing) => {
            let listed: Vec<&Vec<u8>> = listing.keys.iter().map(|(key, ..)| key).collect();
            if listed != objects {
                oracle.fail(format!("list {name}: {listed:?}, while it holds {objects:?}"));
            }
        }
        Err(error) if oracle.excuses_read(error) => {}
        Err(error) => oracle.fail(format!("list {name}: {error:?}")),
    }
    let all = || state.values().flatten();
    let len = |version: &Known| if version.is_marker { 0 } else { version.object.len() as u64 };
    let expected = (objects.len() as u64, all().count() as u64, all().map(len).sum::<u64>());
    match machine.version_usage(name) {
        Ok(usage) if usage == expected => {}
        other => oracle.fail(format!("usage of {name}: {other:?}, while it is {expected:?}")),
    }
}
