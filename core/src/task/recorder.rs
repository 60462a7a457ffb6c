//! What an unaligned checkpoint keeps of a task's channels: everything before the barrier that the
//! task had not taken when it cut.
//!
//! ```text
//! channel 0   r1 r2 B7 r3        its barrier was here: r1 and r2 are kept
//! channel 1   r4 r5              it was not: r4 and r5 are kept,
//!                  r6 B7 r7      and r6, which comes before the barrier does
//!             ▲ cut of 7
//! ```
//!
//! Several checkpoints may be recorded at a time: what arrives in a channel belongs to each of them
//! whose barrier has not come there. The task's part of a checkpoint is complete when the barrier
//! has come on all channels, or their end; barriers overtake what would hold them up, so that is
//! soon.
//!
//! Invariant: barriers of one channel come in the order of their checkpoints.
//! Not here: why a row is in exactly one place (`exchange/channel/overtaking.rs`).

use std::collections::VecDeque;

use crate::data::element::{Batch, CheckpointId};

/// The checkpoints that are being recorded, in order.
#[derive(Debug, Default)]
pub struct Recorder {
    recordings: VecDeque<Recording>,
}

/// What one checkpoint keeps.
#[derive(Debug)]
pub struct Recording {
    checkpoint: CheckpointId,
    /// By channel.
    channels: Vec<Recorded>,
}

/// What it keeps of a channel.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// Archives of batches.
    pub frames: Vec<Vec<u8>>,
    /// The barrier has not come.
    pub is_expecting: bool,
}

impl Recording {
    /// Of `checkpoint`: `channels` have what is there now.
    pub fn new(checkpoint: CheckpointId, channels: Vec<Recorded>) -> Self {
        Self { checkpoint, channels }
    }

    fn is_complete(&self) -> bool {
        !self.channels.iter().any(|channel| channel.is_expecting)
    }
}

impl Recorder {
    /// A checkpoint is cut.
    ///
    /// # Panics
    /// If a later one was cut before.
    pub fn begin(&mut self, recording: Recording) {
        let before = self.recordings.back().map(|last| last.checkpoint);
        assert!(before < Some(recording.checkpoint), "checkpoints are cut in their order");
        self.recordings.push_back(recording);
    }

    /// A batch arrived in `channel`.
    pub fn on_batch(&mut self, channel: usize, batch: &Batch) {
        let mut expecting = self.expecting(channel).peekable();
        if expecting.peek().is_some() {
            let bytes = batch.archive();
            expecting.for_each(|recorded| recorded.frames.push(bytes.clone()));
        }
    }

    /// The barrier of `checkpoint` came on `channel`. Whether it was cut before.
    pub fn on_barrier(&mut self, channel: usize, checkpoint: CheckpointId) -> bool {
        let mut recordings = self.recordings.iter_mut();
        let recording = recordings.find(|recording| recording.checkpoint == checkpoint);
        recording.is_some_and(|it| std::mem::take(&mut it.channels[channel].is_expecting))
    }

    /// Nothing will follow in `channel`.
    pub fn on_end(&mut self, channel: usize) {
        self.expecting(channel).for_each(|recorded| recorded.is_expecting = false);
    }

    /// Whether `checkpoint` has everything; so has one that is not recorded.
    pub fn is_complete(&self, checkpoint: CheckpointId) -> bool {
        let mut recordings = self.recordings.iter();
        recordings.find(|it| it.checkpoint == checkpoint).is_none_or(Recording::is_complete)
    }

    /// What was kept for `checkpoint`, by channel. It is complete, and so are those before it.
    pub fn take(&mut self, checkpoint: CheckpointId) -> Option<Vec<Recorded>> {
        let recording = self.recordings.pop_front_if(|it| it.checkpoint == checkpoint)?;
        assert!(recording.is_complete(), "a part is taken when it is complete");
        Some(recording.channels)
    }

    fn expecting(&mut self, channel: usize) -> impl Iterator<Item = &mut Recorded> {
        let of_channel = self.recordings.iter_mut().map(move |it| &mut it.channels[channel]);
        of_channel.filter(|recorded| recorded.is_expecting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::row::Row;

    fn batch(value: u64) -> Batch {
        Batch::of_rows(vec![Row::from(value)])
    }

    fn recording(checkpoint: u64, expecting: &[bool]) -> Recording {
        let channel =
            |is_expecting: &bool| Recorded { frames: Vec::new(), is_expecting: *is_expecting };
        Recording::new(CheckpointId(checkpoint), expecting.iter().map(channel).collect())
    }

    fn taken(recorder: &mut Recorder, checkpoint: u64) -> Vec<Vec<Vec<u8>>> {
        let channels = recorder.take(CheckpointId(checkpoint)).expect("it was recorded");
        channels.into_iter().map(|recorded| recorded.frames).collect()
    }

    #[test]
    fn what_comes_before_a_barrier_belongs_to_every_checkpoint_that_expects_it() {
        let bytes = |value| batch(value).archive();
        let mut recorder = Recorder::default();
        recorder.begin(recording(7, &[false, true]));
        recorder.on_batch(0, &batch(1));
        recorder.on_batch(1, &batch(2));
        recorder.begin(recording(8, &[true, true]));
        recorder.on_batch(0, &batch(3));
        recorder.on_batch(1, &batch(4));
        assert!(!recorder.on_barrier(0, CheckpointId(7)), "it had come");
        assert!(recorder.on_barrier(1, CheckpointId(7)));
        assert!(recorder.is_complete(CheckpointId(7)) && !recorder.is_complete(CheckpointId(8)));
        recorder.on_batch(1, &batch(5));
        recorder.on_end(0);
        assert!(recorder.on_barrier(1, CheckpointId(8)));
        recorder.on_batch(1, &batch(6));
        assert_eq!(taken(&mut recorder, 7), [vec![], vec![bytes(2), bytes(4)]]);
        assert_eq!(taken(&mut recorder, 8), [vec![bytes(3)], vec![bytes(4), bytes(5)]]);
    }

    #[test]
    fn what_is_not_recorded_is_complete() {
        let mut recorder = Recorder::default();
        assert!(recorder.is_complete(CheckpointId(7)));
        assert!(recorder.take(CheckpointId(7)).is_none());
        recorder.on_batch(0, &batch(1));
        assert!(!recorder.on_barrier(0, CheckpointId(7)));
    }
}
