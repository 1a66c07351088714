//! Small files that must be whole and, some of them, secret.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::BootError;

/// Mode of a file that nobody else may read.
pub const SECRET: u32 = 0o600;

/// Mode of a file that everybody may read.
pub const PUBLIC: u32 = 0o644;

/// How long a node that is just ending may still hold its lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// Writes the file so that it appears whole, with `mode`, and stays after a power failure.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), BootError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let written = || -> io::Result<()> {
        // What a crash has left may have another mode.
        if let Err(error) = fs::remove_file(temporary)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    written().map_err(|source| BootError::File { path: path.to_owned(), action: "write", source })
}

/// The text of a secret file; `None` when there is none.
pub fn read_secret(path: &Path) -> Result<Option<String>, BootError> {
    let failed = |source| BootError::File { path: path.to_owned(), action: "read", source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(BootError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Takes the lock for as long as the answer lives.
pub fn lock(path: &Path) -> Result<File, BootError> {
    let failed = |source| BootError::File { path: path.to_owned(), action: "lock", source };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(SECRET)
        .open(path)
        .map_err(failed)?;
    let until = Instant::now() + LOCK_PATIENCE;
    let mut is_told = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::info!(path = %path.display(), patience = ?LOCK_PATIENCE, "another node holds the data directory; waiting in case it is just ending");
                }
                thread::sleep(Duration::from_millis(50))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(BootError::Locked { path: path.to_owned() }),
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}
