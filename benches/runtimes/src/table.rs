//! The table: medians of rounds, and from which to which they went.

use crate::contender::Contender;
use crate::load::Load;
use crate::rounds::Sample;

/// What became of one contender under one load.
pub enum Outcome {
    /// Its rounds.
    Measured(Vec<Sample>),
    /// Why it has none.
    Failed(String),
}

/// One table, in Markdown.
pub fn render(load: Load, outcomes: &[(Contender, Outcome)]) -> String {
    let mut text = format!("{}\n\n", load.title());
    text.push_str("| | operations/s | CPU us/operation | its core busy |");
    text.push_str(if load == Load::Serve { " client's core busy |\n" } else { "\n" });
    text.push_str("|---|---|---|---|");
    text.push_str(if load == Load::Serve { "---|\n" } else { "\n" });
    for (contender, outcome) in outcomes {
        let row = match outcome {
            Outcome::Measured(samples) => cells(samples),
            Outcome::Failed(why) => format!("not measured: {why} | | |"),
        };
        text.push_str(&format!("| {} | {row}\n", contender.title()));
    }
    text
}

fn cells(samples: &[Sample]) -> String {
    let spread = |of: fn(&Sample) -> f64| Spread::of(samples.iter().map(of).collect());
    let rate = spread(|sample| sample.figures.rate());
    let cpu = spread(|sample| sample.figures.cpu_micros());
    let busy =
        spread(|sample| 100.0 * sample.figures.cpu.as_secs_f64() / sample.figures.elapsed.as_secs_f64());
    let mut text = format!("{} | {} | {:.0} % |", rate.text(0), cpu.text(2), busy.median);
    if samples.iter().all(|sample| sample.client.is_some()) {
        let client = spread(|sample| 100.0 * sample.client.unwrap_or(f64::NAN));
        text.push_str(&format!(" {:.0} % |", client.median));
    }
    text
}

/// A median, and the least and the greatest.
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (values[0], values[values.len() - 1]);
        let (below, above) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Spread { median: f64::midpoint(below, above), least, greatest }
    }

    fn text(&self, decimals: usize) -> String {
        let Spread { median, least, greatest } = self;
        format!("{median:.decimals$} ({least:.decimals$}..{greatest:.decimals$})")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::meter::Figures;

    fn sample(operations: u64, client: Option<f64>) -> Sample {
        let figures =
            Figures { operations, elapsed: Duration::from_secs(1), cpu: Duration::from_millis(500) };
        Sample { figures, client }
    }

    #[test]
    fn a_median_of_an_even_count_lies_between() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 3.0, 2.0]).text(1), "2.5 (1.0..4.0)");
        assert_eq!(Spread::of(vec![4.0, 1.0, 3.0]).text(0), "3 (1..4)");
    }

    #[test]
    fn a_contender_that_failed_is_in_the_table_with_the_reason() {
        let outcomes = [
            (Contender::Compio, Outcome::Measured(vec![sample(1000, None), sample(500, None)])),
            (Contender::Glommio, Outcome::Failed("no memory".into())),
        ];
        let table = render(Load::Read, &outcomes);
        assert!(table.contains("| 750 (500..1000) | 750.00 (500.00..1000.00) | 50 % |"), "{table}");
        assert!(table.contains("not measured: no memory"), "{table}");
    }

    #[test]
    fn the_clients_share_is_told_where_there_is_one() {
        let outcomes = [(Contender::Plain, Outcome::Measured(vec![sample(1000, Some(0.25))]))];
        assert!(render(Load::Serve, &outcomes).contains("| 50 % | 25 % |"));
    }
}
