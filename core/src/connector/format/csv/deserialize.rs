//! Serde's view of a CSV record.
//!
//! [`ByPlace`] gives a struct its fields in the struct's own order; [`ByName`] gives names and
//! values in the file's order; [`Field`] is one value. Numbers, truth values and characters may
//! have spaces around them; texts are taken as they are.

use std::fmt;
use std::num::IntErrorKind;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::super::fault::quoted;
use super::cut::Fields;

/// Why a record could not be made.
#[derive(Debug)]
pub(super) struct Wrong {
    /// Index of the column, if one is to blame.
    pub(super) column: Option<usize>,
    /// Boxed, so that a result is hardly larger than its record.
    pub(super) kind: Box<WrongKind>,
}

/// What is wrong.
#[derive(Debug)]
pub(super) enum WrongKind {
    /// The struct needs a field that is no column.
    MissingField(String),
    /// The struct refuses columns that are none of its fields.
    UnknownField(String),
    /// In words.
    Said(String),
}

impl Wrong {
    fn said(reason: impl Into<String>) -> Self {
        Self { column: None, kind: Box::new(WrongKind::Said(reason.into())) }
    }

    fn in_column(self, index: usize) -> Self {
        Self { column: Some(self.column.unwrap_or(index)), ..self }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            WrongKind::MissingField(field) => write!(f, "missing field {field}"),
            WrongKind::UnknownField(field) => write!(f, "unknown field {field}"),
            WrongKind::Said(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<M: fmt::Display>(message: M) -> Self {
        Self::said(message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self { column: None, kind: Box::new(WrongKind::MissingField(field.to_string())) }
    }

    fn unknown_field(field: &str, _expected: &'static [&'static str]) -> Self {
        Self { column: None, kind: Box::new(WrongKind::UnknownField(field.to_string())) }
    }
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) text: &'a str,
    pub(super) null_text: Option<&'a str>,
}

/// Parses a whole number of `$type`; an error says what would have been one.
macro_rules! deserialize_integers {
    ($($method:ident $visit:ident $type:ty),+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            match self.text.trim_ascii().parse::<$type>() {
                Ok(number) => visitor.$visit(number),
                Err(error) => {
                    let does_not_fit = matches!(
                        error.kind(),
                        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow
                    ) || is_negative_integer(self.text);
                    Err(if does_not_fit {
                        Wrong::said(format!(
                            "{} does not fit; a whole number from {} to {} is expected",
                            quoted(self.text),
                            <$type>::MIN,
                            <$type>::MAX
                        ))
                    } else {
                        self.is_not("a whole number")
                    })
                }
            }
        }
    )+};
}

fn is_negative_integer(text: &str) -> bool {
    let digits = text.trim_ascii().strip_prefix('-').unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

impl Field<'_> {
    /// Whether it is a number that is written out, and not called `inf`.
    fn is_in_digits(self) -> bool {
        self.text.bytes().any(|byte| byte.is_ascii_digit())
    }

    fn is_too_large(self, max: impl fmt::LowerExp) -> Wrong {
        Wrong::said(format!(
            "{} does not fit; a number from -{max:e} to {max:e} is expected",
            quoted(self.text)
        ))
    }

    fn is_not(self, expected: &str) -> Wrong {
        match self.text {
            "" => Wrong::said(format!("the field is empty; {expected} is expected")),
            text => Wrong::said(format!("{} is not {expected}", quoted(text))),
        }
    }
}

fn holds_one_value<T>() -> Result<T, Wrong> {
    Err(Wrong::said("a CSV field holds a single value; the record's field is a structure or list"))
}

impl<'de> Deserializer<'de> for Field<'de> {
    type Error = Wrong;

    /// Whoever asks for anything gets what the text looks like.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let text = self.text.trim_ascii();
        if let Ok(number) = text.parse::<u64>() {
            visitor.visit_u64(number)
        } else if let Ok(number) = text.parse::<i64>() {
            visitor.visit_i64(number)
        } else if let Ok(number) = text.parse::<f64>() {
            if number.is_infinite() && self.is_in_digits() {
                return Err(self.is_too_large(f64::MAX));
            }
            visitor.visit_f64(number)
        } else if let Ok(truth) = text.parse::<bool>() {
            visitor.visit_bool(truth)
        } else {
            visitor.visit_borrowed_str(self.text)
        }
    }

    deserialize_integers! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_i128 visit_i128 i128, deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
        deserialize_u128 visit_u128 u128
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let number: f32 = self.text.trim_ascii().parse().map_err(|_| self.is_not("a number"))?;
        if number.is_infinite() && self.is_in_digits() {
            return Err(self.is_too_large(f32::MAX));
        }
        visitor.visit_f32(number)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let number: f64 = self.text.trim_ascii().parse().map_err(|_| self.is_not("a number"))?;
        if number.is_infinite() && self.is_in_digits() {
            return Err(self.is_too_large(f64::MAX));
        }
        visitor.visit_f64(number)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let text = self.text.trim_ascii();
        match text {
            _ if text.eq_ignore_ascii_case("true") => visitor.visit_bool(true),
            _ if text.eq_ignore_ascii_case("false") => visitor.visit_bool(false),
            _ => Err(self.is_not("true or false")),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let mut characters = self.text.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => visitor.visit_char(character),
            _ => Err(self.is_not("a single character")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_borrowed_str(self.text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_borrowed_str(self.text)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_borrowed_bytes(self.text.as_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_borrowed_bytes(self.text.as_bytes())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.text.is_empty() || self.null_text == Some(self.text) {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.text.is_empty() { visitor.visit_unit() } else { Err(self.is_not("empty")) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        if !variants.contains(&self.text) {
            return Err(self.is_not(&format!("one of {}", variants.join(", "))));
        }
        visitor.visit_enum(BorrowedStrDeserializer::new(self.text))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Wrong> {
        holds_one_value()
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, _: V) -> Result<V::Value, Wrong> {
        holds_one_value()
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        _visitor: V,
    ) -> Result<V::Value, Wrong> {
        holds_one_value()
    }

    fn deserialize_map<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Wrong> {
        holds_one_value()
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Wrong> {
        holds_one_value()
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_borrowed_str(self.text)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }
}

/// A record whose struct takes its fields from known columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByPlace<'a> {
    pub(super) fields: &'a Fields<'a>,
    pub(super) places: &'a [usize],
    pub(super) null_text: Option<&'a str>,
}

impl<'de> Deserializer<'de> for ByPlace<'de> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let mut values =
            Values { fields: self.fields, places: self.places.iter(), null_text: self.null_text };
        let record = visitor.visit_seq(&mut values)?;
        match values.places.len() {
            0 => Ok(record),
            // Some of the names were aliases of one field, so places mean nothing.
            _ => Err(Wrong::said("the struct has fewer fields than names")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

/// The fields at some places, in order.
struct Values<'de, P> {
    fields: &'de Fields<'de>,
    places: P,
    null_text: Option<&'de str>,
}

impl<'de, 'p, P: Iterator<Item = &'p usize>> de::SeqAccess<'de> for Values<'de, P> {
    type Error = Wrong;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Wrong> {
        let Some(&index) = self.places.next() else { return Ok(None) };
        let text = self.fields.get(index).expect("a record has as many fields as the header");
        let field = Field { text, null_text: self.null_text };
        seed.deserialize(field).map(Some).map_err(|wrong| wrong.in_column(index))
    }
}

/// A record whose fields are offered with their names, in the file's order.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByName<'a> {
    pub(super) fields: &'a Fields<'a>,
    pub(super) names: &'a [String],
    pub(super) null_text: Option<&'a str>,
}

impl<'de> ByName<'de> {
    /// The only field of the record, for a record type that is a single value.
    fn only(self) -> Result<Field<'de>, Wrong> {
        match (self.fields.len(), self.fields.get(0)) {
            (1, Some(text)) => Ok(Field { text, null_text: self.null_text }),
            _ => Err(Wrong::said(
                "the record type is a single value, but there are several columns; use a struct",
            )),
        }
    }

    fn visit_values<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let places: Vec<usize> = (0..self.fields.len()).collect();
        let mut values =
            Values { fields: self.fields, places: places.iter(), null_text: self.null_text };
        visitor.visit_seq(&mut values)
    }
}

/// Hands a request for a single value to the only field.
macro_rules! deserialize_only {
    ($($method:ident),+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            self.only()?.$method(visitor).map_err(|wrong| wrong.in_column(0))
        }
    )+};
}

impl<'de> Deserializer<'de> for ByName<'de> {
    type Error = Wrong;

    deserialize_only! {
        deserialize_bool, deserialize_i8, deserialize_i16, deserialize_i32, deserialize_i64,
        deserialize_i128, deserialize_u8, deserialize_u16, deserialize_u32, deserialize_u64,
        deserialize_u128, deserialize_f32, deserialize_f64, deserialize_char, deserialize_str,
        deserialize_string, deserialize_bytes, deserialize_byte_buf, deserialize_option,
        deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_map(Entries { record: self, next: 0 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.visit_values(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, v: V) -> Result<V::Value, Wrong> {
        if len != self.fields.len() {
            let count = self.fields.len();
            return Err(Wrong::said(format!("{count} columns, but the record type has {len}")));
        }
        self.visit_values(v)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.only()?.deserialize_enum(name, variants, visitor).map_err(|wrong| wrong.in_column(0))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }
}

/// Names and values of a record.
struct Entries<'de> {
    record: ByName<'de>,
    next: usize,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Wrong;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Wrong> {
        match self.record.names.get(self.next) {
            Some(name) => seed.deserialize(name.as_str().into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Wrong> {
        let index = self.next;
        self.next += 1;
        let text = self.record.fields.get(index).expect("as many fields as names");
        let field = Field { text, null_text: self.record.null_text };
        seed.deserialize(field).map_err(|wrong| wrong.in_column(index))
    }
}
