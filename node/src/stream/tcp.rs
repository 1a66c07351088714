//! A TCP connection with its limits: every receive and send notes its deadline and is counted.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use compio::BufResult;
use compio::buf::{IntoInner, IoBuf};
use compio::io::ancillary::{AsyncReadAncillary, AsyncWriteAncillary};
use compio::io::{AsyncRead, AsyncWrite, AsyncWriteZerocopy};
use compio::net::TcpStream;

use super::record_type::{self, ControlMessage};
use super::zero_copy::{self, Lender};
use crate::connections::{Admission, Connections, Patience};
use crate::stopwatch::Stopwatch;

/// What one receive of the goodbye throws away at most.
const DISCARD_LEN: usize = 16 * 1024;

/// Receives of the goodbye: a peer that sends more than these can hold is cut off.
const DISCARD_COUNT_MAX: usize = 1024;

/// An accepted connection.
pub struct Tcp {
    socket: TcpStream,
    peer: SocketAddr,
    admission: Admission,
    watch: Rc<Stopwatch>,
    /// From the first send in place on.
    lender: Option<Box<Lender>>,
    /// A receive is pending, or was dropped while pending: its bytes are lost.
    is_receiving: bool,
    is_ended: bool,
}

impl Tcp {
    /// Takes an accepted socket among `connections`.
    pub fn new(socket: TcpStream, peer: SocketAddr, connections: &Rc<Connections>) -> Self {
        // Only a socket that is already gone refuses; the first receive will say so.
        let _ = socket.set_nodelay(true);
        let mut admission = connections.admit(&socket);
        admission.allow(Patience::Handshake);
        Tcp {
            socket,
            peer,
            admission,
            watch: Rc::default(),
            lender: None,
            is_receiving: false,
            is_ended: false,
        }
    }

    /// What the connection waits for from now on.
    pub fn allow(&mut self, patience: Patience) {
        self.admission.allow(patience);
    }

    /// Notes that something of a request is there, though no receive brought it.
    pub fn note_arrival(&mut self) {
        self.admission.note_arrival();
    }

    /// Receives into the spare capacity of `buffer`; 0 at the end of the stream, or of an idle connection's time.
    ///
    /// # Errors
    /// `TimedOut` when the peer is late, else the socket's.
    pub async fn receive(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let room = buffer.capacity() - buffer.len();
        self.receive_at_most(buffer, room).await
    }

    /// The same, of `count` bytes at most.
    ///
    /// # Errors
    /// As there.
    pub async fn receive_at_most(&mut self, buffer: Vec<u8>, count: usize) -> (io::Result<usize>, Vec<u8>) {
        self.receive_by(buffer, async |mut socket, buffer| {
            let filled = buffer.len();
            let BufResult(result, slice) = socket.read(buffer.slice(filled..filled + count)).await;
            (result, slice.into_inner())
        })
        .await
    }

    /// Receives data, or a record of another type, where the kernel opens them: its type, and how many bytes.
    ///
    /// # Errors
    /// As there.
    pub async fn receive_record(&mut self, buffer: Vec<u8>) -> (io::Result<(u8, usize)>, Vec<u8>) {
        let receive = async |mut socket: &TcpStream, (buffer, message): (Vec<u8>, ControlMessage)| {
            let filled = buffer.len();
            let BufResult(result, (slice, message)) =
                socket.read_with_ancillary(buffer.slice(filled..), message).await;
            (result.map(|(count, ..)| count), (slice.into_inner(), message))
        };
        let (result, (buffer, message)) = self.receive_by((buffer, ControlMessage::new()), receive).await;
        (result.map(|count| (record_type::read(&message), count)), buffer)
    }

    /// One receive, within its limits.
    async fn receive_by<T>(
        &mut self,
        buffer: T,
        receive: impl AsyncFnOnce(&TcpStream, T) -> (io::Result<usize>, T),
    ) -> (io::Result<usize>, T) {
        if self.is_receiving {
            return (Err(io::Error::other("an earlier receive was abandoned")), buffer);
        }
        if self.is_ended {
            return (Ok(0), buffer);
        }
        if !self.admission.begin_receive() {
            return (self.end_of_patience(), buffer);
        }
        self.is_receiving = true;
        let (result, buffer) = receive(&self.socket, buffer).await;
        self.is_receiving = false;
        self.admission.end_receive(*result.as_ref().unwrap_or(&0));
        let result = match result {
            Ok(0) => {
                self.is_ended = true;
                self.end_of_patience()
            }
            other => other,
        };
        (result, buffer)
    }

    /// Sends the first `len` bytes of `buffer`; answers a buffer to go on with, which is another one as long as the kernel needs this one.
    ///
    /// # Errors
    /// `TimedOut` when the peer takes nothing for too long, else the socket's.
    pub async fn send(&mut self, buffer: Vec<u8>, len: usize) -> (io::Result<()>, Vec<u8>) {
        if len >= self.connections().zero_copy_send_min() {
            self.send_in_place(buffer, len).await
        } else {
            self.send_copied(buffer, 0..len).await
        }
    }

    /// Sends a part of `buffer`, which the kernel copies.
    ///
    /// # Errors
    /// As there.
    pub async fn send_copied<B: IoBuf>(
        &mut self,
        mut buffer: B,
        mut range: Range<usize>,
    ) -> (io::Result<()>, B) {
        while !range.is_empty() {
            self.admission.begin_send();
            let BufResult(result, slice) = (&self.socket).write(buffer.slice(range.clone())).await;
            buffer = slice.into_inner();
            match self.end_send(result) {
                Ok(count) => range.start += count,
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    async fn send_in_place(&mut self, buffer: Vec<u8>, len: usize) -> (io::Result<()>, Vec<u8>) {
        let mut lender = self.lender.take().unwrap_or_else(|| Box::new(Lender::new(&self.socket)));
        if let Err(error) = lender.begin(self.connections().body_stall()).await {
            self.lender = Some(lender);
            return (Err(error), buffer);
        }
        let buffer = Rc::new(buffer);
        let (mut sent, mut notices, mut result) = (0, Vec::new(), Ok(()));
        while sent < len && result.is_ok() {
            self.admission.begin_send();
            let BufResult(queued, notice) =
                (&self.socket).write_zerocopy(buffer.clone().slice(sent..len)).await;
            notices.push(notice);
            match queued {
                Err(error) if zero_copy::is_refusal(&error) => {
                    self.connections().note_zero_copy_refused(&error);
                    result = self.send_copied(buffer.clone(), sent..len).await.0;
                    sent = len;
                }
                queued => match self.end_send(queued) {
                    Ok(count) => {
                        self.connections().metrics().zero_copy_sends.add(1);
                        sent += count;
                    }
                    Err(error) => result = Err(error),
                },
            }
        }
        let spare = lender.lend(buffer, notices);
        self.lender = Some(lender);
        (result, spare)
    }

    /// Sends a record of a type, where the kernel seals them.
    ///
    /// # Errors
    /// As there.
    pub async fn send_record(&mut self, kind: u8, content: Vec<u8>) -> io::Result<()> {
        self.admission.begin_send();
        let BufResult(result, _) =
            (&self.socket).write_with_ancillary(content, record_type::write(kind)).await;
        self.end_send(result).map(|_| ())
    }

    /// Waits until a send would not have to wait for the peer.
    ///
    /// # Errors
    /// `TimedOut` when the peer takes nothing for too long, else the socket's.
    pub async fn writable(&mut self) -> io::Result<()> {
        let poll = self.socket.to_poll_fd()?;
        self.admission.begin_send();
        let result = poll.write_ready().await;
        self.admission.end_send(0);
        if self.admission.is_late() { Err(io::ErrorKind::TimedOut.into()) } else { result }
    }

    /// The error that waits on the socket for its next operation, if any.
    ///
    /// # Errors
    /// The kernel's, when it does not say.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    /// The socket, to set its options.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Notes that a send ended, and what that means.
    fn end_send(&self, result: io::Result<usize>) -> io::Result<usize> {
        self.admission.end_send(*result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Err(_) if self.admission.is_late() => Err(io::ErrorKind::TimedOut.into()),
            other => other,
        }
    }

    /// Gives up what is kept for the next large send.
    pub fn rest(&self) {
        if let Some(lender) = &self.lender {
            lender.rest();
        }
    }

    /// Ends our side and waits a moment for the peer to end its own. Closing with bytes unread would reset the
    /// connection, and the peer might lose the response that explains why we close.
    pub async fn close(mut self) {
        if let Some(lender) = &self.lender
            && lender.settle(self.connections().body_stall()).await.is_err()
        {
            return;
        }
        self.admission.allow(Patience::Linger);
        if self.is_receiving || (&self.socket).shutdown().await.is_err() {
            return;
        }
        let mut scrap = Vec::with_capacity(DISCARD_LEN);
        for _ in 0..DISCARD_COUNT_MAX {
            let result;
            scrap.clear();
            (result, scrap) = self.receive(scrap).await;
            if !matches!(result, Ok(1..)) {
                return;
            }
        }
    }

    /// Whether the peer has ended its side, or lost it.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The core's connections.
    pub fn connections(&self) -> &Connections {
        self.admission.connections()
    }

    /// The core's connections, to keep.
    pub fn shared_connections(&self) -> Rc<Connections> {
        self.admission.connections().clone()
    }

    /// Where the time of the connection's requests goes.
    pub fn watch(&self) -> &Rc<Stopwatch> {
        &self.watch
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// A receive of nothing: an idle connection has just ended, any other one was given up on if it is late.
    fn end_of_patience(&self) -> io::Result<usize> {
        if self.admission.is_late() && self.admission.patience() != Patience::Idle {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(0)
    }
}
