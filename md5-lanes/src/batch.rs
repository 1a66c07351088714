//! A batch: blocks of streams of different lengths, spread over the lanes of a kernel.
//!
//! ```text
//!  lane 0  AAAAAAAAAAAAAAAA      the longest first; a lane whose stream is done takes the next that waits
//!  lane 1  BBBBBBBBBCCCCCCC
//!  lane 2  DDDDDDEEEEEFFFF.
//! ```
//! Between two changes of the lanes all hash as many blocks as the shortest has.

use std::cmp::Reverse;

use crate::kernel::{Kernel, LANES_MAX};
use crate::{Block, State};

/// Blocks of one stream that wait to be hashed.
#[derive(Debug)]
pub struct Job<'a> {
    /// The stream's state; after the batch, that after the blocks which were hashed.
    pub state: &'a mut State,
    /// The blocks; after the batch, those that were not hashed.
    pub blocks: &'a [Block],
    /// Whether somebody waits.
    pub need: Need,
}

/// Why a job is in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The batch ends when all of these are done.
    Urgent,
    /// Uses lanes that are free while others are hashed.
    Rider,
}

/// Hashes all urgent jobs to their end, and riders while there are lanes free.
pub fn hash(kernel: Kernel, jobs: &mut [Job<'_>]) {
    let mut queue: Vec<usize> = (0..jobs.len()).filter(|job| !jobs[*job].blocks.is_empty()).collect();
    queue.sort_unstable_by_key(|job| (jobs[*job].need, Reverse(jobs[*job].blocks.len())));
    let mut queue = queue.into_iter();
    let mut lanes = Occupied::default();
    loop {
        let free_count = kernel.lane_count() - lanes.count;
        queue.by_ref().take(free_count).for_each(|job| lanes.push(job));
        let is_urgent = |job: &usize| jobs[*job].need == Need::Urgent;
        if !lanes.jobs().iter().any(is_urgent) {
            return;
        }
        step(kernel, jobs, lanes.jobs());
        lanes.retain(|job| !jobs[job].blocks.is_empty());
    }
}

/// Hashes of each of these jobs as many blocks as the shortest has.
fn step(kernel: Kernel, jobs: &mut [Job<'_>], lanes: &[usize]) {
    let lens = lanes.iter().map(|job| jobs[*job].blocks.len());
    let count = lens.min().expect("some lane is occupied");
    let mut states = [[0; 4]; LANES_MAX];
    let mut blocks: [&[Block]; LANES_MAX] = [&[]; LANES_MAX];
    for (lane, job) in lanes.iter().enumerate() {
        let job = &mut jobs[*job];
        states[lane] = *job.state;
        (blocks[lane], job.blocks) = job.blocks.split_at(count);
    }
    kernel.compress(&mut states[..lanes.len()], &blocks[..lanes.len()]);
    for (state, job) in states.iter().zip(lanes) {
        *jobs[*job].state = *state;
    }
}

/// The jobs in the lanes, by their index.
#[derive(Default)]
struct Occupied {
    slots: [usize; LANES_MAX],
    count: usize,
}

impl Occupied {
    fn push(&mut self, job: usize) {
        self.slots[self.count] = job;
        self.count += 1;
    }

    fn retain(&mut self, is_kept: impl Fn(usize) -> bool) {
        let mut kept = Occupied::default();
        for job in self.jobs().iter().filter(|job| is_kept(**job)) {
            kept.push(*job);
        }
        *self = kept;
    }

    fn jobs(&self) -> &[usize] {
        &self.slots[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::STATE_INITIAL;
    use crate::kernel::compress_one;
    use crate::tests::Numbers;

    /// What a job has left, and what of it was hashed comes out as the reference has it.
    fn check(bytes: &[u8], left: usize, state: State) {
        let blocks = bytes.as_chunks().0;
        let mut expected = STATE_INITIAL;
        compress_one(&mut expected, &blocks[..blocks.len() - left]);
        assert_eq!(state, expected);
    }

    fn run(kernel: Kernel, bodies: &[(Vec<u8>, Need)]) -> Vec<usize> {
        let mut states = vec![STATE_INITIAL; bodies.len()];
        let jobs = states.iter_mut().zip(bodies);
        let mut jobs: Vec<Job<'_>> = jobs
            .map(|(state, (bytes, need))| Job { state, blocks: bytes.as_chunks().0, need: *need })
            .collect();
        hash(kernel, &mut jobs);
        let left: Vec<usize> = jobs.iter().map(|job| job.blocks.len()).collect();
        for (((bytes, _), left), state) in bodies.iter().zip(&left).zip(states) {
            check(bytes, *left, state);
        }
        left
    }

    #[test]
    fn all_urgent_jobs_are_done_whatever_their_lengths() {
        let mut numbers = Numbers(5);
        for (kernel, count) in Kernel::all().into_iter().flat_map(|kernel| (0..50).map(move |n| (kernel, n)))
        {
            let len = |numbers: &mut Numbers| 64 * numbers.below(40);
            let bodies: Vec<_> = (0..count)
                .map(|_| {
                    let len = len(&mut numbers);
                    (numbers.bytes(len), Need::Urgent)
                })
                .collect();
            assert!(run(kernel, &bodies).iter().all(|left| *left == 0));
        }
    }

    #[test]
    fn riders_get_the_free_lanes_for_as_long_as_the_urgent_need() {
        let urgent = [30, 10, 20].map(|blocks| (Numbers(6).bytes(64 * blocks), Need::Urgent));
        let riders = [100, 90, 2].map(|blocks| (Numbers(7).bytes(64 * blocks), Need::Rider));
        let bodies: Vec<_> = riders.into_iter().chain(urgent).collect();
        for kernel in Kernel::all() {
            let left = run(kernel, &bodies);
            assert_eq!(left[3..], [0, 0, 0]);
            let expected = if kernel.lane_count() == 1 { [100, 90, 2] } else { [70, 60, 0] };
            assert_eq!(left[..3], expected, "{}", kernel.name());
        }
    }
}
