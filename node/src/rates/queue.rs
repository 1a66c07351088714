//! Who waits at a core's gate, and who goes next: committed requests by deadline, then the surplus of the buckets in turns by cost.
//!
//! The turns are start-time fair queueing (Goyal, Vin, Cheng 1996): each bucket has a virtual time that grows by the cost of what it is served, and the one
//! that is furthest behind goes next. A bucket that was not waiting gets no credit for it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::account::Account;
use super::tally::Passage;
use super::targets::Class;

/// What an operation costs beside its bytes: a small request takes about as long as moving so much.
pub const OPERATION_COST: u64 = 16 * 1024;

/// Requests of one bucket that wait at one core. More would wait longer than clients do.
pub const WAITING_PER_BUCKET_MAX: usize = 1024;

/// The most that a bucket is held back for bytes it was served before.
const DEBT_MAX: u64 = 64 * 1024 * 1024;

/// Time between two looks for surplus requests that have come within their guaranteed rate.
const PROMOTION_INTERVAL_NS: u64 = 1_000_000;

/// Requests waiting, each with what its owner wants back (`T`).
pub struct Queue<T> {
    committed: BinaryHeap<Reverse<Committed<T>>>,
    flows: Vec<Flow<T>>,
    /// Flows with surplus, by virtual time. A time is out of date when its flow's is greater.
    turns: BinaryHeap<Reverse<(u64, usize)>>,
    virtual_now: u64,
    virtual_max: u64,
    surplus_count: usize,
    sequence: u64,
    promoted_at: u64,
}

struct Committed<T> {
    due: u64,
    sequence: u64,
    slot: usize,
    item: T,
}

struct Flow<T> {
    virtual_time: u64,
    waiting: VecDeque<Surplus<T>>,
    /// Whether it stands in `turns`, where it may have nothing waiting any more.
    has_turn: bool,
    /// Waiting, committed ones too.
    count: usize,
}

impl<T> Default for Flow<T> {
    fn default() -> Self {
        Flow { virtual_time: 0, waiting: VecDeque::new(), has_turn: false, count: 0 }
    }
}

struct Surplus<T> {
    account: Arc<Account>,
    class: Class,
    cost: u64,
    item: T,
}

/// Who goes next.
pub struct Next<T> {
    /// Of its account.
    pub slot: usize,
    /// Committed or surplus.
    pub passage: Passage,
    /// What its owner wants back.
    pub item: T,
}

/// A bucket has too many waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overfull;

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue {
            committed: BinaryHeap::new(),
            flows: Vec::new(),
            turns: BinaryHeap::new(),
            virtual_now: 0,
            virtual_max: 0,
            surplus_count: 0,
            sequence: 0,
            promoted_at: 0,
        }
    }
}

impl<T> Queue<T> {
    /// How many wait, those who have given up since among them.
    pub fn len(&self) -> usize {
        self.committed.len() + self.surplus_count
    }

    /// All that wait, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let committed = self.committed.iter().map(|Reverse(waiting)| &waiting.item);
        committed.chain(self.flows.iter().flat_map(|flow| &flow.waiting).map(|waiting| &waiting.item))
    }

    /// A committed request waits.
    ///
    /// # Errors
    /// When too many of its bucket do.
    pub fn push_committed(&mut self, account: &Account, due: u64, item: T) -> Result<(), Overfull> {
        self.count_in(account.slot)?;
        self.sequence += 1;
        self.committed.push(Reverse(Committed { due, sequence: self.sequence, slot: account.slot, item }));
        Ok(())
    }

    /// A surplus request waits, of `bytes` as far as they are known.
    ///
    /// # Errors
    /// When too many of its bucket do.
    pub fn push_surplus(
        &mut self,
        account: &Arc<Account>,
        class: Class,
        bytes: u64,
        item: T,
    ) -> Result<(), Overfull> {
        let slot = account.slot;
        self.count_in(slot)?;
        if self.surplus_count == 0 {
            // Nobody waited: who was served more before owes nothing for it, but for bytes charged since.
            self.virtual_now = self.virtual_max;
        }
        let now = self.virtual_now;
        let flow = &mut self.flows[slot];
        if flow.waiting.is_empty() {
            flow.virtual_time = flow.virtual_time.clamp(now, now + DEBT_MAX);
            if !flow.has_turn {
                flow.has_turn = true;
                self.turns.push(Reverse((flow.virtual_time, slot)));
            }
        }
        flow.waiting.push_back(Surplus {
            account: account.clone(),
            class,
            cost: OPERATION_COST.saturating_add(bytes),
            item,
        });
        self.surplus_count += 1;
        Ok(())
    }

    /// Whether committed requests wait, those who have given up since among them.
    pub fn has_committed(&self) -> bool {
        !self.committed.is_empty()
    }

    /// The next to go, how it stands, and the slot of its account. Surplus goes if `may_go` says so of the slot whose turn it is.
    pub fn pop(&mut self, now: u64, may_go: impl FnOnce(usize) -> bool) -> Option<Next<T>> {
        self.promote(now);
        if let Some(Reverse(next)) = self.committed.pop() {
            self.flows[next.slot].count -= 1;
            return Some(Next { slot: next.slot, passage: Passage::Committed, item: next.item });
        }
        self.pop_surplus(may_go)
    }

    /// Bytes that a bucket was served beyond what it was queued with. They count while it competes.
    pub fn charge(&mut self, slot: usize, bytes: u64) {
        if self.surplus_count == 0 {
            return;
        }
        if let Some(flow) = self.flows.get_mut(slot) {
            flow.virtual_time = flow.virtual_time.max(self.virtual_now).saturating_add(bytes);
        }
    }

    fn pop_surplus(&mut self, may_go: impl FnOnce(usize) -> bool) -> Option<Next<T>> {
        loop {
            let Reverse((virtual_time, slot)) = self.turns.pop()?;
            let flow = &mut self.flows[slot];
            if flow.waiting.is_empty() {
                flow.has_turn = false;
                continue;
            }
            if flow.virtual_time > virtual_time {
                self.turns.push(Reverse((flow.virtual_time, slot)));
                continue;
            }
            if !may_go(slot) {
                self.turns.push(Reverse((virtual_time, slot)));
                return None;
            }
            let next = flow.waiting.pop_front()?;
            flow.count -= 1;
            flow.virtual_time += next.cost;
            self.surplus_count -= 1;
            self.virtual_now = self.virtual_now.max(virtual_time);
            self.virtual_max = self.virtual_max.max(flow.virtual_time);
            flow.has_turn = !flow.waiting.is_empty();
            if flow.has_turn {
                self.turns.push(Reverse((flow.virtual_time, slot)));
            }
            return Some(Next { slot, passage: Passage::Surplus, item: next.item });
        }
    }

    /// Surplus requests whose bucket has come within its rate again are committed: else a bucket whose clients all wait would never be.
    fn promote(&mut self, now: u64) {
        if self.surplus_count == 0 || now < self.promoted_at + PROMOTION_INTERVAL_NS {
            return;
        }
        self.promoted_at = now;
        for (slot, flow) in self.flows.iter_mut().enumerate() {
            while let Some(due) =
                flow.waiting.front().and_then(|first| first.account.commit(first.class, now))
            {
                let Some(Surplus { item, .. }) = flow.waiting.pop_front() else { break };
                self.surplus_count -= 1;
                self.sequence += 1;
                self.committed.push(Reverse(Committed { due, sequence: self.sequence, slot, item }));
            }
        }
    }

    fn count_in(&mut self, slot: usize) -> Result<(), Overfull> {
        if self.flows.len() <= slot {
            self.flows.resize_with(slot + 1, Flow::default);
        }
        let flow = &mut self.flows[slot];
        if flow.count >= WAITING_PER_BUCKET_MAX {
            return Err(Overfull);
        }
        flow.count += 1;
        Ok(())
    }
}

impl<T> Committed<T> {
    fn rank(&self) -> (u64, u64) {
        (self.due, self.sequence)
    }
}

impl<T> PartialEq for Committed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl<T> Eq for Committed<T> {}

impl<T> PartialOrd for Committed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Committed<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::Tally;
    use super::super::targets::Targets;
    use super::*;

    fn account(slot: usize, rate: u32) -> Arc<Account> {
        let targets = Targets { reads: rate, writes: rate, ..Targets::default() };
        Arc::new(Account::new(slot, &targets, Arc::new(Tally::new("b".into(), 1))))
    }

    fn next(queue: &mut Queue<i32>, now: u64) -> Option<i32> {
        queue.pop(now, |_| true).map(|next| next.item)
    }

    /// Serves 10 000 requests of buckets that always have some waiting, each of that many bytes: how many each got.
    fn shares(bytes: &[u64]) -> Vec<u64> {
        let accounts: Vec<_> = (0..bytes.len()).map(|slot| account(slot, 0)).collect();
        let mut queue = Queue::default();
        let push = |queue: &mut Queue<usize>, slot: usize| {
            queue.push_surplus(&accounts[slot], Class::Read, bytes[slot], slot).expect("room");
        };
        (0..bytes.len()).for_each(|slot| (0..4).for_each(|_| push(&mut queue, slot)));
        let mut served = vec![0; bytes.len()];
        for _ in 0..10_000 {
            let slot = queue.pop(0, |_| true).expect("some wait").slot;
            served[slot] += 1;
            push(&mut queue, slot);
        }
        served
    }

    #[test]
    fn equal_requests_share_by_operations() {
        let served = shares(&[0, 0, 0, 0]);
        assert!(served.iter().all(|count| count.abs_diff(2500) <= 1), "{served:?}");
    }

    #[test]
    fn large_requests_share_by_bytes() {
        let sizes = [0, 1 << 20, 3 << 20];
        let served = shares(&sizes);
        let costs: Vec<u64> =
            served.iter().zip(sizes).map(|(count, size)| count * (OPERATION_COST + size)).collect();
        let (least, most) = (costs.iter().min().expect("three"), costs.iter().max().expect("three"));
        assert!(most - least <= 2 * (OPERATION_COST + (3 << 20)), "{costs:?}");
    }

    #[test]
    fn a_flood_takes_no_more_turns_than_one_that_waits_alone() {
        let (flood, modest) = (account(0, 0), account(1, 0));
        let mut queue = Queue::default();
        (0..1000).for_each(|_| queue.push_surplus(&flood, Class::Read, 0, 0).expect("room"));
        (0..10).for_each(|_| queue.push_surplus(&modest, Class::Read, 0, 1).expect("room"));
        let first: Vec<i32> = (0..20).filter_map(|_| next(&mut queue, 0)).collect();
        assert_eq!(first.iter().sum::<i32>(), 10, "{first:?}");
    }

    #[test]
    fn committed_requests_overtake_surplus_and_go_by_deadline() {
        let (flood, modest) = (account(0, 0), account(1, 300));
        let mut queue = Queue::default();
        (0..100).for_each(|n| queue.push_surplus(&flood, Class::Read, 0, n).expect("room"));
        queue.push_committed(&modest, 7, 1007).expect("room");
        queue.push_committed(&modest, 5, 1005).expect("room");
        queue.push_committed(&modest, 7, 2007).expect("room");
        let order: Vec<i32> = std::iter::from_fn(|| next(&mut queue, 0)).collect();
        assert_eq!(order[..4], [1005, 1007, 2007, 0]);
        assert_eq!((order.len(), queue.len()), (103, 0));
    }

    #[test]
    fn surplus_that_comes_within_its_rate_is_promoted() {
        let (flood, waiting) = (account(0, 0), account(1, 100));
        while waiting.commit(Class::Read, 0).is_some() {}
        let mut queue = Queue::default();
        (0..50).for_each(|_| queue.push_surplus(&flood, Class::Read, 0, 0).expect("room"));
        (0..20).for_each(|_| queue.push_surplus(&waiting, Class::Read, 1 << 30, 1).expect("room"));
        let in_second = 1_000_000_000;
        let first: Vec<i32> = (0..11).filter_map(|_| next(&mut queue, in_second)).collect();
        assert!(first[..10].iter().all(|owner| *owner == 1), "{first:?}");
    }

    #[test]
    fn bytes_charged_later_cost_turns() {
        let (heavy, light) = (account(0, 0), account(1, 0));
        let mut queue = Queue::default();
        (0..100).for_each(|_| queue.push_surplus(&heavy, Class::Read, 0, 0).expect("room"));
        (0..100).for_each(|_| queue.push_surplus(&light, Class::Read, 0, 1).expect("room"));
        queue.charge(0, 50 * OPERATION_COST);
        let first: Vec<i32> = (0..50).filter_map(|_| next(&mut queue, 0)).collect();
        assert!(first.iter().sum::<i32>() >= 49, "{first:?}");
    }

    #[test]
    fn nobody_gets_credit_for_having_been_away() {
        let (here, late) = (account(0, 0), account(1, 0));
        let mut queue = Queue::default();
        (0..200).for_each(|_| queue.push_surplus(&here, Class::Read, 0, 0).expect("room"));
        (0..100).for_each(|_| assert_eq!(next(&mut queue, 0), Some(0)));
        (0..100).for_each(|_| queue.push_surplus(&late, Class::Read, 0, 1).expect("room"));
        let late: i32 = (0..20).filter_map(|_| next(&mut queue, 0)).sum();
        assert!((9..=11).contains(&late), "{late}");
    }

    #[test]
    fn a_bucket_with_too_many_waiting_is_refused_and_others_are_not() {
        let (flood, modest) = (account(0, 0), account(1, 0));
        let mut queue = Queue::default();
        for n in 0..WAITING_PER_BUCKET_MAX {
            queue.push_surplus(&flood, Class::Write, 0, n).expect("room");
        }
        assert_eq!(queue.push_surplus(&flood, Class::Write, 0, 0), Err(Overfull));
        assert_eq!(queue.push_committed(&flood, 0, 0), Err(Overfull));
        assert_eq!(queue.push_surplus(&modest, Class::Write, 0, 0), Ok(()));
        queue.pop(0, |_| true);
        assert_eq!(queue.push_surplus(&flood, Class::Write, 0, 0), Ok(()));
    }

    #[test]
    fn surplus_that_may_not_go_keeps_its_turn_and_committed_requests_go() {
        let (flood, modest) = (account(0, 0), account(1, 0));
        let mut queue = Queue::default();
        queue.push_surplus(&flood, Class::Write, 0, 0).expect("room");
        queue.push_surplus(&modest, Class::Write, 0, 1).expect("room");
        assert!(queue.pop(0, |_| false).is_none());
        queue.push_committed(&modest, 0, 2).expect("room");
        assert_eq!(
            queue.pop(0, |_| false).map(|next| (next.passage, next.item)),
            Some((Passage::Committed, 2))
        );
        assert!(queue.pop(0, |slot| slot == 1).is_none(), "it is the turn of the other");
        assert_eq!((next(&mut queue, 0), next(&mut queue, 0), queue.len()), (Some(0), Some(1), 0));
    }
}
