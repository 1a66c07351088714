//! The mesh of a node: a call to another core and its reply, one at a time, and many at once as under load. Each side is a thread with a ring.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::rc::Rc;
use std::time::{Duration, Instant};

use compio::runtime::Runtime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use node::mesh::LANE_LEN;
use node::{CoreId, Mesh, MeshHandle};

/// The state of a core: what it adds to what it is sent.
type Addend = u64;

/// Starts a core that serves until the process ends.
fn start_core(mesh: &Mesh<Addend>, core: CoreId) {
    let mesh = mesh.clone();
    std::thread::spawn(move || {
        let handle = mesh.handle(core);
        handle.open(Rc::new(1));
        Runtime::new().expect("a runtime").block_on(handle.serve());
    });
}

async fn add(handle: &MeshHandle<Addend>, core: CoreId, number: u64) -> u64 {
    let sum = handle.call(core, move |addend: Rc<Addend>| async move { number + *addend });
    sum.await.expect("it serves")
}

/// Time of so many rounds of `count` calls each, all of them under way at once.
async fn rounds(handle: &MeshHandle<Addend>, core: CoreId, rounds: u64, count: u64) -> Duration {
    let began = Instant::now();
    for round in 0..rounds {
        let sums = join_all((0..count).map(|number| add(handle, core, round + number))).await;
        assert_eq!(sums.last(), Some(&(round + count)), "the reply is to the call");
    }
    began.elapsed()
}

fn mesh(criterion: &mut Criterion) {
    let mesh = Mesh::<Addend>::new(2, LANE_LEN);
    let (here, there) = (CoreId::new(0), CoreId::new(1));
    start_core(&mesh, there);
    let runtime = Runtime::new().expect("a runtime");
    let handle = mesh.handle(here);
    handle.open(Rc::new(1));
    let serving = runtime.spawn(handle.serve());
    let mut group = criterion.benchmark_group("mesh round trip");
    for count in [1, 16, 256] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count} at once"), |b| {
            b.iter_custom(|times| runtime.block_on(rounds(&handle, there, times, count)));
        });
    }
    group.finish();
    drop(serving);
}

criterion_group!(benches, mesh);
criterion_main!(benches);
