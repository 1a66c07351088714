//! Objects of one size: how many, their names, and putting them beforehand.

use std::io;
use std::net::SocketAddr;
use std::thread;

use super::plain::Connection;
use super::sign::{Credentials, Signer};

/// The bucket of all.
pub(super) const BUCKET: &str = "/perf";

/// Bytes of one set of objects: more than stays in a cache of the device or the hypervisor by chance, little enough to
/// be put in some seconds.
const SET_SIZE: u64 = 512 << 20;

/// More objects than that would only fill the client's memory with signed requests.
const COUNT_MAX: u64 = 20_000;

const WRITERS: u64 = 8;

/// All objects of one size and purpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    pub purpose: &'static str,
    pub size: u64,
    pub count: u64,
}

impl Set {
    /// Objects to get.
    pub fn to_get(size: u64) -> Self {
        Self { purpose: "get", size, count: (SET_SIZE / size).clamp(1, COUNT_MAX) }
    }

    fn path(&self, index: u64) -> String {
        format!("{BUCKET}/{}/{}/{index:06}", self.purpose, self.size)
    }

    /// Paths of the first `count`, in an order that is the same each time and looks random.
    pub fn paths(&self, count: u64) -> Vec<String> {
        let mut indices: Vec<u64> = (0..count.min(self.count)).collect();
        shuffle(&mut indices);
        indices.into_iter().map(|index| self.path(index)).collect()
    }

    /// Puts all of them, some at a time.
    pub fn put(&self, address: SocketAddr, credentials: &Credentials) -> io::Result<()> {
        let put_some = |writer: u64| -> io::Result<()> {
            let signer = Signer::new(credentials, &address.to_string());
            let mut connection = Connection::open(address)?;
            let body = vec![b'b'; self.size as usize];
            for index in (writer..self.count).step_by(WRITERS as usize) {
                let head = signer.head("PUT", &self.path(index), Some(body.len()));
                expect_success(&mut connection, &head, &body)?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || put_some(writer))).collect();
            writers.into_iter().try_for_each(|writer| writer.join().expect("writers do not panic"))
        })
    }
}

/// Makes the bucket; one that is there is fine.
pub(super) fn make_bucket(address: SocketAddr, credentials: &Credentials) -> io::Result<()> {
    let head = Signer::new(credentials, &address.to_string()).head("PUT", BUCKET, Some(0));
    expect_success(&mut Connection::open(address)?, &head, b"")
}

fn expect_success(connection: &mut Connection, head: &str, body: &[u8]) -> io::Result<()> {
    let answer = connection.exchange(head, body)?;
    if answer.status == 200 {
        return Ok(());
    }
    let request = head.lines().next().unwrap_or_default();
    let text = String::from_utf8_lossy(&answer.body);
    Err(io::Error::other(format!("{request}: {} {text}", answer.status)))
}

/// Fisher and Yates, with a linear congruential generator: the same order each time.
fn shuffle(indices: &mut [u64]) {
    let mut state = 1_u64;
    for last in (1..indices.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        indices.swap(last, ((state >> 33) % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_comes_once_and_not_in_order() {
        let set = Set { purpose: "get", size: 4096, count: 1000 };
        let paths = set.paths(u64::MAX);
        let mut sorted = paths.clone();
        sorted.sort();
        assert_ne!(paths, sorted);
        sorted.dedup();
        assert_eq!(sorted.len(), 1000);
        assert_eq!(set.paths(1), [set.path(0)]);
        assert_eq!(paths, set.paths(1000), "the same each time");
    }

    #[test]
    fn sets_are_bounded_in_number_and_bytes() {
        assert_eq!(Set::to_get(4 << 10).count, COUNT_MAX);
        assert_eq!(Set::to_get(16 << 20).count, 32);
        assert_eq!(Set::to_get(8 << 30).count, 1);
    }
}
