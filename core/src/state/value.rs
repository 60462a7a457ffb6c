//! One value per key: [`ValueState`], and what folds into one value: [`ReducingState`],
//! [`AggregatingState`].

use std::cell::Cell;
use std::fmt;

use millstream_storage::key::StoredKey;

use crate::data::record::Record;
use crate::data::slot::{Pages, Slot};
use crate::error::Error;
use crate::state::aggregate::AggregateFunction;
use crate::state::columns::{Column, ColumnId, Restoring, Scope, StateColumns, StateScope};
use crate::state::expiry::Expiry;
use crate::state::packed::{Damage, Packer, Part, heap_bytes};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::spec::{StateSpec, StateTime};
use crate::state::stored::{StateName, read_entries};

/// The values of all keys.
pub(super) struct ValueColumn<V> {
    name: StateName,
    values: Pages<Option<V>>,
    /// When each was last written, ms; only with a time to live.
    stamps_ms: Pages<Cell<i64>>,
    expiry: Option<Expiry>,
}

impl<V: Record> ValueColumn<V> {
    fn declare(
        columns: &mut StateColumns,
        kind: &'static str,
        name: &str,
        spec: StateSpec,
    ) -> Option<ColumnId<Self>> {
        let stored_name = columns.stored_name(name, &spec);
        columns.declare(kind, name, spec, || Self {
            name: stored_name,
            values: Pages::default(),
            stamps_ms: Pages::default(),
            expiry: spec.ttl().map(Expiry::new),
        })
    }

    #[inline]
    fn get(&self, scope: &Scope) -> Option<&V> {
        let value = self.values.get(scope.slot)?.as_ref()?;
        if let Some(expiry) = &self.expiry {
            let stamp = self.stamps_ms.get(scope.slot).expect("stamped when it was written");
            if expiry.ttl.is_expired(stamp.get(), &scope.now) {
                return None;
            }
            if expiry.ttl.is_refreshed_on_read() {
                stamp.set(stamp.get().max(expiry.ttl.stamp_ms(&scope.now)));
            }
        }
        Some(value)
    }

    /// The value to change in place; an expired one is gone.
    #[inline]
    fn entry(&mut self, scope: &mut Scope) -> &mut Option<V> {
        let value = self.values.get_mut(scope.slot);
        if let Some(expiry) = &mut self.expiry {
            let stamp = self.stamps_ms.get_mut(scope.slot);
            let new_ms = expiry.ttl.stamp_ms(&scope.now);
            if value.is_none() {
                stamp.set(new_ms);
            } else if expiry.ttl.is_expired(stamp.get(), &scope.now) {
                *value = None;
                scope.lost();
                stamp.set(new_ms);
            } else {
                stamp.set(stamp.get().max(new_ms));
            }
            expiry.list(scope.slot, stamp.get());
        }
        value
    }

    fn set(&mut self, scope: &mut Scope, new: V) {
        let value = self.entry(scope);
        if value.replace(new).is_none() {
            scope.gained();
        }
    }

    #[inline]
    fn get_or_insert_with(&mut self, scope: &mut Scope, new: impl FnOnce() -> V) -> &mut V {
        let value = self.entry(scope);
        if value.is_none() {
            scope.gained();
        }
        value.get_or_insert_with(new)
    }

    /// Makes a value of the one that is there.
    #[inline]
    fn fold(&mut self, scope: &mut Scope, change: impl FnOnce(Option<V>) -> V) -> &V {
        let value = self.entry(scope);
        let old = value.take();
        if old.is_none() {
            scope.gained();
        }
        value.insert(change(old))
    }

    fn get_mut(&mut self, scope: &mut Scope) -> Option<&mut V> {
        if self.values.get(scope.slot).is_none_or(Option::is_none) {
            return None;
        }
        self.entry(scope).as_mut()
    }

    fn take(&mut self, scope: &mut Scope) -> Option<V> {
        let is_visible = self.get(scope).is_some();
        let value = self.values.get_mut(scope.slot).take()?;
        scope.lost();
        is_visible.then_some(value)
    }
}

impl<V: Record> Column for ValueColumn<V> {
    fn prefetch(&self, slot: Slot) {
        self.values.prefetch(slot);
        if self.expiry.is_some() {
            self.stamps_ms.prefetch(slot);
        }
    }

    fn sweep(&mut self, now: &StateTime, limit: &mut u32, emptied: &mut Vec<Slot>) {
        let Some(expiry) = &mut self.expiry else { return };
        while 0 < *limit
            && let Some(slot) = expiry.pop_due(now)
        {
            *limit -= 1;
            let value = self.values.get_mut(slot);
            if value.is_none() {
                continue;
            }
            let stamp_ms = self.stamps_ms.get_mut(slot).get();
            if expiry.ttl.is_expired(stamp_ms, now) {
                *value = None;
                emptied.push(slot);
            } else {
                expiry.list(slot, stamp_ms);
            }
        }
    }

    fn expiry(&self) -> Option<&Expiry> {
        self.expiry.as_ref()
    }

    fn snapshot(&self, slot: Slot, place: &StoredKey<'_>, writer: &mut SnapshotWriter<'_>) {
        let Some(Some(value)) = self.values.get(slot) else { return };
        writer.keyed_state(&self.name.entries, place, value);
        if self.expiry.is_some() {
            let stamp_ms = self.stamps_ms.get(slot).map_or(0, Cell::get);
            self.name.put_stamp(place, stamp_ms, writer);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        restoring: &mut Restoring<'_>,
    ) -> Result<(), Error> {
        let unstamped_ms = self.expiry.as_ref().map(|expiry| expiry.ttl.stamp_ms(&restoring.now));
        for entry in read_entries::<V>(reader, &self.name, restoring, unstamped_ms)? {
            *self.values.get_mut(entry.slot) = Some(entry.value);
            if let Some(expiry) = &mut self.expiry {
                self.stamps_ms.get_mut(entry.slot).set(entry.stamp_ms);
                expiry.list(entry.slot, entry.stamp_ms);
            }
        }
        Ok(())
    }

    fn pack(&self, slot: Slot, packer: &mut Packer) {
        let Some(Some(value)) = self.values.get(slot) else { return };
        if self.expiry.is_some() {
            packer.stamp(self.stamps_ms.get(slot).map_or(0, Cell::get));
        }
        packer.value(value);
    }

    fn unpack(&mut self, slot: Slot, mut part: Part<'_, '_>) -> Result<(), Damage> {
        if let Some(expiry) = &mut self.expiry {
            let stamp_ms = part.stamp()?;
            self.stamps_ms.get_mut(slot).set(stamp_ms);
            expiry.list(slot, stamp_ms);
        }
        *self.values.get_mut(slot) = Some(part.value()?);
        if part.is_empty() { Ok(()) } else { Err(Damage("a value is followed by something")) }
    }

    fn evict(&mut self, slot: Slot) {
        *self.values.get_mut(slot) = None;
    }

    fn heap_bytes(&self, slot: Slot) -> usize {
        self.values.get(slot).and_then(Option::as_ref).map_or(0, heap_bytes)
    }

    fn slot_bytes(&self) -> usize {
        let stamp = self.expiry.as_ref().map_or(0, |_| size_of::<i64>());
        size_of::<Option<V>>() + stamp
    }

    fn forget(&mut self, scope: &mut Scope) {
        self.take(scope);
    }

    fn holds(&self, slot: Slot) -> bool {
        self.values.get(slot).is_some_and(Option::is_some)
    }

    fn shows(&self, slot: Slot, now: &StateTime) -> bool {
        let Some(expiry) = &self.expiry else { return self.holds(slot) };
        let is_expired = |stamp: &Cell<i64>| expiry.ttl.is_expired(stamp.get(), now);
        self.holds(slot) && !self.stamps_ms.get(slot).is_some_and(is_expired)
    }
}

/// A value for each key.
///
/// Declared in `open`, used with the context of the record or timer being processed:
///
/// ```
/// use millstream::prelude::*;
///
/// #[derive(Clone, Default)]
/// struct CountPerCard {
///     count: ValueState<u64>,
/// }
///
/// impl KeyedProcessFunction<u64, f64> for CountPerCard {
///     type Out = u64;
///
///     fn open(&mut self, ctx: &mut OpenContext<'_>) {
///         self.count = ctx.value("count", StateSpec::kept_until_cleared());
///     }
///
///     fn process(
///         &mut self,
///         _amount: f64,
///         ctx: &mut KeyedContext<'_, u64>,
///         out: &mut impl Output<u64>,
///     ) {
///         self.count.update(ctx, |count| *count += 1);
///         out.collect(self.count.get(ctx).copied().unwrap_or(0));
///     }
/// }
/// ```
#[derive(Clone)]
pub struct ValueState<V> {
    column: ColumnId<ValueColumn<V>>,
}

impl<V> Default for ValueState<V> {
    fn default() -> Self {
        Self { column: ColumnId::default() }
    }
}

impl<V> fmt::Debug for ValueState<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.column.fmt(f)
    }
}

impl<V: Record> ValueState<V> {
    /// Declares the state; `None` if the operator has one of that name.
    pub(crate) fn declare(columns: &mut StateColumns, name: &str, spec: StateSpec) -> Option<Self> {
        Some(Self { column: ValueColumn::declare(columns, "value", name, spec)? })
    }

    /// The key's value.
    #[inline]
    pub fn get<'a>(&self, ctx: &'a impl StateScope) -> Option<&'a V> {
        let (column, scope) = ctx.states().column(self.column);
        column.get(scope)
    }

    /// The key's value, to change in place.
    #[inline]
    pub fn get_mut<'a>(&self, ctx: &'a mut impl StateScope) -> Option<&'a mut V> {
        let (column, scope) = ctx.states_mut().column_mut(self.column);
        column.get_mut(scope)
    }

    /// The key's value, to change in place; if there is none, `new()` is.
    #[inline]
    pub fn get_or_insert_with<'a>(
        &self,
        ctx: &'a mut impl StateScope,
        new: impl FnOnce() -> V,
    ) -> &'a mut V {
        let (column, scope) = ctx.states_mut().column_mut(self.column);
        column.get_or_insert_with(scope, new)
    }

    /// Changes the key's value in place; if there is none, it starts as the default.
    #[inline]
    pub fn update<R>(&self, ctx: &mut impl StateScope, change: impl FnOnce(&mut V) -> R) -> R
    where
        V: Default,
    {
        change(self.get_or_insert_with(ctx, V::default))
    }

    /// Makes `value` the key's value.
    #[inline]
    pub fn set(&self, ctx: &mut impl StateScope, value: V) {
        let (column, scope) = ctx.states_mut().column_mut(self.column);
        column.set(scope, value);
    }

    /// Makes the key's value of the one that is there, and answers it.
    #[inline]
    pub(crate) fn fold<'a>(
        &self,
        ctx: &'a mut impl StateScope,
        change: impl FnOnce(Option<V>) -> V,
    ) -> &'a V {
        let (column, scope) = ctx.states_mut().column_mut(self.column);
        column.fold(scope, change)
    }

    /// Removes the key's value and answers it.
    pub fn take(&self, ctx: &mut impl StateScope) -> Option<V> {
        let (column, scope) = ctx.states_mut().column_mut(self.column);
        column.take(scope)
    }

    /// Removes the key's value.
    pub fn clear(&self, ctx: &mut impl StateScope) {
        self.take(ctx);
    }
}

/// A value for each key that others are folded into: a sum, a maximum, the last of something.
#[derive(Clone)]
pub struct ReducingState<V> {
    value: ValueState<V>,
    reduce: fn(&mut V, V),
}

impl<V> Default for ReducingState<V> {
    fn default() -> Self {
        Self { value: ValueState::default(), reduce: |_, _| {} }
    }
}

impl<V> fmt::Debug for ReducingState<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<V: Record> ReducingState<V> {
    /// Declares the state; `None` if the operator has one of that name.
    pub(crate) fn declare(
        columns: &mut StateColumns,
        name: &str,
        spec: StateSpec,
        reduce: fn(&mut V, V),
    ) -> Option<Self> {
        let column = ValueColumn::declare(columns, "reducing", name, spec)?;
        Some(Self { value: ValueState { column }, reduce })
    }

    /// Folds `value` into the key's value; the first one is it.
    #[inline]
    pub fn add(&self, ctx: &mut impl StateScope, value: V) {
        let (column, scope) = ctx.states_mut().column_mut(self.value.column);
        match column.entry(scope) {
            Some(folded) => (self.reduce)(folded, value),
            empty => {
                *empty = Some(value);
                scope.gained();
            }
        }
    }

    /// What all values of the key fold into; none if there were none.
    #[inline]
    pub fn get<'a>(&self, ctx: &'a impl StateScope) -> Option<&'a V> {
        self.value.get(ctx)
    }

    /// Removes what was folded and answers it.
    pub fn take(&self, ctx: &mut impl StateScope) -> Option<V> {
        self.value.take(ctx)
    }

    /// Removes what was folded.
    pub fn clear(&self, ctx: &mut impl StateScope) {
        self.value.clear(ctx);
    }
}

/// An accumulator for each key, and the aggregation that it belongs to.
#[derive(Clone)]
pub struct AggregatingState<A: AggregateFunction> {
    /// With the function, once it is declared.
    declared: Option<(A, ValueState<A::Accumulator>)>,
}

impl<A: AggregateFunction> Default for AggregatingState<A> {
    fn default() -> Self {
        Self { declared: None }
    }
}

impl<A: AggregateFunction> fmt::Debug for AggregatingState<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.declared.as_ref().map(|(_, accumulator)| accumulator).fmt(f)
    }
}

impl<A: AggregateFunction> AggregatingState<A> {
    /// Declares the state; `None` if the operator has one of that name.
    pub(crate) fn declare(
        columns: &mut StateColumns,
        name: &str,
        spec: StateSpec,
        function: A,
    ) -> Option<Self> {
        let column = ValueColumn::declare(columns, "aggregating", name, spec)?;
        Some(Self { declared: Some((function, ValueState { column })) })
    }

    /// Adds a value to the key's accumulator.
    #[inline]
    pub fn add(&self, ctx: &mut impl StateScope, value: A::In) {
        let (function, accumulator) = self.declared();
        function.add(accumulator.get_or_insert_with(ctx, || function.create()), value);
    }

    /// The result of what was added; none if nothing was.
    #[inline]
    pub fn get(&self, ctx: &impl StateScope) -> Option<A::Out> {
        let (function, accumulator) = self.declared();
        accumulator.get(ctx).map(|accumulator| function.result(accumulator))
    }

    /// Removes the key's accumulator.
    pub fn clear(&self, ctx: &mut impl StateScope) {
        self.declared().1.clear(ctx);
    }

    fn declared(&self) -> &(A, ValueState<A::Accumulator>) {
        self.declared.as_ref().expect("a state is used that `open` has declared")
    }
}
