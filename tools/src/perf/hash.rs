//! The hash limit: an ETag is an MD5 of the whole body, whose blocks depend on each other; those of concurrent bodies are hashed side by side.

use std::hint::black_box;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use md5_lanes::{Block, Job, Kernel, Need, STATE_INITIAL, State, hash};
use rustix::thread::{CpuSet, sched_setaffinity};

const TIME: Duration = Duration::from_millis(500);

/// Hashed at once of a stream: all of them fit into the nearer caches, as fresh network data does at best.
const CHUNK_LEN: usize = 16 << 10;

/// Bytes per second that one core hashes of so many streams side by side.
pub(super) fn bytes_per_second(cpu: usize, streams: usize) -> io::Result<f64> {
    let measure = move || -> io::Result<f64> {
        let mut cpus = CpuSet::new();
        cpus.set(cpu);
        sched_setaffinity(None, &cpus)?;
        let chunk = vec![1_u8; CHUNK_LEN * streams];
        let mut states: Vec<State> = vec![STATE_INITIAL; streams];
        let (mut bytes, start) = (0, Instant::now());
        while start.elapsed() < TIME {
            hash_each(&mut states, black_box(&chunk));
            bytes += chunk.len();
        }
        let taken = start.elapsed();
        black_box(states);
        Ok(bytes as f64 / taken.as_secs_f64())
    };
    thread::spawn(measure).join().expect("hashing does not panic")
}

/// Gives each stream its part.
fn hash_each(states: &mut [State], parts: &[u8]) {
    let jobs = states.iter_mut().zip(parts.chunks_exact(CHUNK_LEN));
    let mut jobs: Vec<Job<'_>> =
        jobs.map(|(state, part)| Job { state, blocks: blocks(part), need: Need::Urgent }).collect();
    hash(Kernel::detect(), &mut jobs);
}

fn blocks(part: &[u8]) -> &[Block] {
    part.as_chunks().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_is_hashed() {
        let mut states = [STATE_INITIAL; 3];
        hash_each(&mut states, &vec![7; 3 * CHUNK_LEN]);
        assert!(states.iter().all(|state| *state != STATE_INITIAL && *state == states[0]), "{states:?}");
    }
}
