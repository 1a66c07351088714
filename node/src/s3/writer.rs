//! Storing the bytes of an object or part, with patience for a store that is full for the moment.

use std::rc::Rc;

use engine::crypto::Sealing;
use engine::device::UringDevice;
use engine::{Content, Layout, ObjectWriter};

use crate::service::S3Service;
use crate::stopwatch::{Stage, Stopwatch};
use crate::storage::Patience;

/// The engine's writer, and how long it waits for space.
pub(super) struct Writer {
    writer: ObjectWriter<UringDevice>,
    patience: Patience,
    watch: Rc<Stopwatch>,
}

impl Writer {
    /// A writer for exactly `len` bytes.
    pub(super) async fn open(
        service: &S3Service,
        watch: &Rc<Stopwatch>,
        sealing: &Sealing,
        len: u64,
        layout: Layout,
    ) -> engine::Result<Self> {
        let mut patience = service.space().patience();
        let open = async || ObjectWriter::new(service.core().clone(), sealing, len, layout);
        let writer = watch.wait(Stage::Queue, Stage::Other, patience.attempt(open)).await?;
        Ok(Writer { writer, patience, watch: watch.clone() })
    }

    /// Whether the bytes stay in memory, to go into the object's record.
    pub(super) fn is_inline(&self) -> bool {
        self.writer.is_inline()
    }

    /// Takes in bytes.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> engine::Result<()> {
        let watch = &self.watch;
        while !bytes.is_empty() {
            // Within, devices are waited for; beyond that, space.
            let take = async || watch.wait(Stage::Device, Stage::Crypto, self.writer.take(bytes)).await;
            let taken = watch.wait(Stage::Queue, Stage::Crypto, self.patience.attempt(take)).await?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// All bytes are in: makes them durable.
    pub(super) async fn finish(self) -> engine::Result<Content> {
        self.watch.wait(Stage::Device, Stage::Crypto, self.writer.finish()).await
    }
}
