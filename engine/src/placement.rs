//! On which devices a segment's copies go: CRUSH's straw2 (Weil et al., SC 2006; straw2 in Ceph since Hammer).
//!
//! Every device draws a straw whose length depends on the segment, the device and its weight alone; the longest straws win. A device that
//! comes or goes therefore moves only what it gains or loses. The choice is recorded in the segment's header, so that
//! reading a segment never depends on recomputing it.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::ids::{DeviceIndex, SegmentId};

/// A device that could take a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The device.
    pub device: DeviceIndex,
    /// Its share: the slots it has.
    pub weight: u32,
}

/// The `copies` devices for a segment, best first; `None` when there are fewer candidates.
pub fn choose_devices(
    segment: SegmentId,
    candidates: &[Candidate],
    copies: usize,
) -> Option<Vec<DeviceIndex>> {
    let mut straws: Vec<(f64, DeviceIndex)> = candidates
        .iter()
        .filter(|candidate| candidate.weight > 0)
        .map(|candidate| (straw(segment, *candidate), candidate.device))
        .collect();
    if straws.len() < copies {
        return None;
    }
    straws.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    Some(straws.into_iter().take(copies).map(|(_, device)| device).collect())
}

fn straw(segment: SegmentId, candidate: Candidate) -> f64 {
    let hash = xxh3_64_with_seed(&segment.0.to_le_bytes(), u64::from(candidate.device.0) + 1);
    // 53 bits make a number in (0, 1]; its logarithm over the weight is the straw.
    let uniform = ((hash >> 11) + 1) as f64 / (1u64 << 53) as f64;
    uniform.ln() / f64::from(candidate.weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SegmentIndex;

    fn candidates(weights: &[u32]) -> Vec<Candidate> {
        weights
            .iter()
            .enumerate()
            .map(|(i, w)| Candidate { device: DeviceIndex(i as u16), weight: *w })
            .collect()
    }

    fn shares(candidates: &[Candidate], rounds: u64) -> Vec<u64> {
        let mut counts = vec![0; candidates.len()];
        for i in 0..rounds {
            let chosen = choose_devices(SegmentId::new(i, SegmentIndex(0)), candidates, 1).expect("enough");
            counts[usize::from(chosen[0].0)] += 1;
        }
        counts
    }

    #[test]
    fn shares_follow_the_weights() {
        let counts = shares(&candidates(&[100, 100, 200]), 8000);
        for (count, expected) in counts.iter().zip([2000u64, 2000, 4000]) {
            assert!(count.abs_diff(expected) < 200, "{counts:?}");
        }
    }

    #[test]
    fn copies_go_to_different_devices() {
        for i in 0..100 {
            let chosen = choose_devices(SegmentId::new(i, SegmentIndex(0)), &candidates(&[1, 1, 1]), 2)
                .expect("enough");
            assert_ne!(chosen[0], chosen[1]);
        }
        assert_eq!(choose_devices(SegmentId::new(1, SegmentIndex(0)), &candidates(&[1, 0]), 2), None);
    }

    #[test]
    fn a_new_device_takes_its_share_and_moves_nothing_else() {
        let (before, after) = (candidates(&[100, 100]), candidates(&[100, 100, 100]));
        for i in 0..1000 {
            let segment = SegmentId::new(i, SegmentIndex(0));
            let old = choose_devices(segment, &before, 1).expect("enough")[0];
            let new = choose_devices(segment, &after, 1).expect("enough")[0];
            assert!(new == old || new == DeviceIndex(2));
        }
    }
}
