//! What the device takes when nothing but the kernel is in the way: fio's O_DIRECT writes through io_uring.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::program;

/// A file of this size is written again and again.
pub(super) const FILE_SIZE: u64 = 1 << 30;

const GRACE: Duration = Duration::from_secs(60);

/// Writing files beforehand may take this long; a slow disk does 50 MB/s.
const PREPARE_TIME_MAX: Duration = Duration::from_secs(600);

/// A way of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// 4 KiB one after the other, 64 in flight, one fdatasync for each 64.
    Small,
    /// 1 MiB one after the other, 8 in flight, one fsync at the end.
    Sequential,
}

/// What fio measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    pub writes_per_second: f64,
    pub bytes_per_second: f64,
}

impl Job {
    fn options(self) -> &'static [&'static str] {
        match self {
            Job::Small => &["--bs=4k", "--iodepth=64", "--fdatasync=64"],
            Job::Sequential => &["--bs=1m", "--iodepth=8", "--end_fsync=1"],
        }
    }

    pub fn run(self, file: &Path, cpu: usize, seconds: u64) -> io::Result<Figures> {
        let mut command = command(file, cpu, FILE_SIZE);
        command.args(self.options());
        command.args(["--time_based".to_owned(), format!("--runtime={seconds}")]);
        let output = program::run(&mut command, Duration::from_secs(seconds) + GRACE)?;
        parse(&output).ok_or_else(|| io::Error::other(format!("fio's output is not understood:\n{output}")))
    }
}

/// Makes a file whose blocks have all been written, as those of a block device: the first write to a block that was only
/// allocated costs a transaction of the filesystem.
pub(super) fn prepare(file: &Path, cpu: usize, size: u64) -> io::Result<()> {
    let mut command = command(file, cpu, size);
    command.args(["--bs=4m", "--iodepth=4", "--zero_buffers", "--end_fsync=1"]);
    program::run(&mut command, PREPARE_TIME_MAX).map(|_| ())
}

fn command(file: &Path, cpu: usize, size: u64) -> std::process::Command {
    let mut command = program::pinned(cpu, "fio");
    command.args(["--name=write", "--rw=write", "--direct=1", "--ioengine=io_uring", "--output-format=json"]);
    command.arg(format!("--filename={}", file.display())).arg(format!("--size={size}"));
    command
}

/// fio may say something before its JSON.
fn parse(output: &str) -> Option<Figures> {
    let json: Value = serde_json::from_str(&output[output.find('{')?..]).ok()?;
    let write = &json["jobs"][0]["write"];
    let is_without_error = json["jobs"][0]["error"].as_u64() == Some(0);
    is_without_error.then_some(())?;
    Some(Figures {
        writes_per_second: write["iops"].as_f64()?,
        bytes_per_second: write["bw_bytes"].as_f64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_one_job_are_read_past_a_note() {
        let output = r#"note: both iodepth >= 1 and synchronous I/O engine
            {"fio version": "fio-3.33", "jobs": [{"error": 0, "write": {"iops": 1000.5, "bw_bytes": 4098048}}]}"#;
        let expected = Figures { writes_per_second: 1000.5, bytes_per_second: 4_098_048.0 };
        assert_eq!(parse(output), Some(expected));
        assert_eq!(parse(&output.replace("\"error\": 0", "\"error\": 28")), None);
        assert_eq!(parse("fio: failed"), None);
    }
}
