//! What a window of the general operator keeps of its records, and what becomes of it.
//!
//! | contents | keeps | for |
//! |---|---|---|
//! | [`Aggregated`] | an accumulator | `reduce`, `aggregate` |
//! | [`Listed`] | all records | `process`, and everything with an evictor |
//! | [`CoGrouped`] | all records of two inputs | `co_group`, `window_join` |

use std::marker::PhantomData;

use crate::data::either::Either;
use crate::data::key::Key;
use crate::data::record::Record;
use crate::error::Error;
use crate::graph::SideOutputFacts;
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::window::function::{ProcessWindowFunction, WindowContext, WindowFunction};
use crate::operator::window::stored::{self, Entry, KeyWriter, Place, StateName};
use crate::operator::{OperatorContext, Output};
use crate::state::snapshot::SnapshotReader;
use crate::time::evictor::{Evictor, Rows};
use crate::time::window::Window;

/// What a snapshot holds of windows' contents, entry by entry.
pub type Pieces<'r, K, P> = Vec<Entry<'r, K, P>>;

/// See the module.
pub trait WindowContents<K>: Clone + Send + 'static {
    /// The records that come in.
    type In: Clone + 'static;
    /// What is kept of one window.
    type Kept: Clone + Send + 'static;
    /// What one entry of a snapshot holds.
    type Piece;
    /// What the function gives.
    type Out: 'static;

    /// Of no records.
    fn create(&self) -> Self::Kept;

    /// Adds a record.
    fn add(&self, kept: &mut Self::Kept, value: Self::In, event_time_ms: i64);

    /// Adds what another window kept.
    fn merge(&self, kept: &mut Self::Kept, other: Self::Kept);

    /// The window fires; it has had one record at least.
    fn fire(
        &mut self,
        key: &K,
        kept: &mut Self::Kept,
        ctx: &WindowContext<'_>,
        out: &mut impl Output<Self::Out>,
    );

    /// Which side outputs the function may write.
    fn side_outputs(&self) -> SideOutputFacts;

    /// For `explain`: what is added to the windows' description.
    fn describe(&self) -> String {
        String::new()
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
}

const SUM: StateName = StateName("accumulators", 1);
const ROWS: StateName = StateName("rows", 2);
const LEFT: StateName = StateName("left", 3);
const RIGHT: StateName = StateName("right", 4);

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
        ctx: &WindowContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        self.function.process(key, self.aggregate.result(kept), ctx, out);
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

    fn create(&self) -> Rows<T> {
        Rows::default()
    }

    fn add(&self, kept: &mut Rows<T>, value: T, event_time_ms: i64) {
        kept.push(value, event_time_ms);
    }

    fn merge(&self, kept: &mut Rows<T>, other: Rows<T>) {
        kept.append(other);
    }

    fn fire(
        &mut self,
        key: &K,
        kept: &mut Rows<T>,
        ctx: &WindowContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        self.evictor.evict_before(kept, &ctx.window());
        self.function.process(key, kept.values(), ctx, out);
        self.evictor.evict_after(kept, &ctx.window());
    }

    fn side_outputs(&self) -> SideOutputFacts {
        self.function.side_outputs()
    }

    fn describe(&self) -> String {
        format!(", evicting {}", self.evictor.describe())
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
}

/// Makes results of the records that two inputs have in a window.
pub trait CoGroupFunction<K, A, B>: Clone + Send + 'static {
    /// What it emits.
    type Out: 'static;

    /// The window has fired; at least one side has a record, each in the order of arrival.
    fn process(
        &mut self,
        key: &K,
        left: &[A],
        right: &[B],
        ctx: &WindowContext<'_>,
        out: &mut impl Output<Self::Out>,
    );
}

/// Any number of results by a closure `|key, window, left, right| ...`.
impl<K, A, B, I, F> CoGroupFunction<K, A, B> for F
where
    I: IntoIterator<Item: 'static>,
    F: FnMut(&K, &Window, &[A], &[B]) -> I + Clone + Send + 'static,
{
    type Out = I::Item;

    fn process(
        &mut self,
        key: &K,
        left: &[A],
        right: &[B],
        ctx: &WindowContext<'_>,
        out: &mut impl Output<I::Item>,
    ) {
        for result in self(key, &ctx.window(), left, right) {
            out.collect(result);
        }
    }
}

/// Every pair of records that share a window: the inner join.
#[derive(Debug, Clone)]
pub struct Pairs<J>(
    /// Makes a result of a pair.
    pub J,
);

impl<K, A, B, R, J> CoGroupFunction<K, A, B> for Pairs<J>
where
    R: 'static,
    J: FnMut(&A, &B) -> R + Clone + Send + 'static,
{
    type Out = R;

    fn process(
        &mut self,
        _key: &K,
        left: &[A],
        right: &[B],
        _ctx: &WindowContext<'_>,
        out: &mut impl Output<R>,
    ) {
        for a in left {
            for b in right {
                out.collect((self.0)(a, b));
            }
        }
    }
}

/// All records of a window, of two inputs.
pub struct CoGrouped<A, B, F> {
    function: F,
    records: PhantomData<fn(A, B)>,
}

impl<A, B, F> CoGrouped<A, B, F> {
    /// Hands both sides to `function`.
    pub fn new(function: F) -> Self {
        Self { function, records: PhantomData }
    }
}

impl<A, B, F: Clone> Clone for CoGrouped<A, B, F> {
    fn clone(&self) -> Self {
        Self::new(self.function.clone())
    }
}

impl<K, A, B, F> WindowContents<K> for CoGrouped<A, B, F>
where
    A: Record,
    B: Record,
    F: CoGroupFunction<K, A, B>,
{
    type In = Either<A, B>;
    type Kept = (Rows<A>, Rows<B>);
    type Piece = (Either<A, B>, i64);
    type Out = F::Out;

    fn create(&self) -> (Rows<A>, Rows<B>) {
        (Rows::default(), Rows::default())
    }

    fn add(&self, kept: &mut (Rows<A>, Rows<B>), value: Either<A, B>, event_time_ms: i64) {
        match value {
            Either::Left(value) => kept.0.push(value, event_time_ms),
            Either::Right(value) => kept.1.push(value, event_time_ms),
        }
    }

    fn merge(&self, kept: &mut (Rows<A>, Rows<B>), other: (Rows<A>, Rows<B>)) {
        kept.0.append(other.0);
        kept.1.append(other.1);
    }

    fn fire(
        &mut self,
        key: &K,
        kept: &mut (Rows<A>, Rows<B>),
        ctx: &WindowContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        self.function.process(key, kept.0.values(), kept.1.values(), ctx, out);
    }

    fn side_outputs(&self) -> SideOutputFacts {
        SideOutputFacts::Any
    }

    fn save(&self, kept: &(Rows<A>, Rows<B>), window: Window, writer: &mut KeyWriter<'_, '_>) {
        save_rows(LEFT, &kept.0, window, writer);
        save_rows(RIGHT, &kept.1, window, writer);
    }

    fn load<'r>(
        &self,
        reader: &SnapshotReader<'r>,
        ctx: &OperatorContext<'_>,
    ) -> Result<Pieces<'r, K, (Either<A, B>, i64)>, Error>
    where
        K: Key,
    {
        let left = load_rows::<K, A>(LEFT, reader, ctx)?.into_iter();
        let right = load_rows::<K, B>(RIGHT, reader, ctx)?.into_iter();
        let left = left.map(|entry| entry.map(|(value, at_ms)| (Either::Left(value), at_ms)));
        let right = right.map(|entry| entry.map(|(value, at_ms)| (Either::Right(value), at_ms)));
        Ok(left.chain(right).collect())
    }

    fn put_back(&self, kept: &mut (Rows<A>, Rows<B>), (value, at_ms): (Either<A, B>, i64)) {
        WindowContents::<K>::add(self, kept, value, at_ms);
    }
}

/// One entry per record; its map key is its place in the list and its event time.
fn save_rows<T: Record>(
    state: StateName,
    rows: &Rows<T>,
    window: Window,
    writer: &mut KeyWriter<'_, '_>,
) {
    let namespace = stored::namespace_of(window);
    let records = rows.values().iter().zip(rows.event_times_ms());
    for (index, (value, event_time_ms)) in records.enumerate() {
        let mut map_key = [0; 16];
        map_key[..8].copy_from_slice(&(index as u64).to_be_bytes());
        map_key[8..].copy_from_slice(&stored::ordered(*event_time_ms));
        let place = Place { namespace: &namespace, map_key: &map_key, ..Place::default() };
        writer.put(state, place, value);
    }
}

fn load_rows<'r, K: Key, T: Record>(
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
