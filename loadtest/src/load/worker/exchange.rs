//! Requests go out, answers come in: what happens when a socket has room or bytes.

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventFlags};
use rustix::io::Errno;

use super::{SECOND, State, Worker, os_failure};
use crate::load::failure::{Failure, Kind};
use crate::load::job::Outcome;
use crate::load::wire::{PIECE_LEN, Received, Transport, Until};

impl Worker<'_> {
    pub(super) fn send_request(&mut self, id: usize, now: u64) {
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
    pub(super) fn send_more(&mut self, id: usize) -> Result<(), Failure> {
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
    pub(super) fn wait(&mut self, until: u64, events: &mut [Event]) -> Result<(), Failure> {
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

    pub(super) fn handle(&mut self, id: usize, flags: EventFlags) -> Result<(), Failure> {
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

    pub(super) fn is_all_sent(&self, id: usize) -> bool {
        let connection = &self.connections[id];
        connection.body_at == connection.body_end
            && connection.transport.as_ref().is_none_or(Transport::is_flushed)
    }

    pub(super) fn receive(&mut self, id: usize, until: Until) -> Result<(), Failure> {
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

    pub(super) fn finish_answer(&mut self, id: usize, is_closed: bool) {
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
            let number = connection.load;
            self.parts[number].idle.push(id);
            // At once, not after the other answers of this turn: otherwise client and server work by turns, and both sleep.
            if self.is_open(now) {
                self.dispatch_part(number, now);
            }
        } else {
            self.close(id, now);
        }
    }
}
