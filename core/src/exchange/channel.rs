//! The sending end of one channel.
//!
//! ```text
//! push ──► open rows ──seal──► queue: batch, watermark, batch, … ──send (1 credit per batch)──►
//! ```
//!
//! Rows collect in `open` until somebody flushes (at the end of every turn) or a batch is full; so
//! a batch is as large as what arrived while the channel was busy, and one row does not wait.
//!
//! Invariants: elements leave in the order in which they came; `credits + batches on their way`
//! is constant; a channel is *full*, and its task stops, while a sealed batch waits for a credit.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;

use millstream_storage::arena::{Buffer, Slab};

use crate::data::element::{Batch, Control, Element};
use crate::data::frame::Frame;
use crate::data::record::{Overflow, Record};
use crate::data::row::Row;
use crate::error::Error;
use crate::exchange::descriptor::Descriptor;
use crate::graph::plan::{ChannelId, ChannelPlan};
use crate::limits::{CHANNEL_CREDIT_FRAMES, INPUT_BUDGET_RECORDS, ROW_BYTES_MAX};

/// Rows of a full batch: what a receiver takes in one go.
const BATCH_ROWS_MAX: usize = INPUT_BUDGET_RECORDS as usize;

/// An emptied container, with the credit that it stands for.
pub enum Returned {
    /// `Vec<Row<T>>` of a local batch.
    Rows(Box<dyn Any>),
    /// The buffer of a frame.
    Buffer(Buffer),
}

impl fmt::Debug for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(_) => f.write_str("Rows"),
            Self::Buffer(buffer) => buffer.fmt(f),
        }
    }
}

/// Where a channel's elements go once they may leave.
#[derive(Debug)]
pub struct Outbox {
    /// For tasks of this shard.
    pub local: Vec<(ChannelId, Element)>,
    /// For other shards.
    pub remote: Vec<(u32, Descriptor)>,
    /// Where frames are built.
    pub slab: Slab,
}

/// A queued element. Batches are still rows: they are archived when they leave.
enum Queued<T> {
    Batch(Vec<Row<T>>),
    Control(Control),
}

/// The sending end of one channel.
pub struct Channel<T> {
    plan: ChannelPlan,
    is_local: bool,
    open: Vec<Row<T>>,
    queue: VecDeque<Queued<T>>,
    sealed_batch_count: usize,
    credits: u32,
    /// Emptied vectors for reuse.
    spare: Vec<Vec<Row<T>>>,
    /// Rows that fitted into a frame lately; rows of one type are of like size.
    frame_rows: usize,
}

impl<T: Record> Channel<T> {
    /// The end of `plan` on shard `own_shard`.
    pub fn new(plan: ChannelPlan, own_shard: u32) -> Self {
        Self {
            plan,
            is_local: plan.peer_shard == own_shard,
            open: Vec::with_capacity(BATCH_ROWS_MAX),
            queue: VecDeque::new(),
            sealed_batch_count: 0,
            credits: CHANNEL_CREDIT_FRAMES,
            spare: Vec::new(),
            frame_rows: BATCH_ROWS_MAX,
        }
    }

    /// Whether frames of this channel cross to another shard.
    pub fn is_remote(&self) -> bool {
        !self.is_local
    }

    /// Its number in the job.
    pub fn id(&self) -> ChannelId {
        self.plan.channel
    }

    /// Appends a row; answers whether the channel is full now.
    #[inline]
    pub fn push(&mut self, row: Row<T>) -> bool {
        self.open.push(row);
        if self.open.len() < BATCH_ROWS_MAX {
            return false;
        }
        self.seal();
        self.is_full()
    }

    /// Whether a batch waits for a credit: nothing more should be pushed.
    pub fn is_full(&self) -> bool {
        self.credits as usize <= self.sealed_batch_count && self.sealed_batch_count > 0
    }

    /// Appends a control element behind all rows pushed so far.
    pub fn control(&mut self, control: Control) {
        self.seal();
        if let (Control::Watermark(_), Some(Queued::Control(last @ Control::Watermark(_)))) =
            (control, self.queue.back_mut())
        {
            *last = control;
            return;
        }
        self.queue.push_back(Queued::Control(control));
    }

    /// Sends what may be sent.
    ///
    /// # Errors
    /// [`Error::RowTooLarge`] for `operator` if a single row does not fit the limit.
    pub fn flush(&mut self, operator: &str, outbox: &mut Outbox) -> Result<(), Error> {
        if self.sealed_batch_count < self.credits as usize {
            self.seal();
        }
        while let Some(next) = self.queue.pop_front() {
            match next {
                Queued::Control(control) => self.send_control(control, outbox),
                Queued::Batch(rows) if self.credits == 0 => {
                    self.queue.push_front(Queued::Batch(rows));
                    break;
                }
                Queued::Batch(rows) => {
                    self.credits -= 1;
                    self.sealed_batch_count -= 1;
                    if self.is_local {
                        let batch = Batch::of_rows(rows);
                        outbox.local.push((self.plan.channel, Element::Batch(batch)));
                    } else {
                        self.send_frame(rows, operator, outbox)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether everything pushed has left.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.queue.is_empty()
    }

    /// Rows that have not left.
    pub fn queued_row_count(&self) -> usize {
        let sealed = self.queue.iter().map(|queued| match queued {
            Queued::Batch(rows) => rows.len(),
            Queued::Control(_) => 0,
        });
        self.open.len() + sealed.sum::<usize>()
    }

    /// Batches that the receiver still holds.
    pub fn in_flight_count(&self) -> u32 {
        CHANNEL_CREDIT_FRAMES - self.credits
    }

    /// A container came back.
    ///
    /// # Panics
    /// If more come back than were sent.
    pub fn on_returned(&mut self, returned: Returned, slab: &mut Slab) {
        self.credits += 1;
        assert!(self.credits <= CHANNEL_CREDIT_FRAMES, "more credits than frames");
        match returned {
            Returned::Rows(rows) => {
                let rows = rows.downcast::<Vec<Row<T>>>().expect("a channel has one record type");
                debug_assert!(rows.is_empty());
                self.spare.push(*rows);
            }
            Returned::Buffer(buffer) if buffer.is_heap() => {}
            Returned::Buffer(buffer) => slab.put(buffer),
        }
    }

    fn seal(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let next = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BATCH_ROWS_MAX));
        let rows = std::mem::replace(&mut self.open, next);
        self.queue.push_back(Queued::Batch(rows));
        self.sealed_batch_count += 1;
    }

    /// Archives as many of `rows` as a frame takes; the rest goes back to the front of the queue.
    fn send_frame(
        &mut self,
        mut rows: Vec<Row<T>>,
        operator: &str,
        outbox: &mut Outbox,
    ) -> Result<(), Error> {
        let mut buffer = outbox.slab.take().expect("a credit stands for a buffer of the slab");
        let mut rest = rows.split_off(rows.len().min(self.frame_rows));
        let frame = loop {
            match Frame::encode(&rows, buffer) {
                Ok(frame) => break frame,
                Err((Overflow, same)) if rows.len() > 1 => {
                    buffer = same;
                    let mut second_half = rows.split_off(rows.len() / 2);
                    second_half.append(&mut rest);
                    rest = second_half;
                }
                Err((Overflow, same)) => {
                    outbox.slab.put(same);
                    break encode_large(&rows, operator)?;
                }
            }
        };
        let is_roomy = frame.size_bytes() * 2 < crate::limits::FRAME_BYTES;
        self.frame_rows = if is_roomy {
            BATCH_ROWS_MAX.min(self.frame_rows.max(rows.len()) * 2)
        } else {
            rows.len()
        };
        rows.clear();
        self.spare.push(rows);
        if !rest.is_empty() {
            self.sealed_batch_count += 1;
            self.queue.push_front(Queued::Batch(rest));
        }
        let descriptor = Descriptor::Frame { channel: self.plan.channel, frame };
        outbox.remote.push((self.plan.peer_shard, descriptor));
        Ok(())
    }

    fn send_control(&self, control: Control, outbox: &mut Outbox) {
        let channel = self.plan.channel;
        if self.is_local {
            outbox.local.push((channel, Element::Control(control)));
        } else {
            let descriptor = Descriptor::Control { channel, control };
            outbox.remote.push((self.plan.peer_shard, descriptor));
        }
    }
}

/// A frame of its own for one row that is larger than a slab's buffer.
fn encode_large<T: Record>(row: &Vec<Row<T>>, operator: &str) -> Result<Frame, Error> {
    let mut capacity = crate::limits::FRAME_BYTES;
    while capacity < ROW_BYTES_MAX {
        capacity *= 2;
        if let Ok(frame) = Frame::encode(row, Buffer::heap(capacity)) {
            return Ok(frame);
        }
    }
    Err(Error::RowTooLarge { operator: operator.to_string(), limit_bytes: ROW_BYTES_MAX })
}

#[cfg(test)]
mod tests;
