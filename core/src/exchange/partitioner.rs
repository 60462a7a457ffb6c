//! How a row finds its channel.
//!
//! The law of a partitioner: the channel depends on the row, on the number of channels, on the task
//! that sends, and on the rows before it in the same output, and on nothing else.

use crate::data::key_group::{KeyGroup, KeyGroupCount};
use crate::graph::plan::Partitioner;

/// The partitioner of one output of one task, for a known number of channels.
#[derive(Debug)]
pub enum TaskPartitioner {
    /// The one channel.
    Only,
    /// Every channel.
    All,
    /// One after the other.
    RoundRobin {
        /// Which is next.
        next: usize,
    },
    /// By the key group of the hash.
    KeyGroup {
        /// Channel of every key group.
        channels: Box<[u16]>,
        /// How many groups.
        count: KeyGroupCount,
    },
    /// By the number that an operator put in place of the hash.
    Direct,
}

impl TaskPartitioner {
    /// `partitioner` for `channel_count` channels of task `task_index`.
    ///
    /// # Panics
    /// If the plan is inconsistent: no channel, several for a forward edge, or more than there are
    /// key groups.
    pub fn new(
        partitioner: Partitioner,
        task_index: u32,
        channel_count: usize,
        count: KeyGroupCount,
    ) -> Self {
        assert!(0 < channel_count, "an output without channels");
        match partitioner {
            Partitioner::Forward | Partitioner::Global => {
                assert_eq!(channel_count, 1, "{partitioner:?} takes one channel");
                Self::Only
            }
            Partitioner::Broadcast => Self::All,
            _ if channel_count == 1 => Self::Only,
            // The first of its share is on its own shard.
            Partitioner::Rescale => Self::RoundRobin { next: 0 },
            // Senders of a few rows each do not all send them to the same receiver.
            Partitioner::Rebalance => {
                Self::RoundRobin { next: task_index as usize % channel_count }
            }
            Partitioner::Direct => Self::Direct,
            Partitioner::Hash => {
                let channel_count = u32::try_from(channel_count).expect("far fewer than 2^32");
                let channel_of = |group| count.task_index(KeyGroup(group), channel_count) as u16;
                let groups = 0..=(count.get() - 1) as u16;
                Self::KeyGroup { channels: groups.map(channel_of).collect(), count }
            }
        }
    }

    /// The channel, of `channel_count`, for a row with this hash; `None` means all of them.
    #[inline]
    pub fn pick(&mut self, hash64: u64, channel_count: usize) -> Option<usize> {
        match self {
            Self::Only => Some(0),
            Self::All => None,
            Self::RoundRobin { next } => {
                let index = *next;
                *next = if index + 1 == channel_count { 0 } else { index + 1 };
                Some(index)
            }
            Self::KeyGroup { channels, count } => {
                Some(usize::from(channels[usize::from(count.of(hash64).0)]))
            }
            Self::Direct => Some((hash64 % channel_count as u64) as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        (partitioner, task_index): (Partitioner, u32),
        channel_count: usize,
        hashes: &[u64],
        expected: &[usize],
    ) {
        let count = KeyGroupCount::new(8).expect("in range");
        let mut partitioner = TaskPartitioner::new(partitioner, task_index, channel_count, count);
        let indexes = hashes.iter().map(|hash| partitioner.pick(*hash, channel_count));
        assert_eq!(indexes.collect::<Option<Vec<_>>>().as_deref(), Some(expected));
    }

    #[test]
    fn hash_follows_the_key_group_ranges() {
        let group = |g: u64| g << 61;
        check(
            (Partitioner::Hash, 1),
            3,
            &[group(0), group(2), group(3), group(5), group(6), u64::MAX],
            &[0, 0, 1, 1, 2, 2],
        );
    }

    #[test]
    fn rebalance_takes_turns_and_begins_at_the_own_index() {
        check((Partitioner::Rebalance, 0), 3, &[0; 5], &[0, 1, 2, 0, 1]);
        check((Partitioner::Rebalance, 2), 3, &[0; 2], &[2, 0]);
        check((Partitioner::Rebalance, 4), 3, &[0; 2], &[1, 2]);
    }

    #[test]
    fn rescale_takes_turns_from_its_own_shard_on() {
        check((Partitioner::Rescale, 1), 3, &[0; 4], &[0, 1, 2, 0]);
        check((Partitioner::Rescale, 4), 1, &[0; 2], &[0, 0]);
    }

    #[test]
    fn direct_takes_the_number() {
        check((Partitioner::Direct, 1), 4, &[0, 3, 4, 9], &[0, 3, 0, 1]);
    }

    #[test]
    fn broadcast_means_all() {
        let count = KeyGroupCount::new(8).expect("in range");
        let mut all = TaskPartitioner::new(Partitioner::Broadcast, 0, 2, count);
        assert_eq!(all.pick(7, 2), None);
    }
}
