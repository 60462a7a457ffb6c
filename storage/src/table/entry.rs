//! Entries, and the parts of a stored key that tables look at.

use super::bytes::array_at;

/// What an entry says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// The key has this value; what is older does not count.
    Value(&'a [u8]),
    /// The key is gone; what is older does not count.
    Tombstone,
    /// To be merged with what is older: an aggregate's share, a piece of a list.
    Operand(&'a [u8]),
}

impl<'a> Change<'a> {
    /// The bytes that go with it.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Value(bytes) | Self::Operand(bytes) => bytes,
            Self::Tombstone => &[],
        }
    }

    /// Whether older entries of the key count as well.
    pub fn needs_older(self) -> bool {
        matches!(self, Self::Operand(_))
    }

    pub(super) fn kind(self) -> u8 {
        match self {
            Self::Value(_) => VALUE,
            Self::Tombstone => TOMBSTONE,
            Self::Operand(_) => OPERAND,
        }
    }

    /// The change of a kind that has been checked.
    pub(super) fn of(kind: u8, bytes: &'a [u8]) -> Self {
        match kind {
            VALUE => Self::Value(bytes),
            TOMBSTONE => Self::Tombstone,
            OPERAND => Self::Operand(bytes),
            _ => unreachable!("kinds are checked with their block"),
        }
    }
}

/// Kinds as they are stored.
pub(super) const VALUE: u8 = 1;
pub(super) const TOMBSTONE: u8 = 2;
pub(super) const OPERAND: u8 = 3;

/// One entry of a table.
///
/// Entries are in the order of their keys; those of one key, the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The whole stored key, as [`StoredKey::encode`](crate::key::StoredKey::encode) makes it.
    pub key: &'a [u8],
    /// What it says.
    pub change: Change<'a>,
    /// When it was written, in the store's own count; larger is newer.
    pub sequence: u64,
    /// The time (ms) from which its time to live counts; `None`: it has none.
    pub time_ms: Option<i64>,
}

/// How `None` is stored as a time: later than all of them.
pub(super) const NO_TIME: i64 = i64::MAX;

/// A time as it is stored.
pub(super) fn stored_time(time_ms: Option<i64>) -> i64 {
    assert!(time_ms != Some(NO_TIME), "a time at the end of time is stored as none");
    time_ms.unwrap_or(NO_TIME)
}

/// A stored time as it was given.
pub(super) fn given_time(stored: i64) -> Option<i64> {
    (stored != NO_TIME).then_some(stored)
}

/// Key group, state id and window bucket: the first bytes of a stored key.
pub(super) const SECTION_BYTES: usize = 12;

/// Where the hash ends in a stored key.
pub(super) const HASH_END: usize = SECTION_BYTES + 8;

/// Shortest stored key: two empty parts behind the hash.
pub(super) const KEY_BYTES_MIN: usize = HASH_END + 8;

/// Key group, state id and window bucket of a stored key.
pub(super) fn section_of(key: &[u8]) -> [u8; SECTION_BYTES] {
    array_at(key, 0)
}

/// Hash of a stored key.
pub(super) fn hash_of(key: &[u8]) -> u64 {
    u64::from_be_bytes(array_at(key, SECTION_BYTES))
}

/// Key group of a stored key.
pub(super) fn key_group_of(key: &[u8]) -> u16 {
    u16::from_be_bytes(array_at(key, 0))
}
