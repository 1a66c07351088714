//! The first memory of the allocator in huge pages, there from the start.
//!
//! A small GET touches some dozens of places in the state of its connection, which lie in as many pages of 4 KiB; with a few hundred connections they are more than
//! the processor's table of pages holds, and under a hypervisor each miss there is a walk through two tables. But the first touch of a huge page pauses whoever touches
//! it until 2 MiB are cleared. So the allocator asks for none by itself: what a busy core needs is laid out when the node starts, and what goes beyond has small pages.
//!
//! - Nothing here is needed to work: where the kernel has no huge pages, or none left, the memory stays as it was.
//! - The allocator gives back what lies free for a second, in pieces of 64 KiB. Touched again, a piece has small pages, and with it the huge page that it was cut from,
//!   until the kernel's own daemon has put them together: after some bursts of load two thirds were huge. Only one that was given back as a whole is cleared anew.
//!
//! This file's only unsafe code is madvise, of memory that is the allocator's.

use std::fs;
use std::io;
use std::ops::Range;

/// A huge page of x86-64, and of ARM with 4 KiB pages.
const HUGE_PAGE_SIZE: usize = 2 * 1024 * 1024;

/// Lays out the first `len` bytes of the heap in huge pages; answers how many bytes those are.
///
/// # Errors
/// The kernel's: it has no huge pages, or not so many.
pub fn settle(len: usize) -> io::Result<usize> {
    if len < HUGE_PAGE_SIZE {
        return Ok(0);
    }
    // Wherever the allocator puts this, there it goes on.
    let witness = Box::new(0_u8);
    let address = std::ptr::from_ref::<u8>(&witness).addr();
    let maps = fs::read_to_string("/proc/self/maps")?;
    let Some(mapping) = mapping_of(&maps, address) else { return Ok(0) };
    let place = huge_pages(&mapping, len);
    if place.is_empty() {
        return Ok(0);
    }
    advise(&place, libc::MADV_HUGEPAGE)?;
    // What is there becomes huge by the second, what is not by the first.
    advise(&place, libc::MADV_POPULATE_WRITE)?;
    advise(&place, libc::MADV_COLLAPSE)?;
    Ok(place.len())
}

/// The mapping that an address lies in, out of `/proc/self/maps`.
fn mapping_of(maps: &str, address: usize) -> Option<Range<usize>> {
    let ranges = maps.lines().filter_map(|line| {
        let (begin, end) = line.split_once(' ')?.0.split_once('-')?;
        Some(usize::from_str_radix(begin, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
    });
    ranges.into_iter().find(|range| range.contains(&address))
}

/// The whole huge pages among the first `len` bytes of a mapping.
fn huge_pages(mapping: &Range<usize>, len: usize) -> Range<usize> {
    let begin = mapping.start.next_multiple_of(HUGE_PAGE_SIZE);
    let end = mapping.end.min(begin.saturating_add(len));
    begin..(end - end % HUGE_PAGE_SIZE).max(begin)
}

fn advise(place: &Range<usize>, advice: libc::c_int) -> io::Result<()> {
    let begin = std::ptr::without_provenance_mut::<libc::c_void>(place.start);
    // SAFETY: the place lies in one mapping, which the allocator never unmaps. These advices change which pages stand behind it, and neither its bytes nor who
    // may use them.
    let result = unsafe { libc::madvise(begin, place.len(), advice) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn an_address_is_found_in_the_mapping_that_holds_it() {
        let maps = "1000-3000 r-xp 00000000 fe:00 1 /node\n20000000000-20040000000 rw-p 00000000 00:00 0 \n";
        assert_eq!(mapping_of(maps, 0x200_0000_1000), Some(0x200_0000_0000..0x200_4000_0000));
        assert_eq!(mapping_of(maps, 0x1000), Some(0x1000..0x3000));
        assert_eq!(mapping_of(maps, 0x3000), None, "the end is not in it");
    }

    #[test]
    fn only_whole_huge_pages_within_the_mapping_are_laid_out() {
        assert_eq!(huge_pages(&(MIB..64 * MIB), 5 * MIB), 2 * MIB..6 * MIB);
        assert_eq!(huge_pages(&(2 * MIB..7 * MIB), 32 * MIB), 2 * MIB..6 * MIB);
        assert!(huge_pages(&(MIB..2 * MIB), 32 * MIB).is_empty(), "too small for one");
        assert!(huge_pages(&(3 * MIB..4 * MIB), 32 * MIB).is_empty(), "its next boundary lies beyond it");
    }

    #[test]
    fn what_is_on_the_heap_stays_as_it_was() {
        let before: Vec<u64> = (0..1_000_000).collect();
        // Huge pages are the kernel's to give; the bytes must be the same either way.
        let _ = settle(8 * HUGE_PAGE_SIZE);
        assert!(before.iter().copied().eq(0..1_000_000));
    }
}
