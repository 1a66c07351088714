//! The report as one page: tables, and plots as SVG drawn here. It loads nothing, so it can be mailed and kept.

use std::fmt::Write;

use super::Report;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 40.0;
/// Told apart by people who see colours differently, too (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --line: #ccc }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --paper: #181818; --line: #444 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 900px; margin: 2em auto; padding: 0 1em }
pre { overflow-x: auto; font-size: 13px } h2 { margin-bottom: .2em }
svg { width: 100%; height: auto } svg text { fill: var(--ink); font: 12px system-ui, sans-serif }
svg .grid { stroke: var(--line); stroke-width: 1 } svg .curve { fill: none; stroke-width: 1.8 }
.bad { color: #c22; font-weight: bold }";

pub(super) fn page(report: &Report) -> String {
    let mut out = String::new();
    let title = escape(&report.name);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>loadtest: {title}</title><style>{STYLE}</style></head><body>\n\
         <h1>{title}</h1>\n<p>{}</p>\n",
        escape(&report.scenario.about)
    );
    if report.verification_failures > 0 {
        let _ = writeln!(out, "<p class=\"bad\">{} answers were wrong.</p>", report.verification_failures);
    }
    let _ = writeln!(
        out,
        "<p>{} &middot; {}</p>\n<pre>{}</pre>",
        escape(&report.endpoint),
        escape(&report.started_at),
        escape(&report.to_string())
    );
    percentiles(report).draw(&mut out);
    over_time(report, "Throughput over time", "operations a second", |row| row.per_second).draw(&mut out);
    over_time(report, "p99 over time", "ms", |row| row.p99_us as f64 / 1e3).draw(&mut out);
    over_time(report, "Slowest over time", "ms", |row| row.max_us as f64 / 1e3).draw(&mut out);
    let settings = toml::to_string(&report.scenario).unwrap_or_default();
    let _ = write!(out, "<h2>Scenario</h2>\n<pre>{}</pre>\n</body></html>\n", escape(&settings));
    out
}

struct Plot {
    title: String,
    unit: &'static str,
    curves: Vec<(String, Vec<(f64, f64)>)>,
    /// Labelled places on the horizontal axis.
    ticks: Vec<(f64, String)>,
    is_logarithmic: bool,
}

/// Latency by percentile, with as much room for 99 to 99.9 as for 90 to 99.
fn percentiles(report: &Report) -> Plot {
    let nines = |quantile: f64| -(1.0 - quantile).max(1e-9).log10();
    let curves = report.curves.iter().map(|curve| {
        let points = curve.points.iter().map(|(quantile, micros)| (nines(*quantile), *micros as f64 / 1e3));
        (curve.operation.clone(), points.collect())
    });
    let labels = [
        (0.0, "0"),
        (0.5, "50"),
        (0.9, "90"),
        (0.99, "99"),
        (0.999, "99.9"),
        (0.9999, "99.99"),
        (0.99999, "99.999"),
    ];
    Plot {
        title: "Latency by percentile".into(),
        unit: "ms",
        curves: curves.collect(),
        ticks: labels.iter().map(|(quantile, label)| (nines(*quantile), format!("{label} %"))).collect(),
        is_logarithmic: true,
    }
}

/// The rounds one after the other.
fn over_time(report: &Report, title: &str, unit: &'static str, pick: fn(&super::PointRow) -> f64) -> Plot {
    let starts: Vec<f64> = report
        .rounds
        .iter()
        .scan(0.0, |sum, round| {
            let start = *sum;
            *sum += round.seconds;
            Some(start)
        })
        .collect();
    let curve = |name: &String| {
        let points = report.timeline.iter().filter_map(|point| {
            let row = point.operations.iter().find(|row| row.operation == *name)?;
            Some((starts.get(point.round as usize - 1)? + point.at_seconds, pick(row)))
        });
        (name.clone(), points.collect())
    };
    let length: f64 = report.rounds.iter().map(|round| round.seconds).sum();
    let step = nice_step(length);
    let ticks = (0..=(length / step) as u32).map(|count| f64::from(count) * step);
    Plot {
        title: title.into(),
        unit,
        curves: report.total.operations.iter().map(|row| curve(&row.operation)).collect(),
        ticks: ticks.map(|at| (at, format!("{at} s"))).collect(),
        is_logarithmic: false,
    }
}

impl Plot {
    fn draw(&self, out: &mut String) {
        let points = || self.curves.iter().flat_map(|(_, points)| points);
        let _ = writeln!(out, "<h2>{}</h2>", escape(&self.title));
        if points().next().is_none() {
            out.push_str("<p>No operations.</p>\n");
            return;
        }
        let x_max = points().map(|point| point.0).fold(1e-9, f64::max);
        let (low, high) = self.vertical_range();
        let x = |value: f64| LEFT + value / x_max * (WIDTH - LEFT - RIGHT);
        let scale = |value: f64| if self.is_logarithmic { value.max(1e-6).log10() } else { value };
        let (scaled_low, scaled_high) = (scale(low), scale(high));
        let y = |value: f64| {
            HEIGHT
                - BOTTOM
                - (scale(value) - scaled_low) / (scaled_high - scaled_low) * (HEIGHT - TOP - BOTTOM)
        };
        let _ = writeln!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title)
        );
        for (value, label) in self.vertical_ticks(low, high) {
            let at = y(value);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0
            );
        }
        for (value, label) in self.ticks.iter().filter(|(value, _)| *value <= x_max * 1.0001) {
            let at = x(*value);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 18.0
            );
        }
        let _ = writeln!(out, "<text x=\"4\" y=\"12\">{}</text>", self.unit);
        for (index, (name, points)) in self.curves.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let path: String =
                points.iter().map(|(at, value)| format!("{:.1},{:.1} ", x(*at), y(*value))).collect();
            let _ = writeln!(out, "<polyline class=\"curve\" stroke=\"{colour}\" points=\"{path}\"/>");
            for (at, value) in points {
                let _ = writeln!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.2\" fill=\"{colour}\"><title>{}: {value:.3} {}</title></circle>",
                    x(*at),
                    y(*value),
                    escape(name),
                    self.unit
                );
            }
            let legend_x = LEFT + 10.0 + 110.0 * index as f64;
            let _ = writeln!(
                out,
                "<rect x=\"{legend_x}\" y=\"{:.1}\" width=\"12\" height=\"4\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                HEIGHT - 8.0,
                legend_x + 16.0,
                HEIGHT - 3.0,
                escape(name)
            );
        }
        out.push_str("</svg>\n");
    }

    fn vertical_range(&self) -> (f64, f64) {
        let values = || self.curves.iter().flat_map(|(_, points)| points).map(|point| point.1);
        let high = values().fold(0.0, f64::max);
        if !self.is_logarithmic {
            return (0.0, if high > 0.0 { high * 1.05 } else { 1.0 });
        }
        let low = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        let low = 10_f64.powf(low.max(1e-3).log10().floor());
        (low, 10_f64.powf(high.max(low * 1.1).log10().ceil()))
    }

    fn vertical_ticks(&self, low: f64, high: f64) -> Vec<(f64, String)> {
        if self.is_logarithmic {
            let decades = (low.log10().round() as i32)..=(high.log10().round() as i32);
            return decades.map(|power| (10_f64.powi(power), format!("{}", 10_f64.powi(power)))).collect();
        }
        let step = nice_step(high);
        let digits = (-step.log10().floor()).max(0.0) as usize;
        (0..=(high / step) as u32)
            .map(|count| f64::from(count) * step)
            .map(|at| (at, format!("{at:.digits$}")))
            .collect()
    }
}

/// 1, 2 or 5 times a power of ten, so that some six of it fill the length.
fn nice_step(length: f64) -> f64 {
    let raw = (length / 6.0).max(1e-9);
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= raw).unwrap_or(10.0);
    factor * power
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_numbers() {
        for (length, step) in [(10.0, 2.0), (60.0, 10.0), (5.0, 1.0), (0.3, 0.05)] {
            assert!((nice_step(length) / step - 1.0).abs() < 1e-9, "{length}: {}", nice_step(length));
        }
    }
}
