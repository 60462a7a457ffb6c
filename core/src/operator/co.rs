//! Operators with two inputs that look at one record at a time.

use std::marker::PhantomData;

use crate::data::either::Either;
use crate::data::row::Row;
use crate::graph::Facts;
use crate::operator::{Operator, OperatorContext, Output};

/// Generates an operator that holds one closure for each of its two inputs.
macro_rules! two_closures_operator {
    ($(#[$doc:meta])* $name:ident<$out:ident>) => {
        $(#[$doc])*
        pub struct $name<A, B, $out, F, G> {
            first: F,
            second: G,
            types: PhantomData<fn(A, B) -> $out>,
        }

        impl<A, B, $out, F, G> $name<A, B, $out, F, G> {
            /// The operator around `first` and `second`.
            pub fn new(first: F, second: G) -> Self {
                Self { first, second, types: PhantomData }
            }
        }

        impl<A, B, $out, F: Clone, G: Clone> Clone for $name<A, B, $out, F, G> {
            fn clone(&self) -> Self {
                Self::new(self.first.clone(), self.second.clone())
            }
        }
    };
}

two_closures_operator! {
    /// One record in, one record out.
    CoMap<U>
}

impl<A, B, U, F, G> Operator for CoMap<A, B, U, F, G>
where
    A: 'static,
    B: 'static,
    U: 'static,
    F: FnMut(A) -> U + 'static,
    G: FnMut(B) -> U + 'static,
{
    type In = Either<A, B>;
    type Out = U;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts::stateless()
    }

    #[inline]
    fn on_row(
        &mut self,
        row: Row<Either<A, B>>,
        _ctx: &OperatorContext<'_>,
        out: &mut impl Output<U>,
    ) {
        out.emit(row.map(|record| match record {
            Either::Left(record) => (self.first)(record),
            Either::Right(record) => (self.second)(record),
        }));
    }
}

two_closures_operator! {
    /// One record in, any number out.
    CoFlatMap<I>
}

impl<A, B, I, F, G> Operator for CoFlatMap<A, B, I, F, G>
where
    A: 'static,
    B: 'static,
    I: IntoIterator<Item: 'static> + 'static,
    F: FnMut(A) -> I + 'static,
    G: FnMut(B) -> I + 'static,
{
    type In = Either<A, B>;
    type Out = I::Item;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts::stateless()
    }

    #[inline]
    fn on_row(
        &mut self,
        row: Row<Either<A, B>>,
        _ctx: &OperatorContext<'_>,
        out: &mut impl Output<I::Item>,
    ) {
        let Row { hash64, event_time_ms, origin, value } = row;
        let values = match value {
            Either::Left(record) => (self.first)(record),
            Either::Right(record) => (self.second)(record),
        };
        for value in values {
            out.emit(Row { hash64, event_time_ms, origin, value });
        }
    }
}
