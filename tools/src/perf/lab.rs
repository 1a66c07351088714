//! The bench that every scenario works at: CPUs, folders, the node's binary; and one measured run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::cpu::Cpus;
use super::outcome::{Case, Sample};
use super::window::{self, Server, Window};
use super::wrk::{Load, Order};

/// Where and how everything is measured.
pub(super) struct Lab {
    pub cpus: Cpus,
    pub rounds: u32,
    pub seconds: u64,
    pub binary: PathBuf,
    pub device_size: u64,
    work: PathBuf,
}

/// What is asked of a server in one run.
pub(super) struct Ask<'a> {
    pub host: &'a str,
    pub heads: &'a [String],
    pub body_len: usize,
    pub order: Order,
    pub server: Server<'a>,
    pub seconds: u64,
}

impl Lab {
    /// Makes its folder below `home`, and removes what runs that were killed have left there.
    pub fn open(home: &Path, lab: impl FnOnce(PathBuf) -> Lab) -> io::Result<Self> {
        fs::create_dir_all(home)?;
        for entry in fs::read_dir(home)? {
            let entry = entry?;
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix("run-"));
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let work = std::path::absolute(home.join(format!("run-{}", std::process::id())))?;
        fs::create_dir_all(&work)?;
        Ok(lab(work))
    }

    pub fn new(
        work: PathBuf,
        cpus: Cpus,
        rounds: u32,
        seconds: u64,
        binary: PathBuf,
        device_size: u64,
    ) -> Self {
        Self { cpus, rounds, seconds, binary, device_size, work }
    }

    /// A folder that vanishes with the lab.
    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.work.join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// One run of wrk against one server.
    pub fn measure(&self, case: Case, ask: &Ask<'_>) -> io::Result<Sample> {
        let load = Load {
            url: format!("https://{}/", ask.host),
            heads: ask.heads,
            body_len: ask.body_len,
            order: ask.order,
            connections: case.connections,
            seconds: ask.seconds + window::EXTRA_SECONDS,
        };
        let none = || Ok(0.0);
        let server =
            if case.is_counted_in_bytes() { Server { requests: &none, ..ask.server } } else { ask.server };
        let mut window = Window::new(server, self.cpus, ask.seconds);
        let watch = |client, elapsed| window.look(client, elapsed);
        let figures = load.run(self.cpus.client, &self.work, watch)?;
        Sample::of(case, &figures, &window.close()?).ok_or_else(|| {
            io::Error::other(format!("{case}: no request was answered, {} failed", figures.errors))
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.work) {
            eprintln!("can't remove {}: {error}", self.work.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_removes_its_folder_and_those_of_the_dead() {
        let home = tempfile::tempdir().unwrap();
        let dead = home.path().join("run-999999999");
        let other = home.path().join("kept");
        fs::create_dir_all(&dead).unwrap();
        fs::create_dir_all(&other).unwrap();
        let cpus = Cpus { server: 0, client: 1 };
        let lab = Lab::open(home.path(), |work| Lab::new(work, cpus, 1, 1, "node".into(), 0)).unwrap();
        let folder = lab.folder("a").unwrap();
        assert!(folder.is_dir() && !dead.exists() && other.is_dir());
        drop(lab);
        assert!(!folder.exists() && other.is_dir());
    }
}
