//! How a row finds its channel.
//!
//! The law of a router: the channel depends on the row, on the number of channels, and on the rows
//! before it in the same output, and on nothing else.

use crate::data::key_group::{KeyGroup, KeyGroupCount};
use crate::graph::plan::Partitioner;

/// A partitioner for a known number of channels.
#[derive(Debug)]
pub enum Router {
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

impl Router {
    /// The router of `partitioner` for `channel_count` channels.
    ///
    /// # Panics
    /// If the plan is inconsistent: no channel, several for a forward edge, or more than there are
    /// key groups.
    pub fn new(partitioner: Partitioner, channel_count: usize, count: KeyGroupCount) -> Self {
        assert!(0 < channel_count, "an output without channels");
        match partitioner {
            Partitioner::Forward | Partitioner::Global => {
                assert_eq!(channel_count, 1, "{partitioner:?} takes one channel");
                Self::Only
            }
            Partitioner::Broadcast => Self::All,
            _ if channel_count == 1 => Self::Only,
            Partitioner::Rebalance => Self::RoundRobin { next: 0 },
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
    pub fn route(&mut self, hash64: u64, channel_count: usize) -> Option<usize> {
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

    fn check(partitioner: Partitioner, channel_count: usize, hashes: &[u64], expected: &[usize]) {
        let count = KeyGroupCount::new(8).expect("in range");
        let mut router = Router::new(partitioner, channel_count, count);
        let indexes = hashes.iter().map(|hash| router.route(*hash, channel_count));
        assert_eq!(indexes.collect::<Option<Vec<_>>>().as_deref(), Some(expected));
    }

    #[test]
    fn hash_follows_the_key_group_ranges() {
        let group = |g: u64| g << 61;
        check(
            Partitioner::Hash,
            3,
            &[group(0), group(2), group(3), group(5), group(6), u64::MAX],
            &[0, 0, 1, 1, 2, 2],
        );
    }

    #[test]
    fn rebalance_takes_turns() {
        check(Partitioner::Rebalance, 3, &[0; 5], &[0, 1, 2, 0, 1]);
    }

    #[test]
    fn direct_takes_the_number() {
        check(Partitioner::Direct, 4, &[0, 3, 4, 9], &[0, 3, 0, 1]);
    }

    #[test]
    fn broadcast_means_all() {
        let count = KeyGroupCount::new(8).expect("in range");
        assert_eq!(Router::new(Partitioner::Broadcast, 2, count).route(7, 2), None);
    }
}
