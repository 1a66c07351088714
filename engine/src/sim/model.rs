//! The reference model: what clients were told, and so what may be found.
//!
//! A [`Register`] is a thing that has one value at a time: a key, a part of an upload, the existence of a bucket or upload. It knows which values are
//! possible:
//! - an acknowledged change leaves its value, and those of changes that were under way at the same time;
//! - a change that was refused never happened;
//! - a change that was under way in a crash, or whose answer leaves it open, may have happened or not: the next look after the restart decides, for good.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::rc::Rc;

use super::chance::Chance;
use crate::crypto::Random;

/// Bytes that a seed decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The seed.
    pub seed: u64,
    /// Bytes.
    pub len: usize,
}

impl Span {
    /// The bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        Chance::new(self.seed).fill(&mut bytes);
        bytes
    }
}

/// An object: what was put, and must be got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its ETag, which no other object of the world has.
    pub etag: [u8; 16],
    /// Its content.
    pub spans: Vec<Span>,
    /// Its metadata.
    pub pairs: Vec<(Vec<u8>, Vec<u8>)>,
    /// When it was made.
    pub modified: u64,
}

impl Object {
    /// Bytes.
    pub fn len(&self) -> usize {
        self.spans.iter().map(|span| span.len).sum()
    }

    /// Its content.
    pub fn bytes(&self) -> Vec<u8> {
        self.spans.iter().flat_map(Span::bytes).collect()
    }
}

/// An object or none.
pub type Value = Option<Rc<Object>>;

/// A change that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Ticket(u64);

/// A look that is under way: what it may find.
#[derive(Debug)]
pub struct Look<T> {
    possible: Vec<T>,
    since: u64,
    was_quiet: bool,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was acknowledged.
    Done,
    /// It was refused: it did not happen and will not.
    Refused,
    /// Nobody knows, until a restart.
    Open,
    /// Nobody waited for the answer. It is over, and the next look tells.
    Unheard,
}

#[derive(Clone, Debug)]
struct Possible<T> {
    value: T,
    begun: u64,
    ended: Option<u64>,
}

/// A thing with one value at a time, and what that may be.
#[derive(Clone, Debug)]
pub struct Register<T> {
    possible: Vec<Possible<T>>,
    /// All values that were asked for, and when.
    asked: Vec<(u64, T)>,
    /// Changes begun and ended.
    clock: u64,
    /// Whether a change of this session was left open.
    is_open: bool,
}

impl<T: Clone + Debug + PartialEq> Register<T> {
    /// It is known to be that.
    pub fn new(value: T) -> Self {
        let possible = vec![Possible { value, begun: 0, ended: Some(0) }];
        Register { possible, asked: Vec::new(), clock: 1, is_open: false }
    }

    /// A change to that value is asked for.
    pub fn begin(&mut self, value: T) -> Ticket {
        self.clock += 1;
        self.asked.push((self.clock, value.clone()));
        self.possible.push(Possible { value, begun: self.clock, ended: None });
        Ticket(self.clock)
    }

    /// The change was answered.
    pub fn end(&mut self, ticket: Ticket, answer: Answer) {
        self.clock += 1;
        let is_mine = |possible: &Possible<T>| possible.begun == ticket.0;
        match answer {
            Answer::Done => {
                // What had ended before this began has been replaced by it.
                self.possible.retain(|p| is_mine(p) || p.ended.is_none_or(|ended| ended > ticket.0));
                self.finish(ticket);
            }
            Answer::Refused => self.possible.retain(|p| !is_mine(p)),
            Answer::Unheard => self.finish(ticket),
            Answer::Open => {
                self.finish(ticket);
                self.is_open = true;
            }
        }
    }

    fn finish(&mut self, ticket: Ticket) {
        for possible in &mut self.possible {
            if possible.begun == ticket.0 {
                possible.ended = Some(self.clock);
            }
        }
    }

    /// The process is gone: what was under way is over, whatever came of it.
    pub fn restart(&mut self) {
        self.clock += 1;
        for possible in &mut self.possible {
            possible.ended.get_or_insert(self.clock);
        }
        self.is_open = false;
    }

    /// What a look at a thing may find that nobody had asked for when the look began.
    pub fn look_before_all(value: T) -> Look<T> {
        Look { possible: vec![value], since: 0, was_quiet: false }
    }

    /// Somebody looks.
    pub fn look(&self) -> Look<T> {
        Look { possible: self.values(), since: self.clock, was_quiet: self.is_quiet() }
    }

    /// What was found, if it is one of what may be: that which is `is_it`.
    ///
    /// # Errors
    /// What may be found, when it is none of that.
    pub fn see(&mut self, look: &Look<T>, is_it: impl Fn(&T) -> bool) -> Result<T, Vec<T>> {
        let allowed = self.allowed(look);
        let Some(found) = allowed.iter().find(|value| is_it(value)).cloned() else { return Err(allowed) };
        if look.was_quiet && self.is_quiet() && look.since == self.clock {
            self.possible.retain(|possible| possible.value == found);
            self.possible.truncate(1);
        }
        Ok(found)
    }

    /// What a change may have found that was made under that ticket: all but its own value.
    pub fn allowed_to(&self, look: &Look<T>, ticket: Ticket) -> Vec<T> {
        let is_later = |asked: u64| asked > look.since && asked != ticket.0;
        let later = self.asked.iter().filter(|(asked, _)| is_later(*asked)).map(|(_, value)| value.clone());
        look.possible.iter().cloned().chain(later).collect()
    }

    /// Whether the change of that ticket may have happened, and nothing else after it or at the same time.
    pub fn is_last(&self, ticket: Ticket) -> bool {
        let mut others = self.possible.iter().filter(|p| p.begun != ticket.0);
        self.possible.iter().any(|p| p.begun == ticket.0)
            && others.all(|p| p.ended.is_some_and(|ended| ended < ticket.0))
    }

    /// What a look may find that ends now.
    pub fn allowed(&self, look: &Look<T>) -> Vec<T> {
        let later =
            self.asked.iter().filter(|(asked, _)| *asked > look.since).map(|(_, value)| value.clone());
        look.possible.iter().cloned().chain(later).collect()
    }

    /// Its possible values.
    pub fn values(&self) -> Vec<T> {
        self.possible.iter().map(|possible| possible.value.clone()).collect()
    }

    /// Its value, when only one is possible.
    pub fn certain(&self) -> Option<&T> {
        match &self.possible[..] {
            [only] => Some(&only.value),
            _ => None,
        }
    }

    /// Whether no change is under way or open.
    pub fn is_quiet(&self) -> bool {
        !self.is_open && self.possible.iter().all(|possible| possible.ended.is_some())
    }
}

/// An upload that was asked for.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Its key.
    pub key: Vec<u8>,
    /// Whether it is there.
    pub is_there: Register<bool>,
    /// Its parts.
    pub parts: BTreeMap<u16, Register<Value>>,
    /// Somebody works on it.
    pub is_busy: bool,
    /// The completion that was asked for: its change of the key, and the object that it makes.
    pub completion: Option<(Ticket, Rc<Object>)>,
}

/// A bucket that was asked for.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Whether it is there.
    pub is_there: Register<bool>,
    /// Its keys.
    pub keys: BTreeMap<Vec<u8>, Register<Value>>,
    /// Its uploads by id.
    pub uploads: BTreeMap<[u8; 16], Upload>,
}

/// All buckets by name.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The buckets.
    pub buckets: BTreeMap<String, Bucket>,
}

impl Default for Bucket {
    fn default() -> Self {
        Bucket { is_there: Register::new(false), keys: BTreeMap::new(), uploads: BTreeMap::new() }
    }
}

impl Bucket {
    /// The register of a key.
    pub fn key(&mut self, key: &[u8]) -> &mut Register<Value> {
        self.keys.entry(key.to_vec()).or_insert_with(|| Register::new(None))
    }
}

impl Model {
    /// The bucket of that name.
    pub fn bucket(&mut self, name: &str) -> &mut Bucket {
        self.buckets.entry(name.to_owned()).or_default()
    }

    /// The process is gone.
    pub fn restart(&mut self) {
        for bucket in self.buckets.values_mut() {
            bucket.is_there.restart();
            bucket.keys.values_mut().for_each(Register::restart);
            for upload in bucket.uploads.values_mut() {
                upload.is_busy = false;
                upload.is_there.restart();
                upload.parts.values_mut().for_each(Register::restart);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledged_change_is_the_only_possible_value() {
        let mut register = Register::new(0);
        let ticket = register.begin(1);
        assert_eq!(register.values(), [0, 1]);
        register.end(ticket, Answer::Done);
        assert_eq!(register.certain(), Some(&1));
    }

    #[test]
    fn of_changes_at_the_same_time_either_may_have_come_last() {
        let mut register = Register::new(0);
        let (first, second) = (register.begin(1), register.begin(2));
        register.end(first, Answer::Done);
        register.end(second, Answer::Done);
        assert_eq!(register.values(), [1, 2]);
        let look = register.look();
        assert_eq!(register.see(&look, |value| *value == 1), Ok(1));
        assert_eq!(register.certain(), Some(&1));
    }

    #[test]
    fn what_a_crash_left_open_is_decided_by_the_first_look() {
        let mut register = Register::new(0);
        register.begin(1);
        register.restart();
        assert_eq!(register.values(), [0, 1]);
        let look = register.look();
        assert_eq!(register.see(&look, |value| *value == 0), Ok(0));
        let look = register.look();
        assert_eq!(register.see(&look, |value| *value == 1), Err(vec![0]));
    }

    #[test]
    fn an_open_answer_is_decided_after_a_restart_only() {
        let mut register = Register::new(0);
        let ticket = register.begin(1);
        register.end(ticket, Answer::Open);
        let look = register.look();
        assert_eq!(register.see(&look, |value| *value == 0), Ok(0));
        assert_eq!(register.values(), [0, 1]);
        register.restart();
        let look = register.look();
        assert_eq!(register.see(&look, |value| *value == 1), Ok(1));
        assert_eq!(register.certain(), Some(&1));
    }

    #[test]
    fn a_look_may_find_what_came_and_went_meanwhile() {
        let mut register = Register::new(0);
        let look = register.look();
        for value in [1, 2] {
            let ticket = register.begin(value);
            register.end(ticket, Answer::Done);
        }
        assert_eq!(register.allowed(&look), [0, 1, 2]);
    }

    #[test]
    fn a_refused_change_never_happened() {
        let mut register = Register::new(0);
        let ticket = register.begin(1);
        register.end(ticket, Answer::Refused);
        assert_eq!(register.certain(), Some(&0));
    }
}
