//! Questions about a record type that serde answers without a record.
//!
//! Which fields does it have? A deserializer that refuses everything is told their names. Does it
//! miss a column? A made-up record with the file's columns and harmless values (1, the empty text,
//! no value) is read: a field that is missing is named by serde itself, which knows about optional
//! fields, defaults and aliases. A type that refuses the made-up values leaves the question open;
//! its first record answers it.

use std::cell::Cell;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::deserialize::{Wrong, WrongKind};

/// The names of `T`'s fields, in order, aliases among them; none if it is no plain struct.
pub(super) fn fields_of<T: DeserializeOwned>() -> Option<&'static [&'static str]> {
    let fields = Cell::new(None);
    // It always fails; only what it was asked matters.
    let _ = T::deserialize(Listener { fields: &fields });
    fields.get()
}

/// Reads a made-up record with the columns `names`: what is wrong with the columns, or nothing, or
/// [`WrongKind::Said`] if the type refuses the made-up values.
pub(super) fn read_made_up<T: DeserializeOwned>(names: &[String]) -> Result<(), WrongKind> {
    match T::deserialize(MadeUpRecord { names }) {
        Ok(_) => Ok(()),
        Err(wrong) => Err(*wrong.kind),
    }
}

fn refuse<T>() -> Result<T, Wrong> {
    Err(de::Error::custom("a made-up value"))
}

/// Listens for the fields of a struct.
struct Listener<'a> {
    fields: &'a Cell<Option<&'static [&'static str]>>,
}

impl<'de> Deserializer<'de> for Listener<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Wrong> {
        refuse()
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.fields.set(Some(fields));
        refuse()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A record with the given columns and made-up values.
struct MadeUpRecord<'a> {
    names: &'a [String],
}

impl<'de> Deserializer<'de> for MadeUpRecord<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Wrong> {
        refuse()
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_map(MadeUpEntries { names: self.names.iter() })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct enum identifier ignored_any
    }
}

struct MadeUpEntries<'a> {
    names: std::slice::Iter<'a, String>,
}

impl<'de> de::MapAccess<'de> for MadeUpEntries<'_> {
    type Error = Wrong;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Wrong> {
        self.names.next().map(|name| seed.deserialize(StrDeserializer::new(name))).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Wrong> {
        seed.deserialize(MadeUpValue)
    }
}

/// A value that most types accept.
struct MadeUpValue;

/// Hands the visitor a fixed value.
macro_rules! deserialize_as {
    ($($method:ident $visit:ident $value:expr),+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            visitor.$visit($value)
        }
    )+};
}

impl<'de> Deserializer<'de> for MadeUpValue {
    type Error = Wrong;

    deserialize_as! {
        deserialize_any visit_borrowed_str "",
        deserialize_bool visit_bool true,
        deserialize_i8 visit_i8 1, deserialize_i16 visit_i16 1, deserialize_i32 visit_i32 1,
        deserialize_i64 visit_i64 1, deserialize_i128 visit_i128 1, deserialize_u8 visit_u8 1,
        deserialize_u16 visit_u16 1, deserialize_u32 visit_u32 1, deserialize_u64 visit_u64 1,
        deserialize_u128 visit_u128 1, deserialize_f32 visit_f32 1.0, deserialize_f64 visit_f64 1.0,
        deserialize_char visit_char 'a',
        deserialize_str visit_borrowed_str "", deserialize_string visit_borrowed_str "",
        deserialize_identifier visit_borrowed_str "",
        deserialize_bytes visit_borrowed_bytes b"", deserialize_byte_buf visit_borrowed_bytes b""
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_none()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
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
        match variants.first() {
            Some(first) => visitor.visit_enum(BorrowedStrDeserializer::new(first)),
            None => refuse(),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Wrong> {
        refuse()
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, _: V) -> Result<V::Value, Wrong> {
        refuse()
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        _visitor: V,
    ) -> Result<V::Value, Wrong> {
        refuse()
    }

    fn deserialize_map<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Wrong> {
        refuse()
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Wrong> {
        refuse()
    }
}
