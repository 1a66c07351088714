//! Checkpoints: pointers, record and body, on every copy.

use super::finding::{Fault, Finding, Severity};
use super::report::Where;
use super::{Fsck, record};
use crate::device::Device;
use crate::error::Error;
use crate::format::body::Piece;
use crate::format::checkpoint::{Image, Pointer};
use crate::format::record::RecordKind;
use crate::format::run::RunDescriptor;
use crate::format::settlement::RecordPlace;
use crate::ids::ShardId;
use crate::recovery;

use super::frame::look_at_piece;

impl<D: Device> Fsck<'_, D> {
    /// Checks the checkpoint that a shard opens with.
    pub(super) async fn check_checkpoint(&mut self, shard: ShardId) {
        self.check_pointers(shard).await;
        let segments = self.core.store.commit_segments(shard);
        let found = recovery::find_checkpoint(&self.core, shard, &segments, &mut |_| {}).await;
        let (record, pointer) = match found {
            Ok(Some((record, pointer, _))) => (record, pointer),
            Ok(None) => return,
            Err(error) => return self.shard_finding(Fault::CheckpointRecord, shard, &error.to_string()),
        };
        self.check_checkpoint_record(shard, &pointer.place).await;
        self.count_live_extents(&record.body.extents);
        let is_whole =
            self.check_piece(&record.body, Fault::CheckpointBody, Some(shard), "a checkpoint's body").await;
        if !is_whole {
            return;
        }
        match recovery::read_image(&self.core, &record).await {
            Ok(image) => self.check_runs(shard, &image).await,
            Err(error) => self.shard_finding(Fault::CheckpointBody, shard, &error.to_string()),
        }
    }

    /// Both pointer blocks on every device.
    async fn check_pointers(&mut self, shard: ShardId) {
        let blocks = self.core.read_pointer_blocks(shard).await;
        let is_any_good = blocks.iter().any(|(_, _, pointer)| matches!(pointer, Ok(Some(_))));
        for (device, offset, pointer) in &blocks {
            let Err(what) = pointer else { continue };
            let others = match is_any_good {
                true => "another one leads to a checkpoint",
                false => "no other one is there, and the log is searched",
            };
            let source = self.report.sources.get(usize::from(device.0)).copied().flatten();
            let finding =
                Finding::new(Fault::Pointer, Severity::Repairable, &format!("{what}; {others}")).shard(shard);
            self.report.add(finding.device(source).offset(*offset));
        }
        let pointers = blocks.iter().filter_map(|(_, _, pointer)| pointer.as_ref().ok().copied().flatten());
        let newest: Option<Pointer> = pointers.max_by_key(|pointer| pointer.lsn);
        if let Some(pointer) = newest {
            self.check_checkpoint_record(shard, &pointer.place).await;
        }
    }

    async fn check_checkpoint_record(&mut self, shard: ShardId, place: &RecordPlace) {
        let looked = record::look_at(&self.core, place).await;
        let at = Where {
            fault: Fault::CheckpointRecord,
            shard: Some(shard),
            segment: place.segment,
            offset: place.offset.into(),
            of: "a checkpoint record",
        };
        self.report.copies(at, &looked.copies);
        if let Some((header, _)) = looked.record
            && (header.identity.kind != RecordKind::Checkpoint || header.position.shard != shard)
        {
            self.shard_finding(
                Fault::Pointer,
                shard,
                "it leads to a record that is no checkpoint of the shard",
            );
        }
    }

    /// Verifies a piece on every copy; whether each frame verifies on one.
    pub(super) async fn check_piece(
        &mut self,
        piece: &Piece,
        fault: Fault,
        shard: Option<ShardId>,
        of: &str,
    ) -> bool {
        let (bad, frames) = match look_at_piece(&self.core, piece).await {
            Ok(looked) => looked,
            Err(error) => {
                let finding = Finding::new(fault, Severity::Lost, &format!("{of}: {error}"));
                self.report.add(Finding { shard, ..finding });
                return false;
            }
        };
        if fault == Fault::Frame {
            self.report.summary.frames += frames;
        }
        let mut is_whole = true;
        for frame in bad {
            let of = format!("a frame of {of}");
            let at = Where { fault, shard, segment: frame.extent.segment, offset: frame.offset, of: &of };
            is_whole &= self.report.copies(at, &frame.copies);
            self.note_gone(frame.extent.segment);
        }
        is_whole
    }

    async fn check_runs(&mut self, shard: ShardId, image: &Image) {
        for bytes in &image.runs {
            match RunDescriptor::decode(bytes) {
                Ok((run, [])) => {
                    self.count_live_extents(&run.extents);
                    self.check_run(shard, &run).await;
                }
                Ok(_) => self.shard_finding(Fault::CheckpointBody, shard, "a run's description is too long"),
                Err(malformed) => self.shard_finding(Fault::CheckpointBody, shard, malformed.0),
            }
        }
    }

    pub(super) fn shard_finding(&mut self, fault: Fault, shard: ShardId, detail: &str) {
        self.report.add(Finding::new(fault, Severity::Lost, detail).shard(shard));
    }

    /// An error of the engine as a finding.
    pub(super) fn shard_error(&mut self, fault: Fault, shard: ShardId, error: Error) {
        let finding = Finding::new(fault, Severity::Lost, &error.to_string()).shard(shard);
        let finding = match error {
            Error::Corrupt { segment, offset, .. } => {
                self.note_gone(segment);
                finding.segment(segment).offset(offset)
            }
            _ => finding,
        };
        self.report.add(finding);
    }
}
