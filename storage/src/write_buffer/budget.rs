//! The memory of a shard's state: so many chunks, and never one more.
//!
//! Not here: what is done when it is used up. Whoever gets [`Full`] gives memory back, by eviction
//! or by a flush, or takes in less.

use super::pages::CHUNK_COUNT_MAX;
use crate::arena::{Buffer, CHUNK_BYTES, Slab};

/// Hands out chunks of [`CHUNK_BYTES`].
#[derive(Debug)]
pub struct Budget {
    chunks: Slab,
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
        Self { chunks: Slab::new(CHUNK_BYTES, (bytes / CHUNK_BYTES).min(CHUNK_COUNT_MAX - 1)) }
    }

    /// A chunk, all of it in use; its bytes are what they happen to be.
    ///
    /// # Errors
    /// [`Full`] if all chunks are taken.
    pub fn take(&mut self) -> Result<Buffer, Full> {
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
    }

    /// Chunks that are left.
    pub(super) fn left_count(&self) -> usize {
        self.chunks.available()
    }

    /// Chunks that are not for records, so that what finds records can become more: a sixteenth.
    pub(super) fn reserved_count(&self) -> usize {
        let count = self.chunks.buffer_count_max();
        (count / 16).max((count / 4).min(1))
    }

    /// Bytes of the chunks that are taken.
    pub fn taken_bytes(&self) -> usize {
        self.chunks.outstanding() * CHUNK_BYTES
    }

    /// Bytes of all chunks.
    pub fn total_bytes(&self) -> usize {
        self.chunks.buffer_count_max() * CHUNK_BYTES
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
}
