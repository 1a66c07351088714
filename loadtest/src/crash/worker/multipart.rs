//! Multipart uploads, which may stay open over several rounds.

use super::{Session, Worker};
use crate::crash::choose::Fate;
use crate::crash::etag;
use crate::crash::model::{Slot, Version};
use crate::crash::upload::{self, Stage, Upload};
use crate::s3::Error;

/// Uploads that a client leaves open from round to round.
const OPEN_UPLOADS_MAX: usize = 3;

impl Worker {
    pub(super) fn multipart(
        &mut self,
        session: &mut Session<'_>,
        slot: usize,
        len: u64,
        fate: Fate,
    ) -> Result<(), Error> {
        let Slot { bucket, key, .. } = &self.slots[slot];
        let id = session.client.create_multipart(bucket, key)?;
        session.spend(0);
        self.count("create-upload");
        let generation = self.slots[slot].next_generation();
        self.uploads.push(Upload::new(slot, id, generation, len));
        self.end_upload(session, self.uploads.len() - 1, fate)
    }

    /// Goes on with what the last rounds left open.
    pub(super) fn resume_uploads(&mut self, session: &mut Session<'_>) -> Result<(), Error> {
        for index in (0..self.uploads.len()).rev() {
            let upload = &self.uploads[index];
            let slot = &self.slots[upload.slot];
            if upload.stage == Stage::Completing && slot.settled().is_some_and(|version| upload.made(version))
            {
                self.uploads.remove(index);
                continue;
            }
            let fate = match upload.stage {
                Stage::Aborting => Fate::Abort,
                Stage::Completing => Fate::Complete,
                Stage::Open if self.rng.percent(40) => Fate::Complete,
                Stage::Open if self.uploads.len() > OPEN_UPLOADS_MAX => Fate::Abort,
                Stage::Open => continue,
            };
            if slot.is_certain() {
                self.end_upload(session, index, fate)?;
            }
        }
        Ok(())
    }

    fn end_upload(&mut self, session: &mut Session<'_>, index: usize, fate: Fate) -> Result<(), Error> {
        match fate {
            Fate::Abandon => self.upload_parts(session, index, 1),
            Fate::Abort => {
                if self.uploads[index].stage == Stage::Open {
                    self.upload_parts(session, index, 1)?;
                }
                self.abort(session, index)
            }
            Fate::Complete => {
                self.upload_parts(session, index, upload::PARTS_MAX)?;
                self.complete(session, index)
            }
        }
    }

    fn upload_parts(&mut self, session: &mut Session<'_>, index: usize, most: usize) -> Result<(), Error> {
        for number in self.uploads[index].missing_parts().into_iter().take(most) {
            let upload = &self.uploads[index];
            let (start, len) = upload.range(number);
            let Slot { bucket, key, .. } = &self.slots[upload.slot];
            let body = upload.version(key).body(self.seed);
            let payload = body.part(start, len);
            let part = session.client.upload_part(bucket, key, &upload.id, number, &payload)?;
            if part.etag != etag::md5_hex(&payload) {
                return Err(Error::Protocol(format!("{bucket}/{key} part {number}: ETag {}", part.etag)));
            }
            self.uploads[index].stored(part);
            session.spend(len);
            self.count("upload-part");
        }
        Ok(())
    }

    fn complete(&mut self, session: &mut Session<'_>, index: usize) -> Result<(), Error> {
        let upload = &mut self.uploads[index];
        upload.stage = Stage::Completing;
        let (upload, slot) = (upload.clone(), upload.slot);
        let parts = upload.parts();
        let version = Version { etag: etag::of_parts(&parts), ..upload.version(&self.slots[slot].key) };
        self.slots[slot].begin(Some(version));
        let Slot { bucket, key, .. } = &self.slots[slot];
        let outcome = session.client.complete_multipart(bucket, key, &upload.id, &parts);
        session.spend(0);
        self.settle(slot, "complete-upload", outcome.map(|stored| Some(stored.etag)))?;
        self.uploads.remove(index);
        Ok(())
    }

    fn abort(&mut self, session: &mut Session<'_>, index: usize) -> Result<(), Error> {
        let upload = &mut self.uploads[index];
        let was_tried = upload.stage == Stage::Aborting;
        upload.stage = Stage::Aborting;
        let Slot { bucket, key, .. } = &self.slots[upload.slot];
        match session.client.abort_multipart(bucket, key, &upload.id) {
            Err(error) if !(was_tried && error.is_no_such_upload()) => return Err(error),
            _ => {}
        }
        session.spend(0);
        self.uploads.remove(index);
        self.count("abort-upload");
        Ok(())
    }
}
