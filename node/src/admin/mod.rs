//! The admin listener: `/healthz`, `/metrics` and `/rates` over plain HTTP, on a thread of its own.
//!
//! It sits in the mesh as the observer, so that a core which hangs is seen, and named, by one that doesn't.

use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use compio::net::TcpListener;
use futures_util::future::join_all;

use crate::cores::{self, Service};
use crate::mesh::{CoreId, Mesh, MeshHandle};
use crate::metrics::{self, CoreMetrics, Exposition, Family, Kind, Sample};
use crate::rates::Rates;

use self::rates::RatePages;

mod http;
mod rates;

/// How long a core may take to answer before it counts as hung.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Admin connections at once; more are closed.
const CONNECTIONS_MAX: usize = 64;

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The cores open.
    Starting,
    /// All cores accept connections.
    Serving,
    /// Requests in flight finish; no new connections.
    Ending,
}

/// The phase, as all threads see it.
#[derive(Clone, Debug)]
pub struct PhaseCell(Arc<AtomicU8>);

impl PhaseCell {
    /// Starting.
    #[expect(clippy::new_without_default, reason = "starting is a statement, not a default")]
    pub fn new() -> Self {
        PhaseCell(Arc::new(AtomicU8::new(Phase::Starting as u8)))
    }

    /// The node is there now.
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    /// Where the node is.
    pub fn phase(&self) -> Phase {
        [Phase::Starting, Phase::Serving, Phase::Ending][usize::from(self.0.load(Ordering::Relaxed))]
    }
}

/// Answers on `listener` from now on, until the process ends.
///
/// # Errors
/// When the kernel gives no thread.
pub fn start<S: Service>(
    listener: StdListener,
    mesh: Mesh<S>,
    metrics: Arc<[CoreMetrics]>,
    rates: Arc<Rates>,
    phase: PhaseCell,
) -> io::Result<()> {
    thread::Builder::new().name("admin".into()).spawn(move || {
        let runtime = match cores::new_runtime() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "no admin listener"),
        };
        runtime.block_on(async {
            let observer = mesh.observer();
            let _mesh = compio::runtime::spawn(observer.serve());
            let may_change = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
            let rates = RatePages { rates, may_change };
            let admin = Rc::new(Admin { observer, mesh, metrics, rates, phase });
            admin.accept(listener).await;
        });
    })?;
    Ok(())
}

struct Admin<S: Service> {
    observer: MeshHandle<S>,
    mesh: Mesh<S>,
    metrics: Arc<[CoreMetrics]>,
    rates: RatePages,
    phase: PhaseCell,
}

impl<S: Service> Admin<S> {
    async fn accept(self: Rc<Self>, listener: StdListener) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "no admin listener"),
        };
        loop {
            match listener.accept().await {
                // Every connection holds one reference; `self` and the loop's caller hold the first.
                Ok(_) if Rc::strong_count(&self) > CONNECTIONS_MAX => {}
                Ok((socket, _)) => {
                    let admin = self.clone();
                    let answer = async move |request: http::Request| admin.answer(&request).await;
                    compio::runtime::spawn(http::serve(socket, answer)).detach();
                }
                Err(_) => compio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn answer(&self, request: &http::Request) -> http::Answer {
        let path = request.path.as_str();
        if path == "/rates" || path.starts_with("/rates/") {
            return self.rates.answer(request);
        }
        if request.method != http::Method::Get {
            return http::Answer::text(405, "only GET and HEAD\n");
        }
        match path {
            "/healthz" => self.health().await,
            "/metrics" => {
                http::Answer { status: 200, content_type: METRICS_TYPE, body: self.metrics().await }
            }
            _ => http::Answer::text(404, "not found; there are /healthz, /metrics and /rates\n"),
        }
    }

    /// Well when the node serves and every core answers through the mesh.
    async fn health(&self) -> http::Answer {
        match self.phase.phase() {
            Phase::Starting => return http::Answer::text(503, "starting\n"),
            Phase::Ending => return http::Answer::text(503, "ending\n"),
            Phase::Serving => {}
        }
        let answers = self.ask_all(|_| ()).await;
        let hung: Vec<String> =
            answers.iter().filter(|(_, answer)| answer.is_none()).map(|(core, _)| core.to_string()).collect();
        if hung.is_empty() {
            return http::Answer::text(200, "ok\n");
        }
        http::Answer::text(
            503,
            &format!("no answer within {ANSWER_TIMEOUT:?} from core {}\n", hung.join(", ")),
        )
    }

    async fn metrics(&self) -> String {
        let mut out = Exposition::new();
        metrics::render_cores(&self.metrics, &mut out);
        self.rates.rates.render(&mut out);
        let mut samples = Vec::new();
        for (core, answer) in self.ask_all(|service| service.samples()).await {
            let labels = || vec![("core", core.to_string())];
            let figures = self.mesh.figures(core);
            let mut add =
                |family, value: u64| samples.push(Sample { family, labels: labels(), value: value as f64 });
            add(&CORE_UP, u64::from(answer.is_some()));
            add(&MESH_CALLS, figures.calls);
            add(&MESH_WAITS, figures.waits);
            add(&MESH_QUEUED, figures.queued as u64);
            samples.extend(answer.unwrap_or_default());
        }
        out.samples(&samples);
        out.into_string()
    }

    /// Asks all cores at once; `None` from those that don't answer in time.
    async fn ask_all<R: Send + 'static>(&self, ask: fn(&S) -> R) -> Vec<(CoreId, Option<R>)> {
        let cores = (0..self.observer.core_count()).map(CoreId::new);
        join_all(cores.map(|core| async move {
            let call = self.observer.call(core, move |service: Rc<S>| async move { ask(&service) });
            let answer = compio::time::timeout(ANSWER_TIMEOUT, call).await;
            (core, answer.ok().and_then(Result::ok))
        }))
        .await
    }
}

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

static CORE_UP: Family =
    Family { name: "basalt_core_up", help: "Whether the core answers through the mesh.", kind: Kind::Gauge };
static MESH_CALLS: Family =
    Family { name: "basalt_mesh_calls_total", help: "Calls sent to other cores.", kind: Kind::Counter };
static MESH_WAITS: Family = Family {
    name: "basalt_mesh_waits_total",
    help: "Mesh messages that had to wait for room in a full lane.",
    kind: Kind::Counter,
};
static MESH_QUEUED: Family =
    Family { name: "basalt_mesh_queued", help: "Mesh messages waiting for the core.", kind: Kind::Gauge };
