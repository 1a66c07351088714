//! One thread of the load: some connections, one epoll, no waiting for any of them.
//!
//! ```text
//! Down --connect--> Connecting --> Handshaking --> Idle <--> Busy
//!  ^                    |               |           |          |
//!  +--------------------+---------------+-----------+----------+   closed or failed
//! ```

mod ask;
mod connect;
mod exchange;
mod outcome;
mod part;

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::draw::{KeyOrder, Keys};
use super::failure::{Failure, Kind};
use super::job::Job;
use super::pace::Schedule;
use super::phase::{Load, Pace, Quota, Shared, Times};
use super::record::{Batch, Effort};
use super::wire::{Requests, Response, Scratch, Transport};
use crate::rng::Rng;
use part::Part;

const SECOND: u64 = 1_000_000_000;
const EVENTS_MAX: usize = 256;
/// How long the first connections may take.
const CONNECT_TIME_MAX: u64 = 15 * SECOND;
/// Between attempts to connect.
const RETRY_PAUSE: u64 = SECOND / 4;
/// A phase whose requests have all failed for so long has nobody to measure.
const FAILING_TIME_MAX: u64 = 10 * SECOND;
/// Requests in flight at the end are waited for so long, or for the timeout when that is shorter.
const DRAIN_TIME_MAX: u64 = 10 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down { retry_at: u64 },
    Connecting,
    Handshaking,
    Idle,
    Busy,
}

struct Connection {
    load: usize,
    state: State,
    /// Since when it is connecting, or waiting for an answer.
    since: u64,
    transport: Option<Transport>,
    job: Option<Job>,
    response: Response,
    /// What of the job's body is still to be sent.
    body_at: u64,
    body_end: u64,
}

pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    index: u32,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    parts: Vec<Part>,
    scratch: Scratch,
    plain: Vec<u8>,
    requests: Requests,
    times: Times,
    batch: Batch,
    batches: Sender<Batch>,
    effort: Effort,
    answered: u64,
    busy_count: usize,
    down_count: usize,
    last_success: u64,
    failed_since: u64,
}

impl<'a> Worker<'a> {
    pub fn new(shared: &'a Shared<'a>, index: u32, batches: Sender<Batch>) -> Result<Self, Failure> {
        let (firsts, series_count) = shared.phase.first_series();
        let target = shared.target;
        let mut worker = Self {
            shared,
            index,
            epoll: epoll::create(CreateFlags::CLOEXEC).map_err(|error| os_failure("epoll", error))?,
            connections: Vec::new(),
            parts: Vec::new(),
            scratch: Scratch::new(),
            plain: Vec::new(),
            requests: Requests::new(&target.endpoint, &target.credentials, &target.region),
            times: Times { begin: 0, window_start: u64::MAX, window_end: u64::MAX },
            batch: Batch::new(0, series_count),
            batches,
            effort: Effort::new(),
            answered: 0,
            busy_count: 0,
            down_count: 0,
            last_success: 0,
            failed_since: 0,
        };
        for (number, (load, first_series)) in shared.phase.loads.iter().zip(firsts).enumerate() {
            worker.add_part(number, load, first_series);
        }
        Ok(worker)
    }

    fn add_part(&mut self, number: usize, load: &Load, first_series: usize) {
        let (scenario, thread_count) = (self.shared.terms.scenario, self.shared.phase.thread_count);
        let own_count = (scenario.keys - u64::from(self.index)).div_ceil(u64::from(thread_count));
        let spread = if load.key_order == KeyOrder::Sequential { load.buckets.len() as u64 } else { 1 };
        let fork = self.shared.phase.number << 32 | u64::from(self.index) << 16 | number as u64;
        self.parts.push(Part {
            first_series,
            idle: Vec::new(),
            schedule: None,
            rng: Rng::new(self.shared.terms.seed).fork(fork),
            reads: Keys::new(load.key_order, scenario.keys * spread),
            writes: Keys::new(load.key_order, own_count * spread),
            rest: own_count * load.buckets.len() as u64,
            again: Vec::new(),
            had_idle: false,
        });
        let own = |total: u32| total / thread_count + u32::from(self.index < total % thread_count);
        for _ in 0..own(load.connections) {
            self.connections.push(Connection {
                load: number,
                state: State::Down { retry_at: 0 },
                since: 0,
                transport: None,
                job: None,
                response: Response::new(),
                body_at: 0,
                body_end: 0,
            });
            self.down_count += 1;
        }
    }

    /// Runs the phase and returns what it cost.
    pub fn run(mut self) -> Result<Effort, Failure> {
        let mut events = vec![Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_MAX];
        let connected = self.connect_all(&mut events);
        // Nobody may be left waiting, so a failure waits too.
        self.shared.connected.wait();
        if let Err(failure) = connected {
            self.shared.abort(failure.clone());
            self.shared.times.get_or_init(|| Times { begin: 0, window_start: 0, window_end: 0 });
            return Err(failure);
        }
        self.begin();
        self.measure(&mut events);
        Ok(self.effort)
    }

    fn begin(&mut self) {
        let (phase, clock) = (self.shared.phase, self.shared.clock);
        self.times = *self.shared.times.get_or_init(|| {
            let begin = clock.now() + SECOND / 500;
            let window_start = begin + phase.warm_up.as_nanos() as u64;
            Times { begin, window_start, window_end: window_start + phase.duration.as_nanos() as u64 }
        });
        self.batch = Batch::new(0, self.batch.cells.len());
        self.last_success = self.times.begin;
        let span = (self.times.begin, self.times.window_end);
        for (part, load) in self.parts.iter_mut().zip(&phase.loads) {
            // Threads without a connection for this load have no part in its schedule.
            let ids = (self.index, phase.thread_count.min(load.connections));
            if let (true, Pace::Open(streams, arrival)) = (ids.0 < ids.1, &load.pace) {
                part.schedule = Some(Schedule::new(streams, *arrival, ids, part.rng.fork(1), span));
            }
        }
    }

    fn measure(&mut self, events: &mut [Event]) {
        let drain = DRAIN_TIME_MAX.min(self.shared.terms.scenario.timeout.0.as_nanos() as u64);
        let mut start_mark = None;
        let mut end_mark = None;
        let mut next_check = self.times.begin;
        loop {
            let now = self.now();
            if start_mark.is_none() && now >= self.times.window_start {
                start_mark = Some((cpu_ns(), self.answered));
            }
            if end_mark.is_none() && now >= self.times.window_end {
                end_mark = Some((cpu_ns(), self.answered));
                self.dispatch_last();
            }
            self.roll(now);
            let is_over = now >= self.times.window_end || self.shared.is_aborted.load(Ordering::Acquire);
            if self.is_open(now) {
                self.dispatch(now);
            }
            if self.busy_count == 0 && (is_over || self.is_out_of_work()) {
                break;
            }
            if now >= self.times.window_end.saturating_add(drain)
                || (is_over && self.shared.is_aborted.load(Ordering::Acquire))
            {
                break;
            }
            if now >= next_check {
                next_check = now + SECOND / 10;
                self.check(now);
            }
            let outcome = self.open_due(now).and_then(|()| self.wait(self.wake_at(now, next_check), events));
            if let Err(failure) = outcome {
                self.shared.abort(failure);
            }
        }
        let start_mark = start_mark.unwrap_or((cpu_ns(), self.answered));
        let end_mark = end_mark.unwrap_or((cpu_ns(), self.answered));
        self.effort.cpu_ns = end_mark.0 - start_mark.0;
        self.effort.requests = end_mark.1 - start_mark.1;
        self.settle();
    }

    fn now(&self) -> u64 {
        self.shared.clock.now()
    }

    /// Hands the interval over when it is past.
    fn roll(&mut self, now: u64) {
        let interval_ns = self.shared.phase.interval.as_nanos() as u64;
        let interval = (now.saturating_sub(self.times.window_start) / interval_ns) as usize;
        let interval = interval.min(self.shared.phase.interval_count() - 1);
        if interval > self.batch.interval {
            let next = Batch::new(interval, self.batch.cells.len());
            // The collector outlives the workers.
            let _ = self.batches.send(std::mem::replace(&mut self.batch, next));
        }
    }

    fn wake_at(&self, now: u64, next_check: u64) -> u64 {
        let mut at = next_check;
        for boundary in [self.times.begin, self.times.window_start, self.times.window_end] {
            if boundary > now {
                at = at.min(boundary);
            }
        }
        for part in self.parts.iter().filter(|part| !part.idle.is_empty()) {
            if let Some(due) = part.schedule.as_ref().and_then(Schedule::next_due) {
                at = at.min(due.max(self.times.begin));
            }
        }
        at
    }

    fn is_out_of_work(&self) -> bool {
        match self.shared.phase.quota {
            Quota::Time => false,
            Quota::Count(_) => self.shared.rest.load(Ordering::Relaxed) == 0,
            Quota::EachKeyOnce => self.parts.iter().all(|part| part.rest == 0 && part.again.is_empty()),
        }
    }
}

fn os_failure(what: &str, error: Errno) -> Failure {
    Failure::new(Kind::Connect, format!("{what}: {error}"))
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}
