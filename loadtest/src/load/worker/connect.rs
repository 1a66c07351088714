//! The life of connections: opened, shaken hands, closed, replaced.

use rustix::event::epoll::{self, Event, EventData, EventFlags};

use super::{CONNECT_TIME_MAX, SECOND, State, Worker, os_failure};
use crate::load::failure::{Failure, Kind};
use crate::load::wire::{Received, Transport, Until};

impl Worker<'_> {
    /// Handshakes come before the measurement, not in its first second.
    pub(super) fn connect_all(&mut self, events: &mut [Event]) -> Result<(), Failure> {
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
    pub(super) fn is_refused(&self, time: u64) -> bool {
        let is_open = self.connections.iter().any(|it| it.state == State::Idle);
        let is_untrusted = self.batch.failures.0.contains_key(&Kind::Tls);
        !is_open && !self.batch.failures.0.is_empty() && (is_untrusted || time > SECOND)
    }

    pub(super) fn connect_failure(&self) -> Failure {
        let open = self.connections.iter().filter(|it| it.state == State::Idle).count();
        let first = self.batch.failures.0.iter().next();
        let (kind, example) = first.map_or((Kind::Connect, "no answer".to_owned()), |(kind, failures)| {
            (kind.clone(), failures.example.clone())
        });
        let all = self.connections.len();
        Failure::new(kind, format!("{open} of {all} connections opened: {example}"))
    }

    pub(super) fn handshake(&mut self, id: usize, until: Until) -> Result<(), Failure> {
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

    pub(super) fn close(&mut self, id: usize, retry_at: u64) {
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

    pub(super) fn open_due(&mut self, now: u64) -> Result<(), Failure> {
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
}
