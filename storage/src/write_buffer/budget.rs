//! The memory of a shard's state: so many chunks, and never one more.
//!
//! Some of them may be [deducted](Budget::deduct): their memory is for something else, and nobody
//! gets them. Those that are taken at that time are missing until as many were put back.
//!
//! Not here: what is done when it is used up. Whoever gets [`Full`] gives memory back, by eviction
//! or by a flush, or takes in less.

use super::pages::CHUNK_COUNT_MAX;
use crate::arena::{Buffer, CHUNK_BYTES, Slab};

/// Hands out chunks of [`CHUNK_BYTES`].
#[derive(Debug)]
pub struct Budget {
    chunks: Slab,
    /// How many of them nobody gets.
    deducted_count: usize,
}

/// No memory is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the memory for state is used up: flush and evict, or raise the memory per shard")]
pub struct Full;

/// Why a record is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no memory for it now.
    #[error(transparent)]
    Full(#[from] Full),
    /// With its key it would be larger than a chunk, and never has room.
    #[error("a record with its key would take more than {CHUNK_BYTES} bytes")]
    TooLarge,
}

impl Budget {
    /// As many chunks as fit into `bytes`, and 32 GiB less one chunk at most: that is what
    /// addresses tell apart. Asks the system for none of them yet.
    pub fn new(bytes: usize) -> Self {
        let count = (bytes / CHUNK_BYTES).min(CHUNK_COUNT_MAX - 1);
        Self { chunks: Slab::new(CHUNK_BYTES, count), deducted_count: 0 }
    }

    /// A chunk, all of it in use; its bytes are what they happen to be.
    ///
    /// # Errors
    /// [`Full`] if all chunks are taken.
    pub fn take(&mut self) -> Result<Buffer, Full> {
        if self.left_count() == 0 {
            return Err(Full);
        }
        let mut chunk = self.chunks.take().ok_or(Full)?;
        chunk.set_len(CHUNK_BYTES);
        Ok(chunk)
    }

    /// Takes a chunk back.
    ///
    /// # Panics
    /// If it is not of this budget.
    pub fn put(&mut self, chunk: Buffer) {
        self.chunks.put(chunk);
        self.give_back();
    }

    /// Lets `count` chunks, all at most, be for something else from now on. The memory of free
    /// chunks goes back to the system for it, and that of others as they are put.
    pub fn deduct(&mut self, count: usize) {
        self.deducted_count = count.min(self.chunks.buffer_count_max());
        self.give_back();
    }

    fn give_back(&mut self) {
        if 0 < self.deducted_count {
            self.chunks.discard_beyond(self.count());
        }
    }

    /// Chunks that are not deducted.
    fn count(&self) -> usize {
        self.chunks.buffer_count_max() - self.deducted_count
    }

    /// Bytes of the chunks that are taken beyond those that may be.
    pub fn overdrawn_bytes(&self) -> usize {
        self.chunks.outstanding().saturating_sub(self.count()) * CHUNK_BYTES
    }

    /// Chunks that are left.
    pub(super) fn left_count(&self) -> usize {
        self.count().saturating_sub(self.chunks.outstanding())
    }

    /// Chunks that are not for records, so that what finds records can become more: a sixteenth.
    pub(super) fn reserved_count(&self) -> usize {
        let count = self.count();
        (count / 16).max((count / 4).min(1))
    }

    /// Bytes of the chunks that are taken.
    pub fn taken_bytes(&self) -> usize {
        self.chunks.outstanding() * CHUNK_BYTES
    }

    /// Bytes of the chunks that are not taken and may be.
    pub fn left_bytes(&self) -> usize {
        self.left_count() * CHUNK_BYTES
    }

    /// Bytes of all chunks but those that are deducted.
    pub fn total_bytes(&self) -> usize {
        self.count() * CHUNK_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What no address could tell apart is not promised.
    #[test]
    fn there_are_no_more_chunks_than_addresses() {
        assert_eq!(Budget::new(64 << 30).total_bytes(), (32 << 30) - CHUNK_BYTES);
    }

    #[test]
    fn more_than_all_is_refused() {
        let mut budget = Budget::new(2 * CHUNK_BYTES + 1);
        assert_eq!(budget.total_bytes(), 2 * CHUNK_BYTES);
        let chunk = budget.take().expect("one of two");
        assert_eq!(chunk.len(), CHUNK_BYTES);
        let _other = budget.take().expect("two of two");
        assert_eq!(budget.take().err(), Some(Full));
        budget.put(chunk);
        assert_eq!(budget.taken_bytes(), CHUNK_BYTES);
        assert!(budget.take().is_ok());
    }

    #[test]
    fn what_is_deducted_is_missing_until_it_is_given_again() {
        let mut budget = Budget::new(3 * CHUNK_BYTES);
        let [mut first, second] = [(); 2].map(|()| budget.take().expect("two of three"));
        first.as_mut_slice().fill(1);
        budget.deduct(2);
        assert_eq!((budget.total_bytes(), budget.overdrawn_bytes()), (CHUNK_BYTES, CHUNK_BYTES));
        assert_eq!(budget.left_bytes(), 0);
        assert_eq!(budget.take().err(), Some(Full));
        budget.put(first);
        assert_eq!(budget.overdrawn_bytes(), 0);
        assert_eq!(budget.take().err(), Some(Full), "the other is all there may be");
        budget.put(second);
        budget.deduct(0);
        let chunks = [(); 3].map(|()| budget.take().expect("three again"));
        // What was given back to the system has no bytes of before.
        let with_old = chunks.iter().filter(|chunk| chunk.as_slice().contains(&1));
        assert_eq!(with_old.count(), 0);
    }
}
