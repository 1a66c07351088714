//! Which CPUs get a core: `auto`, or a list like `0-3,6`.

use std::fmt;
use std::io;
use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity};
use serde::{Deserialize, Deserializer};

use super::units::Parsed;

const HINT: &str = "\"auto\" or a list of CPUs like \"0-3,6\"";

/// The CPUs to run on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CpuList {
    /// All that the process may use.
    #[default]
    Auto,
    /// These, in this order; none twice.
    Set(Vec<usize>),
}

impl CpuList {
    /// The CPUs to pin the cores to, in order.
    ///
    /// # Errors
    /// When the list names one that this process may not use.
    pub fn resolve(&self) -> Result<Vec<usize>, CpusError> {
        let usable = usable_cpus().map_err(CpusError::Unknown)?;
        let CpuList::Set(cpus) = self else { return Ok(usable) };
        match cpus.iter().find(|cpu| !usable.contains(cpu)) {
            Some(&cpu) => Err(CpusError::NotUsable { cpu, usable }),
            None => Ok(cpus.clone()),
        }
    }
}

/// The cores can't be placed.
#[derive(Debug)]
pub enum CpusError {
    /// The list names a CPU that isn't there, or isn't for us.
    NotUsable {
        /// That one.
        cpu: usize,
        /// Those that are.
        usable: Vec<usize>,
    },
    /// The kernel doesn't say which CPUs we may use.
    Unknown(io::Error),
}

impl fmt::Display for CpusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CpusError::NotUsable { cpu, usable } => write!(
                f,
                "node.cores (--cores) names CPU {cpu}, which this process may not use; it may use {}",
                CpuList::Set(usable.clone())
            ),
            CpusError::Unknown(error) => {
                write!(f, "cannot find out which CPUs this process may use: {error}")
            }
        }
    }
}

impl std::error::Error for CpusError {}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(CpuList::Auto);
        }
        let refused = || format!("{text:?} is not {HINT}, each CPU once");
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let parse =
                |number: &str| number.trim().parse::<usize>().ok().filter(|cpu| *cpu < CpuSet::MAX_CPU);
            let (first, last) =
                parse(first).zip(parse(last)).filter(|(first, last)| first <= last).ok_or_else(refused)?;
            cpus.extend(first..=last);
        }
        let mut unique = cpus.clone();
        unique.sort_unstable();
        unique.dedup();
        if unique.len() < cpus.len() { Err(refused()) } else { Ok(CpuList::Set(cpus)) }
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CpuList::Set(cpus) = self else { return f.write_str("auto") };
        for (index, run) in cpus.chunk_by(|left, right| left + 1 == *right).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match run {
                [only] => write!(f, "{comma}{only}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => unreachable!("a run has members"),
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for CpuList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Parsed::new(HINT))
    }
}

#[cfg(test)]
impl serde::Serialize for CpuList {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn usable_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read_in_their_order() {
        assert_eq!("0-3,6".parse(), Ok(CpuList::Set(vec![0, 1, 2, 3, 6])));
        assert_eq!("2, 0".parse(), Ok(CpuList::Set(vec![2, 0])));
        assert_eq!("auto".parse(), Ok(CpuList::Auto));
    }

    #[test]
    fn what_is_no_list_is_refused_with_an_example() {
        for text in ["", "a", "3-1", "1,,2", "0-3,2", "-1", "99999"] {
            assert!(text.parse::<CpuList>().expect_err(text).contains("0-3,6"), "{text}");
        }
    }

    #[test]
    fn a_list_is_shown_as_it_would_be_written() {
        for text in ["0", "0-3,6", "5,3", "0-1,4-5"] {
            assert_eq!(text.parse::<CpuList>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named_with_those_that_are() {
        let error = CpuList::Set(vec![CpuSet::MAX_CPU - 1])
            .resolve()
            .expect_err("no machine has that many")
            .to_string();
        assert!(error.contains(&(CpuSet::MAX_CPU - 1).to_string()) && error.contains("--cores"), "{error}");
    }

    #[test]
    fn auto_is_every_usable_cpu() {
        assert!(!CpuList::Auto.resolve().expect("the kernel says").is_empty());
    }
}
