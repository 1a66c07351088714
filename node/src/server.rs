//! The supervisor: starts everything in order, watches over it, and ends it in order.
//!
//! ```text
//!   bind ─> certificates ─> cores open ─> admin ─> cores accept ─> ready
//!   Terminate ─> cores drain (at most drain_timeout) ─> cores close their services ─> exit
//! ```

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::admin::{self, Phase, PhaseCell};
use crate::boot::{Boot, LocalCertificate};
use crate::certificates::{CertificateError, Certificates};
use crate::config::{Address, Config, CpusError};
use crate::congestion_control::{CongestionControl, CongestionControlError};
use crate::connections::Timeouts;
use crate::cores::{Command, CoreContext, CoreEvent, Cores, OpenError, Plan, Service, Tell};
use crate::listener::{self, BindError, Listener, Protection};
use crate::mesh::{CoreId, LANE_LEN, Mesh};
use crate::metrics::CoreMetrics;
use crate::rates::Rates;
use crate::signals::Request;

/// How long the services may take to close. What they have acknowledged is durable before; a restart finds it anyway.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two looks at the age of the generated certificate.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(12 * 3600);

/// A node that serves.
pub struct Server {
    cores: Cores,
    core_count: usize,
    events: Receiver<Event>,
    stopper: Stopper,
    certificates: Arc<Certificates>,
    local_certificate: Option<LocalCertificate>,
    drain_timeout: Duration,
    phase: PhaseCell,
    /// Where it listens with TLS, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    /// Where it listens without TLS, in the order of the configuration.
    pub insecure_addresses: Vec<SocketAddr>,
    /// Where `/healthz` and `/metrics` are.
    pub admin_address: SocketAddr,
}

/// Tells a server to end, or to reload its certificate, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(Sender<Event>);

impl Stopper {
    /// Passes the request on; `false` when the server has ended.
    pub fn request(&self, request: Request) -> bool {
        self.0.send(Event::Operator(request)).is_ok()
    }
}

#[derive(Debug)]
enum Event {
    Core(CoreId, CoreEvent),
    Operator(Request),
}

impl Server {
    /// Starts a core on each CPU of the configuration; see [`Server::start_on`].
    ///
    /// # Errors
    /// Each says what to do.
    pub fn start<S, F, Fut>(config: &Config, boot: &Boot, open: F) -> Result<Server, ServerError>
    where
        S: Service,
        F: Fn(CoreContext<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Rc<S>, OpenError>>,
    {
        let cpus = config.node.cores.resolve().map_err(ServerError::Cpus)?;
        Self::start_on(config, boot, cpus.into_iter().map(Some).collect(), open)
    }

    /// Starts a core per entry of `cpus` (pinned there, if it names one), each with the service that `open` makes on its
    /// thread. Answers when all are open and accept connections.
    ///
    /// # Errors
    /// Each says what to do.
    pub fn start_on<S, F, Fut>(
        config: &Config,
        boot: &Boot,
        cpus: Vec<Option<usize>>,
        open: F,
    ) -> Result<Server, ServerError>
    where
        S: Service,
        F: Fn(CoreContext<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Rc<S>, OpenError>>,
    {
        let core_count = cpus.len();
        raise_file_limit(core_count.saturating_mul(config.limits.connections_per_core_max));
        let mut listeners: Vec<Vec<Listener>> = (0..core_count).map(|_| Vec::new()).collect();
        let congestion_control =
            config.network.congestion_control().map_err(ServerError::CongestionControl)?;
        let listen = |addresses: &[Address], protection, listeners: &mut [Vec<Listener>]| {
            bind_all(listeners, addresses, protection, congestion_control.as_ref())
        };
        let addresses = listen(&config.node.listen, Protection::Tls, &mut listeners)?;
        let insecure_addresses = listen(&config.node.insecure_http, Protection::None, &mut listeners)?;
        let admin = listener::bind_exclusive(config.node.admin_listen.0).map_err(ServerError::Bind)?;
        let admin_address = admin.local_addr().map_err(ServerError::Thread)?;
        let certificates =
            Certificates::load(boot.certificate_files.clone()).map_err(ServerError::Certificate)?;
        let certificates = Arc::new(certificates);
        let metrics = CoreMetrics::for_cores(core_count, S::OPERATIONS);
        let rates = Rates::new(&config.rates, core_count);
        let mesh = Mesh::<S>::new(core_count, LANE_LEN);
        let (sender, events) = mpsc::channel();
        let plan = Plan {
            cpus,
            listeners,
            timeouts: timeouts(config),
            connections_max: config.limits.connections_per_core_max,
            zero_copy_send_min: config.network.zero_copy_send_min.map_or(usize::MAX, |min| min.as_usize()),
            metrics: metrics.clone(),
            rates: rates.clone(),
            certificates: certificates.clone(),
            kernel_tls: config.network.kernel_tls.offer(),
        };
        let cores = Cores::start(plan, &mesh, open, tell(&sender)).map_err(ServerError::Thread)?;
        let phase = PhaseCell::new();
        let server = Server {
            cores,
            core_count,
            events,
            stopper: Stopper(sender),
            certificates,
            local_certificate: boot.local_certificate.clone(),
            drain_timeout: config.shutdown.drain_timeout.0,
            phase: phase.clone(),
            addresses,
            insecure_addresses,
            admin_address,
        };
        server.await_open()?;
        admin::start(admin, mesh, metrics, rates, phase.clone()).map_err(ServerError::Thread)?;
        server.cores.command(Command::Accept);
        phase.set(Phase::Serving);
        if !server.insecure_addresses.is_empty() {
            tracing::warn!(
                addresses = ?server.insecure_addresses,
                "plain HTTP: requests and data on these addresses can be read and changed on the way"
            );
        }
        tracing::info!(cores = core_count, addresses = ?server.addresses, admin = %admin_address, "serving");
        Ok(server)
    }

    /// Where clients reach it: its first address, and whether that is one without TLS.
    pub fn public_address(&self) -> Option<(SocketAddr, bool)> {
        let secure = self.addresses.first().map(|address| (*address, false));
        secure.or_else(|| self.insecure_addresses.first().map(|address| (*address, true)))
    }

    /// For ending the server from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves until told to end, then ends in order.
    ///
    /// # Errors
    /// When a core ends by itself.
    pub fn run(self) -> Result<(), ServerError> {
        loop {
            match self.events.recv_timeout(RENEWAL_INTERVAL) {
                Ok(Event::Operator(Request::Terminate)) => break,
                Ok(Event::Operator(Request::Reload)) => self.reload(),
                Ok(Event::Core(core, CoreEvent::Ended)) => return Err(ServerError::CoreEnded { core }),
                Ok(Event::Core(..)) => {}
                Err(RecvTimeoutError::Timeout) => self.renew(),
                Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender ourselves"),
            }
        }
        self.end();
        Ok(())
    }

    fn await_open(&self) -> Result<(), ServerError> {
        let mut open_count = 0;
        while open_count < self.core_count {
            match self.events.recv().expect("we hold a sender ourselves") {
                Event::Core(_, CoreEvent::Opened) => open_count += 1,
                Event::Core(core, CoreEvent::OpenFailed(source)) => {
                    return Err(ServerError::Open { core, source });
                }
                Event::Core(core, CoreEvent::Ended) => return Err(ServerError::CoreEnded { core }),
                _ => {}
            }
        }
        Ok(())
    }

    fn end(self) {
        tracing::info!(timeout = ?self.drain_timeout, "ending: requests in flight may finish");
        self.phase.set(Phase::Ending);
        self.cores.command(Command::Drain);
        let drained = self.await_all(self.drain_timeout, |event| matches!(event, CoreEvent::Drained));
        if drained == Wait::TimedOut {
            tracing::warn!("some requests did not finish in shutdown.drain_timeout and are cut off");
        }
        if drained != Wait::Told {
            self.cores.command(Command::Close);
            if self.await_all(CLOSE_TIMEOUT, |event| matches!(event, CoreEvent::Closed)) == Wait::Done {
                self.cores.command(Command::Exit);
                self.cores.join();
                tracing::info!("ended");
                return;
            }
        }
        tracing::warn!("ended at once; what was acknowledged is durable");
    }

    /// Waits until every core has said what `is_it` looks for.
    fn await_all(&self, timeout: Duration, is_it: impl Fn(&CoreEvent) -> bool) -> Wait {
        let until = Instant::now() + timeout;
        let mut count = 0;
        while count < self.core_count {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Core(_, event)) if is_it(&event) => count += 1,
                Ok(Event::Operator(Request::Terminate)) => return Wait::Told,
                Ok(_) => {}
                Err(_) => return Wait::TimedOut,
            }
        }
        Wait::Done
    }

    fn reload(&self) {
        self.renew();
        match self.certificates.reload() {
            Ok(()) => tracing::info!(path = ?self.certificates.files().certificate, "certificate reloaded"),
            Err(error) => tracing::error!(%error, "certificate not reloaded; the former one stays in use"),
        }
    }

    /// Renews the generated certificate if it is due.
    fn renew(&self) {
        let Some(local) = &self.local_certificate else { return };
        match local.ensure(jiff::Timestamp::now()) {
            Ok(false) => {}
            Ok(true) => {
                let result = self.certificates.reload();
                tracing::info!(is_in_use = result.is_ok(), "certificate renewed");
            }
            Err(error) => tracing::error!(%error, "certificate not renewed"),
        }
    }
}

/// How waiting for the cores ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Done,
    TimedOut,
    /// The operator doesn't want to wait.
    Told,
}

/// Why a node can't start, or doesn't go on.
#[derive(Debug)]
pub enum ServerError {
    /// The CPUs of the configuration can't be used.
    Cpus(CpusError),
    /// The congestion control of the configuration can't be used.
    CongestionControl(CongestionControlError),
    /// An address can't be listened on.
    Bind(BindError),
    /// The certificate can't be used.
    Certificate(CertificateError),
    /// The kernel gives no thread or no socket.
    Thread(io::Error),
    /// A core can't open its part of the store.
    Open {
        /// That core.
        core: CoreId,
        /// Why.
        source: OpenError,
    },
    /// A core has ended by itself.
    CoreEnded {
        /// That core.
        core: CoreId,
    },
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Cpus(error) => error.fmt(f),
            ServerError::CongestionControl(error) => error.fmt(f),
            ServerError::Bind(error) => error.fmt(f),
            ServerError::Certificate(error) => error.fmt(f),
            ServerError::Thread(error) => {
                write!(
                    f,
                    "the kernel refuses a thread or a socket: {error}; check the limits of this user (ulimit -a)"
                )
            }
            ServerError::Open { core, source } => write!(f, "core {core} cannot open the store: {source}"),
            ServerError::CoreEnded { core } => {
                write!(
                    f,
                    "core {core} has ended by itself, which is a bug; start the node again, what was acknowledged is safe"
                )
            }
        }
    }
}

impl std::error::Error for ServerError {}

fn bind_all(
    listeners: &mut [Vec<Listener>],
    addresses: &[Address],
    protection: Protection,
    congestion_control: Option<&CongestionControl>,
) -> Result<Vec<SocketAddr>, ServerError> {
    let mut bound_addresses = Vec::new();
    for address in addresses {
        let (bound, sockets) = listener::bind(address.0, protection, listeners.len(), congestion_control)
            .map_err(ServerError::Bind)?;
        bound_addresses.push(bound);
        for (core, socket) in listeners.iter_mut().zip(sockets) {
            core.push(socket);
        }
    }
    Ok(bound_addresses)
}

fn timeouts(config: &Config) -> Timeouts {
    Timeouts {
        head: config.limits.head_timeout.0,
        idle: config.limits.idle_timeout.0,
        body_stall: config.limits.body_stall_timeout.0,
    }
}

fn tell(sender: &Sender<Event>) -> Tell {
    let sender = sender.clone();
    Arc::new(move |core, event| {
        // Nobody listens any more when the process is about to end.
        let _ = sender.send(Event::Core(core, event));
    })
}

/// A connection is a file descriptor, and the usual soft limit of 1024 is for programs that use select.
fn raise_file_limit(connections_max: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files_max = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    if files_max.is_some_and(|files_max| files_max < connections_max as u64) {
        tracing::warn!(
            files_max,
            connections_max,
            "the limit on open files is below limits.connections_per_core_max times the cores; raise it (ulimit -Hn, LimitNOFILE)"
        );
    }
}
