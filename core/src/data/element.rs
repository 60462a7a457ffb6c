//! What a channel carries, in order: batches, and the control elements between them.

use std::any::Any;
use std::fmt;

use crate::data::frame::Frame;
use crate::data::record::Record;
use crate::data::row::Row;

/// Numbers the checkpoints of a job, upwards from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// `Vec<Row<T>>` of the edge's record type.
    Rows(Box<dyn Any>),
    /// The same as bytes.
    Frame(Frame),
}

impl Batch {
    /// A batch of owned rows.
    pub fn of_rows<T: 'static>(rows: Vec<Row<T>>) -> Self {
        Self::Rows(Box::new(rows))
    }

    /// How many rows of type `T` it holds.
    ///
    /// # Panics
    /// If it holds rows of another type.
    pub fn row_count<T: Record>(&self) -> usize {
        match self {
            Self::Rows(rows) => {
                rows.downcast_ref::<Vec<Row<T>>>().expect("the edge has one record type").len()
            }
            Self::Frame(frame) => frame.row_count() as usize,
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(_) => f.write_str("Rows"),
            Self::Frame(frame) => frame.fmt(f),
        }
    }
}
