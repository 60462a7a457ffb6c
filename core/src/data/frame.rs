//! A batch as bytes: what crosses from one shard to another.
//!
//! ```text
//! ┌───────────────────────────────────────────────────────────────┐
//! │ one rkyv archive of Vec<Row<T>>: strings and vectors, rows, root │   in a 64-aligned buffer
//! └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! A frame is written once, by [`Frame::encode`], and read in place. Bytes that arrive from outside
//! the process get to be a frame only through [`Frame::validate`], which checks every one of them.
//!
//! The only unsafe idea in this file: a `Frame` exists only if its bytes were checked to be, or
//! were written by this process as, the archive of rows of the type whose `TypeId` it carries, and
//! nothing can change them while it exists. So reading them without a second check is sound
//! whenever the type asked for has that `TypeId`, which is asserted. What writes them is the
//! `Serialize` of the record's type: derived as a rule, and in debug builds every frame is checked,
//! to find one written by hand that does not write what it declares.
//!
//! Not here: the archive of one row (`archived_row.rs`).

use std::any::TypeId;
use std::fmt;

use millstream_storage::arena::{BUFFER_ALIGNMENT_BYTES, Buffer};
use rkyv::rancor::Error as Rancor;
use rkyv::vec::ArchivedVec;
use xxhash_rust::xxh3::xxh3_64;

use crate::data::archived_row::ArchivedRow;
use crate::data::record::{ArchiveError, Record};
use crate::data::row::Row;
use crate::limits::FRAME_BYTES;

/// An archived batch of rows of one type.
pub struct Frame {
    bytes: Buffer,
    record: TypeId,
    row_count: u32,
}

impl Frame {
    /// Archives `rows` into `buffer`.
    ///
    /// # Errors
    /// Why not, and the buffer, emptied.
    pub fn encode<T: Record>(
        rows: &[Row<T>],
        mut buffer: Buffer,
    ) -> Result<Self, (ArchiveError, Buffer)> {
        let capacity = buffer.capacity();
        buffer.set_len(capacity);
        match T::archive_rows(rows, buffer.as_mut_slice()) {
            Ok(len) => {
                buffer.set_len(len);
                debug_assert!(
                    T::view_rows(buffer.as_slice()).is_ok_and(|view| view.len() == rows.len()),
                    "the `Serialize` of {} does not write what it declares",
                    std::any::type_name::<T>(),
                );
                Ok(Self::new::<T>(buffer, rows.len()))
            }
            Err(error) => {
                buffer.clear();
                Err((error, buffer))
            }
        }
    }

    /// Takes bytes from outside the process for a frame, after checking them.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn validate<T: Record>(buffer: Buffer) -> Result<Self, Rancor> {
        let row_count = T::view_rows(buffer.as_slice())?.len();
        Ok(Self::new::<T>(buffer, row_count))
    }

    /// Archives `rows` into a buffer of their own.
    ///
    /// # Panics
    /// If a row cannot be archived: rows are measured before they come to a frame.
    pub fn of<T: Record>(rows: &[Row<T>]) -> Self {
        let encoded = Self::encode(rows, Buffer::heap(FRAME_BYTES));
        let encoded = encoded.or_else(|(error, buffer)| match error {
            // One row that is larger than a frame.
            ArchiveError::Overflow { needed_bytes } => {
                Self::encode(rows, Buffer::heap(needed_bytes))
            }
            error @ ArchiveError::Unserializable { .. } => Err((error, buffer)),
        });
        encoded.unwrap_or_else(|(error, _)| panic!("{}: {error}", std::any::type_name::<T>()))
    }

    fn new<T: Record>(bytes: Buffer, row_count: usize) -> Self {
        const { assert!(align_of::<ArchivedRow<T>>() <= BUFFER_ALIGNMENT_BYTES) };
        let row_count = u32::try_from(row_count).expect("rows take bytes, and a frame has few");
        Self { bytes, record: TypeId::of::<T>(), row_count }
    }

    /// The rows, in place.
    ///
    /// # Panics
    /// If the frame holds rows of another type: the plan connected the wrong tasks.
    pub fn rows<T: Record>(&self) -> &[ArchivedRow<T>] {
        assert_eq!(self.record, TypeId::of::<T>(), "a frame read as rows of another type");
        // SAFETY: the bytes are the archive of a vector of rows for exactly this `T` (asserted
        // above), starting at the buffer's start, which is aligned for them (asserted in `new`),
        // and ending at its length.
        let rows: &ArchivedVec<ArchivedRow<T>> =
            unsafe { rkyv::access_unchecked(self.bytes.as_slice()) };
        rows.as_slice()
    }

    /// How many rows it holds.
    pub fn row_count(&self) -> u32 {
        self.row_count
    }

    /// How many bytes they take.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// They themselves: what [`Frame::validate`] takes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Gives the buffer back, for the next frame.
    pub fn into_buffer(self) -> Buffer {
        self.bytes
    }
}

/// Shows a hash of the bytes, so that traces of a simulation differ where records do.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("row_count", &self.row_count)
            .field("size_bytes", &self.size_bytes())
            .field("hash64", &format_args!("{:016x}", xxh3_64(self.bytes.as_slice())))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::row::Origin;

    fn rows<T>(values: impl IntoIterator<Item = T>) -> Vec<Row<T>> {
        let row = |(n, value): (u64, T)| Row {
            hash64: n << 50,
            ..Row::new(value, n as i64 - 3, Origin::new(0, 1, n))
        };
        (0..).zip(values).map(row).collect()
    }

    fn frame<T: Record>(rows: &[Row<T>]) -> Frame {
        Frame::encode(rows, Buffer::heap(1 << 14)).expect("it fits")
    }

    fn check_round_trip<T: Record + PartialEq + fmt::Debug>(rows: &[Row<T>]) {
        let frame = frame(rows);
        let read: Vec<Row<T>> = frame.rows::<T>().iter().map(ArchivedRow::to_row).collect();
        assert_eq!(read, rows);
        assert_eq!(frame.row_count() as usize, rows.len());
        let bytes = frame.into_buffer();
        let validated = Frame::validate::<T>(bytes).expect("what was written is valid");
        assert_eq!(validated.rows::<T>().len(), rows.len());
    }

    #[test]
    fn rows_survive_a_frame() {
        check_round_trip(&rows([[1_u64; 8], [2; 8]]));
        check_round_trip(&rows((0..300).map(|n| n as u8)));
        check_round_trip(&rows(["short".to_string(), "long".repeat(50), String::new()]));
        check_round_trip(&rows([Some(vec![1_u16, 2]), None]));
        check_round_trip::<u64>(&[]);
    }

    #[test]
    fn rows_that_do_not_fit_give_the_buffer_back() {
        let small = Buffer::heap(64);
        let (error, buffer) = Frame::encode(&rows([[1_u64; 8]]), small).expect_err("too small");
        assert_eq!(error, ArchiveError::Overflow { needed_bytes: 24 + 64 + 8 });
        assert!(buffer.is_empty());
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let whole = frame(&rows(["a".repeat(20), "b".repeat(30)])).into_buffer();
        let damaged = |damage: &dyn Fn(&mut Buffer)| {
            let mut copy = Buffer::heap(whole.capacity());
            copy.extend_from_slice(whole.as_slice());
            damage(&mut copy);
            Frame::validate::<String>(copy)
        };
        let len = whole.len();
        assert!(damaged(&|_| ()).is_ok(), "undamaged");
        assert!(damaged(&|bytes| bytes.set_len(len - 8)).is_err(), "cut off");
        assert!(damaged(&|bytes| bytes.clear()).is_err(), "empty");
        // The root: where the rows are, and how many.
        for byte in len - 8..len {
            assert!(damaged(&|bytes| bytes.as_mut_slice()[byte] ^= 0x80).is_err(), "byte {byte}");
        }
        assert!(damaged(&|bytes| bytes.as_mut_slice()[3] = 0xff).is_err(), "not UTF-8");
    }

    #[test]
    #[should_panic(expected = "a frame read as rows of another type")]
    fn a_frame_is_not_read_as_another_type() {
        let _ = frame(&rows([1_u64])).rows::<i64>();
    }
}
