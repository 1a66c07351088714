//! Waiting for space: a write that finds the store full waits while work in the background may still give some back.
//!
//! What a deletion frees becomes free segments only after a checkpoint, or after compaction. So "full" is final once the background work of every shard
//! has, since the write began to wait, looked again and found nothing left to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a write waits at most, however much work there is.
const PATIENCE_MAX: Duration = Duration::from_secs(5);

/// Time between two attempts of a write: background work gives a segment back every few milliseconds at best.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(10);

/// How far the background work of all shards is, as far as writers need to know.
pub struct Space {
    /// Per shard: how often its background work found nothing that it could do.
    idle_counts: Box<[AtomicU64]>,
}

impl Space {
    /// For that many shards.
    pub fn new(shard_count: usize) -> Arc<Self> {
        Arc::new(Space { idle_counts: (0..shard_count).map(|_| AtomicU64::new(0)).collect() })
    }

    /// The background work of a shard found nothing that it could do.
    pub fn note_idle(&self, shard: usize) {
        self.idle_counts[shard].fetch_add(1, Ordering::Relaxed);
    }

    /// The patience of one write.
    pub fn patience(self: &Arc<Self>) -> Patience {
        Patience { space: self.clone(), waiting: None }
    }

    fn idle_counts(&self) -> impl Iterator<Item = u64> {
        self.idle_counts.iter().map(|count| count.load(Ordering::Relaxed))
    }
}

/// What one write may still wait for.
pub struct Patience {
    space: Arc<Space>,
    waiting: Option<Waiting>,
}

struct Waiting {
    begun: Instant,
    idle_counts: Vec<u64>,
}

impl Patience {
    /// Attempts something until it is not refused for lack of space, or waiting longer is of no use. A refused attempt must have changed nothing.
    ///
    /// # Errors
    /// Those of the last attempt.
    pub async fn attempt<T>(
        &mut self,
        mut attempt: impl AsyncFnMut() -> engine::Result<T>,
    ) -> engine::Result<T> {
        loop {
            match attempt().await {
                Err(engine::Error::Full) if self.has_hope() => compio::time::sleep(ATTEMPT_INTERVAL).await,
                other => return other,
            }
        }
    }

    /// Whether background work that could give space back has not had its turn yet.
    fn has_hope(&mut self) -> bool {
        let space = &self.space;
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            begun: Instant::now(),
            idle_counts: space.idle_counts().collect(),
        });
        let mut since = space.idle_counts().zip(&waiting.idle_counts);
        // The first may have looked before the write began to wait.
        let is_hopeless = since.all(|(now, then)| now >= then + 2);
        !is_hopeless && waiting.begun.elapsed() < PATIENCE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_gives_up_once_every_shard_has_looked_twice_in_vain() {
        let space = Space::new(2);
        let mut patience = space.patience();
        assert!(patience.has_hope());
        (0..5).for_each(|_| space.note_idle(0));
        space.note_idle(1);
        assert!(patience.has_hope(), "shard 1 may have looked before");
        space.note_idle(1);
        assert!(!patience.has_hope());
        assert!(space.patience().has_hope(), "the next write sees for itself");
    }

    #[test]
    fn an_attempt_is_repeated_while_there_is_hope_and_only_for_lack_of_space() {
        let runtime = crate::cores::new_runtime().expect("a ring");
        let space = Space::new(1);
        let mut refusals = 3;
        let result = runtime.block_on(space.patience().attempt(async || {
            refusals -= 1;
            if refusals > 0 { Err(engine::Error::Full) } else { Ok(refusals) }
        }));
        assert_eq!(result, Ok(0));
        let mut attempts = 0;
        let result: engine::Result<()> = runtime.block_on(space.patience().attempt(async || {
            attempts += 1;
            Err(engine::Error::ReadOnly)
        }));
        assert_eq!((result, attempts), (Err(engine::Error::ReadOnly), 1));
        let result: engine::Result<()> = runtime.block_on(space.patience().attempt(async || {
            space.note_idle(0);
            Err(engine::Error::Full)
        }));
        assert_eq!(result, Err(engine::Error::Full));
    }
}
