//! MD5 in lanes by the number of streams, next to one stream of the md-5 crate, and to SHA-256 and HMAC for scale. All figures are sums over the
//! streams.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

#[path = "support/tiny.rs"]
mod tiny;

use std::hint::black_box;
use std::rc::Rc;

use aws_lc_rs::{digest, hmac};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use md5::{Digest, Md5};
use md5_lanes::{Block, Job, Kernel, Lanes, Need, STATE_INITIAL, hash};

const STREAMS: [usize; 5] = [1, 4, 8, 16, 64];

/// What an upload takes from its connection at a time.
const PIECE_LEN: usize = 16 * 1024;

fn bodies(count: usize, len: usize) -> Vec<Vec<u8>> {
    (0..count).map(|stream| (0..len).map(|at| (at * 31 + stream) as u8).collect()).collect()
}

/// Blocks that are all at hand.
fn batch(kernel: Kernel, bodies: &[Vec<u8>]) -> Vec<[u32; 4]> {
    let mut states = vec![STATE_INITIAL; bodies.len()];
    let jobs = states.iter_mut().zip(bodies);
    let mut jobs: Vec<Job<'_>> =
        jobs.map(|(state, body)| Job { state, blocks: blocks(body), need: Need::Urgent }).collect();
    hash(kernel, &mut jobs);
    states
}

fn blocks(body: &[u8]) -> &[Block] {
    body.as_chunks().0
}

/// Bodies that arrive in pieces, in turn, as in a node.
fn streams(lanes: &Rc<Lanes>, bodies: &[Vec<u8>]) {
    let mut open: Vec<_> = bodies.iter().map(|_| lanes.open()).collect();
    for piece in 0..bodies[0].len().div_ceil(PIECE_LEN) {
        for (stream, body) in open.iter_mut().zip(bodies) {
            let rest = &body[piece * PIECE_LEN..];
            stream.update(&rest[..rest.len().min(PIECE_LEN)]);
        }
    }
    let ended: Vec<_> = open.into_iter().map(|stream| stream.end()).collect();
    for stream in ended {
        black_box(stream.digest());
    }
}

fn one_by_one(bodies: &[Vec<u8>], mut each: impl FnMut(&[u8])) {
    bodies.iter().for_each(|body| each(body));
}

fn lanes(group: &mut BenchmarkGroup<'_, WallTime>, len: usize, size: &str) {
    for count in STREAMS {
        let bodies = bodies(count, len);
        group.throughput(Throughput::Bytes((count * len) as u64));
        for kernel in Kernel::all() {
            let name = kernel.name();
            group.bench_function(format!("{count} x {size}, batch, {name}"), |b| {
                b.iter(|| batch(kernel, &bodies))
            });
        }
        let lanes = Lanes::new(Kernel::detect());
        group.bench_function(format!("{count} x {size}, streams"), |b| b.iter(|| streams(&lanes, &bodies)));
        group.bench_function(format!("{count} x {size}, md-5 crate"), |b| {
            b.iter(|| one_by_one(&bodies, |body| _ = black_box(Md5::digest(body))));
        });
    }
}

fn for_scale(group: &mut BenchmarkGroup<'_, WallTime>, len: usize, size: &str) {
    let bodies = bodies(1, len);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function(format!("1 x {size}, SHA-256"), |b| {
        b.iter(|| one_by_one(&bodies, |body| _ = black_box(digest::digest(&digest::SHA256, body))));
    });
    group.bench_function(format!("1 x {size}, HMAC-SHA-256"), |b| {
        b.iter(|| one_by_one(&bodies, |body| _ = black_box(hmac::sign(&key, body))));
    });
}

fn md5(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("md5");
    let large = if tiny::is_test() { (20_000, "20 000 bytes") } else { (1 << 20, "1 MiB") };
    for (len, size) in [(4096, "4 KiB"), large] {
        lanes(&mut group, len, size);
        for_scale(&mut group, len, size);
    }
    group.finish();
}

criterion_group!(benches, md5);
criterion_main!(benches);
