//! The tables at the end: gets beside nginx, puts beside fio, and the targets.

use std::fmt::Write;

use super::outcome::{Outcome, Sample, Work, size_name};
use super::spread::Spread;
use super::target::{self, Judgement, OTHERS_MAX};

/// Everything, ready to be shown.
pub(super) fn render(outcomes: &[Outcome]) -> String {
    let (gets, puts): (Vec<&Outcome>, Vec<&Outcome>) = outcomes.iter().partition(|it| it.case.work.is_get());
    let mut text = String::new();
    if !gets.is_empty() {
        text.push_str(&render_gets(&gets));
    }
    if !puts.is_empty() {
        text.push_str(&render_puts(&puts));
    }
    text.push_str(&render_targets(&outcomes.iter().flat_map(target::judge).collect::<Vec<_>>()));
    text.push_str(&render_notes(outcomes));
    text
}

/// Writing to a String does not fail.
macro_rules! line {
    ($text:expr, $($arguments:tt)*) => { let _ = writeln!($text, $($arguments)*); };
}

fn render_gets(outcomes: &[&Outcome]) -> String {
    let mut text =
        String::from("\nGET, medians; ratios are Basalt / nginx in the same round (least..greatest)\n");
    line!(
        text,
        "{:10} {:>7} {:>5} {:>9} {:>9} {:>19} {:>9} {:>9} {:>19} {:>7} {:>7} {:>11} {:>11} {:>6} {:>15}",
        "work",
        "size",
        "conn",
        "nginx/s",
        "basalt/s",
        "ratio",
        "nginx us",
        "basalt us",
        "ratio",
        "nginx",
        "basalt",
        "nginx s/c",
        "basalt s/c",
        "reads",
        "p99 ms n/b"
    );
    for outcome in outcomes {
        let case = outcome.case;
        let nginx = |figure: fn(&Sample) -> f64| median(outcome.nginx(figure));
        let basalt = |figure: fn(&Sample) -> f64| median(outcome.basalt(figure));
        let busy = |of: &dyn Fn(fn(&Sample) -> f64) -> f64| {
            format!("{:.0}/{:.0} %", 100.0 * of(|it| it.server_core), 100.0 * of(|it| it.client_core))
        };
        let reads =
            outcome.spread(|it| it.basalt.device_reads).map_or("-".into(), |it| format!("{:.3}", it.median));
        line!(
            text,
            "{:10} {:>7} {:>5} {:>9.0} {:>9.0} {:>19} {:>9.2} {:>9.2} {:>19} {:>7.0} {:>7.0} {:>11} {:>11} {:>6} {:>15}",
            case.work.name(),
            size_name(case.size),
            case.connections,
            nginx(|it| it.requests_per_second),
            basalt(|it| it.requests_per_second),
            ratio(outcome.ratio(|it| it.requests_per_second)),
            nginx(|it| it.cpu_us),
            basalt(|it| it.cpu_us),
            ratio(outcome.ratio(|it| it.cpu_us)),
            nginx(|it| it.bytes_per_second / 1e6),
            basalt(|it| it.bytes_per_second / 1e6),
            busy(&nginx),
            busy(&basalt),
            reads,
            format!("{:.1}/{:.1}", nginx(|it| it.p99_ms), basalt(|it| it.p99_ms)),
        );
    }
    text.push_str("us: server CPU per request; nginx, basalt: MB/s; s/c: busy part of the server's and the client's core; reads: device reads per GET\n");
    text
}

fn render_puts(outcomes: &[&Outcome]) -> String {
    let mut text = String::from("\nPUT, flushed, medians (least..greatest)\n");
    for outcome in outcomes {
        let case = outcome.case;
        let show = |spread: Option<Spread>| spread.map_or("-".into(), |it| format!("{it:.0}"));
        let basalt = |figure: fn(&Sample) -> f64| outcome.basalt(figure);
        line!(
            text,
            "{:10} {:>7} {:>4} conn: basalt {} /s, {} MB/s, CPU {} us, p99 {} ms, cores {:.0}/{:.0} % (server/client)",
            case.work.name(),
            size_name(case.size),
            case.connections,
            show(basalt(|it| it.requests_per_second)),
            show(basalt(|it| it.bytes_per_second / 1e6)),
            show(basalt(|it| it.cpu_us)),
            show(basalt(|it| it.p99_ms)),
            100.0 * median(basalt(|it| it.server_core)),
            100.0 * median(basalt(|it| it.client_core)),
        );
        let job =
            if case.work == Work::PutSmall { "4 KiB, depth 64, fdatasync=64" } else { "1 MiB, depth 8" };
        line!(
            text,
            "{:24} fio ({job}): {} /s, {} MB/s{}",
            "",
            show(outcome.spread(|it| it.fio.map(|fio| fio.writes_per_second))),
            show(outcome.spread(|it| it.fio.map(|fio| fio.bytes_per_second / 1e6))),
            outcome
                .spread(|it| it.hash_limit.map(|it| it / 1e6))
                .map_or(String::new(), |it| format!("; MD5 of as many streams on one core: {it:.0} MB/s"))
        );
    }
    text
}

fn render_targets(judgements: &[Judgement]) -> String {
    let mut text = String::from("\nTargets, by the median\n");
    for Judgement { case, figure, bound, measured, verdict } in judgements {
        line!(
            text,
            "{:10} {:>7} {:>4} conn  {:36} {:>7}  {:20} {}",
            case.work.name(),
            size_name(case.size),
            case.connections,
            figure,
            bound.to_string(),
            measured.to_string(),
            verdict
        );
    }
    if judgements.is_empty() {
        text.push_str("none for these sizes and connections\n");
    }
    text
}

/// What makes the figures worth less than they look.
fn render_notes(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes.iter().filter(|it| it.errors() > 0) {
        line!(text, "note: {}: {} requests failed", outcome.case, outcome.errors());
    }
    let full: Vec<String> =
        outcomes.iter().filter(|it| target::is_client_full(it)).map(|it| it.case.to_string()).collect();
    if !full.is_empty() {
        line!(
            text,
            "note: the client's core was full, Basalt's requests are at least these: {}",
            full.join(", ")
        );
    }
    let samples =
        || outcomes.iter().flat_map(|it| &it.rounds).flat_map(|it| [Some(it.basalt), it.nginx]).flatten();
    let server = median(Spread::of(samples().map(|it| it.server_core_others)));
    let client = median(Spread::of(samples().map(|it| it.client_core_others)));
    line!(
        text,
        "note: in the median other work took {:.0} % of the server's core and {:.0} % of the client's{}",
        100.0 * server,
        100.0 * client,
        if server.max(client) > OTHERS_MAX {
            ": THE MACHINE WAS NOT QUIET, don't quote these figures"
        } else {
            ""
        }
    );
    text
}

fn median(spread: Option<Spread>) -> f64 {
    spread.map_or(f64::NAN, |it| it.median)
}

fn ratio(spread: Option<Spread>) -> String {
    spread.map_or("-".into(), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::sample;
    use super::super::outcome::{Case, Round};
    use super::*;

    fn outcome(basalt: Sample) -> Outcome {
        let case = Case { work: Work::GetCache, size: 4096, connections: 64 };
        let round = Round { basalt, nginx: Some(sample(100.0, 10.0)), fio: None, hash_limit: None };
        Outcome { case, rounds: vec![round; 5] }
    }

    #[test]
    fn a_table_shows_ratios_and_verdicts() {
        let text = render(&[outcome(sample(150.0, 9.0))]);
        assert!(text.contains("1.50 (1.50..1.50)") && text.contains("0.90 (0.90..0.90)"), "{text}");
        assert!(text.contains("reached") && text.contains("NOT REACHED"), "{text}");
        assert!(!text.contains("NOT QUIET") && !text.contains("full"), "{text}");
    }

    #[test]
    fn a_full_client_is_told() {
        let text = render(&[outcome(Sample { client_core: 1.0, ..sample(100.0, 5.0) })]);
        assert!(text.contains("core was full") && text.contains("the client is the ceiling"), "{text}");
    }

    #[test]
    fn a_busy_machine_and_failed_requests_are_told() {
        let disturbed = Sample {
            server_core_others: 0.5,
            client_core_others: 0.5,
            client_core: 1.0,
            errors: 7,
            ..sample(150.0, 9.0)
        };
        let mut outcome = outcome(disturbed);
        for round in &mut outcome.rounds {
            round.nginx = Some(disturbed);
        }
        let text = render(&[outcome]);
        assert!(text.contains("NOT QUIET") && !text.contains("core was full"), "{text}");
        assert!(text.contains("70 requests failed") && text.contains("FAILED"), "{text}");
    }
}
