//! What checkpoints get of the keys: those that have changed, some at a time, as they were at the
//! cut.
//!
//! ```text
//!            changed              cut                  save, keep, evict
//!   clean ───────────► dirty ───────────► pending ──────────────────────► clean
//!     ▲                  │ evict             │ about to change: kept first, as it is, and dirty
//!     └──────────────────┴───────────────────┘
//! ```
//!
//! A cut is an exchange of two lists. From then on the keys of the old one are *pending*: each is
//! written when its turn comes, or, if it is about to change before that, kept as it is. So what is
//! written is what there was at the cut, though it is written later, and the pause does not depend
//! on how much there is.
//!
//! Until the checkpoint is over in the durable store nothing that changed after the cut goes there;
//! such keys do not leave memory meanwhile.
//!
//! Invariant: a key is changed only when it is not pending; whoever is about to change one calls
//! [`Residents::keep`] first.

use std::collections::{BTreeSet, VecDeque};

use super::spill::{Residence, Spill};
use super::{Belongings, Resident, Residents};
use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::state::durable::{DurableSpace, DurableStore, Save};
use crate::state::shard_store::{Put, ShardStore};
use crate::state::snapshot::SnapshotWriter;
use crate::state::snapshot::record::RecordWriter;

/// How far ahead of the key that is written memory is asked for.
const KEYS_AHEAD: usize = 8;

/// A hash, and what follows it in a stored key.
type Place = (u64, Vec<u8>);

/// What has changed, and what is being written of it.
#[derive(Debug)]
pub(super) struct Saving {
    space: DurableSpace,
    /// 1 or 2, in turn.
    epoch: u8,
    /// Slots of keys that have changed in this epoch.
    dirty: Vec<Slot>,
    /// Keys that are forgotten, and have a record.
    going: BTreeSet<Place>,
    /// What is to be written of the last cut.
    cut: Option<Cut>,
    /// Of which checkpoint that was.
    last_cut: Option<CheckpointId>,
    writer: RecordWriter,
    described_count: usize,
}

#[derive(Debug)]
struct Cut {
    /// None for what has changed in the end.
    checkpoint: Option<CheckpointId>,
    slots: Vec<Slot>,
    next: usize,
    going: BTreeSet<Place>,
    /// Records of keys that have changed since.
    kept: VecDeque<(Place, Vec<u8>)>,
    kept_bytes: usize,
}

impl Saving {
    pub(super) fn new(durable: &DurableStore, uid: &str) -> Self {
        Self {
            space: durable.open_space(uid),
            epoch: 1,
            dirty: Vec::new(),
            going: BTreeSet::new(),
            cut: None,
            last_cut: None,
            writer: RecordWriter::default(),
            described_count: 0,
        }
    }

    /// Bytes of what it has in memory.
    pub(super) fn bytes(&self) -> usize {
        let (slots, kept) = match &self.cut {
            Some(cut) => (cut.slots.capacity(), cut.kept_bytes),
            None => (0, 0),
        };
        (self.dirty.capacity() + slots) * size_of::<Slot>() + kept
    }

    /// The key at `slot` has changed.
    #[inline]
    pub(super) fn on_change(&mut self, residence: &mut Residence, slot: Slot) {
        if residence.epoch() != self.epoch {
            debug_assert!(residence.epoch() == 0, "{slot:?} is kept before it is changed");
            residence.set_epoch(self.epoch);
            self.dirty.push(slot);
        }
    }

    /// What the key at `slot` had at the cut is kept.
    fn on_kept(&mut self, residence: &mut Residence, slot: Slot) {
        residence.set_epoch(self.epoch);
        self.dirty.push(slot);
    }

    #[inline]
    pub(super) fn is_pending(&self, residence: Residence) -> bool {
        self.cut.is_some() && residence.epoch() != 0 && residence.epoch() != self.epoch
    }

    /// The key that had this slot is forgotten. One that comes and goes leaves nothing.
    pub(super) fn on_slot_left(&mut self, slot: Slot) {
        if self.dirty.last() == Some(&slot) {
            self.dirty.pop();
        }
    }

    /// The key at this place, which has a record, is forgotten.
    pub(super) fn on_forgotten(&mut self, residence: Residence, place: Place) {
        // One that is pending and was not kept had nothing.
        match &mut self.cut {
            Some(cut) if !matches!(residence.epoch(), 0) && residence.epoch() != self.epoch => {
                cut.going.insert(place);
            }
            _ => _ = self.going.insert(place),
        }
    }

    /// What has changed so far is what is written. Whether there is something.
    fn begin(&mut self, checkpoint: Option<CheckpointId>) -> bool {
        self.epoch = 3 - self.epoch;
        let (slots, going) = (std::mem::take(&mut self.dirty), std::mem::take(&mut self.going));
        let is_some = !slots.is_empty() || !going.is_empty();
        let (next, kept, kept_bytes) = (0, VecDeque::new(), 0);
        let cut = Cut { checkpoint, slots, next, going, kept, kept_bytes };
        self.cut = is_some.then_some(cut);
        is_some
    }

    fn is_blocked(&self, durable: &DurableStore) -> bool {
        self.last_cut.is_some_and(|cut| !durable.is_over(cut))
    }

    /// Lets the record be all that the key has.
    fn write<K, V>(
        &mut self,
        (slot, hash64, key): (Slot, u64, &K),
        value: &V,
        belongings: &impl Belongings<K, V>,
    ) {
        self.writer.clear();
        let mut writer = SnapshotWriter::of_record(&mut self.writer);
        belongings.save(slot, (hash64, key), value, &mut writer);
    }

    /// Names the states that were met since the last call: before a record of them is put.
    fn describe(&mut self, durable: &DurableStore) {
        let count = self.writer.state_count();
        if self.described_count < count {
            self.described_count = count;
            durable.describe(self.space, self.writer.encode_states());
        }
    }

    /// Puts what was written, or removes it, if it is nothing.
    fn put(
        &mut self,
        residence: &mut Residence,
        (hash64, key): (u64, &[u8]),
        durable: &DurableStore,
    ) -> Result<Put, Error> {
        self.describe(durable);
        let put = if !self.writer.bytes().is_empty() {
            durable.put(self.space, (hash64, key), self.writer.bytes())?
        } else if residence.is_saved() {
            durable.remove(self.space, (hash64, key))?
        } else {
            Put::Done
        };
        if put == Put::Done {
            residence.set_saved(!self.writer.bytes().is_empty());
            residence.set_epoch(0);
        } else {
            // Some pieces of it may be there.
            residence.set_saved(true);
        }
        Ok(put)
    }

    /// Writes a key that is about to leave memory. `Done` if checkpoints have all of it.
    pub(super) fn on_leaving<K, V>(
        &mut self,
        residence: &mut Residence,
        (slot, hash64, key): (Slot, u64, &K),
        (stored, value): (&[u8], &V),
        belongings: &impl Belongings<K, V>,
        store: &ShardStore,
    ) -> Result<Leaving, Error> {
        if residence.epoch() == 0 {
            return Ok(Leaving::Saved);
        }
        let durable = durable_of(store);
        let is_given_up = |cut: &Cut| cut.checkpoint.is_some_and(|it| durable.is_over(it));
        let stays = match &self.cut {
            // What was not written of it is about to count as changed.
            Some(cut) => residence.epoch() == self.epoch || is_given_up(cut),
            None => self.is_blocked(durable),
        };
        if stays {
            return Ok(Leaving::Stays);
        }
        self.write((slot, hash64, key), value, belongings);
        if self.put(residence, (hash64, stored), durable)? != Put::Done {
            return Ok(Leaving::NoRoom);
        }
        let place = (hash64, stored.to_vec());
        self.going.remove(&place);
        self.cut.iter_mut().for_each(|cut| _ = cut.going.remove(&place));
        Ok(Leaving::Saved)
    }
}

/// What comes of a key that is to leave memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It can.
    Saved,
    /// It has changed since a cut that is not over.
    Stays,
    /// There is no room for its record now.
    NoRoom,
}

fn durable_of(store: &ShardStore) -> &DurableStore {
    store.durable().expect("keys are saved where there is a durable store")
}

impl<K: Key, V> Residents<K, V> {
    /// Lets checkpoints have what changes, as state of operator `uid`.
    pub fn with_durable(mut self, store: &ShardStore, uid: &str) -> Self {
        if let (Some(durable), Some(spill)) = (store.durable(), &mut self.spill) {
            spill.saving = Some(Box::new(Saving::new(durable, uid)));
        }
        self
    }

    /// Whether the next cut can be made: the checkpoint of the last one is over here.
    pub fn can_cut(&self, store: &ShardStore) -> bool {
        self.saving().is_none_or(|saving| !saving.is_blocked(durable_of(store)))
    }

    /// The snapshot of `checkpoint` has been taken: what there is now is what it gets.
    ///
    /// # Panics
    /// If the last cut is not over.
    pub fn cut(&mut self, checkpoint: CheckpointId, store: &ShardStore) {
        let Some(spill) = &mut self.spill else { return };
        spill.gathering = None;
        let Some(saving) = &mut spill.saving else { return };
        let durable = durable_of(store);
        assert!(!saving.is_blocked(durable), "a cut comes when the last one is over");
        if saving.cut.is_some() {
            // It was given up.
            self.take_back();
            return self.cut(checkpoint, store);
        }
        if durable.is_over(checkpoint) {
            return;
        }
        saving.last_cut = Some(checkpoint);
        self.is_saving = saving.begin(Some(checkpoint));
    }

    /// Nothing will change any more: begins to write what has, if there is something. Whether that
    /// has to wait until the last cut is over.
    fn cut_last(&mut self, store: &ShardStore) -> bool {
        let saving = self.spill.as_mut().and_then(|spill| spill.saving.as_mut());
        let is_clean = |saving: &Saving| saving.dirty.is_empty() && saving.going.is_empty();
        match saving.filter(|saving| !is_clean(saving)) {
            None => false,
            Some(saving) if saving.is_blocked(durable_of(store)) => true,
            Some(saving) => {
                self.is_saving = saving.begin(None);
                false
            }
        }
    }

    /// Whether the durable store has all that `checkpoint` gets, or it gets nothing.
    pub fn is_saved(&self, checkpoint: CheckpointId) -> bool {
        let cut = self.saving().and_then(|saving| saving.cut.as_ref());
        cut.is_none_or(|cut| cut.checkpoint != Some(checkpoint))
    }

    /// The key at `slot` is about to change: what it has is kept, if the last cut needs it.
    #[inline]
    pub fn keep(&mut self, slot: Slot, belongings: &impl Belongings<K, V>) {
        if self.is_saving && self.is_pending(slot) {
            self.keep_pending(slot, belongings);
        }
    }

    #[cold]
    fn keep_pending(&mut self, slot: Slot, belongings: &impl Belongings<K, V>) {
        let Self { table, spill, .. } = self;
        let spill = spill.as_mut().expect("it is pending");
        let (hash64, key, Resident { residence, value }) = table.entry_mut(slot);
        spill.encode_key(key);
        let Spill { saving, key: stored, .. } = &mut **spill;
        let saving = saving.as_mut().expect("it is pending");
        saving.write((slot, hash64, key), value, belongings);
        let cut = saving.cut.as_mut().expect("it is pending");
        let place = (hash64, stored.clone());
        if !saving.writer.bytes().is_empty() {
            cut.kept_bytes += stored.len() + saving.writer.bytes().len();
            cut.kept.push_back((place, saving.writer.bytes().to_vec()));
            residence.set_saved(true);
        } else if residence.is_saved() {
            cut.going.insert(place);
            residence.set_saved(false);
        }
        // Its record is on its way, and may be dropped: until the next cut it counts as changed.
        saving.on_kept(residence, slot);
    }

    /// Writes some keys of the last cut. Whether there are more.
    ///
    /// # Errors
    /// If the durable store has failed.
    pub fn save_some(
        &mut self,
        save: Save,
        belongings: &impl Belongings<K, V>,
        store: &ShardStore,
    ) -> Result<bool, Error> {
        if save.is_last && !self.is_saving && self.cut_last(store) {
            return Ok(true);
        }
        if !self.is_saving {
            return Ok(false);
        }
        let mut steps = save.steps;
        let durable = durable_of(store);
        let Self { table, spill, is_saving } = self;
        let spill = spill.as_mut().expect("it is saving");
        let saving = spill.saving.as_mut().expect("it is saving");
        let cut = saving.cut.as_mut().expect("it is saving");
        if cut.checkpoint.is_some_and(|checkpoint| durable.is_over(checkpoint)) {
            self.take_back();
            return Ok(false);
        }
        while 0 < steps
            && let Some((hash64, key)) = cut.going.first()
        {
            if durable.remove(saving.space, (*hash64, key))? != Put::Done {
                return Ok(true);
            }
            cut.going.pop_first();
            steps -= 1;
        }
        saving.describe(durable);
        let cut = saving.cut.as_mut().expect("it is saving");
        while 0 < steps
            && let Some(((hash64, key), record)) = cut.kept.front()
        {
            if durable.put(saving.space, (*hash64, key), record)? != Put::Done {
                return Ok(true);
            }
            cut.kept_bytes -= key.len() + record.len();
            cut.kept.pop_front();
            steps -= 1;
        }
        while 0 < steps {
            let cut = saving.cut.as_mut().expect("it is being written");
            let Some(slot) = cut.slots.get(cut.next).copied() else {
                saving.cut = None;
                *is_saving = false;
                return Ok(false);
            };
            if let Some(ahead) = cut.slots.get(cut.next + KEYS_AHEAD) {
                table.prefetch_slot(*ahead);
            }
            cut.next += 1;
            steps -= 1;
            let Some((hash64, key, resident)) = table.get_entry_mut(slot) else { continue };
            let Resident { residence, value } = resident;
            if !saving.is_pending(*residence) {
                continue;
            }
            super::spill::encode_key(key, &mut spill.key);
            saving.write((slot, hash64, key), value, belongings);
            if saving.put(residence, (hash64, &spill.key), durable)? != Put::Done {
                saving.cut.as_mut().expect("it is being written").next -= 1;
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// The checkpoint was given up: what was not written of it has changed since the last one.
    fn take_back(&mut self) {
        let Self { table, spill, is_saving } = self;
        *is_saving = false;
        let spill = spill.as_mut().expect("it is saving");
        let saving = spill.saving.as_mut().expect("it is saving");
        let cut = saving.cut.take().expect("it is saving");
        saving.going.extend(cut.going);
        let epoch = saving.epoch;
        for slot in cut.slots[cut.next..].iter().copied() {
            let Some((_, _, resident)) = table.get_entry_mut(slot) else { continue };
            if !matches!(resident.residence.epoch(), 0) && resident.residence.epoch() != epoch {
                resident.residence.set_epoch(epoch);
                saving.dirty.push(slot);
            }
        }
    }
}
