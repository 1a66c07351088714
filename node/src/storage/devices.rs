//! The devices of a start: those that carry the store, or, the first time, new ones.
//!
//! A new store is formatted on files with temporary names, which get their own names only when all of it is formatted; a start that was interrupted among the
//! renamings is finished by the next. The file `formatted` in the data directory remembers that there was a store: when none of its devices is there any more (a disk that is not
//! mounted), nothing is made in its place.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use compio::runtime::Runtime;
use engine::crypto::{MasterKey, SystemRandom};
use engine::device::{AlignedBuffer, DeviceFile, UringDevice};
use engine::format::superblock::Tier;
use engine::ids::UnixMillis;
use engine::{FormatOptions, Store};

use super::StorageError;
use crate::boot::{Boot, DeviceContent, DevicePlan};
use crate::config::{Auto, Config};
use crate::cores::new_runtime;

/// How much of a device must be zeroes for it to be formatted without being asked.
const BLANK_LEN: u64 = 1 << 20;

/// Opens the devices that carry the store; makes and formats those of a new one.
pub(super) fn open(config: &Config, boot: &Boot, core_count: usize) -> Result<Vec<DeviceFile>, StorageError> {
    refuse_twins(&boot.devices)?;
    let runtime = new_runtime().map_err(|error| StorageError::System {
        step: "set up io_uring",
        source: std::io::Error::other(error.to_string()),
    })?;
    let marker = boot.data_dir.join("formatted");
    if !marker.exists() {
        finish_naming(&runtime, &boot.devices)?;
    }
    let mut found = Vec::new();
    for plan in &boot.devices {
        let device = if plan.path.exists() { Some(DeviceFile::open(&plan.path)?) } else { None };
        let carries = match &device {
            Some(device) if device.capacity() >= BLANK_LEN => runtime.block_on(carries_store(device))?,
            _ => false,
        };
        found.push(Found { plan, device, carries });
    }
    if found.iter().any(|found| found.carries) {
        return existing(found, &marker);
    }
    if marker.exists() {
        let devices = boot.devices.iter().map(|plan| plan.path.clone()).collect();
        return Err(StorageError::Gone { marker, devices });
    }
    let devices = make(config, boot, core_count, &runtime, found)?;
    remember(&marker)?;
    Ok(devices)
}

/// A device of the configuration, as it was found.
struct Found<'a> {
    plan: &'a DevicePlan,
    /// `None` when it is not there.
    device: Option<DeviceFile>,
    /// Whether a store is on it.
    carries: bool,
}

/// The devices of the store that is there. What else the configuration names is left alone, and told.
fn existing(found: Vec<Found<'_>>, marker: &Path) -> Result<Vec<DeviceFile>, StorageError> {
    if !marker.exists() {
        remember(marker)?;
    }
    let mut devices = Vec::new();
    for Found { plan, device, carries } in found {
        let path = plan.path.display();
        match device {
            Some(device) if carries => devices.push(device),
            Some(_) => {
                tracing::warn!(%path, "this device carries no store and is not used: devices can't be added to a store yet, and what is on it is left alone");
            }
            None => tracing::warn!(%path, "this device of the configuration is not there"),
        }
    }
    Ok(devices)
}

/// Makes and formats the devices of a new store.
fn make(
    config: &Config,
    boot: &Boot,
    core_count: usize,
    runtime: &Runtime,
    found: Vec<Found<'_>>,
) -> Result<Vec<DeviceFile>, StorageError> {
    let options = FormatOptions {
        copies: config.store.copies,
        shard_count: core_count as u16,
        segment_size: match config.store.segment_size {
            Auto::Auto => None,
            Auto::Set(size) => Some(size.0),
        },
        inline_max: u32::try_from(config.store.inline_max.0).unwrap_or(u32::MAX),
        tiers: boot.devices.iter().map(tier).collect::<Result<_, _>>()?,
    };
    for Found { plan, device, .. } in &found {
        let Some(device) = device else { continue };
        if device.capacity() < BLANK_LEN {
            return Err(StorageError::TooSmall { path: plan.path.clone() });
        }
        if !runtime.block_on(is_blank(device))? {
            return Err(StorageError::NotBlank { path: plan.path.clone() });
        }
    }
    let mut devices = Vec::new();
    let mut made: Vec<&Path> = Vec::new();
    let formatted = (|| {
        for Found { plan, device, .. } in found {
            devices.push(match device {
                Some(device) => device,
                None => {
                    made.push(&plan.path);
                    create(plan)?
                }
            });
        }
        format(runtime, boot, &options, &devices)
    })();
    if let Err(error) = formatted {
        for path in made {
            // If this fails too, the next start replaces the file.
            let _ = std::fs::remove_file(temporary(path));
        }
        return Err(error);
    }
    made.into_iter().try_for_each(name)?;
    tracing::info!(
        devices = devices.len(),
        copies = options.copies,
        shards = options.shard_count,
        "a new store was formatted"
    );
    Ok(devices)
}

fn format(
    runtime: &Runtime,
    boot: &Boot,
    options: &FormatOptions,
    devices: &[DeviceFile],
) -> Result<(), StorageError> {
    let handles = devices.iter().map(attach).collect::<Result<Vec<_>, _>>()?;
    let master = MasterKey::new(*boot.key.bytes());
    let now = UnixMillis(jiff::Timestamp::now().as_millisecond().unsigned_abs());
    runtime
        .block_on(engine::format(&handles, options, &master, now, &mut SystemRandom))
        .map(|_| ())
        .map_err(|source| StorageError::Engine { step: "format the devices", source })
}

/// Makes a device file under its temporary name.
fn create(plan: &DevicePlan) -> Result<DeviceFile, StorageError> {
    let DeviceContent::Missing { size } = plan.content else {
        return Err(StorageError::TooSmall { path: plan.path.clone() });
    };
    let temporary = temporary(&plan.path);
    if temporary.exists() {
        std::fs::remove_file(&temporary)
            .map_err(|source| StorageError::System { step: "remove a half-made device file", source })?;
    }
    Ok(DeviceFile::create(&temporary, size)?)
}

/// A start that was interrupted after formatting may have named some of its files and not others.
fn finish_naming(runtime: &Runtime, plans: &[DevicePlan]) -> Result<(), StorageError> {
    let is_waiting = |plan: &&DevicePlan| !plan.path.exists() && temporary(&plan.path).exists();
    if plans.iter().all(|plan| !plan.path.exists()) {
        // Nothing was named: the formatting may not have come to its end, and is done again.
        return Ok(());
    }
    for plan in plans.iter().filter(is_waiting) {
        let device = DeviceFile::open(&temporary(&plan.path))?;
        if device.capacity() >= BLANK_LEN && runtime.block_on(carries_store(&device))? {
            drop(device);
            name(&plan.path)?;
        }
    }
    Ok(())
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn name(path: &Path) -> Result<(), StorageError> {
    std::fs::rename(temporary(path), path)
        .and_then(|()| sync_directory(path))
        .map_err(|source| StorageError::System { step: "name a device file", source })
}

fn remember(marker: &Path) -> Result<(), StorageError> {
    let text = "A store was formatted on the devices of this node. Without this file, and with none of them there, a start makes a new store.\n";
    std::fs::write(marker, text)
        .and_then(|()| sync_directory(marker))
        .map_err(|source| StorageError::System { step: "note that a store was formatted", source })
}

fn refuse_twins(devices: &[DevicePlan]) -> Result<(), StorageError> {
    let mut seen = HashSet::new();
    for plan in devices {
        // The file itself may be yet to be made; its directory is there.
        let parent = plan.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let place = plan.path.canonicalize().or_else(|_| {
            parent.canonicalize().map(|parent| parent.join(plan.path.file_name().unwrap_or_default()))
        });
        if !seen.insert(place.unwrap_or_else(|_| plan.path.clone())) {
            return Err(StorageError::Twice { path: plan.path.clone() });
        }
    }
    Ok(())
}

fn attach(device: &DeviceFile) -> Result<UringDevice, StorageError> {
    device.attach().map_err(|source| StorageError::System { step: "duplicate a device's descriptor", source })
}

async fn carries_store(device: &DeviceFile) -> Result<bool, StorageError> {
    let handle = attach(device)?;
    Store::is_present(&handle)
        .await
        .map_err(|source| StorageError::Engine { step: "read a superblock", source })
}

/// Whether the beginning of a device, where every file system and partition table has its mark, is zeroes.
async fn is_blank(device: &DeviceFile) -> Result<bool, StorageError> {
    let handle = attach(device)?;
    let len = device.capacity().min(BLANK_LEN) as usize;
    let (result, bytes) = engine::Device::read(&handle, AlignedBuffer::zeroed(len), 0).await;
    result.map_err(|failure| StorageError::System {
        step: "read the beginning of a device",
        source: std::io::Error::from_raw_os_error(failure.errno),
    })?;
    Ok(bytes.iter().all(|byte| *byte == 0))
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(directory)?.sync_all()
}

fn tier(plan: &DevicePlan) -> Result<Tier, StorageError> {
    match plan.tier.as_str() {
        "default" | "nvme" => Ok(Tier::Nvme),
        "ssd" => Ok(Tier::Ssd),
        "hdd" => Ok(Tier::Hdd),
        other => Err(StorageError::Tier { path: plan.path.clone(), tier: other.to_owned() }),
    }
}
