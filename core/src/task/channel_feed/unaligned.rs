//! Cuts that do not wait for barriers.
//!
//! As soon as the barrier has come in one channel the task may cut: what is before the barrier in
//! the others, or will be, is kept in the checkpoint (`Recorder`). The rows are taken afterwards
//! all the same, as rows of the next epoch.
//!
//! One kind of channel is waited for: those of rows that every task gets. Tasks that had taken
//! different ones of them could not go on together with keys dealt out anew.

use super::ChannelFeed;
use crate::data::element::CheckpointId;
use crate::state::snapshot::{Place, Run, RunTo, Snapshot};
use crate::task::align::State;
use crate::task::decode::Decoder;
use crate::task::incoming::EpochEnd;
use crate::task::recorder::{Recorded, Recording};

impl<D: Decoder> ChannelFeed<D> {
    /// Whether the barrier of `checkpoint`, which is the next to be cut, has come in some channel,
    /// or cannot come in any.
    pub(super) fn can_cut_unaligned(&self, checkpoint: CheckpointId) -> bool {
        if self.aligner.has_aligned(checkpoint) {
            return true;
        }
        let (mut has_come, mut may_come) = (false, false);
        for (index, channel) in self.channels.iter().enumerate() {
            match self.aligner.state(index) {
                State::Blocked => has_come = true,
                State::Ended => {}
                State::Open if channel.plan.deal.is_none() => return false,
                State::Open => match channel.end_of(checkpoint) {
                    Some((_, EpochEnd::Barrier)) => has_come = true,
                    Some((_, EpochEnd::EndOfStream)) => {}
                    None => may_come = true,
                },
            }
        }
        has_come || !may_come
    }

    pub(super) fn cut_unaligned(&mut self, checkpoint: CheckpointId, snapshot: &mut Snapshot) {
        self.replay.save(snapshot, &self.plan, &self.decoder);
        let aligner = &self.aligner;
        let channels = self.channels.iter_mut().enumerate();
        let recorded = channels.map(|(index, channel)| match aligner.state(index) {
            State::Open => channel.record(checkpoint),
            State::Blocked | State::Ended => Recorded::default(),
        });
        self.recorder.begin(Recording::new(checkpoint, recorded.collect()));
        self.aligner.cut(checkpoint);
    }

    /// What was kept for `checkpoint` goes into `snapshot`.
    pub(super) fn save_recorded(&mut self, checkpoint: CheckpointId, snapshot: &mut Snapshot) {
        for (channel, recorded) in
            self.channels.iter().zip(self.recorder.take(checkpoint).unwrap_or_default())
        {
            let Some(deal) = channel.plan.deal else { continue };
            let to = RunTo { uid: self.plan.uid.clone(), input: channel.input as u8 };
            let place = Place::Channel { channel: channel.plan.channel, is_queued: false };
            let layout = self.decoder.layout(channel.input);
            snapshot.put_in_flight(to, place, Run { deal, layout, frames: recorded.frames });
        }
    }
}
