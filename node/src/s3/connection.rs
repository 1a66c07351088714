//! The loop of one connection: a head, its request served, its answer sent, and again.
//!
//! ```text
//!   idle ─> head ─> dispatch ─> answer ─> drop the rest of a short body ─> idle
//!             │ unreadable        │ long body unread, drain, "Connection: close"
//!             └──> answer ────────┴──> close (lingering, so that the answer arrives)
//! ```
//! Requests of one connection are served one after the other, in order, whether or not they are pipelined.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use proto_s3::http::{self, Method, Parsed, RequestHead, Response, ResponseContext, encode_response};
use proto_s3::{Code, Error, Limits};

use super::OPERATIONS;
use super::RequestId;
use super::answer::{Answer, Interruption};
use super::body::Incoming;
use super::dispatch::{self, Trace};
use super::error::{Outcome, Refusal};
use crate::service::S3Service;
use crate::stopwatch::Stage;
use crate::stream::{Patience, Stream};

/// What responses say in `Server`.
const SERVER: &str = "Basalt";

/// Serves the requests of a connection to its end.
pub async fn serve(service: Rc<S3Service>, mut stream: Stream) {
    loop {
        match serve_request(&service, &mut stream).await {
            Next::Request => {
                stream.shrink();
                stream.allow(Patience::Idle);
            }
            Next::Close => return stream.close().await,
            Next::Cut => return,
        }
    }
}

/// What becomes of a connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Another request may come.
    Request,
    /// It ends in order.
    Close,
    /// It ends at once: the peer is gone, or must see that the body is not whole.
    Cut,
}

async fn serve_request(service: &Rc<S3Service>, stream: &mut Stream) -> Next {
    let head = match read_head(stream, &service.config.limits).await {
        Ok(Some(head)) => Ok(head),
        Ok(None) => return Next::Close,
        Err(error) => Err(error),
    };
    let request_id = service.new_request_id();
    // The first thing to do with a head is to look at its signature.
    let begun = stream.watch().begin(if head.is_ok() { Stage::Crypto } else { Stage::Other });
    let mut request = Request { service, request_id, begun, head: None, trace: Trace::default() };
    let head = match head {
        Ok(head) => Rc::new(head),
        Err(error) => {
            // Where the next request begins is not known any more.
            return request.answer(stream, Err(error.into()), Next::Close).await;
        }
    };
    request.head = Some(head.clone());
    let is_last = !http::keeps_alive(&head) || head.minor_version == 0;
    let mut incoming = Incoming::announced_by(&head);
    let outcome =
        dispatch::run(service, stream, head, &mut incoming, &mut request.trace, request.begun).await;
    let next = if is_last || !incoming.is_droppable() { Next::Close } else { Next::Request };
    let next = request.answer(stream, outcome, next).await;
    if next == Next::Request && incoming.drop_rest(stream).await.is_err() {
        return Next::Cut;
    }
    next
}

/// The next head; `None` when the peer sends no more, or nothing whole.
async fn read_head(stream: &mut Stream, limits: &Limits) -> Result<Option<RequestHead>, Error> {
    let mut seen = 0;
    loop {
        // A head that comes in crumbs is parsed anew only when a line has ended.
        let received = stream.plaintext();
        let is_worth_parsing =
            seen == 0 || received.len() >= limits.head_len_max || received[seen..].contains(&b'\n');
        if !received.is_empty() && is_worth_parsing {
            match http::parse_head(received, limits)? {
                Parsed::Complete { head, len } => {
                    stream.consume(len);
                    return Ok(Some(head));
                }
                Parsed::Partial => {}
            }
        }
        seen = stream.plaintext().len();
        match stream.fill().await {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(Code::RequestTimeout.into()),
            Err(_) => return Ok(None),
        }
    }
}

/// A request on its way to its answer: what the log and the metrics say about it.
struct Request<'a> {
    service: &'a S3Service,
    request_id: RequestId,
    begun: Instant,
    /// `None` when it can't be read.
    head: Option<Rc<RequestHead>>,
    trace: Trace,
}

impl Request<'_> {
    /// Sends the answer and counts the request.
    async fn answer(&self, stream: &mut Stream, outcome: Outcome<Answer>, next: Next) -> Next {
        // Decided before the head is sent, since the head says so.
        let next = if next == Next::Request && stream.is_ending() { Next::Close } else { next };
        let mut held = None;
        let (response, body, refusal) = match outcome {
            Ok(Answer::Whole(response)) => (response, None, None),
            Ok(Answer::Held { response, permit }) => {
                held = Some(permit);
                (response, None, None)
            }
            Ok(Answer::Object { response, body }) => (response, Some(body), None),
            Err(refusal) => {
                let is_head = self.head.as_ref().is_some_and(|head| head.method == Method::Head);
                let host_id = &self.service.config.host_id;
                (refusal.error.to_response(self.request_id.as_str(), host_id, is_head), None, Some(refusal))
            }
        };
        let timing = self.service.config.server_timing.then(|| stream.watch().times().to_string());
        let head = self.encode(&response, next, timing.as_deref());
        let sent = match body {
            None => stream.write_all(&head).await.map_err(Interruption::Peer),
            Some(body) => body.send(&head, stream).await,
        };
        drop(held);
        let times = stream.watch().stop();
        self.service.metrics().count_request(self.trace.operation, response.status, times.total());
        self.service.metrics().count_stages(self.trace.class, &times);
        self.log(stream, response.status, refusal.as_ref(), sent.as_ref().err());
        if sent.is_ok() { next } else { Next::Cut }
    }

    fn encode(&self, response: &Response, next: Next, server_timing: Option<&str>) -> Vec<u8> {
        let context = ResponseContext {
            request_id: self.request_id.as_str(),
            host_id: &self.service.config.host_id,
            date: &self.service.http_date(),
            server: SERVER,
            server_timing,
            keep_alive: next == Next::Request,
        };
        let mut head = Vec::new();
        encode_response(response, &context, &mut head);
        head
    }

    fn log(
        &self,
        stream: &Stream,
        status: u16,
        refusal: Option<&Refusal>,
        interruption: Option<&Interruption>,
    ) {
        let is_failed = status >= 500 || matches!(interruption, Some(Interruption::Store(_)));
        if !is_failed && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let (peer, request_id) = (stream.peer(), self.request_id.as_str());
        let path = self.head.as_ref().map(|head| dispatch::resource_of(head)).unwrap_or_default();
        let operation = OPERATIONS[self.trace.operation.0];
        let access_key = self.trace.access_key.as_deref().unwrap_or("-");
        let code = refusal.map_or("-", |refusal| refusal.error.code.as_str());
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(Interruption::Store(error)) = interruption {
            tracing::error!(%peer, request_id, operation, path, %error, "an object broke off while it was sent");
        }
        // Full, not built, or more than a rate allows: the client is told, and nothing is wrong with the node.
        let is_expected = matches!(status, 501 | 507) || code == Code::SlowDown.as_str();
        if status >= 500 && !is_expected {
            let cause = refusal.and_then(|refusal| refusal.cause).map(|cause| cause.to_string());
            let cause = cause.as_deref().unwrap_or("-");
            tracing::error!(%peer, request_id, operation, path, status, code, cause, micros, "request failed");
        } else {
            let broke_off = match interruption {
                Some(Interruption::Peer(error)) => error.to_string(),
                Some(Interruption::Store(_)) | None => String::new(),
            };
            tracing::debug!(%peer, request_id, operation, path, access_key, status, code, micros, broke_off, "request");
        }
    }
}
