//! [`KeyedState`]: everything one operator keeps per key, and the one look-up per record.
//!
//! ```text
//! enter(key) ──► its states and timers ──► leave()      a key that keeps nothing is forgotten
//! ```
//!
//! Invariant: between records, exactly the keys with a non-empty state or a timer (or the leftover
//! alarm of one) have a slot.

use std::ops::Range;
use std::task::Poll;

use millstream_storage::key::StoredKey;

use crate::data::ahead::Ahead;
use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::key_group::KeyGroupCount;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::state::columns::{Restoring, StateColumns, StateScope};
use crate::state::durable::Save;
use crate::state::packed::{Damage, Packer};
use crate::state::residents::{Belongings, Residents};
use crate::state::shard_store::ShardStore;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::spec::StateTime;
use crate::state::table::Cursor;
use crate::time::timer::{Moment, Registrant, TimerQueue};

/// Entries that a sweep looks at in one turn: some 20 µs if each is a miss.
const SWEEP_LIMIT: u32 = 128;

/// How many timers ahead of the one that fires its key is asked for: enough that the cache misses
/// of one overlap with the firing of others.
const TIMERS_AHEAD: usize = 8;

/// Which time a timer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerKind {
    /// The watermark.
    Event,
    /// Processing time.
    Processing,
}

impl TimerKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Event, Self::Processing];

    pub(crate) fn stored_name(self) -> &'static str {
        match self {
            Self::Event => "timers/event",
            Self::Processing => "timers/processing",
        }
    }
}

/// The states and timers of all keys of a task.
#[derive(Debug)]
pub struct KeyedState<K> {
    key_group_count: KeyGroupCount,
    key_groups: Range<u32>,
    /// Their states are in the columns.
    keys: Residents<K, ()>,
    columns: StateColumns,
    event_timers: TimerQueue,
    processing_timers: TimerQueue,
    /// The key that was entered had no slot before, or has lost a timer since.
    may_be_empty: bool,
    /// Its timers may have changed.
    is_retimed: bool,
    emptied: Vec<Slot>,
    /// Of the last cut.
    moments: Moments,
}

/// How far the timers of each kind had come.
type Moments = [Moment; 2];

/// Bytes of a timer, in the agenda and with its key, about.
const TIMER_BYTES: usize = 48;

/// The states of the key that was entered.
impl<K> StateScope for KeyedState<K> {
    #[inline]
    fn states(&self) -> &StateColumns {
        &self.columns
    }

    #[inline]
    fn states_mut(&mut self) -> &mut StateColumns {
        &mut self.columns
    }
}

impl<K: Key> KeyedState<K> {
    /// No keys yet, with the states of `columns`, for a task that owns `key_groups`.
    pub fn new(
        columns: StateColumns,
        key_group_count: KeyGroupCount,
        key_groups: Range<u32>,
    ) -> Self {
        Self {
            keys: Residents::new(key_group_count.hashes(key_groups.clone())),
            key_group_count,
            key_groups,
            columns,
            event_timers: TimerQueue::default(),
            processing_timers: TimerQueue::default(),
            may_be_empty: false,
            is_retimed: false,
            emptied: Vec::new(),
            moments: [TimerQueue::default().moment(); 2],
        }
    }

    /// How many keys have state or timers.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// The states.
    pub fn columns(&self) -> &StateColumns {
        &self.columns
    }

    /// The states, of the key that was entered.
    pub fn columns_mut(&mut self) -> &mut StateColumns {
        &mut self.columns
    }

    /// The timers of one kind.
    pub fn timers(&self, kind: TimerKind) -> &TimerQueue {
        match kind {
            TimerKind::Event => &self.event_timers,
            TimerKind::Processing => &self.processing_timers,
        }
    }

    /// The timers of one kind.
    pub fn timers_mut(&mut self, kind: TimerKind) -> &mut TimerQueue {
        match kind {
            TimerKind::Event => &mut self.event_timers,
            TimerKind::Processing => &mut self.processing_timers,
        }
    }

    /// Asks for what the records to come will read.
    #[inline]
    pub fn prefetch(&mut self, ahead: Ahead<'_>) {
        self.keys.prefetch_with(ahead, |slot| {
            self.columns.prefetch(slot);
            self.event_timers.prefetch(slot);
        });
    }

    /// The slot of a key that has state or timers.
    pub fn find(&self, hash64: u64, key: &K) -> Option<Slot> {
        self.keys.find(hash64, key)
    }

    /// From now on `key` is processed. Every `enter` is followed by a [`KeyedState::leave`].
    #[inline]
    pub fn enter(&mut self, hash64: u64, key: K, now: StateTime) -> Slot {
        let key_count = self.keys.len();
        let slot = self.keys.find_or_insert_with(hash64, key, || ());
        self.may_be_empty = self.keys.len() != key_count;
        self.is_retimed = false;
        self.keys.note_use(slot);
        self.keep(slot);
        self.columns.enter(slot, now);
        slot
    }

    /// The key at `slot` is about to change.
    #[inline]
    fn keep(&mut self, slot: Slot) {
        if self.keys.is_saving() {
            let (keys, states) = self.split();
            keys.keep(slot, &states);
        }
    }

    /// From now on the key at `slot` is processed.
    pub fn enter_slot(&mut self, slot: Slot, now: StateTime) {
        // If a timer of it has just been taken, that may have been all there was.
        self.may_be_empty = true;
        self.is_retimed = true;
        self.keys.note_use(slot);
        self.keep(slot);
        self.columns.enter(slot, now);
    }

    /// As [`KeyedState::enter`], of a key whose timer has just been taken.
    pub fn enter_again(&mut self, hash64: u64, key: K, now: StateTime) {
        self.enter(hash64, key, now);
        (self.may_be_empty, self.is_retimed) = (true, true);
    }

    /// Whether a function would see a state of the key being processed.
    pub fn shows_any(&self) -> bool {
        self.columns.shows_any()
    }

    /// Forgets all states of the key being processed.
    pub fn forget_states(&mut self) {
        self.columns.forget_all();
    }

    /// The key has been processed; if it keeps nothing it is forgotten.
    #[inline]
    pub fn leave(&mut self) {
        if self.columns.is_changed() || self.is_retimed {
            let slot = self.columns.slot();
            self.keys.note_change(slot, |()| self.columns.heap_bytes(slot));
        }
        if self.columns.leave(self.may_be_empty) || self.may_be_empty {
            self.forget_if_empty(self.columns.slot());
        }
    }

    /// The key being processed.
    #[inline]
    pub fn key(&self) -> &K {
        self.keys.key(self.columns.slot())
    }

    /// The slot of the next key on a walk over all of them, in the order of their hashes.
    pub fn next_key(&self, walk: &mut Cursor) -> Option<Slot> {
        self.keys.next_key(walk)
    }

    /// The key at `slot`, and its hash.
    pub fn key_at(&self, slot: Slot) -> (&K, u64) {
        (self.keys.key(slot), self.keys.hash64(slot))
    }

    /// All processing-time timers are due, and none is registered any more.
    pub fn end_processing_time(&mut self) {
        if self.processing_timers.horizon_ms() < i64::MAX {
            self.processing_timers.begin(i64::MAX);
        }
    }

    /// Registers a timer for the key being processed. `false` if it has that one already, or if
    /// processing time has ended.
    pub fn register(&mut self, kind: TimerKind, time_ms: i64, by: Registrant) -> bool {
        if kind == TimerKind::Processing && self.processing_timers.horizon_ms() == i64::MAX {
            return false;
        }
        self.is_retimed = true;
        let slot = self.columns.slot();
        let hash64 = self.keys.hash64(slot);
        self.timers_mut(kind).register(slot, hash64, time_ms, by)
    }

    /// Deletes a timer of the key being processed. `false` if it has no such.
    pub fn delete(&mut self, kind: TimerKind, time_ms: i64) -> bool {
        (self.may_be_empty, self.is_retimed) = (true, true);
        let slot = self.columns.slot();
        self.timers_mut(kind).delete(slot, time_ms)
    }

    /// The next due timer of one key, as [`TimerQueue::pop_of`]. It must be entered next.
    pub fn pop_due_of(&mut self, kind: TimerKind, slot: Slot, until_ms: i64) -> Option<i64> {
        self.keep(slot);
        self.timers_mut(kind).pop_of(slot, until_ms)
    }

    /// One step towards the next due timer, as [`TimerQueue::pop`]. Its key must be entered next.
    pub fn pop_due(&mut self, kind: TimerKind) -> Option<(Slot, i64)> {
        if let Some((slot, hash64)) = self.timers(kind).ahead(TIMERS_AHEAD) {
            self.timers(kind).prefetch(slot);
            self.keys.prefetch_key(slot, hash64);
            self.columns.prefetch(slot);
        }
        if let Some(slot) = self.timers(kind).next_due() {
            self.keep(slot);
        }
        let popped = self.timers_mut(kind).pop();
        while let Some(slot) = self.timers_mut(kind).take_emptied() {
            self.forget_if_empty(slot);
        }
        popped
    }

    /// Gives the memory of some expired entries back: a bounded part of what there is to do.
    pub fn sweep(&mut self, now: StateTime) {
        // What has expired since a cut had not at the cut.
        if self.keys.is_saving() {
            return;
        }
        let mut emptied = std::mem::take(&mut self.emptied);
        self.columns.sweep(now, SWEEP_LIMIT, &mut emptied);
        for slot in emptied.drain(..) {
            self.forget_if_empty(slot);
        }
        self.emptied = emptied;
    }

    /// The earliest processing time (ms) at which there is something to fire or to sweep.
    pub fn next_time_ms(&self) -> Option<i64> {
        let sweep_ms = self.columns.next_sweep_ms().filter(|_| !self.keys.is_saving());
        self.processing_timers.next_time_ms().into_iter().chain(sweep_ms).min()
    }

    fn forget_if_empty(&mut self, slot: Slot) {
        if !self.columns.is_empty_at(slot) {
            return;
        }
        let hash64 = self.keys.hash64(slot);
        if self.event_timers.settle(slot, hash64) && self.processing_timers.settle(slot, hash64) {
            self.keys.give_up(slot);
            self.columns.forget(slot);
        }
    }

    /// Lets states that find no room in memory go to the shard's store, and checkpoints have what
    /// changes, as state of operator `uid`.
    pub fn with_store(
        mut self,
        store: &ShardStore,
        (chain_index, stage_index): (u16, u16),
        uid: &str,
    ) -> Self {
        self.keys = self.keys.with_store(store, chain_index, stage_index).with_durable(store, uid);
        self
    }

    /// The keys.
    pub fn keys(&self) -> &Residents<K, ()> {
        &self.keys
    }

    /// As [`Residents::admit`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn admit(&mut self, hash64: u64, key: &K, store: &ShardStore) -> Result<bool, Error> {
        let (keys, mut states) = self.split();
        keys.admit(hash64, key, &mut states, store)
    }

    /// As [`Residents::admit_slot`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn admit_slot(&mut self, slot: Slot, store: &ShardStore) -> Result<bool, Error> {
        let (keys, mut states) = self.split();
        keys.admit_slot(slot, &mut states, store)
    }

    /// As [`Residents::recharge`].
    ///
    /// # Errors
    /// As there.
    pub fn recharge(&mut self, store: &ShardStore) -> Result<(), Error> {
        let (keys, states) = self.split();
        keys.recharge(&states, store)
    }

    /// As [`Residents::evict`].
    ///
    /// # Errors
    /// As there.
    pub fn evict(&mut self, steps: u32, store: &ShardStore) -> Result<u32, Error> {
        let (keys, mut states) = self.split();
        keys.evict(steps, &mut states, store)
    }

    /// Sees to it that [`KeyedState::snapshot`] has everything: as [`Residents::gather`].
    ///
    /// # Errors
    /// As there.
    pub fn gather(&mut self, store: &ShardStore) -> Result<Poll<()>, Error> {
        let (keys, mut states) = self.split();
        keys.gather(&mut states, store)
    }

    /// The snapshot of `checkpoint` has been taken; as [`Residents::cut`].
    pub fn cut(&mut self, checkpoint: CheckpointId, store: &ShardStore) {
        self.moments = self.now();
        self.keys.cut(checkpoint, store);
    }

    /// As [`Residents::save_some`].
    ///
    /// # Errors
    /// As there.
    pub fn save_some(&mut self, save: Save, store: &ShardStore) -> Result<bool, Error> {
        if !self.keys.is_saving() {
            self.moments = self.now();
        }
        let (keys, states) = self.split();
        keys.save_some(save, &states, store)
    }

    fn now(&self) -> Moments {
        TimerKind::ALL.map(|kind| self.timers(kind).moment())
    }

    #[inline]
    fn split(&mut self) -> (&mut Residents<K, ()>, States<'_>) {
        // What is written while a cut is being written is as it was then.
        let moments = if self.keys.is_saving() { self.moments } else { self.now() };
        let states = States {
            moments,
            columns: &mut self.columns,
            event_timers: &mut self.event_timers,
            processing_timers: &mut self.processing_timers,
            key_group_count: self.key_group_count,
        };
        (&mut self.keys, states)
    }

    /// Writes all states and timers. If states have left memory, they were gathered before.
    pub fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        self.columns.declare_in(writer);
        if self.keys.is_durable() {
            return;
        }
        self.keys.save_cold(writer);
        let queues = TimerKind::ALL.map(|kind| (self.timers(kind), self.timers(kind).moment()));
        for slot in self.keys.slots() {
            let (key, hash64) = self.key_at(slot);
            let key = key.archive();
            let place = place_of(self.key_group_count, hash64, &key);
            save_states(&self.columns, slot, &place, writer);
            save_timers(queues, slot, &place, writer);
        }
    }

    /// Takes the states and timers of the task's keys from a snapshot. Called once, before anything
    /// else; `watermark_ms` is how far event time had come.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for damaged bytes.
    pub fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        watermark_ms: i64,
        processing_ms: i64,
    ) -> Result<(), Error> {
        let keys = &mut self.keys;
        let mut slots = Vec::new();
        let mut slot_of = |place: &StoredKey<'_>| {
            let key: K = reader.unarchive("key", place.key)?;
            let slot = keys.find_or_insert_with(place.hash64, key, || ());
            slots.push(slot);
            Ok(slot)
        };
        let key_groups = self.key_groups.clone();
        let now = StateTime::between_records(watermark_ms, processing_ms);
        let mut restoring = Restoring { key_groups, now, slot_of: &mut slot_of };
        self.columns.restore(reader, &mut restoring)?;
        let clocks = self.columns.stored_clocks();
        for (place, clock_ms) in reader.keyed_state::<i64>(&clocks, self.key_groups.clone())? {
            let slot = (restoring.slot_of)(&place)?;
            self.columns.restore_clock(slot, clock_ms);
        }
        self.event_timers.restore_horizon(watermark_ms);
        for kind in TimerKind::ALL {
            let timers =
                reader.keyed_state::<(i64, bool)>(kind.stored_name(), self.key_groups.clone())?;
            for (place, (time_ms, is_late)) in timers {
                let slot = (restoring.slot_of)(&place)?;
                let queue = match kind {
                    TimerKind::Event => &mut self.event_timers,
                    TimerKind::Processing => &mut self.processing_timers,
                };
                queue.restore(slot, place.hash64, time_ms, is_late);
            }
        }
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            self.columns.count_live(slot);
            self.keys.note_change(slot, |()| self.columns.heap_bytes(slot));
        }
        Ok(())
    }
}

/// What keys have by their slots. Timers stay in memory.
struct States<'a> {
    moments: Moments,
    columns: &'a mut StateColumns,
    event_timers: &'a mut TimerQueue,
    processing_timers: &'a mut TimerQueue,
    key_group_count: KeyGroupCount,
}

impl<K: Key> Belongings<K, ()> for States<'_> {
    fn create(&self) {}

    fn is_empty(&self, slot: Slot, (): &()) -> bool {
        // One without states has timers only.
        self.columns.is_empty_at(slot)
    }

    fn pack(&self, slot: Slot, (): &(), packer: &mut Packer) {
        self.columns.pack(slot, packer);
    }

    fn unpack(&mut self, slot: Slot, (): &mut (), bytes: &[u8]) -> Result<(), Damage> {
        self.columns.unpack(slot, bytes)
    }

    fn clear(&mut self, slot: Slot, (): &mut ()) {
        self.columns.evict(slot);
    }

    fn is_expected(&mut self, slot: Slot, hash64: u64, (): &()) -> bool {
        let is_quiet = self.event_timers.settle(slot, hash64);
        !(is_quiet && self.processing_timers.settle(slot, hash64))
    }

    fn heap_bytes(&self, slot: Slot, (): &()) -> usize {
        self.columns.heap_bytes(slot)
    }

    fn slot_bytes(&self) -> usize {
        self.columns.slot_bytes()
    }

    fn other_bytes(&self) -> usize {
        (self.event_timers.len() + self.processing_timers.len()) * TIMER_BYTES
    }

    fn save(&self, slot: Slot, of: (u64, &K), (): &(), writer: &mut SnapshotWriter<'_>) {
        let (hash64, key) = of;
        let key = key.archive();
        let place = place_of(self.key_group_count, hash64, &key);
        save_states(self.columns, slot, &place, writer);
        let [event, processing] = self.moments;
        let queues = [(&*self.event_timers, event), (&*self.processing_timers, processing)];
        save_timers(queues, slot, &place, writer);
    }
}

/// Where the states of a key are in a snapshot.
fn place_of(key_group_count: KeyGroupCount, hash64: u64, key: &[u8]) -> StoredKey<'_> {
    StoredKey {
        key_group: key_group_count.of(hash64).0,
        state_id: 0,
        window_bucket: 0,
        hash64,
        key,
        namespace: &[],
        map_key: &[],
    }
}

/// Writes the timers of the key at `slot`, of each kind as they were at a moment.
fn save_timers(
    queues: [(&TimerQueue, Moment); 2],
    slot: Slot,
    place: &StoredKey<'_>,
    writer: &mut SnapshotWriter<'_>,
) {
    for (kind, (timers, moment)) in TimerKind::ALL.into_iter().zip(queues) {
        for (time_ms, is_late) in timers.timers_at(slot, moment) {
            let namespace = (time_ms as u64 ^ 1 << 63).to_be_bytes();
            let place = StoredKey { namespace: &namespace, ..*place };
            writer.keyed_state(kind.stored_name(), &place, &(time_ms, is_late));
        }
    }
}

/// Writes the states of the key at `slot`, and how far event time has come for it.
fn save_states(
    columns: &StateColumns,
    slot: Slot,
    place: &StoredKey<'_>,
    writer: &mut SnapshotWriter<'_>,
) {
    columns.snapshot(slot, place, writer);
    if let Some(clock_ms) = columns.clock_ms(slot) {
        writer.keyed_state(&columns.stored_clocks(), place, &clock_ms);
    }
}
