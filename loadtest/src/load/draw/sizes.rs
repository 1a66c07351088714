//! How long objects are.

use serde::{Deserialize, Serialize};

use super::weighted;
use crate::rng::Rng;
use crate::units::Size;

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

    pub(in crate::load) fn draw(&self, rng: &mut Rng) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
