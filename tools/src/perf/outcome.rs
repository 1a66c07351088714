//! What was measured of one case, round by round.

use std::fmt;

use serde_json::{Value, json};

use super::spread::Spread;
use super::window::Usage;
use super::{fio, wrk};

/// From this size on bytes are counted instead of answers: there are few, and many half sent at either end of a run.
/// What TLS and heads add is a thousandth and a half, the same for all servers.
const COUNT_BYTES_FROM: u64 = 1 << 20;

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    GetCache,
    GetDevice,
    PutSmall,
    PutLarge,
}

impl Work {
    pub fn name(self) -> &'static str {
        match self {
            Work::GetCache => "get-cache",
            Work::GetDevice => "get-device",
            Work::PutSmall => "put-small",
            Work::PutLarge => "put-large",
        }
    }

    pub fn is_get(self) -> bool {
        matches!(self, Work::GetCache | Work::GetDevice)
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub work: Work,
    pub size: u64,
    pub connections: u32,
}

impl Case {
    /// Whether requests are worked out from bytes.
    pub fn is_counted_in_bytes(self) -> bool {
        self.size >= COUNT_BYTES_FROM
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} x{}", self.work.name(), size_name(self.size), self.connections)
    }
}

/// `4 KiB`
pub(super) fn size_name(size: u64) -> String {
    if size.is_multiple_of(1 << 20) { format!("{} MiB", size >> 20) } else { format!("{} KiB", size >> 10) }
}

/// One server under one load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub requests_per_second: f64,
    /// Of objects, heads not counted.
    pub bytes_per_second: f64,
    /// Microseconds of the server's process.
    pub cpu_us: f64,
    /// Busy parts of the two cores, 0 to 1, and what of that neither server nor client took.
    pub server_core: f64,
    pub client_core: f64,
    pub server_core_others: f64,
    pub client_core_others: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub errors: u64,
    /// Per GET.
    pub device_reads: Option<f64>,
}

impl Sample {
    /// `None` when no request was answered.
    pub fn of(case: Case, figures: &wrk::Figures, usage: &Usage) -> Option<Self> {
        let requests = match case.work {
            _ if !case.is_counted_in_bytes() => usage.requests,
            Work::GetCache | Work::GetDevice => usage.read_bytes / case.size as f64,
            Work::PutSmall | Work::PutLarge => usage.written_bytes / case.size as f64,
        };
        if requests == 0.0 {
            return None;
        }
        let wall = usage.wall.as_secs_f64();
        let requests_per_second = requests / wall;
        Some(Self {
            requests_per_second,
            bytes_per_second: requests_per_second * case.size as f64,
            cpu_us: usage.server_seconds * 1e6 / requests,
            server_core: usage.server_core,
            client_core: usage.client_core,
            server_core_others: (usage.server_core - usage.server_seconds / wall).max(0.0),
            client_core_others: (usage.client_core - usage.client_seconds / wall).max(0.0),
            p50_ms: figures.p50_ms,
            p99_ms: figures.p99_ms,
            errors: figures.errors,
            device_reads: None,
        })
    }

    fn to_json(self) -> Value {
        json!({
            "requests_per_second": self.requests_per_second,
            "bytes_per_second": self.bytes_per_second,
            "server_cpu_us_per_request": self.cpu_us,
            "server_core_busy": self.server_core,
            "client_core_busy": self.client_core,
            "server_core_others": self.server_core_others,
            "client_core_others": self.client_core_others,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "errors": self.errors,
            "device_reads_per_get": self.device_reads,
        })
    }
}

/// One round: Basalt, and what it is compared with, one right after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub basalt: Sample,
    pub nginx: Option<Sample>,
    pub fio: Option<fio::Figures>,
    /// Bytes per second that one core hashes of as many streams as there are connections.
    pub hash_limit: Option<f64>,
}

/// All rounds of a case.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub case: Case,
    pub rounds: Vec<Round>,
}

impl Outcome {
    /// Of a figure that every round has; `None` when a round lacks it.
    pub fn spread(&self, figure: impl Fn(&Round) -> Option<f64>) -> Option<Spread> {
        let figures: Option<Vec<f64>> = self.rounds.iter().map(figure).collect();
        Spread::of(figures?)
    }

    /// Of Basalt's figure by nginx's, compared round by round: what disturbs a machine for long disturbs both.
    pub fn ratio(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        self.spread(|round| Some(figure(&round.basalt) / figure(round.nginx.as_ref()?)))
    }

    pub fn basalt(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        self.spread(|round| Some(figure(&round.basalt)))
    }

    pub fn nginx(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        self.spread(|round| round.nginx.as_ref().map(&figure))
    }

    /// Answers of any server that were none.
    pub fn errors(&self) -> u64 {
        let of = |round: &Round| round.basalt.errors + round.nginx.map_or(0, |it| it.errors);
        self.rounds.iter().map(of).sum()
    }

    pub fn to_json(&self) -> Value {
        let round = |round: &Round| {
            json!({
                "basalt": round.basalt.to_json(),
                "nginx": round.nginx.map(Sample::to_json),
                "fio_writes_per_second": round.fio.map(|it| it.writes_per_second),
                "fio_bytes_per_second": round.fio.map(|it| it.bytes_per_second),
                "hash_limit_bytes_per_second": round.hash_limit,
            })
        };
        json!({
            "work": self.case.work.name(),
            "size": self.case.size,
            "connections": self.case.connections,
            "rounds": self.rounds.iter().map(round).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    /// So many requests per second, each of so many microseconds.
    pub(in crate::perf) fn sample(requests_per_second: f64, cpu_us: f64) -> Sample {
        Sample {
            requests_per_second,
            bytes_per_second: requests_per_second * 4096.0,
            cpu_us,
            server_core: 0.9,
            client_core: 0.8,
            server_core_others: 0.0,
            client_core_others: 0.0,
            p50_ms: 1.0,
            p99_ms: 2.0,
            errors: 0,
            device_reads: None,
        }
    }

    const USAGE: Usage = Usage {
        wall: Duration::from_secs(4),
        requests: 200.0,
        read_bytes: (64 << 20) as f64,
        written_bytes: (128 << 20) as f64,
        server_seconds: 2.0,
        client_seconds: 3.0,
        server_core: 0.75,
        client_core: 1.0,
    };

    const FIGURES: wrk::Figures = wrk::Figures { p50_ms: 1.0, p99_ms: 2.0, errors: 0 };

    #[test]
    fn cpu_per_request_is_of_the_requests_that_were_answered() {
        let case = Case { work: Work::GetCache, size: 4096, connections: 64 };
        let sample = Sample::of(case, &FIGURES, &USAGE).unwrap();
        assert_eq!((sample.requests_per_second, sample.cpu_us), (50.0, 10_000.0));
        assert_eq!((sample.server_core_others, sample.client_core_others), (0.25, 0.25));
        assert_eq!(Sample::of(case, &FIGURES, &Usage { requests: 0.0, ..USAGE }), None);
    }

    #[test]
    fn large_objects_are_counted_by_the_bytes_that_go_their_way() {
        let get = Case { work: Work::GetDevice, size: 16 << 20, connections: 64 };
        assert_eq!(Sample::of(get, &FIGURES, &USAGE).unwrap().requests_per_second, 1.0);
        let put = Case { work: Work::PutLarge, ..get };
        assert_eq!(Sample::of(put, &FIGURES, &USAGE).unwrap().requests_per_second, 2.0);
    }

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        let round = |basalt, nginx| Round {
            basalt: sample(basalt, 1.0),
            nginx: Some(sample(nginx, 1.0)),
            fio: None,
            hash_limit: None,
        };
        let case = Case { work: Work::GetCache, size: 4096, connections: 64 };
        // The second round was disturbed, both servers alike.
        let outcome =
            Outcome { case, rounds: vec![round(200.0, 100.0), round(20.0, 10.0), round(220.0, 100.0)] };
        let ratio = outcome.ratio(|it| it.requests_per_second).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.0, 2.0, 2.2));
        let without = Outcome { case, rounds: vec![Round { nginx: None, ..round(1.0, 1.0) }] };
        assert_eq!(without.ratio(|it| it.cpu_us), None);
    }
}
