//! Group commit: what a put costs its home core from the decision to the acknowledgement, alone and with others in one batch. The device is memory, so that
//! nothing of it is waiting.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

#[path = "support/memory.rs"]
mod memory;

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::crypto::{MasterKey, Sealing, SystemRandom};
use engine::format::body::VersionMeta;
use engine::format::record::SealKind;
use engine::format::superblock::Tier;
use engine::ids::{BucketId, NamespaceId, ShardId, UnixMillis, UserId};
use engine::{
    Content, Core, Draft, FormatOptions, NewVersion, Precondition, Shard, Store, Upkeep, format, open_shard,
};
use memory::{MemoryDevice, block_on};

const NAMESPACE: NamespaceId = NamespaceId(1);

const DEVICE_LEN: usize = 512 << 20;

/// Keys that are put over and over: the store is in a steady state soon.
const KEYS: usize = 10_000;

/// Commits between two looks for work in the background, which is not measured.
const COMMITS_PER_UPKEEP: u64 = 64;

type Task<T> = Pin<Box<dyn Future<Output = T>>>;

/// A shard with one bucket, and its log.
struct Stand {
    core: Rc<Core<MemoryDevice>>,
    shard: Rc<Shard<MemoryDevice>>,
    log: Task<()>,
    device: MemoryDevice,
    sealing: Sealing,
    bucket: BucketId,
    put_count: usize,
}

impl Stand {
    fn new() -> Self {
        let device = MemoryDevice::new(DEVICE_LEN);
        let devices = [device.clone()];
        let options = FormatOptions {
            copies: 1,
            shard_count: 1,
            segment_size: Some(16 << 20),
            inline_max: 32 * 1024,
            tiers: vec![Tier::Nvme],
        };
        let master = || MasterKey::new([1; 32]);
        block_on(format(&devices, &options, &master(), UnixMillis(1), &mut SystemRandom)).expect("formatted");
        let store = block_on(Store::open(&devices, master())).expect("opened");
        let core = Core::new(store, 0, devices.to_vec(), Box::new(SystemRandom));
        let shard = block_on(open_shard(core.clone(), ShardId(0), |_| ())).expect("opened");
        core.store.table.finish_recovery();
        let mut log: Task<()> = Box::pin(shard.clone().run());
        let made = async {
            shard.create_namespace(NAMESPACE, "default", SealKind::Aes256Gcm).await?;
            shard.create_bucket("b", NAMESPACE, UserId(1), "", UnixMillis(1)).await
        };
        let catalog = drive(&mut log, made).expect("a bucket");
        let sealing = core.sealing(&catalog, NAMESPACE).expect("the namespace is there");
        let bucket = catalog.buckets["b"].id;
        Stand { core, shard, log, device, sealing, bucket, put_count: 0 }
    }

    /// The next put, sealed as the core of its connection does it.
    fn draft(&mut self, len: usize) -> Draft {
        self.put_count += 1;
        let key = format!("photos/{:09}.jpg", self.put_count % KEYS).into_bytes();
        let new = NewVersion { bucket: self.bucket, key, meta: VersionMeta::default() };
        let content = Content::Inline(vec![self.put_count as u8; len]);
        self.core.draft_version(&self.sealing, new, content).expect("a small version")
    }

    /// Puts them all at once, and waits for the last acknowledgement.
    fn commit(&mut self, drafts: Vec<Draft>) {
        let mut context = Context::from_waker(Waker::noop());
        let put = |draft| {
            let shard = self.shard.clone();
            let put = async move { shard.put(draft, Precondition::None).await.map(|_| ()) };
            Box::pin(put) as Task<engine::Result<()>>
        };
        let mut puts: Vec<_> = drafts.into_iter().map(put).collect();
        loop {
            puts.retain_mut(|put| match put.as_mut().poll(&mut context) {
                Poll::Ready(result) => result.is_err_and(|error| panic!("a put failed: {error}")),
                Poll::Pending => true,
            });
            if puts.is_empty() {
                return;
            }
            assert!(self.log.as_mut().poll(&mut context).is_pending(), "the log runs");
        }
    }

    fn upkeep(&mut self) {
        while drive(&mut self.log, self.shard.upkeep()).expect("work in the background") == Upkeep::Progressed
        {
        }
    }

    /// Time of so many commits, without what comes before and between them.
    fn time(&mut self, commits: u64, puts: usize, len: usize) -> Duration {
        let mut total = Duration::ZERO;
        for commit in 0..commits {
            let drafts = (0..puts).map(|_| self.draft(len)).collect();
            let began = Instant::now();
            self.commit(drafts);
            total += began.elapsed();
            if commit % COMMITS_PER_UPKEEP == 0 {
                self.upkeep();
            }
        }
        total
    }
}

/// Runs a future beside the log that it waits for.
fn drive<T>(log: &mut Task<()>, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        assert!(log.as_mut().poll(&mut context).is_pending(), "the log runs");
    }
}

/// What is measured is what the name says: puts that arrive together are one flush.
fn assert_one_flush(stand: &mut Stand) {
    stand.time(1, 1, 16);
    let drafts = (0..64).map(|_| stand.draft(16)).collect();
    let before = stand.device.flushes();
    stand.commit(drafts);
    assert_eq!(stand.device.flushes() - before, 1, "64 puts that arrive together take one flush");
}

fn commit(criterion: &mut Criterion) {
    let mut stand = Stand::new();
    assert_one_flush(&mut stand);
    for (len, size) in [(16, "16 bytes"), (4096, "4 KiB")] {
        let mut group = criterion.benchmark_group(format!("group commit, puts of {size}"));
        for puts in [1, 8, 64] {
            group.throughput(Throughput::Elements(puts as u64));
            group.bench_function(format!("{puts} together"), |b| {
                b.iter_custom(|commits| stand.time(commits, puts, len));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, commit);
criterion_main!(benches);
