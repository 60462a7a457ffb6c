//! The bytes that a key's states become when they leave memory.
//!
//! ```text
//! │ version │  clock  │ part │ part │ …
//! │ 1 byte  │ 8 bytes │
//!
//! part:   │ column  │ length  │ entry │ entry │ …          a state of the key that holds something
//!         │ 2 bytes │ 4 bytes │
//! entry:  │ stamp, 8 bytes, if the state has a time to live │
//!         │ map key: length, 4 bytes, and archive, if it is a map │
//!         │ value: length, 4 bytes, and archive │
//! ```
//!
//! Numbers are little endian. The clock is how far event time had come for the key, or
//! `NO_EVENT_TIME`. Columns are numbered as they were declared: the bytes live no longer than the
//! process, and are not those of a snapshot.
//!
//! Bytes come back through a table, under its checksums. They are checked all the same: whatever
//! they are, they become values or a [`Damage`].

use rkyv::util::AlignedVec;

use crate::data::record::{ArchiveError, Record};

const VERSION: u8 = 1;

/// Bytes before the first part.
const HEADER_BYTES: usize = 9;

/// Bytes that are not what was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage(
    /// What is wrong.
    pub &'static str,
);

/// Makes the bytes of one key.
#[derive(Debug, Default)]
pub struct Packer {
    bytes: Vec<u8>,
    /// Where values are archived, which takes an aligned place.
    archive: AlignedVec,
    /// Where the open part begins.
    part: usize,
}

impl Packer {
    /// Begins with nothing: what follows is one part without a header.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Begins with a key whose event time has come to `clock_ms`.
    pub fn begin(&mut self, clock_ms: i64) {
        self.bytes.clear();
        self.bytes.push(VERSION);
        self.bytes.extend_from_slice(&clock_ms.to_le_bytes());
    }

    /// From now on what is packed belongs to a column.
    pub fn begin_part(&mut self, column: u16) {
        self.part = self.bytes.len();
        self.bytes.extend_from_slice(&column.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
    }

    /// All of the column is packed. A part without entries is none.
    pub fn end_part(&mut self) {
        let entries = self.part + 6;
        if self.bytes.len() == entries {
            self.bytes.truncate(self.part);
            return;
        }
        let len = length(self.bytes.len() - entries);
        self.bytes[self.part + 2..entries].copy_from_slice(&len);
    }

    /// A stamp, ms.
    pub fn stamp(&mut self, stamp_ms: i64) {
        self.bytes.extend_from_slice(&stamp_ms.to_le_bytes());
    }

    /// A value, or a map key.
    pub fn value<V: Record>(&mut self, value: &V) {
        let archive = value.archive_in(&mut self.archive);
        self.bytes.extend_from_slice(&length(archive.len()));
        self.bytes.extend_from_slice(archive);
    }

    /// The bytes of the key.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("archives are far smaller than 4 GiB").to_le_bytes()
}

/// Takes the bytes of one key apart.
#[derive(Debug)]
pub struct Unpacker<'a> {
    rest: &'a [u8],
    /// Where archives are read, which takes an aligned place.
    archive: AlignedVec,
}

impl<'a> Unpacker<'a> {
    /// Of the bytes of a key, and how far event time had come for it (ms).
    ///
    /// # Errors
    /// If they do not begin as those of a key.
    pub fn new(bytes: &'a [u8]) -> Result<(Self, i64), Damage> {
        let (header, rest) =
            bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Damage("it has no header"))?;
        let [version, clock_ms @ ..] = *header;
        if version != VERSION {
            return Err(Damage("its version is not one that this release writes"));
        }
        Ok((Self { rest, archive: AlignedVec::new() }, i64::from_le_bytes(clock_ms)))
    }

    /// The next part, and its column.
    ///
    /// # Errors
    /// If it ends too early.
    pub fn next_part(&mut self) -> Result<Option<(u16, Part<'a, '_>)>, Damage> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let column = u16::from_le_bytes(take(&mut self.rest)?);
        let rest = take_bytes(&mut self.rest)?;
        Ok(Some((column, Part { rest, archive: &mut self.archive })))
    }
}

/// What one column has of a key.
#[derive(Debug)]
pub struct Part<'a, 'b> {
    rest: &'a [u8],
    archive: &'b mut AlignedVec,
}

impl<'a, 'b> Part<'a, 'b> {
    /// The part that `bytes` are, which have no header.
    pub fn new(bytes: &'a [u8], archive: &'b mut AlignedVec) -> Self {
        Self { rest: bytes, archive }
    }

    /// Whether there is no entry left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next thing, which is a stamp.
    ///
    /// # Errors
    /// If the part ends within it.
    pub fn stamp(&mut self) -> Result<i64, Damage> {
        take(&mut self.rest).map(i64::from_le_bytes)
    }

    /// The next thing, which is a value or a map key.
    ///
    /// # Errors
    /// If the part ends within it, or it is not an archive of a `V`.
    pub fn value<V: Record>(&mut self) -> Result<V, Damage> {
        let bytes = take_bytes(&mut self.rest)?;
        self.archive.clear();
        self.archive.extend_from_slice(bytes);
        let view =
            V::view(self.archive).map_err(|_| Damage("a value is not an archive of its type"))?;
        Ok(V::unarchive(view))
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Damage> {
    let (taken, left) = rest.split_first_chunk().ok_or(Damage("it ends within an entry"))?;
    *rest = left;
    Ok(*taken)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Damage> {
    let len = u32::from_le_bytes(take(rest)?) as usize;
    let (taken, left) = rest.split_at_checked(len).ok_or(Damage("it ends within an entry"))?;
    *rest = left;
    Ok(taken)
}

/// Bytes on the heap that a value holds on to, about: those of its archive. Vectors may have more
/// room than that, and each allocation has a header.
pub fn heap_bytes<V: Record>(value: &V) -> usize {
    if !std::mem::needs_drop::<V>() {
        return 0;
    }
    match value.archive_into(&mut []) {
        Err(ArchiveError::Overflow { needed_bytes }) => needed_bytes,
        Ok(_) | Err(ArchiveError::Unserializable { .. }) => 0,
    }
}
