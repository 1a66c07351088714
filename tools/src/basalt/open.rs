//! Opening devices: all of them locked, so that no node works on them meanwhile.

use compio::runtime::Runtime;
use engine::device::{DeviceFile, UringDevice};

use super::{Devices, Failure};

/// Opens devices; the lock of each lasts as long as its file is open.
///
/// # Errors
/// When one is not there, or a node has it open.
pub fn open(devices: &Devices) -> Result<Vec<DeviceFile>, Failure> {
    let mut opened = Vec::new();
    for (i, path) in devices.paths.iter().enumerate() {
        if devices.paths[..i].contains(path) {
            return Err(Failure(format!("{} is given twice", path.display())));
        }
        opened.push(DeviceFile::open_read_only(path)?);
    }
    Ok(opened)
}

/// Handles for the calling thread.
///
/// # Errors
/// When the process has too many files open.
pub fn attach(files: &[DeviceFile]) -> Result<Vec<UringDevice>, Failure> {
    let failed = |error| Failure(format!("cannot duplicate a device's descriptor: {error}"));
    files.iter().map(|file| file.attach().map_err(failed)).collect()
}

/// A runtime for the calling thread.
///
/// # Errors
/// When the system has no io_uring.
pub fn runtime() -> Result<Runtime, Failure> {
    Runtime::new().map_err(|error| Failure(format!("cannot set up io_uring: {error}")))
}
