//! What a run asks for: read from a TOML file, completed by defaults, and refused when it can't be meant.

mod limits;
mod operation;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::draw::{Arrival, KeyOrder, Sizes};
use crate::units::{Size, Time};
pub use limits::{BUCKETS_MAX, CONNECTIONS_MAX, KEYS_MAX};
pub use operation::Operation;

/// Whether objects are stored before the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prepare {
    /// Every key is stored once.
    Fill,
    /// Nothing: they are there from an earlier run, or none is needed.
    None,
}

/// Whether the signature covers the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadMode {
    /// `UNSIGNED-PAYLOAD`: TLS alone protects it, as most clients do it over HTTPS.
    Unsigned,
    /// Its SHA-256 is signed, which costs client and server a pass over it.
    Signed,
}

/// How LIST asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ListOptions {
    /// Keys per page.
    pub page: u32,
}

/// How a multipart upload is cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct MultipartOptions {
    /// Parts of an upload.
    pub parts: u32,
    /// Bytes of each.
    pub part_size: Size,
}

/// A whole scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Scenario {
    /// What it is for.
    pub about: String,
    /// Weights of the operations.
    pub operations: BTreeMap<Operation, u32>,
    /// Connections, and so requests in flight at most.
    pub connections: u32,
    /// Threads that drive them; 0 is half of the processors.
    pub threads: u32,
    /// Operations a second of all together, sent on schedule whatever the server does; without it, a closed loop.
    pub rate: Option<f64>,
    /// How the times of an open loop lie.
    pub arrival: Arrival,
    /// How many buckets the keys are spread over.
    pub buckets: u32,
    /// Buckets are called this, a dash and a number from 0.
    pub bucket_prefix: String,
    /// Keys per bucket.
    pub keys: u64,
    /// Which key is next.
    pub key_order: KeyOrder,
    /// Length of the objects.
    pub size: Sizes,
    /// Whether objects are stored before the measurement.
    pub prepare: Option<Prepare>,
    /// The part of the bodies read that is compared byte by byte, from 0 to 1. The length is checked always.
    pub verify: f64,
    /// Whether the signature covers the body.
    pub payload: PayloadMode,
    /// Load before each measurement that isn't counted.
    pub warm_up: Time,
    /// Length of each measurement.
    pub duration: Time,
    /// End a measurement after so many operations, if that comes first.
    pub count: Option<u64>,
    /// Measurements; the spread between them tells the noise.
    pub rounds: u32,
    /// A request without its answer after this time has failed.
    pub timeout: Time,
    /// Decides the choice of keys and the content of bodies; from the clock when absent.
    pub seed: Option<u64>,
    /// How LIST asks.
    pub list: ListOptions,
    /// How a multipart upload is cut.
    pub multipart: MultipartOptions,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self { page: 1000 }
    }
}

impl Default for MultipartOptions {
    fn default() -> Self {
        Self { parts: 3, part_size: Size(5 << 20) }
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            about: String::new(),
            operations: BTreeMap::new(),
            connections: 64,
            threads: 0,
            rate: None,
            arrival: Arrival::Steady,
            buckets: 1,
            bucket_prefix: "loadtest".into(),
            keys: 1000,
            key_order: KeyOrder::Uniform,
            size: Sizes::Fixed(Size(4096)),
            prepare: None,
            verify: 1.0,
            payload: PayloadMode::Unsigned,
            warm_up: Time(Duration::from_secs(2)),
            duration: Time(Duration::from_secs(10)),
            count: None,
            rounds: 1,
            timeout: Time(Duration::from_secs(30)),
            seed: None,
            list: ListOptions::default(),
            multipart: MultipartOptions::default(),
        }
    }
}

impl Scenario {
    /// Reads a scenario; the error names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// Reads a scenario from a file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Whether every key is to be stored first: by the setting, or else because some operation reads.
    pub fn fills(&self) -> bool {
        let reads = |(operation, weight): (&Operation, &u32)| !operation.is_write() && *weight > 0;
        match self.prepare {
            Some(prepare) => prepare == Prepare::Fill,
            None => self.operations.iter().any(reads),
        }
    }

    /// Threads, with the default put in.
    pub fn thread_count(&self) -> u32 {
        let half = std::thread::available_parallelism().map_or(1, |count| count.get() as u32 / 2);
        let wanted = if self.threads == 0 { half } else { self.threads };
        wanted.clamp(1, self.connections.max(1))
    }

    /// Keys of all buckets.
    pub fn key_count(&self) -> u64 {
        self.keys.saturating_mul(u64::from(self.buckets))
    }

    /// The name of a bucket.
    pub fn bucket(&self, index: u32) -> String {
        format!("{}-{index}", self.bucket_prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_one_line_is_a_scenario() {
        let scenario = Scenario::parse("operations = { get = 1 }").unwrap();
        assert_eq!(scenario.check(), Ok(()));
        assert!(scenario.fills());
        assert!(!Scenario::parse("operations = { put = 1 }").unwrap().fills());
    }

    #[test]
    fn a_misspelt_setting_is_refused_with_its_line() {
        let error = Scenario::parse("operations = { get = 1 }\nconections = 3").unwrap_err();
        assert!(error.contains("line 2") && error.contains("conections"), "{error}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_all_reasons() {
        let bad = Scenario { connections: 0, size: Sizes::Fixed(Size(39)), ..Scenario::default() };
        let error = bad.check().unwrap_err();
        for word in ["operations:", "connections:", "size:"] {
            assert!(error.contains(word), "{word} in {error}");
        }
    }

    #[test]
    fn a_scenario_survives_being_written_and_read() {
        let scenario = Scenario::parse(
            "operations = { get = 3, put = 1 }\nsize = { uniform = [\"1KiB\", \"8KiB\"] }\nkey-order = { zipf = 0.99 }\nrate = 10.5",
        )
        .unwrap();
        assert_eq!(Scenario::parse(&toml::to_string(&scenario).unwrap()).unwrap(), scenario);
    }
}
