//! The sending end of one channel.
//!
//! ```text
//! push ──► open rows ──seal──► queue: batch, watermark, batch, … ──send (1 credit per batch)──►
//! ```
//!
//! Rows collect in `open` until somebody flushes (at the end of every turn) or a batch is full: it
//! has so many rows, or would not fit into a frame with another one. So a batch is as large as what
//! arrived while the channel was busy, one row does not wait, and a batch is one frame. A row that
//! is larger than a frame is a batch of its own; one that is larger than a row may be, or that
//! cannot be archived, is refused here, whether the channel leaves the shard or not.
//!
//! Invariants: elements leave in the order in which they came; `credits + batches on their way`
//! is constant; a channel is *full*, and its task stops, while a sealed batch waits for a credit.
//! Not here: what becomes of a row that is refused (`outputs.rs`).

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;

use millstream_storage::arena::{Buffer, Slab};

use rkyv::ser::allocator::Arena;

use crate::data::archived_row::{frame_bytes, is_plain};
use crate::data::element::{Batch, Control, Element};
use crate::data::frame::Frame;
use crate::data::record::{ArchiveError, Record};
use crate::data::row::Row;
use crate::exchange::descriptor::Descriptor;
use crate::graph::plan::{ChannelId, ChannelPlan};
use crate::limits::{CHANNEL_CREDIT_FRAMES, FRAME_BYTES, INPUT_BUDGET_RECORDS, ROW_BYTES_MAX};

/// Rows of a full batch: what a receiver takes in one go.
const BATCH_ROWS_MAX: usize = INPUT_BUDGET_RECORDS as usize;

/// Emptied vectors that a channel keeps: for every batch that may be away, and for the next.
const SPARE_COUNT_MAX: usize = CHANNEL_CREDIT_FRAMES as usize + 1;

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
    Batch {
        rows: Vec<Row<T>>,
        /// What they take as a frame.
        bytes: usize,
    },
    Control(Control),
}

/// What an output keeps in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes, as frames, of the rows that have not left and of those that receivers hold.
    pub bytes: u64,
    /// Most batches that have waited for a credit in one channel after a turn.
    pub waiting_batches_max: u64,
}

impl Load {
    /// Of two outputs together.
    pub fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            waiting_batches_max: self.waiting_batches_max.max(other.waiting_batches_max),
        }
    }
}

/// The sending end of one channel.
pub struct Channel<T> {
    plan: ChannelPlan,
    is_local: bool,
    open: Vec<Row<T>>,
    /// What the strings and vectors of the open rows take in their frame.
    open_parts_bytes: usize,
    queue: VecDeque<Queued<T>>,
    sealed_batch_count: usize,
    sealed_batch_count_max: usize,
    credits: u32,
    /// Bytes of the batches that the receiver holds, in the order in which they left and come back.
    in_flight_bytes: VecDeque<usize>,
    /// Emptied vectors for reuse.
    spare: Vec<Vec<Row<T>>>,
    /// The end has been appended.
    has_ended: bool,
}

impl<T: Record> Channel<T> {
    /// Rows of a full batch. Those of plain records are all of one size.
    const ROWS_MAX: usize = {
        let fitting = (FRAME_BYTES - frame_bytes::<T>(0, 0))
            / (frame_bytes::<T>(0, 1) - frame_bytes::<T>(0, 0));
        match is_plain::<T>() {
            true if fitting == 0 => 1,
            true if fitting < BATCH_ROWS_MAX => fitting,
            _ => BATCH_ROWS_MAX,
        }
    };

    /// The end of `plan` on shard `own_shard`.
    pub fn new(plan: ChannelPlan, own_shard: u32) -> Self {
        Self {
            plan,
            is_local: plan.peer_shard == own_shard,
            open: Vec::with_capacity(Self::ROWS_MAX),
            open_parts_bytes: 0,
            queue: VecDeque::new(),
            sealed_batch_count: 0,
            sealed_batch_count_max: 0,
            credits: CHANNEL_CREDIT_FRAMES,
            in_flight_bytes: VecDeque::with_capacity(CHANNEL_CREDIT_FRAMES as usize),
            spare: Vec::new(),
            has_ended: false,
        }
    }

    /// What both ends know of it.
    pub fn plan(&self) -> &ChannelPlan {
        &self.plan
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
    ///
    /// # Errors
    /// Why the row cannot leave; it is gone, and the channel is as it was.
    #[inline]
    pub fn push(&mut self, row: Row<T>, arena: &mut Arena) -> Result<bool, ArchiveError> {
        self.make_room(&row, arena)?;
        self.open.push(row);
        if self.open.len() == Self::ROWS_MAX {
            self.seal();
        }
        Ok(self.is_full())
    }

    /// Sees to it that `row` fits into the frame of the open rows. Nothing has to be done for plain
    /// records; strings and vectors are looked at, and not copied.
    #[inline]
    fn make_room(&mut self, row: &Row<T>, arena: &mut Arena) -> Result<(), ArchiveError> {
        if is_plain::<T>() {
            let needed_bytes = frame_bytes::<T>(0, 1);
            let fits = needed_bytes <= ROW_BYTES_MAX;
            return if fits { Ok(()) } else { Err(ArchiveError::Overflow { needed_bytes }) };
        }
        match T::measure(row, self.open_parts_bytes, FRAME_BYTES, arena) {
            Ok(end) if frame_bytes::<T>(end, self.open.len() + 1) <= FRAME_BYTES => {
                self.open_parts_bytes = end;
                Ok(())
            }
            _ => self.begin_with(row, arena),
        }
    }

    /// Begins the next batch with `row`, which does not fit beside the open rows.
    #[cold]
    fn begin_with(&mut self, row: &Row<T>, arena: &mut Arena) -> Result<(), ArchiveError> {
        let end = T::measure(row, 0, ROW_BYTES_MAX, arena)?;
        let needed_bytes = frame_bytes::<T>(end, 1);
        if ROW_BYTES_MAX < needed_bytes {
            return Err(ArchiveError::Overflow { needed_bytes });
        }
        self.seal();
        self.open_parts_bytes = end;
        Ok(())
    }

    /// Whether a batch waits for a credit: nothing more should be pushed.
    pub fn is_full(&self) -> bool {
        self.credits as usize <= self.sealed_batch_count && self.sealed_batch_count > 0
    }

    /// Appends a control element behind all rows pushed so far; but [`Control::Active`] goes ahead
    /// of all rows since the channel fell idle, so that the receiver waits for the rest of them. A
    /// barrier goes ahead of the end, and if that has left nobody waits for the barrier.
    pub fn control(&mut self, control: Control) {
        if control == Control::Active {
            self.activate();
            return;
        }
        self.seal();
        if self.has_ended {
            assert!(matches!(control, Control::Barrier(_)), "{control:?} behind the end");
            if let Some(end) = self.queue.pop_back() {
                self.queue.extend([Queued::Control(control), end]);
            }
            return;
        }
        self.has_ended = control == Control::EndOfStream;
        let last = self.queue.iter().rev().map(|queued| match queued {
            Queued::Control(control) => Some(*control),
            Queued::Batch { .. } => None,
        });
        match control.superseded(last) {
            Some(back) => {
                let index = self.queue.len() - 1 - back;
                self.queue[index] = Queued::Control(control);
            }
            None => self.queue.push_back(Queued::Control(control)),
        }
    }

    fn activate(&mut self) {
        let active = Queued::Control(Control::Active);
        let is_idle = |queued: &Queued<T>| matches!(queued, Queued::Control(Control::Idle));
        match self.queue.iter().rposition(is_idle) {
            Some(index) => self.queue[index] = active,
            None => self.queue.push_front(active),
        }
    }

    /// Sends what may be sent.
    pub fn flush(&mut self, outbox: &mut Outbox) {
        if self.sealed_batch_count < self.credits as usize {
            self.seal();
        }
        while let Some(next) = self.queue.pop_front() {
            match next {
                Queued::Control(control) => self.send_control(control, outbox),
                waiting @ Queued::Batch { .. } if self.credits == 0 => {
                    self.queue.push_front(waiting);
                    break;
                }
                Queued::Batch { rows, bytes } => {
                    self.credits -= 1;
                    self.sealed_batch_count -= 1;
                    self.in_flight_bytes.push_back(bytes);
                    if self.is_local {
                        let batch = Batch::of_rows(rows);
                        outbox.local.push((self.plan.channel, Element::Batch(batch)));
                    } else {
                        self.send_frame(rows, bytes, outbox);
                    }
                }
            }
        }
        self.sealed_batch_count_max = self.sealed_batch_count_max.max(self.sealed_batch_count);
    }

    /// Whether everything pushed has left.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.queue.is_empty()
    }

    /// Rows that have not left.
    pub fn queued_row_count(&self) -> usize {
        let sealed = self.queue.iter().map(|queued| match queued {
            Queued::Batch { rows, .. } => rows.len(),
            Queued::Control(_) => 0,
        });
        self.open.len() + sealed.sum::<usize>()
    }

    /// What it keeps in memory.
    pub fn load(&self) -> Load {
        let sealed = self.queue.iter().map(|queued| match queued {
            Queued::Batch { bytes, .. } => *bytes,
            Queued::Control(_) => 0,
        });
        let open = match self.open.len() {
            0 => 0,
            row_count => frame_bytes::<T>(self.open_parts_bytes, row_count),
        };
        let in_flight: usize = self.in_flight_bytes.iter().sum();
        Load {
            bytes: (open + sealed.sum::<usize>() + in_flight) as u64,
            waiting_batches_max: self.sealed_batch_count_max as u64,
        }
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
        self.in_flight_bytes.pop_front();
        match returned {
            Returned::Rows(rows) => {
                let rows = rows.downcast::<Vec<Row<T>>>().expect("a channel has one record type");
                // Rows left in it would come before the next ones, a second time.
                assert!(rows.is_empty(), "a batch was given back with rows in it");
                self.keep(*rows);
            }
            Returned::Buffer(buffer) if buffer.is_heap() => {}
            Returned::Buffer(buffer) => slab.put(buffer),
        }
    }

    fn seal(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let next = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(Self::ROWS_MAX));
        let rows = std::mem::replace(&mut self.open, next);
        let bytes = frame_bytes::<T>(std::mem::take(&mut self.open_parts_bytes), rows.len());
        self.queue.push_back(Queued::Batch { rows, bytes });
        self.sealed_batch_count += 1;
    }

    fn keep(&mut self, emptied: Vec<Row<T>>) {
        if self.spare.len() < SPARE_COUNT_MAX {
            self.spare.push(emptied);
        }
    }

    /// Archives `rows`, which take `bytes`.
    fn send_frame(&mut self, mut rows: Vec<Row<T>>, bytes: usize, outbox: &mut Outbox) {
        let buffer = if bytes <= FRAME_BYTES {
            outbox.slab.take().expect("a credit stands for a buffer of the slab")
        } else {
            Buffer::heap(bytes)
        };
        let frame = match Frame::encode(&rows, buffer) {
            Ok(frame) => frame,
            // They were measured when they came.
            Err((error, _)) => panic!(
                "two archives of one {} differ in size, its `Serialize` is at fault: {error}",
                std::any::type_name::<T>()
            ),
        };
        debug_assert_eq!(frame.size_bytes(), bytes, "measured wrongly");
        rows.clear();
        self.keep(rows);
        let descriptor = Descriptor::Frame { channel: self.plan.channel, frame };
        outbox.remote.push((self.plan.peer_shard, descriptor));
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

mod overtaking;
#[cfg(test)]
mod tests;
