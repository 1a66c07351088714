//! Keys that somebody is deciding on: one change of a key at a time, from the first look at it until the change is applied or has failed.
//!
//! So a decision rests on what is durable and on nothing else, also when looking means reading from a device.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::event::Event;
use crate::ids::BucketId;
use crate::sim::bugs::{self, Bug};

/// The locks of a shard.
#[derive(Default)]
pub(crate) struct Locks {
    held: RefCell<HashSet<(BucketId, Box<[u8]>)>>,
    /// Locks by bucket, those without a key too.
    counts: RefCell<HashMap<BucketId, usize>>,
    /// Buckets that somebody wants, or has, for himself.
    excluded: RefCell<HashSet<BucketId>>,
    released: Event,
}

/// A key, or a part in the changes of a bucket: given back when it is dropped.
pub(crate) struct KeyLock {
    locks: Rc<Locks>,
    bucket: BucketId,
    what: Locked,
    is_counted: bool,
}

enum Locked {
    Key(Box<[u8]>),
    /// Nothing but a part in the bucket's changes.
    Part,
    /// All keys of the bucket.
    Bucket,
}

impl Locks {
    /// Waits for a key.
    pub(crate) async fn lock(self: &Rc<Self>, bucket: BucketId, key: &[u8]) -> KeyLock {
        loop {
            let released = self.released.wait();
            if let Some(lock) = self.try_lock(bucket, key) {
                return lock;
            }
            released.await;
        }
    }

    /// Takes a key if nobody has it.
    pub(crate) fn try_lock(self: &Rc<Self>, bucket: BucketId, key: &[u8]) -> Option<KeyLock> {
        let is_free =
            !self.excluded.borrow().contains(&bucket) && self.held.borrow_mut().insert((bucket, key.into()));
        if !is_free && !bugs::is_planted(Bug::QueueIgnored) {
            return None;
        }
        *self.counts.borrow_mut().entry(bucket).or_default() += 1;
        Some(KeyLock { locks: self.clone(), bucket, what: Locked::Key(key.into()), is_counted: true })
    }

    /// Waits for all keys of a bucket: those who have one are waited for, and nobody who comes later gets one, or a part, before.
    pub(crate) async fn exclude(self: &Rc<Self>, bucket: BucketId) -> KeyLock {
        loop {
            let released = self.released.wait();
            if self.excluded.borrow_mut().insert(bucket) {
                break;
            }
            released.await;
        }
        let mut lock = KeyLock { locks: self.clone(), bucket, what: Locked::Bucket, is_counted: false };
        loop {
            let released = self.released.wait();
            if !self.is_busy(bucket) {
                *self.counts.borrow_mut().entry(bucket).or_default() += 1;
                lock.is_counted = true;
                return lock;
            }
            released.await;
        }
    }

    /// Takes part in the changes of a bucket without a key of its own, after those who wait for the bucket alone. The caller holds no other lock of that
    /// bucket: they would wait for each other.
    pub(crate) async fn enter_in_turn(self: &Rc<Self>, bucket: BucketId) -> KeyLock {
        loop {
            let released = self.released.wait();
            if !self.excluded.borrow().contains(&bucket) {
                return self.enter(bucket);
            }
            released.await;
        }
    }

    /// The same at once, before those who wait: for what is seldom, or already holds a lock of that bucket.
    pub(crate) fn enter(self: &Rc<Self>, bucket: BucketId) -> KeyLock {
        *self.counts.borrow_mut().entry(bucket).or_default() += 1;
        KeyLock { locks: self.clone(), bucket, what: Locked::Part, is_counted: true }
    }

    /// Whether changes of that bucket are under way.
    pub(crate) fn is_busy(&self, bucket: BucketId) -> bool {
        self.counts.borrow().contains_key(&bucket)
    }

    /// Whether no change is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.counts.borrow().is_empty()
    }

    /// Completes when something is given back.
    pub(crate) fn released(&self) -> impl Future<Output = ()> + '_ {
        self.released.wait()
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        match &mut self.what {
            Locked::Key(key) => {
                self.locks.held.borrow_mut().remove(&(self.bucket, std::mem::take(key)));
            }
            Locked::Part => {}
            Locked::Bucket => {
                self.locks.excluded.borrow_mut().remove(&self.bucket);
            }
        }
        if self.is_counted {
            let mut counts = self.locks.counts.borrow_mut();
            let count = counts.get_mut(&self.bucket).expect("a counted lock is in the counts");
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.bucket);
            }
        }
        self.locks.released.notify();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    const BUCKET: BucketId = BucketId(7);

    /// What a future has come to, polled once.
    fn look<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        future.now_or_never()
    }

    #[test]
    fn whoever_wants_a_bucket_alone_gets_it_before_all_who_come_later() {
        let locks = Rc::new(Locks::default());
        let part = locks.enter_in_turn(BUCKET).now_or_never().expect("nobody has it");
        let key = locks.lock(BUCKET, b"a").now_or_never().expect("nobody has it");
        let mut alone = pin!(locks.exclude(BUCKET));
        assert!(look(alone.as_mut()).is_none(), "two are before it");
        let mut later_part = pin!(locks.enter_in_turn(BUCKET));
        let mut later_key = pin!(locks.lock(BUCKET, b"b"));
        assert!(look(later_part.as_mut()).is_none(), "a part that came later is before it");
        assert!(look(later_key.as_mut()).is_none(), "a key that came later is before it");
        assert!(locks.enter_in_turn(BucketId(8)).now_or_never().is_some(), "another bucket waits too");
        drop(part);
        assert!(look(alone.as_mut()).is_none(), "one is before it");
        drop(key);
        let had = look(alone.as_mut()).expect("all who were before are gone");
        assert!(look(later_part.as_mut()).is_none() && look(later_key.as_mut()).is_none());
        drop(had);
        assert!(look(later_part.as_mut()).is_some() && look(later_key.as_mut()).is_some());
    }

    #[test]
    fn whoever_gives_up_waiting_for_a_bucket_holds_nobody_up() {
        let locks = Rc::new(Locks::default());
        let _part = locks.enter(BUCKET);
        {
            let mut alone = pin!(locks.exclude(BUCKET));
            assert!(look(alone.as_mut()).is_none());
        }
        assert!(locks.enter_in_turn(BUCKET).now_or_never().is_some());
        assert!(locks.lock(BUCKET, b"a").now_or_never().is_some());
    }
}
