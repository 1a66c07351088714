//! What is drawn by lot: the operation, the key, the length of an object, the time of the next request.

use serde::{Deserialize, Serialize};

use super::scenario::Operation;
use crate::rng::Rng;
use crate::units::Size;

/// Which key is next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyOrder {
    /// Each as likely as any other.
    Uniform,
    /// One after the other, and from the start again.
    Sequential,
    /// The k-th most popular in proportion to `1 / k^exponent`; popular keys are scattered over the key space.
    Zipf(f64),
}

/// Lengths of objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sizes {
    /// Each from the first to the second as likely as any other.
    Uniform(Size, Size),
    /// As file sizes are spread in practice: the logarithm is normal.
    Lognormal(Lognormal),
    /// Sizes with weights, like `[["4KiB", 90], ["1MiB", 10]]`.
    List(Vec<(Size, u32)>),
    /// Always the same.
    #[serde(untagged)]
    Fixed(Size),
}

/// A lognormal distribution, cut at both ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lognormal {
    /// Half of the objects are smaller.
    pub median: Size,
    /// Standard deviation of the natural logarithm: 1 puts two thirds within a factor of 2.7 of the median.
    pub sigma: f64,
    /// Smaller draws become this.
    #[serde(default = "Lognormal::default_min")]
    pub min: Size,
    /// Larger draws become this.
    pub max: Size,
}

/// How the intended times of an open loop lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrival {
    /// At equal distances.
    Steady,
    /// As those of many independent clients: exponential distances.
    Poisson,
}

impl Lognormal {
    fn default_min() -> Size {
        Size(crate::body::HEADER_LEN as u64)
    }
}

impl Sizes {
    /// The smallest that can be drawn.
    pub fn len_min(&self) -> u64 {
        match self {
            Self::Fixed(size) => size.0,
            Self::Uniform(low, _) => low.0,
            Self::Lognormal(it) => it.min.0,
            Self::List(list) => list.iter().map(|(size, _)| size.0).min().unwrap_or(0),
        }
    }

    /// The largest that can be drawn.
    pub fn len_max(&self) -> u64 {
        match self {
            Self::Fixed(size) => size.0,
            Self::Uniform(_, high) => high.0,
            Self::Lognormal(it) => it.max.0,
            Self::List(list) => list.iter().map(|(size, _)| size.0).max().unwrap_or(0),
        }
    }

    /// Says what can't be meant.
    pub fn check(&self) -> Result<(), String> {
        let is_sound = match self {
            Self::Fixed(_) => true,
            Self::Uniform(low, high) => low <= high,
            Self::Lognormal(it) => it.sigma >= 0.0 && it.sigma < 10.0 && it.min <= it.max && it.median.0 > 0,
            Self::List(list) => list.iter().any(|(_, weight)| *weight > 0),
        };
        if is_sound { Ok(()) } else { Err(format!("size: {self:?} leaves nothing to draw from")) }
    }

    pub(super) fn draw(&self, rng: &mut Rng) -> u64 {
        match self {
            Self::Fixed(size) => size.0,
            Self::Uniform(low, high) => rng.between(low.0, high.0),
            Self::Lognormal(it) => {
                let len = it.median.0 as f64 * (it.sigma * rng.normal()).exp();
                (len.round() as u64).clamp(it.min.0, it.max.0)
            }
            Self::List(list) => {
                let weights = list.iter().map(|(_, weight)| u64::from(*weight));
                list[weighted(weights, rng)].0.0
            }
        }
    }
}

impl KeyOrder {
    /// Says what can't be meant.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Zipf(exponent) if !(*exponent > 0.0 && *exponent <= 10.0) => {
                Err("key-order: the exponent of zipf lies above 0 and up to 10 (0.99 is YCSB's)".into())
            }
            _ => Ok(()),
        }
    }
}

/// Draws keys `0..count`.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    count: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Uniform,
    Sequential { next: u64 },
    Zipf { zipf: Zipf, stride: u64 },
}

impl Keys {
    /// `count` is not 0.
    pub fn new(order: KeyOrder, count: u64) -> Self {
        let kind = match order {
            KeyOrder::Uniform => Kind::Uniform,
            KeyOrder::Sequential => Kind::Sequential { next: 0 },
            KeyOrder::Zipf(exponent) => {
                Kind::Zipf { zipf: Zipf::new(count, exponent), stride: stride(count) }
            }
        };
        Self { count, kind }
    }

    pub fn draw(&mut self, rng: &mut Rng) -> u64 {
        match &mut self.kind {
            Kind::Uniform => rng.below(self.count),
            Kind::Sequential { next } => {
                let key = *next;
                *next = (key + 1) % self.count;
                key
            }
            Kind::Zipf { zipf, stride } => {
                let rank = zipf.draw(rng) - 1;
                (u128::from(rank) * u128::from(*stride) % u128::from(self.count)) as u64
            }
        }
    }
}

/// A number without a common factor with `count`, so that multiplying by it permutes `0..count`.
fn stride(count: u64) -> u64 {
    let gcd = |mut a: u64, mut b: u64| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    // The golden section keeps neighbours far apart.
    let start = ((count as f64 * 0.618_034) as u64).max(1);
    (start..).find(|candidate| gcd(*candidate, count) == 1).expect("there is a prime above every number")
}

/// Rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete
/// distributions", 1996): constant time, no table.
#[derive(Clone, Debug)]
struct Zipf {
    count: f64,
    exponent: f64,
    integral_first: f64,
    integral_last: f64,
    shortcut: f64,
}

impl Zipf {
    fn new(count: u64, exponent: f64) -> Self {
        let mut zipf =
            Self { count: count as f64, exponent, integral_first: 0.0, integral_last: 0.0, shortcut: 0.0 };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(zipf.count + 0.5);
        zipf.shortcut = 2.0 - zipf.integral_inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// From 1 to the count.
    fn draw(&self, rng: &mut Rng) -> u64 {
        loop {
            let at = self.integral_last + rng.unit() * (self.integral_first - self.integral_last);
            let x = self.integral_inverse(at);
            let k = x.round().clamp(1.0, self.count);
            if k - x <= self.shortcut || at >= self.integral(k + 0.5) - self.density(k) {
                return k as u64;
            }
        }
    }

    fn density(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        expm1_over((1.0 - self.exponent) * log) * log
    }

    fn integral_inverse(&self, x: f64) -> f64 {
        let t = (x * (1.0 - self.exponent)).max(-1.0);
        (ln1p_over(t) * x).exp()
    }
}

/// `(e^x - 1) / x`, also near 0.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

/// `ln(1 + x) / x`, also near 0.
fn ln1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

/// Operations with their weights.
#[derive(Clone, Debug)]
pub(super) struct Mix {
    weights: Vec<(Operation, u32)>,
}

impl Mix {
    /// One of the weights at least is above 0.
    pub fn new(weights: impl IntoIterator<Item = (Operation, u32)>) -> Self {
        Self { weights: weights.into_iter().filter(|(_, weight)| *weight > 0).collect() }
    }

    pub fn draw(&self, rng: &mut Rng) -> Operation {
        match &self.weights[..] {
            [(only, _)] => *only,
            list => list[weighted(list.iter().map(|(_, weight)| u64::from(*weight)), rng)].0,
        }
    }
}

fn weighted(weights: impl Iterator<Item = u64> + Clone, rng: &mut Rng) -> usize {
    let mut rest = rng.below(weights.clone().sum());
    for (index, weight) in weights.enumerate() {
        match rest.checked_sub(weight) {
            Some(left) => rest = left,
            None => return index,
        }
    }
    unreachable!("the draw is below the sum of the weights")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn zipf_draws_each_rank_in_proportion() {
        let (zipf, mut rng) = (Zipf::new(100, 1.0), Rng::new(1));
        let mut counts = [0_u32; 101];
        (0..100_000).for_each(|_| counts[zipf.draw(&mut rng) as usize] += 1);
        let harmonic: f64 = (1..=100).map(|k| 1.0 / f64::from(k)).sum();
        for rank in [1, 2, 3, 10, 50] {
            let expected = 100_000.0 / rank as f64 / harmonic;
            let error = (f64::from(counts[rank]) - expected).abs() / expected;
            assert!(error < 0.15, "rank {rank}: {} drawn, {expected:.0} expected", counts[rank]);
        }
        assert_eq!(counts[0], 0);
    }

    #[test]
    fn every_rank_has_a_key_of_its_own() {
        for count in [1, 2, 10, 97, 1000] {
            let step = stride(count);
            let keys: BTreeSet<u64> = (0..count).map(|rank| rank * step % count).collect();
            assert_eq!(keys.len() as u64, count);
        }
    }

    #[test]
    fn sequential_keys_go_round() {
        let (mut keys, mut rng) = (Keys::new(KeyOrder::Sequential, 3), Rng::new(1));
        let drawn: Vec<u64> = (0..5).map(|_| keys.draw(&mut rng)).collect();
        assert_eq!(drawn, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn sizes_keep_their_bounds_and_their_median() {
        let median = Size(10_000);
        let sizes = Sizes::Lognormal(Lognormal { median, sigma: 1.5, min: Size(40), max: Size(1 << 20) });
        let mut rng = Rng::new(1);
        let mut drawn: Vec<u64> = (0..10_000).map(|_| sizes.draw(&mut rng)).collect();
        drawn.sort_unstable();
        assert!((9_000..11_000).contains(&drawn[5_000]), "{}", drawn[5_000]);
        assert!(drawn[0] >= 40 && drawn[9_999] <= 1 << 20);
    }

    #[test]
    fn weights_are_kept() {
        let mix = Mix::new([(Operation::Get, 3), (Operation::Put, 1), (Operation::List, 0)]);
        let mut rng = Rng::new(1);
        let drawn: Vec<Operation> = (0..4000).map(|_| mix.draw(&mut rng)).collect();
        let gets = drawn.iter().filter(|operation| **operation == Operation::Get).count();
        assert!((2800..3200).contains(&gets), "{gets}");
        assert!(!drawn.contains(&Operation::List));
    }
}
