//! What is asked next, of which connection.

use std::sync::atomic::Ordering;

use super::{State, Worker};
use crate::load::job::{Job, Order};
use crate::load::pace::Ask;
use crate::load::phase::{Load, Quota};
use crate::load::record::record_ns;
use crate::load::scenario::Operation;
use crate::load::verify::Depth;

impl Worker<'_> {
    /// Gives work to idle connections.
    pub(super) fn dispatch(&mut self, now: u64) {
        (0..self.parts.len()).for_each(|number| self.dispatch_part(number, now));
        self.parts.iter_mut().for_each(|part| part.had_idle = !part.idle.is_empty());
    }

    pub(super) fn dispatch_part(&mut self, number: usize, now: u64) {
        let load = &self.shared.phase.loads[number];
        while !self.parts[number].idle.is_empty() {
            let Some((intended, ask)) = self.next_ask(number, now) else { break };
            if intended != u64::MAX && self.parts[number].had_idle && intended >= self.times.window_start {
                let lag = self.now().saturating_sub(intended);
                record_ns(&mut self.effort.lag_us, lag);
            }
            let id = self.parts[number].idle.pop().expect("an idle connection has just been seen");
            self.start(id, load, intended, ask);
        }
    }

    /// At the end of the measurement: what was due within it, and free connections could have taken. That it is sent late is this thread's fault, and
    /// the server must not be charged for requests that were never sent.
    pub(super) fn dispatch_last(&mut self) {
        if self.shared.is_aborted.load(Ordering::Acquire) {
            return;
        }
        for number in 0..self.parts.len() {
            if self.parts[number].schedule.is_some() {
                self.dispatch_part(number, self.times.window_end);
            }
        }
    }

    /// Whether new requests are to be sent.
    pub(super) fn is_open(&self, now: u64) -> bool {
        let is_in_time = now >= self.times.begin && now < self.times.window_end;
        is_in_time && !self.shared.is_aborted.load(Ordering::Acquire)
    }

    /// What is due in a load, and since when; `u64::MAX` is now.
    pub(super) fn next_ask(&mut self, number: usize, now: u64) -> Option<(u64, Ask)> {
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
    pub(super) fn start(&mut self, id: usize, load: &Load, intended: u64, ask: Ask) {
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
            Operation::Put => terms.scenario.size.draw(&mut part.rng),
            Operation::Multipart => u64::from(multipart.parts) * multipart.part_size.0,
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
}
