//! The work in the background of one shard: one piece after the other, with pauses in which requests have the core and the devices.
//!
//! ```text
//! recovery of all shards ends ─> piece ─> pause ─> piece ─> ... ─(stop, between two pieces)─> last checkpoint
//! ```
//! A piece is never given up half-way while its shard goes on: the engine counts on its end.

use std::mem::{Discriminant, discriminant};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compio::runtime::JoinHandle;
use engine::{Error, Upkeep};
use futures_channel::oneshot;
use futures_util::future::{Either, Shared, select};

use super::space::Space;
use super::{EngineCore, EngineShard};
use crate::rates::Gate;

/// Pause after a piece of work while there is room: at 64 to 256 KiB a piece, compaction moves less than 100 MB/s then.
const PAUSE: Duration = Duration::from_millis(2);

/// Pause after a piece of work while free segments are scarce: requests get their turn, and little more.
const PAUSE_SCARCE: Duration = Duration::from_micros(200);

/// Pause after a piece of work while requests wait for their turn and there is room: fifty pieces a second still keep space coming back.
const PAUSE_BUSY: Duration = Duration::from_millis(20);

/// Pause when there is nothing to do.
const PAUSE_IDLE: Duration = Duration::from_millis(100);

/// Pause after a failure.
const PAUSE_FAILED: Duration = Duration::from_secs(1);

/// Time after which a failure of the same kind is told again.
const TELL_INTERVAL: Duration = Duration::from_secs(3600);

/// How long the end of a node waits for the piece of work under way and the last checkpoint. Without it the next start replays what came after the last one.
const LAST_CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(5);

/// The background work of one shard, running.
pub(super) struct Background {
    shard: Rc<EngineShard>,
    running: JoinHandle<()>,
    /// Dropped to stop it.
    stop: oneshot::Sender<()>,
}

impl Background {
    /// Begins to work once `recovered` says that all shards are.
    pub(super) fn start(
        core: &Rc<EngineCore>,
        shard: &Rc<EngineShard>,
        space: &Arc<Space>,
        gate: &Rc<Gate>,
        recovered: Shared<oneshot::Receiver<()>>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let worker = Worker {
            core: core.clone(),
            shard: shard.clone(),
            space: space.clone(),
            gate: gate.clone(),
            told: None,
        };
        let running = compio::runtime::spawn(worker.run(recovered, stopped));
        Background { shard: shard.clone(), running, stop }
    }

    /// Stops after the piece of work under way, and makes a checkpoint, so that the next start has nothing to replay.
    pub(super) async fn end(self) {
        let Background { shard, running, stop } = self;
        drop(stop);
        let id = shard.id();
        let (done, waiting) = oneshot::channel();
        // What is not done in time goes on until the process ends: it is not given up while the shard still writes what is queued.
        compio::runtime::spawn(async move {
            // A worker that panicked has taken the process with it.
            let _ = running.await;
            // Nobody listens after the timeout.
            let _ = done.send(shard.checkpoint().await);
        })
        .detach();
        match compio::time::timeout(LAST_CHECKPOINT_TIMEOUT, waiting).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => {
                tracing::warn!(shard = %id, %error, "no checkpoint at the end: the next start replays more of the log");
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(
                    shard = %id,
                    timeout = ?LAST_CHECKPOINT_TIMEOUT,
                    "no checkpoint at the end for lack of time: the next start replays more of the log"
                );
            }
        }
    }
}

struct Worker {
    core: Rc<EngineCore>,
    shard: Rc<EngineShard>,
    space: Arc<Space>,
    gate: Rc<Gate>,
    /// The kind of the last failure that was told, and when.
    told: Option<(Discriminant<Error>, Instant)>,
}

impl Worker {
    async fn run(mut self, recovered: Shared<oneshot::Receiver<()>>, mut stopped: oneshot::Receiver<()>) {
        let mut pause = match select(recovered, &mut stopped).await {
            Either::Left((Ok(()), _)) => Duration::ZERO,
            _ => return,
        };
        loop {
            if let Either::Right(_) = select(Box::pin(compio::time::sleep(pause)), &mut stopped).await {
                return;
            }
            pause = match self.shard.upkeep().await {
                Ok(Upkeep::Progressed) => {
                    let (free, reserve) = self.core.store.table.free_and_reserve();
                    pause_after_work(free, reserve, self.gate.is_busy())
                }
                Ok(Upkeep::Idle) => {
                    self.space.note_idle(self.shard.id().0.into());
                    PAUSE_IDLE
                }
                Err(Error::Stopped) => return,
                Err(error) => {
                    self.space.note_idle(self.shard.id().0.into());
                    self.tell(error);
                    PAUSE_FAILED
                }
            };
        }
    }

    /// Tells of a failure, unless the last one that was told was of the same kind and not long ago.
    fn tell(&mut self, error: Error) {
        let kind = discriminant(&error);
        if self.told.is_some_and(|(told, at)| told == kind && at.elapsed() < TELL_INTERVAL) {
            return;
        }
        self.told = Some((kind, Instant::now()));
        tracing::warn!(shard = %self.shard.id(), %error, "work in the background failed and is tried again every second: {}", consequence(error));
    }
}

/// Requests come first, but not for ever: what they need is space, too.
fn pause_after_work(free: u32, reserve: u32, is_busy: bool) -> Duration {
    match (free > 2 * reserve, is_busy) {
        (true, false) => PAUSE,
        (true, true) => PAUSE_BUSY,
        (false, true) if free > reserve => PAUSE,
        (false, _) => PAUSE_SCARCE,
    }
}

/// What it means for the operator that background work fails.
fn consequence(error: Error) -> &'static str {
    match error {
        Error::Full => {
            "not even the reserve has room for a checkpoint or for moving what is live; deletions alone may not help, add a device"
        }
        Error::ReadOnly | Error::Fenced { .. } => {
            "no checkpoint is made and no space given back until the devices take writes again, and a start has more to replay"
        }
        Error::Corrupt { .. } | Error::Io { .. } => {
            "something can't be read from any copy; it is left where it is, and space behind it may not come back"
        }
        _ => "no checkpoint is made and no space given back, and a start has more to replay",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_hurries_when_free_segments_are_scarce() {
        assert_eq!(pause_after_work(100, 8, false), PAUSE);
        assert_eq!(pause_after_work(16, 8, false), PAUSE_SCARCE);
        assert_eq!(pause_after_work(0, 8, false), PAUSE_SCARCE);
    }

    #[test]
    fn work_makes_way_for_requests_that_wait_until_space_is_what_they_need() {
        assert_eq!(pause_after_work(100, 8, true), PAUSE_BUSY);
        assert_eq!(pause_after_work(16, 8, true), PAUSE);
        assert_eq!(pause_after_work(8, 8, true), PAUSE_SCARCE);
    }
}
