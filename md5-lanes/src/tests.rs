//! Every kernel that this CPU has, against the md-5 crate.

use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use md5::{Digest as _, Md5};
use proptest::prelude::*;

use crate::backlog::WAITING_LEN_MAX;
use crate::lanes::KEPT_LEN;
use crate::{Digest, Ended, Kernel, Lanes, Stream};

/// RFC 1321, appendix A.5.
const PUBLISHED: [(&str, &str); 7] = [
    ("", "d41d8cd98f00b204e9800998ecf8427e"),
    ("a", "0cc175b9c0f1b6a831c399e269772661"),
    ("abc", "900150983cd24fb0d6963f7d28e17f72"),
    ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
    ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
    ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "d174ab98d277d9f5a5611c2c9f419d9f"),
    (
        "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
        "57edf4a22be3c955ac49da2e2107b67a",
    ),
];

/// Numbers that look random and are the same each time (SplitMix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below an index")
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = len.div_ceil(8);
        let mut bytes: Vec<u8> = (0..words).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}

fn expected(bytes: &[u8]) -> Digest {
    Md5::digest(bytes).into()
}

fn hex(digest: Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lanes() -> impl Iterator<Item = Rc<Lanes>> {
    Kernel::all().into_iter().map(Lanes::new)
}

fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn the_published_digests_come_out() {
    for lanes in lanes() {
        let mut open = Vec::new();
        for (text, digest) in PUBLISHED {
            let mut stream = lanes.open();
            stream.update(text.as_bytes());
            open.push((stream, digest));
        }
        for (stream, digest) in open {
            assert_eq!(hex(stream.end().digest()), digest, "{}", lanes.kernel().name());
        }
    }
}

#[test]
fn every_length_comes_out_alone_and_next_to_others() {
    let around = (5..70)
        .chain([1023, 1024, 1025, 2048])
        .flat_map(|blocks| [64 * blocks - 1, 64 * blocks, 64 * blocks + 1]);
    let lens: Vec<usize> = (0..=300).chain(around).collect();
    let bytes = Numbers(1).bytes(*lens.iter().max().expect("some"));
    for lanes in lanes() {
        for len in &lens {
            let mut alone = lanes.open();
            alone.update(&bytes[..*len]);
            assert_eq!(alone.end().digest(), expected(&bytes[..*len]), "{len} on {}", lanes.kernel().name());
        }
        let mut open: Vec<(Stream, usize)> = lens.iter().map(|len| (lanes.open(), *len)).collect();
        for (stream, len) in &mut open {
            stream.update(&bytes[..*len]);
        }
        let ended: Vec<(Ended, usize)> = open.into_iter().map(|(stream, len)| (stream.end(), len)).collect();
        for (stream, len) in ended {
            assert_eq!(stream.digest(), expected(&bytes[..len]), "{len} on {}", lanes.kernel().name());
        }
    }
}

/// Feeds streams piece by piece in a random order; ends them, or gives them up, when their bytes are through.
fn interleave(lanes: &Rc<Lanes>, bodies: &[Vec<u8>], numbers: &mut Numbers) {
    let mut open: Vec<(Stream, usize, usize)> = Vec::new();
    let mut unopened = 0..bodies.len();
    loop {
        if (open.is_empty() || numbers.below(4) == 0)
            && let Some(body) = unopened.next()
        {
            open.push((lanes.open(), body, 0));
        }
        if open.is_empty() {
            return;
        }
        let at = numbers.below(open.len());
        let (stream, body, fed) = &mut open[at];
        let left = &bodies[*body][*fed..];
        let len_max = [1, 64, 100, 4096, 16384, 100_000][numbers.below(6)];
        let len = left.len().min(numbers.below(len_max) + 1);
        stream.update(&left[..len]);
        *fed += len;
        assert!(stream.waiting_len() < WAITING_LEN_MAX, "a full stream is hashed");
        if *fed == bodies[*body].len() {
            let (stream, body, _) = open.swap_remove(at);
            if numbers.below(8) > 0 {
                assert_eq!(
                    stream.end().digest(),
                    expected(&bodies[body]),
                    "body {body} of {} bytes",
                    bodies[body].len()
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 64 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn digests_do_not_depend_on_cuts_order_or_neighbours(
        lens in prop::collection::vec(prop_oneof![0usize..300, 0usize..20_000, 0usize..300_000], 1..=40),
        seed in any::<u64>(),
    ) {
        let mut numbers = Numbers(seed);
        let len_max = if cfg!(miri) { 300 } else { usize::MAX };
        let bodies: Vec<Vec<u8>> = lens.iter().map(|len| numbers.bytes((*len).min(len_max))).collect();
        for lanes in lanes() {
            interleave(&lanes, &bodies, &mut numbers);
            prop_assert!(lanes.is_idle(), "streams that are over leave nothing");
        }
    }
}

#[test]
fn streams_that_end_in_the_same_turn_are_hashed_by_the_first() {
    let mut numbers = Numbers(2);
    for lanes in lanes() {
        let bodies: Vec<Vec<u8>> =
            (0..40).map(|_| numbers.below(5000)).map(|len| Numbers(3).bytes(len)).collect();
        let mut ends: Vec<_> = bodies
            .iter()
            .map(|body| {
                let mut stream = lanes.open();
                stream.update(body);
                Box::pin(stream.finish())
            })
            .collect();
        for end in &mut ends {
            assert_eq!(poll(end.as_mut()), Poll::Pending, "the others have their turn");
        }
        assert_eq!(lanes.waiting_count(), 40);
        for (end, body) in ends.iter_mut().zip(&bodies) {
            assert_eq!(poll(end.as_mut()), Poll::Ready(expected(body)));
            assert_eq!(lanes.waiting_count(), 0, "one batch was for all");
        }
    }
}

#[test]
fn a_stream_given_up_while_it_waits_is_not_missed() {
    for lanes in lanes() {
        let (mut first, mut second) = (lanes.open(), lanes.open());
        first.update(b"first");
        second.update(&[7; 20_000]);
        let mut end = pin!(first.finish());
        assert_eq!(poll(end.as_mut()), Poll::Pending);
        drop(second);
        assert_eq!(poll(end.as_mut()), Poll::Ready(expected(b"first")));
        let mut given_up = Box::pin(lanes.open().finish());
        assert_eq!(poll(given_up.as_mut()), Poll::Pending);
        drop(given_up);
        assert_eq!(lanes.waiting_count(), 0);
    }
}

#[test]
fn a_stream_alone_does_not_wait() {
    for lanes in lanes() {
        let mut stream = lanes.open();
        stream.update(&[1; 10_000]);
        assert_eq!(stream.waiting_len(), 10_000 % 64);
    }
}

#[test]
fn a_batch_runs_when_there_is_a_stream_for_every_lane() {
    for lanes in lanes().filter(|lanes| lanes.kernel().lane_count() > 1) {
        let mut open: Vec<Stream> = (0..lanes.kernel().lane_count()).map(|_| lanes.open()).collect();
        let (last, others) = open.split_last_mut().expect("some");
        for stream in others.iter_mut() {
            stream.update(&[2; 20_000]);
            assert_eq!(stream.waiting_len(), 20_000);
        }
        last.update(&[2; 20_000]);
        assert!(open.iter().all(|stream| stream.waiting_len() == 20_000 % 64));
    }
}

#[test]
fn a_stream_that_makes_room_keeps_enough_to_ride_along_with_the_next() {
    for lanes in lanes().filter(|lanes| lanes.kernel().lane_count() > 1) {
        let (mut full, mut rider) = (lanes.open(), lanes.open());
        rider.update(&[3; 60_000]);
        full.update(&[4; WAITING_LEN_MAX]);
        let hashed = WAITING_LEN_MAX - KEPT_LEN;
        assert_eq!((full.waiting_len(), rider.waiting_len()), (KEPT_LEN, 60_000 - hashed));
        let digests = [full.end().digest(), rider.end().digest()];
        assert_eq!(digests, [expected(&[4; WAITING_LEN_MAX]), expected(&[3; 60_000])]);
    }
}

#[test]
fn bytes_that_are_all_at_hand_come_back_with_their_digest() {
    for lanes in lanes() {
        let bodies: Vec<Vec<u8>> = (0..200).map(|len| Numbers(4).bytes(len)).collect();
        let mut ends: Vec<_> = bodies.iter().map(|body| Box::pin(lanes.digest_whole(body.clone()))).collect();
        if lanes.kernel().lane_count() > 1 {
            for end in &mut ends {
                assert_eq!(poll(end.as_mut()), Poll::Pending, "the others have their turn");
            }
        }
        for (end, body) in ends.iter_mut().zip(&bodies) {
            assert_eq!(poll(end.as_mut()), Poll::Ready((expected(body), body.clone())));
        }
        let mut given_up = Box::pin(lanes.digest_whole(vec![5; 100]));
        let _ = poll(given_up.as_mut());
        drop((given_up, ends));
        assert!(lanes.is_idle(), "streams that are over leave nothing");
    }
}
