//! Which keys are in memory: how room is made, and how a key comes back.
//!
//! ```text
//!             changed                    the hand passes, not entered since it last did
//!   in memory ──────► in memory, dirty ────────────────────────────────► in the store
//!      ▲                                 put, unless it is clean              │
//!      └─────────────────── admit: get, unpack ◄──────────────────────────────┘
//! ```
//!
//! A key's states leave and come together, as one record of the shard's store. A hand goes round
//! over the slots and spares those that were entered since it last passed. A key with timers keeps
//! its slot, and only its states leave.
//!
//! Invariant: the store is asked only for a key that is not in memory, and then has the newest
//! there is of it. So a key that is forgotten is removed from the store as well; until that is
//! done, it is known to be going.
//!
//! Not here: whose rows wait for a key (`operator/waiting.rs`), the bytes (`packed.rs`).

use std::collections::BTreeSet;

use millstream_storage::arena::CHUNK_BYTES;
use millstream_storage::write_buffer::{RecordKey, SpaceId};

use super::KeyedState;
use super::gathering::Gathering;
use crate::data::key::Key;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::state::packed::{Damage, Packer, heap_bytes};
use crate::state::shard_store::{Put, ShardStore, Waiter};

/// Where a key's states are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Residence {
    /// Bytes on the heap for key and states, about, when they were last looked at.
    heap_bytes: u32,
    /// How often they changed, up to the last bits: when to look again.
    changes: u8,
    /// The key was entered since the hand last passed.
    is_used: bool,
    stored: Stored,
}

/// What the store has of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stored {
    #[default]
    Nothing,
    /// What was there before the last change.
    Older,
    /// What is in memory, too.
    Same,
    /// All there is: the key is cold.
    All,
}

impl Residence {
    #[inline]
    pub(super) fn is_cold(self) -> bool {
        self.stored == Stored::All
    }
}

/// The way of an operator's keys to the shard's store and back.
#[derive(Debug)]
pub(super) struct Spill {
    pub(super) space: SpaceId,
    chain_index: u16,
    stage_index: u16,
    packer: Packer,
    /// Where the stored form of a key is made.
    key: Vec<u8>,
    /// The slot that the hand is at.
    hand: u32,
    /// Something was evicted: until then, what is not in memory is nowhere.
    pub(super) has_evicted: bool,
    /// There is too much in memory.
    is_short: bool,
    /// What was to be evicted last found no room in the store.
    is_full: bool,
    /// Keys that are forgotten, whose records are to be removed from the store.
    pub(super) going: BTreeSet<(u64, Vec<u8>)>,
    /// While a snapshot is being made.
    pub(super) gathering: Option<Gathering>,
    /// Of all keys in memory.
    heap_bytes: usize,
    charged_bytes: usize,
}

/// Bytes of a key's place in the index, about.
const INDEX_BYTES: usize = 12;

/// Bytes of a timer, in the agenda and with its key, about.
const TIMER_BYTES: usize = 48;

impl Spill {
    fn new(store: &ShardStore, chain_index: u16, stage_index: u16) -> Self {
        Self {
            space: store.open_state(),
            chain_index,
            stage_index,
            packer: Packer::default(),
            key: Vec::new(),
            hand: 0,
            has_evicted: false,
            is_short: false,
            is_full: false,
            going: BTreeSet::new(),
            gathering: None,
            heap_bytes: 0,
            charged_bytes: 0,
        }
    }

    fn charge(&mut self, bytes: usize, store: &ShardStore) {
        store.charge(self.charged_bytes, bytes);
        self.charged_bytes = bytes;
    }

    pub(super) fn waiter(&self, hash64: u64) -> Waiter {
        let (chain_index, stage_index) = (self.chain_index, self.stage_index);
        Waiter { chain_index, stage_index, hash64 }
    }

    /// Lets `self.key` be the stored form of `key`: what follows the hash.
    fn encode_key(&mut self, key: &impl Key) {
        let archive = key.archive();
        let len = u32::try_from(archive.len()).expect("a key is far smaller than 4 GiB");
        self.key.clear();
        self.key.extend_from_slice(&len.to_be_bytes());
        self.key.extend_from_slice(&archive);
        // No namespace.
        self.key.extend_from_slice(&[0; 4]);
    }

    fn put(&mut self, hash64: u64, store: &ShardStore) -> Result<Put, Error> {
        let key = RecordKey { hash64, spread: 0, bytes: &self.key };
        let put = store.put(self.space, key, self.packer.bytes())?;
        if put == Put::Done && !self.going.is_empty() {
            self.going.remove(&(hash64, self.key.clone()));
        }
        Ok(put)
    }

    /// Removes what is going, as far as there is room.
    fn remove_going(&mut self, store: &ShardStore) -> Result<(), Error> {
        while let Some((hash64, bytes)) = self.going.first() {
            let key = RecordKey { hash64: *hash64, spread: 0, bytes };
            if store.remove(self.space, key)? != Put::Done {
                return Ok(());
            }
            self.going.pop_first();
        }
        Ok(())
    }
}

/// Keys that may be looked at for one that leaves: a look costs a fraction of that.
const LOOKS: u32 = 8;

/// What a look at a slot came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evicted {
    /// There was nothing to evict.
    No,
    Yes,
    /// The store takes nothing now.
    NoRoom,
}

impl<K: Key> KeyedState<K> {
    /// Lets states that find no room in memory go to the shard's store.
    pub fn with_store(mut self, store: &ShardStore, chain_index: u16, stage_index: u16) -> Self {
        self.spill = Some(Spill::new(store, chain_index, stage_index));
        self
    }

    /// Whether states are in the store, or were.
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
    pub fn is_full(&self) -> bool {
        self.spill.as_ref().is_some_and(|spill| spill.is_full)
    }

    /// Sees to it that the states of `key` are in memory. `false` while they are being read: the
    /// operator will be told when that was done.
    ///
    /// # Errors
    /// If they cannot be read, or are damaged.
    #[inline]
    pub fn admit(&mut self, hash64: u64, key: &K, store: &ShardStore) -> Result<bool, Error> {
        if !self.has_evicted() {
            return Ok(true);
        }
        match self.table.find(hash64, key) {
            Some(slot) if !self.table.value(slot).is_cold() => Ok(true),
            slot => self.load(hash64, key, slot, store),
        }
    }

    /// As [`KeyedState::admit`], of the key at `slot`.
    ///
    /// # Errors
    /// As [`KeyedState::admit`].
    #[inline]
    pub fn admit_slot(&mut self, slot: Slot, store: &ShardStore) -> Result<bool, Error> {
        if !self.has_evicted() || !self.table.value(slot).is_cold() {
            return Ok(true);
        }
        let (key, hash64) = (self.table.key(slot).clone(), self.table.hash64(slot));
        self.load(hash64, &key, Some(slot), store)
    }

    #[cold]
    fn load(
        &mut self,
        hash64: u64,
        key: &K,
        slot: Option<Slot>,
        store: &ShardStore,
    ) -> Result<bool, Error> {
        let Self { table, columns, spill, .. } = self;
        let spill = spill.as_mut().expect("keys are cold where there is a store");
        spill.encode_key(key);
        if !spill.going.is_empty() && spill.going.contains(&(hash64, spill.key.clone())) {
            return Ok(true);
        }
        let record = RecordKey { hash64, spread: 0, bytes: &spill.key };
        let waiter = spill.waiter(hash64);
        let unpack = |value: Option<&[u8]>| -> Result<Option<Slot>, Damage> {
            let Some(bytes) = value else { return Ok(None) };
            let new = || table.find_or_insert_with(hash64, key.clone(), Residence::default);
            let slot = slot.unwrap_or_else(new);
            columns.unpack(slot, bytes)?;
            Ok(Some(slot))
        };
        let Some(unpacked) = store.get(spill.space, record, waiter, unpack)? else {
            return Ok(false);
        };
        let found = unpacked.map_err(|Damage(reason)| Error::Corrupt {
            what: format!("the state of key {key:?} in the store of the shard"),
            offset: 0,
            reason: reason.to_string(),
        })?;
        if let Some(slot) = found {
            let heap_bytes = heap_bytes(key) + self.columns.heap_bytes(slot);
            let heap_bytes = u32::try_from(heap_bytes).unwrap_or(u32::MAX);
            self.spill_mut().heap_bytes += heap_bytes as usize;
            *self.table.value_mut(slot) =
                Residence { heap_bytes, changes: 0, is_used: true, stored: Stored::Same };
        } else if let Some(slot) = slot {
            // What there was has expired.
            self.table.value_mut(slot).stored = Stored::Nothing;
        }
        Ok(true)
    }

    /// The key at `slot` is entered.
    #[inline]
    pub(super) fn note_use(&mut self, slot: Slot) {
        if self.spill.is_some() {
            let residence = self.table.value_mut(slot);
            debug_assert!(!residence.is_cold(), "a key is admitted before it is entered");
            residence.is_used = true;
        }
    }

    /// The key at `slot` is left, and may have changed.
    #[inline]
    pub(super) fn note_change(&mut self, slot: Slot) {
        let Some(spill) = &mut self.spill else { return };
        let residence = self.table.value_mut(slot);
        if residence.stored == Stored::Same {
            residence.stored = Stored::Older;
        }
        residence.changes = residence.changes.wrapping_add(1);
        // Often at first, later every 32 times.
        let changes = residence.changes;
        if changes.is_multiple_of(32) || changes < 32 && changes.is_power_of_two() {
            let heap_bytes = heap_bytes(self.table.key(slot)) + self.columns.heap_bytes(slot);
            let heap_bytes = u32::try_from(heap_bytes).unwrap_or(u32::MAX);
            let residence = self.table.value_mut(slot);
            let before_bytes = std::mem::replace(&mut residence.heap_bytes, heap_bytes);
            spill.heap_bytes += heap_bytes as usize;
            spill.heap_bytes -= before_bytes as usize;
        }
    }

    /// The key at `slot` is about to be forgotten, and its states are all empty or in the store.
    pub(super) fn note_forgotten(&mut self, slot: Slot) {
        let Some(spill) = &mut self.spill else { return };
        let residence = *self.table.value(slot);
        spill.heap_bytes -= residence.heap_bytes as usize;
        if matches!(residence.stored, Stored::Older | Stored::Same) {
            spill.encode_key(self.table.key(slot));
            spill.going.insert((self.table.hash64(slot), spill.key.clone()));
        }
    }

    /// Tells the shard's store how much is in memory now, and removes from it what is going.
    ///
    /// # Errors
    /// If the store has failed.
    pub fn recharge(&mut self, store: &ShardStore) -> Result<(), Error> {
        let slot_bytes = self.table.slot_bytes() + INDEX_BYTES + self.columns.slot_bytes();
        let timers = self.event_timers.len() + self.processing_timers.len();
        let Some(spill) = &mut self.spill else { return Ok(()) };
        let bytes = self.table.len() * slot_bytes + spill.heap_bytes + timers * TIMER_BYTES;
        spill.charge(bytes, store);
        spill.is_short = 0 < store.excess_bytes();
        spill.is_full &= spill.is_short;
        let stays = spill.going.is_empty() || spill.gathering.is_some();
        if stays { Ok(()) } else { spill.remove_going(store) }
    }

    /// Lets the states of up to `steps` keys go while too much is in memory, and looks at so many
    /// more that were used lately. Answers how many went.
    ///
    /// # Errors
    /// If the store has failed.
    pub fn evict(&mut self, steps: u32, store: &ShardStore) -> Result<u32, Error> {
        let mut evicted = 0;
        for _ in 0..steps.saturating_mul(LOOKS) {
            self.recharge(store)?;
            let Some(spill) = &mut self.spill else { return Ok(0) };
            if !spill.is_short || spill.gathering.is_some() {
                break;
            }
            let slot = Slot(spill.hand);
            spill.hand = if slot.0 < self.table.slot_count() { slot.0 + 1 } else { 0 };
            let came_to = self.evict_slot(slot, store)?;
            self.spill_mut().is_full = came_to == Evicted::NoRoom;
            match came_to {
                Evicted::No => {}
                Evicted::Yes => evicted += 1,
                Evicted::NoRoom => break,
            }
            if evicted == steps {
                break;
            }
        }
        Ok(evicted)
    }

    fn evict_slot(&mut self, slot: Slot, store: &ShardStore) -> Result<Evicted, Error> {
        let Some((hash64, key, residence)) = self.table.get_entry_mut(slot) else {
            return Ok(Evicted::No);
        };
        if std::mem::take(&mut residence.is_used) || residence.is_cold() {
            return Ok(Evicted::No);
        }
        // One without states has timers only.
        let is_large = CHUNK_BYTES < residence.heap_bytes as usize;
        if is_large || self.columns.is_empty_at(slot) {
            return Ok(Evicted::No);
        }
        let spill = self.spill.as_mut().expect("keys are evicted where there is a store");
        if residence.stored != Stored::Same {
            self.columns.pack(slot, &mut spill.packer);
            spill.encode_key(key);
            match spill.put(hash64, store)? {
                Put::Done => {}
                Put::NoRoom => return Ok(Evicted::NoRoom),
                Put::TooLarge => {
                    residence.is_used = true;
                    return Ok(Evicted::No);
                }
            }
        }
        spill.has_evicted = true;
        spill.heap_bytes -= residence.heap_bytes as usize;
        *residence = Residence { stored: Stored::All, ..Residence::default() };
        self.columns.evict(slot);
        self.forget_if_empty(slot);
        Ok(Evicted::Yes)
    }

    fn spill_mut(&mut self) -> &mut Spill {
        self.spill.as_mut().expect("keys are cold where there is a store")
    }
}
