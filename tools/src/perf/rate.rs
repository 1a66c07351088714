//! Rate targets: ten buckets at their rate beside one that floods, and how many would hold. `loadtest` measures; here it gets its node.

use std::io;
use std::time::Duration;

use super::lab::Lab;
use super::node::{Node, Setup};
use super::program::{self, End};
use crate::workspace;

const TIME_MAX: Duration = Duration::from_secs(1800);

/// What `loadtest rate-target` ends with when the buckets do not get their rate: a result like another.
const MISSED: i32 = 4;

/// As many as share a core in the target, and then the search for the most.
const GOALS: [[&str; 2]; 2] = [["--buckets", "10"], ["--max-buckets", "64"]];

/// Runs `loadtest rate-target` on the client's CPU.
pub(super) fn run(lab: &Lab, settings: &[String]) -> io::Result<()> {
    let folder = lab.folder("rate")?;
    let setup = Setup {
        binary: &lab.binary,
        cpu: lab.cpus.server,
        folder: &folder,
        device_size: lab.device_size,
        settings,
    };
    let node = setup.start()?;
    for goal in GOALS {
        eprint!("\n{}", measure(lab, &node, goal)?);
    }
    node.stop()
}

fn measure(lab: &Lab, node: &Node, goal: [&str; 2]) -> io::Result<String> {
    let (endpoint, credentials, ca) = node.access();
    let mut command = program::pinned(lab.cpus.client, workspace::binary("release", "loadtest"));
    command.args(["rate-target", "--flood", "--quiet", "--endpoint", endpoint, "--credentials"]);
    command.arg(credentials).arg("--ca").arg(ca).args(["--server-pid", &node.pid.to_string()]).args(goal);
    let End { status, output, complaints } = program::run_to_end(&mut command, TIME_MAX, |_, _| Ok(()))?;
    match status.code() {
        Some(0 | MISSED) => Ok(output),
        _ => Err(io::Error::other(format!("loadtest rate-target: {status}\n{output}{complaints}"))),
    }
}
