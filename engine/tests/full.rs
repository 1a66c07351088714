//! A store that is nearly full is overwritten for ever: a write that finds no space finds some once upkeep has done what there was to do.

mod support;

use engine::{Error, Upkeep};
use futures_util::future::join_all;
use support::*;

const MIB: usize = 1 << 20;
const SHARDS: u16 = 1;

/// Pieces of upkeep that make room for a put, at most: each moves something, and a store has no more than that.
const PIECES_MAX: u32 = 20_000;

#[derive(Clone, Copy, Debug)]
enum Overwrites {
    Uniform,
    EightyTwenty,
}

/// A store, and how it is written.
#[derive(Clone, Copy, Debug)]
struct Case {
    mib: usize,
    object_len: usize,
    /// Live bytes, in percent of what new data may take.
    percent: u64,
    overwrites: Overwrites,
    /// Puts at a time.
    writers: usize,
    /// Puts between two pieces of upkeep; besides them there is upkeep only when a put was refused.
    puts_per_piece: usize,
    turns: u64,
}

struct Full {
    store: TestStore,
    case: Case,
    contents: Vec<u64>,
    random: Seeded,
    puts: usize,
}

impl Full {
    async fn new(case: Case) -> Self {
        let devices = formatted_with(1, case.mib * MIB, 1, SHARDS).await;
        let store = TestStore::open(&devices).await.expect("opened");
        Full { store, case, contents: Vec::new(), random: Seeded(11), puts: 0 }
    }

    /// Puts objects until so much is live of what new data may take.
    async fn fill(&mut self) {
        let counts = self.store.core.store.table.counts();
        let usable = u64::from(counts.free + counts.commit + counts.bulk - counts.reserve) << 20;
        while self.store.core.store.table.counts().live_bytes < usable * self.case.percent / 100 {
            let new = self.contents.len() as u64;
            self.contents.push(0);
            self.put_all(&[new]).await;
        }
    }

    async fn overwrite(&mut self) {
        let count = self.contents.len() as u64;
        for _ in 0..count.div_ceil(self.case.writers as u64) {
            let mut chosen: Vec<u64> = (0..self.case.writers).map(|_| self.choose(count)).collect();
            chosen.sort_unstable();
            chosen.dedup();
            self.put_all(&chosen).await;
        }
    }

    fn choose(&mut self, count: u64) -> u64 {
        match self.case.overwrites {
            Overwrites::EightyTwenty if self.random.below(5) < 4 => {
                self.random.below((count / 5).max(1)) * 5 % count
            }
            _ => self.random.below(count),
        }
    }

    /// Puts objects together, and again those for which there was no room.
    async fn put_all(&mut self, numbers: &[u64]) {
        let mut left: Vec<(u64, u64)> = Vec::new();
        for number in numbers {
            left.push((*number, self.random.below(u64::MAX)));
        }
        let (mut pieces, mut is_idle) = (0, false);
        loop {
            let before = left.len();
            left = self.refused_of(left).await;
            if left.is_empty() {
                return;
            }
            let is_stuck = left.len() == before && (is_idle || pieces > PIECES_MAX);
            assert!(!is_stuck, "no room, idle {is_idle}: {}", self.stand());
            is_idle = !self.piece().await;
            pieces += 1;
        }
    }

    /// Puts objects together; those for which there was no room.
    async fn refused_of(&mut self, puts: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
        let len = self.case.object_len;
        let store = &self.store;
        let put =
            |(number, content): (u64, u64)| async move { store.put(&key(number), &data(content, len)).await };
        let results = join_all(puts.iter().copied().map(put)).await;
        let mut refused = Vec::new();
        for ((number, content), result) in puts.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    self.contents[number as usize] = content;
                    self.puts += 1;
                    if self.puts.is_multiple_of(self.case.puts_per_piece) {
                        self.piece().await;
                    }
                }
                Err(Error::Full) => refused.push((number, content)),
                Err(error) => panic!("{error:?}: {}", self.stand()),
            }
        }
        refused
    }

    fn stand(&self) -> String {
        let counts = self.store.core.store.table.counts();
        let footprint = self.store.home().footprint();
        let (case, puts, objects) = (self.case, self.puts, self.contents.len());
        format!("{case:?} after {puts} puts to {objects} objects, {counts:?}, {footprint:?}")
    }

    /// A piece of upkeep; whether there was anything to do.
    async fn piece(&self) -> bool {
        match self.store.home().upkeep().await {
            Ok(done) => done == Upkeep::Progressed,
            Err(Error::Full) => false,
            Err(error) => panic!("upkeep: {error:?}: {}", self.stand()),
        }
    }

    /// Every object holds what was put last, now and after another opening.
    async fn check(&self) {
        let again = TestStore::open(&self.store.devices).await.expect("opened");
        for store in [&self.store, &again] {
            for (number, content) in self.contents.iter().enumerate() {
                let found = store.get(&key(number as u64)).await.expect("found");
                assert!(found == data(*content, self.case.object_len), "{:?}: {number}", self.case);
            }
        }
    }
}

fn key(number: u64) -> String {
    format!("p{:02}/k{number:08}", number % 100)
}

async fn overwrite_for_long(case: Case) {
    let mut full = Full::new(case).await;
    full.fill().await;
    for _ in 0..case.turns {
        full.overwrite().await;
    }
    full.check().await;
}

/// Upkeep once for so many puts, and else only when one was refused.
const SELDOM: usize = 200;

/// Only when a put was refused.
const NEVER: usize = usize::MAX;

fn case(mib: usize, object_len: usize, percent: u64, overwrites: Overwrites) -> Case {
    Case { mib, object_len, percent, overwrites, writers: 4, puts_per_piece: SELDOM, turns: 2 }
}

#[test]
fn a_store_that_is_nearly_full_takes_overwrites() {
    for (overwrites, writers) in [(Overwrites::Uniform, 4), (Overwrites::EightyTwenty, 1)] {
        run(overwrite_for_long(Case { writers, ..case(64, 4096, 85, overwrites) }));
    }
}

#[test]
fn a_store_of_large_objects_takes_overwrites() {
    for overwrites in [Overwrites::Uniform, Overwrites::EightyTwenty] {
        run(overwrite_for_long(case(64, 256 * 1024, 70, overwrites)));
    }
}

#[test]
fn runs_do_not_fill_a_store_of_small_objects() {
    for puts_per_piece in [SELDOM, NEVER] {
        run(overwrite_for_long(Case {
            writers: 1,
            puts_per_piece,
            ..case(64, 500, 50, Overwrites::Uniform)
        }));
    }
}
