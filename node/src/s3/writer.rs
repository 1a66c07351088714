//! Storing the bytes of an object or part, with patience for a store that is full for the moment.

use engine::crypto::Sealing;
use engine::device::UringDevice;
use engine::{Content, Layout, ObjectWriter};

use crate::service::S3Service;
use crate::storage::Patience;

/// The engine's writer, and how long it waits for space.
pub(super) struct Writer {
    writer: ObjectWriter<UringDevice>,
    patience: Patience,
}

impl Writer {
    /// A writer for exactly `len` bytes.
    pub(super) async fn open(
        service: &S3Service,
        sealing: &Sealing,
        len: u64,
        layout: Layout,
    ) -> engine::Result<Self> {
        let mut patience = service.space().patience();
        let open = async || ObjectWriter::new(service.core().clone(), sealing, len, layout);
        let writer = patience.attempt(open).await?;
        Ok(Writer { writer, patience })
    }

    /// Takes in bytes.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> engine::Result<()> {
        while !bytes.is_empty() {
            let taken = self.patience.attempt(async || self.writer.take(bytes).await).await?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// All bytes are in: makes them durable.
    pub(super) async fn finish(self) -> engine::Result<Content> {
        self.writer.finish().await
    }
}
