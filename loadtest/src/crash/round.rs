//! One round of load, up to the kill.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::node::Node;
use super::worker::Worker;
use super::{Plan, Report};
use crate::rng::Rng;

/// How a round ended.
pub(super) struct Ending {
    pub load_time: Duration,
    pub acknowledged: u64,
    pub in_flight: u64,
}

/// What the threads of a round look at between two requests.
pub(super) struct Signals {
    /// Set just before the kill: from then on a broken connection is nobody's fault.
    pub is_killed: AtomicBool,
    /// Bytes that may still be written as small objects and as large ones.
    pub small_rest: AtomicI64,
    pub large_rest: AtomicI64,
}

/// Lets the clients loose, and kills the node in the midst of it.
pub(super) fn load_and_kill(
    plan: &Plan,
    node: Node,
    workers: &mut [Worker],
    rng: &mut Rng,
    report: &mut Report,
) -> io::Result<Ending> {
    let budget = |most: u64, rng: &mut Rng| AtomicI64::new(rng.between(most / 2, most) as i64);
    let signals = Signals {
        is_killed: AtomicBool::new(false),
        small_rest: budget(plan.small_bytes_max, rng),
        large_rest: budget(plan.large_bytes_max, rng),
    };
    let load_time_max = Duration::from_millis(rng.between(10, 1500));
    let start = Instant::now();
    thread::scope(|scope| {
        for worker in workers.iter_mut() {
            let (endpoint, credentials) = node.address();
            let signals = &signals;
            scope.spawn(move || worker.run(endpoint, credentials, signals));
        }
        while start.elapsed() < load_time_max && !signals.is_spent() {
            thread::sleep(Duration::from_millis(1));
        }
        signals.is_killed.store(true, Ordering::SeqCst);
        node.kill()
    })?;
    let mut ending = Ending { load_time: start.elapsed(), acknowledged: 0, in_flight: 0 };
    for worker in workers.iter_mut() {
        worker.report_round(&mut ending, report);
    }
    Ok(ending)
}

impl Signals {
    /// The round has written what it may. The kill comes then, so that it still finds requests in flight.
    pub fn is_spent(&self) -> bool {
        self.small_rest.load(Ordering::Relaxed) < 0 || self.large_rest.load(Ordering::Relaxed) < 0
    }
}
