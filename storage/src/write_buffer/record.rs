//! A record in its slot.
//!
//! ```text
//! byte 0      8       12    16      20         24           28             31      32
//!      │ hash │ epoch │ tag │ older │ dirty at │ key length │ value length │ flags │
//!      │      │       │     │       │          │ and size   │              │       │
//!                              │ key │ 0 to 15 bytes │ value, at a multiple of 16 │ room │
//! ```
//!
//! | field | |
//! |---|---|
//! | hash | `hash64` of the stored key |
//! | epoch | in which it was last changed; 0: it was read from a table and not changed since |
//! | tag | what the index has it under |
//! | older | for operands: the version of the epoch before, while no table can be read for it |
//! | dirty at | its place in the dirty list of its epoch, in units of 8 bytes |
//! | | once it was handed to the writer, or if it was read: the number of its space |
//! | key length | 22 bits; above them 10 bits of size: the slot's class, or its pages behind them |
//! | flags | see below |
//! | key | what follows the hash in the stored key |
//!
//! So a clean record says where it belongs: it can be evicted by whoever comes from its memory.

use super::pages::{Address, PAGE_BYTES, UNIT_BYTES};
use super::slots::{CLASS_BYTES, Slots, class_of};
use crate::arena::CHUNK_BYTES;

/// Bytes of the fixed part.
pub(super) const HEADER_BYTES: usize = 32;

/// What a record says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Value,
    Tombstone,
    Operands,
}

/// Flags of a record; the lowest two bits are its kind.
pub(super) mod flag {
    /// Some table has, or may have, an entry of the key: a removal leaves a tombstone.
    pub(in super::super) const PERSISTED: u8 = 1 << 2;
    /// The epoch in which it was changed is frozen, and the record was handed to its writer.
    pub(in super::super) const EMITTED: u8 = 1 << 3;
    /// A version that the index does not name: kept for a frozen epoch, or as `older` of another.
    pub(in super::super) const ASIDE: u8 = 1 << 4;
    /// Such a version, and a record or another version names it as `older`.
    pub(in super::super) const CHAINED: u8 = 1 << 5;
    /// How often it was used since the clock's hand last passed: 0 to 3.
    pub(in super::super) const USES_ONE: u8 = 1 << 6;
    pub(in super::super) const USES_MASK: u8 = 3 << 6;
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) hash: u64,
    pub(super) epoch: u32,
    pub(super) tag: u32,
    pub(super) value_len: u32,
    pub(super) key_len: u32,
    pub(super) older: Address,
    pub(super) dirty_at: u32,
    pub(super) flags: u8,
    /// Of the slot.
    size: u16,
}

const DIRTY_AT: usize = 20;
const KEY_AT: usize = 24;
const VALUE_AT: usize = 28;
const FLAGS_AT: usize = 31;

/// Bits of a key's length, with the size of the slot above them.
const KEY_BITS: u32 = 22;
const KEY_MASK: u32 = (1 << KEY_BITS) - 1;

/// Those of a value's length, with the flags above them.
const VALUE_MASK: u32 = (1 << 24) - 1;
const _: () = assert!(CHUNK_BYTES <= KEY_MASK as usize && KEY_MASK < VALUE_MASK);

/// The size of a slot of one page.
const ONE_PAGE: u16 = CLASS_BYTES.len() as u16;
const _: () = assert!(ONE_PAGE as usize + CHUNK_BYTES / PAGE_BYTES < 1 << (32 - KEY_BITS));

impl Header {
    /// Of a record with a key of `key_len` bytes and room for a value of `value_len`, without one
    /// yet.
    pub(super) fn new(hash: u64, key_len: usize, value_len: usize) -> Self {
        let bytes = value_offset(key_len) + value_len;
        let size = match class_of(bytes) {
            Some(class) => class as u16,
            None => ONE_PAGE + (bytes.div_ceil(PAGE_BYTES) - 1) as u16,
        };
        Self {
            hash,
            epoch: 0,
            tag: 0,
            value_len: 0,
            key_len: key_len as u32,
            older: Address::NONE,
            dirty_at: 0,
            flags: Kind::Value as u8,
            size,
        }
    }

    /// Reads the one at `slot`.
    #[inline]
    pub(super) fn read(slots: &Slots, slot: Address) -> Self {
        Self::of(record(slots, slot).0)
    }

    #[inline]
    fn of(bytes: &[u8; HEADER_BYTES]) -> Self {
        let u32_at = |at| super::pages::u32_at(bytes, at);
        Self {
            hash: u64::from(u32_at(0)) | u64::from(u32_at(4)) << 32,
            epoch: u32_at(8),
            tag: u32_at(12),
            value_len: u32_at(VALUE_AT) & VALUE_MASK,
            key_len: u32_at(KEY_AT) & KEY_MASK,
            older: Address(u32_at(16)),
            dirty_at: u32_at(DIRTY_AT),
            flags: bytes[FLAGS_AT],
            size: (u32_at(KEY_AT) >> KEY_BITS) as u16,
        }
    }

    /// Writes it to `slot`.
    #[inline]
    pub(super) fn write(&self, slots: &mut Slots, slot: Address) {
        let (bytes, _) = split(slots.tail_mut(slot));
        bytes[0..8].copy_from_slice(&self.hash.to_le_bytes());
        let key = self.key_len | u32::from(self.size) << KEY_BITS;
        let value = self.value_len | u32::from(self.flags) << 24;
        let numbers = [self.epoch, self.tag, self.older.0, self.dirty_at, key, value].into_iter();
        for (number, at) in numbers.zip((8..).step_by(4)) {
            super::pages::set_u32_at(bytes, at, number);
        }
    }

    #[inline]
    pub(super) fn kind(&self) -> Kind {
        match self.flags & 3 {
            0 => Kind::Value,
            1 => Kind::Tombstone,
            _ => Kind::Operands,
        }
    }

    pub(super) fn set_kind(&mut self, kind: Kind) {
        self.flags = self.flags & !3 | kind as u8;
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Lets it be of a slot of the size of another's.
    pub(super) fn take_size(&mut self, other: &Self) {
        self.size = other.size;
    }

    /// Bytes of the slot.
    pub(super) fn slot_bytes(&self) -> usize {
        match CLASS_BYTES.get(usize::from(self.size)) {
            Some(bytes) => *bytes,
            None => usize::from(self.size - ONE_PAGE + 1) * PAGE_BYTES,
        }
    }

    /// Bytes from the beginning of the record to its value.
    #[inline]
    pub(super) fn value_offset(&self) -> usize {
        value_offset(self.key_len as usize)
    }

    /// Bytes that a value may have without a new slot.
    pub(super) fn capacity(&self) -> usize {
        self.slot_bytes() - self.value_offset()
    }

    /// Bytes of the record, without what is room.
    pub(super) fn bytes(&self) -> usize {
        self.value_offset() + self.value_len as usize
    }
}

/// The value of the record at `slot`, whose key has `key_len` bytes, to be changed in place. It
/// counts as used. Where it begins does not wait for what the header says: header and value come
/// from memory together.
#[inline]
pub(super) fn use_value(slots: &mut Slots, slot: Address, key_len: usize) -> &mut [u8] {
    let (header, rest) = split(slots.tail_mut(slot));
    let value_len = Header::of(header).value_len as usize;
    touch(header);
    let rest = &mut rest[value_offset(key_len) - HEADER_BYTES..];
    &mut rest[..value_len]
}

/// Notes that the record at `slot` was used.
pub(super) fn use_record(slots: &mut Slots, slot: Address) {
    touch(split(slots.tail_mut(slot)).0);
}

#[inline]
fn touch(header: &mut [u8; HEADER_BYTES]) {
    // Written every time: whether it has to be, nobody can guess.
    let is_less = header[FLAGS_AT] & flag::USES_MASK != flag::USES_MASK;
    header[FLAGS_AT] += u8::from(is_less) * flag::USES_ONE;
}

/// The header of the record at `slot`, and what follows it.
#[inline]
fn record(slots: &Slots, slot: Address) -> (&[u8; HEADER_BYTES], &[u8]) {
    slots.tail(slot).split_first_chunk().expect("a record has a header")
}

/// The same, to be changed.
#[inline]
fn split(bytes: &mut [u8]) -> (&mut [u8; HEADER_BYTES], &mut [u8]) {
    bytes.split_first_chunk_mut().expect("a record has a header")
}

/// Sets the flags of the record at `slot`.
#[inline]
pub(super) fn set_flags(slots: &mut Slots, slot: Address, flags: u8) {
    slots.bytes_mut(slot, HEADER_BYTES)[FLAGS_AT] = flags;
}

/// Sets the place in a dirty list of the record at `slot`, or the number of its space.
pub(super) fn set_dirty_at(slots: &mut Slots, slot: Address, dirty_at: u32) {
    super::pages::set_u32_at(slots.bytes_mut(slot, HEADER_BYTES), DIRTY_AT, dirty_at);
}

/// Whether the record at `slot` is that of `hash` and `key`.
#[inline]
pub(super) fn is_of_key(slots: &Slots, slot: Address, hash: u64, key: &[u8]) -> bool {
    let (header, rest) = record(slots, slot);
    let header = Header::of(header);
    header.hash == hash && header.key_len as usize == key.len() && is_equal(&rest[..key.len()], key)
}

/// Whether two keys of the same length are equal. Keys are short: a call of the system's function
/// costs more than it saves.
#[inline]
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let (Some((a_first, a_rest)), Some((b_first, b_rest))) =
        (a.split_first_chunk::<8>(), b.split_first_chunk::<8>())
    else {
        return a.iter().zip(b).all(|(a, b)| a == b);
    };
    let (Some(a_last), Some(b_last)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) else {
        return false;
    };
    let are_equal = |a: &[u8; 8], b: &[u8; 8]| u64::from_le_bytes(*a) == u64::from_le_bytes(*b);
    let (a_words, b_words) = (a_rest.as_chunks::<8>().0, b_rest.as_chunks::<8>().0);
    // The last eight bytes may have been compared before.
    are_equal(a_first, b_first)
        && are_equal(a_last, b_last)
        && (a.len() <= 16 || a_words.iter().zip(b_words).all(|(a, b)| are_equal(a, b)))
}

/// Bytes from the beginning of a record to its value.
#[inline]
pub(super) fn value_offset(key_len: usize) -> usize {
    (HEADER_BYTES + key_len).next_multiple_of(UNIT_BYTES)
}

/// The key of the record at `slot`.
#[inline]
pub(super) fn key_of<'a>(slots: &'a Slots, slot: Address, header: &Header) -> &'a [u8] {
    &slots.bytes(slot, HEADER_BYTES + header.key_len as usize)[HEADER_BYTES..]
}

/// The value of the record at `slot`.
#[inline]
pub(super) fn value_of<'a>(slots: &'a Slots, slot: Address, header: &Header) -> &'a [u8] {
    slots.bytes(slot.offset(header.value_offset()), header.value_len as usize)
}
