//! `basalt fsck`: prints what a check finds.

use std::path::PathBuf;

use clap::Args;
use engine::fsck::{Depth, Event, Finding, Severity, Summary, check};
use serde_json::json;

use super::{CLEAN, Devices, Failure, LOST, REPAIRABLE, key, open, print};

const EXAMPLES: &str = "\
Exit status: 0 nothing is wrong; 1 something is damaged that another copy has; 2 something is lost or contradicts itself; 3 the check could not run.

Examples:
  basalt fsck --device basalt-data/device-0.basalt basalt-data/device-1.basalt --key-file basalt-data/key
  basalt fsck --device /dev/disk/by-id/nvme-A --device /dev/disk/by-id/nvme-B --key-file key --data --json > findings.jsonl";

/// Options of `basalt fsck`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    devices: Devices,
    /// The node's key file
    #[arg(long, value_name = "PATH")]
    key_file: PathBuf,
    /// One JSON object for each finding, and one for the summary
    #[arg(long)]
    json: bool,
    /// Verify the bytes of large objects too: reads everything that is stored
    #[arg(long, overrides_with = "no_data")]
    data: bool,
    /// Verify everything but the bytes of large objects: the default
    #[arg(long)]
    no_data: bool,
}

/// Checks, prints; the exit status.
///
/// # Errors
/// When the check cannot be made.
pub fn run(options: &Options) -> Result<u8, Failure> {
    let master = key::read(&options.key_file)?;
    let files = open::open(&options.devices)?;
    let depth = if options.data { Depth::Data } else { Depth::Structure };
    let mut tell = |event: Event| match event {
        Event::Found(finding) => print(show(options, &finding)),
        Event::Progress(progress) => {
            let shard = progress.shard.map_or(String::new(), |shard| format!("shard {shard}: "));
            let total = progress.total.map_or(String::new(), |total| format!(" of {total}"));
            eprintln!("{shard}{}{total} {}", progress.done, progress.stage.name());
        }
    };
    let summary = open::runtime()?.block_on(async {
        check(open::attach(&files)?, master, depth, &mut tell).await.map_err(Failure::from)
    })?;
    print(show_summary(options, &summary));
    Ok(match summary.worst() {
        None => CLEAN,
        Some(Severity::Repairable) => REPAIRABLE,
        Some(Severity::Lost) => LOST,
    })
}

fn show(options: &Options, finding: &Finding) -> String {
    let path = finding.device.and_then(|device| options.devices.paths.get(device));
    let advice = finding.fault.advice(finding.severity);
    if options.json {
        let line = json!({
            "severity": finding.severity.name(),
            "fault": finding.fault.name(),
            "device": path.map(|path| path.display().to_string()),
            "shard": finding.shard.map(|shard| shard.0),
            "segment": finding.segment.map(|segment| format!("{:#x}", segment.0)),
            "offset": finding.offset,
            "what": finding.detail,
            "advice": advice,
        });
        return line.to_string();
    }
    let device = path.map_or(String::new(), |path| format!(" [{}]", path.display()));
    format!("{finding}{device}. What to do: {advice}.")
}

fn show_summary(options: &Options, summary: &Summary) -> String {
    if options.json {
        let line = json!({ "summary": {
            "segments": summary.segments,
            "run_blocks": summary.run_blocks,
            "log_records": summary.log_records,
            "versions": summary.versions,
            "uploads": summary.uploads,
            "frames": summary.frames,
            "repairable": summary.repairable,
            "lost": summary.lost,
        }});
        return line.to_string();
    }
    let verdict = match summary.worst() {
        None => "clean".to_owned(),
        Some(_) => format!("{} repairable, {} lost", summary.repairable, summary.lost),
    };
    format!(
        "{verdict}: {} segments, {} directory blocks, {} log records, {} versions, {} uploads, {} frames checked",
        summary.segments,
        summary.run_blocks,
        summary.log_records,
        summary.versions,
        summary.uploads,
        summary.frames
    )
}
