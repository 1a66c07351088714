//! Buffers that the kernel sends from while they stay where they are (`IORING_OP_SEND_ZC`).
//!
//! The kernel answers such a send twice: when it has queued the bytes, and when it needs them no more, since the peer has acknowledged them. Between the two the buffer
//! is *lent*: nobody writes to it, and it is not freed. So a connection goes on with another one, and gets this one back later.
//!
//! ```text
//!   send ─> queued: the sender goes on ─> lent ─> returned: kept for the next sends, or freed
//!                                          └── the connection ends first: it is aborted, so that the kernel lets go
//! ```
//! Invariants:
//! - A lent buffer has an owner besides the sender: its operation in the ring, which the driver keeps until the second answer, whoever forgets about it.
//! - No connection ends with a buffer lent: a peer that acknowledges nothing would hold it, and the socket, for ever.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use compio::buf::Slice;
use compio::io::AsyncWriteZerocopy;
use compio::net::TcpStream;
use rustix::io::Errno;

/// Buffers that a connection lends at once: of 256 KiB each, what the kernel would queue for it by default (`tcp_wmem`).
const LENT_MAX: usize = 16;

/// The kernel needs a part of a buffer no more.
pub type Notice = <TcpStream as AsyncWriteZerocopy>::BufferReadyFuture<Slice<Rc<Vec<u8>>>>;

/// What a connection has lent to the kernel.
pub struct Lender {
    socket: TcpStream,
    shared: Rc<Shared>,
    /// A send is under way, or was dropped on its way.
    is_sending: bool,
}

#[derive(Default)]
struct Shared {
    lent: Cell<usize>,
    /// Returned buffers, for the next sends.
    spares: RefCell<Vec<Vec<u8>>>,
    /// Whether a returned buffer will be needed again.
    is_busy: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Lender {
    /// Nothing is lent yet.
    pub fn new(socket: &TcpStream) -> Self {
        Lender { socket: socket.clone(), shared: Rc::default(), is_sending: false }
    }

    /// Waits until another buffer may be lent, and notes that it is about to be.
    ///
    /// # Errors
    /// `TimedOut` when the peer acknowledges nothing for that long.
    pub async fn begin(&mut self, patience: Duration) -> io::Result<()> {
        self.lent_below(LENT_MAX, patience).await?;
        self.shared.is_busy.set(true);
        self.is_sending = true;
        Ok(())
    }

    /// The kernel has queued the buffer, and gives these notices. Answers a buffer to go on with.
    pub fn lend(&mut self, buffer: Rc<Vec<u8>>, notices: Vec<Notice>) -> Vec<u8> {
        self.is_sending = false;
        let shared = self.shared.clone();
        shared.lent.set(shared.lent.get() + 1);
        let spare = shared.spares.borrow_mut().pop().unwrap_or_default();
        compio::runtime::spawn(async move {
            for notice in notices {
                drop(notice.await);
            }
            shared.take_back(buffer);
        })
        .detach();
        spare
    }

    /// Gives up what is kept for the next sends.
    pub fn rest(&self) {
        self.shared.is_busy.set(false);
        self.shared.spares.take();
    }

    /// Waits until nothing is lent.
    ///
    /// # Errors
    /// `TimedOut` when the peer acknowledges nothing for that long.
    pub async fn settle(&self, patience: Duration) -> io::Result<()> {
        self.rest();
        let mut lent = self.lent();
        while lent > 0 {
            self.lent_below(lent, patience).await?;
            lent = self.lent();
        }
        Ok(())
    }

    /// Buffers lent now.
    pub fn lent(&self) -> usize {
        self.shared.lent.get()
    }

    async fn lent_below(&self, limit: usize, patience: Duration) -> io::Result<()> {
        if self.lent() < limit {
            return Ok(());
        }
        let returned = poll_fn(|context| {
            if self.lent() < limit {
                return Poll::Ready(());
            }
            self.shared.waiting.replace(Some(context.waker().clone()));
            Poll::Pending
        });
        compio::time::timeout(patience, returned).await.map_err(|_| io::ErrorKind::TimedOut.into())
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        if self.is_sending || self.lent() > 0 {
            // Takes what is queued away from the kernel. Fails only when the connection is gone, and all that with it.
            let _ = rustix::net::connect_unspec(&self.socket);
        }
    }
}

impl Shared {
    fn take_back(&self, buffer: Rc<Vec<u8>>) {
        self.lent.set(self.lent.get() - 1);
        if self.is_busy.get() {
            self.spares.borrow_mut().extend(Rc::try_unwrap(buffer));
        }
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

/// Whether an error says that the kernel does not send these bytes in place, rather than that it can't send them.
pub fn is_refusal(error: &io::Error) -> bool {
    // The first two for a socket or kernel that can't, the others when this user may not pin more memory (RLIMIT_MEMLOCK).
    let refusals = [Errno::OPNOTSUPP, Errno::INVAL, Errno::NOMEM, Errno::NOBUFS];
    error.raw_os_error().is_some_and(|number| refusals.iter().any(|errno| errno.raw_os_error() == number))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{SocketAddr, TcpListener, TcpStream as StdStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    use super::super::tcp::Tcp;
    use super::*;
    use crate::connections::{Connections, Timeouts};
    use crate::mesh::CoreId;
    use crate::metrics::CoreMetrics;

    const PIECE_LEN: usize = 256 * 1024;
    const LIMIT: Duration = Duration::from_secs(30);

    fn connections() -> Rc<Connections> {
        let timeouts = Timeouts { head: LIMIT, idle: LIMIT, body_stall: LIMIT };
        let metrics: Arc<[CoreMetrics]> = CoreMetrics::for_cores(1, &[]);
        Connections::new(timeouts, 10, PIECE_LEN / 2, metrics, CoreId::new(0))
    }

    fn tcp(socket: StdStream, connections: &Rc<Connections>) -> Tcp {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        Tcp::new(TcpStream::from_std(socket).expect("it joins the runtime"), peer, connections)
    }

    /// The two ends of a connection; little fits between them.
    fn pair() -> (StdStream, StdStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is free");
        socket2::SockRef::from(&listener).set_recv_buffer_size(16 * 1024).expect("a small buffer");
        let near = StdStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        (near, listener.accept().expect("a connection").0)
    }

    /// A piece's bytes: of every piece others, and at every place others.
    fn fill(buffer: &mut Vec<u8>, piece: usize) {
        buffer.clear();
        buffer.extend((0..PIECE_LEN / 4).flat_map(|i| ((piece << 20 | i) as u32).to_le_bytes()));
    }

    fn in_runtime<T>(test: impl Future<Output = T>) -> T {
        crate::cores::new_runtime().expect("a ring").block_on(test)
    }

    #[test]
    fn bytes_arrive_as_they_were_when_they_were_sent_though_the_peer_is_slow() {
        const COUNT: usize = 40;
        let (near, mut far) = pair();
        let reader = thread::spawn(move || {
            let (mut expected, mut received) = (Vec::new(), vec![0; PIECE_LEN]);
            for piece in 0..COUNT {
                // The sender has filled all that there is between the two, and its buffers are lent.
                thread::sleep(Duration::from_millis(5));
                far.read_exact(&mut received).expect("a piece");
                fill(&mut expected, piece);
                assert!(received == expected, "piece {piece}");
            }
            assert_eq!(far.read(&mut [0]).expect("the end"), 0);
        });
        let connections = connections();
        in_runtime(async {
            let mut tcp = tcp(near, &connections);
            let mut buffer = Vec::new();
            for piece in 0..COUNT {
                fill(&mut buffer, piece);
                let result;
                (result, buffer) = tcp.send(buffer, PIECE_LEN).await;
                result.expect("sent");
                // Whoever gets a buffer may write to it.
                buffer.fill(0xff);
            }
            tcp.close().await;
        });
        reader.join().expect("every piece as it was");
        assert!(connections.metrics().zero_copy_sends.value() >= COUNT as u64);
    }

    #[test]
    fn what_the_kernel_does_not_send_in_place_is_copied() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let reader = thread::spawn(move || {
            let mut received = Vec::new();
            far.read_to_end(&mut received).expect("all of it");
            received
        });
        let connections = connections();
        let mut sent = Vec::new();
        fill(&mut sent, 1);
        in_runtime(async {
            // A socket of another family, which knows no such sends.
            let mut tcp = tcp(StdStream::from(OwnedFd::from(near)), &connections);
            let (result, _) = tcp.send(sent.clone(), PIECE_LEN).await;
            result.expect("sent");
        });
        assert!(reader.join().expect("no panic") == sent);
        assert_eq!(connections.metrics().zero_copy_sends.value(), 0);
        assert_eq!(connections.zero_copy_send_min(), usize::MAX, "it is not asked again");
    }

    #[test]
    fn a_connection_that_ends_takes_back_what_it_has_lent() {
        let (near, far) = pair();
        in_runtime(async {
            let socket = TcpStream::from_std(near).expect("it joins the runtime");
            let mut lender = Lender::new(&socket);
            let mut buffer = Vec::new();
            fill(&mut buffer, 1);
            lender.begin(LIMIT).await.expect("nothing is lent yet");
            let buffer = Rc::new(buffer);
            let (result, notice) =
                (&socket).write_zerocopy(compio::buf::IoBuf::slice(buffer.clone(), ..)).await.into();
            assert!(result.expect("queued") > 64 * 1024);
            lender.lend(buffer, vec![notice]);
            // The peer reads nothing, so that most of it stays here.
            compio::time::sleep(Duration::from_millis(20)).await;
            let shared = lender.shared.clone();
            assert_eq!(shared.lent.get(), 1);
            drop(lender);
            let begun = Instant::now();
            while shared.lent.get() > 0 {
                assert!(begun.elapsed() < LIMIT, "the kernel does not let go");
                compio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        drop(far);
    }
}
