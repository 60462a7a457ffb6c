//! Operators that look at one record at a time.

use std::marker::PhantomData;

use crate::data::key::Key;
use crate::data::row::Row;
use crate::graph::Facts;
use crate::operator::{Operator, OperatorContext, Output};

/// Generates an operator that holds one closure.
macro_rules! closure_operator {
    ($(#[$doc:meta])* $name:ident<$($marker:ident),+>) => {
        $(#[$doc])*
        pub struct $name<$($marker,)+ F> {
            f: F,
            types: PhantomData<fn($($marker),+)>,
        }

        impl<$($marker,)+ F> $name<$($marker,)+ F> {
            /// The operator around `f`.
            pub fn new(f: F) -> Self {
                Self { f, types: PhantomData }
            }
        }

        impl<$($marker,)+ F: Clone> Clone for $name<$($marker,)+ F> {
            fn clone(&self) -> Self {
                Self::new(self.f.clone())
            }
        }
    };
}

closure_operator! {
    /// One record in, one record out.
    Map<T, U>
}

impl<T: 'static, U: 'static, F: FnMut(T) -> U + 'static> Operator for Map<T, U, F> {
    type In = T;
    type Out = U;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts::stateless()
    }

    #[inline]
    fn on_row(&mut self, row: Row<T>, _ctx: &OperatorContext<'_>, out: &mut impl Output<U>) {
        out.emit(row.map(&mut self.f));
    }
}

closure_operator! {
    /// Keeps the records for which the closure holds.
    Filter<T>
}

impl<T: 'static, F: FnMut(&T) -> bool + 'static> Operator for Filter<T, F> {
    type In = T;
    type Out = T;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts::stateless()
    }

    #[inline]
    fn on_row(&mut self, row: Row<T>, _ctx: &OperatorContext<'_>, out: &mut impl Output<T>) {
        if (self.f)(&row.value) {
            out.emit(row);
        }
    }
}

closure_operator! {
    /// One record in, any number out.
    FlatMap<T, I>
}

impl<T, I, F> Operator for FlatMap<T, I, F>
where
    T: 'static,
    I: IntoIterator + 'static,
    F: FnMut(T) -> I + 'static,
{
    type In = T;
    type Out = I::Item;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts::stateless()
    }

    #[inline]
    fn on_row(&mut self, row: Row<T>, _ctx: &OperatorContext<'_>, out: &mut impl Output<I::Item>) {
        let Row { hash64, event_time_ms, origin, value } = row;
        for value in (self.f)(value) {
            out.emit(Row { hash64, event_time_ms, origin, value });
        }
    }
}

closure_operator! {
    /// Gives every row the hash of its key, by which the partitioner behind it routes.
    KeyBy<T, K>
}

impl<T: 'static, K: Key, F: FnMut(&T) -> K + 'static> Operator for KeyBy<T, K, F> {
    type In = T;
    type Out = T;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts::stateless()
    }

    #[inline]
    fn on_row(&mut self, mut row: Row<T>, _ctx: &OperatorContext<'_>, out: &mut impl Output<T>) {
        row.hash64 = (self.f)(&row.value).hash64();
        out.emit(row);
    }
}

closure_operator! {
    /// Shows every record to the closure and hands it on.
    Inspect<T>
}

impl<T: 'static, F: FnMut(&T) + 'static> Operator for Inspect<T, F> {
    type In = T;
    type Out = T;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts::stateless()
    }

    #[inline]
    fn on_row(&mut self, row: Row<T>, _ctx: &OperatorContext<'_>, out: &mut impl Output<T>) {
        (self.f)(&row.value);
        out.emit(row);
    }
}

closure_operator! {
    /// Gives every row the number by which [`crate::graph::Partitioner::Direct`] picks a task.
    PartitionBy<T>
}

impl<T: 'static, F: FnMut(&T) -> u64 + 'static> Operator for PartitionBy<T, F> {
    type In = T;
    type Out = T;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts::stateless()
    }

    #[inline]
    fn on_row(&mut self, mut row: Row<T>, _ctx: &OperatorContext<'_>, out: &mut impl Output<T>) {
        row.hash64 = (self.f)(&row.value);
        out.emit(row);
    }
}
