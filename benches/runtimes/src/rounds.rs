//! Rounds: every contender in turn, each in a process of its own, so that a slow minute of the machine falls on all.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::client;
use crate::contender::Contender;
use crate::load::Load;
use crate::meter::Figures;

/// What one process of one round gave.
pub struct Sample {
    /// Its own count.
    pub figures: Figures,
    /// Of the TCP load: the part of the time that the client was on its processor.
    pub client: Option<f64>,
}

/// How processes are started.
pub struct Runner {
    /// The file that is read and written.
    pub file: PathBuf,
    /// Length of the measured window, in seconds.
    pub seconds: f64,
    /// The processor of the measured process.
    pub cpu: usize,
    /// The processor of the client.
    pub client_cpu: usize,
}

impl Runner {
    /// Measures once.
    ///
    /// # Errors
    /// What went wrong, as the process told it.
    pub fn sample(&self, contender: Contender, load: Load) -> Result<Sample, String> {
        let mut child = self.start(contender, load).map_err(|error| error.to_string())?;
        let stdout = child.stdout.take().expect("piped");
        let (mut figures, mut client) = (None, None);
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("listening ") {
                let address = address.parse().expect("an address, as it was bound");
                let (sender, receiver) = std::sync::mpsc::channel();
                let cpu = self.client_cpu;
                std::thread::spawn(move || {
                    let busy = pin(cpu).and_then(|()| client::run(address));
                    // Nobody listens any more when the server has failed.
                    let _ = sender.send(busy);
                });
                client = Some(receiver);
            }
            figures = figures.or(Figures::parse(&line));
        }
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let Some(figures) = figures else {
            let told = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
            return Err(format!("{}: {told}", output.status));
        };
        let busy = client.map(|receiver| receiver.recv().map_err(|error| error.to_string()));
        let busy = busy.transpose()?.transpose().map_err(|error| format!("the client: {error}"))?;
        Ok(Sample { figures, client: busy })
    }

    fn start(&self, contender: Contender, load: Load) -> io::Result<Child> {
        use clap::ValueEnum;
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.expect("none is skipped").get_name().to_owned()
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("measure").arg(name(contender.to_possible_value())).arg(name(load.to_possible_value()));
        command.arg("--file").arg(&self.file).args(["--seconds", &self.seconds.to_string()]);
        command.args(["--cpu", &self.cpu.to_string()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    }
}

/// Pins this thread, and all it starts from now on.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// The file, gone when this is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it.
    pub fn create(dir: &Path, len: u64) -> io::Result<Self> {
        let scratch = Scratch(dir.join(format!("runtimes-{}.data", std::process::id())));
        crate::load::create(&scratch.0, len)?;
        Ok(scratch)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What was never made can't be removed.
        let _ = std::fs::remove_file(&self.0);
    }
}
