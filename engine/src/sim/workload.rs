//! What clients do: each is a task that makes one request after the other, chosen by the seed, and holds the answers against the model.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use futures_util::future::{Either, join, select};

use super::chance::Chance;
use super::machine::{Condition, Machine, Pace};
use super::model::{Answer, Bucket, Object, Register, Ticket, Upload, Value};
use super::oracle::{Oracle, is_found, show, show_found, show_value};
use crate::error::Error;
use crate::limits::FRAME_PAYLOAD;

/// Buckets that all clients use.
pub const BUCKETS: [&str; 2] = ["b0", "b1"];

/// Buckets that the first client makes and removes.
const FLEETING_BUCKETS: [&str; 2] = ["t0", "t1"];

const KEYS: [&str; 12] =
    ["a", "a/1", "a/2", "a/b/1", "a/b/2", "b", "b/1", "c/d/e/1", "c/d/2", "k", "k1", "z\u{ff}/x"];

/// The whole of an object.
pub const WHOLE: (u64, u64) = (0, 1000);

/// A client.
pub struct Client {
    number: u64,
    machine: Rc<Machine>,
    oracle: Rc<Oracle>,
    chance: RefCell<Chance>,
}

impl Client {
    /// Client `number` of a machine.
    pub fn new(number: u64, machine: &Rc<Machine>, oracle: &Rc<Oracle>, chance: Chance) -> Self {
        Client { number, machine: machine.clone(), oracle: oracle.clone(), chance: RefCell::new(chance) }
    }

    /// Makes that many requests.
    pub async fn run(&self, requests: u64) {
        for _ in 0..requests {
            let (bucket, key) = self.choose_key();
            match self.below(115) {
                0..=24 => self.put(bucket, &key, Condition::None).await,
                25..=31 => self.put_if(bucket, &key).await,
                32..=45 => self.get(bucket, &key).await,
                46..=59 => self.delete(bucket, &key).await,
                60..=65 => self.copy(bucket, &key).await,
                66..=72 => self.list(bucket).await,
                73..=75 => self.give_up(bucket, &key).await,
                76 => self.race(bucket).await,
                77..=80 => self.create_upload(bucket, &key).await,
                81..=94 => self.go_on_with_upload(bucket).await,
                95 | 96 => self.fill(bucket).await,
                100.. => {
                    let mut chance = self.chance.borrow_mut().fork();
                    let (number, core) = (self.number as usize, self.core());
                    super::versions::request(&self.oracle, &self.machine, number, core, &mut chance).await;
                }
                _ => self.fleeting_bucket().await,
            }
            if self.below(4) == 0 {
                self.oracle.executor.sleep(self.below(3_000_000)).await;
            }
        }
    }

    // -- choices

    fn below(&self, end: u64) -> u64 {
        self.chance.borrow_mut().below(end)
    }

    fn core(&self) -> usize {
        self.below(2) as usize
    }

    /// Mostly one that nobody is changing.
    fn choose_key(&self) -> (&'static str, Vec<u8>) {
        let mut chosen = self.any_key();
        for _ in 0..3 {
            if self.key(chosen.0, &chosen.1, |register| register.is_quiet()) {
                break;
            }
            chosen = self.any_key();
        }
        chosen
    }

    fn any_key(&self) -> (&'static str, Vec<u8>) {
        let mut chance = self.chance.borrow_mut();
        (*chance.pick(&BUCKETS), chance.pick(&KEYS).as_bytes().to_vec())
    }

    /// Around what the engine treats differently: inline, one frame, several, several device writes, several segments.
    fn choose_len(&self) -> usize {
        let inline = self.oracle.faults.plan.inline_max as u64;
        let edge = |at: u64| (at + self.below(3)).saturating_sub(1) as usize;
        match self.below(16) {
            0 => 0,
            1..=5 => self.below(3000) as usize,
            6 | 7 => self.below(inline + 1) as usize,
            8 => edge(inline),
            9 => edge(FRAME_PAYLOAD as u64),
            10 => edge(FRAME_PAYLOAD as u64 * (1 + self.below(9))),
            11..=14 => self.below(300_000) as usize,
            _ => self.below(self.oracle.faults.plan.segment_size) as usize,
        }
    }

    fn new_object(&self) -> Rc<Object> {
        let span = self.oracle.span(self.choose_len());
        self.oracle.object(vec![span])
    }

    // -- the model

    fn key<T>(&self, bucket: &str, key: &[u8], f: impl FnOnce(&mut Register<Value>) -> T) -> T {
        f(self.oracle.model.borrow_mut().bucket(bucket).key(key))
    }

    fn bucket<T>(&self, bucket: &str, f: impl FnOnce(&mut Bucket) -> T) -> T {
        f(self.oracle.model.borrow_mut().bucket(bucket))
    }

    fn upload<T>(&self, bucket: &str, id: [u8; 16], f: impl FnOnce(&mut Upload) -> T) -> T {
        let mut model = self.oracle.model.borrow_mut();
        f(model.bucket(bucket).uploads.get_mut(&id).expect("uploads are forgotten in between sessions only"))
    }

    fn wrong(&self, what: &str, bucket: &str, key: &[u8], details: &str) {
        self.oracle.fail(format!("{what} {bucket}/{}: {details}", show(key)));
    }

    /// Whether that bucket may not be there.
    fn may_be_gone(&self, bucket: &str) -> bool {
        self.bucket(bucket, |bucket| bucket.is_there.values().contains(&false))
    }

    // -- objects

    async fn put(&self, bucket: &str, key: &[u8], condition: Condition) {
        self.put_object(bucket, key, condition, self.new_object()).await;
    }

    async fn put_if(&self, bucket: &str, key: &[u8]) {
        let values = self.key(bucket, key, |register| register.values());
        let condition = match self.chance.borrow_mut().pick(&values) {
            Some(object) if self.oracle.span(0).seed.is_multiple_of(2) => Condition::Is(object.etag),
            _ => Condition::Absent,
        };
        self.put(bucket, key, condition).await;
    }

    async fn put_object(&self, bucket: &str, key: &[u8], condition: Condition, object: Rc<Object>) -> Answer {
        self.oracle.asked("put", self.number, key);
        let (look, ticket) = self.key(bucket, key, |r| (r.look(), r.begin(Some(object.clone()))));
        let result = self.machine.put(self.core(), bucket, key, &object, condition).await;
        let answer = self.oracle.answer("put", key, &result);
        let allowed = self.key(bucket, key, |r| r.allowed_to(&look, ticket));
        let is_plausible = match (condition, &result) {
            (_, Err(Error::BucketNotFound)) => self.may_be_gone(bucket),
            (Condition::None, Err(Error::NotFound | Error::PreconditionFailed)) => false,
            (Condition::Absent, Ok(())) => allowed.iter().any(Option::is_none),
            (Condition::Absent, Err(Error::PreconditionFailed)) => allowed.iter().any(Option::is_some),
            (Condition::Absent, Err(Error::NotFound)) => false,
            (Condition::Is(etag), Ok(())) => allowed.iter().flatten().any(|object| object.etag == etag),
            (Condition::Is(etag), Err(Error::PreconditionFailed)) => {
                allowed.iter().flatten().any(|object| object.etag != etag)
            }
            (Condition::Is(_), Err(Error::NotFound)) => allowed.iter().any(Option::is_none),
            _ => true,
        };
        if !is_plausible {
            let allowed: Vec<String> = allowed.iter().map(show_value).collect();
            self.wrong(
                "put",
                bucket,
                key,
                &format!("{result:?} under {condition:?}, while it is one of {allowed:?}"),
            );
        }
        self.key(bucket, key, |register| register.end(ticket, answer));
        answer
    }

    /// Puts two objects at the same time on a key that nobody else has, under a condition that only the first to be decided can meet.
    async fn race(&self, bucket: &str) {
        let key = format!("race/{}", self.number).into_bytes();
        let condition = match self.key(bucket, &key, |register| register.certain().cloned()) {
            Some(None) => Condition::Absent,
            Some(Some(object)) => Condition::Is(object.etag),
            None => return,
        };
        let objects = [(); 2].map(|()| self.oracle.object(vec![self.oracle.span(self.below(2000) as usize)]));
        let [one, other] = objects.map(|object| self.put_object(bucket, &key, condition, object));
        if join(one, other).await == (Answer::Done, Answer::Done) {
            self.wrong("race", bucket, &key, &format!("both puts met {condition:?}"));
        }
    }

    async fn get(&self, bucket: &str, key: &[u8]) {
        let begin = self.below(1000);
        let range = if self.below(2) == 0 { WHOLE } else { (begin, begin + self.below(1001 - begin)) };
        let pace = match self.below(4) {
            0 => Pace::slow(&self.oracle.executor, 1 + self.below(10_000_000)),
            _ => Pace::FAST,
        };
        // Also what somebody else is filling the store with.
        let known = self.bucket(bucket, |bucket| bucket.keys.keys().cloned().collect::<Vec<_>>());
        let key = match self.below(3) {
            0 if !known.is_empty() => self.chance.borrow_mut().pick(&known).clone(),
            _ => key.to_vec(),
        };
        look_at_key(&self.oracle, &self.machine, self.core(), (bucket, &key), range, &pace).await;
    }

    async fn delete(&self, bucket: &str, key: &[u8]) {
        self.oracle.asked("delete", self.number, key);
        let (look, ticket) = self.key(bucket, key, |r| (r.look(), r.begin(None)));
        let result = self.machine.delete(self.core(), bucket, key).await;
        let answer = self.oracle.answer("delete", key, &result);
        let allowed = self.key(bucket, key, |r| r.allowed_to(&look, ticket));
        let is_plausible = match result {
            Ok(was_there) => allowed.iter().any(|value| value.is_some() == was_there),
            Err(Error::BucketNotFound) => self.may_be_gone(bucket),
            Err(Error::NotFound | Error::PreconditionFailed) => false,
            Err(_) => true,
        };
        if !is_plausible {
            let allowed: Vec<String> = allowed.iter().map(show_value).collect();
            self.wrong("delete", bucket, key, &format!("{result:?}, while it is one of {allowed:?}"));
        }
        self.key(bucket, key, |register| register.end(ticket, answer));
    }

    /// Copies an object: its bytes are shared, or copied when they lie in the record.
    async fn copy(&self, to_bucket: &str, to_key: &[u8]) {
        let (bucket, key) = self.any_key();
        let core = self.core();
        let look = self.key(bucket, &key, |register| register.look());
        let source = match self.machine.copy_source(core, bucket, &key).await {
            Ok(Some(source)) => source,
            Ok(None) | Err(Error::BucketNotFound) => return,
            Err(error) if self.oracle.excuses_read(error) => return,
            Err(error) => return self.wrong("copy from", bucket, &key, &format!("{error:?}")),
        };
        let allowed = self.key(bucket, &key, |register| register.allowed(&look));
        let Some(of) = allowed.into_iter().flatten().find(|object| object.etag == source.etag) else {
            return self.wrong("copy from", bucket, &key, "an object that can't be there");
        };
        let object = self.oracle.object(of.spans.clone());
        self.oracle.asked("copy", self.number, to_key);
        let ticket = self.key(to_bucket, to_key, |register| register.begin(Some(object.clone())));
        let result = self.machine.copy_to(core, to_bucket, to_key, source, &object).await;
        let answer = self.oracle.answer("copy", to_key, &result);
        self.key(to_bucket, to_key, |register| register.end(ticket, answer));
    }

    /// A client that goes away while its request is under way.
    async fn give_up(&self, bucket: &str, key: &[u8]) {
        let object = self.new_object();
        self.oracle.asked("give up", self.number, key);
        let ticket = self.key(bucket, key, |register| register.begin(Some(object.clone())));
        let request = Box::pin(self.machine.put(self.core(), bucket, key, &object, Condition::None));
        let patience = Box::pin(self.oracle.executor.sleep(self.below(1_500_000)));
        let result = match select(request, patience).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => return self.wait_for_given_up(bucket, key, ticket).await,
        };
        let answer = self.oracle.answer("give up", key, &result);
        self.key(bucket, key, |register| register.end(ticket, answer));
    }

    /// What was not waited for may still come: it is over once nothing is queued, and until then it counts as under way.
    async fn wait_for_given_up(&self, bucket: &str, key: &[u8], ticket: Ticket) {
        for _ in 0..20 {
            self.oracle.executor.sleep(200_000).await;
            if self.machine.is_idle() {
                // Where its batch may have failed, a look does not tell: a restart may still find it.
                let may_come_back = self.oracle.faults.may_fail();
                let answer = if may_come_back { Answer::Open } else { Answer::Unheard };
                self.key(bucket, key, |register| register.end(ticket, answer));
                return;
            }
        }
    }

    /// Puts large objects until there is no space, and removes them again.
    async fn fill(&self, bucket: &str) {
        let len = (self.oracle.faults.plan.segment_size / 2) as usize;
        let keys: Vec<Vec<u8>> =
            (0..1 + self.below(40)).map(|i| format!("fill/{}/{i}", self.number).into_bytes()).collect();
        let mut filled = Vec::new();
        for key in &keys {
            filled.push(key);
            let object = self.oracle.object(vec![self.oracle.span(len)]);
            if self.put_object(bucket, key, Condition::None, object).await != Answer::Done {
                break;
            }
        }
        for key in filled {
            self.delete(bucket, key).await;
        }
    }

    // -- listings

    async fn list(&self, bucket: &str) {
        let prefix = *self.chance.borrow_mut().pick(&[&b""[..], b"a", b"a/", b"c/", b"k", b"none"]);
        let delimiter = *self.chance.borrow_mut().pick(&[&b""[..], b"/"]);
        let max = 1 + self.below(6) as usize;
        self.oracle.asked("list", self.number, prefix);
        super::check::check_listing(&self.oracle, &self.machine, bucket, prefix, delimiter, max).await;
    }

    // -- uploads

    async fn create_upload(&self, bucket: &str, key: &[u8]) {
        let core = self.core();
        let id = self.machine.new_upload_id(core);
        self.oracle.asked("create upload", self.number, key);
        let mut is_there = Register::new(false);
        let ticket = is_there.begin(true);
        let upload =
            Upload { key: key.to_vec(), is_there, parts: BTreeMap::new(), is_busy: true, completion: None };
        self.bucket(bucket, |bucket| bucket.uploads.insert(id, upload));
        let result = self.machine.create_upload(core, bucket, key, id).await;
        let answer = self.oracle.answer("create upload", key, &result);
        self.upload(bucket, id, |upload| {
            upload.is_there.end(ticket, answer);
            upload.is_busy = false;
        });
    }

    async fn go_on_with_upload(&self, bucket: &str) {
        let ready: Vec<[u8; 16]> = self.bucket(bucket, |bucket| {
            let is_ready = |upload: &Upload| !upload.is_busy && upload.is_there.certain() == Some(&true);
            bucket.uploads.iter().filter(|(_, upload)| is_ready(upload)).map(|(id, _)| *id).collect()
        });
        if ready.is_empty() {
            return;
        }
        let id = *self.chance.borrow_mut().pick(&ready);
        let (key, is_certain) = self.upload(bucket, id, |upload| {
            upload.is_busy = true;
            let is_certain = upload.parts.values().all(|part| part.certain().is_some() && part.is_quiet());
            (upload.key.clone(), is_certain)
        });
        match self.below(10) {
            0 | 1 if is_certain => self.complete(bucket, &key, id).await,
            2 => self.abort(bucket, &key, id).await,
            _ => self.put_part(bucket, &key, id).await,
        }
        self.upload(bucket, id, |upload| upload.is_busy = false);
    }

    async fn put_part(&self, bucket: &str, key: &[u8], id: [u8; 16]) {
        let number = 1 + self.below(4) as u16;
        let part = self.new_object();
        self.oracle.asked("put part", self.number, key);
        let ticket = self.upload(bucket, id, |upload| {
            upload.parts.entry(number).or_insert_with(|| Register::new(None)).begin(Some(part.clone()))
        });
        let result = self.machine.put_part(self.core(), bucket, key, id, number, &part).await;
        let answer = self.oracle.answer("put part", key, &result);
        self.must_not_be_missing("put part", bucket, key, result);
        self.upload(bucket, id, |upload| {
            upload.parts.get_mut(&number).expect("just put").end(ticket, answer);
        });
    }

    async fn complete(&self, bucket: &str, key: &[u8], id: [u8; 16]) {
        let spans = self.upload(bucket, id, |upload| {
            let parts = upload.parts.values().filter_map(|part| part.certain().cloned().flatten());
            parts.flat_map(|part| part.spans.clone()).collect()
        });
        let object = self.oracle.object(spans);
        self.oracle.asked("complete", self.number, key);
        let ticket = self.key(bucket, key, |register| register.begin(Some(object.clone())));
        let ending = self.upload(bucket, id, |upload| {
            upload.completion = Some((ticket, object.clone()));
            upload.is_there.begin(false)
        });
        let result = self.machine.complete(self.core(), bucket, key, id, &object).await;
        let answer = self.oracle.answer("complete", key, &result);
        self.must_not_be_missing("complete", bucket, key, result);
        self.key(bucket, key, |register| register.end(ticket, answer));
        self.upload(bucket, id, |upload| upload.is_there.end(ending, answer));
    }

    async fn abort(&self, bucket: &str, key: &[u8], id: [u8; 16]) {
        self.oracle.asked("abort", self.number, key);
        let ending = self.upload(bucket, id, |upload| upload.is_there.begin(false));
        let result = self.machine.abort(self.core(), bucket, key, id).await;
        let answer = self.oracle.answer("abort", key, &result);
        self.must_not_be_missing("abort", bucket, key, result);
        self.upload(bucket, id, |upload| upload.is_there.end(ending, answer));
    }

    /// Nobody else touches an upload that is busy.
    fn must_not_be_missing(&self, what: &str, bucket: &str, key: &[u8], result: Result<(), Error>) {
        if let Err(error @ (Error::UploadNotFound | Error::BucketNotFound | Error::Conflict)) = result {
            self.wrong(what, bucket, key, &format!("{error:?}"));
        }
    }

    // -- buckets

    /// Only the first client does this, so that nobody else is in the bucket.
    async fn fleeting_bucket(&self) {
        if self.number != 0 {
            return;
        }
        let name = *self.chance.borrow_mut().pick(&FLEETING_BUCKETS);
        match self.bucket(name, |bucket| bucket.is_there.certain().copied()) {
            Some(false) => create_bucket(&self.oracle, &self.machine, name).await,
            Some(true) if self.below(2) == 0 => self.remove_bucket(name).await,
            Some(true) => {
                let (_, key) = self.any_key();
                match self.below(4) {
                    0 => self.put(name, &key, Condition::None).await,
                    1 => self.create_upload(name, &key).await,
                    _ => self.go_on_with_upload(name).await,
                }
                self.delete(name, &key).await;
            }
            None => {}
        }
    }

    async fn remove_bucket(&self, name: &str) {
        self.oracle.asked("remove bucket", self.number, name.as_bytes());
        let ticket = self.bucket(name, |bucket| bucket.is_there.begin(false));
        let result = self.machine.remove_bucket(name).await;
        let answer = self.oracle.answer("remove bucket", name.as_bytes(), &result);
        let (may_be_empty, may_be_full) = self.bucket(name, |bucket| {
            let keys: Vec<Vec<Value>> = bucket.keys.values().map(|register| register.values()).collect();
            (
                keys.iter().all(|values| values.iter().any(Option::is_none)),
                keys.iter().any(|values| values.iter().any(Option::is_some)),
            )
        });
        let is_plausible = match result {
            Ok(()) => may_be_empty,
            Err(Error::BucketNotEmpty) => may_be_full,
            Err(Error::BucketNotFound) => false,
            Err(_) => true,
        };
        if !is_plausible {
            self.wrong("remove bucket", name, b"", &format!("{result:?}"));
        }
        self.bucket(name, |bucket| {
            bucket.is_there.end(ticket, answer);
            if answer == Answer::Done {
                bucket.keys.clear();
                bucket.uploads.clear();
            }
        });
    }
}

/// Makes a bucket that nobody else makes.
pub async fn create_bucket(oracle: &Oracle, machine: &Machine, name: &str) {
    oracle.asked("create bucket", 0, name.as_bytes());
    let ticket = oracle.model.borrow_mut().bucket(name).is_there.begin(true);
    let result = machine.create_bucket(name).await;
    let answer = oracle.answer("create bucket", name.as_bytes(), &result);
    if result == Err(Error::AlreadyExists) {
        oracle.fail(format!("bucket {name} exists, though it can't"));
    }
    oracle.model.borrow_mut().bucket(name).is_there.end(ticket, answer);
}

/// Reads a range of a key, and holds it against the model.
pub async fn look_at_key(
    oracle: &Oracle,
    machine: &Machine,
    core: usize,
    at: (&str, &[u8]),
    range: (u64, u64),
    pace: &Pace,
) {
    let (bucket, key) = at;
    let look = oracle.model.borrow_mut().bucket(bucket).key(key).look();
    let found = match machine.get(core, bucket, key, range, pace).await {
        Ok(found) => found,
        Err(Error::BucketNotFound) => {
            if !oracle.model.borrow_mut().bucket(bucket).is_there.values().contains(&false) {
                oracle.fail(format!("get {bucket}/{}: the bucket is gone", show(key)));
            }
            return;
        }
        Err(error) if oracle.excuses_read(error) => return,
        Err(error) => return oracle.fail(format!("get {bucket}/{}: {error:?}", show(key))),
    };
    oracle.trace.add("got", &[], found.as_ref().map_or(&[], |found| &found.bytes));
    let seen =
        oracle.model.borrow_mut().bucket(bucket).key(key).see(&look, |v| is_found(v, found.as_ref(), range));
    if let Err(allowed) = seen {
        let allowed: Vec<String> = allowed.iter().map(show_value).collect();
        let found = show_found(found.as_ref());
        oracle.fail(format!("get {bucket}/{}: found {found}, while it is one of {allowed:?}", show(key)));
    }
}
