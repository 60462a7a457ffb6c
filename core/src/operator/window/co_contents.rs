//! What a window keeps of the records of two inputs, and the functions that see them.
//!
//! [`CoGrouped`] keeps the inputs apart, as their function takes them. An evictor sees the records
//! of both in the order of their arrival, so [`CoEvicted`] keeps them so, and sorts them when it
//! fires.

use std::marker::PhantomData;

use crate::data::either::Either;
use crate::data::key::Key;
use crate::data::record::Record;
use crate::error::Error;
use crate::graph::SideOutputFacts;
use crate::operator::join::LateSides;
use crate::operator::window::contents::{
    Pieces, WindowContents, load_rows, pack_rows, rows_bytes, save_row, save_rows, unpack_rows,
};
use crate::operator::window::function::{ProcessWindowContext, WindowContext};
use crate::operator::window::stored::{KeyWriter, StateName};
use crate::operator::{OperatorContext, Output};
use crate::state::packed::{Damage, Packer, Part, heap_bytes};
use crate::state::snapshot::SnapshotReader;
use crate::time::evictor::{Evictor, Rows};
use crate::time::window::Window;

const LEFT: StateName = StateName("left", 3);
const RIGHT: StateName = StateName("right", 4);

/// Records of two inputs in a snapshot, with their event times.
type SidePieces<'r, K, A, B> = Pieces<'r, K, (Either<A, B>, i64)>;

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

    /// Which side outputs it may write.
    fn side_outputs(&self) -> SideOutputFacts {
        SideOutputFacts::Any
    }
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

    fn side_outputs(&self) -> SideOutputFacts {
        SideOutputFacts::Only(Vec::new())
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

    fn side_outputs(&self) -> SideOutputFacts {
        SideOutputFacts::Only(Vec::new())
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
    type Late = LateSides<A, B>;

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
        ctx: &mut ProcessWindowContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        self.function.process(key, kept.0.values(), kept.1.values(), ctx.context(), out);
    }

    fn side_outputs(&self) -> SideOutputFacts {
        self.function.side_outputs()
    }

    fn save(&self, kept: &(Rows<A>, Rows<B>), window: Window, writer: &mut KeyWriter<'_, '_>) {
        save_rows(LEFT, &kept.0, window, writer);
        save_rows(RIGHT, &kept.1, window, writer);
    }

    fn load<'r>(
        &self,
        reader: &SnapshotReader<'r>,
        ctx: &OperatorContext<'_>,
    ) -> Result<SidePieces<'r, K, A, B>, Error>
    where
        K: Key,
    {
        load_sides(reader, ctx)
    }

    fn put_back(&self, kept: &mut (Rows<A>, Rows<B>), (value, at_ms): (Either<A, B>, i64)) {
        WindowContents::<K>::add(self, kept, value, at_ms);
    }

    fn pack(&self, kept: &(Rows<A>, Rows<B>), packer: &mut Packer) {
        pack_rows(&kept.0, packer);
        pack_rows(&kept.1, packer);
    }

    fn unpack(&self, part: &mut Part<'_, '_>) -> Result<(Rows<A>, Rows<B>), Damage> {
        Ok((unpack_rows(part)?, unpack_rows(part)?))
    }

    fn heap_bytes(&self, kept: &(Rows<A>, Rows<B>)) -> usize {
        rows_bytes(&kept.0) + rows_bytes(&kept.1)
    }
}

/// As [`CoGrouped`], with an evictor that sees the records of both inputs as they arrived.
pub struct CoEvicted<A, B, E, F> {
    evictor: E,
    function: F,
    records: PhantomData<fn(A, B)>,
}

impl<A, B, F> CoGrouped<A, B, F> {
    /// The same with an evictor.
    pub fn evicted_by<E>(self, evictor: E) -> CoEvicted<A, B, E, F> {
        CoEvicted { evictor, function: self.function, records: PhantomData }
    }
}

impl<A, B, E: Clone, F: Clone> Clone for CoEvicted<A, B, E, F> {
    fn clone(&self) -> Self {
        let (evictor, function) = (self.evictor.clone(), self.function.clone());
        Self { evictor, function, records: PhantomData }
    }
}

impl<K, A, B, E, F> WindowContents<K> for CoEvicted<A, B, E, F>
where
    A: Record,
    B: Record,
    E: Evictor<Either<A, B>>,
    F: CoGroupFunction<K, A, B>,
{
    type In = Either<A, B>;
    type Kept = Rows<Either<A, B>>;
    type Piece = (Either<A, B>, i64);
    type Out = F::Out;
    type Late = LateSides<A, B>;

    fn create(&self) -> Self::Kept {
        Rows::default()
    }

    fn add(&self, kept: &mut Self::Kept, value: Either<A, B>, event_time_ms: i64) {
        kept.push(value, event_time_ms);
    }

    fn merge(&self, kept: &mut Self::Kept, other: Self::Kept) {
        kept.append(other);
    }

    fn fire(
        &mut self,
        key: &K,
        kept: &mut Self::Kept,
        ctx: &mut ProcessWindowContext<'_>,
        out: &mut impl Output<F::Out>,
    ) {
        self.evictor.evict_before(kept, &ctx.window());
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for value in kept.values() {
            match value.clone() {
                Either::Left(value) => left.push(value),
                Either::Right(value) => right.push(value),
            }
        }
        self.function.process(key, &left, &right, ctx.context(), out);
        self.evictor.evict_after(kept, &ctx.window());
    }

    fn is_empty(&self, kept: &Self::Kept) -> bool {
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

    /// The places of both inputs count together.
    fn save(&self, kept: &Self::Kept, window: Window, writer: &mut KeyWriter<'_, '_>) {
        for (index, (value, at_ms)) in kept.values().iter().zip(kept.event_times_ms()).enumerate() {
            match value {
                Either::Left(value) => save_row(LEFT, (index, *at_ms), value, window, writer),
                Either::Right(value) => save_row(RIGHT, (index, *at_ms), value, window, writer),
            }
        }
    }

    fn load<'r>(
        &self,
        reader: &SnapshotReader<'r>,
        ctx: &OperatorContext<'_>,
    ) -> Result<SidePieces<'r, K, A, B>, Error>
    where
        K: Key,
    {
        let mut pieces = load_sides(reader, ctx)?;
        pieces.sort_by(|a, b| a.map_key.cmp(b.map_key));
        Ok(pieces)
    }

    fn put_back(&self, kept: &mut Self::Kept, (value, at_ms): (Either<A, B>, i64)) {
        kept.push(value, at_ms);
    }

    /// Before each record its event time, and 0 if it is of the first input.
    fn pack(&self, kept: &Self::Kept, packer: &mut Packer) {
        for (value, at_ms) in kept.values().iter().zip(kept.event_times_ms()) {
            packer.stamp(*at_ms);
            packer.stamp(i64::from(matches!(value, Either::Right(_))));
            match value {
                Either::Left(value) => packer.value(value),
                Either::Right(value) => packer.value(value),
            }
        }
    }

    fn unpack(&self, part: &mut Part<'_, '_>) -> Result<Self::Kept, Damage> {
        let mut rows = Rows::default();
        while !part.is_empty() {
            let (at_ms, side) = (part.stamp()?, part.stamp()?);
            let value = match side {
                0 => Either::Left(part.value()?),
                _ => Either::Right(part.value()?),
            };
            rows.push(value, at_ms);
        }
        Ok(rows)
    }

    fn heap_bytes(&self, kept: &Self::Kept) -> usize {
        let of_last = kept.values().last().map_or(0, |last| match last {
            Either::Left(value) => heap_bytes(value),
            Either::Right(value) => heap_bytes(value),
        });
        kept.len() * (size_of::<Either<A, B>>() + size_of::<i64>() + of_last)
    }
}

/// What was saved of the left input, then what was saved of the right.
fn load_sides<'r, K: Key, A: Record, B: Record>(
    reader: &SnapshotReader<'r>,
    ctx: &OperatorContext<'_>,
) -> Result<SidePieces<'r, K, A, B>, Error> {
    let left = load_rows::<K, A>(LEFT, reader, ctx)?.into_iter();
    let right = load_rows::<K, B>(RIGHT, reader, ctx)?.into_iter();
    let left = left.map(|entry| entry.map(|(value, at_ms)| (Either::Left(value), at_ms)));
    let right = right.map(|entry| entry.map(|(value, at_ms)| (Either::Right(value), at_ms)));
    Ok(left.chain(right).collect())
}
