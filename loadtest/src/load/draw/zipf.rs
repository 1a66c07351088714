//! Popular keys and rare ones.

use crate::rng::Rng;

/// Rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete
/// distributions", 1996): constant time, no table.
#[derive(Clone, Debug)]
pub(super) struct Zipf {
    count: f64,
    exponent: f64,
    integral_first: f64,
    integral_last: f64,
    shortcut: f64,
}

impl Zipf {
    pub(super) fn new(count: u64, exponent: f64) -> Self {
        let mut zipf =
            Self { count: count as f64, exponent, integral_first: 0.0, integral_last: 0.0, shortcut: 0.0 };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(zipf.count + 0.5);
        zipf.shortcut = 2.0 - zipf.integral_inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// From 1 to the count.
    pub(super) fn draw(&self, rng: &mut Rng) -> u64 {
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

/// A number without a common factor with `count`, so that multiplying by it permutes `0..count`.
pub(super) fn stride(count: u64) -> u64 {
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
}
