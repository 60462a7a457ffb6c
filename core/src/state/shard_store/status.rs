//! What a shard's store tells of itself, for metrics.

use millstream_storage::store::StoreCounts;

use super::ShardStore;

/// How the store of a shard stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct StoreStatus {
    /// Bytes of keyed state that operators keep ready. *How much of the memory is in use?*
    pub working_bytes: u64,
    /// How much of it is too much. *Does state leave memory as fast as it grows?*
    pub excess_bytes: u64,
    /// Bytes of the chunks that records and blocks of the store have.
    pub memory_bytes: u64,
    /// Bytes of what is kept of tables to find what they have. *How much memory does state cost
    /// that is on disk?*
    pub index_bytes: u64,
    /// Bytes of records that are not written yet. *Does the disk keep up?*
    pub dirty_bytes: u64,
    /// 0: there is room; 1: what changed is being written; 2: nothing has room before that is done.
    pub pressure: u64,
    /// Tables on disk. *Do merges keep up?*
    pub table_count: u64,
    /// About how many bytes they have. *How much state is on disk?*
    pub table_bytes: u64,
    /// Blocks that were read for rows that waited. *Is there memory for what is worked with?*
    pub read_count: u64,
    /// Tables that were written with what had changed.
    pub flush_count: u64,
    /// Merges of tables.
    pub merge_count: u64,
}

impl ShardStore {
    /// How it stands.
    pub fn status(&self) -> StoreStatus {
        let inner = self.inner.borrow();
        let StoreCounts {
            memory_bytes,
            index_bytes,
            dirty_bytes,
            table_count,
            table_bytes,
            read_count,
            flush_count,
            merge_count,
        } = inner.store.counts();
        StoreStatus {
            working_bytes: self.working_bytes() as u64,
            excess_bytes: self.excess_bytes() as u64,
            memory_bytes: memory_bytes as u64,
            index_bytes: index_bytes as u64,
            dirty_bytes: dirty_bytes as u64,
            pressure: inner.store.pressure() as u64,
            table_count: table_count as u64,
            table_bytes,
            read_count,
            flush_count,
            merge_count,
        }
    }
}
