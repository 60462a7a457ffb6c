//! What a channel carries, in order: batches, and the control elements between them.

use std::any::Any;
use std::fmt;

use xxhash_rust::xxh3::Xxh3;

use crate::data::frame::Frame;
use crate::data::record::Record;
use crate::data::row::Row;

/// Numbers the checkpoints of a job, upwards from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct CheckpointId(pub u64);

/// One thing in a channel.
#[derive(Debug)]
pub enum Element {
    /// Rows.
    Batch(Batch),
    /// What stands between them.
    Control(Control),
}

/// What a channel carries beside rows, in its place among them. It needs no credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// No row at or before this event time (ms) is still expected in this channel.
    Watermark(i64),
    /// Ends one epoch and begins the next.
    Barrier(CheckpointId),
    /// The channel expects nothing for now and does not hold the combined watermark back. Rows and
    /// watermarks may come all the same (processing time may cause them) and do not end this.
    Idle,
    /// The channel is idle no longer: it holds the combined watermark back again.
    Active,
    /// Nothing follows.
    EndOfStream,
}

impl Control {
    /// Whether it only says how the channel stands, so that a later word on the same makes it
    /// superfluous.
    pub fn is_state(self) -> bool {
        matches!(self, Self::Watermark(_) | Self::Idle | Self::Active)
    }

    /// How far from the end of a queue, whose last elements are `last` (last first; `None` is
    /// rows), stands what this makes superfluous. It takes that place, and so at most one watermark
    /// and one of idle and active stand between two other elements.
    pub fn superseded(self, last: impl Iterator<Item = Option<Self>>) -> Option<usize> {
        let is_watermark = |control| matches!(control, Self::Watermark(_));
        let mut run = last.map_while(|control| control.filter(|control| control.is_state()));
        run.position(|other| self.is_state() && is_watermark(self) == is_watermark(other))
    }
}

/// Rows that move together: owned within a shard, archived between shards.
pub enum Batch {
    /// Rows of the edge's record type.
    Rows(OwnedRows),
    /// The same as bytes.
    Frame(Frame),
}

/// Owned rows of one type, which the two ends of an edge know.
pub struct OwnedRows {
    /// `Vec<Row<T>>`.
    rows: Box<dyn Any>,
    /// How many rows there are, and a hash of them.
    summary: fn(&dyn Any) -> (usize, u64),
    /// Their archive.
    archive: fn(&dyn Any) -> Frame,
}

impl OwnedRows {
    fn new<T: Record>(rows: Vec<Row<T>>) -> Self {
        Self { rows: Box::new(rows), summary: summary::<T>, archive: archive::<T> }
    }

    /// The rows.
    ///
    /// # Panics
    /// If they are of another type: the plan connected the wrong tasks.
    pub fn into_rows<T: 'static>(self) -> Vec<Row<T>> {
        *self.rows.downcast().expect("an edge has one record type")
    }
}

fn archive<T: Record>(rows: &dyn Any) -> Frame {
    Frame::of(rows.downcast_ref::<Vec<Row<T>>>().expect("made for this type"))
}

fn summary<T: Record>(rows: &dyn Any) -> (usize, u64) {
    let rows = rows.downcast_ref::<Vec<Row<T>>>().expect("made for this type");
    let mut hash = Xxh3::new();
    for row in rows {
        hash.update(&row.hash64.to_le_bytes());
        hash.update(&row.event_time_ms.to_le_bytes());
        hash.update(&row.value.archive());
    }
    (rows.len(), hash.digest())
}

/// Shows a hash of the rows, so that traces of a simulation differ where records do.
impl fmt::Debug for OwnedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (row_count, hash64) = (self.summary)(&*self.rows);
        write!(f, "Rows {{ row_count: {row_count}, hash64: {hash64:016x} }}")
    }
}

impl Batch {
    /// A batch of owned rows.
    pub fn of_rows<T: Record>(rows: Vec<Row<T>>) -> Self {
        Self::Rows(OwnedRows::new(rows))
    }

    /// The bytes that it has, or would have, as a frame.
    pub fn archive(&self) -> Vec<u8> {
        match self {
            Self::Rows(rows) => (rows.archive)(&*rows.rows).as_bytes().to_vec(),
            Self::Frame(frame) => frame.as_bytes().to_vec(),
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => rows.fmt(f),
            Self::Frame(frame) => frame.fmt(f),
        }
    }
}
