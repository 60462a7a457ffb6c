//! The keys of rows to come, so that their state can be on its way to the cache when they come.
//!
//! ```text
//! rows of a batch   │ being processed │      near       │       far       │ …
//! what is asked for │                 │ slots, by index │  lines of index │
//! ```
//!
//! A state is found in two steps that each miss the cache: the index names a slot, the slot holds
//! the key and its value. Looking two groups ahead, neither is waited for.

use crate::limits::PREFETCH_GROUP;

/// Key hashes of rows to come.
#[derive(Debug, Clone, Copy)]
pub struct Ahead<'a> {
    /// Of the next group: they were far the time before.
    pub near: &'a [u64],
    /// Of the group after it.
    pub far: &'a [u64],
}

/// At most [`PREFETCH_GROUP`] key hashes.
#[derive(Debug, Clone, Copy, Default)]
pub struct HashGroup {
    hashes: [u64; PREFETCH_GROUP],
    count: usize,
}

impl HashGroup {
    /// The first of `hashes`.
    #[inline]
    pub fn of(hashes: impl Iterator<Item = u64>) -> Self {
        let mut group = Self::default();
        hashes.take(PREFETCH_GROUP).for_each(|hash64| {
            group.hashes[group.count] = hash64;
            group.count += 1;
        });
        group
    }

    /// The hashes.
    #[inline]
    pub fn as_slice(&self) -> &[u64] {
        &self.hashes[..self.count]
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}
