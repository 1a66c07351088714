//! `[rates]`: what each bucket is guaranteed and allowed.

use std::num::NonZeroU32;

use serde::Deserialize;

use super::Period;
use crate::rates::{Targets, Wanted, is_bucket_name};

/// `[rates]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// GET and HEAD per second that every bucket is guaranteed.
    pub reads: u32,
    /// PUT, COPY, POST and DELETE per second that every bucket is guaranteed.
    pub writes: u32,
    /// Reads per second beyond which a bucket's are refused.
    pub reads_max: Option<NonZeroU32>,
    /// The same for writes.
    pub writes_max: Option<NonZeroU32>,
    /// Requests that one core works on at once.
    pub in_flight_per_core_max: usize,
    /// Writes that wait for a flush on one core, beside those.
    pub committing_per_core_max: usize,
    /// How long a request waits for its turn.
    pub wait_max: Period,
    /// Buckets that have labels of their own in `/metrics`.
    pub metrics_buckets_max: usize,
    /// `[[rates.buckets]]`
    pub buckets: Vec<BucketRates>,
}

impl Default for Rates {
    fn default() -> Self {
        let targets = Targets::default();
        Rates {
            reads: targets.reads,
            writes: targets.writes,
            reads_max: targets.reads_max,
            writes_max: targets.writes_max,
            in_flight_per_core_max: 128,
            committing_per_core_max: 256,
            wait_max: Period::from_secs(5),
            metrics_buckets_max: 100,
            buckets: Vec::new(),
        }
    }
}

/// One of `[[rates.buckets]]`; what it leaves out is as for all buckets.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is documented as the field of the same name in Rates")]
pub struct BucketRates {
    /// The bucket, which need not exist yet.
    pub name: String,
    pub reads: Option<u32>,
    pub writes: Option<u32>,
    pub reads_max: Option<NonZeroU32>,
    pub writes_max: Option<NonZeroU32>,
}

impl BucketRates {
    /// What it says.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            reads: self.reads,
            writes: self.writes,
            reads_max: self.reads_max,
            writes_max: self.writes_max,
        }
    }
}

impl Rates {
    /// The targets of buckets that are not named.
    pub fn targets(&self) -> Targets {
        Targets {
            reads: self.reads,
            writes: self.writes,
            reads_max: self.reads_max,
            writes_max: self.writes_max,
        }
    }

    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.in_flight_per_core_max == 0 {
            return Err(("rates.in_flight_per_core_max", "must be at least 1".into()));
        }
        self.targets().check().map_err(|(name, what)| match name {
            "reads_max" => ("rates.reads_max", what),
            _ => ("rates.writes_max", what),
        })?;
        let mut names: Vec<&str> = self.buckets.iter().map(|bucket| bucket.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(("rates.buckets", format!("{:?} is named twice", twice[0])));
        }
        for bucket in &self.buckets {
            if !is_bucket_name(&bucket.name) {
                return Err(("rates.buckets", format!("{:?} is not the name of a bucket", bucket.name)));
            }
            let targets = bucket.wanted().or(&self.targets());
            targets.check().map_err(|(setting, what)| {
                ("rates.buckets", format!("bucket {:?}: {setting} = {what}", bucket.name))
            })?;
        }
        Ok(())
    }
}
