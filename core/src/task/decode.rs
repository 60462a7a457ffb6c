//! Batches as they are taken: opened once, then read row by row.
//!
//! A batch from the own shard is a vector and gives its rows away; one from another shard is a
//! frame and is read in place. [`Decoder`] says what rows an input's batches become:
//!
//! | decoder | input | rows |
//! |---|---|---|
//! | [`Single`] | `T` | `T` |
//! | [`Pair`] | `A`, `B` | `Either<A, B>` |
//! | [`View`] | `T` | whatever a closure makes of `&Archived<T>`, without an owned `T` |

use std::collections::VecDeque;
use std::marker::PhantomData;

use millstream_storage::arena::Buffer;
use rkyv::Archived;

use crate::data::ahead::HashGroup;
use crate::data::either::Either;
use crate::data::element::Batch;
use crate::data::frame::Frame;
use crate::data::record::{ArchiveError, Record};
use crate::data::row::Row;
use crate::exchange::channel::Returned;
use crate::limits::FRAME_BYTES;

/// How the batches of a task's inputs become rows of its chain.
pub trait Decoder: 'static {
    /// What the chain takes.
    type Out: 'static;
    /// A batch being read.
    type Open: OpenBatch<Self::Out> + 'static;

    /// Opens a batch of logical input `input`.
    fn open(&mut self, input: usize, batch: Batch) -> Self::Open;

    /// The next row; `None` at the end of the batch.
    fn next(&mut self, open: &mut Self::Open) -> Option<Row<Self::Out>>;
}

/// A batch of which some rows have been read.
pub trait OpenBatch<T> {
    /// The key hashes of the rows behind the next `skip`.
    fn peek(&self, skip: usize) -> HashGroup;

    /// The emptied container; called at the end of the batch.
    fn close(self) -> Returned;
}

/// A batch of one record type.
pub enum OpenRows<T> {
    /// Owned rows.
    Rows(VecDeque<Row<T>>),
    /// Archived rows, and how many have been read.
    Frame(Frame, usize),
}

impl<T: Record> OpenRows<T> {
    fn new(batch: Batch) -> Self {
        match batch {
            Batch::Rows(rows) => {
                let rows = rows.downcast::<Vec<Row<T>>>().expect("an edge has one record type");
                Self::Rows((*rows).into())
            }
            Batch::Frame(frame) => Self::Frame(frame, 0),
        }
    }

    #[inline]
    fn next(&mut self) -> Option<Row<T>> {
        match self {
            Self::Rows(rows) => rows.pop_front(),
            Self::Frame(frame, read) => {
                let row = frame.rows::<T>().get(*read)?;
                *read += 1;
                Some(row.to_row())
            }
        }
    }

    #[inline]
    fn peek(&self, skip: usize) -> HashGroup {
        match self {
            Self::Rows(rows) => HashGroup::of(rows.iter().skip(skip).map(|row| row.hash64)),
            Self::Frame(frame, read) => {
                let rows = frame.rows::<T>().get(read + skip..).unwrap_or_default();
                HashGroup::of(rows.iter().map(|row| row.hash64.to_native()))
            }
        }
    }

    fn into_returned(self) -> Returned {
        match self {
            Self::Rows(rows) => {
                assert!(rows.is_empty(), "a batch was given back before it was read");
                Returned::Rows(Box::new(Vec::from(rows)))
            }
            Self::Frame(frame, _) => Returned::Buffer(frame.into_buffer()),
        }
    }
}

impl<T: Record> OpenBatch<T> for OpenRows<T> {
    #[inline]
    fn peek(&self, skip: usize) -> HashGroup {
        OpenRows::peek(self, skip)
    }

    fn close(self) -> Returned {
        self.into_returned()
    }
}

/// One logical input: rows are what they are.
pub struct Single<T>(PhantomData<fn() -> T>);

impl<T> Default for Single<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Record> Decoder for Single<T> {
    type Out = T;
    type Open = OpenRows<T>;

    fn open(&mut self, _input: usize, batch: Batch) -> OpenRows<T> {
        OpenRows::new(batch)
    }

    #[inline]
    fn next(&mut self, open: &mut OpenRows<T>) -> Option<Row<T>> {
        open.next()
    }
}

/// Two logical inputs: rows of the first are left, rows of the second right.
pub struct Pair<A, B>(PhantomData<fn() -> (A, B)>);

impl<A, B> Default for Pair<A, B> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<A: Record, B: Record> Decoder for Pair<A, B> {
    type Out = Either<A, B>;
    type Open = Either<OpenRows<A>, OpenRows<B>>;

    fn open(&mut self, input: usize, batch: Batch) -> Self::Open {
        match input {
            0 => Either::Left(OpenRows::new(batch)),
            _ => Either::Right(OpenRows::new(batch)),
        }
    }

    #[inline]
    fn next(&mut self, open: &mut Self::Open) -> Option<Row<Either<A, B>>> {
        match open {
            Either::Left(open) => open.next().map(|row| row.map(Either::Left)),
            Either::Right(open) => open.next().map(|row| row.map(Either::Right)),
        }
    }
}

impl<A: Record, B: Record> OpenBatch<Either<A, B>> for Either<OpenRows<A>, OpenRows<B>> {
    #[inline]
    fn peek(&self, skip: usize) -> HashGroup {
        match self {
            Self::Left(open) => open.peek(skip),
            Self::Right(open) => open.peek(skip),
        }
    }

    fn close(self) -> Returned {
        match self {
            Self::Left(open) => open.into_returned(),
            Self::Right(open) => open.into_returned(),
        }
    }
}

/// One logical input, read in place: a closure sees `&Archived<T>` and gives a record, or nothing.
/// Owned batches (from the own shard) are archived first.
pub struct View<T, U, F> {
    f: F,
    types: PhantomData<fn(T) -> U>,
}

impl<T: Record, U, F: FnMut(&Archived<T>) -> Option<U>> View<T, U, F> {
    /// Reads with `f`.
    pub fn new(f: F) -> Self {
        Self { f, types: PhantomData }
    }
}

/// A batch read in place.
pub struct OpenView<T> {
    frame: Frame,
    read: usize,
    /// The vector of an owned batch, emptied; a frame from elsewhere gives back its own buffer.
    rows: Option<Vec<Row<T>>>,
}

impl<T, U, F> Decoder for View<T, U, F>
where
    T: Record,
    U: 'static,
    F: FnMut(&Archived<T>) -> Option<U> + 'static,
{
    type Out = U;
    type Open = OpenView<T>;

    fn open(&mut self, _input: usize, batch: Batch) -> OpenView<T> {
        match batch {
            Batch::Frame(frame) => OpenView { frame, read: 0, rows: None },
            Batch::Rows(rows) => {
                let mut rows =
                    *rows.downcast::<Vec<Row<T>>>().expect("an edge has one record type");
                let frame = encode_owned(&rows);
                rows.clear();
                OpenView { frame, read: 0, rows: Some(rows) }
            }
        }
    }

    #[inline]
    fn next(&mut self, open: &mut OpenView<T>) -> Option<Row<U>> {
        let rows = &open.frame.rows::<T>()[open.read..];
        for row in rows {
            open.read += 1;
            if let Some(value) = (self.f)(&row.value) {
                let (hash64, event_time_ms) =
                    (row.hash64.to_native(), row.event_time_ms.to_native());
                return Some(Row { hash64, event_time_ms, origin: row.origin.into(), value });
            }
        }
        None
    }
}

impl<T: Record, U> OpenBatch<U> for OpenView<T> {
    #[inline]
    fn peek(&self, skip: usize) -> HashGroup {
        let rows = self.frame.rows::<T>().get(self.read + skip..).unwrap_or_default();
        HashGroup::of(rows.iter().map(|row| row.hash64.to_native()))
    }

    fn close(self) -> Returned {
        match self.rows {
            Some(rows) => Returned::Rows(Box::new(rows)),
            None => Returned::Buffer(self.frame.into_buffer()),
        }
    }
}

fn encode_owned<T: Record>(rows: &[Row<T>]) -> Frame {
    match Frame::encode(rows, Buffer::heap(FRAME_BYTES)) {
        Ok(frame) => frame,
        Err((ArchiveError::Overflow { needed_bytes }, _)) => {
            Frame::encode(rows, Buffer::heap(needed_bytes)).expect("it said what it takes")
        }
        Err((error, _)) => panic!("{}: {error}", std::any::type_name::<T>()),
    }
}
