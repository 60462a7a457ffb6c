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
//! A task that cuts *unaligned* does not wait: its snapshot keeps what comes from a channel before
//! the barrier does (`recorder.rs`), every channel is open again at once, and barriers of that
//! checkpoint that are still to come are none of the aligner's.
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
    last_aligned: CheckpointId,
}

/// How a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It may be read.
    Open,
    /// It has delivered the barrier that others have not.
    Blocked,
    /// It has delivered everything.
    Ended,
}

impl Aligner {
    /// For `channel_count` channels.
    pub fn new(channel_count: usize) -> Self {
        let channels = vec![State::Open; channel_count];
        Self { channels, checkpoint: None, last_aligned: CheckpointId::default() }
    }

    /// Whether `channel` must not be read.
    #[inline]
    pub fn is_blocked(&self, channel: usize) -> bool {
        self.channels[channel] == State::Blocked
    }

    /// How `channel` stands.
    pub fn state(&self, channel: usize) -> State {
        self.channels[channel]
    }

    /// Whether a barrier has come, and not all.
    pub fn is_aligning(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// Whether the barrier of `checkpoint` has come on every channel.
    pub fn has_aligned(&self, checkpoint: CheckpointId) -> bool {
        checkpoint <= self.last_aligned
    }

    /// `checkpoint` is cut, though its barrier is missing on some channels.
    ///
    /// # Panics
    /// If another checkpoint is being aligned.
    pub fn cut(&mut self, checkpoint: CheckpointId) {
        let aligning = self.checkpoint.take();
        assert!(aligning.is_none_or(|aligning| aligning == checkpoint), "checkpoints overlap");
        self.reopen();
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
                self.last_aligned = checkpoint;
                self.reopen();
                Alignment::Aligned(checkpoint)
            }
            _ => Alignment::Incomplete,
        }
    }

    fn reopen(&mut self) {
        for state in &mut self.channels {
            if *state == State::Blocked {
                *state = State::Open;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `script`: `2b7` is barrier 7 on channel 2, `1e` the end of channel 1, `-c7` the cut.
    fn check(channel_count: usize, script: &str, expected: &str) {
        let mut aligner = Aligner::new(channel_count);
        let step = |step: &str| {
            if let Some(checkpoint) = step.strip_prefix("-c") {
                aligner.cut(CheckpointId(checkpoint.parse().expect("a number")));
                return "cut".to_string();
            }
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
    fn a_cut_does_not_wait_and_opens_every_channel() {
        check(2, "0b7 -c7 0b8 1b8", "- cut - aligned8");
        check(3, "0e 1b7 -c7 -c8 1b9 2b9", "- - cut cut - aligned9");
    }

    #[test]
    #[should_panic(expected = "read past the barrier")]
    fn a_blocked_channel_is_not_read() {
        let mut aligner = Aligner::new(2);
        let _ = aligner.on_barrier(0, CheckpointId(7));
        let _ = aligner.on_barrier(0, CheckpointId(7));
    }
}
