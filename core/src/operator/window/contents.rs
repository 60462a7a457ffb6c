//! What a window of the general operator keeps of its records, and what becomes of it.
//!
//! | contents | keeps | for |
//! |---|---|---|
//! | [`Aggregated`] | an accumulator | `reduce`, `aggregate` |
//! | [`Listed`] | all records | `process`, and everything with an evictor |
//! | [`CoGrouped`](super::CoGrouped) | all records of two inputs | `co_group`, `window_join` |
//! | [`CoEvicted`](super::CoEvicted) | the same, as they arrived | the same with an evictor |

use std::marker::PhantomData;

use crate::data::key::Key;
use crate::data::record::Record;
use crate::error::Error;
use crate::graph::SideOutputFacts;
use crate::operator::process::OpenContext;
use crate::operator::side_output::OutputTag;
use crate::operator::window::LateOutput;
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::window::function::{
    ProcessWindowContext, ProcessWindowFunction, WindowFunction,
};
use crate::operator::window::stored::{self, Entry, KeyWriter, Place, StateName};
use crate::operator::{OperatorContext, Output};
use crate::state::packed::{Damage, Packer, Part, heap_bytes};
use crate::state::snapshot::SnapshotReader;
use crate::time::evictor::{Evictor, Rows};
use crate::time::window::Window;

/// What a snapshot holds of windows' contents, entry by entry.
pub type Pieces<'r, K, P> = Vec<Entry<'r, K, P>>;

/// See the module.
pub trait WindowContents<K>: Clone + Send + 'static {
    /// The records that come in.
    type In: Clone + Send + 'static;
    /// What is kept of one window.
    type Kept: Clone + Send + 'static;
    /// What one entry of a snapshot holds.
    type Piece;
    /// What the function gives.
    type Out: 'static;
    /// Where records go that come too late.
    type Late: LateOutput<Self::In>;

    /// Of no records.
    fn create(&self) -> Self::Kept;

    /// Adds a record.
    fn add(&self, kept: &mut Self::Kept, value: Self::In, event_time_ms: i64);

    /// Adds what another window kept.
    fn merge(&self, kept: &mut Self::Kept, other: Self::Kept);

    /// Declares the states of the function.
    fn open(&mut self, _ctx: &mut OpenContext<'_>) {}

    /// The window fires; it has had one record at least.
    fn fire(
        &mut self,
        key: &K,
        kept: &mut Self::Kept,
        ctx: &mut ProcessWindowContext<'_>,
        out: &mut impl Output<Self::Out>,
    );

    /// The window is gone.
    fn clear(&mut self, _key: &K, _ctx: &mut ProcessWindowContext<'_>) {}

    /// Whether nothing is left of the records since the function saw them.
    fn is_empty(&self, _kept: &Self::Kept) -> bool {
        false
    }

    /// Which side outputs the function may write.
    fn side_outputs(&self) -> SideOutputFacts;

    /// For `explain`: what is added to the windows' description.
    fn describe(&self) -> String {
        String::new()
    }

    /// Mistakes in how it is set up: one sentence each, saying what to do.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// Writes what a window kept.
    fn save(&self, kept: &Self::Kept, window: Window, writer: &mut KeyWriter<'_, '_>);

    /// Everything that [`WindowContents::save`] wrote, in an order in which it can be put back.
    ///
    /// # Errors
    /// Damaged bytes.
    fn load<'r>(
        &self,
        reader: &SnapshotReader<'r>,
        ctx: &OperatorContext<'_>,
    ) -> Result<Pieces<'r, K, Self::Piece>, Error>
    where
        K: Key;

    /// Puts a piece back.
    fn put_back(&self, kept: &mut Self::Kept, piece: Self::Piece);

    /// Packs what a window kept, to the end of a part.
    fn pack(&self, kept: &Self::Kept, packer: &mut Packer);

    /// What was packed in the rest of a part.
    ///
    /// # Errors
    /// If it was not.
    fn unpack(&self, part: &mut Part<'_, '_>) -> Result<Self::Kept, Damage>;

    /// Bytes on the heap of what a window kept, about.
    fn heap_bytes(&self, kept: &Self::Kept) -> usize;
}

const SUM: StateName = StateName("accumulators", 1);
const ROWS: StateName = StateName("rows", 2);

/// An accumulator per window.
#[derive(Debug, Clone)]
pub struct Aggregated<A, F> {
    aggregate: A,
    function: F,
}

impl<A, F> Aggregated<A, F> {
    /// Hands what `aggregate` gives to `function`.
    pub fn new(aggregate: A, function: F) -> Self {
        Self { aggregate, function }
    }
}

impl<K, A, F> WindowContents<K> for Aggregated<A, F>
where
    A: WindowAggregate<In: Clone, Accumulator: Send>,
    F: WindowFunction<K, A::Out>,
{
    type In = A::In;
    type Kept = A::Accumulator;
    type Piece = A::Accumulator;
    type Out = F::Out;
    type Late = Option<OutputTag<A::In>>;

    fn create(&self) -> A::Accumulator {
        self.aggregate.create()
    }

    #[inline]
    fn add(&self, kept: &mut A::Accumulator, value: A::In, _event_time_ms: i64) {
        self.aggregate.add(kept, value);
    }

    fn merge(&self, kept: &mut A::Accumulator, other: A::Accumulator) {
        self.aggregate.merge(kept, other);
    }

    fn fire(
        &mut self,
        key: &K,
        kept: &mut A::Accumulator,
        ctx: &mut ProcessWindowContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        self.function.process(key, self.aggregate.result(kept), ctx.context(), out);
    }

    fn side_outputs(&self) -> SideOutputFacts {
        self.function.side_outputs()
    }

    fn save(&self, kept: &A::Accumulator, window: Window, writer: &mut KeyWriter<'_, '_>) {
        let namespace = stored::namespace_of(window);
        let place = Place { namespace: &namespace, ..Place::default() };
        writer.put(SUM, place, self.aggregate.stored(kept));
    }

    fn load<'r>(
        &self,
        reader: &SnapshotReader<'r>,
        ctx: &OperatorContext<'_>,
    ) -> Result<Pieces<'r, K, A::Accumulator>, Error>
    where
        K: Key,
    {
        let entries = stored::read::<K, A::Stored>(reader, SUM, ctx)?;
        let restore =
            |entry: Entry<'r, K, A::Stored>| entry.map(|stored| self.aggregate.restored(stored));
        Ok(entries.into_iter().map(restore).collect())
    }

    fn put_back(&self, kept: &mut A::Accumulator, piece: A::Accumulator) {
        *kept = piece;
    }

    fn pack(&self, kept: &A::Accumulator, packer: &mut Packer) {
        packer.value(self.aggregate.stored(kept));
    }

    fn unpack(&self, part: &mut Part<'_, '_>) -> Result<A::Accumulator, Damage> {
        part.value().map(|stored| self.aggregate.restored(stored))
    }

    fn heap_bytes(&self, kept: &A::Accumulator) -> usize {
        heap_bytes(self.aggregate.stored(kept))
    }
}

/// All records of a window, with an evictor and a function that sees what it leaves.
pub struct Listed<T, E, F> {
    evictor: E,
    function: F,
    record: PhantomData<fn(T)>,
}

impl<T, E, F> Listed<T, E, F> {
    /// Hands what `evictor` leaves to `function`.
    pub fn new(evictor: E, function: F) -> Self {
        Self { evictor, function, record: PhantomData }
    }
}

impl<T, E: Clone, F: Clone> Clone for Listed<T, E, F> {
    fn clone(&self) -> Self {
        Self::new(self.evictor.clone(), self.function.clone())
    }
}

impl<K, T, E, F> WindowContents<K> for Listed<T, E, F>
where
    T: Record,
    E: Evictor<T>,
    F: ProcessWindowFunction<K, T>,
{
    type In = T;
    type Kept = Rows<T>;
    type Piece = (T, i64);
    type Out = F::Out;
    type Late = Option<OutputTag<T>>;

    fn create(&self) -> Rows<T> {
        Rows::default()
    }

    fn add(&self, kept: &mut Rows<T>, value: T, event_time_ms: i64) {
        kept.push(value, event_time_ms);
    }

    fn merge(&self, kept: &mut Rows<T>, other: Rows<T>) {
        kept.append(other);
    }

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.function.open(ctx);
    }

    fn clear(&mut self, key: &K, ctx: &mut ProcessWindowContext<'_>) {
        self.function.clear(key, ctx);
    }

    fn fire(
        &mut self,
        key: &K,
        kept: &mut Rows<T>,
        ctx: &mut ProcessWindowContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        self.evictor.evict_before(kept, &ctx.window());
        self.function.process(key, kept.values(), ctx, out);
        self.evictor.evict_after(kept, &ctx.window());
    }

    fn is_empty(&self, kept: &Rows<T>) -> bool {
        kept.is_empty()
    }

    fn side_outputs(&self) -> SideOutputFacts {
        self.function.side_outputs()
    }

    fn describe(&self) -> String {
        format!(", evicting {}", self.evictor.describe())
    }

    fn problems(&self) -> Vec<String> {
        self.evictor.problems()
    }

    fn save(&self, kept: &Rows<T>, window: Window, writer: &mut KeyWriter<'_, '_>) {
        save_rows(ROWS, kept, window, writer);
    }

    fn load<'r>(
        &self,
        reader: &SnapshotReader<'r>,
        ctx: &OperatorContext<'_>,
    ) -> Result<Pieces<'r, K, (T, i64)>, Error>
    where
        K: Key,
    {
        load_rows(ROWS, reader, ctx)
    }

    fn put_back(&self, kept: &mut Rows<T>, (value, event_time_ms): (T, i64)) {
        kept.push(value, event_time_ms);
    }

    fn pack(&self, kept: &Rows<T>, packer: &mut Packer) {
        pack_rows(kept, packer);
    }

    fn unpack(&self, part: &mut Part<'_, '_>) -> Result<Rows<T>, Damage> {
        unpack_rows(part)
    }

    fn heap_bytes(&self, kept: &Rows<T>) -> usize {
        rows_bytes(kept)
    }
}

/// Packs how many records there are, and the records.
pub(super) fn pack_rows<T: Record>(rows: &Rows<T>, packer: &mut Packer) {
    packer.stamp(rows.len() as i64);
    for (value, at_ms) in rows.values().iter().zip(rows.event_times_ms()) {
        packer.stamp(*at_ms);
        packer.value(value);
    }
}

/// What [`pack_rows`] packed.
pub(super) fn unpack_rows<T: Record>(part: &mut Part<'_, '_>) -> Result<Rows<T>, Damage> {
    let mut rows = Rows::default();
    for _ in 0..part.stamp()? {
        let at_ms = part.stamp()?;
        rows.push(part.value()?, at_ms);
    }
    Ok(rows)
}

/// Bytes on the heap, about.
pub(super) fn rows_bytes<T: Record>(rows: &Rows<T>) -> usize {
    let each = size_of::<T>() + size_of::<i64>() + rows.values().last().map_or(0, heap_bytes);
    rows.len() * each
}

/// One entry per record; its map key is its place in the list and its event time.
pub(super) fn save_rows<T: Record>(
    state: StateName,
    rows: &Rows<T>,
    window: Window,
    writer: &mut KeyWriter<'_, '_>,
) {
    for (index, (value, at_ms)) in rows.values().iter().zip(rows.event_times_ms()).enumerate() {
        save_row(state, (index, *at_ms), value, window, writer);
    }
}

/// One of them.
pub(super) fn save_row<T: Record>(
    state: StateName,
    (index, event_time_ms): (usize, i64),
    value: &T,
    window: Window,
    writer: &mut KeyWriter<'_, '_>,
) {
    let mut map_key = [0; 16];
    map_key[..8].copy_from_slice(&(index as u64).to_be_bytes());
    map_key[8..].copy_from_slice(&stored::ordered(event_time_ms));
    let namespace = stored::namespace_of(window);
    let place = Place { namespace: &namespace, map_key: &map_key, ..Place::default() };
    writer.put(state, place, value);
}

/// What [`save_rows`] wrote.
pub(super) fn load_rows<'r, K: Key, T: Record>(
    state: StateName,
    reader: &SnapshotReader<'r>,
    ctx: &OperatorContext<'_>,
) -> Result<Pieces<'r, K, (T, i64)>, Error> {
    let entries = stored::read::<K, T>(reader, state, ctx)?.into_iter();
    entries
        .map(|entry| {
            let event_time_ms = entry.map_key.get(8..).and_then(stored::from_ordered);
            let event_time_ms = event_time_ms
                .ok_or_else(|| stored::damaged(state, ctx, &"a record without an event time"))?;
            Ok(entry.map(|value| (value, event_time_ms)))
        })
        .collect()
}
