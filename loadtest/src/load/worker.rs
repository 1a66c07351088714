//! One thread of the load, with its own connection.

use std::sync::atomic::Ordering;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::verify::Verifier;
use super::{Operation, Plan, Shared};
use crate::body::Body;
use crate::rng::Rng;
use crate::s3::{Client, Error, PayloadSigning, PutCondition};

/// A server that fails this often in a row is gone, and asking on would only burn the processor.
const FAILURES_IN_A_ROW_MAX: u32 = 20;

/// What happened to one kind of operation.
pub(super) struct Kind {
    /// Microseconds, of those that succeeded.
    pub latency_us: Histogram<u64>,
    pub bytes: u64,
    pub failed: u64,
}

impl Kind {
    fn new() -> Self {
        let latency_us = Histogram::new(3).expect("three digits are within 0 to 5");
        Self { latency_us, bytes: 0, failed: 0 }
    }

    fn add(&mut self, other: &Self) {
        self.latency_us.add(&other.latency_us).expect("a histogram that grows takes every value");
        self.bytes += other.bytes;
        self.failed += other.failed;
    }
}

/// What one thread, or all together, saw.
pub(super) struct Tally {
    pub get: Kind,
    pub put: Kind,
    /// Bodies that were not what was written, or older than what was acknowledged.
    pub wrong_bodies: u64,
    pub first_failure: Option<String>,
}

impl Tally {
    pub fn new() -> Self {
        Self { get: Kind::new(), put: Kind::new(), wrong_bodies: 0, first_failure: None }
    }

    pub fn add(&mut self, other: Self) {
        self.get.add(&other.get);
        self.put.add(&other.put);
        self.wrong_bodies += other.wrong_bodies;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    fn kind(&mut self, is_get: bool) -> &mut Kind {
        if is_get { &mut self.get } else { &mut self.put }
    }
}

pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    client: Client,
    rng: Rng,
    index: u64,
    pub tally: Tally,
}

impl<'a> Worker<'a> {
    pub fn new(shared: &'a Shared<'a>, index: u64) -> Self {
        let rng = Rng::new(shared.plan.seed).fork(index);
        Self { shared, client: shared.plan.client(), rng, index, tally: Tally::new() }
    }

    /// Stores every key of this thread once, until one fails.
    pub fn fill(&mut self) {
        let plan = self.shared.plan;
        for key in (self.index..plan.key_count).step_by(plan.thread_count as usize) {
            if let Err(failure) = self.put(key) {
                self.tally.first_failure = Some(failure.to_string());
                return;
            }
        }
    }

    /// Works until the limit of the plan is reached.
    pub fn run(&mut self) {
        let mut failures_in_a_row = 0;
        while failures_in_a_row < FAILURES_IN_A_ROW_MAX && self.shared.take_turn() {
            let is_get = match self.shared.plan.operation {
                Operation::Get => true,
                Operation::Put => false,
                Operation::Mixed => self.rng.percent(50),
            };
            let start = Instant::now();
            let outcome = if is_get { self.get_any() } else { self.put_own() };
            let micros = start.elapsed().as_micros() as u64;
            match outcome {
                Ok(()) => {
                    failures_in_a_row = 0;
                    let bytes = self.shared.plan.object_len;
                    let kind = self.tally.kind(is_get);
                    kind.latency_us.record(micros).expect("a histogram that grows takes every value");
                    kind.bytes += bytes;
                }
                Err(failure) => {
                    failures_in_a_row += 1;
                    self.tally.kind(is_get).failed += 1;
                    self.tally.first_failure.get_or_insert(failure.to_string());
                }
            }
        }
    }

    fn put_own(&mut self) -> Result<(), Error> {
        let plan = self.shared.plan;
        let own_count = (plan.key_count - self.index).div_ceil(plan.thread_count);
        let key = self.index + plan.thread_count * self.rng.below(own_count);
        self.put(key)
    }

    fn put(&mut self, index: u64) -> Result<(), Error> {
        let (plan, key) = (self.shared.plan, Plan::key(index));
        let acknowledged = &self.shared.acknowledged[index as usize];
        // Only this thread writes the key, so the next generation is its own to choose.
        let generation = acknowledged.load(Ordering::Acquire) + 1;
        let body = Body::new(plan.seed, &key, generation, plan.object_len);
        self.client.put(&plan.bucket, &key, &body, PutCondition::None, PayloadSigning::Unsigned)?;
        acknowledged.store(generation, Ordering::Release);
        Ok(())
    }

    fn get_any(&mut self) -> Result<(), Error> {
        let plan = self.shared.plan;
        let index = self.rng.below(plan.key_count);
        let key = Plan::key(index);
        let oldest = self.shared.acknowledged[index as usize].load(Ordering::Acquire);
        let mut verifier = Verifier::new(plan.seed, &key);
        self.client.get(&plan.bucket, &key, &mut |piece| verifier.take(piece))?;
        let fault = match verifier.finish() {
            Ok(generation) if generation >= oldest => return Ok(()),
            Ok(generation) => format!("generation {generation}, although {oldest} was acknowledged before"),
            Err(fault) => fault,
        };
        self.tally.wrong_bodies += 1;
        Err(Error::Protocol(format!("a wrong body for {key}: {fault}")))
    }
}
