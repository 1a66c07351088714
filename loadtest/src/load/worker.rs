//! One thread of the load: some connections, one epoll, no waiting for any of them.
//!
//! ```text
//! Down --connect--> Connecting --> Handshaking --> Idle <--> Busy
//!  ^                    |               |           |          |
//!  +--------------------+---------------+-----------+----------+   closed or failed
//! ```

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::draw::{KeyOrder, Keys};
use super::failure::{Failure, Kind};
use super::job::{Job, Order, Outcome, Success};
use super::pace::{Ask, Schedule};
use super::phase::{Load, Pace, Quota, Shared, Times};
use super::record::{Batch, Effort, record_ns};
use super::verify::Depth;
use super::wire::{PIECE_LEN, Received, Requests, Response, Scratch, Transport, Until};
use crate::rng::Rng;

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

/// A load, as one thread sees it.
struct Part {
    first_series: usize,
    idle: Vec<usize>,
    schedule: Option<Schedule>,
    rng: Rng,
    reads: Keys,
    writes: Keys,
    /// Keys left, with [`Quota::EachKeyOnce`].
    rest: u64,
    /// Keys to be tried again.
    again: Vec<(u32, u64)>,
    /// A connection was free when the thread last went to sleep, so that whatever is due since is late by its own fault.
    had_idle: bool,
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

    /// Handshakes come before the measurement, not in its first second.
    fn connect_all(&mut self, events: &mut [Event]) -> Result<(), Failure> {
        let start = self.now();
        let end = start + CONNECT_TIME_MAX;
        while self.connections.iter().any(|it| it.state != State::Idle) {
            self.open_due(self.now())?;
            self.wait(self.now() + SECOND / 10, events)?;
            let now = self.now();
            if now > end || self.is_refused(now - start) {
                return Err(self.connect_failure());
            }
        }
        self.effort.reconnects = 0;
        let first = self.connections.iter().find_map(|it| it.transport.as_ref());
        self.effort.protocol = first.map(Transport::protocol).unwrap_or_default();
        Ok(())
    }

    /// Nobody is there, or not whom we trust: no use in trying for longer. A busy server opens one connection at least.
    fn is_refused(&self, time: u64) -> bool {
        let is_open = self.connections.iter().any(|it| it.state == State::Idle);
        let is_untrusted = self.batch.failures.0.contains_key(&Kind::Tls);
        !is_open && !self.batch.failures.0.is_empty() && (is_untrusted || time > SECOND)
    }

    fn connect_failure(&self) -> Failure {
        let open = self.connections.iter().filter(|it| it.state == State::Idle).count();
        let first = self.batch.failures.0.iter().next();
        let (kind, example) = first.map_or((Kind::Connect, "no answer".to_owned()), |(kind, failures)| {
            (kind.clone(), failures.example.clone())
        });
        let all = self.connections.len();
        Failure::new(kind, format!("{open} of {all} connections opened: {example}"))
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
            }
            self.roll(now);
            let is_over = now >= self.times.window_end || self.shared.is_aborted.load(Ordering::Acquire);
            if !is_over && now >= self.times.begin {
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

    /// What is left at the end: requests without an answer, and requests that were due and never sent. In an open loop
    /// they count with the time they had waited: leaving them out would make a stalled server look fast.
    fn settle(&mut self) {
        let now = self.now();
        for id in 0..self.connections.len() {
            if self.connections[id].job.is_some() {
                let failure = Failure::new(Kind::Timeout, "no answer until the end of the measurement");
                self.fail(id, &failure, now);
            }
        }
        // A phase may also end early, by its count.
        let waited_until = self.times.window_end.min(now);
        for (number, load) in self.shared.phase.loads.iter().enumerate() {
            let Some(mut schedule) = self.parts[number].schedule.take() else { continue };
            while let Some((intended, ask)) = schedule.take(waited_until) {
                if intended < self.times.window_start {
                    continue;
                }
                let part = &mut self.parts[number];
                let operation = ask.operation.unwrap_or_else(|| load.mix.draw(&mut part.rng));
                let series =
                    part.first_series + load.series(ask.bucket.unwrap_or(load.buckets.start), operation);
                let cell = self.batch.cell(series);
                cell.unsent += 1;
                record_ns(&mut cell.latency_us, waited_until - intended);
            }
        }
        let empty = Batch::new(0, 0);
        let _ = self.batches.send(std::mem::replace(&mut self.batch, empty));
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

    /// Gives work to idle connections.
    fn dispatch(&mut self, now: u64) {
        let loads = &self.shared.phase.loads;
        for (number, load) in loads.iter().enumerate() {
            while !self.parts[number].idle.is_empty() {
                let Some((intended, ask)) = self.next_ask(number, now) else { break };
                if intended != u64::MAX && self.parts[number].had_idle && intended >= self.times.window_start
                {
                    let lag = self.now().saturating_sub(intended);
                    record_ns(&mut self.effort.lag_us, lag);
                }
                let id = self.parts[number].idle.pop().expect("an idle connection has just been seen");
                self.start(id, load, intended, ask);
            }
        }
        self.parts.iter_mut().for_each(|part| part.had_idle = !part.idle.is_empty());
    }

    /// What is due in a load, and since when; `u64::MAX` is now.
    fn next_ask(&mut self, number: usize, now: u64) -> Option<(u64, Ask)> {
        let part = &mut self.parts[number];
        match self.shared.phase.quota {
            Quota::Time => {}
            Quota::EachKeyOnce => {
                if part.rest == 0 && part.again.is_empty() {
                    return None;
                }
            }
            Quota::Count(_) => {
                if part
                    .schedule
                    .as_ref()
                    .is_some_and(|schedule| schedule.next_due().is_none_or(|due| due > now))
                {
                    return None;
                }
                let rest = &self.shared.rest;
                rest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |rest| rest.checked_sub(1)).ok()?;
            }
        }
        match &mut part.schedule {
            Some(schedule) => schedule.take(now),
            None => Some((u64::MAX, Ask { bucket: None, operation: None })),
        }
    }

    /// Begins an operation on an idle connection.
    fn start(&mut self, id: usize, load: &Load, intended: u64, ask: Ask) {
        let sent = self.now();
        let terms = self.shared.terms;
        let part = &mut self.parts[self.connections[id].load];
        let operation = ask.operation.unwrap_or_else(|| load.mix.draw(&mut part.rng));
        let again = part.again.pop();
        if again.is_none() {
            part.rest = part.rest.saturating_sub(1);
        }
        let (bucket, key_index) = again.unwrap_or_else(|| {
            part.choose_key(
                load,
                operation.is_write(),
                ask.bucket,
                self.index,
                self.shared.phase.thread_count,
            )
        });
        let multipart = &terms.scenario.multipart;
        let len = match operation {
            super::scenario::Operation::Put => terms.scenario.size.draw(&mut part.rng),
            super::scenario::Operation::Multipart => u64::from(multipart.parts) * multipart.part_size.0,
            _ => 0,
        };
        let depth = match terms.scenario.verify {
            ratio if ratio >= 1.0 || part.rng.unit() <= ratio => Depth::Bytes,
            _ => Depth::Header,
        };
        let series = part.first_series + load.series(bucket, operation);
        let intended = if intended == u64::MAX { sent } else { intended };
        let order = Order { operation, series, intended, sent, bucket, key_index, len, depth };
        let connection = &mut self.connections[id];
        connection.job = Some(Job::new(&order, &terms));
        connection.state = State::Busy;
        self.busy_count += 1;
        self.send_request(id, sent);
    }

    fn send_request(&mut self, id: usize, now: u64) {
        let connection = &mut self.connections[id];
        let Some(job) = &mut connection.job else { return };
        connection.since = now;
        let second = self.shared.clock.second(now);
        self.plain.clear();
        let range = job.write_head(
            &mut self.plain,
            &mut self.requests,
            &mut connection.response,
            &self.shared.terms,
            second,
        );
        // A small body goes with its head: one record, one call.
        let room = (PIECE_LEN.saturating_sub(self.plain.len())) as u64;
        let first = range.start..range.end.min(range.start + room);
        (connection.body_at, connection.body_end) = (first.end, range.end);
        job.write_body(&mut self.plain, first);
        let transport = connection.transport.as_mut().expect("a connection with a job is open");
        let sent = transport.send(&self.plain, &mut self.scratch).and_then(|_| self.send_more(id));
        if let Err(failure) = sent {
            self.fail(id, &failure, self.now());
        }
    }

    /// Sends on until the socket is full.
    fn send_more(&mut self, id: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[id];
        let (Some(transport), Some(job)) = (&mut connection.transport, &connection.job) else {
            return Ok(());
        };
        while transport.flush()? && connection.body_at < connection.body_end {
            let end = connection.body_end.min(connection.body_at + PIECE_LEN as u64);
            self.plain.clear();
            job.write_body(&mut self.plain, connection.body_at..end);
            connection.body_at = end;
            transport.send(&self.plain, &mut self.scratch)?;
        }
        Ok(())
    }

    /// Waits for events until a time, and handles them.
    fn wait(&mut self, until: u64, events: &mut [Event]) -> Result<(), Failure> {
        let timeout = until.saturating_sub(self.now());
        let timeout = Timespec { tv_sec: (timeout / SECOND) as i64, tv_nsec: (timeout % SECOND) as _ };
        let count = match epoll::wait(&self.epoll, &mut *events, Some(&timeout)) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(os_failure("epoll_wait", error)),
        };
        for event in &events[..count] {
            let (flags, data) = (event.flags, event.data);
            let id = data.u64() as usize;
            if let Err(failure) = self.handle(id, flags) {
                self.fail(id, &failure, self.now());
            }
        }
        Ok(())
    }

    fn handle(&mut self, id: usize, flags: EventFlags) -> Result<(), Failure> {
        let is_readable =
            flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let is_ending = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let until = if is_ending { Until::Closed } else { Until::Empty };
        let is_writable = flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
        match self.connections[id].state {
            State::Down { .. } => Ok(()),
            State::Connecting if is_writable => {
                let connection = &mut self.connections[id];
                let transport = connection.transport.as_mut().expect("a connecting connection has a socket");
                transport.finish_connect(&self.shared.target.endpoint)?;
                connection.state = State::Handshaking;
                self.handshake(id, until)
            }
            State::Connecting => Ok(()),
            State::Handshaking => self.handshake(id, until),
            State::Idle if is_readable => self.receive(id, until),
            State::Idle => Ok(()),
            State::Busy => {
                if is_writable && !self.is_all_sent(id) {
                    // A server may refuse before it has read the whole body: its answer tells more than a broken pipe.
                    if let Err(failure) = self.send_more(id) {
                        self.receive(id, Until::Closed)?;
                        return if self.connections[id].job.is_some() { Err(failure) } else { Ok(()) };
                    }
                }
                if is_readable { self.receive(id, until) } else { Ok(()) }
            }
        }
    }

    fn is_all_sent(&self, id: usize) -> bool {
        let connection = &self.connections[id];
        connection.body_at == connection.body_end
            && connection.transport.as_ref().is_none_or(Transport::is_flushed)
    }

    fn handshake(&mut self, id: usize, until: Until) -> Result<(), Failure> {
        let connection = &mut self.connections[id];
        let transport = connection.transport.as_mut().expect("a connection in its handshake has a socket");
        if transport.handshake(&mut self.scratch, until)? == Received::Closed {
            return Err(Failure::new(Kind::Tls, "the server closed during the handshake"));
        }
        if transport.is_ready() {
            connection.state = State::Idle;
            self.parts[connection.load].idle.push(id);
        }
        Ok(())
    }

    fn receive(&mut self, id: usize, until: Until) -> Result<(), Failure> {
        let connection = &mut self.connections[id];
        let Some(transport) = &mut connection.transport else { return Ok(()) };
        let (response, job) = (&mut connection.response, &mut connection.job);
        let received = transport.receive(&mut self.scratch, until, &mut |bytes| match job {
            Some(job) => response.take(bytes, job),
            None => Err(Failure::protocol("bytes that nobody asked for")),
        })?;
        let is_answered = job.is_some() && response.is_done();
        match (is_answered, received) {
            (true, _) => self.finish_answer(id, received == Received::Closed),
            (false, Received::Open) => {}
            (false, Received::Closed) if self.connections[id].job.is_none() => self.close(id, 0),
            (false, Received::Closed) => {
                let what =
                    if self.connections[id].response.is_untouched() { "before" } else { "in the midst of" };
                return Err(Failure::new(Kind::Closed, format!("the server closed {what} its answer")));
            }
        }
        Ok(())
    }

    fn finish_answer(&mut self, id: usize, is_closed: bool) {
        let now = self.now();
        self.answered += 1;
        let is_all_sent = self.is_all_sent(id);
        let connection = &mut self.connections[id];
        let keeps = connection.response.keeps_alive && !is_closed && is_all_sent;
        let Some(job) = &mut connection.job else { return };
        match job.finish_answer(&connection.response, &self.shared.terms) {
            Outcome::Next if keeps => return self.send_request(id, now),
            Outcome::Next => {
                let failure =
                    Failure::new(Kind::Closed, "the server closed between the requests of an upload");
                return self.fail(id, &failure, now);
            }
            Outcome::Done(success) => self.record(id, success, now),
            Outcome::Failed(failure) => self.record_failure(id, &failure, now),
        }
        let connection = &mut self.connections[id];
        connection.job = None;
        self.busy_count -= 1;
        if keeps {
            connection.state = State::Idle;
            self.parts[connection.load].idle.push(id);
        } else {
            self.close(id, now);
        }
    }

    fn record(&mut self, id: usize, success: Success, now: u64) {
        self.last_success = now;
        self.failed_since = 0;
        let Some(job) = &self.connections[id].job else { return };
        let (series, intended, sent) = (job.series, job.intended, job.sent);
        let Times { window_start, window_end, .. } = self.times;
        if now < window_start || (intended < window_start && now >= window_end) {
            return;
        }
        let cell = self.batch.cell(series);
        if now < window_end {
            cell.completed += 1;
            cell.bytes += success.bytes;
            cell.missing += u64::from(success.is_missing);
        }
        if intended >= window_start {
            cell.answered += 1;
            record_ns(&mut cell.latency_us, now - intended);
            if intended != sent {
                record_ns(&mut cell.service_us, now - sent);
            }
        }
    }

    fn record_failure(&mut self, id: usize, failure: &Failure, now: u64) {
        if self.failed_since == 0 {
            self.failed_since = now;
        }
        let Some(job) = &self.connections[id].job else { return };
        // Wrong data counts whenever it is seen; other failures only in the measurement.
        let is_counted = self.shared.phase.quota != Quota::EachKeyOnce && now >= self.times.window_start;
        if is_counted || failure.kind == Kind::Verification {
            let (series, intended) = (job.series, job.intended);
            let is_open_loop = self.parts[self.connections[id].load].schedule.is_some();
            self.batch.failures.count(failure);
            let cell = self.batch.cell(series);
            match failure.kind {
                Kind::SlowDown => cell.slow_down += 1,
                _ => cell.failed += 1,
            }
            if failure.kind == Kind::Timeout && is_open_loop && intended >= self.times.window_start {
                record_ns(&mut cell.latency_us, now - intended);
            }
        } else if self.shared.phase.quota == Quota::EachKeyOnce {
            let again = job.place();
            let load = self.connections[id].load;
            self.parts[load].again.push(again);
            if now - self.last_success.max(self.times.begin) > FAILING_TIME_MAX {
                self.shared.abort(failure.clone());
            }
        }
    }

    /// The connection is of no more use, and its job, if it has one, has failed.
    fn fail(&mut self, id: usize, failure: &Failure, now: u64) {
        if self.connections[id].job.is_some() {
            self.record_failure(id, failure, now);
            if let Some(job) = &mut self.connections[id].job {
                job.abandon(&self.shared.terms);
            }
            self.connections[id].job = None;
            self.busy_count -= 1;
            self.close(id, now);
        } else {
            self.batch.failures.count(failure);
            if self.failed_since == 0 {
                self.failed_since = now;
            }
            self.close(id, now + RETRY_PAUSE);
        }
        if self.failed_since > 0
            && now - self.last_success > FAILING_TIME_MAX
            && now - self.failed_since > FAILING_TIME_MAX
        {
            self.shared.abort(failure.clone());
        }
    }

    fn close(&mut self, id: usize, retry_at: u64) {
        let connection = &mut self.connections[id];
        if connection.state == State::Idle {
            self.parts[connection.load].idle.retain(|idle| *idle != id);
        }
        if !matches!(connection.state, State::Down { .. }) {
            self.down_count += 1;
        }
        // Closing the socket takes it out of the epoll.
        connection.transport = None;
        connection.state = State::Down { retry_at };
    }

    fn open_due(&mut self, now: u64) -> Result<(), Failure> {
        if self.down_count == 0 {
            return Ok(());
        }
        for id in 0..self.connections.len() {
            let State::Down { retry_at } = self.connections[id].state else { continue };
            if retry_at > now {
                continue;
            }
            match Transport::connect(&self.shared.target.endpoint, &self.shared.address) {
                Ok(transport) => {
                    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                    epoll::add(&self.epoll, transport.socket(), EventData::new_u64(id as u64), flags)
                        .map_err(|error| os_failure("epoll_ctl", error))?;
                    let connection = &mut self.connections[id];
                    connection.transport = Some(transport);
                    connection.state = State::Connecting;
                    connection.since = now;
                    self.down_count -= 1;
                    self.effort.reconnects += 1;
                }
                Err(failure) => self.fail(id, &failure, now),
            }
        }
        Ok(())
    }

    /// Looks for what takes too long.
    fn check(&mut self, now: u64) {
        let timeout = self.shared.terms.scenario.timeout;
        let timeout_ns = timeout.0.as_nanos() as u64;
        for id in 0..self.connections.len() {
            let connection = &self.connections[id];
            let is_waiting = matches!(connection.state, State::Busy | State::Connecting | State::Handshaking);
            if is_waiting && now.saturating_sub(connection.since) > timeout_ns {
                let failure = Failure::new(Kind::Timeout, format!("no answer after {timeout}"));
                self.fail(id, &failure, now);
            }
        }
    }
}

impl Part {
    fn choose_key(
        &mut self,
        load: &Load,
        is_write: bool,
        bucket: Option<u32>,
        index: u32,
        thread_count: u32,
    ) -> (u32, u64) {
        let bucket_count = load.buckets.len() as u64;
        let keys = if is_write { &mut self.writes } else { &mut self.reads };
        let mut drawn = keys.draw(&mut self.rng);
        let mut in_order = 0;
        if load.key_order == KeyOrder::Sequential {
            (drawn, in_order) = (drawn / bucket_count, drawn % bucket_count);
        } else if bucket.is_none() && bucket_count > 1 {
            in_order = self.rng.below(bucket_count);
        }
        let bucket = bucket.unwrap_or(load.buckets.start + in_order as u32);
        // Each thread writes keys of its own.
        let key = if is_write { drawn * u64::from(thread_count) + u64::from(index) } else { drawn };
        (bucket, key)
    }
}

fn os_failure(what: &str, error: Errno) -> Failure {
    Failure::new(Kind::Connect, format!("{what}: {error}"))
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}
