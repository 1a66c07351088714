//! The hash limit: an ETag is an MD5 of the whole body, whose blocks depend on each other.

use std::hint::black_box;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use md5::{Digest, Md5};
use rustix::thread::{CpuSet, sched_setaffinity};

const TIME: Duration = Duration::from_millis(500);

/// Hashed at once: fits into the nearest caches, as fresh network data does at best.
const CHUNK_LEN: usize = 64 << 10;

/// Bytes per second that one core hashes, one stream at a time.
pub(super) fn bytes_per_second(cpu: usize) -> io::Result<f64> {
    let measure = move || -> io::Result<f64> {
        let mut cpus = CpuSet::new();
        cpus.set(cpu);
        sched_setaffinity(None, &cpus)?;
        let chunk = vec![1_u8; CHUNK_LEN];
        let mut md5 = Md5::new();
        let (mut bytes, start) = (0, Instant::now());
        while start.elapsed() < TIME {
            md5.update(black_box(&chunk));
            bytes += CHUNK_LEN;
        }
        let taken = start.elapsed();
        black_box(md5.finalize());
        Ok(bytes as f64 / taken.as_secs_f64())
    };
    thread::spawn(measure).join().expect("hashing does not panic")
}
