//! Newtypes for everything that has a number, so that none is taken for another.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

number!(
    /// A bucket, for ever: never reused, also when a bucket of the same name is made again.
    BucketId(u64)
);
number!(
    /// A namespace (tenant): the unit of encryption at rest.
    NamespaceId(u32)
);
number!(
    /// A generation of a namespace's key.
    KeyVersion(u32)
);
number!(
    /// A user, owner of buckets and objects.
    UserId(u64)
);
number!(
    /// A shard: owner of the index and commit log of its buckets.
    ShardId(u16)
);
number!(
    /// Log sequence number: the order of a shard's records, without gaps.
    Lsn(u64)
);
number!(
    /// Milliseconds since 1970-01-01T00:00:00Z.
    UnixMillis(u64)
);
number!(
    /// Position of a device in the store's device table.
    DeviceIndex(u16)
);
number!(
    /// Position of a segment in the segment table.
    SegmentIndex(u32)
);

random_id!(
    /// A random id that the key of one sealed thing is derived from: used once, for one content.
    ObjectId
);
random_id!(
    /// A multipart upload; all zeroes means none.
    UploadId
);
random_id!(
    /// A store: all devices of one store carry the same.
    StoreId
);
random_id!(
    /// A device.
    DeviceId
);

/// Which version of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VersionId {
    /// S3's `null` version.
    #[default]
    Null,
    /// The version that was first committed with that LSN.
    Number(Lsn),
}

impl VersionId {
    /// The number on disk and in version ids: 0 is the `null` version, since LSNs begin with 1.
    pub fn number(self) -> u64 {
        match self {
            VersionId::Null => 0,
            VersionId::Number(lsn) => lsn.0,
        }
    }

    /// The version of that number.
    pub fn from_number(number: u64) -> Self {
        if number == 0 { VersionId::Null } else { VersionId::Number(Lsn(number)) }
    }
}

impl UploadId {
    /// The id that means "not from an upload".
    pub const NONE: UploadId = UploadId([0; 16]);

    /// Reads the 32 hexadecimal digits that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<UploadId> {
        let bytes = text.as_bytes();
        if bytes.len() != 32 {
            return None;
        }
        let mut id = [0u8; 16];
        for (out, pair) in id.iter_mut().zip(bytes.chunks_exact(2)) {
            let high = (pair[0] as char).to_digit(16)?;
            let low = (pair[1] as char).to_digit(16)?;
            *out = (high * 16 + low) as u8;
        }
        Some(UploadId(id))
    }
}

/// The id of one life of a segment: a counter that only grows, above the index that it has in the segment table.
///
/// The low 24 bits are the [`SegmentIndex`]; the rest is a store-wide counter. An id is therefore found in the table without
/// a map, and stale bytes of an earlier life never carry the id of the present one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl SegmentId {
    const INDEX_BITS: u32 = 24;

    /// Counters are below this.
    pub const COUNTER_END: u64 = 1 << (u64::BITS - Self::INDEX_BITS);

    /// Makes an id of a counter value and an index.
    pub fn new(counter: u64, index: SegmentIndex) -> Self {
        assert!(u64::from(index.0) < 1 << Self::INDEX_BITS, "the segment table has at most 2^24 entries");
        SegmentId(counter << Self::INDEX_BITS | u64::from(index.0))
    }

    /// The counter part.
    pub fn counter(self) -> u64 {
        self.0 >> Self::INDEX_BITS
    }

    /// The position in the segment table.
    pub fn index(self) -> SegmentIndex {
        SegmentIndex((self.0 & ((1 << Self::INDEX_BITS) - 1)) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_id_gives_back_its_parts() {
        let id = SegmentId::new(77, SegmentIndex(0xff_ffff));
        assert_eq!((id.counter(), id.index()), (77, SegmentIndex(0xff_ffff)));
    }

    #[test]
    fn an_upload_id_survives_its_text_form() {
        let id = UploadId(*b"0123456789abcdef");
        assert_eq!(UploadId::parse(&id.to_string()), Some(id));
        assert_eq!(UploadId::parse("xyz"), None);
        assert_eq!(UploadId::parse(&"g".repeat(32)), None);
    }
}
