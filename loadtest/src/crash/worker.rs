//! One client of the crash tester: owns some keys, does one thing at a time and remembers what was acknowledged.

mod multipart;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;

use super::Report;
use super::choose::{Action, SMALL_LEN_MAX, choose_action};
use super::etag;
use super::findings::Findings;
use super::model::{Slot, Version};
use super::round::{Ending, Signals};
use super::upload::Upload;
use super::verify;
use crate::rng::Rng;
use crate::s3::{Client, Credentials, Endpoint, Error, PayloadSigning, PutCondition};

/// A record without data, and the least that any change writes to a log.
const RECORD_LEN: u64 = 4096;

pub(super) struct Worker {
    pub seed: u64,
    pub slots: Vec<Slot>,
    rng: Rng,
    uploads: Vec<Upload>,
    acknowledged: BTreeMap<&'static str, u64>,
    is_cut_off: bool,
    findings: Findings,
}

/// A client in a round.
struct Session<'a> {
    client: Client,
    signals: &'a Signals,
}

impl Session<'_> {
    /// Books what an answered request wrote: after it, so that a kill on the last byte of the budget finds
    /// the other clients at work.
    fn spend(&self, len: u64) {
        let small = if len <= SMALL_LEN_MAX { (len + 1024).next_multiple_of(RECORD_LEN) } else { RECORD_LEN };
        self.signals.small_rest.fetch_sub(small as i64, Ordering::Relaxed);
        if len > SMALL_LEN_MAX {
            self.signals.large_rest.fetch_sub(len as i64, Ordering::Relaxed);
        }
    }
}

impl Worker {
    pub fn new(seed: u64, rng: Rng, slots: Vec<Slot>) -> Self {
        Self {
            seed,
            slots,
            rng,
            uploads: Vec::new(),
            acknowledged: BTreeMap::new(),
            is_cut_off: false,
            findings: Findings::default(),
        }
    }

    /// Works until the node is killed, or does something it must not.
    pub fn run(&mut self, endpoint: Endpoint, credentials: Credentials, signals: &Signals) {
        let mut session = Session { client: Client::new(endpoint, credentials, "us-east-1"), signals };
        if let Err(error) = self.resume_uploads(&mut session)
            && !self.goes_on_after(error, signals)
        {
            return;
        }
        while !signals.is_killed.load(Ordering::SeqCst) {
            let Some(action) = choose_action(&self.slots, &mut self.rng) else { return };
            if let Err(error) = self.perform(&mut session, action)
                && !self.goes_on_after(error, signals)
            {
                return;
            }
        }
    }

    /// Hands the round's figures over.
    pub fn report_round(&mut self, ending: &mut Ending, report: &mut Report) {
        for (kind, count) in std::mem::take(&mut self.acknowledged) {
            ending.acknowledged += count;
            *report.acknowledged.entry(kind).or_default() += count;
        }
        let in_flight = u64::from(std::mem::take(&mut self.is_cut_off));
        ending.in_flight += in_flight;
        report.in_flight += in_flight;
        report.findings.add(std::mem::take(&mut self.findings));
    }

    /// A broken connection after the kill is what we are here for. All else is a fault, and only after
    /// an orderly refusal there is a sense in going on.
    fn goes_on_after(&mut self, error: Error, signals: &Signals) -> bool {
        let is_refusal = error.status().is_some();
        if signals.is_killed.load(Ordering::SeqCst) && !is_refusal {
            let never_sent =
                matches!(&error, Error::Transport(error) if error.kind() == io::ErrorKind::ConnectionRefused);
            self.is_cut_off = !never_sent;
            return false;
        }
        self.findings.faults.push(format!("without a kill: {error}"));
        is_refusal
    }

    fn count(&mut self, kind: &'static str) {
        *self.acknowledged.entry(kind).or_default() += 1;
    }

    fn perform(&mut self, session: &mut Session<'_>, action: Action) -> Result<(), Error> {
        match action {
            Action::Put { slot, len } => self.put(session, slot, len, PutCondition::None, "put"),
            Action::PutIfAbsent { slot, len } if self.slots[slot].settled().is_none() => {
                self.put(session, slot, len, PutCondition::IfAbsent, "put-if-absent")
            }
            Action::PutIfAbsent { slot, len } => self.put_refused(session, slot, len, PutCondition::IfAbsent),
            Action::PutIfMatch { slot, len } => {
                let known = self.slots[slot].settled().and_then(|version| version.etag.clone());
                let etag = known.ok_or_else(|| Error::Protocol("an object without a known ETag".into()))?;
                self.put(session, slot, len, PutCondition::IfMatch(&etag), "put-if-match")
            }
            Action::PutIfOther { slot, len } => {
                let other = "00000000000000000000000000000000";
                self.put_refused(session, slot, len, PutCondition::IfMatch(other))
            }
            Action::Get { slot } => self.get(session, slot),
            Action::Delete { slot } => self.delete(session, slot),
            Action::Copy { from, to } => self.copy(session, from, to),
            Action::Multipart { slot, len, fate } => self.multipart(session, slot, len, fate),
        }
    }

    fn new_version(&mut self, slot: usize, len: u64) -> Version {
        let slot = &mut self.slots[slot];
        let mut version =
            Version { origin: slot.key.clone(), generation: slot.next_generation(), len, etag: None };
        version.etag = Some(etag::md5_hex(&version.body(self.seed)));
        version
    }

    /// A PUT that must succeed.
    fn put(
        &mut self,
        session: &mut Session<'_>,
        slot: usize,
        len: u64,
        condition: PutCondition<'_>,
        kind: &'static str,
    ) -> Result<(), Error> {
        let version = self.new_version(slot, len);
        let (body, signing) = (version.body(self.seed), self.choose_signing());
        self.slots[slot].begin(Some(version));
        let Slot { bucket, key, .. } = &self.slots[slot];
        let outcome = session.client.put(bucket, key, &body, condition, signing);
        session.spend(len);
        self.settle(slot, kind, outcome.map(|stored| Some(stored.etag)))
    }

    /// A PUT whose condition does not hold, so that it must change nothing.
    fn put_refused(
        &mut self,
        session: &mut Session<'_>,
        slot: usize,
        len: u64,
        condition: PutCondition<'_>,
    ) -> Result<(), Error> {
        let body = self.new_version(slot, len).body(self.seed);
        let signing = self.choose_signing();
        let Slot { bucket, key, .. } = &self.slots[slot];
        let outcome = session.client.put(bucket, key, &body, condition, signing);
        session.spend(len);
        match outcome {
            Ok(_) => {
                let what = format!("{bucket}/{key}: a PUT was accepted although {condition:?} does not hold");
                Err(Error::Protocol(what))
            }
            // If-Match on a key that does not exist is NoSuchKey.
            Err(error) if error.is_precondition_failed() || error.is_no_such_key() => {
                self.count("put-refused");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn choose_signing(&mut self) -> PayloadSigning {
        if self.rng.percent(50) { PayloadSigning::Signed } else { PayloadSigning::Unsigned }
    }

    /// Books the answer to a request that was begun.
    fn settle(
        &mut self,
        slot: usize,
        kind: &'static str,
        outcome: Result<Option<String>, Error>,
    ) -> Result<(), Error> {
        let slot = &mut self.slots[slot];
        match outcome {
            Ok(seen) => {
                slot.acknowledge(seen.as_deref());
                let known = slot.settled().and_then(|version| version.etag.as_deref());
                if seen.is_some() && known != seen.as_deref() {
                    let what = format!("{}: {kind} answered ETag {seen:?}, not {known:?}", slot.name());
                    return Err(Error::Protocol(what));
                }
                self.count(kind);
                Ok(())
            }
            Err(error) => {
                // After a 5xx the request may still have taken effect.
                if error.status().is_some_and(|status| status < 500) {
                    slot.refuse();
                }
                Err(error)
            }
        }
    }

    fn get(&mut self, session: &mut Session<'_>, slot: usize) -> Result<(), Error> {
        let seen = verify::read(&mut session.client, &self.slots[slot])?;
        self.findings.note(self.slots[slot].judge(self.seed, &seen));
        self.count("get");
        Ok(())
    }

    fn delete(&mut self, session: &mut Session<'_>, slot: usize) -> Result<(), Error> {
        self.slots[slot].begin(None);
        let Slot { bucket, key, .. } = &self.slots[slot];
        let outcome = session.client.delete(bucket, key);
        session.spend(0);
        self.settle(slot, "delete", outcome.map(|()| None))
    }

    fn copy(&mut self, session: &mut Session<'_>, from: usize, to: usize) -> Result<(), Error> {
        let Some(source) = self.slots[from].settled().cloned() else {
            return Err(Error::Protocol("a copy of nothing".into()));
        };
        let written = if source.len <= SMALL_LEN_MAX { source.len } else { 0 };
        // What a copy of a multipart object is called is the server's choice.
        let etag = source.etag.clone().filter(|etag| !etag.contains('-'));
        self.slots[to].begin(Some(Version { etag, ..source }));
        let (Slot { bucket, key, .. }, source) = (&self.slots[to], &self.slots[from]);
        let outcome = session.client.copy((source.bucket, &source.key), bucket, key);
        session.spend(written);
        self.settle(to, "copy", outcome.map(|stored| Some(stored.etag)))
    }
}
