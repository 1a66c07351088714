//! What is drawn by lot: the operation, the key, the length of an object, the time of the next request.

mod sizes;
mod zipf;

use serde::{Deserialize, Serialize};

use super::scenario::Operation;
use crate::rng::Rng;
pub use sizes::{Lognormal, Sizes};
use zipf::{Zipf, stride};

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

/// How the intended times of an open loop lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrival {
    /// At equal distances.
    Steady,
    /// As those of many independent clients: exponential distances.
    Poisson,
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
    use super::*;

    #[test]
    fn sequential_keys_go_round() {
        let (mut keys, mut rng) = (Keys::new(KeyOrder::Sequential, 3), Rng::new(1));
        let drawn: Vec<u64> = (0..5).map(|_| keys.draw(&mut rng)).collect();
        assert_eq!(drawn, [0, 1, 2, 0, 1]);
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
