//! The run as a log of HdrHistogram, version 1.3: a line per interval and operation, microseconds, for HistogramLogAnalyzer
//! and every other reader of that format.

use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::named;
use crate::load::phase::Outcome;
use crate::load::scenario::Scenario;

pub(super) fn log(outcomes: &[Outcome], scenario: &Scenario) -> Vec<u8> {
    let interval = crate::load::session::interval(scenario.duration.0);
    let mut out = b"#[Histogram log format version 1.3]\n".to_vec();
    let mut serializer = V2DeflateSerializer::new();
    let start = outcomes.first().map_or(Duration::ZERO, |outcome| outcome.started_at);
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("Latency in microseconds, from the intended start; one tag per operation");
    builder.with_start_time(UNIX_EPOCH + start).with_base_time(UNIX_EPOCH + start);
    let mut writer =
        builder.begin_log_with(&mut out, &mut serializer).expect("a vector takes all that is written");
    let legend = "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"";
    writer.write_comment(legend).expect("a vector takes all that is written");
    for outcome in outcomes {
        for (index, it) in outcome.intervals.iter().enumerate() {
            let at = outcome.started_at.saturating_sub(start) + interval * index as u32;
            for (name, cell) in named(&it.cells).filter(|(_, cell)| !cell.latency_us.is_empty()) {
                let tag = Tag::new(name);
                writer
                    .write_histogram(&cell.latency_us, at, interval, tag)
                    .expect("a histogram has a serial form");
            }
        }
    }
    out
}
