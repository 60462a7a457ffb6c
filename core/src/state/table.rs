//! [`KeyTable`]: what a task keeps per key, in memory.
//!
//! ```text
//! hash64 ──index──► slot ──► [ hash64, key, value ] [ … ] …    the first 4,096 on the heap,
//! ```                                                          all others in huge pages
//!
//! Lookups never hash: the row brings its hash along. Equality always compares the whole key.
//! Iteration is in the order of hashes, which is the order of key groups and of stored keys too,
//! and does not depend on what was inserted when: a table and its restored copy iterate alike.
//! (Keys with equal 64-bit hashes are ordered by slot.)
//!
//! Growth never moves a slot and never touches a key; its bound is stated in `table/index.rs`.
//! A [`Slot`] stays valid, and the same, until its key is removed.

mod index;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::data::ahead::Ahead;
use crate::data::key_group::HashRange;
use crate::data::slot::Slot;
use crate::limits::PREFETCH_GROUP;
use index::{Home, Index};
use millstream_storage::huge_vec::HugeVec;
use millstream_storage::prefetch::{prefetch, prefetch_start};

/// Slots of a block.
const BLOCK_LEN: usize = 16;

/// Blocks on the heap: 4,096 slots, so that copying them as their vector grows takes microseconds.
const FEW_BLOCKS: usize = 256;

/// Slots that prefetches have found for lookups to come: many times those of two prefetch groups,
/// so that few are in another's way; 1 KiB.
const GUESS_COUNT: usize = 256;
const _: () = assert!(8 * PREFETCH_GROUP <= GUESS_COUNT);

/// Slots beside each other, so many that their size is a multiple of a cache line: a slot of up to
/// 32 bytes never lies across two.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Block<T>([Option<T>; BLOCK_LEN]);

/// A map from keys to values for the keys of one task.
///
/// ```
/// use millstream::data::key::Key;
/// use millstream::data::key_group::HashRange;
/// use millstream::state::table::KeyTable;
///
/// let mut counts = KeyTable::new(HashRange::ALL);
/// for word in ["to", "be", "or", "not", "to", "be"] {
///     let word = word.to_string();
///     *counts.get_or_insert_with(word.hash64(), word, || 0) += 1;
/// }
/// let to = "to".to_string();
/// assert_eq!(counts.get(to.hash64(), &to), Some(&2));
/// assert_eq!(counts.len(), 4);
/// ```
#[derive(Clone)]
pub struct KeyTable<K, V> {
    index: Index,
    chunks: Chunks<Filled<K, V>>,
    free: Vec<Slot>,
    ahead: Option<Box<Found>>,
    /// Slots that were ever used.
    slot_count: u32,
    len: usize,
}

/// What prefetches have found, from the first one on. All of it is checked before it is believed.
#[derive(Debug, Clone)]
struct Found {
    /// Where the keys that were far the last time are at home.
    homes: [Home; PREFETCH_GROUP],
    /// By the last bits of a hash: where its key may be.
    slots: [Slot; GUESS_COUNT],
}

impl Default for Found {
    fn default() -> Self {
        Self { homes: Default::default(), slots: [Slot(u32::MAX); GUESS_COUNT] }
    }
}

#[derive(Debug, Clone)]
struct Filled<K, V> {
    hash64: u64,
    key: K,
    value: V,
}

impl<K, V> KeyTable<K, V> {
    /// An empty table for the keys whose hashes are in `hashes`
    /// ([`TaskPlace::hashes`](crate::operator::env::TaskPlace::hashes)).
    pub fn new(hashes: HashRange) -> Self {
        let (index, chunks) = (Index::new(hashes), Chunks::new());
        Self { index, chunks, free: Vec::new(), ahead: None, slot_count: 0, len: 0 }
    }

    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Slots that were ever used: those of all keys are smaller.
    pub fn slot_count(&self) -> u32 {
        self.slot_count
    }

    /// Bytes of a slot.
    pub fn slot_bytes(&self) -> usize {
        size_of::<Option<Filled<K, V>>>()
    }

    /// Bytes of the memory that slots have, or had before it was [recycled](KeyTable::recycled).
    pub fn memory_bytes(&self) -> usize {
        let Chunks { few, many, spare } = &self.chunks;
        few.capacity() * size_of::<Block<Filled<K, V>>>()
            + (many.len() + spare.len()) * HugeVec::<Block<Filled<K, V>>>::BYTES
    }

    /// Forgets all keys and gives their memory back.
    pub fn clear(&mut self) {
        *self = Self::new(self.index.hashes());
    }

    /// An empty table for the same keys in the memory of this one's slots: what is made and
    /// emptied again and again need not be mapped and zeroed by the system each time.
    #[must_use]
    pub fn recycled(self) -> Self {
        // What prefetches have found is of no key any more, and is checked before it is believed.
        let (chunks, ahead) = (self.chunks.recycled(), self.ahead);
        Self { chunks, ahead, ..Self::new(self.index.hashes()) }
    }

    /// The key at `slot`.
    ///
    /// # Panics
    /// If no key has this slot, as do the other methods that take one.
    #[inline]
    pub fn key(&self, slot: Slot) -> &K {
        &self.filled(slot).key
    }

    /// The hash of the key at `slot`.
    #[inline]
    pub fn hash64(&self, slot: Slot) -> u64 {
        self.filled(slot).hash64
    }

    /// The value at `slot`.
    #[inline]
    pub fn value(&self, slot: Slot) -> &V {
        &self.filled(slot).value
    }

    /// The value at `slot`, if a key has it.
    #[inline]
    pub fn get_slot(&self, slot: Slot) -> Option<&V> {
        if self.slot_count <= slot.0 {
            return None;
        }
        self.chunks.get(slot).map(|filled| &filled.value)
    }

    /// Hash, key and value at `slot`, if a key has it.
    #[inline]
    pub fn get_entry(&self, slot: Slot) -> Option<(u64, &K, &V)> {
        if self.slot_count <= slot.0 {
            return None;
        }
        let filled = self.chunks.get(slot)?;
        Some((filled.hash64, &filled.key, &filled.value))
    }

    /// Hash, key and value at `slot`, which some key once had, if one has it now.
    #[inline]
    pub fn get_entry_mut(&mut self, slot: Slot) -> Option<(u64, &K, &mut V)> {
        if self.slot_count <= slot.0 {
            return None;
        }
        let filled = self.chunks.get_mut(slot).as_mut()?;
        Some((filled.hash64, &filled.key, &mut filled.value))
    }

    /// Hash, key and value at `slot`.
    #[inline]
    pub fn entry_mut(&mut self, slot: Slot) -> (u64, &K, &mut V) {
        let filled = self.chunks.get_mut(slot).as_mut();
        let filled = filled.expect("a slot is used only while its key is there");
        (filled.hash64, &filled.key, &mut filled.value)
    }

    /// The value at `slot`.
    #[inline]
    pub fn value_mut(&mut self, slot: Slot) -> &mut V {
        let filled = self.chunks.get_mut(slot).as_mut();
        &mut filled.expect("a slot is used only while its key is there").value
    }

    /// Removes the key at `slot`; the slot will be another key's.
    pub fn remove_slot(&mut self, slot: Slot) -> (K, V) {
        let filled = self.chunks.get_mut(slot).take();
        let Filled { hash64, key, value } =
            filled.expect("a slot is used only while its key is there");
        self.index.remove(hash64, slot);
        self.free.push(slot);
        self.len -= 1;
        (key, value)
    }

    /// The slots of all keys, in hash order.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.index.iter()
    }

    /// Hash, key and value of all keys, in hash order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &K, &V)> {
        self.index.iter().map(|slot| {
            let filled = self.filled(slot);
            (filled.hash64, &filled.key, &filled.value)
        })
    }

    /// Asks for the memory that the lookups to come will read, in two steps: first the index, then
    /// the slots that it names, which the lookups will look at first.
    #[inline]
    pub fn prefetch(&mut self, ahead: Ahead<'_>) {
        self.prefetch_with(ahead, |_| ());
    }

    /// [`KeyTable::prefetch`] that tells the slots of the near keys, as far as tags tell: to ask
    /// for what else is kept per slot.
    #[inline]
    pub fn prefetch_with(&mut self, ahead: Ahead<'_>, mut on_slot: impl FnMut(Slot)) {
        let Found { homes, slots } = &mut **self.ahead.get_or_insert_default();
        for (hash64, home) in ahead.near.iter().zip(&*homes) {
            let Some(slot) = self.index.guess(*hash64, *home) else { continue };
            slots[*hash64 as usize % GUESS_COUNT] = slot;
            self.chunks.prefetch(slot);
            on_slot(slot);
        }
        for (hash64, home) in ahead.far.iter().zip(homes) {
            *home = self.index.prefetch(*hash64);
        }
    }

    /// Asks for all memory of the key at `slot` with the hash `hash64`: of its slot, and of its
    /// place in the index.
    #[inline]
    pub fn prefetch_key(&self, slot: Slot, hash64: u64) {
        self.index.prefetch(hash64);
        self.prefetch_slot(slot);
    }

    /// Asks for the memory of the key at `slot`, which some key has or once had.
    #[inline]
    pub fn prefetch_slot(&self, slot: Slot) {
        if slot.0 < self.slot_count {
            self.chunks.prefetch(slot);
        }
    }

    #[inline]
    fn filled(&self, slot: Slot) -> &Filled<K, V> {
        self.chunks.get(slot).expect("a slot is used only while its key is there")
    }

    /// Puts a key that is not there into a slot.
    fn fill(&mut self, hash64: u64, key: K, value: V) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            // One less than all numbers of 32 bits, because the index stores the slot plus one.
            assert!(self.slot_count < u32::MAX, "a task holds fewer than 2^32 keys");
            self.slot_count += 1;
            Slot(self.slot_count - 1)
        });
        self.chunks.reserve(slot);
        *self.chunks.get_mut(slot) = Some(Filled { hash64, key, value });
        self.len += 1;
        let chunks = &self.chunks;
        self.index.insert(hash64, slot, |slot| {
            chunks.get(slot).expect("the index names filled slots").hash64
        });
        slot
    }
}

/// Slots that never move.
#[derive(Debug, Clone)]
struct Chunks<T> {
    /// The first slots, on the heap: many tables (one per window) stay small.
    few: Vec<Block<T>>,
    /// All others, in huge pages.
    many: Vec<HugeVec<Block<T>>>,
    /// Emptied ones, to be used next.
    spare: Vec<HugeVec<Block<T>>>,
}

impl<T> Chunks<T> {
    const CHUNK_BLOCKS_LOG2: u32 = HugeVec::<Block<T>>::CAPACITY.ilog2();

    const fn new() -> Self {
        Self { few: Vec::new(), many: Vec::new(), spare: Vec::new() }
    }

    /// No slot is used any more.
    fn recycled(mut self) -> Self {
        self.few.clear();
        self.spare.append(&mut self.many);
        self.spare.iter_mut().for_each(HugeVec::clear);
        self
    }

    #[inline]
    fn get(&self, slot: Slot) -> Option<&T> {
        let (block, i) = self.block(slot);
        block.0[i].as_ref()
    }

    #[inline]
    fn prefetch(&self, slot: Slot) {
        let (block, i) = self.block(slot);
        if const { align_of::<Block<T>>().is_multiple_of(size_of::<Option<T>>()) } {
            prefetch_start(&block.0[i]);
        } else {
            prefetch(&block.0[i]);
        }
    }

    #[inline]
    fn block(&self, slot: Slot) -> (&Block<T>, usize) {
        let (block, i) = Self::split(slot);
        let block = match block.checked_sub(FEW_BLOCKS) {
            None => &self.few[block],
            Some(block) => {
                let (chunk, block) = Self::split_many(block);
                &self.many[chunk][block]
            }
        };
        (block, i)
    }

    #[inline]
    fn get_mut(&mut self, slot: Slot) -> &mut Option<T> {
        let (block, i) = Self::split(slot);
        let block = match block.checked_sub(FEW_BLOCKS) {
            None => &mut self.few[block],
            Some(block) => {
                let (chunk, block) = Self::split_many(block);
                &mut self.many[chunk][block]
            }
        };
        &mut block.0[i]
    }

    /// Makes room for `slot`, if it is the one behind all others.
    fn reserve(&mut self, slot: Slot) {
        let empty = || Block([const { None }; BLOCK_LEN]);
        let (block, _) = Self::split(slot);
        let Some(block) = block.checked_sub(FEW_BLOCKS) else {
            if self.few.len() == block {
                self.few.push(empty());
            }
            return;
        };
        let (chunk, block) = Self::split_many(block);
        if self.many.len() == chunk {
            self.many.push(self.spare.pop().unwrap_or_default());
        }
        if self.many[chunk].len() == block {
            self.many[chunk].push(empty());
        }
    }

    #[inline]
    fn split(slot: Slot) -> (usize, usize) {
        let slot = slot.0 as usize;
        (slot / BLOCK_LEN, slot % BLOCK_LEN)
    }

    #[inline]
    fn split_many(block: usize) -> (usize, usize) {
        (block >> Self::CHUNK_BLOCKS_LOG2, block & ((1 << Self::CHUNK_BLOCKS_LOG2) - 1))
    }
}

impl<K: Eq, V> KeyTable<K, V> {
    /// The slot of `key`, whose hash is `hash64`.
    #[inline]
    pub fn find(&self, hash64: u64, key: &K) -> Option<Slot> {
        let is_it = |filled: &Filled<K, V>| filled.hash64 == hash64 && filled.key == *key;
        if let Some(found) = &self.ahead
            && let slot = found.slots[hash64 as usize % GUESS_COUNT]
            && slot.0 < self.slot_count
            && self.chunks.get(slot).is_some_and(is_it)
        {
            return Some(slot);
        }
        self.index.find(hash64, |slot| is_it(self.filled(slot)))
    }

    /// The value of `key`, whose hash is `hash64`.
    #[inline]
    pub fn get(&self, hash64: u64, key: &K) -> Option<&V> {
        self.find(hash64, key).map(|slot| self.value(slot))
    }

    /// The value of `key`, whose hash is `hash64`.
    #[inline]
    pub fn get_mut(&mut self, hash64: u64, key: &K) -> Option<&mut V> {
        self.find(hash64, key).map(|slot| self.value_mut(slot))
    }

    /// The slot of `key`, whose hash is `hash64`; if it is not there it is put there with
    /// `value()`.
    ///
    /// # Panics
    /// If a new key's hash is not in the table's range: the row took a wrong turn.
    #[inline]
    pub fn find_or_insert_with(&mut self, hash64: u64, key: K, value: impl FnOnce() -> V) -> Slot {
        match self.find(hash64, &key) {
            Some(slot) => slot,
            None => self.fill(hash64, key, value()),
        }
    }

    /// The value of `key`, whose hash is `hash64`; if it is not there it is put there with
    /// `value()`.
    ///
    /// # Panics
    /// As [`KeyTable::find_or_insert_with`].
    #[inline]
    pub fn get_or_insert_with(&mut self, hash64: u64, key: K, value: impl FnOnce() -> V) -> &mut V {
        let slot = self.find_or_insert_with(hash64, key, value);
        self.value_mut(slot)
    }

    /// Removes `key`, whose hash is `hash64`.
    pub fn remove(&mut self, hash64: u64, key: &K) -> Option<V> {
        self.find(hash64, key).map(|slot| self.remove_slot(slot).1)
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for KeyTable<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(_, key, value)| (key, value))).finish()
    }
}

/// A walk over a [`KeyTable`] that may stop after any key and go on later: keys that stay in the
/// table all the while are met exactly once, in hash order, whatever else is inserted or removed
/// in between.
///
/// ```
/// use millstream::data::key_group::HashRange;
/// use millstream::state::table::{Cursor, KeyTable};
///
/// let mut table = KeyTable::new(HashRange::ALL);
/// for i in 0..10_u64 {
///     table.get_or_insert_with(i << 32, i, || ());
/// }
/// let mut cursor = Cursor::default();
/// let first = cursor.next(&table).expect("ten keys");
/// table.remove_slot(first);
/// let rest: Vec<u64> =
///     std::iter::from_fn(|| cursor.next(&table)).map(|slot| *table.key(slot)).collect();
/// assert_eq!(rest, (1..10).collect::<Vec<_>>());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    after: Option<(u64, Slot)>,
}

impl Cursor {
    /// The next key's slot; `None` at the end, and again if asked again.
    pub fn next<K, V>(&mut self, table: &KeyTable<K, V>) -> Option<Slot> {
        let slot = table.index.next(self.after, |slot| table.hash64(slot))?;
        self.after = Some((table.hash64(slot), slot));
        Some(slot)
    }
}
