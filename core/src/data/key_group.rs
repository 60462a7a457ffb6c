//! Key groups, and the contiguous ranges of them that shards own.
//!
//! ```text
//! hash64      0 ─────────────────────────────────────────────────────────── 2^64
//! key group   │ 0 │ 1 │ 2 │ 3 │ 4 │ 5 │ 6 │ 7 │            count = 8
//! shard       │     0     │     1     │   2   │            3 shards
//! ```
//!
//! `key group = (hash64 × count) >> 64` is monotone in the hash: a range of key groups is a range
//! of hashes, and multiplying the count refines every group without moving a key out of its range.
//!
//! Invariant: every hash has exactly one owner, owners are ordered as hashes are, and no two shards
//! differ by more than one key group.

use std::ops::Range;

use crate::limits::KEY_GROUP_COUNT_MAX;

/// One unit of keyed state, `0..count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyGroup(pub u16);

/// How many key groups a job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyGroupCount(u32);

impl KeyGroupCount {
    /// `count` key groups, or `None` if that is 0 or beyond [`KEY_GROUP_COUNT_MAX`].
    pub fn new(count: u32) -> Option<Self> {
        (1..=KEY_GROUP_COUNT_MAX).contains(&count).then_some(Self(count))
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The key group of a hash.
    #[inline]
    pub fn of(self, hash64: u64) -> KeyGroup {
        KeyGroup(((u128::from(hash64) * u128::from(self.0)) >> 64) as u16)
    }

    /// The task, of `parallelism`, that owns a key group.
    ///
    /// # Panics
    /// If there are more tasks than key groups, which the plan refuses, or no such key group.
    #[inline]
    pub fn task_index(self, key_group: KeyGroup, parallelism: u32) -> u32 {
        assert!(0 < parallelism && parallelism <= self.0, "{parallelism} tasks, {} groups", self.0);
        assert!(u32::from(key_group.0) < self.0, "key group {} of {}", key_group.0, self.0);
        u32::from(key_group.0) * parallelism / self.0
    }

    /// The key groups that task `task_index` of `parallelism` owns.
    ///
    /// # Panics
    /// As [`KeyGroupCount::task_index`].
    pub fn range(self, task_index: u32, parallelism: u32) -> Range<u32> {
        assert!(task_index < parallelism && parallelism <= self.0);
        let start = |index: u32| (index * self.0).div_ceil(parallelism);
        start(task_index)..start(task_index + 1)
    }

    /// The hashes whose key group is in `key_groups`.
    ///
    /// # Panics
    /// If the range is empty or goes beyond the last key group.
    pub fn hashes(self, key_groups: Range<u32>) -> HashRange {
        assert!(key_groups.start < key_groups.end && key_groups.end <= self.0, "{key_groups:?}");
        let first = |group: u32| (u128::from(group) << 64).div_ceil(u128::from(self.0));
        let end = first(key_groups.end);
        HashRange { first: first(key_groups.start) as u64, last: (end - 1) as u64 }
    }
}

/// A contiguous, never empty range of hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashRange {
    /// The smallest.
    pub first: u64,
    /// The largest; it belongs to the range.
    pub last: u64,
}

impl HashRange {
    /// Every hash there is.
    pub const ALL: Self = Self { first: 0, last: u64::MAX };

    /// Whether `hash64` is one of them.
    #[inline]
    pub fn contains(self, hash64: u64) -> bool {
        self.first <= hash64 && hash64 <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ends_of_the_hash_space_are_the_first_and_last_group() {
        let count = KeyGroupCount::new(1024).expect("in range");
        assert_eq!(count.of(0), KeyGroup(0));
        assert_eq!(count.of(u64::MAX), KeyGroup(1023));
    }

    #[test]
    fn none_and_too_many_are_refused() {
        assert_eq!(KeyGroupCount::new(0), None);
        assert_eq!(KeyGroupCount::new(KEY_GROUP_COUNT_MAX + 1), None);
    }

    proptest! {
        /// Every key group has the owner whose range holds it, ranges are in task order without
        /// gaps, and no two differ by more than one.
        #[test]
        fn ranges_partition_the_key_groups(count in 1_u32..=4096, parallelism in 1_u32..=300) {
            prop_assume!(parallelism <= count);
            let groups = KeyGroupCount::new(count).expect("in range");
            let ranges: Vec<_> = (0..parallelism).map(|i| groups.range(i, parallelism)).collect();
            let mut next = 0;
            for (index, range) in ranges.iter().enumerate() {
                prop_assert_eq!(range.start, next);
                next = range.end;
                for group in range.clone() {
                    let owner = groups.task_index(KeyGroup(group as u16), parallelism);
                    prop_assert_eq!(owner, index as u32);
                }
            }
            prop_assert_eq!(next, count);
            let sizes = ranges.iter().map(|r| r.end - r.start);
            prop_assert!(sizes.clone().max().unwrap_or(0) - sizes.min().unwrap_or(0) <= 1);
        }

        /// A range of key groups is exactly a range of hashes.
        #[test]
        fn key_groups_are_hash_ranges(
            count in 1_u32..=4096, start in 0_u32..4096, len in 1_u32..64, hash in any::<u64>(),
        ) {
            prop_assume!(start < count);
            let groups = KeyGroupCount::new(count).expect("in range");
            let range = start..(start + len).min(count);
            let hashes = groups.hashes(range.clone());
            for hash in [hash, hashes.first, hashes.last] {
                let inside = range.contains(&u32::from(groups.of(hash).0));
                prop_assert_eq!(hashes.contains(hash), inside);
            }
            prop_assert!(hashes.contains(hashes.first) && hashes.contains(hashes.last));
            prop_assert!(hashes.first == 0 || !hashes.contains(hashes.first - 1));
            prop_assert_eq!(u32::from(groups.of(hashes.first).0), range.start);
            prop_assert_eq!(u32::from(groups.of(hashes.last).0), range.end - 1);
        }

        /// Doubling the count splits groups; it never moves a key to another task's range of
        /// hashes.
        #[test]
        fn a_finer_count_keeps_the_order(hash in any::<u64>(), bits in 0_u32..14) {
            let coarse = KeyGroupCount::new(1 << bits).expect("in range");
            let fine = KeyGroupCount::new(1 << (bits + 1)).expect("in range");
            prop_assert_eq!(coarse.of(hash).0, fine.of(hash).0 / 2);
        }
    }
}
