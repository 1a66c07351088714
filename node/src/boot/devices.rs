//! Which devices there are, and how large those must become that are files yet to be made. Making them is the
//! engine's business.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::BootError;
use crate::config::{Auto, ByteSize, Config, DEFAULT_TIER, Device};

/// Device files of a first start: two, so that two copies of everything have a place.
const DEFAULT_COUNT: usize = 2;

/// A device file of automatic size is not smaller: with less a node fills up before one has seen what it can do.
const AUTO_SIZE_MIN: u64 = 1 << 30;

/// A device file of automatic size is not larger: a first try shall not eat the disk.
const AUTO_SIZE_MAX: u64 = 16 << 30;

/// Device files of automatic size take together this part of the free space.
const AUTO_SHARE: u64 = 4;

/// Sizes are multiples of this: a huge page, and of every sector size.
const SIZE_STEP: u64 = 2 << 20;

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePlan {
    /// Where it is.
    pub path: PathBuf,
    /// The class of devices it belongs to.
    pub tier: String,
    /// What is there.
    pub content: DeviceContent,
}

/// What is at a device's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceContent {
    /// Nothing: a file of `size` bytes is to be made. There is room for it now.
    Missing {
        /// Bytes.
        size: u64,
    },
    /// A file.
    File {
        /// Bytes.
        len: u64,
    },
    /// A block device.
    Block,
}

/// The devices of the configuration, or the two files of a first start.
pub fn plan(config: &Config, data_dir: &Path) -> Result<Vec<DevicePlan>, BootError> {
    let default = |index| Device {
        path: data_dir.join(format!("device-{index}.basalt")),
        size: Auto::Auto,
        tier: DEFAULT_TIER.to_owned(),
    };
    let mut devices = config.store.devices.clone();
    if devices.is_empty() {
        devices.extend((0..DEFAULT_COUNT).map(default));
    }
    let found = devices.iter().map(|device| look_at(&device.path)).collect::<Result<Vec<_>, _>>()?;
    let mut rooms = Rooms::default();
    for (device, content) in devices.iter().zip(&found) {
        if content.is_none() {
            rooms.count(&device.path)?;
        }
    }
    let mut plans = Vec::with_capacity(devices.len());
    for (device, content) in devices.iter().zip(&found) {
        let content = match *content {
            Some(content) => content,
            None => {
                let sibling = devices.iter().zip(&found).find_map(|(other, content)| match content {
                    Some(DeviceContent::File { len }) if other.tier == device.tier => Some(*len),
                    _ => None,
                });
                DeviceContent::Missing { size: rooms.take(config, device, sibling)? }
            }
        };
        plans.push(DevicePlan { path: device.path.clone(), tier: device.tier.clone(), content });
    }
    Ok(plans)
}

fn look_at(path: &Path) -> Result<Option<DeviceContent>, BootError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(BootError::File { path: path.to_owned(), action: "look at", source }),
    };
    if metadata.file_type().is_block_device() {
        return Ok(Some(DeviceContent::Block));
    }
    if !metadata.is_file() {
        return Err(BootError::NotADevice { path: path.to_owned() });
    }
    Ok(Some(DeviceContent::File { len: metadata.len() }))
}

/// Free space per filesystem, and what of it is promised.
#[derive(Default)]
struct Rooms {
    by_filesystem: BTreeMap<u64, Room>,
}

struct Room {
    directory: PathBuf,
    free: u64,
    promised: u64,
    missing_count: u64,
}

impl Rooms {
    /// One more file to be made at `path`.
    fn count(&mut self, path: &Path) -> Result<(), BootError> {
        let directory = parent(path);
        let failed = |source| BootError::File { path: directory.clone(), action: "look at", source };
        let filesystem = fs::metadata(&directory).map_err(failed)?.dev();
        let figures = rustix::fs::statvfs(&directory).map_err(|errno| failed(errno.into()))?;
        let free = figures.f_bavail.saturating_mul(figures.f_frsize);
        let new = || Room { directory: directory.clone(), free, promised: 0, missing_count: 0 };
        self.by_filesystem.entry(filesystem).or_insert_with(new).missing_count += 1;
        Ok(())
    }

    /// The size of the file to be made for `device`; `sibling` is the size of one that its tier has already.
    fn take(&mut self, config: &Config, device: &Device, sibling: Option<u64>) -> Result<u64, BootError> {
        let directory = parent(&device.path);
        let failed = |source| BootError::File { path: directory.clone(), action: "look at", source };
        let filesystem = fs::metadata(&directory).map_err(failed)?.dev();
        let room = self.by_filesystem.get_mut(&filesystem).expect("every missing device was counted");
        let size = match (device.size, config.store.device_size) {
            (Auto::Set(size), _) | (Auto::Auto, Auto::Set(size)) => size.0,
            (Auto::Auto, Auto::Auto) => sibling.unwrap_or_else(|| {
                (room.free / AUTO_SHARE / room.missing_count).clamp(AUTO_SIZE_MIN, AUTO_SIZE_MAX)
            }),
        };
        let size = (size / SIZE_STEP * SIZE_STEP).max(SIZE_STEP);
        room.promised = room.promised.saturating_add(size);
        if room.promised > room.free {
            return Err(BootError::NoSpace {
                directory: room.directory.clone(),
                needed: ByteSize(room.promised.max(size.saturating_mul(room.missing_count))),
                free: ByteSize(room.free / SIZE_STEP * SIZE_STEP),
            });
        }
        Ok(size)
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(plans: &[DevicePlan]) -> Vec<DeviceContent> {
        plans.iter().map(|plan| plan.content).collect()
    }

    #[test]
    fn a_first_start_has_two_files_of_equal_automatic_size() {
        let directory = tempfile::tempdir().expect("a directory");
        let plans = plan(&Config::default(), directory.path()).expect("there is room");
        assert_eq!(plans.len(), 2);
        assert_eq!(plans[1].path, directory.path().join("device-1.basalt"));
        assert_eq!(plans[0].content, plans[1].content);
        let DeviceContent::Missing { size } = plans[0].content else { panic!("nothing is there yet") };
        assert!((AUTO_SIZE_MIN..=AUTO_SIZE_MAX).contains(&size) && size % SIZE_STEP == 0, "{size}");
    }

    #[test]
    fn what_exists_keeps_its_size_and_a_missing_sibling_gets_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = fs::File::create(directory.path().join("device-0.basalt")).expect("created");
        file.set_len(6 << 20).expect("sized");
        let plans = plan(&Config::default(), directory.path()).expect("there is room");
        assert_eq!(
            sizes(&plans),
            [DeviceContent::File { len: 6 << 20 }, DeviceContent::Missing { size: 6 << 20 }]
        );
    }

    #[test]
    fn a_configured_size_wins_and_the_device_own_over_the_common_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.store.device_size = Auto::Set(ByteSize((8 << 20) + 5));
        config.store.devices = ["a", "b"]
            .map(|name| Device { path: directory.path().join(name), size: Auto::Auto, tier: "t".into() })
            .into();
        config.store.devices[1].size = Auto::Set(ByteSize(4 << 20));
        let plans = plan(&config, directory.path()).expect("there is room");
        assert_eq!(
            sizes(&plans),
            [DeviceContent::Missing { size: 8 << 20 }, DeviceContent::Missing { size: 4 << 20 }]
        );
    }

    #[test]
    fn too_little_room_is_refused_with_the_setting_to_change() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.store.device_size = Auto::Set(ByteSize(1 << 60));
        let error = plan(&config, directory.path()).expect_err("no disk is that large").to_string();
        assert!(
            error.contains("store.device_size") && error.contains(&directory.path().display().to_string()),
            "{error}"
        );
        assert!(error.contains("2097152TiB"), "{error}");
    }

    #[test]
    fn a_directory_is_no_device() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("device-0.basalt")).expect("created");
        let error = plan(&Config::default(), directory.path()).expect_err("a directory").to_string();
        assert!(error.contains("device-0.basalt"), "{error}");
    }
}
