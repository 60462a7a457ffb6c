//! How a Rust type says what its values are made of: [`Describe`].
//!
//! Numbers, strings and collections do so here; structs and enums by
//! [`described!`](crate::described).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::layout::Layout;
use super::shape::{Depth, Number, Shape, Width};
use super::value::Value;
use crate::limits::SCHEMA_DEPTH_MAX;

/// A type whose values can be read from archives of an earlier form of it.
///
/// Implemented for numbers, `bool`, `char`, `String`, tuples, arrays, `Option`, `Box`, `Vec`,
/// `VecDeque`, `BTreeSet` and `BTreeMap` of such types, and by [`described!`](crate::described) for
/// structs and enums of them. A type that contains itself cannot be described: it has no end.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot describe what its values are made of",
    note = "write `millstream::described! {{ .. }}` around its definition"
)]
pub trait Describe: rkyv::Archive + Sized + 'static {
    /// What values are made of. `depth` is how deep they are nested in others.
    ///
    /// Called by [`Describe::described`] only, which checks the answer.
    fn shape(depth: Depth) -> Shape;

    /// The value that was read; `None` if `value` is of another shape.
    fn build(value: Value) -> Option<Self>;

    /// As [`Describe::shape`], and it is true of the archived type, as far as the compiler can
    /// tell: size and alignment are as the shape demands.
    ///
    /// # Panics
    /// If not: the archived type was changed by an attribute of `rkyv`. If the type is nested too
    /// deep. If it has elements of no size.
    fn described(depth: Depth) -> Shape {
        let name = std::any::type_name::<Self>();
        let Some(depth) = depth.deeper() else {
            panic!("{name} is nested deeper than {SCHEMA_DEPTH_MAX} types, or contains itself")
        };
        let shape = Self::shape(depth);
        match Layout::of(&shape) {
            Ok(layout) => {
                let (size, align) = (size_of::<Self::Archived>(), align_of::<Self::Archived>());
                let archived = Layout { size, align };
                assert_eq!(layout, archived, "{name} is not archived as its definition says");
            }
            Err(why) => panic!("{name} cannot be described: {why}"),
        }
        shape
    }
}

macro_rules! describe_integers {
    ($($kind:ident $width:ident: $($integer:ty)*;)*) => {$($(
        impl Describe for $integer {
            fn shape(_: Depth) -> Shape {
                Shape::Number(Number::$kind(Width::$width))
            }

            fn build(value: Value) -> Option<Self> {
                match value {
                    Value::Unsigned(number) => number.try_into().ok(),
                    Value::Signed(number) => number.try_into().ok(),
                    _ => None,
                }
            }
        }
    )*)*};
}

// Pointers of archives have 32 bits, so this is what the sizes of a machine are stored as.
describe_integers! {
    Unsigned One: u8;
    Unsigned Two: u16;
    Unsigned Four: u32 usize;
    Unsigned Eight: u64;
    Unsigned Sixteen: u128;
    Signed One: i8;
    Signed Two: i16;
    Signed Four: i32 isize;
    Signed Eight: i64;
    Signed Sixteen: i128;
}

macro_rules! describe_plain {
    ($($plain:ty: $shape:expr, $($pattern:pat => $built:expr),+;)*) => {$(
        impl Describe for $plain {
            fn shape(_: Depth) -> Shape {
                $shape
            }

            fn build(value: Value) -> Option<Self> {
                match value {
                    $($pattern => Some($built),)+
                    _ => None,
                }
            }
        }
    )*};
}

describe_plain! {
    (): Shape::Unit, Value::Unit => ();
    bool: Shape::Bool, Value::Bool(is) => is;
    char: Shape::Char, Value::Char(char) => char;
    String: Shape::Text, Value::Text(text) => text;
    f32: Shape::Number(Number::F32), Value::F32(number) => number;
    f64: Shape::Number(Number::F64), Value::F64(number) => number,
        Value::F32(number) => f64::from(number);
}

impl<T: Describe> Describe for Option<T> {
    fn shape(depth: Depth) -> Shape {
        Shape::Option(Box::new(T::described(depth)))
    }

    fn build(value: Value) -> Option<Self> {
        match value {
            Value::Option(None) => Some(None),
            Value::Option(Some(value)) => T::build(*value).map(Some),
            _ => None,
        }
    }
}

impl<T: Describe> Describe for Box<T> {
    fn shape(depth: Depth) -> Shape {
        Shape::Boxed(Box::new(T::described(depth)))
    }

    fn build(value: Value) -> Option<Self> {
        T::build(value).map(Box::new)
    }
}

/// The elements of a vector, an array or a set.
fn build_elements<T: Describe, C: FromIterator<T>>(value: Value) -> Option<C> {
    value.into_list()?.into_iter().map(T::build).collect()
}

impl<T: Describe> Describe for Vec<T> {
    fn shape(depth: Depth) -> Shape {
        Shape::Vec(Box::new(T::described(depth)))
    }

    fn build(value: Value) -> Option<Self> {
        build_elements(value)
    }
}

impl<T: Describe> Describe for VecDeque<T> {
    fn shape(depth: Depth) -> Shape {
        Vec::<T>::shape(depth)
    }

    fn build(value: Value) -> Option<Self> {
        build_elements(value)
    }
}

impl<T: Describe, const N: usize> Describe for [T; N] {
    fn shape(depth: Depth) -> Shape {
        let count = u32::try_from(N).expect("an array of more elements is larger than an archive");
        Shape::Array(Box::new(T::described(depth)), count)
    }

    fn build(value: Value) -> Option<Self> {
        build_elements::<T, Vec<T>>(value)?.try_into().ok()
    }
}

impl<T: Describe + Ord> Describe for BTreeSet<T>
where
    T::Archived: Ord,
{
    fn shape(depth: Depth) -> Shape {
        Shape::Set(Box::new(T::described(depth)))
    }

    fn build(value: Value) -> Option<Self> {
        build_elements(value)
    }
}

impl<K: Describe + Ord, V: Describe> Describe for BTreeMap<K, V>
where
    K::Archived: Ord,
{
    fn shape(depth: Depth) -> Shape {
        Shape::Map(Box::new(K::described(depth)), Box::new(V::described(depth)))
    }

    fn build(value: Value) -> Option<Self> {
        let Value::Map(entries) = value else { return None };
        let entry = |(key, value)| Some((K::build(key)?, V::build(value)?));
        entries.into_iter().map(entry).collect()
    }
}

macro_rules! describe_tuples {
    ($($($element:ident)+;)*) => {$(
        impl<$($element: Describe),+> Describe for ($($element,)+) {
            fn shape(depth: Depth) -> Shape {
                Shape::tuple(vec![$($element::described(depth)),+])
            }

            fn build(value: Value) -> Option<Self> {
                let mut elements = value.into_list()?.into_iter();
                let built = ($($element::build(elements.next()?)?,)+);
                elements.next().is_none().then_some(built)
            }
        }
    )*};
}

describe_tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}
