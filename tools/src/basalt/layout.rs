//! `basalt format`: lays out a store. What is not blank is refused unless told otherwise.

use std::path::PathBuf;

use clap::Args;
use engine::crypto::SystemRandom;
use engine::device::{AlignedBuffer, DeviceFile, UringDevice};
use engine::format::superblock::{COPY_OFFSETS, Superblock, Tier, Verdict};
use engine::ids::UnixMillis;
use engine::limits::{BLOCK_SIZE, INLINE_MAX_DEFAULT};
use engine::{Device, FormatOptions, Store};

use super::{Devices, Failure, key, open, print};

/// How much of a device must be zeroes for it to be laid out without being asked, as the node has it.
const BLANK_LEN: u64 = 1 << 20;

const EXAMPLES: &str = "\
The node lays out blank devices by itself when it first starts; this is for choosing other sizes, or for using devices again.
Number of shards, segment size, copies and inline_max are fixed for good.

Examples:
  basalt format --device /dev/disk/by-id/nvme-A /dev/disk/by-id/nvme-B --key-file key --copies 2 --shards 16
  basalt format --device device-0.basalt --key-file key --copies 1 --shards 2 --segment-size 4194304 --force";

/// Options of `basalt format`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    devices: Devices,
    /// The key file that the node will use
    #[arg(long, value_name = "PATH")]
    key_file: PathBuf,
    /// Copies of each segment, on different devices
    #[arg(long, default_value_t = 2, value_name = "N")]
    copies: u8,
    /// Shards: as many as the node will have cores
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Bytes of a segment, a power of two [default: by the size of the smallest device]
    #[arg(long, value_name = "BYTES")]
    segment_size: Option<u64>,
    /// Objects up to so many bytes lie in their record
    #[arg(long, default_value_t = INLINE_MAX_DEFAULT, value_name = "BYTES")]
    inline_max: u32,
    /// Overwrite what is on the devices, also another store
    #[arg(long)]
    force: bool,
}

/// Lays out the store, and prints what was done.
///
/// # Errors
/// When a device is not blank, or options and devices don't fit together.
pub fn run(options: &Options) -> Result<(), Failure> {
    let master = key::read(&options.key_file)?;
    let mut files = Vec::new();
    for (i, path) in options.devices.paths.iter().enumerate() {
        if options.devices.paths[..i].contains(path) {
            return Err(Failure(format!("{} is given twice", path.display())));
        }
        files.push(DeviceFile::open(path)?);
    }
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u16);
    let format = FormatOptions {
        copies: options.copies,
        shard_count: options.shards.unwrap_or(cores),
        segment_size: options.segment_size,
        inline_max: options.inline_max,
        tiers: vec![Tier::Nvme; files.len()],
    };
    let now = UnixMillis(jiff::Timestamp::now().as_millisecond().unsigned_abs());
    open::runtime()?.block_on(async {
        let devices = open::attach(&files)?;
        for (device, path) in devices.iter().zip(&options.devices.paths) {
            let found = look(device).await?;
            match found {
                Content::Blank => {}
                _ if options.force => {}
                Content::Store => {
                    return Err(Failure(format!(
                        "{} carries a store; to destroy it, say --force",
                        path.display()
                    )));
                }
                Content::Other => {
                    return Err(Failure(format!(
                        "{} is not blank; if nobody needs what is on it, say --force",
                        path.display()
                    )));
                }
            }
        }
        let id = match options.force {
            true => engine::format_over(&devices, &format, &master, now, &mut SystemRandom).await?,
            false => engine::format(&devices, &format, &master, now, &mut SystemRandom).await?,
        };
        print(format!("store {id}: {} copies, {} shards", format.copies, format.shard_count));
        for (device, path) in devices.iter().zip(&options.devices.paths) {
            print(format!("{}: {}", path.display(), describe(device).await?));
        }
        Ok(())
    })
}

enum Content {
    Blank,
    Store,
    Other,
}

async fn look(device: &UringDevice) -> Result<Content, Failure> {
    if device.capacity() < BLANK_LEN {
        return Err(Failure("a device is smaller than 1 MiB".to_owned()));
    }
    if Store::is_present(device).await? {
        return Ok(Content::Store);
    }
    let (result, bytes) = device.read(AlignedBuffer::zeroed(BLANK_LEN as usize), 0).await;
    result.map_err(io_failure)?;
    Ok(if bytes.iter().all(|byte| *byte == 0) { Content::Blank } else { Content::Other })
}

async fn describe(device: &UringDevice) -> Result<String, Failure> {
    let (result, block) = device.read(AlignedBuffer::zeroed(BLOCK_SIZE), COPY_OFFSETS[0]).await;
    result.map_err(io_failure)?;
    Ok(match Superblock::decode(&block) {
        Verdict::Present(superblock) => format!(
            "device {} with {} segments of {} bytes",
            superblock.device_index, superblock.slot_count, superblock.segment_size
        ),
        _ => "no superblock".to_owned(),
    })
}

fn io_failure(failure: engine::device::IoFailure) -> Failure {
    Failure(format!("{} failed: {}", failure.op, std::io::Error::from_raw_os_error(failure.errno)))
}
