//! [`described!`](crate::described): a struct or enum that can be read from archives of an earlier
//! form of it.
//!
//! The macro stands around the definition, so the schema is what the compiler sees: a field cannot
//! be forgotten, and what would change the archive of a field (attributes of `rkyv`, discriminants)
//! does not pass. Everything else is left as it is.

/// Defines a struct or enum, and implements
/// [`Describe`](crate::state::schema::Describe) for it.
///
/// A field may have a default, `= ..` behind its type: what values get that were stored before
/// there was the field. It is written where the field is, so it can be any expression.
///
/// ```
/// millstream::described! {
///     /// What is known of a card.
///     #[derive(Debug, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
///     pub struct Card {
///         /// In cents.
///         pub limit: u64,
///         pub countries: Vec<String> = vec!["AT".to_string()],
///     }
/// }
///
/// millstream::described! {
///     #[derive(Debug, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
///     enum Verdict {
///         Fine,
///         Odd(u32),
///         Fraud { score: f64, reason: String = String::new() },
///     }
/// }
/// ```
///
/// One type at a time, without parameters. Fields and variants have no attributes but their
/// documentation and, behind it, those of `serde`; variants have no discriminants:
///
/// ```compile_fail
/// millstream::described! {
///     #[derive(Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
///     enum Verdict {
///         Fine = 3,
///         Odd = 1,
///     }
/// }
/// ```
#[macro_export]
macro_rules! described {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $doc:expr])* $(#[serde($($serde:tt)*)])*
                $field_vis:vis $field:ident: $ty:ty $(= $default:expr)?
            ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $(
                $(#[doc = $doc])* $(#[serde($($serde)*)])*
                $field_vis $field: $ty,
            )*
        }

        impl $crate::state::schema::Describe for $name {
            fn shape(depth: $crate::state::schema::Depth) -> $crate::state::schema::Shape {
                $crate::state::schema::Shape::Struct {
                    name: ::std::string::String::from(stringify!($name)),
                    fields: $crate::described!(@named depth, $($field: $ty $(= $default)?,)*),
                }
            }

            fn build(
                value: $crate::state::schema::Value,
            ) -> ::std::option::Option<Self> {
                let mut parts = value.into_list()?.into_iter();
                let built = Self {
                    $($field: $crate::described!(@part parts, $ty $(= $default)?),)*
                };
                parts.next().is_none().then_some(built)
            }
        }
    };

    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident(
            $(
                $(#[doc = $doc:expr])* $(#[serde($($serde:tt)*)])*
                $field_vis:vis $ty:ty
            ),* $(,)?
        );
    ) => {
        $(#[$meta])*
        $vis struct $name(
            $($(#[doc = $doc])* $(#[serde($($serde)*)])* $field_vis $ty),*
        );

        impl $crate::state::schema::Describe for $name {
            fn shape(depth: $crate::state::schema::Depth) -> $crate::state::schema::Shape {
                $crate::state::schema::Shape::Struct {
                    name: ::std::string::String::from(stringify!($name)),
                    fields: $crate::described!(@positional depth, $($ty,)*),
                }
            }

            fn build(
                value: $crate::state::schema::Value,
            ) -> ::std::option::Option<Self> {
                let mut parts = value.into_list()?.into_iter();
                let built = Self($($crate::described!(@part parts, $ty)),*);
                parts.next().is_none().then_some(built)
            }
        }
    };

    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $(
                $(#[doc = $doc:expr])* $(#[serde($($serde:tt)*)])*
                $variant:ident
                $(( $($element:ty),* $(,)? ))?
                $({
                    $(
                        $(#[doc = $field_doc:expr])* $(#[serde($($field_serde:tt)*)])*
                        $field:ident: $ty:ty $(= $default:expr)?
                    ),* $(,)?
                })?
            ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        $vis enum $name {
            $(
                $(#[doc = $doc])* $(#[serde($($serde)*)])*
                $variant
                $(($($element),*))?
                $({
                    $(
                        $(#[doc = $field_doc])* $(#[serde($($field_serde)*)])*
                        $field: $ty
                    ),*
                })?
            ),*
        }

        impl $crate::state::schema::Describe for $name {
            fn shape(depth: $crate::state::schema::Depth) -> $crate::state::schema::Shape {
                $crate::state::schema::Shape::Enum {
                    name: ::std::string::String::from(stringify!($name)),
                    variants: ::std::vec![$(
                        $crate::state::schema::Variant {
                            name: ::std::string::String::from(stringify!($variant)),
                            fields: $crate::described!(
                                @fields depth,
                                $(($($element,)*))? $({ $($field: $ty $(= $default)?,)* })?
                            ),
                        }
                    ),*],
                }
            }

            fn build(
                value: $crate::state::schema::Value,
            ) -> ::std::option::Option<Self> {
                let (number, parts) = value.into_variant()?;
                let mut parts = parts.into_iter();
                let mut numbers = 0_u32..;
                $(if numbers.next() == ::std::option::Option::Some(number) {
                    let built = Self::$variant
                        $(($($crate::described!(@part parts, $element)),*))?
                        $({ $($field: $crate::described!(@part parts, $ty $(= $default)?)),* })?;
                    return parts.next().is_none().then_some(built);
                })*
                ::std::option::Option::None
            }
        }
    };

    // The fields of a variant.
    (@fields $depth:ident, ($($ty:ty,)*)) => {
        $crate::described!(@positional $depth, $($ty,)*)
    };
    (@fields $depth:ident, $({ $($fields:tt)* })?) => {
        $crate::described!(@named $depth, $($($fields)*)?)
    };

    (@named $depth:ident, $($field:ident: $ty:ty $(= $default:expr)?,)*) => {{
        let _ = $depth;
        $crate::state::schema::Fields::Named(::std::vec![$(
            $crate::state::schema::Field {
                name: ::std::string::String::from(stringify!($field)),
                shape: <$ty as $crate::state::schema::Describe>::described($depth),
                has_default: $crate::described!(@has_default $($default)?),
            }
        ),*])
    }};
    (@positional $depth:ident, $($ty:ty,)*) => {{
        let _ = $depth;
        $crate::state::schema::Fields::Positional(::std::vec![$(
            <$ty as $crate::state::schema::Describe>::described($depth)
        ),*])
    }};

    (@has_default) => { false };
    (@has_default $default:expr) => { true };

    // The next field: what was read, or its default.
    (@part $parts:ident, $ty:ty) => {
        <$ty as $crate::state::schema::Describe>::build($parts.next()?)?
    };
    (@part $parts:ident, $ty:ty = $default:expr) => {
        match $parts.next()? {
            $crate::state::schema::Value::Absent => $default,
            value => <$ty as $crate::state::schema::Describe>::build(value)?,
        }
    };
}
