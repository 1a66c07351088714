//! AES-256-GCM of three libraries, sealing in place: the figures behind the choice of aws-lc-rs. Only its own seals are in the product.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SIZES: [(usize, &str); 3] = [(4096, "4 KiB"), (16 * 1024, "16 KiB"), (64 * 1024, "64 KiB")];

const KEY: [u8; 32] = [7; 32];
const NONCE: [u8; 12] = [3; 12];

/// Additional data, as long as a frame's.
const ADDITIONAL: &[u8] = &[9; 16];

/// Seals in place; the tag.
type Seal = Box<dyn Fn(&mut [u8]) -> [u8; 16]>;

fn libraries() -> [(&'static str, Seal); 3] {
    [("aws-lc-rs", aws_lc_rs_seal()), ("ring", ring_seal()), ("aes-gcm", aes_gcm_seal())]
}

fn aws_lc_rs_seal() -> Seal {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEY).expect("32 bytes"));
    Box::new(move |data| {
        let nonce = Nonce::assume_unique_for_key(NONCE);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(ADDITIONAL), data);
        tag.expect("far below the limit").as_ref().try_into().expect("16 bytes")
    })
}

fn ring_seal() -> Seal {
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEY).expect("32 bytes"));
    Box::new(move |data| {
        let nonce = Nonce::assume_unique_for_key(NONCE);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(ADDITIONAL), data);
        tag.expect("far below the limit").as_ref().try_into().expect("16 bytes")
    })
}

fn aes_gcm_seal() -> Seal {
    let key = Aes256Gcm::new(&KEY.into());
    Box::new(move |data| {
        let tag = key.encrypt_inout_detached(&Nonce::from(NONCE), ADDITIONAL, data.into());
        tag.expect("far below the limit").into()
    })
}

/// They are measured at the same thing: equal ciphertexts and tags.
fn assert_equal(len: usize) {
    let sealed = libraries().map(|(_, seal)| {
        let mut data: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let tag = seal(&mut data);
        (data, tag)
    });
    assert!(sealed[0] == sealed[1] && sealed[0] == sealed[2], "one of the libraries seals otherwise");
}

fn ciphers(criterion: &mut Criterion) {
    for (len, size) in SIZES {
        assert_equal(len);
        let mut group = criterion.benchmark_group(format!("aes-256-gcm seal {size}"));
        group.throughput(Throughput::Bytes(len as u64));
        for (name, seal) in libraries() {
            let mut data = vec![7u8; len];
            group.bench_function(name, |b| b.iter(|| seal(&mut data)));
        }
        group.finish();
    }
}

criterion_group!(benches, ciphers);
criterion_main!(benches);
