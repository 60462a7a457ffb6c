//! A map per key: [`MapState`].
//!
//! Entries are in the order of the map keys' `Ord`, which is what a user's `range` means. (In a
//! snapshot they are in the order of archived bytes; a restore puts them right.)

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeBounds;

use millstream_storage::key::StoredKey;

use crate::data::key::Key;
use crate::data::record::Record;
use crate::data::slot::{Pages, Slot};
use crate::error::Error;
use crate::state::columns::{Column, ColumnId, Restoring, Scope, StateColumns, StateScope};
use crate::state::expiry::Expiry;
use crate::state::packed::{Damage, Packer, Part, heap_bytes};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::spec::{StateSpec, StateTime, Ttl};
use crate::state::stored::{StateName, read_entries};

/// The maps of all keys: one of the two, depending on whether there is a time to live.
pub(super) struct MapColumn<M, V> {
    name: StateName,
    plain: Pages<BTreeMap<M, V>>,
    timed: Pages<TimedMap<M, V>>,
    expiry: Option<Expiry>,
}

/// A map whose entries have stamps, and how far a sweep of it has come.
struct TimedMap<M, V> {
    entries: BTreeMap<M, Timed<V>>,
    /// Entries before this one have been looked at; the earliest stamp of those that stayed.
    sweep: Option<(M, i64)>,
}

struct Timed<V> {
    value: V,
    stamp_ms: Cell<i64>,
}

impl<M, V> Default for TimedMap<M, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), sweep: None }
    }
}

impl<V> Timed<V> {
    /// The value, unless it has expired; reading may refresh it.
    fn visible(&self, ttl: &Ttl, now: &StateTime) -> Option<&V> {
        if ttl.is_expired(self.stamp_ms.get(), now) {
            return None;
        }
        if ttl.is_refreshed_on_read() {
            self.stamp_ms.set(self.stamp_ms.get().max(ttl.stamp_ms(now)));
        }
        Some(&self.value)
    }
}

impl<M: Key + Ord, V: Record> MapColumn<M, V> {
    fn get(&self, scope: &Scope, map_key: &M) -> Option<&V> {
        match &self.expiry {
            None => self.plain.get(scope.slot)?.get(map_key),
            Some(Expiry { ttl, .. }) => {
                let entry = self.timed.get(scope.slot)?.entries.get(map_key)?;
                entry.visible(ttl, &scope.now)
            }
        }
    }

    fn put(&mut self, scope: &mut Scope, map_key: M, value: V) -> Option<V> {
        let Some(expiry) = &mut self.expiry else {
            let entries = self.plain.get_mut(scope.slot);
            if entries.is_empty() {
                scope.gained();
            }
            return entries.insert(map_key, value);
        };
        let entries = &mut self.timed.get_mut(scope.slot).entries;
        if entries.is_empty() {
            scope.gained();
        }
        let stamp_ms = expiry.ttl.stamp_ms(&scope.now);
        expiry.list(scope.slot, stamp_ms);
        match entries.get_mut(&map_key) {
            Some(entry) => {
                let old = std::mem::replace(&mut entry.value, value);
                let was_visible = !expiry.ttl.is_expired(entry.stamp_ms.get(), &scope.now);
                entry.stamp_ms.set(entry.stamp_ms.get().max(stamp_ms));
                was_visible.then_some(old)
            }
            None => {
                entries.insert(map_key, Timed { value, stamp_ms: Cell::new(stamp_ms) });
                None
            }
        }
    }

    fn get_mut(&mut self, scope: &mut Scope, map_key: &M) -> Option<&mut V> {
        let Some(expiry) = &mut self.expiry else {
            return self.plain.get_mut(scope.slot).get_mut(map_key);
        };
        let entry = self.timed.get_mut(scope.slot).entries.get_mut(map_key)?;
        if expiry.ttl.is_expired(entry.stamp_ms.get(), &scope.now) {
            return None;
        }
        entry.stamp_ms.set(entry.stamp_ms.get().max(expiry.ttl.stamp_ms(&scope.now)));
        Some(&mut entry.value)
    }

    fn remove(&mut self, scope: &mut Scope, map_key: &M) -> Option<V> {
        let (removed, is_empty) = match &self.expiry {
            None => {
                let entries = self.plain.get_mut(scope.slot);
                (entries.remove(map_key), entries.is_empty())
            }
            Some(Expiry { ttl, .. }) => {
                let entries = &mut self.timed.get_mut(scope.slot).entries;
                let entry = entries.remove(map_key)?;
                if entries.is_empty() {
                    scope.lost();
                }
                let is_visible = !ttl.is_expired(entry.stamp_ms.get(), &scope.now);
                return is_visible.then_some(entry.value);
            }
        };
        if removed.is_some() && is_empty {
            scope.lost();
        }
        removed
    }

    fn range(&self, scope: Scope, range: impl RangeBounds<M>) -> impl Iterator<Item = (&M, &V)> {
        let ttl = self.expiry.as_ref().map(|expiry| expiry.ttl);
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        let plain = self.plain.get(scope.slot).map(|entries| entries.range(bounds.clone()));
        let timed = self.timed.get(scope.slot).map(|map| map.entries.range(bounds));
        let timed = timed
            .into_iter()
            .flatten()
            .filter_map(move |(map_key, entry)| Some((map_key, entry.visible(&ttl?, &scope.now)?)));
        plain.into_iter().flatten().chain(timed)
    }

    fn clear(&mut self, scope: &mut Scope) {
        if self.holds(scope.slot) {
            scope.lost();
        }
        match &self.expiry {
            None => self.plain.get_mut(scope.slot).clear(),
            Some(_) => *self.timed.get_mut(scope.slot) = TimedMap::default(),
        }
    }
}

impl<M: Key + Ord, V> TimedMap<M, V> {
    /// Goes on with the sweep of this map for at most `limit` entries. The earliest stamp that is
    /// left, once it has been through.
    fn sweep(&mut self, ttl: &Ttl, now: &StateTime, limit: &mut u32) -> Option<i64> {
        let (mut next, mut earliest_ms) = match self.sweep.take() {
            Some((next, earliest_ms)) => (Some(next), earliest_ms),
            None => (self.entries.keys().next().cloned(), i64::MAX),
        };
        while let Some(map_key) = next.take() {
            if *limit == 0 {
                self.sweep = Some((map_key, earliest_ms));
                return None;
            }
            *limit -= 1;
            let mut rest = self.entries.range(map_key..);
            let Some((map_key, entry)) = rest.next() else { break };
            next = rest.next().map(|(map_key, _)| map_key.clone());
            let stamp_ms = entry.stamp_ms.get();
            if ttl.is_expired(stamp_ms, now) {
                let map_key = map_key.clone();
                self.entries.remove(&map_key);
            } else {
                earliest_ms = earliest_ms.min(stamp_ms);
            }
        }
        Some(earliest_ms)
    }
}

impl<M: Key + Ord, V: Record> Column for MapColumn<M, V> {
    fn prefetch(&self, slot: Slot) {
        match &self.expiry {
            None => self.plain.prefetch(slot),
            Some(_) => self.timed.prefetch(slot),
        }
    }

    fn sweep(&mut self, now: &StateTime, limit: &mut u32, emptied: &mut Vec<Slot>) {
        let Some(expiry) = &mut self.expiry else { return };
        while 0 < *limit
            && let Some(slot) = expiry.pop_due(now)
        {
            *limit -= 1;
            let map = self.timed.get_mut(slot);
            if map.entries.is_empty() {
                continue;
            }
            match map.sweep(&expiry.ttl, now, limit) {
                None => expiry.put_back(slot),
                Some(_) if map.entries.is_empty() => emptied.push(slot),
                Some(earliest_ms) => expiry.list(slot, earliest_ms),
            }
        }
    }

    fn expiry(&self) -> Option<&Expiry> {
        self.expiry.as_ref()
    }

    fn snapshot(&self, slot: Slot, place: &StoredKey<'_>, writer: &mut SnapshotWriter<'_>) {
        for (map_key, value) in self.plain.get(slot).into_iter().flatten() {
            let map_key = map_key.archive();
            let place = StoredKey { map_key: &map_key, ..*place };
            writer.keyed_state(&self.name.entries, &place, value);
        }
        let timed = self.timed.get(slot).into_iter().flat_map(|map| &map.entries);
        for (map_key, entry) in timed {
            let map_key = map_key.archive();
            let place = StoredKey { map_key: &map_key, ..*place };
            writer.keyed_state(&self.name.entries, &place, &entry.value);
            self.name.put_stamp(&place, entry.stamp_ms.get(), writer);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        restoring: &mut Restoring<'_>,
    ) -> Result<(), Error> {
        let unstamped_ms = self.expiry.as_ref().map(|expiry| expiry.ttl.stamp_ms(&restoring.now));
        for entry in read_entries::<V>(reader, &self.name, restoring, unstamped_ms)? {
            let map_key: M = reader.unarchive(&self.name.entries, entry.map_key)?;
            match &mut self.expiry {
                None => {
                    self.plain.get_mut(entry.slot).insert(map_key, entry.value);
                }
                Some(expiry) => {
                    let stamp_ms = Cell::new(entry.stamp_ms);
                    let timed = Timed { value: entry.value, stamp_ms };
                    self.timed.get_mut(entry.slot).entries.insert(map_key, timed);
                    expiry.list(entry.slot, entry.stamp_ms);
                }
            }
        }
        Ok(())
    }

    fn pack(&self, slot: Slot, packer: &mut Packer) {
        for (map_key, value) in self.plain.get(slot).into_iter().flatten() {
            packer.value(map_key);
            packer.value(value);
        }
        for (map_key, entry) in self.timed.get(slot).into_iter().flat_map(|map| &map.entries) {
            packer.stamp(entry.stamp_ms.get());
            packer.value(map_key);
            packer.value(&entry.value);
        }
    }

    fn unpack(&mut self, slot: Slot, mut part: Part<'_, '_>) -> Result<(), Damage> {
        while !part.is_empty() {
            match &mut self.expiry {
                None => {
                    let map_key = part.value()?;
                    self.plain.get_mut(slot).insert(map_key, part.value()?);
                }
                Some(expiry) => {
                    let stamp_ms = part.stamp()?;
                    expiry.list(slot, stamp_ms);
                    let map_key = part.value()?;
                    let entry = Timed { value: part.value()?, stamp_ms: Cell::new(stamp_ms) };
                    self.timed.get_mut(slot).entries.insert(map_key, entry);
                }
            }
        }
        Ok(())
    }

    fn evict(&mut self, slot: Slot) {
        match &self.expiry {
            None => self.plain.get_mut(slot).clear(),
            Some(_) => *self.timed.get_mut(slot) = TimedMap::default(),
        }
    }

    /// As if all entries were as the first one, in nodes that are three quarters full.
    fn heap_bytes(&self, slot: Slot) -> usize {
        let plain = self.plain.get(slot).and_then(|map| {
            let (map_key, value) = map.first_key_value()?;
            let each = size_of::<(M, V)>() * 4 / 3 + heap_bytes(map_key) + heap_bytes(value);
            Some(map.len() * each)
        });
        let timed = self.timed.get(slot).and_then(|map| {
            let (map_key, entry) = map.entries.first_key_value()?;
            let each = size_of::<(M, Timed<V>)>() * 4 / 3;
            let each = each + heap_bytes(map_key) + heap_bytes(&entry.value);
            Some(map.entries.len() * each)
        });
        plain.unwrap_or(0) + timed.unwrap_or(0)
    }

    fn slot_bytes(&self) -> usize {
        match &self.expiry {
            None => size_of::<BTreeMap<M, V>>(),
            Some(_) => size_of::<TimedMap<M, V>>(),
        }
    }

    fn forget(&mut self, scope: &mut Scope) {
        self.clear(scope);
    }

    fn holds(&self, slot: Slot) -> bool {
        match &self.expiry {
            None => self.plain.get(slot).is_some_and(|map| !map.is_empty()),
            Some(_) => self.timed.get(slot).is_some_and(|map| !map.entries.is_empty()),
        }
    }

    fn shows(&self, slot: Slot, now: &StateTime) -> bool {
        let Some(expiry) = &self.expiry else { return self.holds(slot) };
        let mut entries = self.timed.get(slot).into_iter().flat_map(|map| map.entries.values());
        entries.any(|entry| !expiry.ttl.is_expired(entry.stamp_ms.get(), now))
    }
}

/// A map for each key, ordered by map key. With a time to live, every entry has its own.
///
/// ```
/// # use millstream::prelude::*;
/// # fn process(visits: &MapState<String, u64>, ctx: &mut KeyedContext<'_, u64>) {
/// visits.update(ctx, "/index".to_string(), |count| *count += 1);
/// for (page, count) in visits.iter(ctx) {
///     assert!(!page.is_empty() && 0 < *count);
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct MapState<M, V> {
    column: ColumnId<MapColumn<M, V>>,
}

impl<M, V> Default for MapState<M, V> {
    fn default() -> Self {
        Self { column: ColumnId::default() }
    }
}

impl<M, V> fmt::Debug for MapState<M, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.column.fmt(f)
    }
}

impl<M: Key + Ord, V: Record> MapState<M, V> {
    /// Declares the state; `None` if the operator has one of that name.
    pub(crate) fn declare(columns: &mut StateColumns, name: &str, spec: StateSpec) -> Option<Self> {
        let stored_name = columns.stored_name(name, &spec);
        let column = columns.declare("map", name, spec, || MapColumn {
            name: stored_name,
            plain: Pages::default(),
            timed: Pages::default(),
            expiry: spec.ttl().map(Expiry::new),
        })?;
        Some(Self { column })
    }

    /// The value of a map key.
    pub fn get<'a>(&self, ctx: &'a impl StateScope, map_key: &M) -> Option<&'a V> {
        let (column, scope) = ctx.states().column(self.column);
        column.get(scope, map_key)
    }

    /// Whether there is a value of a map key.
    pub fn contains(&self, ctx: &impl StateScope, map_key: &M) -> bool {
        self.get(ctx, map_key).is_some()
    }

    /// The value of a map key, to change in place.
    pub fn get_mut<'a>(&self, ctx: &'a mut impl StateScope, map_key: &M) -> Option<&'a mut V> {
        let (column, scope) = ctx.states_mut().column_mut(self.column);
        column.get_mut(scope, map_key)
    }

    /// Makes `value` the value of a map key; answers the one before.
    pub fn put(&self, ctx: &mut impl StateScope, map_key: M, value: V) -> Option<V> {
        let (column, scope) = ctx.states_mut().column_mut(self.column);
        column.put(scope, map_key, value)
    }

    /// Changes the value of a map key in place; if there is none, it starts as the default.
    pub fn update<R>(
        &self,
        ctx: &mut impl StateScope,
        map_key: M,
        change: impl FnOnce(&mut V) -> R,
    ) -> R
    where
        V: Default,
    {
        let (column, scope) = ctx.states_mut().column_mut(self.column);
        if let Some(value) = column.get_mut(scope, &map_key) {
            return change(value);
        }
        let mut value = V::default();
        let result = change(&mut value);
        column.put(scope, map_key, value);
        result
    }

    /// Removes the value of a map key and answers it.
    pub fn remove(&self, ctx: &mut impl StateScope, map_key: &M) -> Option<V> {
        let (column, scope) = ctx.states_mut().column_mut(self.column);
        column.remove(scope, map_key)
    }

    /// The entries, by map key.
    pub fn iter<'a, S: StateScope>(
        &self,
        ctx: &'a S,
    ) -> impl Iterator<Item = (&'a M, &'a V)> + use<'a, S, M, V> {
        let (column, scope) = ctx.states().column(self.column);
        column.range(*scope, ..)
    }

    /// The entries whose map keys are in `range`, by map key.
    pub fn range<'a, S: StateScope, R: RangeBounds<M>>(
        &self,
        ctx: &'a S,
        range: R,
    ) -> impl Iterator<Item = (&'a M, &'a V)> + use<'a, S, R, M, V> {
        let (column, scope) = ctx.states().column(self.column);
        column.range(*scope, range)
    }

    /// Whether there are no entries.
    pub fn is_empty(&self, ctx: &impl StateScope) -> bool {
        self.iter(ctx).next().is_none()
    }

    /// Removes all entries.
    pub fn clear(&self, ctx: &mut impl StateScope) {
        let (column, scope) = ctx.states_mut().column_mut(self.column);
        column.clear(scope);
    }
}
