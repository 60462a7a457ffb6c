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
use rkyv::rancor::Error as Rancor;

use crate::data::ahead::HashGroup;
use crate::data::archived_row::ArchivedRow;
use crate::data::either::Either;
use crate::data::element::Batch;
use crate::data::frame::Frame;
use crate::data::record::{ArchiveError, Record};
use crate::data::row::{NO_EVENT_TIME, Row};
use crate::exchange::channel::Returned;
use crate::limits::FRAME_BYTES;
use crate::operator::{OperatorContext, TaskEnv};
use crate::state::snapshot::ValueLayout;

/// How the batches of a task's inputs become rows of its chain.
pub trait Decoder: 'static {
    /// What the chain takes.
    type Out: 'static;
    /// A batch being read.
    type Open: OpenBatch + 'static;

    /// Opens a batch of logical input `input`.
    fn open(&mut self, input: usize, batch: Batch) -> Self::Open;

    /// What the next row becomes.
    fn next(&mut self, open: &mut Self::Open, env: &TaskEnv) -> Decoded<Self::Out>;

    /// The emptied container of a batch that has been read.
    fn close(&mut self, open: Self::Open) -> Returned;

    /// What is known of the records of logical input `input`.
    fn layout(&self, input: usize) -> ValueLayout;

    /// Of the rows of logical input `input` that are archived in `bytes` those whose hash
    /// `is_own`.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    fn restore(
        &self,
        input: usize,
        bytes: &[u8],
        is_own: &dyn Fn(u64) -> bool,
    ) -> Result<Option<Batch>, Rancor>;
}

/// The rows archived in `bytes` whose hash `is_own`, if there are any.
fn restored<T: Record>(
    bytes: &[u8],
    is_own: &dyn Fn(u64) -> bool,
) -> Result<Option<Batch>, Rancor> {
    let mut buffer = Buffer::heap(bytes.len());
    buffer.extend_from_slice(bytes);
    let frame = Frame::validate::<T>(buffer)?;
    let rows = frame.rows::<T>().iter().filter(|row| is_own(row.hash64.to_native()));
    let rows: Vec<_> = rows.map(ArchivedRow::to_row).collect();
    Ok((!rows.is_empty()).then(|| Batch::of_rows(rows)))
}

/// What a row of a batch has become.
#[derive(Debug)]
pub enum Decoded<T> {
    /// A row for the chain.
    Row(Row<T>),
    /// Nothing: a closure saw it and does not want it.
    Nothing,
    /// There is none: the batch has been read.
    End,
}

/// A batch of which some rows have been read.
pub trait OpenBatch {
    /// The key hashes of the rows behind the next `skip`.
    fn peek(&self, skip: usize) -> HashGroup;

    /// The archive of the rows that have not been read, if there are any.
    fn rest(&self) -> Option<Vec<u8>>;
}

/// The archive of `rows`, if there are any.
fn archive<T: Record>(rows: &[Row<T>]) -> Option<Vec<u8>> {
    (!rows.is_empty()).then(|| Frame::of(rows).as_bytes().to_vec())
}

/// The archive of the rows of `frame` behind the first `read`, if there are any.
fn rest_of_frame<T: Record>(frame: &Frame, read: usize) -> Option<Vec<u8>> {
    match read {
        0 => Some(frame.as_bytes().to_vec()),
        _ => {
            archive(&frame.rows::<T>()[read..].iter().map(ArchivedRow::to_row).collect::<Vec<_>>())
        }
    }
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
            Batch::Rows(rows) => Self::Rows(rows.into_rows().into()),
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

impl<T: Record> OpenBatch for OpenRows<T> {
    #[inline]
    fn peek(&self, skip: usize) -> HashGroup {
        match self {
            Self::Rows(rows) => {
                let rows = rows.range(skip.min(rows.len())..);
                HashGroup::of(rows.map(|row| row.hash64))
            }
            Self::Frame(frame, read) => peek_frame::<T>(frame, read + skip),
        }
    }

    fn rest(&self) -> Option<Vec<u8>> {
        match self {
            Self::Rows(rows) => archive(&rows.iter().cloned().collect::<Vec<_>>()),
            Self::Frame(frame, read) => rest_of_frame::<T>(frame, *read),
        }
    }
}

fn peek_frame<T: Record>(frame: &Frame, from: usize) -> HashGroup {
    let rows = frame.rows::<T>().get(from..).unwrap_or_default();
    HashGroup::of(rows.iter().map(|row| row.hash64.to_native()))
}

impl<T> From<Option<Row<T>>> for Decoded<T> {
    #[inline]
    fn from(row: Option<Row<T>>) -> Self {
        row.map_or(Self::End, Self::Row)
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
    fn next(&mut self, open: &mut OpenRows<T>, _env: &TaskEnv) -> Decoded<T> {
        open.next().into()
    }

    fn close(&mut self, open: OpenRows<T>) -> Returned {
        open.into_returned()
    }

    fn layout(&self, _input: usize) -> ValueLayout {
        ValueLayout::of::<T>()
    }

    fn restore(
        &self,
        _input: usize,
        bytes: &[u8],
        is_own: &dyn Fn(u64) -> bool,
    ) -> Result<Option<Batch>, Rancor> {
        restored::<T>(bytes, is_own)
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
    fn next(&mut self, open: &mut Self::Open, _env: &TaskEnv) -> Decoded<Either<A, B>> {
        let row = match open {
            Either::Left(open) => open.next().map(|row| row.map(Either::Left)),
            Either::Right(open) => open.next().map(|row| row.map(Either::Right)),
        };
        row.into()
    }

    fn close(&mut self, open: Self::Open) -> Returned {
        match open {
            Either::Left(open) => open.into_returned(),
            Either::Right(open) => open.into_returned(),
        }
    }

    fn layout(&self, input: usize) -> ValueLayout {
        match input {
            0 => ValueLayout::of::<A>(),
            _ => ValueLayout::of::<B>(),
        }
    }

    fn restore(
        &self,
        input: usize,
        bytes: &[u8],
        is_own: &dyn Fn(u64) -> bool,
    ) -> Result<Option<Batch>, Rancor> {
        match input {
            0 => restored::<A>(bytes, is_own),
            _ => restored::<B>(bytes, is_own),
        }
    }
}

impl<A: Record, B: Record> OpenBatch for Either<OpenRows<A>, OpenRows<B>> {
    #[inline]
    fn peek(&self, skip: usize) -> HashGroup {
        match self {
            Self::Left(open) => open.peek(skip),
            Self::Right(open) => open.peek(skip),
        }
    }

    fn rest(&self) -> Option<Vec<u8>> {
        match self {
            Self::Left(open) => open.rest(),
            Self::Right(open) => open.rest(),
        }
    }
}

/// One logical input, read in place: a closure sees `&Archived<T>` and gives a record, or nothing.
/// Owned batches (from the own shard) are archived first.
///
/// The closure belongs to the first operator of the chain, and runs as that operator would: if it
/// panics, the operator and the record are known.
pub struct View<T, U, F> {
    f: F,
    /// Where owned batches were archived; as many as were open at one time.
    spare: Vec<Buffer>,
    types: PhantomData<fn(T) -> U>,
}

impl<T: Record, U, F: FnMut(&Archived<T>) -> Option<U>> View<T, U, F> {
    /// Reads with `f`.
    pub fn new(f: F) -> Self {
        Self { f, spare: Vec::new(), types: PhantomData }
    }

    fn archive(&mut self, rows: &[Row<T>]) -> Frame {
        let buffer = self.spare.pop().unwrap_or_else(|| Buffer::heap(FRAME_BYTES));
        let encoded = Frame::encode(rows, buffer).or_else(|(error, buffer)| match error {
            // One row that is larger than a frame.
            ArchiveError::Overflow { needed_bytes } => {
                self.spare.push(buffer);
                Frame::encode(rows, Buffer::heap(needed_bytes))
            }
            error @ ArchiveError::Unserializable { .. } => Err((error, buffer)),
        });
        // Rows were measured, and so archived once, before they came.
        encoded.unwrap_or_else(|(error, _)| panic!("{}: {error}", std::any::type_name::<T>()))
    }
}

/// A batch read in place.
pub struct OpenView<T> {
    frame: Frame,
    read: usize,
    /// The vector of an owned batch, emptied; a frame from elsewhere gives back its own buffer.
    rows: Option<Vec<Row<T>>>,
}

/// The stage under which the closure of a [`View`] runs.
const VIEW_STAGE: u16 = 0;

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
                let mut rows = rows.into_rows::<T>();
                let frame = self.archive(&rows);
                rows.clear();
                OpenView { frame, read: 0, rows: Some(rows) }
            }
        }
    }

    #[inline]
    fn next(&mut self, open: &mut OpenView<T>, env: &TaskEnv) -> Decoded<U> {
        let Some(row) = open.frame.rows::<T>().get(open.read) else { return Decoded::End };
        open.read += 1;
        env.begin(row.hash64.to_native(), row.event_time_ms.to_native(), row.origin.into());
        let ctx = OperatorContext::new(env, "view", VIEW_STAGE, NO_EVENT_TIME);
        match ctx.run(|| (self.f)(&row.value)) {
            Some(value) => Decoded::Row(env.row(value)),
            None => Decoded::Nothing,
        }
    }

    fn close(&mut self, open: OpenView<T>) -> Returned {
        let buffer = open.frame.into_buffer();
        let Some(rows) = open.rows else { return Returned::Buffer(buffer) };
        if buffer.capacity() == FRAME_BYTES {
            self.spare.push(buffer);
        }
        Returned::Rows(Box::new(rows))
    }

    fn layout(&self, _input: usize) -> ValueLayout {
        ValueLayout::of::<T>()
    }

    fn restore(
        &self,
        _input: usize,
        bytes: &[u8],
        is_own: &dyn Fn(u64) -> bool,
    ) -> Result<Option<Batch>, Rancor> {
        restored::<T>(bytes, is_own)
    }
}

impl<T: Record> OpenBatch for OpenView<T> {
    #[inline]
    fn peek(&self, skip: usize) -> HashGroup {
        peek_frame::<T>(&self.frame, self.read + skip)
    }

    fn rest(&self) -> Option<Vec<u8>> {
        rest_of_frame::<T>(&self.frame, self.read)
    }
}

#[cfg(test)]
mod tests;
