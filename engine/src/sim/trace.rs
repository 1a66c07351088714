//! The trace of a world: a running hash of everything that happened, equal for equal seeds.

use std::cell::Cell;
use std::rc::Rc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A running hash; clones add to the same one.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: Rc<Cell<u64>>,
    is_told: bool,
}

impl Trace {
    /// An empty trace. One that is told also goes to the standard error output, line by line.
    pub fn new(is_told: bool) -> Self {
        Trace { hash: Rc::default(), is_told }
    }

    /// Something happened: numbers that say what, and the bytes that it was about.
    pub fn add(&self, what: &str, numbers: &[u64], bytes: &[u8]) {
        if self.is_told {
            self.tell(what, numbers, bytes);
        }
        let mut hash = xxh3_64_with_seed(what.as_bytes(), self.hash.get());
        for number in numbers {
            hash = xxh3_64_with_seed(&number.to_le_bytes(), hash);
        }
        self.hash.set(xxh3_64_with_seed(bytes, hash));
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.hash.get()
    }

    #[expect(clippy::print_stderr, reason = "asked for, by whoever looks into one seed")]
    fn tell(&self, what: &str, numbers: &[u64], bytes: &[u8]) {
        eprintln!("{what} {numbers:x?} {:016x}", xxh3_64_with_seed(bytes, 0));
    }
}
