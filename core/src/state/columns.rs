//! All states of one operator, as columns over slots, and the key whose turn it is.
//!
//! ```text
//!               slot 0   slot 1   slot 2 …          one row per key that has state
//! "count"      [  17   |        |   3    ]          a `Column` each; typed inside
//! "merchants"  [ {..}  |  {..}  |        ]
//! live         [   2   |   1    |   1    ]          how many columns hold something of the key
//!                          ▲
//!                        scope: the key being processed
//! ```
//!
//! A handle (`ValueState<V>`, ...) is the number of a column and its type: using it costs one
//! indirection and one comparison of types, the only dynamic step on the way to a state.
//!
//! Invariant: `live` counts exactly the columns that hold something at a slot, up to what
//! `Scope::live_change` has not been added yet; a slot without any is given back, so all columns
//! are empty at a slot that no key has.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

use crate::data::row::NO_EVENT_TIME;
use crate::data::slot::{Pages, Slot};
use crate::error::Error;
use crate::state::packed::{Damage, Packer, Part, Unpacker};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::spec::{StateDeclaration, StateSpec, StateTime, TtlTime};
use crate::state::stored::StateName;
use millstream_storage::key::StoredKey;

/// Gives access to the states of the key being processed: what every `get`, `set`, ... of a state
/// handle is called with.
pub trait StateScope {
    /// The states, to read.
    fn states(&self) -> &StateColumns;

    /// The states, to write.
    fn states_mut(&mut self) -> &mut StateColumns;
}

/// See the module.
pub struct StateColumns {
    columns: Vec<Box<dyn Column>>,
    declarations: Vec<StateDeclaration>,
    live: Pages<u32>,
    /// If a state has a time to live in event time: how far it had come for each key when the key
    /// was last looked at.
    clocks: Option<Pages<KeyClock>>,
    pub(super) scope: Scope,
    /// A state has stamps that reading it refreshes.
    changes_when_read: bool,
    /// What names in a snapshot begin with: empty for states of keys.
    owner: &'static str,
}

/// The states of the key that was entered.
impl StateScope for StateColumns {
    #[inline]
    fn states(&self) -> &StateColumns {
        self
    }

    #[inline]
    fn states_mut(&mut self) -> &mut StateColumns {
        self
    }
}

/// For one key event time never goes back, although a late timer is for a time long past; otherwise
/// what has expired could come to life again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KeyClock(i64);

impl Default for KeyClock {
    fn default() -> Self {
        Self(NO_EVENT_TIME)
    }
}

/// The key being processed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    pub(super) slot: Slot,
    pub(super) now: StateTime,
    /// Columns that have come to hold something of the key, minus those that do not any more.
    live_change: i32,
    /// Something of the key may have changed.
    is_changed: bool,
}

impl Scope {
    /// A column that held nothing of the key does now.
    pub(super) fn gained(&mut self) {
        self.live_change += 1;
    }

    /// A column that held something of the key does not any more.
    pub(super) fn lost(&mut self) {
        self.live_change -= 1;
    }
}

/// One state of all keys.
pub(super) trait Column: Any + Send {
    /// Asks for what the next access to `slot` will read.
    fn prefetch(&self, slot: Slot);

    /// Looks at keys that may have expired entries, at most `limit` entries; appends those of which
    /// nothing is left.
    fn sweep(&mut self, now: &StateTime, limit: &mut u32, emptied: &mut Vec<Slot>);

    /// The time to live, if there is one, with what it has to do.
    fn expiry(&self) -> Option<&super::expiry::Expiry>;

    /// Writes what there is at `slot` of the key in `place`.
    fn snapshot(&self, slot: Slot, place: &StoredKey<'_>, writer: &mut SnapshotWriter<'_>);

    /// Reads all entries of the state. `slot_of` finds the slot of a stored key, or none if it is
    /// not the task's, and is told of every entry.
    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        restoring: &mut Restoring<'_>,
    ) -> Result<(), Error>;

    /// Packs what there is at `slot`.
    fn pack(&self, slot: Slot, packer: &mut Packer);

    /// Takes in what was packed, at a `slot` that holds nothing.
    fn unpack(&mut self, slot: Slot, part: Part<'_, '_>) -> Result<(), Damage>;

    /// Drops what there is at `slot`; it is somewhere else.
    fn evict(&mut self, slot: Slot);

    /// Bytes on the heap for what there is at `slot`, about.
    fn heap_bytes(&self, slot: Slot) -> usize;

    /// Bytes that every slot takes.
    fn slot_bytes(&self) -> usize;

    /// Forgets what there is of the key being processed.
    fn forget(&mut self, scope: &mut Scope);

    /// Whether there is something at `slot`.
    fn holds(&self, slot: Slot) -> bool;

    /// Whether a function would see something at `slot`. Nothing is refreshed by asking.
    fn shows(&self, slot: Slot, now: &StateTime) -> bool;
}

/// What a column needs to take in a snapshot.
pub(super) struct Restoring<'a> {
    pub(super) key_groups: std::ops::Range<u32>,
    pub(super) now: StateTime,
    /// The slot of a stored key.
    pub(super) slot_of: &'a mut dyn FnMut(&StoredKey<'_>) -> Result<Slot, Error>,
}

/// The number of a column, and the type of it.
pub(super) struct ColumnId<C> {
    number: u16,
    column: PhantomData<fn() -> C>,
}

impl<C> ColumnId<C> {
    const UNDECLARED: u16 = u16::MAX;
}

impl<C> Default for ColumnId<C> {
    fn default() -> Self {
        Self { number: Self::UNDECLARED, column: PhantomData }
    }
}

impl<C> Clone for ColumnId<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for ColumnId<C> {}

impl<C> fmt::Debug for ColumnId<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Self::UNDECLARED => f.write_str("undeclared"),
            number => write!(f, "state {number}"),
        }
    }
}

impl Default for StateColumns {
    fn default() -> Self {
        let now = StateTime { event_stamp_ms: 0, event_clock_ms: 0, processing_ms: 0 };
        let scope = Scope { slot: Slot(u32::MAX), now, live_change: 0, is_changed: false };
        Self {
            columns: Vec::new(),
            declarations: Vec::new(),
            live: Pages::default(),
            clocks: None,
            scope,
            changes_when_read: false,
            owner: "",
        }
    }
}

impl StateColumns {
    /// States that do not belong to keys alone: their names in a snapshot begin with `owner`.
    pub(crate) fn of(owner: &'static str) -> Self {
        Self { owner, ..Self::default() }
    }

    /// What a state is called in a snapshot.
    pub(super) fn stored_name(&self, name: &str, spec: &StateSpec) -> StateName {
        StateName::new(self.owner, name, spec.schema())
    }

    /// Writes which states there are, and what their values are made of.
    pub(super) fn declare_in(&self, writer: &mut SnapshotWriter<'_>) {
        for StateDeclaration { name, spec, .. } in &self.declarations {
            writer.declare("state", name);
            self.stored_name(name, spec).put_schema(writer);
        }
    }

    /// What the times of [`StateColumns::clock_ms`] are called in a snapshot.
    pub(super) fn stored_clocks(&self) -> String {
        format!("{}clocks", self.owner)
    }

    /// Forgets all states of the key being processed.
    pub(super) fn forget_all(&mut self) {
        self.scope.is_changed = true;
        self.columns.iter_mut().for_each(|column| column.forget(&mut self.scope));
    }

    /// The states, in the order in which they were declared.
    pub fn declarations(&self) -> &[StateDeclaration] {
        &self.declarations
    }

    /// Entries that have expired and wait for their memory to be given back (about: those that were
    /// refreshed just before count until they are looked at).
    pub fn expired_count(&self) -> usize {
        let now = &self.scope.now;
        let expiries = self.columns.iter().filter_map(|column| column.expiry());
        expiries.map(|expiry| expiry.due_count(now)).sum()
    }

    /// Adds a column. `None` if there is one of that name already.
    pub(super) fn declare<C: Column>(
        &mut self,
        kind: &'static str,
        name: &str,
        spec: StateSpec,
        make: impl FnOnce() -> C,
    ) -> Option<ColumnId<C>> {
        if self.declarations.iter().any(|other| other.name == name) {
            return None;
        }
        let number = u16::try_from(self.columns.len()).expect("an operator has few states");
        if spec.ttl().is_some_and(|ttl| ttl.time() == TtlTime::Event) {
            self.clocks.get_or_insert_default();
        }
        self.changes_when_read |= spec.ttl().is_some_and(|ttl| ttl.is_refreshed_on_read());
        self.columns.push(Box::new(make()));
        self.declarations.push(StateDeclaration { name: name.to_string(), kind, spec });
        Some(ColumnId { number, column: PhantomData })
    }

    /// The column, and the key whose turn it is.
    #[inline]
    pub(super) fn column<C: Column>(&self, id: ColumnId<C>) -> (&C, &Scope) {
        let column = self.columns.get(usize::from(id.number)).unwrap_or_else(|| undeclared());
        let column: &dyn Any = &**column;
        (column.downcast_ref().unwrap_or_else(|| undeclared()), &self.scope)
    }

    /// As [`StateColumns::column`], to write.
    #[inline]
    pub(super) fn column_mut<C: Column>(&mut self, id: ColumnId<C>) -> (&mut C, &mut Scope) {
        let column = self.columns.get_mut(usize::from(id.number)).unwrap_or_else(|| undeclared());
        let column: &mut dyn Any = &mut **column;
        self.scope.is_changed = true;
        (column.downcast_mut().unwrap_or_else(|| undeclared()), &mut self.scope)
    }

    /// The slot of the key being processed.
    #[inline]
    pub(super) fn slot(&self) -> Slot {
        self.scope.slot
    }

    /// From now on the key at `slot` is processed.
    #[inline]
    pub(super) fn enter(&mut self, slot: Slot, mut now: StateTime) {
        let mut is_changed = self.changes_when_read;
        if let Some(clocks) = &mut self.clocks {
            let clock = clocks.get_mut(slot);
            is_changed |= clock.0 < now.event_clock_ms;
            clock.0 = clock.0.max(now.event_clock_ms);
            now.event_clock_ms = clock.0;
            now.event_stamp_ms = clock.0.max(now.event_stamp_ms);
        }
        self.scope = Scope { slot, now, live_change: 0, is_changed };
    }

    /// Whether something of the key being processed may have changed.
    #[inline]
    pub(super) fn is_changed(&self) -> bool {
        self.scope.is_changed
    }

    /// The key has been processed. Answers whether nothing of it is left; it need not be asked if
    /// the key had something before and nothing was removed.
    #[inline]
    pub(super) fn leave(&mut self, is_new: bool) -> bool {
        let change = std::mem::take(&mut self.scope.live_change);
        if change == 0 && !is_new {
            return false;
        }
        self.add_live(self.scope.slot, change)
    }

    fn add_live(&mut self, slot: Slot, change: i32) -> bool {
        let live = self.live.get_mut(slot);
        *live = live.checked_add_signed(change).expect("a column loses only what it held");
        *live == 0
    }

    /// The key at `slot` is forgotten.
    pub(super) fn forget(&mut self, slot: Slot) {
        assert!(self.is_empty_at(slot), "a key with state is forgotten");
        if let Some(clocks) = &mut self.clocks {
            *clocks.get_mut(slot) = KeyClock::default();
        }
    }

    /// How far event time had come when the key at `slot` was last looked at, ms, if it matters.
    pub(super) fn clock_ms(&self, slot: Slot) -> Option<i64> {
        let clock = self.clocks.as_ref()?.get(slot)?.0;
        (clock != NO_EVENT_TIME).then_some(clock)
    }

    pub(super) fn restore_clock(&mut self, slot: Slot, clock_ms: i64) {
        if let Some(clocks) = &mut self.clocks {
            *clocks.get_mut(slot) = KeyClock(clock_ms);
        }
    }

    /// Whether columns hold nothing at `slot`.
    pub(super) fn is_empty_at(&self, slot: Slot) -> bool {
        self.live.get(slot).is_none_or(|live| *live == 0)
    }

    /// Whether a function would see something of the key being processed.
    pub(super) fn shows_any(&self) -> bool {
        self.columns.iter().any(|column| column.shows(self.scope.slot, &self.scope.now))
    }

    pub(super) fn prefetch(&self, slot: Slot) {
        self.columns.iter().for_each(|column| column.prefetch(slot));
    }

    /// Gives the memory of at most `limit` expired entries back; `emptied` takes the slots of which
    /// nothing is left.
    pub(super) fn sweep(&mut self, now: StateTime, mut limit: u32, emptied: &mut Vec<Slot>) {
        self.scope.now = now;
        for number in 0..self.columns.len() {
            if self.columns[number].expiry().is_none() {
                continue;
            }
            let first = emptied.len();
            self.columns[number].sweep(&now, &mut limit, emptied);
            let mut kept = first;
            for i in first..emptied.len() {
                if self.add_live(emptied[i], -1) {
                    emptied[kept] = emptied[i];
                    kept += 1;
                }
            }
            emptied.truncate(kept);
        }
    }

    /// The earliest time (ms) of processing time at which a sweep would find something.
    pub(super) fn next_sweep_ms(&self) -> Option<i64> {
        let expiries = self.columns.iter().filter_map(|column| column.expiry());
        expiries
            .filter(|expiry| expiry.ttl.time() == TtlTime::Processing)
            .filter_map(super::expiry::Expiry::next_ms)
            .min()
    }

    pub(super) fn snapshot(
        &self,
        slot: Slot,
        place: &StoredKey<'_>,
        writer: &mut SnapshotWriter<'_>,
    ) {
        for (number, column) in self.columns.iter().enumerate() {
            column.snapshot(slot, &StoredKey { state_id: number as u16, ..*place }, writer);
        }
    }

    pub(super) fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        restoring: &mut Restoring<'_>,
    ) -> Result<(), Error> {
        self.columns.iter_mut().try_for_each(|column| column.restore(reader, restoring))
    }

    /// Packs what there is at `slot`.
    pub(super) fn pack(&self, slot: Slot, packer: &mut Packer) {
        packer.begin(self.clock_ms(slot).unwrap_or(NO_EVENT_TIME));
        for (number, column) in self.columns.iter().enumerate() {
            packer.begin_part(number as u16);
            column.pack(slot, packer);
            packer.end_part();
        }
    }

    /// Takes in what was packed, at a `slot` that holds nothing.
    pub(super) fn unpack(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), Damage> {
        let (mut unpacker, clock_ms) = Unpacker::new(bytes)?;
        self.restore_clock(slot, clock_ms);
        while let Some((number, part)) = unpacker.next_part()? {
            let column = self.columns.get_mut(usize::from(number));
            column.ok_or(Damage("it has a state that is not declared"))?.unpack(slot, part)?;
        }
        self.count_live(slot);
        Ok(())
    }

    /// Drops what there is at `slot`; it is somewhere else.
    pub(super) fn evict(&mut self, slot: Slot) {
        self.columns.iter_mut().for_each(|column| column.evict(slot));
        *self.live.get_mut(slot) = 0;
        self.restore_clock(slot, NO_EVENT_TIME);
    }

    /// Bytes on the heap for what there is at `slot`, about.
    pub(super) fn heap_bytes(&self, slot: Slot) -> usize {
        self.columns.iter().map(|column| column.heap_bytes(slot)).sum()
    }

    /// Bytes that every slot takes.
    pub(super) fn slot_bytes(&self) -> usize {
        let clock = self.clocks.as_ref().map_or(0, |_| size_of::<KeyClock>());
        let columns = self.columns.iter().map(|column| column.slot_bytes());
        size_of::<u32>() + clock + columns.sum::<usize>()
    }

    /// Counts what a restore has put at `slot`.
    pub(super) fn count_live(&mut self, slot: Slot) {
        let live = self.columns.iter().filter(|column| column.holds(slot)).count();
        *self.live.get_mut(slot) = live as u32;
    }
}

impl fmt::Debug for StateColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.declarations).finish()
    }
}

#[cold]
fn undeclared() -> ! {
    panic!("a state is used that this operator's `open` has not declared")
}
