//! Barrier alignment: how one task turns many barriers into one snapshot.
//!
//! A task may snapshot only once the barrier has arrived on every channel. Until then a channel
//! whose barrier has arrived is *blocked*: reading on would leak records from after the barrier
//! into the snapshot, and they would be applied twice on recovery.
//!
//! ```text
//! channel 0  ──r──r──B7─────────►   blocked from here ...
//! channel 1  ──r──r──r──r──B7───►   ... to here: aligned, every channel is open again
//! ```
//!
//! A channel that has ended counts as if it had delivered every barrier.
//!
//! Invariant: channels are FIFO and lossless, so two checkpoints never overlap here.
//! Not here: polling channels (`channel_feed.rs`).

use crate::data::element::CheckpointId;

/// What a barrier led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Alignment {
    /// Others are missing.
    Incomplete,
    /// This was the last; the snapshot of this checkpoint is due now.
    Aligned(CheckpointId),
}

/// The alignment of one task.
#[derive(Debug)]
pub struct Aligner {
    channels: Vec<State>,
    checkpoint: Option<CheckpointId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Blocked,
    Ended,
}

impl Aligner {
    /// For `channel_count` channels.
    pub fn new(channel_count: usize) -> Self {
        Self { channels: vec![State::Open; channel_count], checkpoint: None }
    }

    /// Whether `channel` must not be read.
    #[inline]
    pub fn is_blocked(&self, channel: usize) -> bool {
        self.channels[channel] == State::Blocked
    }

    /// `channel` delivered the barrier of `checkpoint`.
    ///
    /// # Panics
    /// If the channel is blocked or has ended, or another checkpoint is being aligned.
    pub fn on_barrier(&mut self, channel: usize, checkpoint: CheckpointId) -> Alignment {
        assert_eq!(self.channels[channel], State::Open, "read past the barrier on {channel}");
        let aligning = *self.checkpoint.get_or_insert(checkpoint);
        assert_eq!(checkpoint, aligning, "checkpoints overlap");
        self.channels[channel] = State::Blocked;
        self.complete()
    }

    /// `channel` will deliver nothing more.
    pub fn on_end(&mut self, channel: usize) -> Alignment {
        assert_eq!(self.channels[channel], State::Open, "read past the barrier on {channel}");
        self.channels[channel] = State::Ended;
        self.complete()
    }

    fn complete(&mut self) -> Alignment {
        let is_missing = self.channels.contains(&State::Open);
        match self.checkpoint {
            Some(checkpoint) if !is_missing => {
                self.checkpoint = None;
                for state in &mut self.channels {
                    if *state == State::Blocked {
                        *state = State::Open;
                    }
                }
                Alignment::Aligned(checkpoint)
            }
            _ => Alignment::Incomplete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `script`: `2b7` is barrier 7 on channel 2, `1e` the end of channel 1.
    fn check(channel_count: usize, script: &str, expected: &str) {
        let mut aligner = Aligner::new(channel_count);
        let step = |step: &str| {
            let channel = step[..1].parse().expect("a digit");
            let alignment = match &step[1..2] {
                "b" => {
                    let checkpoint = CheckpointId(step[2..].parse().expect("a number"));
                    aligner.on_barrier(channel, checkpoint)
                }
                _ => aligner.on_end(channel),
            };
            match alignment {
                Alignment::Incomplete => "-".to_string(),
                Alignment::Aligned(CheckpointId(id)) => format!("aligned{id}"),
            }
        };
        let steps: Vec<_> = script.split(' ').map(step).collect();
        assert_eq!(steps.join(" "), expected);
    }

    #[test]
    fn last_channel_completes_alignment() {
        check(3, "2b7 0b7 1b7", "- - aligned7");
    }

    #[test]
    fn channels_reopen_after_alignment() {
        check(2, "0b7 1b7 1b8 0b8", "- aligned7 - aligned8");
    }

    #[test]
    fn an_ended_channel_is_not_waited_for() {
        check(2, "0e 1b7 1b8", "- aligned7 aligned8");
    }

    #[test]
    fn an_end_may_complete_alignment() {
        check(2, "0b7 1e", "- aligned7");
    }

    #[test]
    #[should_panic(expected = "read past the barrier")]
    fn a_blocked_channel_is_not_read() {
        let mut aligner = Aligner::new(2);
        let _ = aligner.on_barrier(0, CheckpointId(7));
        let _ = aligner.on_barrier(0, CheckpointId(7));
    }
}
