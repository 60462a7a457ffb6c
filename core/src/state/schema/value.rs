//! A value that has left its archive and not yet become a Rust value: [`Value`].
//!
//! It has the form of the *new* type already: fields and variants are those of the new type, in its
//! order. Only widening is left to whoever takes a number out of it, since a number that fits is
//! the same number.

/// What was read from an archive.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A field that the archived value does not have yet: it gets its default.
    Absent,
    /// `()`.
    Unit,
    /// A truth value.
    Bool(bool),
    /// A character.
    Char(char),
    /// An integer without a sign.
    Unsigned(u128),
    /// An integer with a sign.
    Signed(i128),
    /// A float of four bytes.
    F32(f32),
    /// A float of eight bytes.
    F64(f64),
    /// A string.
    Text(String),
    /// Elements of one byte each, without a sign.
    Bytes(Vec<u8>),
    /// The elements of a vector, an array or a set, or the fields of a tuple or a struct.
    List(Vec<Value>),
    /// An option.
    Option(Option<Box<Value>>),
    /// A variant by its number, and its fields.
    Variant(u32, Vec<Value>),
    /// The entries of a map.
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// The elements or fields; `None` if it has none.
    pub fn into_list(self) -> Option<Vec<Self>> {
        match self {
            Self::List(elements) => Some(elements),
            Self::Bytes(bytes) => {
                let element = |byte| Self::Unsigned(u128::from(byte));
                Some(bytes.into_iter().map(element).collect())
            }
            _ => None,
        }
    }

    /// The number of the variant and its fields; `None` if it is of no enum.
    pub fn into_variant(self) -> Option<(u32, Vec<Self>)> {
        match self {
            Self::Variant(number, fields) => Some((number, fields)),
            _ => None,
        }
    }
}
