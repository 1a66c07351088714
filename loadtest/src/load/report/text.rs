//! The report for people.

use std::fmt;

use super::{Latency, Report, Row, WAIT_RATIO_MAX};
use crate::load::compare::{median, spread};

/// Above this the generator is what was measured.
const BUSY_MAX: f64 = 0.9;
/// A generator that is later than this is short of processor time.
const LAG_US_MAX: u64 = 1000;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_head(f)?;
        writeln!(
            f,
            "\n              done       op/s     MiB/s   | ms: mean      p50      p90      p99    p99.9      max"
        )?;
        for row in &self.total.operations {
            write_row(f, row)?;
        }
        self.write_rounds(f)?;
        self.write_open_loop(f)?;
        self.write_failures(f)?;
        self.write_effort(f)
    }
}

impl Report {
    fn write_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scenario = &self.scenario;
        let pace = match scenario.rate {
            Some(rate) => format!("open loop at {rate} op/s"),
            None => "closed loop".into(),
        };
        writeln!(f, "{}: {pace}, {} connections, {} threads", self.name, scenario.connections, self.threads)?;
        writeln!(f, "{}, {}", self.endpoint, self.protocol)?;
        writeln!(
            f,
            "{} rounds of {} after {} of warm-up, {} buckets of {} keys, {:.0} % of bodies verified byte by byte, seed {}",
            self.rounds.len(),
            scenario.duration,
            scenario.warm_up,
            scenario.buckets,
            scenario.keys,
            scenario.verify * 100.0,
            self.seed
        )
    }

    fn write_rounds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rounds.len() < 2 {
            return Ok(());
        }
        for row in &self.total.operations {
            let of = |pick: fn(&Row) -> f64| -> Vec<f64> {
                let rows = self.rounds.iter().flat_map(|round| &round.operations);
                rows.filter(|it| it.operation == row.operation).map(pick).collect()
            };
            let (rates, p99s) = (of(|row| row.per_second), of(|row| row.latency_us.p99 as f64 / 1e3));
            let list = |values: &[f64], digits: usize| {
                values.iter().map(|value| format!("{value:.digits$}")).collect::<Vec<_>>().join(" ")
            };
            writeln!(
                f,
                "  {} by round: op/s {} (median {:.0}, spread {:.1} %), p99 ms {} (median {:.3}, spread {:.1} %)",
                row.operation,
                list(&rates, 0),
                median(&rates),
                100.0 * spread(&rates),
                list(&p99s, 3),
                median(&p99s),
                100.0 * spread(&p99s)
            )?;
        }
        Ok(())
    }

    fn write_open_loop(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(rate) = self.scenario.rate else { return Ok(()) };
        let achieved: f64 = self.total.operations.iter().map(|row| row.per_second).sum();
        let unsent: u64 = self.total.operations.iter().map(|row| row.unsent).sum();
        writeln!(f, "rate: {achieved:.1} op/s achieved of {rate} ({:.1} %)", 100.0 * achieved / rate)?;
        if unsent > 0 {
            writeln!(
                f,
                "never sent, for want of a free connection: {unsent} (in the latency with the time they had waited)"
            )?;
        }
        writeln!(f, "counted from the real start instead, which omits waiting for a free connection:")?;
        for row in &self.total.operations {
            if let Some(service) = &row.service_us {
                write!(f, "{:10}{:32}|", row.operation, "")?;
                write_latency(f, service)?;
            }
        }
        Ok(())
    }

    fn write_failures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.failures.is_empty() {
            writeln!(f, "failures: none")?;
        }
        for row in &self.failures {
            writeln!(f, "failures: {} x {}, first: {}\n  {}", row.count, row.kind, row.example, row.advice)?;
        }
        match &self.aborted {
            Some(reason) => writeln!(f, "ENDED EARLY: {reason}"),
            None => Ok(()),
        }
    }

    fn write_effort(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = &self.total.client;
        write!(
            f,
            "client: {:.2} us of CPU per request, threads {:.0} % busy, {} reconnects",
            client.cpu_us_per_request,
            client.busy * 100.0,
            client.reconnects
        )?;
        if self.scenario.rate.is_some() {
            write!(f, "; sent late by {} us at p99, {} us at most", client.lag_p99_us, client.lag_max_us)?;
        }
        writeln!(f)?;
        if let (Some(cpu), Some(ratio)) = (self.total.server_cpu_us_per_request, self.total.server_wait_ratio)
        {
            writeln!(
                f,
                "server: {cpu:.2} us of CPU per request; it waited for a CPU {ratio:.2} times as long as it ran"
            )?;
            if ratio > WAIT_RATIO_MAX {
                writeln!(
                    f,
                    "WARNING: the server shared its CPUs with others, and that is part of these figures"
                )?;
            }
        }
        if client.lag_p99_us > LAG_US_MAX {
            writeln!(
                f,
                "WARNING: the client itself was late, and that is part of these latencies. Give it cores that nobody else uses"
            )?;
        }
        if client.busy > BUSY_MAX {
            writeln!(
                f,
                "WARNING: the client was busy all the time: these are its own limits. Give it more --threads and free cores"
            )?;
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    write!(
        f,
        "{:10}{:9} {:10.0} {:9.1}  |",
        row.operation, row.completed, row.per_second, row.mib_per_second
    )?;
    write_latency(f, &row.latency_us)?;
    if row.missing > 0 {
        writeln!(f, "  of them, keys that had been deleted: {}", row.missing)?;
    }
    Ok(())
}

fn write_latency(f: &mut fmt::Formatter<'_>, latency: &Latency) -> fmt::Result {
    let Latency { mean, p50, p90, p99, p999, max, .. } = latency;
    write!(f, "{:9.3}", mean / 1e3)?;
    for micros in [p50, p90, p99, p999, max] {
        write!(f, "{:9.3}", *micros as f64 / 1e3)?;
    }
    writeln!(f)
}
