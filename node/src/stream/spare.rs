//! Send buffers that a core's connections share, the one that was used last first.
//!
//! With a buffer for each, hundreds of connections would write to memory that no cache holds any more; and a connection that gives back what a large body
//! needed would have it cleared again for the next one.
//!
//! - A buffer is initialised to its whole length, so that growing it is the only time its bytes are set.
//! - What is in one has been sealed.

use std::cell::RefCell;

use super::records::RECORD_LEN;

/// Room for a full record, and some.
const SMALL_LEN_MAX: usize = RECORD_LEN + 1024;

/// Room for what is sent at once of a large body, 256 KiB and the rest of a record, with all framing.
const LARGE_LEN: usize = 18 * RECORD_LEN;

/// What is longer is not kept.
const LARGE_LEN_MAX: usize = 2 * LARGE_LEN;

/// Buffers that are kept of each size: up to 1 MiB and 9 MiB.
const SMALL_COUNT_MAX: usize = 64;
const LARGE_COUNT_MAX: usize = 32;

thread_local! {
    static SMALL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static LARGE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer for that much plaintext, and what may come behind it.
pub(super) fn take(len: usize) -> Vec<u8> {
    if len < RECORD_LEN {
        SMALL.with_borrow_mut(Vec::pop).unwrap_or_default()
    } else {
        LARGE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; LARGE_LEN])
    }
}

/// Takes one that has been sent.
pub(super) fn give_back(buffer: Vec<u8>) {
    let (list, count_max) = match buffer.len() {
        1..=SMALL_LEN_MAX => (&SMALL, SMALL_COUNT_MAX),
        LARGE_LEN..=LARGE_LEN_MAX => (&LARGE, LARGE_COUNT_MAX),
        _ => return,
    };
    // A thread that ends has dropped its lists already.
    let _ = list.try_with(|list| {
        let mut list = list.borrow_mut();
        if list.len() < count_max {
            list.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_that_was_used_last_is_used_next() {
        let (mut first, second) = (take(100), take(100));
        first.resize(5000, 1);
        let address = first.as_ptr();
        give_back(second);
        give_back(first);
        let again = take(4096);
        assert_eq!((again.as_ptr(), again.len()), (address, 5000));
    }

    #[test]
    fn a_full_record_gets_room_for_many() {
        let large = take(RECORD_LEN);
        assert_eq!(large.len(), LARGE_LEN);
        let address = large.as_ptr();
        give_back(large);
        let (small, again) = (take(100), take(RECORD_LEN));
        assert_ne!(small.as_ptr(), address);
        assert_eq!(again.as_ptr(), address);
    }

    #[test]
    fn no_more_are_kept_than_there_may_be() {
        let buffers: Vec<Vec<u8>> = (0..LARGE_COUNT_MAX + 3).map(|_| vec![0; LARGE_LEN]).collect();
        buffers.into_iter().for_each(give_back);
        assert_eq!(LARGE.with_borrow(Vec::len), LARGE_COUNT_MAX);
        give_back(vec![0; LARGE_LEN_MAX + 1]);
        give_back(vec![0; SMALL_LEN_MAX + 1]);
        assert_eq!(SMALL.with_borrow(Vec::len), 0);
    }
}
