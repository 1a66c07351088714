//! Payloads of the records by which a shard keeps itself in order: range tombstones, reaps and cursors of log consumers.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Malformed;
use super::cursor::Cursor;
use crate::ids::Lsn;

/// Payload of a range tombstone: everything in the record's bucket that was committed before it is gone.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RangeTombstoneLayout {
    /// 0 the versions are gone; 1 the uploads too, since the bucket is.
    pub scope: u8,
    /// Zeroes.
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<RangeTombstoneLayout>() == 8);

/// What a range tombstone removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All versions.
    Versions,
    /// All versions and uploads: the bucket is gone.
    Bucket,
}

impl Scope {
    /// The payload of a range tombstone.
    pub fn encode(self) -> Vec<u8> {
        let scope = match self {
            Scope::Versions => 0,
            Scope::Bucket => 1,
        };
        RangeTombstoneLayout { scope, reserved: [0; 7] }.as_bytes().to_vec()
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(payload);
        let fixed: &RangeTombstoneLayout = cursor.fixed("range tombstone")?;
        cursor.end("range tombstone: bytes left over")?;
        match fixed.scope {
            0 => Ok(Scope::Versions),
            1 => Ok(Scope::Bucket),
            _ => Err(Malformed("range tombstone: scope")),
        }
    }
}

/// Fixed part of a reap; the keys follow, in the order of the record's settlement.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReapLayout {
    /// Keys.
    pub key_count: U32,
    /// Bit 0: nothing below the floor is left.
    pub flags: U32,
    /// The LSN of the range tombstone that is carried out.
    pub floor: U64,
}

const _: () = assert!(size_of::<ReapLayout>() == 16);

/// Head of a key of a reap.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReapedKeyLayout {
    /// Bytes of the key.
    pub key_len: U16,
}

const _: () = assert!(size_of::<ReapedKeyLayout>() == 2);

/// Versions that a range tombstone removed and that are counted as dead now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReapBody {
    /// The LSN of the range tombstone.
    pub floor: Lsn,
    /// The keys of the settlement's released versions.
    pub keys: Vec<Vec<u8>>,
    /// Whether nothing below the floor is left.
    pub is_last: bool,
}

impl ReapBody {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let fixed = ReapLayout {
            key_count: U32::new(self.keys.len() as u32),
            flags: U32::new(u32::from(self.is_last)),
            floor: U64::new(self.floor.0),
        };
        let mut out = fixed.as_bytes().to_vec();
        for key in &self.keys {
            out.extend_from_slice(ReapedKeyLayout { key_len: U16::new(key.len() as u16) }.as_bytes());
            out.extend_from_slice(key);
        }
        out
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(payload);
        let fixed: &ReapLayout = cursor.fixed("reap")?;
        let mut keys = Vec::new();
        for _ in 0..fixed.key_count.get() {
            let head: &ReapedKeyLayout = cursor.fixed("reaped key")?;
            keys.push(cursor.bytes(head.key_len.get().into(), "reaped key")?.to_vec());
        }
        cursor.end("reap: bytes left over")?;
        if fixed.flags.get() > 1 {
            return Err(Malformed("reap: flags"));
        }
        Ok(ReapBody { floor: Lsn(fixed.floor.get()), keys, is_last: fixed.flags.get() == 1 })
    }
}

/// Payload of a cursor record; the consumer's name follows.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CursorLayout {
    /// The first LSN that the consumer has not seen; 0 when it is no consumer any more.
    pub lsn: U64,
    /// Bytes of the name.
    pub name_len: U16,
    /// 0 it follows the log; 1 it is starting over from a snapshot; 2 it fell behind.
    pub phase: u8,
    /// Zeroes.
    pub reserved: [u8; 5],
}

const _: () = assert!(size_of::<CursorLayout>() == 16);

/// What a log consumer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It follows the log.
    Following,
    /// It is starting over: what was there before its position comes from a snapshot, and is not dealt with yet.
    Snapshot,
    /// It fell behind: the log is not kept for it any more.
    Behind,
}

impl Phase {
    pub(super) fn code(self) -> u8 {
        match self {
            Phase::Following => 0,
            Phase::Snapshot => 1,
            Phase::Behind => 2,
        }
    }

    pub(super) fn from_code(code: u8) -> Result<Self, Malformed> {
        [Phase::Following, Phase::Snapshot, Phase::Behind]
            .into_iter()
            .find(|phase| phase.code() == code)
            .ok_or(Malformed("log consumer: phase"))
    }
}

/// Where a log consumer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The first LSN that it has not seen.
    pub next: Lsn,
    /// What it is doing.
    pub phase: Phase,
}

/// What a cursor record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorBody {
    /// The consumer's name.
    pub name: String,
    /// Where it is; `None` when it is no consumer any more.
    pub position: Option<Position>,
}

impl CursorBody {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let fixed = CursorLayout {
            lsn: U64::new(self.position.map_or(0, |position| position.next.0)),
            name_len: U16::new(self.name.len() as u16),
            phase: self.position.map_or(0, |position| position.phase.code()),
            reserved: [0; 5],
        };
        [fixed.as_bytes(), self.name.as_bytes()].concat()
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(payload);
        let fixed: &CursorLayout = cursor.fixed("cursor")?;
        let name = cursor.bytes(fixed.name_len.get().into(), "cursor: name")?;
        cursor.end("cursor: bytes left over")?;
        let name = std::str::from_utf8(name).map_err(|_| Malformed("cursor: name"))?;
        let position = Position { next: Lsn(fixed.lsn.get()), phase: Phase::from_code(fixed.phase)? };
        let position = Some(position).filter(|position| position.next.0 != 0);
        Ok(CursorBody { name: name.to_owned(), position })
    }
}
