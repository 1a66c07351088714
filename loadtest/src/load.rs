//! The load generator: a closed loop, in which each thread asks again as soon as it has its answer.
//!
//! So its latencies are those of a server at its limit, under exactly as many requests as there are threads. Every
//! body that is read is verified, also that it is at least as new as what had been acknowledged when it was asked for.

mod report;
mod verify;
mod worker;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::s3::{Client, Credentials, Endpoint, Error};

pub use report::{Latency, Report, Row};
use worker::{Tally, Worker};

/// What the threads ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Only GETs, of keys that are stored first.
    Get,
    /// Only PUTs.
    Put,
    /// GETs and PUTs in equal parts, on the same keys.
    Mixed,
}

/// When the measurement ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// After this time.
    Duration(Duration),
    /// After so many operations of all threads together.
    Count(u64),
}

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub endpoint: Endpoint,
    /// Whose requests these are.
    pub credentials: Credentials,
    /// Region of the signature.
    pub region: String,
    /// Made when it does not exist.
    pub bucket: String,
    /// What the threads ask for.
    pub operation: Operation,
    /// Length of every object, at least [`crate::body::HEADER_LEN`].
    pub object_len: u64,
    /// Connections, and requests in flight.
    pub thread_count: u64,
    /// Keys in use; those of index `i` are written by thread `i % thread_count` alone.
    pub key_count: u64,
    /// When it ends.
    pub limit: Limit,
    /// Decides the choice of keys and the content of bodies.
    pub seed: u64,
}

impl Plan {
    fn client(&self) -> Client {
        Client::new(self.endpoint.clone(), self.credentials.clone(), &self.region)
    }

    fn key(index: u64) -> String {
        format!("loadtest/{index:08}")
    }
}

/// What the threads know in common.
struct Shared<'a> {
    plan: &'a Plan,
    /// Per key, the newest generation that was acknowledged; 0 is none.
    acknowledged: Vec<AtomicU64>,
    /// Operations still to be begun, when the limit is a count.
    rest: AtomicU64,
    deadline: Option<Instant>,
}

impl Shared<'_> {
    /// Whether another operation is due.
    fn take_turn(&self) -> bool {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return false;
        }
        self.rest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |rest| rest.checked_sub(1)).is_ok()
    }
}

/// Prepares the bucket, runs the load and reports. An error means that it could not begin.
pub fn run(plan: &Plan, progress: &mut dyn io::Write) -> Result<Report, Error> {
    plan.client().create_bucket(&plan.bucket)?;
    let mut shared = Shared {
        plan,
        acknowledged: (0..plan.key_count).map(|_| AtomicU64::new(0)).collect(),
        rest: AtomicU64::new(u64::MAX),
        deadline: None,
    };
    if plan.operation != Operation::Put {
        writeln!(progress, "storing {} objects of {} bytes", plan.key_count, plan.object_len)?;
        if let Some(failure) = on_threads(&shared, Worker::fill).first_failure {
            return Err(Error::Protocol(format!("could not store the objects to read: {failure}")));
        }
    }
    let start = Instant::now();
    match plan.limit {
        Limit::Duration(duration) => shared.deadline = Some(start + duration),
        Limit::Count(count) => shared.rest = AtomicU64::new(count),
    }
    let tally = on_threads(&shared, Worker::run);
    Ok(Report::new(plan, start.elapsed(), &tally))
}

fn on_threads<'a>(shared: &'a Shared<'a>, work: fn(&mut Worker<'a>)) -> Tally {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..shared.plan.thread_count)
            .map(|index| {
                scope.spawn(move || {
                    let mut worker = Worker::new(shared, index);
                    work(&mut worker);
                    worker.tally
                })
            })
            .collect();
        let mut all = Tally::new();
        for thread in threads {
            all.add(thread.join().expect("a worker thread does not panic"));
        }
        all
    })
}
