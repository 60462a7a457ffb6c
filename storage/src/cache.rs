//! The block cache: blocks of tables that were read and may be read again.
//!
//! A chunk of the shard's [`Budget`] holds 510 blocks of a page each, and says itself which:
//!
//! ```text
//! chunk │ directory, 2 pages: 34 sets │ block 0 │ block 1 │ … │ block 509 │
//!
//! set   │ used again: 10 places          │ seen once: 5 places │
//!         ◄── a block found anywhere        ◄── a new block       ──► the last place is reused
//! ```
//!
//! A block belongs to one set of one chunk, by a hash of its table and page. Within the set, blocks
//! lie in the order in which they were used; new ones begin behind those that were used again. So a
//! scan, which uses every block once, goes through a third of the cache and leaves the rest alone.
//! While a set has room, nothing is reused.
//!
//! The chunks may become more and fewer at any time: of `n`, one more or less moves the home of
//! every `n`-th block. What is still where it was before is not found any more, and reused; tables
//! do not change, so it does no harm to find it later.
//!
//! A block larger than a page is not kept: it is one large value, which the write buffer keeps.
//! Compaction reads past the cache. [`Table::block`](crate::table::Table::block) checks what is
//! taken out: memory is believed no more than disk.
//!
//! Not here: when to read, and who gives memory to whom.

#[cfg(test)]
mod tests;

use crate::arena::{Buffer, CHUNK_BYTES};
use crate::table::{PAGE_BYTES, TableId};
use crate::write_buffer::{Budget, Full};

/// Blocks of a set.
const WAYS: usize = 15;

/// Those of them that were used again.
const AGAIN_WAYS: usize = 10;

const SETS: usize = 34;
const DIRECTORY_PAGES: usize = 2;
const _: () = assert!(SETS * WAYS + DIRECTORY_PAGES == CHUNK_BYTES / PAGE_BYTES);

/// Table, page, whether there is a block, zeros, and which place of the set it is in.
const ROW_BYTES: usize = 16;
const _: () = assert!(SETS * WAYS * ROW_BYTES <= DIRECTORY_PAGES * PAGE_BYTES);

/// Table, page and whether there is a block: what a row is found by.
const ROW_KEY_BYTES: usize = 13;
const IS_USED_AT: usize = ROW_KEY_BYTES - 1;
const PLACE_AT: usize = ROW_BYTES - 1;

/// Names a block: its table, and its first page there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// Whose.
    pub table: TableId,
    /// Where it begins, in pages.
    pub page: u32,
}

impl BlockId {
    /// What the row of this block begins with.
    fn row_key(self) -> [u8; ROW_KEY_BYTES] {
        let mut key = [0; ROW_KEY_BYTES];
        key[..8].copy_from_slice(&self.table.0.to_le_bytes());
        key[8..IS_USED_AT].copy_from_slice(&self.page.to_le_bytes());
        key[IS_USED_AT] = 1;
        key
    }

    /// All bits depend on all of table and page.
    fn hash(self) -> u64 {
        let mut hash = self.table.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(self.page);
        for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
            hash = (hash ^ (hash >> 29)).wrapping_mul(factor);
        }
        hash ^ (hash >> 32)
    }
}

/// Blocks of tables, in chunks of a budget; see the head of the file.
#[derive(Debug, Default)]
pub struct BlockCache {
    chunks: Vec<Buffer>,
    hit_count: u64,
    miss_count: u64,
}

impl BlockCache {
    /// Takes one more chunk.
    ///
    /// # Errors
    /// [`Full`] if the budget has none.
    pub fn grow(&mut self, budget: &mut Budget) -> Result<(), Full> {
        let mut chunk = budget.take()?;
        let (rows, _) = chunk.as_mut_slice()[..SETS * WAYS * ROW_BYTES].as_chunks_mut();
        for (index, row) in rows.iter_mut().enumerate() {
            *row = [0; ROW_BYTES];
            row[PLACE_AT] = (index % WAYS) as u8;
        }
        self.chunks.push(chunk);
        Ok(())
    }

    /// Gives a chunk back, and its blocks up. False if there is none.
    pub fn shrink(&mut self, budget: &mut Budget) -> bool {
        let Some(chunk) = self.chunks.pop() else { return false };
        budget.put(chunk);
        true
    }

    /// The bytes of `block`, if they are here.
    pub fn get(&mut self, block: BlockId) -> Option<&[u8]> {
        let found = self.set_of(block).and_then(|(chunk, set)| {
            let rows = rows_of(&mut self.chunks[chunk], set);
            let key = block.row_key();
            let at = rows.iter().position(|row| row[..ROW_KEY_BYTES] == key)?;
            rows[..=at].rotate_right(1);
            Some((chunk, page_of(set, &rows[0])))
        });
        let Some((chunk, page)) = found else {
            self.miss_count += 1;
            return None;
        };
        self.hit_count += 1;
        Some(&self.chunks[chunk].as_slice()[page * PAGE_BYTES..][..PAGE_BYTES])
    }

    /// Keeps `bytes`, which are those of `block`, unless they are more than a page, or the cache
    /// has no memory.
    pub fn insert(&mut self, block: BlockId, bytes: &[u8]) {
        if bytes.len() != PAGE_BYTES {
            return;
        }
        let Some((chunk, set)) = self.set_of(block) else { return };
        let rows = rows_of(&mut self.chunks[chunk], set);
        let key = block.row_key();
        if rows.iter().any(|row| row[..ROW_KEY_BYTES] == key) {
            return;
        }
        let at = rows.iter().rposition(|row| row[IS_USED_AT] == 0).unwrap_or_else(|| {
            rows[AGAIN_WAYS..].rotate_right(1);
            AGAIN_WAYS
        });
        rows[at][..ROW_KEY_BYTES].copy_from_slice(&key);
        let page = page_of(set, &rows[at]);
        let chunk = self.chunks[chunk].as_mut_slice();
        chunk[page * PAGE_BYTES..][..PAGE_BYTES].copy_from_slice(bytes);
    }

    /// Bytes of memory taken from the budget.
    pub fn chunk_bytes(&self) -> usize {
        self.chunks.len() * CHUNK_BYTES
    }

    /// How often a block was here, and how often not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hit_count, self.miss_count)
    }

    /// The chunk and the set in which `block` is, if it is here.
    fn set_of(&self, block: BlockId) -> Option<(usize, usize)> {
        let hash = block.hash();
        let set = (((hash & u64::from(u32::MAX)) * SETS as u64) >> 32) as usize;
        (!self.chunks.is_empty()).then(|| (home(hash, self.chunks.len()), set))
    }
}

/// Which of `count` chunks is the home of `hash`: jump consistent hashing (Lamping and Veach).
fn home(mut hash: u64, count: usize) -> usize {
    let (mut home, mut next) = (0, 0);
    while next < count as u64 {
        home = next;
        hash = hash.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((home + 1) << 31) / ((hash >> 33) + 1);
    }
    home as usize
}

fn rows_of(chunk: &mut Buffer, set: usize) -> &mut [[u8; ROW_BYTES]] {
    let bytes = &mut chunk.as_mut_slice()[set * WAYS * ROW_BYTES..][..WAYS * ROW_BYTES];
    bytes.as_chunks_mut().0
}

/// The page of a chunk in which the block of `row` is.
fn page_of(set: usize, row: &[u8; ROW_BYTES]) -> usize {
    DIRECTORY_PAGES + set * WAYS + usize::from(row[PLACE_AT])
}
