//! The body of a request, from wire bytes to where its operation wants it: an object's writer, or a document in memory.
//!
//! ```text
//!  stream ─> decoder (framing, aws-chunked, signatures) ─> hasher ─> writer or document
//! ```
//! Bytes go through as they arrive and count only after the end: framing, signatures, SHA-256 and all stated digests are verified before anything
//! is made of them. `100 Continue` is sent when the operation begins to read, that is when nothing in the head speaks against it.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use engine::crypto::Sealing;
use engine::{Content, Layout};
use proto_s3::http::{CONTINUE, Framing, RequestHead, expects_continue, framing};
use proto_s3::sigv4::PayloadAuth;
use proto_s3::{
    Algorithm, BodyDecoder, BodyDigests, BodyHasher, BodyKind, ChecksumRequest, Code, Error, Limits, Trailers,
};

use super::error::Outcome;
use super::writer::Writer;
use crate::budget::Permit;
use crate::rates::Leave;
use crate::service::S3Service;
use crate::stopwatch::{Stage, Stopwatch};
use crate::stream::{Patience, Stream};

/// An unread body up to this length is read and dropped so that the connection can go on; a longer one ends it.
const DRAIN_LEN_MAX: u64 = 256 * 1024;

/// Bytes that an upload or a download holds in memory: buffers of the stream, of a frame run, of writes or reads in flight, and what waits to be
/// hashed.
pub(super) const TRANSFER_LEN: u64 = 1024 * 1024;

/// The slowest that a body may move in the long run: no working network is slower.
const BYTES_PER_SECOND_MIN: u64 = 1024;

/// How long a body may be slower than that.
const PACE_GRACE: Duration = Duration::from_secs(30);

/// What is on its way behind the head of a request.
pub(super) struct Incoming {
    /// Bytes of the wire that are still to come; `None` while only the chunked coding can tell.
    wire_left: Option<u64>,
    /// The client waits for `100 Continue`.
    is_awaiting_continue: bool,
    /// Decodes it, when the operation takes a body.
    decoder: Option<BodyDecoder>,
    /// The request's leave, put down while the client is slow.
    leave: Option<Rc<Leave>>,
}

impl Incoming {
    /// What the head announces.
    pub(super) fn announced_by(head: &RequestHead) -> Self {
        let wire_left = match framing(head) {
            Ok(Framing::None) => Some(0),
            Ok(Framing::Length(len)) => Some(len),
            Ok(Framing::Chunked) | Err(_) => None,
        };
        let is_awaiting_continue = expects_continue(head) && wire_left != Some(0);
        Incoming { wire_left, is_awaiting_continue, decoder: None, leave: None }
    }

    /// Gets ready to decode it for an operation that takes such a body.
    pub(super) fn expect(
        &mut self,
        kind: BodyKind,
        head: &RequestHead,
        payload: &PayloadAuth,
        limits: &Limits,
    ) -> Result<(), Error> {
        match kind {
            BodyKind::None => return Ok(()),
            BodyKind::Data => self.decoder = Some(BodyDecoder::new(head, payload, limits)?),
            BodyKind::Document { len_max } => {
                // CreateBucket is a PUT whose document may be absent, and then so may its length.
                if self.wire_left == Some(0) && framing(head)? == Framing::None {
                    return Ok(());
                }
                let decoder = BodyDecoder::new(head, payload, limits)?;
                if decoder.payload_len() > len_max as u64 {
                    return Err(Error::new(Code::MaxMessageLengthExceeded)
                        .detail("MaxMessageLengthBytes", len_max.to_string()));
                }
                self.decoder = Some(decoder);
            }
        }
        Ok(())
    }

    /// Length of the payload, as far as the head says it.
    pub(super) fn payload_len(&self) -> u64 {
        self.decoder.as_ref().map_or(0, BodyDecoder::payload_len)
    }

    /// The request has its turn.
    pub(super) fn hold(&mut self, leave: Rc<Leave>) {
        self.leave = Some(leave);
    }

    /// Whether what is left of it can be dropped, and the connection go on.
    pub(super) fn is_droppable(&self) -> bool {
        let is_short = self.wire_left.is_some_and(|left| left <= DRAIN_LEN_MAX);
        is_short && (!self.is_awaiting_continue || self.wire_left == Some(0))
    }

    /// Reads what is left and drops it.
    pub(super) async fn drop_rest(&mut self, stream: &mut Stream) -> io::Result<()> {
        // In all, however it drips: nobody waits for this.
        stream.allow(Patience::Head);
        while let Some(left) = self.wire_left.filter(|left| *left > 0) {
            if stream.plaintext().is_empty() && stream.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let count = stream.plaintext().len().min(usize::try_from(left).unwrap_or(usize::MAX));
            stream.consume(count);
            self.wire_left = Some(left - count as u64);
        }
        Ok(())
    }
}

/// The body of a request, ready to be read once.
pub(super) struct Body<'a> {
    /// Where it comes from.
    pub(super) stream: &'a mut Stream,
    /// How it comes.
    pub(super) incoming: &'a mut Incoming,
}

/// An object's or part's bytes, stored but not committed, and what they add up to.
pub(super) struct Taken {
    /// The bytes.
    pub(super) content: Content,
    /// Their digests, compared with all that was stated.
    pub(super) digests: BodyDigests,
}

impl Body<'_> {
    /// Length of the payload.
    pub(super) fn payload_len(&self) -> u64 {
        self.incoming.payload_len()
    }

    /// Stores the payload. What was stated about it has been verified; a failure leaves nothing.
    pub(super) async fn into_content(
        mut self,
        service: &S3Service,
        sealing: &Sealing,
        layout: Layout,
        algorithm: Algorithm,
        stated: &ChecksumRequest,
    ) -> Outcome<Taken> {
        let len = self.payload_len();
        let watch = self.stream.watch().clone();
        let mut writer = Writer::open(service, &watch, sealing, len, layout).await?;
        let _permit = admit(service, &watch, len.min(TRANSFER_LEN)).await?;
        if writer.is_inline() {
            return self.into_inline(service, writer, algorithm, stated).await;
        }
        let mut hasher = BodyHasher::new(service.md5_lanes(), Some(algorithm));
        let trailers = self
            .read(async |payload| {
                hasher.update(payload);
                Ok(writer.write(payload).await?)
            })
            .await?;
        let digests = watch.wait(Stage::Crypto, Stage::Crypto, hasher.finish()).await;
        stated.verify(&digests, &trailers)?;
        Ok(Taken { content: writer.finish().await?, digests })
    }

    /// The same for a payload that stays in memory: it is hashed there when all of it has come.
    async fn into_inline(
        mut self,
        service: &S3Service,
        mut writer: Writer,
        algorithm: Algorithm,
        stated: &ChecksumRequest,
    ) -> Outcome<Taken> {
        let watch = self.stream.watch().clone();
        let trailers = self.read(async |payload| Ok(writer.write(payload).await?)).await?;
        let Content::Inline(bytes) = writer.finish().await? else {
            unreachable!("an inline writer gives inline bytes")
        };
        let former = watch.enter(Stage::Crypto);
        let (digests, bytes) = BodyHasher::whole(service.md5_lanes(), Some(algorithm), bytes).await;
        watch.enter(former);
        stated.verify(&digests, &trailers)?;
        Ok(Taken { content: Content::Inline(bytes), digests })
    }

    /// Collects the payload, whose length has been checked against the operation's limit.
    pub(super) async fn into_document(
        mut self,
        service: &S3Service,
        stated: &ChecksumRequest,
    ) -> Outcome<Vec<u8>> {
        let len = self.payload_len();
        let watch = self.stream.watch().clone();
        let _permit = admit(service, &watch, len).await?;
        // It grows with what arrives: an announced length is not memory yet.
        let mut document = Vec::new();
        let mut hasher = BodyHasher::new(service.md5_lanes(), stated.algorithm());
        let trailers = self
            .read(async |payload| {
                hasher.update(payload);
                document.extend_from_slice(payload);
                Ok(())
            })
            .await?;
        let digests = watch.wait(Stage::Crypto, Stage::Crypto, hasher.finish()).await;
        stated.verify(&digests, &trailers)?;
        Ok(document)
    }

    /// Gives the payload to `take`, piece by piece as it comes, to its verified end.
    async fn read(&mut self, take: impl AsyncFnMut(&[u8]) -> Outcome<()>) -> Outcome<Trailers> {
        let watch = self.stream.watch().clone();
        // What is not waiting here is opening, checking, hashing and sealing.
        let former = watch.enter(Stage::Crypto);
        let trailers = self.read_through(take).await;
        watch.enter(former);
        trailers
    }

    async fn read_through(&mut self, mut take: impl AsyncFnMut(&[u8]) -> Outcome<()>) -> Outcome<Trailers> {
        let Some(decoder) = &mut self.incoming.decoder else { return Ok(Trailers::default()) };
        self.stream.allow(Patience::Body);
        let mut pace = Pace::begin();
        while !decoder.is_done() {
            if self.stream.plaintext().is_empty() {
                if std::mem::take(&mut self.incoming.is_awaiting_continue) {
                    self.stream.write_all(CONTINUE).await.map_err(|error| broken_off(&error))?;
                }
                let leave = self.incoming.leave.as_deref();
                leave.inspect(|leave| leave.put_down());
                let filled = self.stream.fill().await;
                leave.inspect(|leave| leave.take_up());
                match filled {
                    Ok(0) => return Err(Code::IncompleteBody.into()),
                    Ok(_) => {}
                    Err(error) => return Err(broken_off(&error).into()),
                }
            }
            let decoded = decoder.decode(self.stream.plaintext())?;
            take(&self.stream.plaintext()[decoded.payload.clone()]).await?;
            self.stream.consume(decoded.consumed);
            pace.check(decoded.consumed).map_err(|error| broken_off(&error))?;
            self.incoming.wire_left = match self.incoming.wire_left {
                Some(left) => Some(left - decoded.consumed as u64),
                None => decoded.is_done.then_some(0),
            };
        }
        self.incoming.is_awaiting_continue = false;
        Ok(decoder.finish()?)
    }
}

/// How fast a body moves. Each step renews the connection's patience, so that one who sends or takes a byte now and then would hold memory and
/// space for ever.
pub(super) struct Pace {
    begun: Instant,
    moved: u64,
}

impl Pace {
    /// It begins to move.
    pub(super) fn begin() -> Self {
        Pace { begun: Instant::now(), moved: 0 }
    }

    /// So many more bytes have moved.
    pub(super) fn check(&mut self, count: usize) -> io::Result<()> {
        self.moved += count as u64;
        if is_too_slow(self.moved, self.begun.elapsed()) {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            Ok(())
        }
    }
}

fn is_too_slow(moved: u64, elapsed: Duration) -> bool {
    moved < elapsed.saturating_sub(PACE_GRACE).as_secs() * BYTES_PER_SECOND_MIN
}

/// Leave to hold body bytes. When it does not come in time, the client is told to slow down.
pub(super) async fn admit(service: &S3Service, watch: &Stopwatch, bytes: u64) -> Outcome<Permit> {
    let admitted = watch.wait(Stage::Queue, watch.stage(), pin!(service.admit(bytes))).await;
    Ok(admitted.ok_or(Code::SlowDown)?)
}

/// What a body is refused with that stopped coming.
fn broken_off(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::TimedOut => Error::new(Code::RequestTimeout),
        // Whoever broke the connection won't read this.
        _ => Error::new(Code::IncompleteBody),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_drips_is_cut_off_after_its_grace() {
        let later = |seconds| PACE_GRACE + Duration::from_secs(seconds);
        assert!(!is_too_slow(0, later(0)));
        assert!(!is_too_slow(100 * BYTES_PER_SECOND_MIN, later(100)));
        assert!(is_too_slow(100 * BYTES_PER_SECOND_MIN - 1, later(100)));
    }
}
