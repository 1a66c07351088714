//! Sizes and times as people write them: `64KiB`, `1500ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &text[digits.len()..] {
            "" | "B" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            unit => return Err(format!("the unit {unit:?} is none of B, KiB, MiB, GiB")),
        };
        let count: u64 = digits.parse().map_err(|_| format!("{text:?} is not a size like 64KiB"))?;
        count.checked_mul(1 << shift).map(Size).ok_or_else(|| format!("{text:?} is too large"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 >= 1 << shift && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let count: u64 = digits.parse().map_err(|_| format!("{text:?} is not a time like 30s"))?;
        let millis = match &text[digits.len()..] {
            "ms" => Some(count),
            "s" => count.checked_mul(1000),
            "m" => count.checked_mul(60_000),
            "h" => count.checked_mul(3_600_000),
            unit => return Err(format!("the unit {unit:?} is none of ms, s, m, h")),
        };
        millis
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| format!("{text:?} is too long"))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis if millis % 1000 != 0 => write!(f, "{millis}ms"),
            millis => write!(f, "{}s", millis / 1000),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        into.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        into.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_with_their_units() {
        assert_eq!("64KiB".parse(), Ok(Size(65_536)));
        assert_eq!("40".parse(), Ok(Size(40)));
        assert!("1kB".parse::<Size>().is_err() && "x".parse::<Size>().is_err());
        assert_eq!("2m".parse(), Ok(Time(Duration::from_secs(120))));
        assert!("2".parse::<Time>().is_err());
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for size in [0, 40, 1024, 65_537, 5 << 30] {
            assert_eq!(Size(size).to_string().parse(), Ok(Size(size)));
        }
        for millis in [0, 1, 1500, 60_000] {
            let time = Time(Duration::from_millis(millis));
            assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}
