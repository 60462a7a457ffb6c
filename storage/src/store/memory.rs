//! What a store has of memory beside its chunks, what gives way for it, and how near the end is.
//!
//! ```text
//! memory_bytes │ records, their indexes, lists │ cached blocks │◄── deducted ──┐
//! table_bytes  │ of every table in use: directory, index, filters │ what is more ┘
//! beside them  │ buffers, see `buffer_bytes`
//! ```
//!
//! What is kept of tables grows with the state on disk: some bytes a block, and filters. Filters
//! are held as far as there is memory for them, those of bases first without: a key that is looked
//! up is in the base of its band, or nowhere, so these are of use for keys only that nobody has.
//! What takes more than `table_bytes` is deducted from the chunks: blocks of the cache give way,
//! then clean records, one chunk a step; as dirty ones are a larger part of what is left, the
//! pressure rises. If there is nothing to deduct any more, no further table is begun: that is a
//! [`Shortage`], and the pressure is [`Pressure::Stop`].
//!
//! Deltas that are not merged are a backlog: each costs memory, and each lookup asks it. From
//! [`BACKLOG_SLOW`] in a band on the pressure is [`Pressure::Slow`], and at [`BACKLOG_STOP`] no
//! further one is begun. A band whose merges fail is no backlog: it waits for more deltas, and
//! memory is what bounds them.
//!
//! Not here: chunks and what is evicted (`write_buffer/`), when a merge is due (`merging.rs`).

use super::flush::{Flush, OpenTable, PIECES_MAX};
use super::scan::TABLES_BYTES;
use super::{MEMORY_BYTES_MIN, Pressure, Shortage, Store};
use crate::arena::CHUNK_BYTES;
use crate::compaction::{FAN_IN, Tier};
use crate::table::{PIECE_BYTES, Table};

/// Deltas of a band that are too many: what is taken in faster is merged too late.
pub(super) const BACKLOG_SLOW: usize = 4 * FAN_IN;

/// With so many of them nothing more is written before some are merged.
pub(super) const BACKLOG_STOP: usize = 8 * FAN_IN;

/// Part of `memory_bytes` that the inputs of a merge read at once, all together.
const INPUTS_SHARE: usize = 16;

/// Most bytes of it.
const INPUTS_BYTES_MAX: usize = 4 << 20;

/// Bytes of the buffers that a store of `memory_bytes` has at most, beside its chunks and what it
/// keeps of tables: those of a flush, a merge and a scan.
pub fn buffer_bytes(memory_bytes: usize) -> usize {
    // What is written is kept until it is known to be, and one more is being filled.
    let flush = (2 * PIECES_MAX + 1) * PIECE_BYTES;
    let merge = (PIECES_MAX + 1) * PIECE_BYTES + inputs_bytes(memory_bytes);
    flush + merge + TABLES_BYTES
}

fn inputs_bytes(memory_bytes: usize) -> usize {
    (memory_bytes / INPUTS_SHARE).clamp(PIECE_BYTES, INPUTS_BYTES_MAX)
}

impl Store {
    /// What the inputs of a merge read at once, all together.
    pub(super) fn inputs_bytes(&self) -> usize {
        inputs_bytes(self.config.memory_bytes)
    }

    /// Bytes of what is kept of tables: directories, indexes and filters, of those that are being
    /// written or opened as well, and what was found in them and has no room yet. As the last
    /// [`Store::step`] found it.
    pub fn index_bytes(&self) -> usize {
        self.index_bytes
    }

    fn count_index_bytes(&self) -> usize {
        let open = self.open_tables().map(Table::resident_bytes).sum::<usize>();
        let opening = self.opening.values().map(OpenTable::resident_bytes).sum::<usize>();
        let flush = self.flush.as_ref().map_or(0, Flush::resident_bytes);
        open + opening + flush + self.merging.resident_bytes() + self.reads.ended_bytes
    }

    /// Bytes of filters that may be held of one more table.
    pub(super) fn filter_room(&self, is_base: bool) -> usize {
        let open = self.open_tables().map(Table::filter_bytes).sum::<usize>();
        let opening = self.opening.values().map(OpenTable::filter_bytes).sum::<usize>();
        let limit = self.config.table_bytes / if is_base { 6 } else { 3 };
        limit.saturating_sub(open + opening)
    }

    fn open_tables(&self) -> impl Iterator<Item = &Table> {
        self.versions.tables().chain(self.restored.values().map(AsRef::as_ref))
    }

    /// Charges what is kept of tables, and lets a chunk go for it if that is needed.
    pub(super) fn charge(&mut self) {
        self.index_bytes = self.count_index_bytes();
        let excess_bytes = self.index_bytes.saturating_sub(self.config.table_bytes);
        let count = excess_bytes.div_ceil(CHUNK_BYTES).min(self.spare_bytes() / CHUNK_BYTES);
        self.budget.deduct(count);
        if 0 < self.budget.overdrawn_bytes() && !self.cache.shrink(&mut self.budget) {
            self.buffer.empty_chunk(&mut self.budget);
        }
    }

    /// Bytes of chunks that can be deducted: a store needs the others.
    fn spare_bytes(&self) -> usize {
        self.config.memory_bytes.saturating_sub(MEMORY_BYTES_MIN)
    }

    /// Why no further table is begun, if there is no memory to keep what has to be kept of one.
    pub fn shortage(&self) -> Option<Shortage> {
        let limit_bytes = self.config.table_bytes + self.spare_bytes();
        let table_bytes = self.index_bytes;
        (limit_bytes < table_bytes).then_some(Shortage { table_bytes, limit_bytes })
    }

    /// How near the end of memory is, by the bytes that changed and are not written. Where those
    /// lie between all others, something may find no room before: after an
    /// [`Error::Full`](super::Error::Full) that a flush can help, it is [`Pressure::Stop`] until
    /// more is written.
    pub fn memory_pressure(&self) -> Pressure {
        let (dirty, total) = (self.buffer.dirty_bytes(), self.budget.total_bytes());
        let is_stalled = self.stalled().is_some() || self.shortage().is_some();
        let is_crowded = self.buffer.is_crowded();
        if is_stalled || is_crowded || self.failure.is_some() || total / 4 * 3 <= dirty {
            Pressure::Stop
        } else if total / 2 <= dirty || 0 < self.budget.overdrawn_bytes() && 0 < dirty {
            Pressure::Slow
        } else {
            Pressure::Ok
        }
    }

    /// How far merges lag behind what is written, by the deltas of the band that has most. A flush
    /// does not help against it: take in less.
    pub fn backlog(&self) -> Pressure {
        let bands = self.versions.newest().bands().iter().enumerate();
        let is_delta = |tier: Tier| tier == Tier::Merged(0);
        let counts = bands
            .filter(|(band, _)| self.may_merge(*band))
            .map(|(_, band)| band.tables.iter().take_while(|table| is_delta(table.tier)).count());
        match counts.max().unwrap_or(0) {
            BACKLOG_STOP.. => Pressure::Stop,
            BACKLOG_SLOW.. => Pressure::Slow,
            _ => Pressure::Ok,
        }
    }
}
