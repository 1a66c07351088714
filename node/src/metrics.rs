//! What the node counts: one [`CoreMetrics`] per core, written by that core alone and read by the admin thread.
//!
//! A counter is a relaxed atomic with a single writer, so that counting costs a load and a store and no locked
//! instruction. All label sets are fixed when the node starts: no request can add one.
//!
//! Parts above the shell add their own families through [`Sample`]s (see `Service::samples`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::stopwatch::{Stage, Times};

mod exposition;

pub use exposition::Exposition;

/// Upper bounds of the latency buckets in microseconds: 1-2.5-5 steps around what a healthy node shows (sealing in 1 to 100 us, device reads of 0.1
/// to 10 ms), and up to what a client still waits for.
pub const LATENCY_BOUNDS_US: [u64; 20] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// Status classes 1xx to 5xx.
const CLASS_COUNT: usize = 5;

/// A number that only grows. Its core is the only writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the core that owns the counter may call this.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The number so far; any thread may read it.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down. Its core is the only writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the number. Only the core that owns the gauge may call this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number now; any thread may read it.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Which of the node's operations a request was: an index into the names given to [`CoreMetrics::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationIndex(pub usize);

/// What operations have in common, as to where their time goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationClass {
    /// Objects are read, or looked at.
    Read,
    /// Objects and parts are stored.
    Write,
    /// Objects are deleted.
    Delete,
    /// Pages of names.
    List,
    /// All others, and requests that are none.
    Other,
}

impl OperationClass {
    /// All of them, in the order of their numbers.
    pub const ALL: [OperationClass; 5] = [
        OperationClass::Read,
        OperationClass::Write,
        OperationClass::Delete,
        OperationClass::List,
        OperationClass::Other,
    ];

    fn name(self) -> &'static str {
        ["read", "write", "delete", "list", "other"][self as usize]
    }
}

/// Everything that one core counts.
#[derive(Debug)]
#[repr(align(128))]
pub struct CoreMetrics {
    /// Connections open now.
    pub connections_open: Gauge,
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Failures of `accept` (out of file descriptors and the like).
    pub accept_errors: Counter,
    /// Connections ended because the peer took longer than a limit allows.
    pub connections_timed_out: Counter,
    /// TLS handshakes completed.
    pub tls_handshakes: Counter,
    /// Connections whose records the kernel makes.
    pub kernel_tls_connections: Counter,
    /// Connections that the kernel did not take, though it had offered to.
    pub kernel_tls_refusals: Counter,
    /// TLS handshakes failed, by whichever side.
    pub tls_handshake_failures: Counter,
    /// Bytes received on sockets, TLS framing included.
    pub received_bytes: Counter,
    /// Bytes sent on sockets, TLS framing included.
    pub sent_bytes: Counter,
    /// Sends that were made in place.
    pub zero_copy_sends: Counter,
    operation_names: &'static [&'static str],
    operations: Box<[OperationMetrics]>,
    /// By class and stage.
    stages: Box<[[Histogram; Stage::ALL.len()]; OperationClass::ALL.len()]>,
}

impl CoreMetrics {
    /// Zeros, for requests of the named operations.
    pub fn new(operation_names: &'static [&'static str]) -> Self {
        CoreMetrics {
            connections_open: Gauge::default(),
            connections_accepted: Counter::default(),
            accept_errors: Counter::default(),
            connections_timed_out: Counter::default(),
            tls_handshakes: Counter::default(),
            kernel_tls_connections: Counter::default(),
            kernel_tls_refusals: Counter::default(),
            tls_handshake_failures: Counter::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            zero_copy_sends: Counter::default(),
            operation_names,
            operations: operation_names.iter().map(|_| OperationMetrics::default()).collect(),
            stages: Box::default(),
        }
    }

    /// The metrics of `core_count` cores.
    pub fn for_cores(core_count: usize, operation_names: &'static [&'static str]) -> Arc<[CoreMetrics]> {
        (0..core_count).map(|_| CoreMetrics::new(operation_names)).collect()
    }

    /// Counts a request that was answered with `status` after `latency` (from its head to the last byte sent).
    pub fn count_request(&self, operation: OperationIndex, status: u16, latency: Duration) {
        let operation = &self.operations[operation.0];
        let class = usize::from(status / 100).clamp(1, CLASS_COUNT) - 1;
        operation.classes[class].add(1);
        operation.latency.record(latency);
    }

    /// Counts where the time of a request went.
    pub fn count_stages(&self, class: OperationClass, times: &Times) {
        for (histogram, stage) in self.stages[class as usize].iter().zip(Stage::ALL) {
            histogram.record_nanos(times.nanos(stage));
        }
    }

    /// Requests of an operation that were answered with a status of that class (2 for 2xx).
    pub fn requests(&self, operation: OperationIndex, class: usize) -> u64 {
        self.operations[operation.0].classes[class - 1].value()
    }
}

#[derive(Debug, Default)]
struct OperationMetrics {
    classes: [Counter; CLASS_COUNT],
    latency: Histogram,
}

/// Counts of durations in fixed buckets, the last one without a bound.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; LATENCY_BOUNDS_US.len() + 1],
    sum_ns: Counter,
}

impl Histogram {
    /// Counts a duration. Only the core that owns the histogram may call this.
    pub(crate) fn record(&self, latency: Duration) {
        self.record_nanos(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    fn record_nanos(&self, ns: u64) {
        // Most requests have nothing in some stage.
        let bucket = if ns == 0 { 0 } else { LATENCY_BOUNDS_US.partition_point(|bound| bound * 1000 < ns) };
        self.buckets[bucket].add(1);
        self.sum_ns.add(ns);
    }

    /// Renders the sum of several, unless they are empty.
    pub(crate) fn render<'a>(
        histograms: impl Iterator<Item = &'a Histogram> + Clone,
        name: &str,
        labels: &[(&str, &str)],
        out: &mut Exposition,
    ) {
        let buckets: Vec<u64> = (0..=LATENCY_BOUNDS_US.len())
            .map(|bucket| histograms.clone().map(|histogram| histogram.buckets[bucket].value()).sum())
            .collect();
        if buckets.iter().sum::<u64>() > 0 {
            let sum_ns: u64 = histograms.map(|histogram| histogram.sum_ns.value()).sum();
            out.histogram(name, labels, &LATENCY_BOUNDS_US, &buckets, sum_ns);
        }
    }
}

/// Counter or gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A family of metrics: what all its samples have in common.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// The full name, `basalt_` first, unit last, `_total` for counters.
    pub name: &'static str,
    /// One sentence on what it counts.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
}

/// One value of a family that a part above the shell exports.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The family; samples of one family are rendered together, whoever exports them.
    pub family: &'static Family,
    /// Label names and values; from a small fixed set, never from requests.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// Renders what the cores counted.
pub fn render_cores(cores: &[CoreMetrics], out: &mut Exposition) {
    render_per_core(cores, out, &CONNECTIONS_OPEN, |core| core.connections_open.value());
    render_per_core(cores, out, &CONNECTIONS_ACCEPTED, |core| core.connections_accepted.value());
    render_per_core(cores, out, &ACCEPT_ERRORS, |core| core.accept_errors.value());
    render_per_core(cores, out, &CONNECTIONS_TIMED_OUT, |core| core.connections_timed_out.value());
    render_per_core(cores, out, &TLS_HANDSHAKES, |core| core.tls_handshakes.value());
    render_per_core(cores, out, &TLS_HANDSHAKE_FAILURES, |core| core.tls_handshake_failures.value());
    render_tls_connections(cores, out);
    render_per_core(cores, out, &KERNEL_TLS_REFUSALS, |core| core.kernel_tls_refusals.value());
    render_per_core(cores, out, &RECEIVED_BYTES, |core| core.received_bytes.value());
    render_per_core(cores, out, &SENT_BYTES, |core| core.sent_bytes.value());
    render_per_core(cores, out, &ZERO_COPY_SENDS, |core| core.zero_copy_sends.value());
    render_requests(cores, out);
    render_latency(cores, out);
    render_stages(cores, out);
}

fn render_per_core(
    cores: &[CoreMetrics],
    out: &mut Exposition,
    family: &Family,
    value: impl Fn(&CoreMetrics) -> u64,
) {
    out.family(family);
    for (index, core) in cores.iter().enumerate() {
        out.sample(family.name, &[("core", &index.to_string())], value(core) as f64);
    }
}

/// By who makes the records.
fn render_tls_connections(cores: &[CoreMetrics], out: &mut Exposition) {
    out.family(&TLS_CONNECTIONS);
    for (index, core) in cores.iter().enumerate() {
        let by_kernel = core.kernel_tls_connections.value();
        // A scrape may fall between the two counts.
        let by_node = core.tls_handshakes.value().saturating_sub(by_kernel);
        for (records, value) in [("node", by_node), ("kernel", by_kernel)] {
            let labels = [("core", &*index.to_string()), ("records", records)];
            out.sample(TLS_CONNECTIONS.name, &labels, value as f64);
        }
    }
}

fn render_requests(cores: &[CoreMetrics], out: &mut Exposition) {
    const CLASSES: [&str; CLASS_COUNT] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    out.family(&REQUESTS);
    let names = cores.first().map_or(&[][..], |core| core.operation_names);
    for (operation, name) in names.iter().enumerate() {
        for (class, class_name) in CLASSES.iter().enumerate() {
            let total: u64 = cores.iter().map(|core| core.operations[operation].classes[class].value()).sum();
            if total > 0 {
                out.sample(REQUESTS.name, &[("operation", name), ("status", class_name)], total as f64);
            }
        }
    }
}

fn render_latency(cores: &[CoreMetrics], out: &mut Exposition) {
    const NAME: &str = "basalt_request_duration_seconds";
    out.histogram_family(NAME, "Time from a request's head to the last byte of its response.");
    let names = cores.first().map_or(&[][..], |core| core.operation_names);
    for (operation, name) in names.iter().enumerate() {
        let histograms = cores.iter().map(|core| &core.operations[operation].latency);
        Histogram::render(histograms, NAME, &[("operation", name)], out);
    }
}

fn render_stages(cores: &[CoreMetrics], out: &mut Exposition) {
    const NAME: &str = "basalt_request_stage_seconds";
    out.histogram_family(
        NAME,
        "Time that requests spent in each stage, by class of operation; the stages of a request add up to its duration.",
    );
    for class in OperationClass::ALL {
        for stage in Stage::ALL {
            let histograms = cores.iter().map(|core| &core.stages[class as usize][stage as usize]);
            let labels = [("class", class.name()), ("stage", stage.name())];
            Histogram::render(histograms, NAME, &labels, out);
        }
    }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: Kind::Counter }
}

static CONNECTIONS_OPEN: Family =
    Family { name: "basalt_connections_open", help: "Connections open now.", kind: Kind::Gauge };
static CONNECTIONS_ACCEPTED: Family = counter("basalt_connections_accepted_total", "Connections accepted.");
static ACCEPT_ERRORS: Family = counter("basalt_accept_errors_total", "Failures to accept a connection.");
static CONNECTIONS_TIMED_OUT: Family =
    counter("basalt_connections_timed_out_total", "Connections ended because the peer was too slow.");
static TLS_HANDSHAKES: Family = counter("basalt_tls_handshakes_total", "TLS handshakes completed.");
static TLS_HANDSHAKE_FAILURES: Family =
    counter("basalt_tls_handshake_failures_total", "TLS handshakes that failed.");
static TLS_CONNECTIONS: Family = counter(
    "basalt_tls_connections_total",
    "Connections after their TLS handshake, by who seals and opens their records.",
);
static KERNEL_TLS_REFUSALS: Family = counter(
    "basalt_kernel_tls_refusals_total",
    "Connections that the kernel did not take, though it offers TLS.",
);
static RECEIVED_BYTES: Family = counter(
    "basalt_received_bytes_total",
    "Bytes received on sockets, TLS included unless the kernel makes the records.",
);
static SENT_BYTES: Family = counter(
    "basalt_sent_bytes_total",
    "Bytes sent on sockets, TLS included unless the kernel makes the records.",
);
static ZERO_COPY_SENDS: Family = counter(
    "basalt_zero_copy_sends_total",
    "Sends that the kernel was asked to make in place (it may copy all the same).",
);
static REQUESTS: Family =
    counter("basalt_requests_total", "Requests answered, by operation and status class.");

#[cfg(test)]
mod tests {
    use super::*;

    static NAMES: [&str; 2] = ["GetObject", "PutObject"];

    fn rendered(cores: &[CoreMetrics]) -> String {
        let mut out = Exposition::new();
        render_cores(cores, &mut out);
        out.into_string()
    }

    #[test]
    fn requests_of_all_cores_add_up_by_operation_and_class() {
        let cores = CoreMetrics::for_cores(2, &NAMES);
        cores[0].count_request(OperationIndex(0), 200, Duration::from_micros(90));
        cores[1].count_request(OperationIndex(0), 206, Duration::from_micros(90));
        cores[1].count_request(OperationIndex(1), 503, Duration::from_micros(90));
        let text = rendered(&cores);
        assert!(text.contains("basalt_requests_total{operation=\"GetObject\",status=\"2xx\"} 2\n"), "{text}");
        assert!(text.contains("basalt_requests_total{operation=\"PutObject\",status=\"5xx\"} 1\n"), "{text}");
        assert!(!text.contains("status=\"4xx\""), "{text}");
    }

    #[test]
    fn buckets_are_cumulative_and_a_bound_belongs_to_its_bucket() {
        let cores = CoreMetrics::for_cores(1, &NAMES);
        for us in [100, 101, 31_000_000] {
            cores[0].count_request(OperationIndex(0), 200, Duration::from_micros(us));
        }
        let text = rendered(&cores);
        let bucket = |le: &str| {
            format!("basalt_request_duration_seconds_bucket{{operation=\"GetObject\",le=\"{le}\"}}")
        };
        assert!(text.contains(&format!("{} 1\n", bucket("0.0001"))), "{text}");
        assert!(text.contains(&format!("{} 2\n", bucket("0.00025"))), "{text}");
        assert!(text.contains(&format!("{} 2\n", bucket("30"))), "{text}");
        assert!(text.contains(&format!("{} 3\n", bucket("+Inf"))), "{text}");
        assert!(
            text.contains("basalt_request_duration_seconds_count{operation=\"GetObject\"} 3\n"),
            "{text}"
        );
        assert!(
            text.contains("basalt_request_duration_seconds_sum{operation=\"GetObject\"} 31.000201\n"),
            "{text}"
        );
    }

    #[test]
    fn every_tls_connection_is_counted_once_by_who_makes_its_records() {
        let cores = CoreMetrics::for_cores(1, &NAMES);
        cores[0].tls_handshakes.add(5);
        cores[0].kernel_tls_connections.add(2);
        let text = rendered(&cores);
        for (records, count) in [("node", 3), ("kernel", 2)] {
            let line = format!("basalt_tls_connections_total{{core=\"0\",records=\"{records}\"}} {count}\n");
            assert!(text.contains(&line), "{text}");
        }
    }

    #[test]
    fn a_status_outside_the_classes_is_counted_in_the_nearest() {
        let metrics = CoreMetrics::new(&NAMES);
        metrics.count_request(OperationIndex(0), 999, Duration::ZERO);
        metrics.count_request(OperationIndex(0), 0, Duration::ZERO);
        assert_eq!((metrics.requests(OperationIndex(0), 5), metrics.requests(OperationIndex(0), 1)), (1, 1));
    }
}
