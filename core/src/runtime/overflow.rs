//! What a shard has for another one whose ring is full, in order.
//!
//! Frames and credits are bounded by credits. Control elements need none, so a watermark or a state
//! of a channel takes the place of the one that waits already, if no row or barrier of the channel
//! stands between them: a shard that does not read costs its peers no memory.

use std::collections::{BTreeMap, VecDeque};

use crate::data::element::Control;
use crate::exchange::descriptor::Descriptor;
use crate::graph::plan::ChannelId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    queue: VecDeque<Descriptor>,
    /// How many have left.
    left_count: u64,
    /// Which of all there ever were says how a channel stands: its watermark, or its state.
    last: BTreeMap<(ChannelId, Kind), u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Watermark,
    State,
}

impl Overflow {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends `descriptor`.
    pub(super) fn push(&mut self, descriptor: Descriptor) {
        match descriptor {
            Descriptor::Control { channel, control } if control.is_state() => {
                let is_watermark = matches!(control, Control::Watermark(_));
                let kind = if is_watermark { Kind::Watermark } else { Kind::State };
                let end = self.left_count + self.queue.len() as u64;
                let place = self.last.entry((channel, kind)).or_insert(end);
                if self.left_count <= *place && *place < end {
                    self.queue[(*place - self.left_count) as usize] = descriptor;
                    return;
                }
                *place = end;
            }
            Descriptor::Control { channel, .. } | Descriptor::Frame { channel, .. } => {
                self.last.remove(&(channel, Kind::Watermark));
                self.last.remove(&(channel, Kind::State));
            }
            Descriptor::Credit { .. } | Descriptor::SourceWatermark { .. } => {}
        }
        self.queue.push_back(descriptor);
    }

    /// Hands descriptors to `stage` until it gives one back.
    pub(super) fn drain(&mut self, mut stage: impl FnMut(Descriptor) -> Result<(), Descriptor>) {
        while let Some(descriptor) = self.queue.pop_front() {
            if let Err(descriptor) = stage(descriptor) {
                self.queue.push_front(descriptor);
                return;
            }
            self.left_count += 1;
        }
        self.last.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::element::CheckpointId;

    /// Pushes words `7w10 7idle 7active 7b1` (channel, then what), and `.` to let one leave;
    /// answers what has left in the end.
    fn check(script: &str, expected: &str) {
        let mut overflow = Overflow::default();
        let mut seen = Vec::new();
        for word in script.split_whitespace() {
            if word == "." {
                let mut room = 1;
                overflow.drain(|descriptor| take(descriptor, &mut room, &mut seen));
                continue;
            }
            let (channel, rest) = word.split_at(1);
            let channel = ChannelId(channel.parse().expect("a digit"));
            let control = match rest.split_at(1) {
                ("w", ms) => Control::Watermark(ms.parse().expect("a number")),
                ("b", id) => Control::Barrier(CheckpointId(id.parse().expect("a number"))),
                ("i", _) => Control::Idle,
                _ => Control::Active,
            };
            overflow.push(Descriptor::Control { channel, control });
        }
        let mut room = u32::MAX;
        overflow.drain(|descriptor| take(descriptor, &mut room, &mut seen));
        assert!(overflow.is_empty() && overflow.last.is_empty());
        assert_eq!(seen.join(" "), expected, "of {script}");
    }

    fn take(
        descriptor: Descriptor,
        room: &mut u32,
        seen: &mut Vec<String>,
    ) -> Result<(), Descriptor> {
        let Descriptor::Control { channel: ChannelId(channel), control } = descriptor else {
            panic!("only control elements are pushed here")
        };
        if *room == 0 {
            return Err(descriptor);
        }
        *room -= 1;
        seen.push(match control {
            Control::Watermark(ms) => format!("{channel}w{ms}"),
            Control::Barrier(CheckpointId(id)) => format!("{channel}b{id}"),
            Control::Idle => format!("{channel}idle"),
            Control::Active => format!("{channel}active"),
            Control::EndOfStream => format!("{channel}end"),
        });
        Ok(())
    }

    #[test]
    fn the_latest_word_of_each_channel_takes_the_place_of_those_before() {
        check("1w1 2w5 1idle 1w2 1active 2w6 1w3", "1w3 2w6 1active");
    }

    #[test]
    fn nothing_moves_ahead_of_a_barrier() {
        check("1w1 1b7 1w2 1w3 2w1", "1w1 1b7 1w3 2w1");
    }

    #[test]
    fn what_has_left_is_not_changed() {
        check("1w1 1idle . 1w2 1w3 1active", "1w1 1active 1w3");
    }
}
