//! A barrier that overtakes the rows before it.
//!
//! ```text
//! queue, front first:   R1  W  R2  B7  R3     no credit for R1: the barrier would wait
//! overtaken:            B7  R1  W  R2  R3     it leaves at once, and checkpoint 7 has R1 and R2
//! ```
//!
//! Only what has not left is overtaken. What has left is with the receiver, or will be before the
//! barrier is: shards empty the rings between them whatever their tasks do. So a row that the
//! sender gave before it cut is in one of these places and in no other: in the receiver's state, if
//! it was taken before the receiver cut; among what the receiver keeps of the channel, if it
//! arrived before the barrier and was not taken; among what is kept here, if it arrives behind the
//! barrier. What the sender gives after its cut is behind the barrier in any case, and in none.
//!
//! Watermarks and idleness are not kept: whoever goes on from the checkpoint takes the rows that
//! were in flight before anything else, and hears of event time from the sources again, behind
//! them. So no row is late that was not.
//!
//! Not here: what receivers keep (`task/recorder.rs`).

use super::{Channel, Queued};
use crate::data::element::{CheckpointId, Control};
use crate::data::frame::Frame;
use crate::data::record::Record;

impl<T: Record> Channel<T> {
    /// Whether the barrier of `checkpoint` waits behind rows that it could overtake.
    pub fn holds_barrier(&self, checkpoint: CheckpointId) -> bool {
        self.plan.deal.is_some() && self.position_of(checkpoint).is_some()
    }

    /// Lets the barrier of `checkpoint` overtake the rows before it, which come back as frames.
    /// Those of earlier checkpoints have done so.
    pub fn overtake(&mut self, checkpoint: CheckpointId) -> Vec<Vec<u8>> {
        let index = self.position_of(checkpoint).filter(|_| self.plan.deal.is_some());
        let Some(index) = index else { return Vec::new() };
        let is_barrier =
            |queued: &Queued<T>| matches!(queued, Queued::Control(Control::Barrier(_)));
        let front = self.queue.range(..index).rposition(is_barrier).map_or(0, |at| at + 1);
        let overtaken = self.queue.range(..index).filter_map(|queued| match queued {
            Queued::Batch { rows, .. } => Some(Frame::of(rows).as_bytes().to_vec()),
            Queued::Control(_) => None,
        });
        let overtaken = overtaken.collect();
        let barrier = self.queue.remove(index).expect("it was found there");
        self.queue.insert(front, barrier);
        overtaken
    }

    fn position_of(&self, checkpoint: CheckpointId) -> Option<usize> {
        self.queue.iter().position(|queued| match queued {
            Queued::Control(Control::Barrier(other)) => *other == checkpoint,
            _ => false,
        })
    }
}
