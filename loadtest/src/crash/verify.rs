//! After a restart: every key is read, and every listing compared with what was read.

use std::collections::BTreeMap;
use std::thread;

use super::Report;
use super::findings::Findings;
use super::model::{Seen, Slot, Verdict};
use super::node::Node;
use super::worker::Worker;
use crate::s3::{Client, Error, Listed};

/// Small, so that a listing takes several pages.
const PAGE_LEN: u32 = 17;

/// Reads what a key holds.
pub(super) fn read(client: &mut Client, slot: &Slot) -> Result<Seen, Error> {
    let mut bytes = Vec::new();
    match client.get(slot.bucket, &slot.key, &mut |piece| bytes.extend_from_slice(piece)) {
        Ok(head) => Ok(Seen::Present { bytes, etag: head.etag }),
        Err(error) if error.is_no_such_key() => Ok(Seen::Absent),
        Err(error) => Err(error),
    }
}

/// Verifies every key of every worker, and the listings of all buckets.
pub(super) fn verify_all(node: &Node, workers: &mut [Worker], buckets: &[&'static str], report: &mut Report) {
    thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter_mut()
            .map(|worker| {
                let client = node.client();
                scope.spawn(move || verify_slots(client, worker))
            })
            .collect();
        for thread in threads {
            let (findings, verified, applied) = thread.join().expect("a verifying thread does not panic");
            report.findings.add(findings);
            report.verified += verified;
            report.in_flight_applied += applied;
        }
    });
    // A key in doubt would only be reported twice.
    if report.is_clean() {
        let mut client = node.client();
        for bucket in buckets {
            if let Err(what) = verify_listing(&mut client, bucket, workers) {
                report.findings.faults.push(format!("listing of {bucket}: {what}"));
            }
        }
    }
}

/// Findings, objects compared, and how many requests in flight turned out to have taken effect.
fn verify_slots(mut client: Client, worker: &mut Worker) -> (Findings, u64, u64) {
    let (mut findings, mut verified, mut applied) = (Findings::default(), 0, 0);
    for slot in &mut worker.slots {
        match read(&mut client, slot) {
            Ok(seen) => {
                let verdict = slot.judge(worker.seed, &seen);
                verified += u64::from(seen != Seen::Absent);
                applied += u64::from(verdict == Verdict::Applied);
                findings.note(verdict);
            }
            Err(error) if slot.settled().is_some() => {
                findings.losses.push(format!("{}: can't be read: {error}", slot.name()));
            }
            Err(error) => findings.faults.push(format!("{}: {error}", slot.name())),
        }
    }
    (findings, verified, applied)
}

fn verify_listing(client: &mut Client, bucket: &str, workers: &[Worker]) -> Result<(), String> {
    let slots = workers.iter().flat_map(|worker| &worker.slots).filter(|slot| slot.bucket == bucket);
    let expected: BTreeMap<&str, (u64, Option<&str>)> = slots
        .filter_map(|slot| Some((slot, slot.settled()?)))
        .map(|(slot, version)| (slot.key.as_str(), (version.len, version.etag.as_deref())))
        .collect();
    let listed = list_all(client, bucket).map_err(|error| error.to_string())?;
    compare_listing(&expected, &listed)
}

fn list_all(client: &mut Client, bucket: &str) -> Result<Vec<Listed>, Error> {
    let (mut all, mut next) = (Vec::new(), None);
    loop {
        let page = client.list_v2(bucket, "", PAGE_LEN, next.as_deref())?;
        all.extend(page.objects);
        next = page.next;
        if next.is_none() {
            return Ok(all);
        }
    }
}

fn compare_listing(expected: &BTreeMap<&str, (u64, Option<&str>)>, listed: &[Listed]) -> Result<(), String> {
    for pair in listed.windows(2) {
        if pair[0].key >= pair[1].key {
            return Err(format!("{:?} comes before {:?}", pair[0].key, pair[1].key));
        }
    }
    for Listed { key, len, etag } in listed {
        match expected.get(key.as_str()) {
            None => return Err(format!("{key:?} is listed and can't be read")),
            Some((known, _)) if known != len => return Err(format!("{key:?} with {len} bytes, not {known}")),
            Some((_, Some(known))) if known != etag => {
                return Err(format!("{key:?} with ETag {etag}, not {known}"));
            }
            Some(_) => {}
        }
    }
    let is_listed = |key: &&&str| !listed.iter().any(|entry| entry.key == ***key);
    match expected.keys().find(is_listed) {
        Some(key) => Err(format!("{key:?} can be read and is not listed")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, len: u64) -> Listed {
        Listed { key: key.into(), len, etag: "e".into() }
    }

    #[test]
    fn a_listing_shows_exactly_what_can_be_read() {
        let expected = BTreeMap::from([("a", (1, Some("e"))), ("b", (2, None))]);
        let compare = |listed: &[Listed]| compare_listing(&expected, listed);
        assert_eq!(compare(&[entry("a", 1), entry("b", 2)]), Ok(()));
        assert!(compare(&[entry("a", 1)]).unwrap_err().contains("not listed"));
        assert!(
            compare(&[entry("a", 1), entry("b", 2), entry("c", 1)]).unwrap_err().contains("can't be read")
        );
        assert!(compare(&[entry("b", 2), entry("a", 1)]).unwrap_err().contains("before"));
        assert!(compare(&[entry("a", 1), entry("b", 3)]).unwrap_err().contains("3 bytes"));
        let other = Listed { etag: "f".into(), ..entry("a", 1) };
        assert!(compare(&[other, entry("b", 2)]).unwrap_err().contains("ETag"));
    }
}
