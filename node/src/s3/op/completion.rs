//! What an upload is completed to: a pure choice from what was uploaded and what the client lists.

use engine::ChosenPart;
use engine::format::body::{PartBody, PartSummary, Piece};
use engine::ids::Lsn;
use proto_s3::checksum::{composite, full_object};
use proto_s3::op::ObjectChecksum;
use proto_s3::op::complete_multipart_upload::{Part, Request};
use proto_s3::op::create_multipart_upload::UploadChecksum;
use proto_s3::{Checksum, ChecksumType, Code, ETag, Error, Limits};

use super::upload_part::type_mismatch;
use crate::s3::object_meta;

/// The object that an upload comes to.
#[derive(Debug)]
pub(super) struct Completion {
    /// The parts, as the home shard shall find them still.
    pub(super) chosen: Vec<ChosenPart>,
    /// What the object remembers of them.
    pub(super) parts: Vec<PartSummary>,
    /// Their bytes, in order.
    pub(super) pieces: Vec<Piece>,
    /// The tag of the object.
    pub(super) etag: ETag,
    /// Its checksum, where the parts' combine.
    pub(super) checksum: Option<ObjectChecksum>,
}

/// Chooses the listed parts from those that were uploaded.
///
/// # Errors
/// `InvalidPart`, `EntityTooSmall`, `EntityTooLarge`, `BadDigest`, and `InvalidRequest` for what doesn't fit the upload.
pub(super) fn choose(
    request: &Request,
    listed: &[Part],
    upload: Option<UploadChecksum>,
    uploaded: &[(Lsn, PartBody)],
    limits: &Limits,
) -> Result<Completion, Error> {
    let mut found: Vec<&(Lsn, PartBody)> = Vec::with_capacity(listed.len());
    for part in listed {
        found.push(find(request, part, upload, uploaded)?);
    }
    check_sizes(&found, limits)?;
    let len = found.iter().map(|(_, body)| body.summary.size).sum();
    request.check_object_len(len)?;
    let etag = ETag::multipart(found.iter().map(|(_, body)| &body.summary.md5));
    let checksum = checksum_of(&found, upload);
    check_checksum(request, upload, checksum)?;
    Ok(Completion {
        chosen: found
            .iter()
            .map(|(lsn, body)| ChosenPart { number: body.summary.number, lsn: *lsn })
            .collect(),
        parts: found.iter().map(|(_, body)| body.summary).collect(),
        pieces: found.iter().flat_map(|(_, body)| body.pieces.iter().cloned()).collect(),
        etag,
        checksum,
    })
}

fn find<'a>(
    request: &Request,
    part: &Part,
    upload: Option<UploadChecksum>,
    uploaded: &'a [(Lsn, PartBody)],
) -> Result<&'a (Lsn, PartBody), Error> {
    let invalid = || {
        let error = Error::new(Code::InvalidPart).detail("UploadId", request.upload_id.clone());
        let error = error.detail("PartNumber", part.number.to_string());
        error.detail("ETag", part.etag.map(|etag| etag.to_string()).unwrap_or_default())
    };
    let at = uploaded.binary_search_by_key(&part.number, |(_, body)| u32::from(body.summary.number));
    let found = &uploaded[at.map_err(|_| invalid())?];
    let summary = &found.1.summary;
    if part.etag != Some(ETag::single(summary.md5)) {
        return Err(invalid());
    }
    match (part.checksum, upload) {
        (Some(stated), _) if object_meta::part_checksum(summary) != Some(stated) => Err(invalid()),
        (None, Some(UploadChecksum { algorithm, checksum_type: ChecksumType::Composite })) => {
            Err(Error::with_message(
                Code::InvalidRequest,
                format!(
                    "The upload was created using a {} checksum. The complete request must include the checksum for each \
                     part. It was missing for part {} in the request.",
                    algorithm.name().to_ascii_lowercase(),
                    part.number
                ),
            ))
        }
        _ => Ok(found),
    }
}

fn check_sizes(found: &[&(Lsn, PartBody)], limits: &Limits) -> Result<(), Error> {
    let all_but_last = found.split_last().map_or(&[][..], |(_, rest)| rest);
    if let Some((_, small)) = all_but_last.iter().find(|(_, body)| body.summary.size < limits.part_len_min) {
        return Err(Error::new(Code::EntityTooSmall)
            .detail("ProposedSize", small.summary.size.to_string())
            .detail("MinSizeAllowed", limits.part_len_min.to_string())
            .detail("PartNumber", small.summary.number.to_string())
            .detail("ETag", ETag::single(small.summary.md5).to_string()));
    }
    let len: u64 = found.iter().map(|(_, body)| body.summary.size).sum();
    if len > limits.object_len_max {
        return Err(Error::new(Code::EntityTooLarge)
            .detail("ProposedSize", len.to_string())
            .detail("MaxSizeAllowed", limits.object_len_max.to_string()));
    }
    Ok(())
}

/// The checksum of the object. Without one at the upload's creation it is over the bytes, if the parts have CRCs of one kind.
fn checksum_of(found: &[&(Lsn, PartBody)], upload: Option<UploadChecksum>) -> Option<ObjectChecksum> {
    let of_parts: Option<Vec<(Checksum, u64)>> = found
        .iter()
        .map(|(_, body)| Some((object_meta::part_checksum(&body.summary)?, body.summary.size)))
        .collect();
    let of_parts = of_parts?;
    match upload.map(|upload| upload.checksum_type) {
        Some(ChecksumType::Composite) => {
            let values: Vec<Checksum> = of_parts.iter().map(|(checksum, _)| *checksum).collect();
            composite(&values).map(|checksum| ObjectChecksum::composite(checksum, values.len() as u32))
        }
        Some(ChecksumType::FullObject) | None => full_object(&of_parts).map(ObjectChecksum::full_object),
    }
}

/// Holds what the request states about the object against what it comes to.
fn check_checksum(
    request: &Request,
    upload: Option<UploadChecksum>,
    computed: Option<ObjectChecksum>,
) -> Result<(), Error> {
    let checksum_type = upload.map_or(ChecksumType::FullObject, |upload| upload.checksum_type);
    if request.checksum_type.is_some_and(|stated| stated != checksum_type) {
        let message = format!(
            "The upload was created using the {} checksum mode. The complete request must use the same checksum mode.",
            checksum_type.name()
        );
        return Err(Error::with_message(Code::InvalidRequest, message));
    }
    let Some(stated) = request.object_checksum else { return Ok(()) };
    let algorithm = stated.checksum.algorithm();
    match computed {
        Some(computed) if stated.agrees_with(&computed) => Ok(()),
        Some(computed) if computed.checksum.algorithm() == algorithm => Err(Error::with_message(
            Code::BadDigest,
            format!("The {} you specified did not match the calculated checksum.", algorithm.name()),
        )),
        _ => Err(type_mismatch(upload.map(|upload| upload.algorithm), Some(algorithm))),
    }
}

#[cfg(test)]
#[path = "completion_tests.rs"]
mod tests;
