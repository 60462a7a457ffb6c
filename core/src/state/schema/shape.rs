//! What a value is made of: [`Shape`].
//!
//! Shapes say what a change of a type is judged by: names of fields and variants, widths and signs
//! of numbers. The name of a type is for people and for nothing else: a type that is renamed is the
//! same. So is whether a field has a default, which says what is done with older values.

use std::fmt;

use crate::limits::SCHEMA_DEPTH_MAX;

/// What a value is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// `()`.
    Unit,
    /// `bool`.
    Bool,
    /// `char`.
    Char,
    /// An integer or a float.
    Number(Number),
    /// `String`.
    Text,
    /// `Option<T>`.
    Option(Box<Shape>),
    /// `Box<T>`.
    Boxed(Box<Shape>),
    /// `Vec<T>` or `VecDeque<T>`.
    Vec(Box<Shape>),
    /// `[T; n]`.
    Array(Box<Shape>, u32),
    /// `BTreeSet<T>`.
    Set(Box<Shape>),
    /// `BTreeMap<K, V>`.
    Map(Box<Shape>, Box<Shape>),
    /// A tuple or a struct.
    Struct {
        /// The type's name; empty for a tuple.
        name: String,
        /// Its fields.
        fields: Fields,
    },
    /// An enum.
    Enum {
        /// The type's name.
        name: String,
        /// Its variants, in order; at least one, at most [`VARIANT_COUNT_MAX`].
        variants: Vec<Variant>,
    },
}

/// Most variants of an enum: the variant of a value is told by one byte.
pub const VARIANT_COUNT_MAX: usize = 256;

/// Fields of a struct or of a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fields {
    /// Fields with names, in order; none, for what has no fields.
    Named(Vec<Field>),
    /// Fields known by their place.
    Positional(Vec<Shape>),
}

/// A field with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name, unique among the fields.
    pub name: String,
    /// What it holds.
    pub shape: Shape,
    /// Whether values from before there was this field get a default.
    pub has_default: bool,
}

/// A variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its name, unique among the variants.
    pub name: String,
    /// What it holds.
    pub fields: Fields,
}

/// A type of number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// An integer of so many bytes without a sign.
    Unsigned(Width),
    /// An integer of so many bytes with a sign.
    Signed(Width),
    /// `f32`.
    F32,
    /// `f64`.
    F64,
}

/// How many bytes an integer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Width {
    /// 1 byte.
    One,
    /// 2 bytes.
    Two,
    /// 4 bytes.
    Four,
    /// 8 bytes.
    Eight,
    /// 16 bytes.
    Sixteen,
}

impl Width {
    /// In bytes.
    pub fn bytes(self) -> usize {
        1 << self as usize
    }
}

impl Number {
    /// In bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Unsigned(width) | Self::Signed(width) => width.bytes(),
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Whether every value of `self` is one of `wider`.
    pub fn fits(self, wider: Self) -> bool {
        match (self, wider) {
            (Self::Unsigned(from), Self::Unsigned(to)) | (Self::Signed(from), Self::Signed(to)) => {
                from <= to
            }
            (Self::Unsigned(from), Self::Signed(to)) => from < to,
            (Self::F32, Self::F32 | Self::F64) | (Self::F64, Self::F64) => true,
            _ => false,
        }
    }

    /// Whether it is a float.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

impl Shape {
    /// The tuple of `elements`.
    pub fn tuple(elements: Vec<Self>) -> Self {
        Self::Struct { name: String::new(), fields: Fields::Positional(elements) }
    }

    /// The shape without what makes no difference to how values are stored: names of types,
    /// defaults.
    pub fn stored(&self) -> Self {
        let boxed = |shape: &Self| Box::new(shape.stored());
        match self {
            Self::Unit | Self::Bool | Self::Char | Self::Number(_) | Self::Text => self.clone(),
            Self::Option(inner) => Self::Option(boxed(inner)),
            Self::Boxed(inner) => Self::Boxed(boxed(inner)),
            Self::Vec(element) => Self::Vec(boxed(element)),
            Self::Array(element, count) => Self::Array(boxed(element), *count),
            Self::Set(element) => Self::Set(boxed(element)),
            Self::Map(key, value) => Self::Map(boxed(key), boxed(value)),
            Self::Struct { fields, .. } => {
                Self::Struct { name: String::new(), fields: fields.stored() }
            }
            Self::Enum { variants, .. } => {
                let stored = |variant: &Variant| Variant {
                    name: variant.name.clone(),
                    fields: variant.fields.stored(),
                };
                Self::Enum { name: String::new(), variants: variants.iter().map(stored).collect() }
            }
        }
    }
}

impl Fields {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Named(fields) => fields.len(),
            Self::Positional(shapes) => shapes.len(),
        }
    }

    /// What they hold, in order.
    pub fn shapes(&self) -> Vec<&Shape> {
        match self {
            Self::Named(fields) => fields.iter().map(|field| &field.shape).collect(),
            Self::Positional(shapes) => shapes.iter().collect(),
        }
    }

    fn stored(&self) -> Self {
        match self {
            Self::Named(fields) => {
                let stored = |field: &Field| Field {
                    name: field.name.clone(),
                    shape: field.shape.stored(),
                    has_default: false,
                };
                Self::Named(fields.iter().map(stored).collect())
            }
            Self::Positional(shapes) => {
                Self::Positional(shapes.iter().map(Shape::stored).collect())
            }
        }
    }
}

/// How deep a shape is nested in others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth(u32);

impl Depth {
    /// One deeper; `None` beyond [`SCHEMA_DEPTH_MAX`].
    pub fn deeper(self) -> Option<Self> {
        (self.0 < SCHEMA_DEPTH_MAX).then_some(Self(self.0 + 1))
    }
}

/// As in Rust: `Vec<(u32, String)>`, `Payment`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit => f.write_str("()"),
            Self::Bool => f.write_str("bool"),
            Self::Char => f.write_str("char"),
            Self::Number(number) => number.fmt(f),
            Self::Text => f.write_str("String"),
            Self::Option(inner) => write!(f, "Option<{inner}>"),
            Self::Boxed(inner) => write!(f, "Box<{inner}>"),
            Self::Vec(element) => write!(f, "Vec<{element}>"),
            Self::Array(element, count) => write!(f, "[{element}; {count}]"),
            Self::Set(element) => write!(f, "BTreeSet<{element}>"),
            Self::Map(key, value) => write!(f, "BTreeMap<{key}, {value}>"),
            Self::Struct { name, fields } if name.is_empty() => fields.fmt(f),
            Self::Struct { name, .. } | Self::Enum { name, .. } => f.write_str(name),
        }
    }
}

/// As they are written down: `{ card: u64, fee: u32 }`, `(u8, String)`.
impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close, texts): (_, _, Vec<String>) = match self {
            Self::Named(fields) if fields.is_empty() => return f.write_str("no fields"),
            Self::Named(fields) => {
                let texts = fields.iter().map(|field| format!("{}: {}", field.name, field.shape));
                ("{ ", " }", texts.collect())
            }
            Self::Positional(shapes) if shapes.len() == 1 => {
                ("(", ",)", vec![shapes[0].to_string()])
            }
            Self::Positional(shapes) => ("(", ")", shapes.iter().map(Shape::to_string).collect()),
        };
        write!(f, "{open}{}{close}", texts.join(", "))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(width) => write!(f, "u{}", 8 * width.bytes()),
            Self::Signed(width) => write!(f, "i{}", 8 * width.bytes()),
            Self::F32 => f.write_str("f32"),
            Self::F64 => f.write_str("f64"),
        }
    }
}
