//! One request from its head to its answer: who asks, what for, and may they.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use engine::Catalog;
use engine::format::catalog::User;
use engine::ids::UnixMillis;
use proto_s3::http::{Method, RequestHead};
use proto_s3::sigv4::{Authentication, Credentials, Policy, Secret, adopt_query_headers};
use proto_s3::{Code, Error, Operation, route, uri};

use super::NAMED_COUNT;
use super::answer::Answer;
use super::body::{Body, Incoming};
use super::error::Outcome;
use super::exchange::Exchange;
use super::op;
use crate::metrics::{OperationClass, OperationIndex};
use crate::rates::{Class, Refused};
use crate::service::S3Service;
use crate::stopwatch::Stage;
use crate::stream::Stream;

/// The operation of requests that are none.
pub(super) const UNKNOWN: OperationIndex = OperationIndex(NAMED_COUNT);

/// What becomes known of a request on the way, for metrics and the log.
pub(super) struct Trace {
    /// Which operation it is.
    pub(super) operation: OperationIndex,
    /// What kind of operation.
    pub(super) class: OperationClass,
    /// Who asks.
    pub(super) access_key: Option<String>,
}

impl Default for Trace {
    fn default() -> Self {
        Trace { operation: UNKNOWN, class: OperationClass::Other, access_key: None }
    }
}

/// Serves a request; its body is behind the head in the stream.
pub(super) async fn run(
    service: &Rc<S3Service>,
    stream: &mut Stream,
    mut head: Rc<RequestHead>,
    incoming: &mut Incoming,
    trace: &mut Trace,
    begun: Instant,
) -> Outcome<Answer> {
    let (catalog, now) = (service.catalog(), service.now_ms());
    let watch = stream.watch().clone();
    let authentication = authenticate(service, &catalog, now, &head);
    watch.enter(Stage::Other);
    let authentication = authentication?;
    let Authentication::Signed(signed) = authentication else {
        return Err(refuse_anonymous(service, &head).into());
    };
    let is_presigned = signed.is_presigned();
    let user = user_of(&catalog, &signed.access_key);
    trace.access_key = Some(signed.access_key);
    if is_presigned {
        adopt_query_headers(Rc::make_mut(&mut head))?;
    }
    let user = user.ok_or(Code::InvalidAccessKeyId)?;
    let operation = route(&head, &service.config.route)?;
    trace.operation = index_of(&operation);
    trace.class = operation_class(&operation);
    incoming.expect(
        operation.body_kind(&service.config.limits),
        &head,
        &signed.payload,
        &service.config.limits,
    )?;
    let account = service.account(&catalog, user.id, operation.bucket());
    let refused = |refused: Refused| Error::new(Code::SlowDown).retry_after(refused.retry_after_s);
    let turn = pin!(service.gate().enter(&account, class_of(&head), incoming.payload_len(), begun));
    let leave = watch
        .wait(Stage::Queue, Stage::Other, turn)
        .await
        .map_err(|refusal| refused(refusal).resource(resource_of(&head)))?;
    let leave = Rc::new(leave);
    if class_of(&head) == Class::Write && service.is_space_scarce() {
        // It may wait for space long, and reads and deletes need none.
        leave.put_down();
    } else {
        incoming.hold(leave.clone());
    }
    let exchange = Exchange {
        service: service.clone(),
        catalog,
        user,
        head,
        now,
        is_tls: stream.is_tls(),
        watch,
        leave: leave.clone(),
    };
    let outcome = op::run(&exchange, operation, Body { stream, incoming }).await;
    if let Ok(Answer::Object { body, .. }) = &outcome {
        leave.charge(body.len());
    }
    // The rest is up to the client.
    leave.put_down();
    outcome.map_err(|mut refusal| {
        refusal.error = refusal.error.resource(resource_of(&exchange.head));
        refusal
    })
}

/// Which rate a request counts to.
fn class_of(head: &RequestHead) -> Class {
    match head.method {
        Method::Get | Method::Head => Class::Read,
        _ => Class::Write,
    }
}

fn operation_class(operation: &Operation) -> OperationClass {
    match operation {
        Operation::GetObject(_) | Operation::HeadObject(_) | Operation::GetObjectAttributes(_) => {
            OperationClass::Read
        }
        Operation::PutObject(_)
        | Operation::CopyObject(_)
        | Operation::UploadPart(_)
        | Operation::UploadPartCopy(_)
        | Operation::CompleteMultipartUpload(_) => OperationClass::Write,
        Operation::DeleteObject(_) | Operation::DeleteObjects(_) => OperationClass::Delete,
        Operation::ListObjects(_)
        | Operation::ListObjectsV2(_)
        | Operation::ListMultipartUploads(_)
        | Operation::ListParts(_)
        | Operation::ListBuckets(_) => OperationClass::List,
        Operation::CreateBucket(_)
        | Operation::HeadBucket(_)
        | Operation::DeleteBucket(_)
        | Operation::GetBucketLocation(_)
        | Operation::GetBucketDefault(_)
        | Operation::GetObjectDefault(_)
        | Operation::CreateMultipartUpload(_)
        | Operation::AbortMultipartUpload(_) => OperationClass::Other,
    }
}

fn authenticate(
    service: &S3Service,
    catalog: &Catalog,
    now: UnixMillis,
    head: &RequestHead,
) -> Result<Authentication, Error> {
    let config = &service.config;
    let policy = Policy {
        region: config.signed_region.clone(),
        debug_canonical: config.debug_signatures,
        presign_seconds_max: config.limits.presign_seconds_max,
        ..Policy::at(i64::try_from(now.0 / 1000).unwrap_or(i64::MAX))
    };
    service.authenticator().borrow_mut().authenticate(head, &AccessKeys(catalog), &policy)
}

/// Everything is its owner's alone, so that nothing is anybody's. What a request asks for doesn't matter then, nor whether it exists.
fn refuse_anonymous(service: &S3Service, head: &RequestHead) -> Error {
    let preflight =
        (head.method == Method::Options).then(|| route(head, &service.config.route).err()).flatten();
    preflight.unwrap_or_else(|| Error::new(Code::AccessDenied)).resource(resource_of(head))
}

struct AccessKeys<'a>(&'a Catalog);

impl Credentials for AccessKeys<'_> {
    fn secret(&self, access_key: &str) -> Option<Secret<'_>> {
        let key = self.0.access_keys.get(access_key)?;
        Some(Secret { text: &key.secret, session_token: None })
    }
}

fn user_of(catalog: &Catalog, access_key: &str) -> Option<Arc<User>> {
    catalog.users.get(&catalog.access_keys.get(access_key)?.user).cloned()
}

fn index_of(operation: &Operation) -> OperationIndex {
    let name = operation.name();
    Operation::NAMES.iter().position(|known| *known == name).map_or(UNKNOWN, OperationIndex)
}

/// What errors name as their resource: the path, decoded where it can be.
pub(super) fn resource_of(head: &RequestHead) -> String {
    uri::decode_utf8(&head.raw_path, uri::Plus::Literal).unwrap_or_else(|_| head.raw_path.clone())
}
