//! What every key must hold, and the judgement on what it was seen to hold. Pure: no request is made here.

use crate::body::{Body, HEADER_LEN};

/// One acknowledged or attempted object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// The key that its body names: another one than its own after a copy.
    pub origin: String,
    pub generation: u64,
    pub len: u64,
    /// `None` until it is known, as for a copy whose answer never came.
    pub etag: Option<String>,
}

impl Version {
    pub fn body(&self, seed: u64) -> Body {
        Body::new(seed, &self.origin, self.generation, self.len)
    }
}

/// A key's state: an object, or none.
pub(super) type State = Option<Version>;

/// A key, and what may be read from it.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub bucket: &'static str,
    pub key: String,
    /// What was acknowledged last.
    settled: State,
    /// What a request without an answer would have made.
    pending: Option<State>,
    generation: u64,
}

/// What a GET showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Absent,
    Present { bytes: Vec<u8>, etag: String },
}

/// The judgement on what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it must be: what was settled before.
    Settled,
    /// The request in flight had taken effect.
    Applied,
    /// What was acknowledged is not there.
    Lost(String),
    /// It is nothing that was ever written whole.
    Torn(String),
    /// The right bytes under a wrong ETag.
    WrongEtag(String),
}

impl Slot {
    pub fn new(bucket: &'static str, key: String) -> Self {
        Self { bucket, key, settled: None, pending: None, generation: 0 }
    }

    /// The object that is certainly there, if one is.
    pub fn settled(&self) -> Option<&Version> {
        self.settled.as_ref()
    }

    /// Nothing is in doubt.
    pub fn is_certain(&self) -> bool {
        self.pending.is_none()
    }

    /// Numbers a new write.
    pub fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// A request that will make `state` is about to be sent.
    pub fn begin(&mut self, state: State) {
        assert!(self.pending.is_none(), "one request at a time");
        self.pending = Some(state);
    }

    /// It was acknowledged; `etag` is what the server called the object, and is believed if we can't tell.
    pub fn acknowledge(&mut self, etag: Option<&str>) {
        let state = self.pending.take().expect("something was begun");
        self.settled = state
            .map(|version| Version { etag: version.etag.or_else(|| etag.map(str::to_owned)), ..version });
    }

    /// It was refused, so nothing has changed.
    pub fn refuse(&mut self) {
        self.pending = None;
    }

    /// Judges what was seen. A key that is as it may be is certain again.
    pub fn judge(&mut self, seed: u64, seen: &Seen) -> Verdict {
        let verdict = self.compare(seed, seen);
        match &verdict {
            Verdict::Settled => {
                self.learn_etag(seen);
                self.pending = None;
            }
            Verdict::Applied => {
                self.settled = self.pending.take().flatten();
                self.learn_etag(seen);
            }
            _ => {}
        }
        verdict
    }

    fn learn_etag(&mut self, seen: &Seen) {
        if let (Some(version), Seen::Present { etag, .. }) = (&mut self.settled, seen) {
            version.etag.get_or_insert_with(|| etag.clone());
        }
    }

    fn compare(&self, seed: u64, seen: &Seen) -> Verdict {
        let candidates = [(Some(&self.settled), Verdict::Settled), (self.pending.as_ref(), Verdict::Applied)];
        let mut wrong_etag = None;
        for (state, verdict) in candidates {
            match (state, seen) {
                (Some(None), Seen::Absent) => return verdict,
                (Some(Some(version)), Seen::Present { bytes, etag })
                    if version.body(seed).compare(bytes).is_ok() =>
                {
                    match &version.etag {
                        Some(known) if known != etag => {
                            wrong_etag = Some(format!("{}: ETag {etag} instead of {known}", self.name()));
                        }
                        _ => return verdict,
                    }
                }
                _ => {}
            }
        }
        wrong_etag.map_or_else(|| self.blame(seed, seen), Verdict::WrongEtag)
    }

    fn blame(&self, seed: u64, seen: &Seen) -> Verdict {
        let expected = self.expectation();
        let name = self.name();
        let Seen::Present { bytes, .. } = seen else {
            return Verdict::Lost(format!("{name}: absent, expected {expected}"));
        };
        // A whole older object, or one that was deleted, is a loss; anything else is a mixture or garbage.
        let (description, is_whole) = self.describe(seed, bytes);
        let what = format!("{name}: {} bytes, {description}, expected {expected}", bytes.len());
        if is_whole { Verdict::Lost(what) } else { Verdict::Torn(what) }
    }

    /// What the bytes seem to be, and whether they are some write as a whole.
    fn describe(&self, seed: u64, bytes: &[u8]) -> (String, bool) {
        let by_header = Body::identify(seed, bytes);
        // Too short for a whole header: whatever this key held with that length.
        let by_length = || {
            let tried = (1..=self.generation).map(|it| Body::new(seed, &self.key, it, bytes.len() as u64));
            tried.filter(|_| bytes.len() < HEADER_LEN).find(|body| body.compare(bytes).is_ok())
        };
        let Some(body) = by_header.or_else(by_length) else {
            let start = &bytes[..bytes.len().min(HEADER_LEN)];
            return (format!("of no write of this run, beginning {start:02x?}"), false);
        };
        let owner = if body.names(&self.key) { "" } else { " of another key" };
        let write = format!("generation {}{owner}", body.generation());
        match body.compare(bytes) {
            Ok(()) => (write, true),
            Err(mismatch) => (format!("{write} with {mismatch}"), false),
        }
    }

    fn expectation(&self) -> String {
        let describe = |state: &State| match state {
            None => "nothing (deleted or never written)".to_owned(),
            Some(Version { origin, generation, len, .. }) if *origin == self.key => {
                format!("generation {generation} of {len} bytes")
            }
            Some(Version { origin, generation, len, .. }) => {
                format!("a copy of {origin} generation {generation} of {len} bytes")
            }
        };
        match &self.pending {
            None => describe(&self.settled),
            Some(pending) => format!("{} or, in flight, {}", describe(&self.settled), describe(pending)),
        }
    }

    /// For messages.
    pub fn name(&self) -> String {
        format!("{}/{}", self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::Payload;

    const SEED: u64 = 5;

    fn version(generation: u64, len: u64) -> Version {
        Version { origin: "key".into(), generation, len, etag: Some(format!("etag-{generation}")) }
    }

    fn seen(version: &Version) -> Seen {
        let mut bytes = vec![0; version.len as usize];
        version.body(SEED).read_at(0, &mut bytes);
        Seen::Present { bytes, etag: version.etag.clone().unwrap() }
    }

    fn slot_with(settled: State, pending: Option<State>) -> Slot {
        Slot { settled, pending, ..Slot::new("bucket", "key".into()) }
    }

    #[test]
    fn only_the_acknowledged_object_is_right_when_nothing_was_in_flight() {
        let mut slot = slot_with(Some(version(2, 100)), None);
        assert_eq!(slot.judge(SEED, &seen(&version(2, 100))), Verdict::Settled);
        assert!(matches!(slot.judge(SEED, &seen(&version(1, 100))), Verdict::Lost(_)));
        assert!(matches!(slot.judge(SEED, &Seen::Absent), Verdict::Lost(_)));
    }

    #[test]
    fn old_and_new_are_right_for_a_write_in_flight_and_nothing_between() {
        let (old, new) = (version(1, 5000), version(2, 5000));
        let slot = slot_with(Some(old.clone()), Some(Some(new.clone())));
        assert_eq!(slot.clone().judge(SEED, &seen(&old)), Verdict::Settled);
        let mut applied = slot.clone();
        assert_eq!(applied.judge(SEED, &seen(&new)), Verdict::Applied);
        assert_eq!(applied.settled(), Some(&new));
        assert!(applied.is_certain());
        let (Seen::Present { bytes: old_bytes, .. }, Seen::Present { mut bytes, etag }) =
            (seen(&old), seen(&new))
        else {
            unreachable!("both are present")
        };
        bytes[4096..].copy_from_slice(&old_bytes[4096..]);
        assert!(matches!(slot.clone().judge(SEED, &Seen::Present { bytes, etag }), Verdict::Torn(_)));
        assert!(matches!(slot.clone().judge(SEED, &Seen::Absent), Verdict::Lost(_)));
    }

    #[test]
    fn a_deleted_object_that_comes_back_is_a_loss() {
        let mut slot = slot_with(None, None);
        assert!(matches!(slot.judge(SEED, &seen(&version(1, 100))), Verdict::Lost(_)));
        assert_eq!(slot.judge(SEED, &Seen::Absent), Verdict::Settled);
    }

    #[test]
    fn an_older_object_too_short_for_a_header_is_a_loss() {
        let mut slot = slot_with(Some(version(2, 5000)), None);
        slot.generation = 2;
        for len in [0, 1, 39] {
            assert!(matches!(slot.judge(SEED, &seen(&version(1, len))), Verdict::Lost(_)), "{len} bytes");
        }
        let garbage = Seen::Present { bytes: vec![7; 30], etag: String::new() };
        assert!(matches!(slot.judge(SEED, &garbage), Verdict::Torn(_)));
    }

    #[test]
    fn a_delete_in_flight_leaves_the_object_or_nothing() {
        let slot = slot_with(Some(version(1, 10)), Some(None));
        assert_eq!(slot.clone().judge(SEED, &seen(&version(1, 10))), Verdict::Settled);
        let mut gone = slot;
        assert_eq!(gone.judge(SEED, &Seen::Absent), Verdict::Applied);
        assert_eq!(gone.settled(), None);
    }

    #[test]
    fn an_object_cut_short_is_torn_and_a_wrong_etag_is_told_apart() {
        let slot = slot_with(Some(version(1, 5000)), None);
        let Seen::Present { bytes, etag } = seen(&version(1, 5000)) else { unreachable!("present") };
        let cut = Seen::Present { bytes: bytes[..4096].to_vec(), etag };
        assert!(matches!(slot.clone().judge(SEED, &cut), Verdict::Torn(_)));
        let other = Seen::Present { bytes, etag: "other".into() };
        assert!(matches!(slot.clone().judge(SEED, &other), Verdict::WrongEtag(_)));
    }

    #[test]
    fn the_etag_of_a_copy_whose_answer_never_came_is_learnt_and_then_kept() {
        let unknown = Version { etag: None, ..version(1, 100) };
        let mut slot = slot_with(None, Some(Some(unknown)));
        assert_eq!(slot.judge(SEED, &seen(&version(1, 100))), Verdict::Applied);
        assert_eq!(slot.settled().unwrap().etag.as_deref(), Some("etag-1"));
    }
}
