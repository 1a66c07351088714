//! Values as people write them: `256MiB`, `30s`, `127.0.0.1:9000`, `auto`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// A number of bytes: a plain number, or one with a unit (`B`, `KiB`, `MiB`, `GiB`, `TiB`, or the decimal `kB` to `TB`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// As a length in memory; a limit beyond the address space is no limit.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl From<usize> for ByteSize {
    fn from(len: usize) -> Self {
        ByteSize(len as u64)
    }
}

const SIZE_HINT: &str = "a size: a number of bytes, or a number with a unit like \"256MiB\" (B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)";

const SIZE_UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_with_unit(text, &SIZE_UNITS).map(ByteSize).ok_or_else(|| format!("{text:?} is not {SIZE_HINT}"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = SIZE_UNITS[2..6]
            .iter()
            .rev()
            .find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size))
            .unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SIZE_HINT)
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes)
                    .map(ByteSize)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Size)
    }
}

/// A length of time with its unit: `500ms`, `30s`, `5m`, `24h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Period(Duration::from_secs(seconds))
    }
}

const PERIOD_HINT: &str = "a length of time with its unit, like \"30s\" (ms, s, m, h, d)";

const PERIOD_UNITS_MS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_with_unit(text, &PERIOD_UNITS_MS)
            .filter(|ms| *ms > 0)
            .map(|ms| Period(Duration::from_millis(ms)))
            .ok_or_else(|| format!("{text:?} is not {PERIOD_HINT}, and more than 0"))
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Parsed::new(PERIOD_HINT))
    }
}

/// An address and port to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

const ADDRESS_HINT: &str =
    "ADDRESS:PORT with an IP address, like \"127.0.0.1:9000\", \"0.0.0.0:9000\" or \"[::]:9000\"";

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Address).map_err(|_| format!("{text:?} is not {ADDRESS_HINT}"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Parsed::new(ADDRESS_HINT))
    }
}

/// A value, or `"auto"`: the node chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auto<T> {
    /// The node chooses.
    #[default]
    Auto,
    /// This.
    Set(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Auto<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AutoOr<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for AutoOr<T> {
            type Value = Auto<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"auto\" or {SIZE_HINT}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Auto<T>, E> {
                if text == "auto" {
                    return Ok(Auto::Auto);
                }
                T::deserialize(de::value::StrDeserializer::new(text)).map(Auto::Set)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Auto<T>, E> {
                T::deserialize(de::value::I64Deserializer::new(number)).map(Auto::Set)
            }
        }
        deserializer.deserialize_any(AutoOr(std::marker::PhantomData))
    }
}

/// Takes a string and parses it; a value of another type is answered with what was expected.
pub(super) struct Parsed<T> {
    hint: &'static str,
    of: std::marker::PhantomData<T>,
}

impl<T> Parsed<T> {
    pub(super) fn new(hint: &'static str) -> Self {
        Parsed { hint, of: std::marker::PhantomData }
    }
}

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hint)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// `12MiB` by a table of units; a fraction (`1.5GiB`) is fine where it makes whole units.
fn parse_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = (text[..split].replace('_', ""), text[split..].trim());
    let scale = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    if whole.is_empty() || fraction.len() > 6 || fraction.contains('.') {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let digits = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()?.checked_mul(scale)? };
    let divisor = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    if !digits.is_multiple_of(divisor) {
        return None;
    }
    whole.checked_add(digits / divisor)
}

#[cfg(test)]
mod serialize {
    //! Only to list all settings in a test.

    use serde::{Serialize, Serializer};

    use super::{Address, Auto, ByteSize, Period};

    impl Serialize for ByteSize {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_u64(self.0)
        }
    }

    impl Serialize for Period {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(&format_args!("{}ms", self.0.as_millis()))
        }
    }

    impl Serialize for Address {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    impl<T: Serialize> Serialize for Auto<T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Auto::Auto => serializer.serialize_str("auto"),
                Auto::Set(value) => value.serialize(serializer),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_every_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("4KiB", 4096),
            ("4 KiB", 4096),
            ("256MiB", 256 << 20),
            ("1.5GiB", 3 << 29),
            ("5TiB", 5 << 40),
            ("10GB", 10_000_000_000),
            ("1_000kB", 1_000_000),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_units() {
        for text in ["", "MiB", "-1", "12 parsecs", "1.5B", "1..5KiB", "99999999TiB", "1.0000001GiB", ".5GiB"]
        {
            let error = text.parse::<ByteSize>().expect_err(text);
            assert!(error.contains("MiB") && error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn a_size_is_shown_in_the_largest_whole_unit() {
        for (bytes, text) in
            [(0, "0B"), (1500, "1500B"), (1 << 20, "1MiB"), (3 << 29, "1536MiB"), (5 << 40, "5TiB")]
        {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    #[test]
    fn periods_need_a_unit_and_are_more_than_nothing() {
        assert_eq!("500ms".parse(), Ok(Period(Duration::from_millis(500))));
        assert_eq!("1.5s".parse(), Ok(Period(Duration::from_millis(1500))));
        assert_eq!("7d".parse(), Ok(Period::from_secs(604_800)));
        for text in ["30", "0s", "s", "soon"] {
            assert!(text.parse::<Period>().expect_err(text).contains("30s"));
        }
    }

    #[test]
    fn an_address_is_an_ip_address_with_a_port() {
        assert!("[::1]:9000".parse::<Address>().is_ok());
        for text in ["localhost:9000", "127.0.0.1", "9000", ":9000"] {
            assert!(text.parse::<Address>().expect_err(text).contains("ADDRESS:PORT"));
        }
    }
}
