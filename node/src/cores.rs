//! The cores: one pinned thread each, with its own runtime, listeners, connections and service.
//!
//! ```text
//!   thread ─> pin ─> runtime ─> open the service ─(Opened)─> wait
//!                                                 Accept ──> accept, serve
//!                                                 Drain ───> accept no more, end idle connections ─(Drained)
//!                                                 Close ───> cut connections, close the service ─(Closed)
//!                                                 Exit ────> leave                              ─(Ended)
//! ```
//! The mesh is served from "open" to "exit". So while a core opens, or closes, it may call the others, and no core
//! leaves before all have closed. Who gives the commands: [`crate::server`].

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use compio::net::TcpStream;
use compio::runtime::{JoinHandle, Runtime, RuntimeBuilder};
use compio_driver::ProactorBuilder;
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::certificates::Certificates;
use crate::connections::{Connections, Patience, Timeouts};
use crate::foremost::Foremost;
use crate::listener::{self, Listener, Protection};
use crate::mesh::{CoreId, Mesh, MeshHandle};
use crate::metrics::{CoreMetrics, Sample};
use crate::rates::Rates;
use crate::stream::Stream;
use crate::stream::kernel::Offer;
use crate::stream::plain::PlainStream;
use crate::stream::tcp::Tcp;
use crate::stream::tls::TlsStream;

/// Submission queue entries of a ring. A pass of the loop that submits more enters the kernel in between.
const RING_LEN: u32 = 2048;

/// Completion queue entries: with many connections far more operations complete in one pass than are submitted.
const COMPLETION_LEN: u32 = 16 * 1024;

/// Tasks that other threads may wake between two passes of the loop. The mesh keeps this to one task per core; the rest
/// is for calls that end because a core closes.
const REMOTE_WAKES_MAX: usize = 16 * 1024;

/// Tasks that one pass of the loop runs before it enters the kernel, where what they asked for is submitted together. Those of many connections share that; those that are
/// woken meanwhile wait for it, the logs among them, for a millisecond or two.
pub(crate) const TASKS_PER_PASS_MAX: usize = 128;

/// Any error of opening a service; for the operator, who reads it.
pub type OpenError = Box<dyn Error + Send + Sync>;

/// What a core does with its connections. One per core, never shared between threads.
pub trait Service: Sized + 'static {
    /// The operations that its requests are counted by, in the order of their `OperationIndex`.
    const OPERATIONS: &'static [&'static str];

    /// Serves one connection to its end. It is idle (`Patience::Idle`) at first.
    fn serve_connection(self: Rc<Self>, stream: Stream) -> impl Future<Output = ()>;

    /// Makes everything durable that is not; no connection is open any more. Other cores may still call.
    fn close(self: Rc<Self>) -> impl Future<Output = ()> {
        async {}
    }

    /// Metrics of its own for `/metrics`, at the moment they are asked for.
    fn samples(&self) -> Vec<Sample> {
        Vec::new()
    }
}

/// What a service is opened with, on its core.
pub struct CoreContext<S: 'static> {
    /// This core.
    pub core: CoreId,
    /// The way to the others. Calls to a core that hasn't opened yet wait.
    pub mesh: MeshHandle<S>,
    /// Counters of all cores; this core writes its own alone.
    pub metrics: Arc<[CoreMetrics]>,
    /// The rate targets of buckets, shared by all cores.
    pub rates: Arc<Rates>,
    /// Where tasks are begun that go before all others of this core.
    pub foremost: Rc<Foremost>,
}

impl<S> CoreContext<S> {
    /// This core's counters.
    pub fn core_metrics(&self) -> &CoreMetrics {
        &self.metrics[self.core.index()]
    }
}

/// What the cores are started with.
pub struct Plan {
    /// Per core: the CPU that its thread is pinned to, if any.
    pub cpus: Vec<Option<usize>>,
    /// Per core: its listeners.
    pub listeners: Vec<Vec<Listener>>,
    /// Limits on waiting for peers.
    pub timeouts: Timeouts,
    /// Connections per core at once.
    pub connections_max: usize,
    /// Bytes of a send from which on it is made in place; `usize::MAX`: never.
    pub zero_copy_send_min: usize,
    /// Counters, one per core.
    pub metrics: Arc<[CoreMetrics]>,
    /// The rate targets of buckets.
    pub rates: Arc<Rates>,
    /// For TLS listeners.
    pub certificates: Arc<Certificates>,
    /// Which of their connections the kernel is given.
    pub kernel_tls: Offer,
}

/// What the supervisor tells a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve connections.
    Accept,
    /// Accept none any more, and let those that are open end.
    Drain,
    /// End what is left, and close the service.
    Close,
    /// Leave.
    Exit,
}

/// What a core tells the supervisor.
#[derive(Debug)]
pub enum CoreEvent {
    /// The service is open.
    Opened,
    /// It could not be opened; the core has ended.
    OpenFailed(OpenError),
    /// No connection is open any more.
    Drained,
    /// The service is closed.
    Closed,
    /// The thread ends.
    Ended,
}

/// How a core tells.
pub type Tell = Arc<dyn Fn(CoreId, CoreEvent) + Send + Sync>;

/// A core's thread can't be set up.
#[derive(Debug)]
pub enum SetUpError {
    /// It can't be pinned.
    Pin {
        /// To this CPU.
        cpu: usize,
        /// Why.
        source: io::Error,
    },
    /// The kernel gives it no ring.
    Ring(io::Error),
}

impl fmt::Display for SetUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetUpError::Pin { cpu, source } => {
                write!(
                    f,
                    "cannot pin a thread to CPU {cpu}: {source}; choose CPUs of this machine by --cores (see `nproc`, `taskset -p 1`)"
                )
            }
            SetUpError::Ring(source) => write!(
                f,
                "cannot set up io_uring: {source}; it needs Linux 6.0 or later, kernel.io_uring_disabled = 0 (see \
                 `sysctl kernel.io_uring_disabled`), and in a container a seccomp profile that allows io_uring_setup"
            ),
        }
    }
}

impl Error for SetUpError {}

/// The running cores.
pub struct Cores {
    commands: Vec<UnboundedSender<Command>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Cores {
    /// Starts a thread per core. Each opens its service by `open`, and tells how that went.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub fn start<S, F, Fut>(plan: Plan, mesh: &Mesh<S>, open: F, tell: Tell) -> io::Result<Cores>
    where
        S: Service,
        F: Fn(CoreContext<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Rc<S>, OpenError>>,
    {
        assert_eq!(plan.cpus.len(), mesh.core_count(), "a CPU, or none, per core");
        let open = Arc::new(open);
        let mut cores = Cores { commands: Vec::new(), threads: Vec::new() };
        for (index, (cpu, listeners)) in plan.cpus.into_iter().zip(plan.listeners).enumerate() {
            let (sender, commands) = unbounded();
            let seat = Seat {
                core: CoreId::new(index),
                cpu,
                listeners,
                timeouts: plan.timeouts,
                connections_max: plan.connections_max,
                zero_copy_send_min: plan.zero_copy_send_min,
                metrics: plan.metrics.clone(),
                rates: plan.rates.clone(),
                certificates: plan.certificates.clone(),
                kernel_tls: plan.kernel_tls,
                commands,
                tell: tell.clone(),
            };
            let (mesh, open) = (mesh.clone(), open.clone());
            let thread = thread::Builder::new().name(format!("core-{index}")).spawn(move || {
                let _farewell = Farewell(seat.tell.clone(), seat.core);
                seat.run(&mesh, |context| open(context));
            })?;
            cores.commands.push(sender);
            cores.threads.push(thread);
        }
        Ok(cores)
    }

    /// Tells every core.
    pub fn command(&self, command: Command) {
        for core in &self.commands {
            // A core that has ended needs no command; the supervisor knows that it has.
            let _ = core.unbounded_send(command);
        }
    }

    /// Waits for the threads; after [`Command::Exit`].
    pub fn join(self) {
        for thread in self.threads {
            // A panic has been reported, and in the real process it has ended everything.
            let _ = thread.join();
        }
    }
}

/// Says `Ended`, however the thread ends.
struct Farewell(Tell, CoreId);

impl Drop for Farewell {
    fn drop(&mut self) {
        (self.0)(self.1, CoreEvent::Ended);
    }
}

/// What one core's thread is given.
struct Seat {
    core: CoreId,
    cpu: Option<usize>,
    listeners: Vec<Listener>,
    timeouts: Timeouts,
    connections_max: usize,
    zero_copy_send_min: usize,
    metrics: Arc<[CoreMetrics]>,
    rates: Arc<Rates>,
    certificates: Arc<Certificates>,
    kernel_tls: Offer,
    commands: UnboundedReceiver<Command>,
    tell: Tell,
}

impl Seat {
    fn run<S, Fut>(self, mesh: &Mesh<S>, open: impl Fn(CoreContext<S>) -> Fut)
    where
        S: Service,
        Fut: Future<Output = Result<Rc<S>, OpenError>>,
    {
        match self.cpu.map_or(Ok(()), pin).and_then(|()| new_runtime()) {
            Ok(runtime) => runtime.block_on(async {
                let foremost = Foremost::new();
                foremost.beside(self.live(mesh, open, foremost.clone())).await;
            }),
            Err(error) => (self.tell)(self.core, CoreEvent::OpenFailed(error.into())),
        }
    }

    async fn live<S, Fut>(
        mut self,
        mesh: &Mesh<S>,
        open: impl Fn(CoreContext<S>) -> Fut,
        foremost: Rc<Foremost>,
    ) where
        S: Service,
        Fut: Future<Output = Result<Rc<S>, OpenError>>,
    {
        let handle = mesh.handle(self.core);
        let _mesh = compio::runtime::spawn(handle.serve());
        let context = CoreContext {
            core: self.core,
            mesh: handle.clone(),
            metrics: self.metrics.clone(),
            rates: self.rates.clone(),
            foremost,
        };
        let service = match open(context).await {
            Ok(service) => service,
            Err(error) => return (self.tell)(self.core, CoreEvent::OpenFailed(error)),
        };
        handle.open(service.clone());
        let connections = Connections::new(
            self.timeouts,
            self.connections_max,
            self.zero_copy_send_min,
            self.metrics.clone(),
            self.core,
        );
        let _sweeper = compio::runtime::spawn(connections.clone().sweep());
        (self.tell)(self.core, CoreEvent::Opened);
        let mut acceptors = Vec::new();
        while let Some(command) = self.commands.next().await {
            match command {
                Command::Accept => acceptors = self.accept(&service, &connections),
                Command::Drain => {
                    acceptors.clear();
                    connections.drain();
                    self.tell_later(CoreEvent::Drained, {
                        let connections = connections.clone();
                        async move { connections.all_closed().await }
                    });
                }
                Command::Close => {
                    acceptors.clear();
                    connections.cut();
                    self.tell_later(CoreEvent::Closed, service.clone().close());
                }
                Command::Exit => break,
            }
        }
    }

    /// Begins to accept on every listener of this core; ends when the answer is dropped.
    fn accept<S: Service>(&mut self, service: &Rc<S>, connections: &Rc<Connections>) -> Vec<JoinHandle<()>> {
        let listeners = std::mem::take(&mut self.listeners);
        let start = |listener: Listener| {
            let (service, certificates) = (service.clone(), self.certificates.clone());
            let kernel_tls = self.kernel_tls;
            let admitting = connections.clone();
            let take = move |socket: TcpStream, peer: SocketAddr, protection: Protection| {
                let tcp = Tcp::new(socket, peer, &admitting);
                let connection = serve(service.clone(), tcp, protection, certificates.clone(), kernel_tls);
                compio::runtime::spawn(connection).detach();
            };
            compio::runtime::spawn(listener::accept(listener, connections.clone(), take))
        };
        listeners.into_iter().map(start).collect()
    }

    fn tell_later(&self, event: CoreEvent, future: impl Future<Output = ()> + 'static) {
        let (tell, core) = (self.tell.clone(), self.core);
        compio::runtime::spawn(async move {
            future.await;
            tell(core, event);
        })
        .detach();
    }
}

async fn serve<S: Service>(
    service: Rc<S>,
    tcp: Tcp,
    protection: Protection,
    certificates: Arc<Certificates>,
    kernel_tls: Offer,
) {
    let mut stream = match protection {
        Protection::None => Stream::Plain(Box::new(PlainStream::new(tcp))),
        Protection::Tls => match handshake(tcp, &certificates, &kernel_tls).await {
            Some(stream) => stream,
            None => return,
        },
    };
    stream.allow(Patience::Idle);
    service.serve_connection(stream).await;
}

async fn handshake(tcp: Tcp, certificates: &Certificates, kernel_tls: &Offer) -> Option<Stream> {
    let peer = tcp.peer();
    let connections = tcp.shared_connections();
    let stream = match TlsStream::accept(tcp, certificates.current()).await {
        Ok(stream) => stream,
        Err(error) => {
            connections.metrics().tls_handshake_failures.add(1);
            tracing::debug!(%peer, %error, "TLS handshake failed");
            return None;
        }
    };
    connections.metrics().tls_handshakes.add(1);
    let handed = stream.hand_over(kernel_tls).await;
    handed.inspect_err(|error| tracing::debug!(%peer, %error, "no connection after the TLS handshake")).ok()
}

fn pin(cpu: usize) -> Result<(), SetUpError> {
    let failed = |source: io::Error| SetUpError::Pin { cpu, source };
    if cpu >= CpuSet::MAX_CPU {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|errno| failed(errno.into()))
}

/// A runtime on a ring of its own. Older kernels than 6.1 know no deferred task work; there the ring goes without.
pub(crate) fn new_runtime() -> Result<Runtime, SetUpError> {
    let mut ring = ProactorBuilder::new();
    ring.capacity(RING_LEN).cqsize(COMPLETION_LEN);
    let mut builder = RuntimeBuilder::new();
    builder.sync_queue_size(REMOTE_WAKES_MAX);
    builder.event_interval(TASKS_PER_PASS_MAX);
    builder
        .with_proactor(ring.clone().single_issuer(true).defer_taskrun(true).clone())
        .build()
        .or_else(|_| builder.with_proactor(ring.coop_taskrun(true).clone()).build())
        .or_else(|_| builder.with_proactor(ProactorBuilder::new()).build())
        .map_err(SetUpError::Ring)
}
