//! What a request is answered with, on its way out.

use std::io;

use engine::device::UringDevice;
use engine::{Chunk, ObjectReader};
use proto_s3::http::Response;

use super::body::{Pace, TRANSFER_LEN};
use super::error::Outcome;
use super::exchange::Exchange;
use super::object_meta::StoredObject;
use crate::budget::Permit;
use crate::stopwatch::Stage;
use crate::stream::Stream;

/// What a request is answered with.
pub(super) enum Answer {
    /// A head and what goes with it.
    Whole(Response),
    /// The same, with leave to hold a large document until it is sent.
    Held {
        /// The response.
        response: Response,
        /// The leave.
        permit: Permit,
    },
    /// A head, and bytes of an object.
    Object {
        /// The head.
        response: Response,
        /// The bytes, as many as the head says.
        body: Box<ObjectBody>,
    },
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Answer::Whole(response)
    }
}

/// Bytes of an object, the first of them at hand.
pub(super) struct ObjectBody {
    /// Holds inline bytes, and keeps the segments of the others.
    stored: StoredObject,
    source: Source,
    len: u64,
    _permit: Permit,
}

enum Source {
    /// Within the record.
    Inline { first: usize, len: usize },
    /// In frames; the first are read.
    Frames { chunk: Option<Chunk>, reader: ObjectReader<UringDevice> },
}

/// Why a body was not sent to its end.
pub(super) enum Interruption {
    /// The client is gone.
    Peer(io::Error),
    /// The rest cannot be read.
    Store(engine::Error),
}

impl ObjectBody {
    /// Begins to read `len` bytes from `first` on, which the object has: nothing is promised to the client before they verify.
    pub(super) async fn open(x: &Exchange, stored: StoredObject, first: u64, len: u64) -> Outcome<Self> {
        let permit = x.admit(len.min(TRANSFER_LEN)).await?;
        let source = if stored.version.inline().is_some() {
            // What is inline fits into memory.
            Source::Inline { first: first as usize, len: len as usize }
        } else {
            let mut reader = stored.version.reader(x.service.core(), first..first + len);
            let chunk = x.watch.wait(Stage::Device, Stage::Crypto, reader.next()).await?;
            Source::Frames { chunk, reader }
        };
        Ok(ObjectBody { stored, source, len, _permit: permit })
    }

    /// Bytes to send.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Sends them behind the head.
    pub(super) async fn send(mut self, head: &[u8], stream: &mut Stream) -> Result<(), Interruption> {
        match &mut self.source {
            Source::Inline { first, len } => {
                let bytes = self.stored.version.inline().unwrap_or_default();
                stream.write_both(head, &bytes[*first..*first + *len]).await.map_err(Interruption::Peer)
            }
            Source::Frames { chunk, reader } => {
                let watch = stream.watch().clone();
                // What is not waiting for the device or the client here is sealing.
                let former = watch.enter(Stage::Crypto);
                stream.buffer(head).map_err(Interruption::Peer)?;
                let mut next = chunk.take();
                let mut pace = Pace::begin();
                while let Some(chunk) = next {
                    for slice in chunk.slices() {
                        stream.buffer(slice).map_err(Interruption::Peer)?;
                    }
                    stream.write_all(&[]).await.map_err(Interruption::Peer)?;
                    pace.check(chunk.len()).map_err(Interruption::Peer)?;
                    drop(chunk);
                    let read = watch.wait(Stage::Device, Stage::Crypto, reader.next());
                    next = read.await.map_err(Interruption::Store)?;
                }
                watch.enter(former);
                // A range of nothing leaves the head.
                stream.write_all(&[]).await.map_err(Interruption::Peer)
            }
        }
    }
}
