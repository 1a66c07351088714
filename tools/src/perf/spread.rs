//! The median of the rounds, and how far they lie apart.

use std::fmt;

/// Median, least and greatest of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` when there are no figures. Of an even number the median lies halfway between the middle two.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), min, max })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$} ({:.digits$}..{:.digits$})", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_depend_on_the_order_of_the_rounds() {
        let odd = Spread::of([9.0, 1.0, 4.0]).unwrap();
        assert_eq!(odd, Spread { median: 4.0, min: 1.0, max: 9.0 });
        let even = Spread::of([10.0, 2.0, 4.0, 1.0]).unwrap();
        assert_eq!(even.median, 3.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_spread_shows_its_ends() {
        let spread = Spread { median: 1.0, min: 0.5, max: 2.0 };
        assert_eq!(format!("{spread:.1}"), "1.0 (0.5..2.0)");
    }
}
