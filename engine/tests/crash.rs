//! Crashes: a machine with two cores runs clients, stops after a random number of device writes and flushes, and starts again, several times
//! in its life. What was acknowledged is there, what was not is there as a whole or not at all, and what was once seen stays.
//!
//! A life is decided by its seed. `CRASH_LIVES=1000` lives more of them, `CRASH_SEED=17` lives that one alone and tells of it.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

use engine::ids::{ShardId, UnixMillis, UploadId, UserId};
use engine::index::directory::PageQuery;
use engine::{Content, Core, Error, Layout, ObjectReader, ObjectWriter, Result, Store, shared_content};
use futures_util::future::{Either, join_all, select};
use support::{Crash, MemoryDevice, NAMESPACE, Power, Seeded, TestStore, data, formatted, master, run};

const MIB: usize = 1 << 20;
const BUCKETS: [&str; 2] = ["b", "c"];
const CORES: u16 = 2;
const CLIENTS: u64 = 4;
const SESSIONS: u64 = 6;

/// The bytes of an object; `None` when there is none.
type Value = Option<Rc<[u8]>>;

type Key = (&'static str, String);

/// What may be found of something.
#[derive(Debug)]
struct Known<T> {
    /// What was acknowledged last, or seen.
    settled: T,
    /// What was asked for since, and not acknowledged.
    open: Vec<T>,
}

/// An upload that was acknowledged, and whose end was not asked for.
struct KnownUpload {
    at: Key,
    client: u64,
    id: UploadId,
    parts: BTreeMap<u16, Known<Value>>,
}

/// What clients were told.
#[derive(Default)]
struct Oracle {
    objects: BTreeMap<Key, Known<Value>>,
    uploads: Vec<KnownUpload>,
}

impl<T: Clone + Default + PartialEq> Known<T> {
    fn new() -> Self {
        Known { settled: T::default(), open: Vec::new() }
    }

    fn ask(&mut self, value: T) {
        self.open.push(value);
    }

    fn settle(&mut self, value: T) {
        *self = Known { settled: value, open: Vec::new() };
    }

    /// It was found to be that.
    fn see(&mut self, value: T, what: &dyn std::fmt::Debug) {
        let is_allowed = value == self.settled || self.open.contains(&value);
        assert!(is_allowed, "{what:?} is neither what was acknowledged nor what was asked for");
        self.settle(value);
    }
}

/// A machine, and what is known of it.
struct Machine {
    devices: Vec<MemoryDevice>,
    oracle: RefCell<Oracle>,
    chance: RefCell<Seeded>,
    /// Devices may fail: requests too, then.
    is_faulty: bool,
    acknowledged: Cell<u64>,
}

impl Machine {
    fn below(&self, end: u64) -> u64 {
        self.chance.borrow_mut().below(end)
    }

    fn bytes(&self) -> Rc<[u8]> {
        let len = match self.below(8) {
            0 => 0,
            1..=3 => self.below(3000),
            4 | 5 => self.below(33_000),
            _ => 33_000 + self.below(400_000),
        };
        data(self.below(u64::MAX), len as usize).into()
    }

    /// A key of that client: each has its own, so that the order of what it does is known.
    fn key(&self, client: u64) -> Key {
        (BUCKETS[self.below(2) as usize], format!("{client}/{}", self.below(5)))
    }

    /// What a request came to; `None` when that is not known.
    fn outcome<T>(&self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.acknowledged.set(self.acknowledged.get() + 1);
                Some(value)
            }
            Err(Error::Full) => None,
            Err(Error::ReadOnly | Error::Fenced { .. } | Error::Io { .. }) if self.is_faulty => None,
            Err(error) => panic!("{error:?}"),
        }
    }

    /// A session with all devices and without a crash before one of them goes away: a log end that reached one copy is completed then. (Of two devices that
    /// are away in turn, the second may be the only one that has it.)
    async fn rest(&self) {
        let steady = Power::new(1, u64::MAX);
        self.devices.iter().for_each(|device| device.plug_in(&steady));
        let opened = self.session(&self.devices, async |stores| self.check(stores).await).await;
        opened.expect("all devices are there");
        let mut chance = self.chance.borrow_mut();
        self.devices.iter().for_each(|device| device.crash(Crash::Kill, &mut chance));
    }

    /// Opens the store on those devices: a [`TestStore`] per core. The shards run as long as `serve` does.
    async fn session(&self, devices: &[MemoryDevice], serve: impl AsyncFnOnce(&[TestStore])) -> Result<()> {
        let store = Store::open(devices, master()).await?;
        let cores: Vec<_> = (0..CORES)
            .map(|number| {
                let random = Box::new(Seeded(self.below(u64::MAX)));
                Core::new(store.clone(), number, devices.to_vec(), random)
            })
            .collect();
        let mut shards = Vec::new();
        for id in 0..store.shard_count {
            shards
                .push(engine::open_shard(cores[usize::from(id % CORES)].clone(), ShardId(id), |_| {}).await?);
        }
        shards.iter().for_each(|shard| shard.retain_buckets(&shards[0].catalog()));
        store.table.finish_recovery();
        let work = async {
            set_up(&shards[0]).await?;
            let on_core = |core: Rc<Core<MemoryDevice>>| TestStore {
                bucket_name: BUCKETS[0],
                devices: devices.to_vec(),
                core,
                shards: shards.clone(),
                catalog: shards[0].catalog(),
            };
            let stores: Vec<TestStore> = cores.into_iter().map(on_core).collect();
            serve(&stores).await;
            Ok(())
        };
        let loops = join_all(shards.iter().map(|shard| shard.clone().run()));
        match select(Box::pin(work), loops).await {
            Either::Left((result, _)) => result,
            // The logs have stopped; requests end by themselves.
            Either::Right((_, work)) => work.await,
        }
    }

    /// Everything is as clients were told.
    async fn check(&self, stores: &[TestStore]) {
        let keys: Vec<Key> = self.oracle.borrow().objects.keys().cloned().collect();
        for bucket in BUCKETS {
            let store = in_bucket(&stores[0], bucket);
            let mut found = Vec::new();
            for (_, key) in keys.iter().filter(|(of, _)| *of == bucket) {
                let value: Value = match store.get(key).await {
                    Ok(bytes) => Some(bytes.into()),
                    Err(Error::NotFound) => None,
                    Err(error) => panic!("{bucket}/{key}: {error:?}"),
                };
                found.extend(value.as_ref().map(|bytes| (key.clone().into_bytes(), bytes.len() as u64)));
                let mut oracle = self.oracle.borrow_mut();
                let known = oracle.objects.get_mut(&(bucket, key.clone())).expect("a key of the oracle");
                known.see(value, &(bucket, key));
            }
            let query = PageQuery { max: 1000, ..PageQuery::default() };
            let page = store.home().page(store.bucket(), &query).await.expect("listed");
            let listed: Vec<_> = page.entries.into_iter().map(|(key, shown)| (key, shown.size)).collect();
            assert_eq!(listed, found, "the listing of {bucket}");
        }
        let uploads = std::mem::take(&mut self.oracle.borrow_mut().uploads);
        for mut upload in uploads {
            let store = in_bucket(&stores[1], upload.at.0);
            let view = store
                .home()
                .upload(store.bucket(), upload.at.1.as_bytes(), upload.id)
                .await
                .expect("an upload");
            for (number, known) in &mut upload.parts {
                let part = view.parts.iter().find(|(_, part)| part.summary.number == *number);
                let value = match part {
                    Some((_, part)) => Some(read(&store, part.pieces.clone()).await),
                    None => None,
                };
                known.see(value, &(&upload.at, number));
            }
            self.oracle.borrow_mut().uploads.push(upload);
        }
    }

    async fn client(&self, client: u64, stores: &[TestStore]) {
        for _ in 0..60 {
            let at = self.key(client);
            let store = in_bucket(&stores[self.below(CORES.into()) as usize], at.0);
            match self.below(20) {
                0..=6 => self.put(&store, at).await,
                7..=9 => self.delete(&store, at).await,
                10..=11 => self.copy(&store, stores, at).await,
                12 => self.give_up(&store, at).await,
                13..=14 => self.create_upload(&store, client, at).await,
                _ => self.go_on_with_upload(client, stores).await,
            }
        }
    }

    /// A change of an object: what it would make of it is possible from now on, and certain once it is acknowledged.
    async fn change<T>(&self, at: Key, value: Value, request: impl Future<Output = Result<T>>) {
        self.oracle.borrow_mut().objects.entry(at.clone()).or_insert_with(Known::new).ask(value.clone());
        if self.outcome(request.await).is_some() {
            self.oracle.borrow_mut().objects.entry(at).or_insert_with(Known::new).settle(value);
        }
    }

    async fn put(&self, store: &TestStore, at: Key) {
        let bytes = self.bytes();
        self.change(at.clone(), Some(bytes.clone()), store.put(&at.1, &bytes)).await;
    }

    async fn delete(&self, store: &TestStore, at: Key) {
        self.change(at.clone(), None, store.delete(&at.1)).await;
    }

    async fn copy(&self, store: &TestStore, stores: &[TestStore], at: Key) {
        let from = self.key(self.below(CLIENTS));
        let of = in_bucket(&stores[0], from.0);
        let source = match of.version(&from.1).await {
            Ok(source) => source,
            Err(Error::NotFound) => return,
            Err(error) => panic!("{error:?}"),
        };
        let (bytes, content): (Rc<[u8]>, Content) = match source.inline() {
            Some(inline) => (inline.into(), Content::Inline(inline.to_vec())),
            None => {
                let bytes = read(&of, source.pieces.to_vec()).await;
                (bytes, shared_content(&source.pieces, &source.pins))
            }
        };
        let new = store.new_version(&at.1, &bytes);
        let draft = store.core.draft_version(&store.sealing(), new, content).expect("drafted");
        drop(source);
        let request = store.home().put(draft, engine::Precondition::None);
        self.change(at, Some(bytes), request).await;
    }

    /// A client that goes away: in the middle of a body, or while its request is under way.
    async fn give_up(&self, store: &TestStore, at: Key) {
        let bytes = self.bytes();
        if self.below(2) == 0 {
            let len = bytes.len() as u64 + 1;
            let writer = ObjectWriter::new(store.core.clone(), &store.sealing(), len, Layout::Frames);
            if let Some(mut writer) = self.outcome(writer) {
                self.outcome(writer.write(&bytes).await);
            }
            return;
        }
        self.oracle
            .borrow_mut()
            .objects
            .entry(at.clone())
            .or_insert_with(Known::new)
            .ask(Some(bytes.clone()));
        let patience = async {
            for _ in 0..self.below(30) {
                self.devices[0].pass_time().await;
            }
        };
        let request = Box::pin(store.put(&at.1, &bytes));
        let is_answered = matches!(select(request, Box::pin(patience)).await, Either::Left((Ok(()), _)));
        // What was not waited for may still come: nothing of that key can be said until it has.
        while !is_answered && store.shards.iter().any(|shard| !shard.is_idle()) {
            self.devices[0].pass_time().await;
        }
    }

    async fn create_upload(&self, store: &TestStore, client: u64, at: Key) {
        if let Some(id) = self.outcome(store.create_upload(&at.1).await) {
            self.oracle.borrow_mut().uploads.push(KnownUpload { at, client, id, parts: BTreeMap::new() });
        }
    }

    async fn go_on_with_upload(&self, client: u64, stores: &[TestStore]) {
        let position = self.oracle.borrow().uploads.iter().position(|upload| upload.client == client);
        let Some(position) = position else { return };
        // Nobody else touches this client's uploads, so it is put back when its turn is over.
        let mut upload = self.oracle.borrow_mut().uploads.remove(position);
        let store = in_bucket(&stores[self.below(CORES.into()) as usize], upload.at.0);
        let is_certain = upload.parts.values().all(|part| part.open.is_empty());
        match self.below(5) {
            0 if is_certain => {
                let bytes: Vec<u8> = upload
                    .parts
                    .values()
                    .filter_map(|part| part.settled.as_deref())
                    .flatten()
                    .copied()
                    .collect();
                self.change(upload.at.clone(), Some(bytes.into()), store.complete(&upload.at.1, upload.id))
                    .await;
            }
            1 => {
                self.outcome(store.abort(&upload.at.1, upload.id).await);
            }
            _ => {
                let number = 1 + self.below(3) as u16;
                let (bytes, at, id) = (self.bytes(), upload.at.clone(), upload.id);
                let part = upload.parts.entry(number).or_insert_with(Known::new);
                part.ask(Some(bytes.clone()));
                self.oracle.borrow_mut().uploads.push(upload);
                let result = store.put_part(&at.1, id, number, &bytes).await;
                let mut oracle = self.oracle.borrow_mut();
                let upload = oracle.uploads.iter_mut().find(|upload| upload.id == id).expect("put back");
                if self.outcome(result).is_some() {
                    upload.parts.entry(number).or_insert_with(Known::new).settle(Some(bytes));
                }
            }
        }
    }
}

/// Namespace and buckets, as far as they are not there.
async fn set_up(catalog: &engine::Shard<MemoryDevice>) -> Result<()> {
    use engine::format::record::SealKind::Aes256Gcm;
    if catalog.catalog().is_empty() {
        catalog.create_namespace(NAMESPACE, "default", Aes256Gcm).await?;
    }
    for name in BUCKETS {
        if !catalog.catalog().buckets.contains_key(name) {
            catalog.create_bucket(name, NAMESPACE, UserId(1), "", UnixMillis(1)).await?;
        }
    }
    Ok(())
}

fn in_bucket(store: &TestStore, bucket_name: &'static str) -> TestStore {
    let TestStore { devices, core, shards, catalog, .. } = store;
    TestStore {
        bucket_name,
        devices: devices.clone(),
        core: core.clone(),
        shards: shards.clone(),
        catalog: catalog.clone(),
    }
}

async fn read(store: &TestStore, pieces: Vec<engine::format::body::Piece>) -> Rc<[u8]> {
    let len = pieces.iter().map(|piece| piece.len).sum();
    let mut reader = ObjectReader::new(store.core.clone(), Rc::new(pieces), 0..len);
    let mut bytes = Vec::with_capacity(len as usize);
    while let Some(chunk) = reader.next().await.expect("read") {
        chunk.slices().for_each(|slice| bytes.extend_from_slice(slice));
    }
    bytes.into()
}

/// A machine's life: sessions that end in crashes. Gives back how much was acknowledged.
async fn live(seed: u64, device_count: usize, copies: u8, is_faulty: bool) -> u64 {
    let machine = Machine {
        devices: formatted(device_count, 40 * MIB, copies).await,
        oracle: RefCell::default(),
        chance: RefCell::new(Seeded(seed)),
        is_faulty,
        acknowledged: Cell::new(0),
    };
    for session in 0..=SESSIONS {
        let is_last = session == SESSIONS;
        let operations = if is_last { u64::MAX } else { 1 + machine.below(250) };
        let power = Power::new(machine.below(u64::MAX), operations);
        machine.devices.iter().for_each(|device| {
            device.heal();
            device.plug_in(&power);
        });
        let mut devices = machine.devices.clone();
        if is_faulty && machine.below(2) == 0 {
            machine.rest().await;
            machine.devices.iter().for_each(|device| device.plug_in(&power));
            devices.remove(machine.below(device_count as u64) as usize);
        }
        let serve = async |stores: &[TestStore]| {
            machine.check(stores).await;
            if is_last {
                return;
            }
            let clients = join_all((0..CLIENTS).map(|client| machine.client(client, stores)));
            let trouble = async {
                for _ in 0..machine.below(1500) {
                    machine.devices[0].pass_time().await;
                }
                if is_faulty && machine.below(2) == 0 {
                    let device = &machine.devices[machine.below(device_count as u64) as usize];
                    if machine.below(2) == 0 { device.fail_writes() } else { device.fail_flushes() }
                }
            };
            futures_util::future::join(clients, trouble).await;
        };
        let running = Box::pin(machine.session(&devices, serve));
        if let Either::Left((result, _)) = select(running, Box::pin(power.gone())).await
            && let Err(error) = result
        {
            assert!(is_faulty && matches!(error, Error::Fenced { .. }), "session {session}: {error:?}");
        }
        let crash = if machine.below(2) == 0 { Crash::Kill } else { Crash::PowerCut };
        if std::env::var_os("CRASH_SEED").is_some() {
            eprintln!("session {session}: {} devices, then {crash:?}", devices.len());
        }
        let mut chance = machine.chance.borrow_mut();
        machine.devices.iter().for_each(|device| device.crash(crash, &mut chance));
    }
    machine.acknowledged.get()
}

/// Lives the lives of seeds; a panic is told with its seed.
fn live_all(lives: u64, device_count: usize, copies: u8, is_faulty: bool) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = number("CRASH_SEED").map_or(0..number("CRASH_LIVES").unwrap_or(lives), |seed| seed..seed + 1);
    let mut acknowledged = 0;
    for seed in seeds.clone() {
        let life = || run(live(seed, device_count, copies, is_faulty));
        acknowledged += std::panic::catch_unwind(life).unwrap_or_else(|_| {
            panic!("CRASH_SEED={seed}: {device_count} devices, {copies} copies, faulty: {is_faulty}")
        });
    }
    assert!(acknowledged > (seeds.end - seeds.start) * 20, "the machines did something: {acknowledged}");
}

#[test]
fn a_crash_loses_nothing_acknowledged_and_tears_nothing() {
    live_all(30, 2, 1, false);
}

#[test]
fn a_crash_leaves_two_copies_that_agree() {
    live_all(30, 2, 2, false);
}

#[test]
fn a_crash_loses_nothing_while_devices_fail_and_come_back() {
    live_all(30, 3, 2, true);
}
