//! How room is made, and how a key comes back.
//!
//! A hand goes round over the slots and spares those that were used since it last passed.

use millstream_storage::arena::CHUNK_BYTES;
use millstream_storage::write_buffer::RecordKey;

use super::saving::Leaving;
use super::spill::{Residence, Stored};
use super::{Belongings, Resident, Residents};
use crate::data::key::Key;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::state::packed::{Damage, heap_bytes};
use crate::state::shard_store::{Put, ShardStore};

/// Bytes of a key's place in the index, about.
const INDEX_BYTES: usize = 12;

/// Keys that may be looked at for one that leaves: a look costs a fraction of that.
const LOOKS: u32 = 8;

/// Slots that the hand passes at most for a look at one: of keys that are away, or of none.
const STRIDE: u32 = 32;

/// What a look at a slot came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evicted {
    /// There was nothing to evict.
    No,
    Yes,
    /// The store takes nothing now.
    NoRoom,
}

impl<K: Key, V> Residents<K, V> {
    /// Sees to it that what `key` has is in memory. `false` while it is being read: the operator
    /// will be told when that was done.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    #[inline]
    pub fn admit(
        &mut self,
        hash64: u64,
        key: &K,
        belongings: &mut impl Belongings<K, V>,
        store: &ShardStore,
    ) -> Result<bool, Error> {
        if !self.has_evicted() {
            return Ok(true);
        }
        match self.table.find(hash64, key) {
            Some(slot) if !self.is_cold(slot) => Ok(true),
            slot => self.load(hash64, key, slot, belongings, store),
        }
    }

    /// As [`Residents::admit`], of the key at `slot`.
    ///
    /// # Errors
    /// As [`Residents::admit`].
    #[inline]
    pub fn admit_slot(
        &mut self,
        slot: Slot,
        belongings: &mut impl Belongings<K, V>,
        store: &ShardStore,
    ) -> Result<bool, Error> {
        if !self.has_evicted() || !self.is_cold(slot) {
            return Ok(true);
        }
        let (key, hash64) = (self.table.key(slot).clone(), self.table.hash64(slot));
        self.load(hash64, &key, Some(slot), belongings, store)
    }

    #[cold]
    fn load(
        &mut self,
        hash64: u64,
        key: &K,
        slot: Option<Slot>,
        belongings: &mut impl Belongings<K, V>,
        store: &ShardStore,
    ) -> Result<bool, Error> {
        let Self { table, spill, .. } = self;
        let spill = spill.as_mut().expect("keys are cold where there is a store");
        spill.encode_key(key);
        if !spill.going.is_empty() && spill.going.contains(&(hash64, spill.key.clone())) {
            return Ok(true);
        }
        let record = RecordKey { hash64, spread: 0, bytes: &spill.key };
        let waiter = spill.waiter(hash64);
        let unpack = |value: Option<&[u8]>| -> Result<Option<Slot>, Damage> {
            let Some(bytes) = value else { return Ok(None) };
            let new = || Resident::new(belongings.create());
            let new = || table.find_or_insert_with(hash64, key.clone(), new);
            let slot = slot.unwrap_or_else(new);
            belongings.unpack(slot, &mut table.value_mut(slot).value, bytes)?;
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
            let resident = table.value_mut(slot);
            let bytes = heap_bytes(key) + belongings.heap_bytes(slot, &resident.value);
            resident.residence = Residence::now(Stored::Same);
            resident.residence.set_saved(spill.saving.is_some());
            resident.residence.is_used = true;
            spill.change_heap_bytes(&mut resident.residence, bytes);
        } else if let Some(slot) = slot {
            // What there was has expired.
            table.value_mut(slot).residence.stored = Stored::Nothing;
        }
        Ok(true)
    }

    /// Tells the shard's store how much is in memory now, and removes from it what is going.
    ///
    /// # Errors
    /// If the store has failed.
    pub fn recharge(
        &mut self,
        belongings: &impl Belongings<K, V>,
        store: &ShardStore,
    ) -> Result<(), Error> {
        let Some(spill) = &mut self.spill else { return Ok(()) };
        let slot_bytes = self.table.slot_bytes() + INDEX_BYTES + belongings.slot_bytes();
        let saving_bytes = spill.saving.as_ref().map_or(0, |saving| saving.bytes());
        let bytes = self.table.len() * slot_bytes + spill.heap_bytes + belongings.other_bytes();
        let bytes = bytes + saving_bytes;
        spill.charge(bytes, store);
        spill.is_short = 0 < store.excess_bytes();
        spill.is_full &= spill.is_short;
        let stays = spill.going.is_empty() || spill.gathering.is_some();
        if stays { Ok(()) } else { spill.remove_going(store) }
    }

    /// Lets up to `steps` keys go while too much is in memory, and looks at so many more that were
    /// used lately. Answers how many went.
    ///
    /// # Errors
    /// If the store has failed.
    pub fn evict(
        &mut self,
        steps: u32,
        belongings: &mut impl Belongings<K, V>,
        store: &ShardStore,
    ) -> Result<u32, Error> {
        let mut evicted = 0;
        // Twice round finds every key that is in memory, and not used in between.
        let looks_max = 2 * u64::from(self.table.slot_count()) + 2;
        let mut looks = 0;
        for _ in 0..steps.saturating_mul(LOOKS) {
            self.recharge(belongings, store)?;
            let Some(spill) = &mut self.spill else { return Ok(0) };
            if !spill.is_short || spill.gathering.is_some() {
                break;
            }
            let (slot, passed) = self.next_slot();
            looks += passed;
            let came_to = self.evict_slot(slot, belongings, store)?;
            let spill = self.spill_mut();
            spill.is_full = came_to == Evicted::NoRoom;
            match came_to {
                Evicted::No => {}
                Evicted::Yes => (evicted, looks) = (evicted + 1, 0),
                Evicted::NoRoom => break,
            }
            if evicted == steps || looks_max < looks {
                break;
            }
        }
        Ok(evicted)
    }

    /// The next slot that the hand comes to, and it goes on; if it can be, one of a key in memory.
    /// And how many it has come to.
    fn next_slot(&mut self) -> (Slot, u64) {
        let spill = self.spill.as_mut().expect("keys are evicted where there is a store");
        let (mut slot, mut looks) = (Slot(spill.hand), 0);
        for _ in 0..STRIDE {
            looks += 1;
            slot = Slot(spill.hand);
            spill.hand = if slot.0 < self.table.slot_count() { slot.0 + 1 } else { 0 };
            let resident = self.table.get_slot(slot);
            if resident.is_some_and(|resident| !resident.residence.is_cold()) {
                break;
            }
        }
        (slot, looks)
    }

    fn evict_slot(
        &mut self,
        slot: Slot,
        belongings: &mut impl Belongings<K, V>,
        store: &ShardStore,
    ) -> Result<Evicted, Error> {
        let Some((hash64, key, resident)) = self.table.get_entry_mut(slot) else {
            return Ok(Evicted::No);
        };
        let residence = &mut resident.residence;
        if std::mem::take(&mut residence.is_used) || residence.is_cold() {
            return Ok(Evicted::No);
        }
        let is_large = CHUNK_BYTES < residence.heap_bytes as usize;
        if is_large || belongings.is_empty(slot, &resident.value) {
            return Ok(Evicted::No);
        }
        let spill = self.spill.as_mut().expect("keys are evicted where there is a store");
        if let Some(mut saving) = spill.saving.take() {
            spill.encode_key(key);
            let of = (slot, hash64, key);
            let what = (&spill.key[..], &resident.value);
            let leaving = saving.on_leaving(residence, of, what, belongings, store);
            spill.saving = Some(saving);
            match leaving? {
                Leaving::Saved => {}
                Leaving::Stays => return Ok(Evicted::No),
                Leaving::NoRoom => return Ok(Evicted::NoRoom),
            }
        }
        if residence.stored != Stored::Same {
            belongings.pack(slot, &resident.value, &mut spill.packer);
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
        spill.evicted_count += 1;
        spill.heap_bytes -= residence.heap_bytes as usize;
        *residence = Residence::now(Stored::All);
        residence.set_saved(spill.saving.is_some());
        belongings.clear(slot, &mut resident.value);
        if !belongings.is_expected(slot, hash64, &resident.value) {
            self.table.remove_slot(slot);
        }
        Ok(Evicted::Yes)
    }
}
