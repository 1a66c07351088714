//! Judges the engine's answers by the model, and keeps the first that is wrong.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::rc::Rc;

use super::chance::Chance;
use super::executor::Executor;
use super::faults::{Fault, Faults};
use super::machine::Found;
use super::model::{Answer, Model, Object, Span, Value};
use super::trace::Trace;
use super::versions::{VersionedBucket, Versions};
use crate::error::{Error, Result};

/// What is known of a world, and what was found wrong with it.
pub struct Oracle {
    /// What may be found.
    pub model: RefCell<Model>,
    /// The executor that is halted when something is wrong.
    pub executor: Executor,
    /// The faults that excuse errors.
    pub faults: Rc<Faults>,
    /// Where answers go.
    pub trace: Trace,
    versioned: RefCell<BTreeMap<String, VersionedBucket>>,
    /// What was known before a session in which looks decide nothing.
    before: RefCell<Option<(Model, BTreeMap<String, VersionedBucket>)>>,
    chance: RefCell<Chance>,
    failure: RefCell<Option<String>>,
    ops: Cell<u64>,
    acknowledged: Cell<u64>,
}

impl Oracle {
    /// An oracle that knows of nothing.
    pub fn new(executor: &Executor, faults: &Rc<Faults>, trace: &Trace, chance: Chance) -> Self {
        Oracle {
            model: RefCell::default(),
            executor: executor.clone(),
            faults: faults.clone(),
            trace: trace.clone(),
            versioned: RefCell::default(),
            before: RefCell::default(),
            chance: RefCell::new(chance),
            failure: RefCell::default(),
            ops: Cell::new(0),
            acknowledged: Cell::new(0),
        }
    }

    /// What a versioned bucket may hold.
    pub fn versioned(&self, name: &str) -> VersionedBucket {
        self.versioned.borrow().get(name).cloned().unwrap_or_default()
    }

    /// It may hold that.
    pub fn set_versioned(&self, name: &str, possible: Vec<Versions>, is_open: bool) {
        self.versioned.borrow_mut().insert(name.to_owned(), VersionedBucket { possible, is_open });
    }

    /// What looks find in this session decides nothing: a change that nobody acknowledged may be in the cache of a medium that takes no writes any more, and be lost
    /// with it.
    pub fn decide_nothing(&self) {
        *self.before.borrow_mut() = Some((self.model.borrow().clone(), self.versioned.borrow().clone()));
    }

    /// The process is gone: what was open is for the next look to decide.
    pub fn restart(&self) {
        if let Some((model, versioned)) = self.before.take() {
            *self.model.borrow_mut() = model;
            *self.versioned.borrow_mut() = versioned;
        }
        self.model.borrow_mut().restart();
        self.versioned.borrow_mut().values_mut().for_each(|bucket| bucket.is_open = false);
    }

    /// Something is wrong: the world ends here.
    pub fn fail(&self, what: String) {
        self.failure.borrow_mut().get_or_insert(what);
        self.executor.halt();
    }

    /// What was found wrong first.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Requests answered, and changes acknowledged.
    pub fn counts(&self) -> (u64, u64) {
        (self.ops.get(), self.acknowledged.get())
    }

    /// A request is made.
    pub fn asked(&self, what: &str, client: u64, key: &[u8]) {
        self.trace.add(what, &[client], key);
    }

    /// What an answer to a change means; an error that nothing excuses is wrong.
    pub fn answer<T: Debug>(&self, what: &str, key: &[u8], result: &Result<T>) -> Answer {
        self.ops.set(self.ops.get() + 1);
        self.trace.add(&format!("{what}: {:?}", result.as_ref().map(|_| ())), &[], key);
        match result {
            Ok(_) => {
                self.acknowledged.set(self.acknowledged.get() + 1);
                Answer::Done
            }
            Err(Error::Full) => {
                self.faults.saw(Fault::FullStore);
                Answer::Refused
            }
            Err(
                Error::NotFound
                | Error::BucketNotFound
                | Error::UploadNotFound
                | Error::BucketNotEmpty
                | Error::AlreadyExists
                | Error::PreconditionFailed
                | Error::Conflict
                | Error::TooLarge { .. },
            ) => Answer::Refused,
            Err(error) => {
                if !self.excuses(*error) {
                    self.fail(format!("{what} {}: {error:?}", show(key)));
                }
                Answer::Open
            }
        }
    }

    /// Whether the faults of this session explain that error.
    pub fn excuses(&self, error: Error) -> bool {
        matches!(error, Error::ReadOnly | Error::Fenced { .. } | Error::Io { .. }) && self.faults.may_fail()
    }

    /// Whether they explain that reading failed.
    pub fn excuses_read(&self, error: Error) -> bool {
        matches!(error, Error::Io { .. }) && self.faults.may_fail_reads()
    }

    /// A new object of that content.
    pub fn object(&self, spans: Vec<Span>) -> Rc<Object> {
        let mut chance = self.chance.borrow_mut();
        let mut etag = [0; 16];
        crate::crypto::Random::fill(&mut *chance, &mut etag);
        let pairs = (0..chance.below(3))
            .map(|i| (format!("x-{i}").into_bytes(), chance.number().to_string().into_bytes()))
            .collect();
        Rc::new(Object { etag, spans, pairs, modified: chance.below(1 << 40) })
    }

    /// A span of that length.
    pub fn span(&self, len: usize) -> Span {
        Span { seed: self.chance.borrow_mut().number(), len }
    }
}

/// Whether what was found is that value, seen through that range (in thousandths of its length).
pub fn is_found(value: &Value, found: Option<&Found>, range: (u64, u64)) -> bool {
    match (value, found) {
        (None, None) => true,
        (Some(object), Some(found)) => {
            if object.etag != found.etag || object.len() as u64 != found.size || object.pairs != found.pairs {
                return false;
            }
            let at = |part: u64| (found.size * part / 1000) as usize;
            object.modified == found.modified && object.bytes()[at(range.0)..at(range.1)] == found.bytes
        }
        _ => false,
    }
}

/// Whether what was found is that part of an upload.
pub fn is_found_part(value: &Value, found: Option<&Found>) -> bool {
    match (value, found) {
        (None, None) => true,
        (Some(object), Some(found)) => {
            object.etag == found.etag && object.len() as u64 == found.size && object.bytes() == found.bytes
        }
        _ => false,
    }
}

/// A value in few words.
pub fn show_value(value: &Value) -> String {
    value
        .as_ref()
        .map_or("nothing".to_owned(), |object| format!("{:02x?}+{}", &object.etag[..4], object.len()))
}

/// What was found, in few words.
pub fn show_found(found: Option<&Found>) -> String {
    found.map_or("nothing".to_owned(), |found| format!("{:02x?}+{}", &found.etag[..4], found.size))
}

/// A key in few words.
pub fn show(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
