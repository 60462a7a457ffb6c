//! What a store is told when it is made, and the errors that it tells.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::io::FileFault;
use crate::table::{self, HashRange, TableId};
use crate::write_buffer::Full;

pub use crate::manifest::TableRow;

/// What is the same for all the life of a store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Where its tables are, and those of no other store: what nothing names is removed from there.
    pub directory: PathBuf,
    /// The tables there that other manifests name, those of older checkpoints say: their files are
    /// left alone, whether the store has them or not, until they are
    /// [released](super::Store::release). More may be [retained](super::Store::retain).
    pub retained: BTreeSet<TableId>,
    /// The key groups that it has.
    pub key_groups: Range<u32>,
    /// Key groups of the job.
    pub key_group_count: u32,
    /// Its bands: ranges of whole key groups.
    pub bands: Vec<HashRange>,
    /// Bytes of memory, for records and blocks; from
    /// [`MEMORY_BYTES_MIN`](super::MEMORY_BYTES_MIN) to 32 GiB, whatever is said here.
    pub memory_bytes: usize,
    /// Bytes of memory beside these, for what is kept of tables: directories, indexes and filters.
    /// If they take more, `memory_bytes` is less. Filters have a third of it at most, those of
    /// bases a sixth.
    pub table_bytes: usize,
    /// Most chunks for blocks.
    pub cache_chunks_max: usize,
    /// The first id for a table; larger than those of all tables of the job so far. Files that are
    /// found in the directory make it larger still.
    pub next_table_id: u64,
    /// By state id, how the values of states with a time to live tell their time.
    pub times: BTreeMap<u16, TimeOf>,
}

impl StoreConfig {
    /// Checks that every hash of the store is in a band, and no key group is in two.
    pub(super) fn check_bands(&self) {
        let first_of = |key_group: u32| {
            (u128::from(key_group) << 64).div_ceil(u128::from(self.key_group_count))
        };
        let mut next = first_of(self.key_groups.start);
        for HashRange { first, last } in &self.bands {
            let end = u128::from(*last) + 1;
            let key_group = (end * u128::from(self.key_group_count)) >> 64;
            let is_whole = first_of(key_group as u32) == end;
            let follows = u128::from(*first) == next && is_whole;
            assert!(follows, "a band of {first:#x} to {last:#x} does not begin where one ended");
            next = end;
        }
        let are_all = next == first_of(self.key_groups.end);
        assert!(are_all, "the bands end before the key groups {:?}, or behind", self.key_groups);
    }

    pub(super) fn path(&self, table: TableId) -> PathBuf {
        self.directory.join(format!("{:016x}.table", table.0))
    }

    /// What a table is called before it is durable.
    pub(super) fn part_path(&self, table: TableId) -> PathBuf {
        self.path(table).with_extension("part")
    }

    /// `source`, of a file of this store.
    pub(super) fn unusable(&self, table: TableId, source: table::Error) -> Error {
        Error::Table { path: self.path(table), source }
    }
}

/// Finds in a value the time (ms) from which it lives.
pub type TimeOf = fn(&[u8]) -> i64;

/// Why the store does not do what it is asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// There is no memory for it now; nothing has changed. Flush, and ask again.
    #[error(transparent)]
    Full(#[from] Full),
    /// A record would be too large, which no flush changes; nothing has changed. It can still be
    /// removed, or be given another value.
    #[error(
        "a record of state {state_id} whose key takes {key_bytes} bytes would take more than \
         {limit_bytes} bytes with it: keep less under a key, or more keys"
    )]
    TooLarge {
        /// Of which state.
        state_id: u16,
        /// Bytes of key, namespace and map key, with their lengths.
        key_bytes: usize,
        /// Most bytes of a record.
        limit_bytes: usize,
    },
    /// A table could not be read.
    #[error("the state could not be read")]
    Read(#[source] Arc<FileFault>),
    /// A table is not what was written.
    #[error("the table {} is not usable", path.display())]
    Table {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it, and in which place.
        source: table::Error,
    },
    /// A table could not be made durable. Restore the state from the last checkpoint.
    #[error("the state could not be made durable: restart from the last checkpoint")]
    Failed(#[source] Arc<FileFault>),
}

/// What is kept of tables has no room any more, and nothing new is written before merges make some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "what has to be in memory of the tables of state takes {table_bytes} bytes, and there are \
     {limit_bytes}: give each shard more memory, or keep less state on it"
)]
pub struct Shortage {
    /// What directories, indexes and filters take.
    pub table_bytes: usize,
    /// What they may.
    pub limit_bytes: usize,
}

/// Why tables were not merged. They are as they were, and will be merged later.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MergeError {
    /// An input could not be read, or the merged table not be written or opened.
    #[error("tables could not be merged, and stay as they were")]
    File(#[source] Arc<FileFault>),
    /// An input, or the merged table, is not what was written, or cannot be.
    #[error("tables could not be merged, and stay as they were: {} is not usable", path.display())]
    Table {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it, and in which place.
        source: table::Error,
    },
}
