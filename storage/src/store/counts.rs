//! What a store tells of itself, for metrics.

use super::Store;

/// How a store stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Bytes of the chunks that records and blocks have.
    pub memory_bytes: usize,
    /// Bytes of what is kept of tables: directories, indexes and filters.
    pub index_bytes: usize,
    /// Bytes of the records that changed and are not written.
    pub dirty_bytes: usize,
    /// Tables of the newest version; one in several bands counts in each.
    pub table_count: usize,
    /// About how many bytes they have.
    pub table_bytes: u64,
    /// Blocks that lookups have read from disk so far.
    pub read_count: u64,
    /// Deltas that were written so far.
    pub flush_count: u64,
    /// Merges that have succeeded so far.
    pub merge_count: u64,
}

impl Store {
    /// How it stands.
    pub fn counts(&self) -> StoreCounts {
        let tables = || self.versions.newest().bands().iter().flat_map(|band| &band.tables);
        StoreCounts {
            memory_bytes: self.budget.taken_bytes(),
            index_bytes: self.index_bytes(),
            dirty_bytes: self.buffer.dirty_bytes(),
            table_count: tables().count(),
            table_bytes: tables().map(|table| table.bytes).sum(),
            read_count: self.read_count,
            flush_count: self.installed_count,
            merge_count: self.merging.merged_count,
        }
    }
}
