//! What a bucket is guaranteed and allowed, in operations per second.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// The two kinds of requests that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// GET and HEAD.
    Read,
    /// PUT, COPY, POST and DELETE.
    Write,
}

impl Class {
    /// Both, in the order of their index.
    pub const ALL: [Class; 2] = [Class::Read, Class::Write];

    /// Its place in arrays.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        ["read", "write"][self.index()]
    }
}

/// The targets of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Targets {
    /// Reads per second that go before all surplus.
    pub reads: u32,
    /// Writes per second that go before all surplus.
    pub writes: u32,
    /// Reads per second beyond which they are refused; `None`: no ceiling.
    pub reads_max: Option<NonZeroU32>,
    /// The same for writes.
    pub writes_max: Option<NonZeroU32>,
}

impl Default for Targets {
    fn default() -> Self {
        Targets { reads: 300, writes: 200, reads_max: None, writes_max: None }
    }
}

impl Targets {
    /// What is guaranteed.
    pub fn rate(&self, class: Class) -> u32 {
        [self.reads, self.writes][class.index()]
    }

    /// The ceiling; 0: none.
    pub fn ceiling(&self, class: Class) -> u32 {
        [self.reads_max, self.writes_max][class.index()].map_or(0, NonZeroU32::get)
    }

    /// A ceiling below what is guaranteed contradicts it.
    ///
    /// # Errors
    /// Names the setting, and says what is wrong.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        for (class, name, rate) in
            [(Class::Read, "reads_max", "reads"), (Class::Write, "writes_max", "writes")]
        {
            let (ceiling, guaranteed) = (self.ceiling(class), self.rate(class));
            if ceiling != 0 && ceiling < guaranteed {
                return Err((
                    name,
                    format!(
                        "{ceiling} is below the guaranteed rate, {rate} = {guaranteed}; raise it, or lower {rate}"
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// What is said of one bucket; what is not said is the node's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each is documented as the field of the same name in Targets")]
pub struct Wanted {
    pub reads: Option<u32>,
    pub writes: Option<u32>,
    pub reads_max: Option<NonZeroU32>,
    pub writes_max: Option<NonZeroU32>,
}

impl Wanted {
    /// With the default for what is not said.
    pub fn or(&self, default: &Targets) -> Targets {
        Targets {
            reads: self.reads.unwrap_or(default.reads),
            writes: self.writes.unwrap_or(default.writes),
            reads_max: self.reads_max.or(default.reads_max),
            writes_max: self.writes_max.or(default.writes_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_below_the_guarantee_is_refused_by_name() {
        let targets = Targets { writes_max: NonZeroU32::new(199), ..Targets::default() };
        assert_eq!(targets.check().map_err(|(name, _)| name), Err("writes_max"));
        let targets = Targets { writes_max: NonZeroU32::new(200), ..Targets::default() };
        assert_eq!(targets.check(), Ok(()));
    }
}
