//! Ranges of hashes and of stored keys.

use super::entry::HASH_END;

/// Hashes from `first` to `last`, both included: what an owner of key groups may see of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashRange {
    /// Smallest hash.
    pub first: u64,
    /// Largest hash.
    pub last: u64,
}

impl HashRange {
    /// All hashes.
    pub const ALL: Self = Self { first: 0, last: u64::MAX };

    /// Whether `hash` is in it.
    pub fn contains(self, hash: u64) -> bool {
        self.first <= hash && hash <= self.last
    }

    /// The key groups, of `count`, that have hashes in it: first and last.
    pub(super) fn key_groups(self, count: u32) -> (u16, u16) {
        let key_group = |hash| key_group_of_hash(hash, count);
        (key_group(self.first), key_group(self.last))
    }
}

/// The key group of `hash` among `count`: monotone in the hash.
pub(super) fn key_group_of_hash(hash: u64, count: u32) -> u16 {
    ((u128::from(hash) * u128::from(count)) >> 64) as u16
}

/// A range of stored keys, or of anything that they begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// No key is smaller.
    pub(super) from: Vec<u8>,
    /// All keys are smaller; `None`: no bound.
    pub(super) to: Option<Vec<u8>>,
    /// The only hash of the range, if it was made of a prefix that has one.
    pub(super) hash: Option<u64>,
}

impl KeyRange {
    /// All keys.
    pub fn all() -> Self {
        Self::between(Vec::new(), None)
    }

    /// Keys that are not smaller than `from`, and smaller than `to` if there is one.
    pub fn between(from: Vec<u8>, to: Option<Vec<u8>>) -> Self {
        Self { from, to, hash: None }
    }

    /// Keys that begin with `prefix`: a key group, a state of it, a window, all entries of a map.
    pub fn prefix(prefix: &[u8]) -> Self {
        let to = prefix.iter().rposition(|byte| *byte != u8::MAX).map(|last| {
            let mut to = prefix[..=last].to_vec();
            to[last] += 1;
            to
        });
        let hash = (HASH_END <= prefix.len()).then(|| super::entry::hash_of(prefix));
        Self { from: prefix.to_vec(), to, hash }
    }

    /// Whether `key` is smaller than the upper bound.
    pub(super) fn ends_after(&self, key: &[u8]) -> bool {
        self.to.as_ref().is_none_or(|to| key < to.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_prefix_covers_what_begins_with_it(
            prefix in prop::collection::vec(prop_oneof![Just(0), Just(255), any::<u8>()], 0..4),
            key in prop::collection::vec(prop_oneof![Just(0), Just(255), any::<u8>()], 0..6),
        ) {
            let range = KeyRange::prefix(&prefix);
            let covered = range.from <= key && range.ends_after(&key);
            prop_assert_eq!(covered, key.starts_with(&prefix));
        }

        #[test]
        fn key_groups_of_a_range_cover_its_hashes(a: u64, b: u64, c: u64, count in 1_u32..=32_768) {
            let range = HashRange { first: a.min(b), last: a.max(b) };
            let (first, last) = range.key_groups(count);
            let key_group = key_group_of_hash(c, count);
            prop_assert!(u32::from(key_group) < count);
            prop_assert!(!range.contains(c) || (first <= key_group && key_group <= last));
        }
    }
}
