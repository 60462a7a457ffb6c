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
//! whenever the type asked for has that `TypeId`, which is asserted.

use std::any::TypeId;
use std::fmt;

use millstream_storage::arena::Buffer;
use rkyv::Archived;
use rkyv::rancor::Error as Rancor;
use rkyv::vec::ArchivedVec;

use crate::data::record::{Overflow, Record};
use crate::data::row::{ArchivedRow, Row};

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
    /// [`Overflow`] and the buffer, emptied, if the archive is larger than the buffer's capacity.
    pub fn encode<T: Record>(
        rows: &Vec<Row<T>>,
        mut buffer: Buffer,
    ) -> Result<Self, (Overflow, Buffer)> {
        let capacity = buffer.capacity();
        buffer.set_len(capacity);
        match T::archive_rows(rows, buffer.as_mut_slice()) {
            Ok(len) => {
                buffer.set_len(len);
                Ok(Self::new::<T>(buffer, rows.len()))
            }
            Err(overflow) => {
                buffer.set_len(0);
                Err((overflow, buffer))
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

    fn new<T: Record>(bytes: Buffer, row_count: usize) -> Self {
        let row_count = u32::try_from(row_count).expect("rows take bytes, and a frame has few");
        Self { bytes, record: TypeId::of::<T>(), row_count }
    }

    /// The rows, in place.
    ///
    /// # Panics
    /// If the frame holds rows of another type: the plan connected the wrong tasks.
    pub fn rows<T: Record>(&self) -> &[ArchivedRow<T>] {
        assert_eq!(self.record, TypeId::of::<T>(), "a frame read as rows of another type");
        // SAFETY: the bytes are the archive of a `Vec<Row<T>>` for exactly this `T` (asserted
        // above), starting at the buffer's 64-aligned start and ending at its length.
        let rows: &ArchivedVec<ArchivedRow<T>> =
            unsafe { rkyv::access_unchecked::<Archived<Vec<Row<T>>>>(self.bytes.as_slice()) };
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

    /// Gives the buffer back, for the next frame.
    pub fn into_buffer(self) -> Buffer {
        self.bytes
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("row_count", &self.row_count)
            .field("size_bytes", &self.size_bytes())
            .finish_non_exhaustive()
    }
}

impl<T: Record> ArchivedRow<T> {
    /// The row that this shows.
    pub fn to_row(&self) -> Row<T> {
        Row {
            hash64: self.hash64.to_native(),
            event_time_ms: self.event_time_ms.to_native(),
            origin: self.origin.into(),
            value: T::unarchive(&self.value),
        }
    }
}
