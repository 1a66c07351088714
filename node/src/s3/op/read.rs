//! GetObject, HeadObject, GetObjectAttributes, and the sub-resources of an object that nobody can set.

use proto_s3::condition::{Verdict, precondition_failed};
use proto_s3::http::Response;
use proto_s3::op::get_object_attributes::{Part, Parts, PartsPage};
use proto_s3::op::object_read::{Decision, Request, Selection, no_such_part, render_not_modified};
use proto_s3::op::{
    Object, ObjectChecksum, get_object, get_object_attributes, get_object_default, head_object,
};

use crate::s3::answer::{Answer, ObjectBody};
use crate::s3::error::{Outcome, Refusal};
use crate::s3::exchange::Exchange;
use crate::s3::object_meta::{self, StoredObject};

/// Sends an object, or some of it.
pub(super) async fn get(x: &Exchange, request: &Request) -> Outcome<Answer> {
    let stored = find(x, request).await?;
    let (response, (first, len)) = match answer(request, &stored, get_object::render)? {
        Shown::Bytes { response, extent } => (response, extent),
        Shown::NotModified(response) => return Ok(response.into()),
    };
    let body = Box::new(ObjectBody::open(x, stored, first, len).await?);
    Ok(Answer::Object { response, body })
}

/// Tells what GetObject would send.
pub(super) async fn head(x: &Exchange, request: &Request) -> Outcome<Answer> {
    let stored = find(x, request).await?;
    match answer(request, &stored, head_object::render)? {
        Shown::Bytes { response, .. } | Shown::NotModified(response) => Ok(response.into()),
    }
}

/// Tells what is known of an object.
pub(super) async fn attributes(x: &Exchange, request: &get_object_attributes::Request) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    let stored = x.object(&bucket, &request.key).await?;
    let object = stored.object();
    match request.conditions.evaluate_read(&object.etag, object.last_modified_ms) {
        Verdict::NotModified => return Ok(render_not_modified(&object).into()),
        Verdict::PreconditionFailed { condition } => return Err(precondition_failed(condition).into()),
        Verdict::Proceed => {}
    }
    Ok(get_object_attributes::render(request, &object, parts(request, &stored).as_ref()).into())
}

/// Answers what is the same for every object.
pub(super) async fn default(x: &Exchange, request: &get_object_default::Request) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    x.object(&bucket, &request.key).await?;
    Ok(get_object_default::render(request, &x.owner())?.into())
}

async fn find(x: &Exchange, request: &Request) -> Outcome<StoredObject> {
    let bucket = x.bucket(&request.bucket)?;
    x.object(&bucket, &request.key).await
}

/// What of an object a read shows.
enum Shown {
    /// A head, and the bytes from an offset on, so many, that belong to it.
    Bytes { response: Response, extent: (u64, u64) },
    /// The client has them.
    NotModified(Response),
}

fn answer(
    request: &Request,
    stored: &StoredObject,
    render: impl FnOnce(&Request, &Object<'_>, Selection) -> Response,
) -> Outcome<Shown> {
    let mut object = stored.object();
    let mut selection = match request.decide(&object)? {
        Decision::NotModified => return Ok(Shown::NotModified(render_not_modified(&object))),
        Decision::Send(selection) => selection,
    };
    if let Some(number) = request.part_number {
        (selection, object.checksum) = select_part(number, stored)?;
    }
    let extent = selection.extent(object.len);
    Ok(Shown::Bytes { response: render(request, &object, selection), extent })
}

/// The bytes of a part, and its checksum. Parts count from 1 in the order in which they make up the object, whatever numbers they were uploaded
/// with.
fn select_part(number: u32, stored: &StoredObject) -> Outcome<(Selection, Option<ObjectChecksum>)> {
    let parts = &stored.meta().parts;
    let at = number as usize - 1;
    if parts.is_empty() {
        let whole = Selection::Part { first: 0, len: stored.meta().size, parts_count: None };
        return if at == 0 {
            Ok((whole, stored.checksum))
        } else {
            Err(Refusal::from(no_such_part(number, 1)))
        };
    }
    let parts_count = parts.len() as u32;
    let part = parts.get(at).ok_or_else(|| no_such_part(number, parts_count))?;
    let first = parts[..at].iter().map(|part| part.size).sum();
    let checksum = object_meta::part_checksum(part).map(ObjectChecksum::full_object);
    Ok((Selection::Part { first, len: part.size, parts_count: Some(parts_count) }, checksum))
}

/// The parts that the request asks for, of an object that has any.
fn parts(request: &get_object_attributes::Request, stored: &StoredObject) -> Option<Parts> {
    let all = &stored.meta().parts;
    if all.is_empty() {
        return None;
    }
    let rest = all.iter().zip(1u32..).skip(request.part_number_marker as usize);
    let shown = rest.clone().take(request.max_parts as usize).map(|(part, number)| Part {
        number,
        len: part.size,
        checksum: object_meta::part_checksum(part),
    });
    let page = stored.checksum.map(|_| PartsPage {
        parts: shown.collect(),
        is_truncated: request.max_parts > 0 && rest.clone().count() > request.max_parts as usize,
    });
    Some(Parts { parts_count: all.len() as u32, page })
}
