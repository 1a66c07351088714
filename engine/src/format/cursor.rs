//! Reading variable parts in order, with every length checked.

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::Malformed;

/// The unread rest of a payload.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    /// Takes a fixed part.
    pub(super) fn fixed<T>(&mut self, what: &'static str) -> Result<&'a T, Malformed>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        let (value, rest) = T::ref_from_prefix(self.0).map_err(|_| Malformed(what))?;
        self.0 = rest;
        Ok(value)
    }

    /// Takes `count` fixed parts in a row.
    pub(super) fn slice<T>(&mut self, count: usize, what: &'static str) -> Result<&'a [T], Malformed>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        let (values, rest) = <[T]>::ref_from_prefix_with_elems(self.0, count).map_err(|_| Malformed(what))?;
        self.0 = rest;
        Ok(values)
    }

    /// Takes `len` bytes.
    pub(super) fn bytes(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Nothing may be left.
    pub(super) fn end(self, what: &'static str) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed(what)) }
    }
}
