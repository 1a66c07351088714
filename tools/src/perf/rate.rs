//! Rate targets: ten buckets at their rate beside one that floods. `loadtest` measures; here it gets its node.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::lab::Lab;
use super::node::Setup;
use super::program;
use crate::workspace;

const TIME_MAX: Duration = Duration::from_secs(1800);

/// Runs `loadtest rate-target` on the client's CPU, when it is built and knows that command.
pub(super) fn run(lab: &Lab, settings: &[String]) -> io::Result<()> {
    let loadtest = workspace::binary("release", "loadtest");
    let help = Command::new(&loadtest)
        .args(["rate-target", "--help"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !help.is_ok_and(|status| status.success()) {
        eprintln!("\nrate targets: not available in this build ({} has no rate-target)", loadtest.display());
        return Ok(());
    }
    let folder = lab.folder("rate")?;
    let setup = Setup {
        binary: &lab.binary,
        cpu: lab.cpus.server,
        folder: &folder,
        device_size: lab.device_size,
        settings,
    };
    let node = setup.start()?;
    let (endpoint, credentials, ca) = node.access();
    let mut command = program::pinned(lab.cpus.client, &loadtest);
    command
        .args(["rate-target", "--endpoint", endpoint, "--credentials"])
        .arg(credentials)
        .arg("--ca")
        .arg(ca);
    let output = program::run(&mut command, TIME_MAX)?;
    eprint!("\nrate targets, as loadtest rate-target sees them:\n{output}");
    node.stop()
}
