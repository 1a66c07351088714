//! What objects in frames cost the engine: writing one, reading it, and reading 4 KiB from its midst. The size of frames decides the last.
//!
//! `cargo bench -p benches --bench large_objects -- --rounds 5`; `--len` (in KiB) sets the size of the objects. Medians over the rounds, of the time that
//! the thread was on a processor; a machine that is busy disturbs that least.

mod support;

use std::time::Duration;

use engine::device::DeviceFile;
use engine::limits::FRAME_SIZE;
use support::{DevicePath, Mode, Numbers, OpenStore, cpu_time, say};

/// Objects of a store.
const OBJECTS: u64 = 64;

/// Bytes of a range.
const RANGE_LEN: u64 = 4 << 10;

/// What one kind of operation cost in one round, each.
#[derive(Clone, Copy, Default)]
struct Cost {
    micros: f64,
    device_read_len: f64,
}

fn main() {
    let Some(mode) = support::mode("large_objects") else { return };
    let (rounds, operations) = match mode {
        Mode::Measure => (5, 2000),
        Mode::Test => (1, 4),
    };
    let rounds = support::number("--rounds").unwrap_or(rounds);
    let len = support::number("--len").unwrap_or(1024) << 10;
    support::run(measure(len, rounds as usize, operations));
}

async fn measure(len: u64, rounds: usize, operations: u64) {
    let path = DevicePath::new("large_objects");
    let device = DeviceFile::create(path.path(), 4 * OBJECTS * len + (256 << 20)).expect("a device");
    support::format(&device, 1, None).await;
    let mut store = OpenStore::open(&device).await;
    store.begin_upkeep();
    let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
    let mut numbers = Numbers(1);
    let mut rows: [Vec<Cost>; 3] = Default::default();
    for _ in 0..rounds {
        rows[0].push(
            cost(&store, OBJECTS, async |i| {
                store.put(&key(i), &bytes).await.expect("put");
            })
            .await,
        );
        rows[1].push(
            cost(&store, operations.min(4 * OBJECTS), async |i| {
                let found = store.read(&key(i % OBJECTS)).await.expect("read");
                assert_eq!(found.len() as u64, len, "all of it");
            })
            .await,
        );
        rows[2].push(
            cost(&store, operations, async |i| {
                let first = numbers.below(len - RANGE_LEN);
                let found =
                    store.read_range(&key(i % OBJECTS), first..first + RANGE_LEN).await.expect("read");
                assert_eq!(found[..], bytes[first as usize..][..RANGE_LEN as usize], "what was put");
            })
            .await,
        );
    }
    say(&format!(
        "frames of {} KiB, objects of {} KiB, each operation in us of processor and bytes read",
        FRAME_SIZE >> 10,
        len >> 10
    ));
    for (name, costs) in ["put", "get", "get 4 KiB of it"].into_iter().zip(&mut rows) {
        costs.sort_by(|a, b| a.micros.total_cmp(&b.micros));
        let median = costs[costs.len() / 2];
        say(&format!("{name:16} {:9.1} {:10.0}", median.micros, median.device_read_len));
    }
    store.close().await;
}

/// What an operation costs, over so many, one after the other.
async fn cost(store: &OpenStore, count: u64, mut operation: impl AsyncFnMut(u64)) -> Cost {
    let read_before = store.core.counters.device_read_bytes.value();
    let began: Duration = cpu_time();
    for i in 0..count {
        operation(i).await;
    }
    let took = cpu_time() - began;
    let read = store.core.counters.device_read_bytes.value() - read_before;
    Cost { micros: took.as_secs_f64() * 1e6 / count as f64, device_read_len: read as f64 / count as f64 }
}

fn key(i: u64) -> Vec<u8> {
    format!("large/{i:04}").into_bytes()
}
