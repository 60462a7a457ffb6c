//! A list per key: [`ListState`].

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;

use millstream_storage::key::StoredKey;

use crate::data::record::Record;
use crate::data::slot::{Pages, Slot};
use crate::error::Error;
use crate::state::columns::{Column, ColumnId, Restoring, Scope, StateColumns, StateScope};
use crate::state::expiry::Expiry;
use crate::state::packed::{Damage, Packer, Part, heap_bytes};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::spec::{StateSpec, StateTime};
use crate::state::stored::{StateName, read_entries};

/// The lists of all keys.
pub(super) struct ListColumn<V> {
    name: StateName,
    lists: Pages<VecDeque<V>>,
    /// When each element was last written, ms; only with a time to live.
    stamps_ms: Pages<VecDeque<Cell<i64>>>,
    expiry: Option<Expiry>,
}

impl<V: Record> ListColumn<V> {
    fn append(&mut self, scope: &mut Scope, value: V) {
        let list = self.lists.get_mut(scope.slot);
        if list.is_empty() {
            scope.gained();
        }
        list.push_back(value);
        if let Some(expiry) = &mut self.expiry {
            let stamp_ms = expiry.ttl.stamp_ms(&scope.now);
            self.stamps_ms.get_mut(scope.slot).push_back(Cell::new(stamp_ms));
            expiry.list(scope.slot, stamp_ms);
        }
    }

    fn iter(&self, scope: Scope) -> impl Iterator<Item = &V> {
        let expiry = self.expiry.as_ref();
        let mut stamps_ms = self.stamps_ms.get(scope.slot).into_iter().flatten();
        let values = self.lists.get(scope.slot).into_iter().flatten();
        values.filter(move |_| {
            let Some(Expiry { ttl, .. }) = expiry else { return true };
            let stamp = stamps_ms.next().expect("a stamp for every element");
            let is_visible = !ttl.is_expired(stamp.get(), &scope.now);
            if is_visible && ttl.is_refreshed_on_read() {
                stamp.set(stamp.get().max(ttl.stamp_ms(&scope.now)));
            }
            is_visible
        })
    }

    fn clear(&mut self, scope: &mut Scope) {
        let list = self.lists.get_mut(scope.slot);
        if !list.is_empty() {
            // Not `clear`: the memory goes back, too.
            *list = VecDeque::new();
            scope.lost();
        }
        if self.expiry.is_some() {
            *self.stamps_ms.get_mut(scope.slot) = VecDeque::new();
        }
    }
}

impl<V: Record> Column for ListColumn<V> {
    fn prefetch(&self, slot: Slot) {
        self.lists.prefetch(slot);
    }

    /// Elements leave at the front. One that expires before those in front of it (event times are
    /// out of order) is invisible at once and leaves with them.
    fn sweep(&mut self, now: &StateTime, limit: &mut u32, emptied: &mut Vec<Slot>) {
        let Some(expiry) = &mut self.expiry else { return };
        while 0 < *limit
            && let Some(slot) = expiry.pop_due(now)
        {
            *limit -= 1;
            let list = self.lists.get_mut(slot);
            let stamps_ms = self.stamps_ms.get_mut(slot);
            let was_empty = list.is_empty();
            while let Some(stamp) = stamps_ms.front()
                && expiry.ttl.is_expired(stamp.get(), now)
                && 0 < *limit
            {
                *limit -= 1;
                list.pop_front();
                stamps_ms.pop_front();
            }
            match stamps_ms.front() {
                None if was_empty => {}
                None => {
                    (*list, *stamps_ms) = (VecDeque::new(), VecDeque::new());
                    emptied.push(slot);
                }
                Some(stamp) if expiry.ttl.is_expired(stamp.get(), now) => expiry.put_back(slot),
                Some(stamp) => expiry.list(slot, stamp.get()),
            }
        }
    }

    fn expiry(&self) -> Option<&Expiry> {
        self.expiry.as_ref()
    }

    fn snapshot(&self, slot: Slot, place: &StoredKey<'_>, writer: &mut SnapshotWriter<'_>) {
        let Some(list) = self.lists.get(slot) else { return };
        for (position, value) in list.iter().enumerate() {
            let map_key = (position as u64).to_be_bytes();
            let place = StoredKey { map_key: &map_key, ..*place };
            writer.keyed_state(&self.name.entries, &place, value);
            let stamp = self.stamps_ms.get(slot).and_then(|stamps| stamps.get(position));
            if let Some(stamp) = stamp {
                self.name.put_stamp(&place, stamp.get(), writer);
            }
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        restoring: &mut Restoring<'_>,
    ) -> Result<(), Error> {
        let unstamped_ms = self.expiry.as_ref().map(|expiry| expiry.ttl.stamp_ms(&restoring.now));
        for entry in read_entries::<V>(reader, &self.name, restoring, unstamped_ms)? {
            self.lists.get_mut(entry.slot).push_back(entry.value);
            if let Some(expiry) = &mut self.expiry {
                self.stamps_ms.get_mut(entry.slot).push_back(Cell::new(entry.stamp_ms));
                expiry.list(entry.slot, entry.stamp_ms);
            }
        }
        Ok(())
    }

    fn pack(&self, slot: Slot, packer: &mut Packer) {
        let mut stamps_ms = self.stamps_ms.get(slot).into_iter().flatten();
        for value in self.lists.get(slot).into_iter().flatten() {
            if self.expiry.is_some() {
                packer.stamp(stamps_ms.next().expect("a stamp for every element").get());
            }
            packer.value(value);
        }
    }

    fn unpack(&mut self, slot: Slot, mut part: Part<'_, '_>) -> Result<(), Damage> {
        let list = self.lists.get_mut(slot);
        while !part.is_empty() {
            if let Some(expiry) = &mut self.expiry {
                let stamp_ms = part.stamp()?;
                self.stamps_ms.get_mut(slot).push_back(Cell::new(stamp_ms));
                expiry.list(slot, stamp_ms);
            }
            list.push_back(part.value()?);
        }
        Ok(())
    }

    fn evict(&mut self, slot: Slot) {
        *self.lists.get_mut(slot) = VecDeque::new();
        if self.expiry.is_some() {
            *self.stamps_ms.get_mut(slot) = VecDeque::new();
        }
    }

    /// As if all elements were as the last one.
    fn heap_bytes(&self, slot: Slot) -> usize {
        let Some(list) = self.lists.get(slot) else { return 0 };
        let stamps =
            self.stamps_ms.get(slot).map_or(0, |stamps| stamps.capacity() * size_of::<i64>());
        list.capacity() * size_of::<V>() + list.len() * list.back().map_or(0, heap_bytes) + stamps
    }

    fn slot_bytes(&self) -> usize {
        let stamps = self.expiry.as_ref().map_or(0, |_| size_of::<VecDeque<Cell<i64>>>());
        size_of::<VecDeque<V>>() + stamps
    }

    fn forget(&mut self, scope: &mut Scope) {
        self.clear(scope);
    }

    fn holds(&self, slot: Slot) -> bool {
        self.lists.get(slot).is_some_and(|list| !list.is_empty())
    }

    fn shows(&self, slot: Slot, now: &StateTime) -> bool {
        let Some(expiry) = &self.expiry else { return self.holds(slot) };
        let mut stamps_ms = self.stamps_ms.get(slot).into_iter().flatten();
        stamps_ms.any(|stamp| !expiry.ttl.is_expired(stamp.get(), now))
    }
}

/// A list for each key. With a time to live, every element has its own.
///
/// ```
/// # use millstream::prelude::*;
/// # fn process(merchants: &ListState<u32>, ctx: &mut KeyedContext<'_, u64>) {
/// merchants.append(ctx, 17);
/// let latest = merchants.iter(ctx).last();
/// assert_eq!(latest, Some(&17));
/// # }
/// ```
#[derive(Clone)]
pub struct ListState<V> {
    column: ColumnId<ListColumn<V>>,
}

impl<V> Default for ListState<V> {
    fn default() -> Self {
        Self { column: ColumnId::default() }
    }
}

impl<V> fmt::Debug for ListState<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.column.fmt(f)
    }
}

impl<V: Record> ListState<V> {
    /// Declares the state; `None` if the operator has one of that name.
    pub(crate) fn declare(columns: &mut StateColumns, name: &str, spec: StateSpec) -> Option<Self> {
        let stored_name = columns.stored_name(name, &spec);
        let column = columns.declare("list", name, spec, || ListColumn {
            name: stored_name,
            lists: Pages::default(),
            stamps_ms: Pages::default(),
            expiry: spec.ttl().map(Expiry::new),
        })?;
        Some(Self { column })
    }

    /// Appends an element.
    pub fn append(&self, ctx: &mut impl StateScope, value: V) {
        let (column, scope) = ctx.states_mut().column_mut(self.column);
        column.append(scope, value);
    }

    /// Appends elements.
    pub fn extend(&self, ctx: &mut impl StateScope, values: impl IntoIterator<Item = V>) {
        let (column, scope) = ctx.states_mut().column_mut(self.column);
        values.into_iter().for_each(|value| column.append(scope, value));
    }

    /// The elements, in the order in which they were appended.
    pub fn iter<'a, S: StateScope>(
        &self,
        ctx: &'a S,
    ) -> impl Iterator<Item = &'a V> + use<'a, S, V> {
        let (column, scope) = ctx.states().column(self.column);
        column.iter(*scope)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self, ctx: &impl StateScope) -> bool {
        self.iter(ctx).next().is_none()
    }

    /// Makes `values` the elements.
    pub fn replace(&self, ctx: &mut impl StateScope, values: impl IntoIterator<Item = V>) {
        self.clear(ctx);
        self.extend(ctx, values);
    }

    /// Removes all elements and answers them.
    pub fn take(&self, ctx: &mut impl StateScope) -> Vec<V> {
        let values = self.iter(ctx).cloned().collect();
        self.clear(ctx);
        values
    }

    /// Removes all elements.
    pub fn clear(&self, ctx: &mut impl StateScope) {
        let (column, scope) = ctx.states_mut().column_mut(self.column);
        column.clear(scope);
    }
}
