//! Looks at everything: what is there must be what clients were told, or were not told for sure.

use std::collections::BTreeMap;

use super::machine::{Listing, Machine, Pace, Position, Usage};
use super::model::{Bucket, Look, Register, Value};
use super::oracle::{Oracle, is_found_part, show};
use super::versions::VERSIONED_BUCKETS;
use super::workload::{WHOLE, look_at_key};
use crate::error::Error;

/// Pages of a listing at most: each has a key or prefix, and there are not so many.
const PAGES_MAX: usize = 10_000;

/// Holds everything against the model, and then against the engine's own counts. Nothing is under way.
pub async fn check_all(oracle: &Oracle, machine: &Machine, core: usize) {
    let there = machine.buckets();
    check_buckets(oracle, &there);
    for bucket in &there {
        if VERSIONED_BUCKETS.contains(&bucket.as_str()) {
            super::versions::check(oracle, machine, bucket).await;
            continue;
        }
        let keys: Vec<Vec<u8>> = oracle.model.borrow_mut().bucket(bucket).keys.keys().cloned().collect();
        for key in &keys {
            look_at_key(oracle, machine, core, (bucket, key), WHOLE, &Pace::FAST).await;
        }
        check_listing(oracle, machine, bucket, b"", b"", 7).await;
        check_listing(oracle, machine, bucket, b"a/", b"/", 1000).await;
        check_uploads(oracle, machine, core, bucket).await;
        check_usage(oracle, machine, bucket);
        if oracle.executor.is_halted() {
            return;
        }
    }
}

fn check_buckets(oracle: &Oracle, there: &[String]) {
    let mut model = oracle.model.borrow_mut();
    for (name, bucket) in &mut model.buckets {
        let is_there = there.contains(name);
        let look = bucket.is_there.look();
        if bucket.is_there.see(&look, |value| *value == is_there).is_err() {
            oracle.fail(format!("bucket {name} exists: {is_there}, though it can't"));
        }
        if !is_there && bucket.is_there.is_quiet() {
            *bucket = Bucket::default();
        }
    }
    let is_known = |name: &str| model.buckets.contains_key(name) || VERSIONED_BUCKETS.contains(&name);
    if let Some(stranger) = there.iter().find(|name| !is_known(name)) {
        oracle.fail(format!("bucket {stranger} was never asked for"));
    }
}

async fn check_uploads(oracle: &Oracle, machine: &Machine, core: usize, bucket: &str) {
    let there = match machine.uploads(bucket) {
        Ok(there) => there,
        Err(error) => return oracle.fail(format!("uploads of {bucket}: {error:?}")),
    };
    let known: Vec<[u8; 16]> = oracle.model.borrow_mut().bucket(bucket).uploads.keys().copied().collect();
    if there.iter().any(|(_, id)| !known.contains(id)) {
        oracle.fail(format!("{bucket} has an upload that was never asked for"));
    }
    for id in known {
        let is_there = there.iter().any(|(_, other)| *other == id);
        see_upload(oracle, bucket, id, is_there);
        if is_there {
            check_parts(oracle, machine, core, bucket, id).await;
        }
    }
    let mut model = oracle.model.borrow_mut();
    model.bucket(bucket).uploads.retain(|_, upload| {
        upload.is_busy || !upload.is_there.is_quiet() || upload.is_there.certain() != Some(&false)
    });
}

/// An upload is there or not; when its completion was asked for, so is its object.
fn see_upload(oracle: &Oracle, bucket: &str, id: [u8; 16], is_there: bool) {
    let mut model = oracle.model.borrow_mut();
    let of = model.bucket(bucket);
    let Some(upload) = of.uploads.get_mut(&id) else { return };
    let look = upload.is_there.look();
    let was_certain = upload.is_there.certain().is_some();
    if upload.is_there.see(&look, |value| *value == is_there).is_err() {
        let key = show(&upload.key);
        oracle.fail(format!("upload of {bucket}/{key} is there: {is_there}, though it can't be"));
    }
    let Some((ticket, object)) = upload.completion.clone() else { return };
    let key = upload.key.clone();
    let register = of.key(&key);
    if was_certain || !register.is_quiet() || register.certain().is_none() || !register.is_last(ticket) {
        return;
    }
    // The key was looked at before, and decided for the object, or against it.
    if is_there && register.certain() == Some(&Some(object)) {
        oracle.fail(format!("upload of {bucket}/{} is there as well as its object", show(&key)));
    }
}

async fn check_parts(oracle: &Oracle, machine: &Machine, core: usize, bucket: &str, id: [u8; 16]) {
    let (key, looks) = {
        let mut model = oracle.model.borrow_mut();
        let Some(upload) = model.bucket(bucket).uploads.get(&id) else { return };
        let looks: Vec<_> = upload.parts.iter().map(|(number, part)| (*number, part.look())).collect();
        (upload.key.clone(), looks)
    };
    let parts = match machine.parts(core, bucket, &key, id).await {
        Ok(parts) => parts,
        Err(error) if oracle.excuses_read(error) => return,
        Err(error) => return oracle.fail(format!("parts of {bucket}/{}: {error:?}", show(&key))),
    };
    let mut model = oracle.model.borrow_mut();
    let Some(upload) = model.bucket(bucket).uploads.get_mut(&id) else { return };
    if parts.iter().any(|(number, _)| !upload.parts.contains_key(number)) {
        oracle.fail(format!("upload of {bucket}/{} has a part that was never put", show(&key)));
    }
    for (number, look) in looks {
        let found = parts.iter().find(|(other, _)| *other == number).map(|(_, part)| part);
        let Some(register) = upload.parts.get_mut(&number) else { continue };
        if register.see(&look, |value| is_found_part(value, found)).is_err() {
            oracle.fail(format!("part {number} of {bucket}/{} is not what was put", show(&key)));
        }
    }
}

/// The engine's own counts, where everything is certain.
fn check_usage(oracle: &Oracle, machine: &Machine, bucket: &str) {
    let mut model = oracle.model.borrow_mut();
    let of = model.bucket(bucket);
    let mut expected = Usage::default();
    for register in of.keys.values() {
        match register.certain() {
            Some(Some(object)) if register.is_quiet() => {
                expected.objects += 1;
                expected.bytes += object.len() as u64;
            }
            Some(None) if register.is_quiet() => {}
            _ => return,
        }
    }
    for upload in of.uploads.values() {
        match upload.is_there.certain() {
            Some(is_there) if upload.is_there.is_quiet() => expected.uploads += u64::from(*is_there),
            _ => return,
        }
    }
    match machine.usage(bucket) {
        Ok(usage) if usage == expected => {}
        other => oracle.fail(format!("usage of {bucket} is {other:?}, not {expected:?}")),
    }
}

/// Lists a bucket page by page. What changes meanwhile may be shown or not.
pub async fn check_listing(
    oracle: &Oracle,
    machine: &Machine,
    bucket: &str,
    prefix: &[u8],
    delimiter: &[u8],
    max: usize,
) {
    let looks: BTreeMap<Vec<u8>, Look<Value>> = {
        let mut model = oracle.model.borrow_mut();
        model.bucket(bucket).keys.iter().map(|(key, register)| (key.clone(), register.look())).collect()
    };
    let shown = match all_pages(machine, bucket, prefix, delimiter, max).await {
        Ok(Ok(shown)) => shown,
        Ok(Err(wrong)) => return oracle.fail(format!("list {bucket} {}: {wrong}", show(prefix))),
        Err(Error::BucketNotFound) => return,
        Err(error) if oracle.excuses_read(error) => return,
        Err(error) => return oracle.fail(format!("list {bucket} {}: {error:?}", show(prefix))),
    };
    oracle.trace.add("listed", &[shown.keys.len() as u64, shown.prefixes.len() as u64], bucket.as_bytes());
    let mut model = oracle.model.borrow_mut();
    let registers = &model.bucket(bucket).keys;
    if let Err(wrong) = judge(&shown, registers, &looks, prefix, delimiter) {
        oracle.fail(format!("list {bucket} {:?} by {:?}: {wrong}", show(prefix), show(delimiter)));
    }
}

/// All pages as one. The inner error is what is wrong with their form.
async fn all_pages(
    machine: &Machine,
    bucket: &str,
    prefix: &[u8],
    delimiter: &[u8],
    max: usize,
) -> Result<Result<Listing, String>, Error> {
    let mut all = Listing { keys: Vec::new(), prefixes: Vec::new(), next: None };
    let mut after: Option<Position> = None;
    for _ in 0..PAGES_MAX {
        let page = machine.list(bucket, prefix, delimiter, after, max).await?;
        let count = page.keys.len() + page.prefixes.len();
        if count > max || (page.next.is_some() && count < max) {
            return Ok(Err(format!("a page of {count} where {max} were asked for")));
        }
        all.keys.extend(page.keys);
        all.prefixes.extend(page.prefixes);
        if page.next.is_none() {
            let is_sorted =
                all.keys.is_sorted_by(|a, b| a.0 < b.0) && all.prefixes.is_sorted_by(|a, b| a < b);
            return Ok(if is_sorted { Ok(all) } else { Err("keys out of order".to_owned()) });
        }
        after = page.next;
    }
    Ok(Err("pages without end".to_owned()))
}

/// Holds what a listing showed against what each key may have been.
fn judge(
    shown: &Listing,
    registers: &BTreeMap<Vec<u8>, Register<Value>>,
    looks: &BTreeMap<Vec<u8>, Look<Value>>,
    prefix: &[u8],
    delimiter: &[u8],
) -> Result<(), String> {
    if let Some((stranger, ..)) = shown.keys.iter().find(|(key, ..)| !registers.contains_key(key)) {
        return Err(format!("{} was never put", show(stranger)));
    }
    let mut explained: BTreeMap<&[u8], bool> = shown.prefixes.iter().map(|p| (p.as_slice(), false)).collect();
    for (key, register) in registers {
        let unseen = Register::look_before_all(None);
        let allowed = register.allowed(looks.get(key).unwrap_or(&unseen));
        let listed = shown.keys.iter().find(|(listed, ..)| listed == key);
        let rolled = key
            .strip_prefix(prefix)
            .and_then(|rest| common_len(rest, delimiter))
            .map(|len| &key[..prefix.len() + len]);
        let is_right = match (listed, rolled) {
            (Some(_), _) if !key.starts_with(prefix) || rolled.is_some() => false,
            (Some((_, size, etag)), _) => {
                allowed.iter().flatten().any(|object| object.etag == *etag && object.len() as u64 == *size)
            }
            (None, Some(rolled)) if explained.contains_key(rolled) => {
                *explained.entry(rolled).or_default() |= allowed.iter().any(Option::is_some);
                true
            }
            (None, _) => !key.starts_with(prefix) || allowed.iter().any(Option::is_none),
        };
        if !is_right {
            return Err(format!("{} is wrong in it", show(key)));
        }
    }
    match explained.iter().find(|(_, is_explained)| !**is_explained) {
        Some((prefix, _)) => Err(format!("nothing begins with {}", show(prefix))),
        None => Ok(()),
    }
}

/// Up to and with the first delimiter.
fn common_len(rest: &[u8], delimiter: &[u8]) -> Option<usize> {
    if delimiter.is_empty() {
        return None;
    }
    rest.windows(delimiter.len()).position(|window| window == delimiter).map(|at| at + delimiter.len())
}
