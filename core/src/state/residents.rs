//! [`Residents`]: the keys of a task, of which some are in memory and the others in the shard's
//! store.
//!
//! ```text
//!             changed                    the hand passes, not entered since it last did
//!   in memory ──────► in memory, dirty ────────────────────────────────► in the store
//!      ▲                                 put, unless it is clean              │
//!      └─────────────────── admit: get, unpack ◄──────────────────────────────┘
//! ```
//!
//! What an operator keeps per key is a value in the table, and what it keeps beside the table by
//! slot; [`Belongings`] says how all of that becomes one record of the store and comes back. A key
//! that is expected at some time (it has timers, or is in an agenda) keeps its slot, and an empty
//! value, while it is away.
//!
//! Without a store this is a [`KeyTable`]; with one, a key that is entered costs a bit.
//!
//! Invariant: the store is asked only for a key that is not in memory, and then has the newest
//! there is of it. So a key that is forgotten is removed from the store as well; until that is
//! done, it is known to be going.
//!
//! Not here: whose rows wait for a key (`operator/waiting.rs`), the bytes (`packed.rs`).

mod gathering;
mod moving;
mod saving;
mod spill;

use crate::data::ahead::Ahead;
use crate::data::key::Key;
use crate::data::key_group::HashRange;
use crate::data::slot::Slot;
use crate::state::packed::{Damage, Packer, heap_bytes};
use crate::state::shard_store::ShardStore;
use crate::state::snapshot::SnapshotWriter;
use crate::state::table::{Cursor, KeyTable};
use saving::Saving;
use spill::{Residence, Spill, Stored};

/// What a key takes along when it leaves memory: its value `V`, and what the operator keeps for it
/// elsewhere by its slot.
pub trait Belongings<K, V> {
    /// The value of a key that has nothing, or is away.
    fn create(&self) -> V;

    /// Whether nothing would be gained if the key left.
    fn is_empty(&self, slot: Slot, value: &V) -> bool;

    /// Packs everything.
    fn pack(&self, slot: Slot, value: &V, packer: &mut Packer);

    /// Takes in what was packed, at a slot that has nothing else.
    ///
    /// # Errors
    /// If the bytes are not what was packed.
    fn unpack(&mut self, slot: Slot, value: &mut V, bytes: &[u8]) -> Result<(), Damage>;

    /// Drops what was packed; it is somewhere else.
    fn clear(&mut self, slot: Slot, value: &mut V);

    /// Whether a key of which everything else is away needs its slot.
    fn is_expected(&mut self, _slot: Slot, _hash64: u64, _value: &V) -> bool {
        false
    }

    /// Bytes on the heap for what there is, about.
    fn heap_bytes(&self, slot: Slot, value: &V) -> usize;

    /// Bytes that every slot takes outside of the table.
    fn slot_bytes(&self) -> usize {
        0
    }

    /// Bytes that stay in memory whoever leaves.
    fn other_bytes(&self) -> usize {
        0
    }

    /// Writes what was packed into a snapshot.
    fn save(&self, slot: Slot, of: (u64, &K), value: &V, writer: &mut SnapshotWriter<'_>);
}

/// See the module.
#[derive(Debug)]
pub struct Residents<K, V> {
    table: KeyTable<K, Resident<V>>,
    /// If keys may leave memory.
    spill: Option<Box<Spill>>,
    /// Something of the last cut is still to be written.
    is_saving: bool,
}

/// What the table has for a key.
#[derive(Debug, Clone)]
struct Resident<V> {
    residence: Residence,
    value: V,
}

impl<V> Resident<V> {
    #[inline]
    fn new(value: V) -> Self {
        Self { residence: Residence::default(), value }
    }
}

/// As [`KeyTable`].
impl<K, V> Residents<K, V> {
    /// No keys, for a task whose keys' hashes are in `hashes`.
    pub fn new(hashes: HashRange) -> Self {
        Self { table: KeyTable::new(hashes), spill: None, is_saving: false }
    }

    /// Whether checkpoints get what changes by [`Residents::save_some`]: a snapshot need not have
    /// it then.
    #[inline]
    pub fn is_durable(&self) -> bool {
        self.saving().is_some()
    }

    /// Whether something of the last cut is still to be written.
    #[inline]
    pub fn is_saving(&self) -> bool {
        self.is_saving
    }

    fn saving(&self) -> Option<&Saving> {
        self.spill.as_ref()?.saving.as_deref()
    }

    /// Whether the last cut needs the key at `slot` as it is.
    #[inline]
    fn is_pending(&self, slot: Slot) -> bool {
        let resident = self.table.get_slot(slot);
        let saving = self.saving();
        resident.zip(saving).is_some_and(|(it, saving)| saving.is_pending(it.residence))
    }

    /// How many keys have a slot.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Slots that were ever used: those of all keys are smaller.
    pub fn slot_count(&self) -> u32 {
        self.table.slot_count()
    }

    /// The key at `slot`.
    ///
    /// # Panics
    /// If no key has this slot, as do the other methods that take one.
    #[inline]
    pub fn key(&self, slot: Slot) -> &K {
        self.table.key(slot)
    }

    /// The hash of the key at `slot`.
    #[inline]
    pub fn hash64(&self, slot: Slot) -> u64 {
        self.table.hash64(slot)
    }

    /// The value at `slot`.
    #[inline]
    pub fn value(&self, slot: Slot) -> &V {
        &self.table.value(slot).value
    }

    /// The value at `slot`.
    #[inline]
    pub fn value_mut(&mut self, slot: Slot) -> &mut V {
        debug_assert!(!self.is_pending(slot), "a key is kept before it is changed");
        &mut self.table.value_mut(slot).value
    }

    /// The value at `slot`, if a key has it.
    #[inline]
    pub fn get_slot(&self, slot: Slot) -> Option<&V> {
        self.table.get_slot(slot).map(|resident| &resident.value)
    }

    /// Hash, key and value at `slot`, which some key once had, if one has it now.
    #[inline]
    pub fn get_entry_mut(&mut self, slot: Slot) -> Option<(u64, &K, &mut V)> {
        debug_assert!(!self.is_pending(slot), "a key is kept before it is changed");
        let (hash64, key, resident) = self.table.get_entry_mut(slot)?;
        Some((hash64, key, &mut resident.value))
    }

    /// Hash, key and value at `slot`.
    #[inline]
    pub fn entry_mut(&mut self, slot: Slot) -> (u64, &K, &mut V) {
        debug_assert!(!self.is_pending(slot), "a key is kept before it is changed");
        let (hash64, key, resident) = self.table.entry_mut(slot);
        (hash64, key, &mut resident.value)
    }

    /// The slots of all keys, in hash order.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.table.slots()
    }

    /// The slot of the next key on a walk over all that have one, in the order of their hashes.
    pub fn next_key(&self, walk: &mut Cursor) -> Option<Slot> {
        walk.next(&self.table)
    }

    /// Asks for the memory that the lookups to come will read.
    #[inline]
    pub fn prefetch(&mut self, ahead: Ahead<'_>) {
        self.table.prefetch(ahead);
    }

    /// [`Residents::prefetch`] that tells the slots of the near keys, as far as tags tell.
    #[inline]
    pub fn prefetch_with(&mut self, ahead: Ahead<'_>, on_slot: impl FnMut(Slot)) {
        self.table.prefetch_with(ahead, on_slot);
    }

    /// Asks for all memory of the key at `slot` with the hash `hash64`.
    #[inline]
    pub fn prefetch_key(&self, slot: Slot, hash64: u64) {
        self.table.prefetch_key(slot, hash64);
    }

    /// Asks for the memory of the key at `slot`, which some key has or once had.
    #[inline]
    pub fn prefetch_slot(&self, slot: Slot) {
        self.table.prefetch_slot(slot);
    }
}

impl<K: Key, V> Residents<K, V> {
    /// Lets keys that find no room in memory go to the shard's store.
    pub fn with_store(mut self, store: &ShardStore, chain_index: u16, stage_index: u16) -> Self {
        self.spill = Some(Box::new(Spill::new(store, chain_index, stage_index)));
        self
    }

    /// The slot of `key`, whose hash is `hash64`.
    #[inline]
    pub fn find(&self, hash64: u64, key: &K) -> Option<Slot> {
        self.table.find(hash64, key)
    }

    /// The slot of `key`, whose hash is `hash64`; if it is not there it is put there with
    /// `value()`. It has been admitted.
    ///
    /// # Panics
    /// As [`KeyTable::find_or_insert_with`].
    #[inline]
    pub fn find_or_insert_with(&mut self, hash64: u64, key: K, value: impl FnOnce() -> V) -> Slot {
        self.table.find_or_insert_with(hash64, key, || Resident::new(value()))
    }

    /// Whether keys are in the store, or were.
    #[inline]
    pub fn has_evicted(&self) -> bool {
        self.spill.as_ref().is_some_and(|spill| spill.has_evicted)
    }

    /// Whether there was too much in memory when it was last told: each record should let some go.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.spill.as_ref().is_some_and(|spill| spill.is_short)
    }

    /// Whether nothing should be taken in: what is to leave memory finds no room.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.spill.as_ref().is_some_and(|spill| spill.is_full)
    }

    /// How many keys have left memory so far.
    pub fn evicted_count(&self) -> u64 {
        self.spill.as_ref().map_or(0, |spill| spill.evicted_count)
    }

    /// Whether `slot` is of a key, and that is away.
    #[inline]
    pub fn is_cold(&self, slot: Slot) -> bool {
        self.table.get_slot(slot).is_some_and(|resident| resident.residence.is_cold())
    }

    /// The key at `slot`, which is in memory, is used.
    #[inline]
    pub fn note_use(&mut self, slot: Slot) {
        if self.spill.is_some() {
            let residence = &mut self.table.value_mut(slot).residence;
            debug_assert!(!residence.is_cold(), "a key is admitted before it is used");
            residence.is_used = true;
        }
    }

    /// What the key at `slot` has may have changed; `heap_bytes` of its value is asked for now and
    /// then.
    #[inline]
    pub fn note_change(&mut self, slot: Slot, bytes: impl FnOnce(&V) -> usize) {
        let Some(spill) = &mut self.spill else { return };
        let (_, key, resident) = self.table.entry_mut(slot);
        let residence = &mut resident.residence;
        if let Some(saving) = &mut spill.saving {
            saving.on_change(residence, slot);
        }
        if residence.note_change() {
            let bytes = heap_bytes(key) + bytes(&resident.value);
            spill.change_heap_bytes(residence, bytes);
        }
    }

    /// The key is forgotten, and what the store has of it.
    pub fn forget(&mut self, slot: Slot) -> V {
        if let Some(spill) = &mut self.spill {
            let (hash64, key, resident) = self.table.entry_mut(slot);
            spill.change_heap_bytes(&mut resident.residence, 0);
            let residence = resident.residence;
            if residence.stored != Stored::Nothing || residence.is_saved() {
                spill.encode_key(key);
            }
            if residence.stored != Stored::Nothing {
                spill.going.insert((hash64, spill.key.clone()));
            }
            if let Some(saving) = &mut spill.saving {
                saving.on_slot_left(slot);
                if residence.is_saved() {
                    saving.on_forgotten(residence, (hash64, spill.key.clone()));
                }
            }
        }
        self.table.remove_slot(slot).1.value
    }

    /// The key needs its slot no more. If it is away it comes back from the store; otherwise it is
    /// forgotten.
    pub fn give_up(&mut self, slot: Slot) {
        if self.is_cold(slot) {
            self.table.remove_slot(slot);
        } else {
            self.forget(slot);
        }
    }

    fn spill_mut(&mut self) -> &mut Spill {
        self.spill.as_mut().expect("keys are cold where there is a store")
    }
}
