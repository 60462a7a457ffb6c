//! Reading archived values of an old schema as values of a new one: [`Migration`].
//!
//! A [`Step`] per part of the old value says where it is and what is read there; steps are made by
//! [`super::compatibility`](mod@super::compatibility). Parts of the old value that the new one does
//! not have are not read at all.
//!
//! Bytes are believed after their checksum only, and even so nothing here relies on them: a place
//! outside of the archive is damage, and so are parts that together are larger than the archive, so
//! that values are no more than it has room for. Trees of maps are limited in height.

use super::describe::Describe;
use super::layout::{NODE_ENTRY_COUNT, NodeLayout, POINTER_BYTES};
use super::shape::{Number, Width};
use super::value::Value;
use crate::state::schema::compatibility::Difference;

/// Highest tree of a map: one of full nodes has more entries than a length can say.
const TREE_HEIGHT_MAX: u32 = 13;
const _: () = assert!((NODE_ENTRY_COUNT as u64 + 1).pow(TREE_HEIGHT_MAX) > u32::MAX as u64);

/// Longest string that is in place of a pointer to it.
const INLINE_TEXT_BYTES: usize = 2 * POINTER_BYTES;

/// The distance of a pointer that points to nothing.
const NOWHERE: i32 = 1;

const LEAF: u8 = 0;
const INNER: u8 = 1;

/// How values of one schema become values of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    pub(super) step: Step,
    pub(super) root_bytes: usize,
    pub(super) is_identity: bool,
    pub(super) changes: Vec<Difference>,
}

/// How a part of the old value is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Unit,
    Bool,
    Char,
    Text,
    Number(Number),
    /// What was not optional.
    Some(Box<Step>),
    Option {
        place: usize,
        inner: Box<Step>,
    },
    /// Behind a pointer, with its size.
    Follow(usize, Box<Step>),
    Vec {
        stride: usize,
        element: Box<Step>,
    },
    Array {
        count: usize,
        stride: usize,
        element: Box<Step>,
    },
    Set {
        node: NodeLayout,
        key: Box<Step>,
    },
    Map {
        node: NodeLayout,
        key: Box<Step>,
        value: Box<Step>,
    },
    /// The new fields, in their order.
    Fields(Vec<Part>),
    /// For each old variant, the number of the new one and its fields.
    Enum(Vec<(u32, Vec<Part>)>),
}

/// Where a field of the new value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// The old value does not have it.
    Absent,
    /// So many bytes behind the beginning of the old struct or enum.
    At(usize, Step),
}

/// An archived value that is not what its schema says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the archived value is damaged at byte {offset}: {what}")]
pub struct Damage {
    /// Where, in the archive.
    pub offset: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl Migration {
    /// Whether the archives themselves are those of the new schema: nothing has to be read anew.
    pub fn is_identity(&self) -> bool {
        self.is_identity
    }

    /// What becomes of values, by name. Empty if fields have changed their places, at most, and
    /// variants were added.
    pub fn changes(&self) -> &[Difference] {
        &self.changes
    }

    /// The value archived in `bytes` under the old schema, in the form of the new one.
    ///
    /// # Errors
    /// If the bytes are not such an archive.
    pub fn value(&self, bytes: &[u8]) -> Result<Value, Damage> {
        let Some(at) = bytes.len().checked_sub(self.root_bytes) else {
            return Err(Damage { offset: 0, what: "it is shorter than the value" });
        };
        Reading { bytes, unclaimed_bytes: at }.part(&self.step, at)
    }

    /// As [`Migration::value`], of the type that the new schema describes.
    ///
    /// # Errors
    /// If the bytes are not an archive of the old schema.
    ///
    /// # Panics
    /// If the new schema is not that of `T`.
    pub fn read<T: Describe>(&self, bytes: &[u8]) -> Result<T, Damage> {
        let value = self.value(bytes)?;
        Ok(T::build(value).expect("the new schema is that of the type"))
    }
}

/// An archive that is being read.
struct Reading<'a> {
    bytes: &'a [u8],
    /// What no part has been found in yet. Parts do not overlap.
    unclaimed_bytes: usize,
}

impl Reading<'_> {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], Damage> {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
        bytes.copied().ok_or(Damage { offset: at, what: "a part is outside of the archive" })
    }

    fn byte(&self, at: usize) -> Result<u8, Damage> {
        Ok(self.array::<1>(at)?[0])
    }

    fn length(&self, at: usize) -> Result<usize, Damage> {
        Ok(u32::from_le_bytes(self.array(at)?) as usize)
    }

    /// Where a pointer leads that is stored `at` and counts from `base`.
    fn target(&self, base: usize, at: usize) -> Result<usize, Damage> {
        let distance = i32::from_le_bytes(self.array(at)?);
        let target = base.checked_add_signed(distance as isize);
        let target = target.filter(|target| *target <= self.bytes.len());
        target.ok_or(Damage { offset: at, what: "a pointer leads out of the archive" })
    }

    /// The `len` bytes at `start`, which no other part has.
    fn claim(&mut self, start: usize, len: usize) -> Result<&[u8], Damage> {
        let bytes = start.checked_add(len).and_then(|end| self.bytes.get(start..end));
        let left = self.unclaimed_bytes.checked_sub(len);
        let (Some(bytes), Some(left)) = (bytes, left) else {
            return Err(Damage { offset: start, what: "a part is larger than the archive" });
        };
        self.unclaimed_bytes = left;
        Ok(bytes)
    }

    fn part(&mut self, step: &Step, at: usize) -> Result<Value, Damage> {
        let damage = |what| Err(Damage { offset: at, what });
        Ok(match step {
            Step::Unit => Value::Unit,
            Step::Bool => match self.byte(at)? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return damage("neither true nor false"),
            },
            Step::Char => match char::from_u32(u32::from_le_bytes(self.array(at)?)) {
                Some(char) => Value::Char(char),
                None => return damage("not a character"),
            },
            Step::Text => Value::Text(self.text(at)?),
            Step::Number(number) => self.number(*number, at)?,
            Step::Some(inner) => Value::Option(Some(Box::new(self.part(inner, at)?))),
            Step::Option { place, inner } => match self.byte(at)? {
                0 => Value::Option(None),
                1 => Value::Option(Some(Box::new(self.part(inner, at + place)?))),
                _ => return damage("neither None nor Some"),
            },
            Step::Follow(len, inner) => {
                let start = self.target(at, at)?;
                self.claim(start, *len)?;
                self.part(inner, start)?
            }
            Step::Vec { stride, element } => {
                let count = self.length(at + POINTER_BYTES)?;
                if count == 0 {
                    return Ok(Value::List(Vec::new()));
                }
                let start = self.target(at, at)?;
                self.claim(start, count.saturating_mul(*stride))?;
                self.elements(element, start, count, *stride)?
            }
            Step::Array { count, stride, element } => {
                self.elements(element, at, *count, *stride)?
            }
            Step::Set { node, key } => {
                let entries = self.entries(&Tree { node, key, value: &Step::Unit }, at)?;
                Value::List(entries.into_iter().map(|(key, _)| key).collect())
            }
            Step::Map { node, key, value } => {
                Value::Map(self.entries(&Tree { node, key, value }, at)?)
            }
            Step::Fields(parts) => Value::List(self.fields(parts, at)?),
            Step::Enum(variants) => match variants.get(usize::from(self.byte(at)?)) {
                Some((number, parts)) => Value::Variant(*number, self.fields(parts, at)?),
                None => return damage("there is no such variant"),
            },
        })
    }

    fn number(&self, number: Number, at: usize) -> Result<Value, Damage> {
        let unsigned = |number: u128| Ok(Value::Unsigned(number));
        let signed = |number: i128| Ok(Value::Signed(number));
        match number {
            Number::F32 => Ok(Value::F32(f32::from_le_bytes(self.array(at)?))),
            Number::F64 => Ok(Value::F64(f64::from_le_bytes(self.array(at)?))),
            Number::Unsigned(Width::One) => unsigned(self.byte(at)?.into()),
            Number::Unsigned(Width::Two) => unsigned(u16::from_le_bytes(self.array(at)?).into()),
            Number::Unsigned(Width::Four) => unsigned(u32::from_le_bytes(self.array(at)?).into()),
            Number::Unsigned(Width::Eight) => unsigned(u64::from_le_bytes(self.array(at)?).into()),
            Number::Unsigned(Width::Sixteen) => unsigned(u128::from_le_bytes(self.array(at)?)),
            Number::Signed(Width::One) => signed(i8::from_le_bytes(self.array(at)?).into()),
            Number::Signed(Width::Two) => signed(i16::from_le_bytes(self.array(at)?).into()),
            Number::Signed(Width::Four) => signed(i32::from_le_bytes(self.array(at)?).into()),
            Number::Signed(Width::Eight) => signed(i64::from_le_bytes(self.array(at)?).into()),
            Number::Signed(Width::Sixteen) => signed(i128::from_le_bytes(self.array(at)?)),
        }
    }

    /// A string: in place if it is short, which its first byte says, else elsewhere.
    fn text(&mut self, at: usize) -> Result<String, Damage> {
        let inline: [u8; INLINE_TEXT_BYTES] = self.array(at)?;
        let bytes = if inline[0] & 0xc0 == 0x80 {
            let length = self.length(at)?;
            let len = (length & 0x3f) | ((length & !0xff) >> 2);
            if len <= INLINE_TEXT_BYTES {
                return Err(Damage { offset: at, what: "a short string is not in its place" });
            }
            let start = self.target(at, at + POINTER_BYTES)?;
            self.claim(start, len)?.to_vec()
        } else {
            let len = inline.iter().position(|byte| *byte == 0xff);
            inline[..len.unwrap_or(INLINE_TEXT_BYTES)].to_vec()
        };
        String::from_utf8(bytes).map_err(|_| Damage { offset: at, what: "a string is not UTF-8" })
    }

    fn elements(
        &mut self,
        element: &Step,
        start: usize,
        count: usize,
        stride: usize,
    ) -> Result<Value, Damage> {
        if *element == Step::Number(Number::Unsigned(Width::One)) {
            let outside = Damage { offset: start, what: "a part is outside of the archive" };
            let bytes = self.bytes.get(start..start + count).ok_or(outside)?;
            return Ok(Value::Bytes(bytes.to_vec()));
        }
        let elements = (0..count).map(|index| self.part(element, start + index * stride));
        Ok(Value::List(elements.collect::<Result<_, Damage>>()?))
    }

    fn fields(&mut self, parts: &[Part], at: usize) -> Result<Vec<Value>, Damage> {
        let field = |part: &Part| match part {
            Part::Absent => Ok(Value::Absent),
            Part::At(place, step) => self.part(step, at + place),
        };
        parts.iter().map(field).collect()
    }

    fn entries(&mut self, tree: &Tree<'_>, at: usize) -> Result<Vec<(Value, Value)>, Damage> {
        let count = self.length(at + POINTER_BYTES)?;
        let mut entries = Vec::new();
        if count != 0 {
            self.node(tree, at, TREE_HEIGHT_MAX, &mut entries)?;
        }
        if entries.len() != count {
            return Err(Damage { offset: at, what: "a map has other entries than it counts" });
        }
        Ok(entries)
    }

    /// Appends the entries of the node to which the pointer at `pointer_at` leads.
    fn node(
        &mut self,
        tree: &Tree<'_>,
        pointer_at: usize,
        height: u32,
        entries: &mut Vec<(Value, Value)>,
    ) -> Result<(), Damage> {
        let node = tree.node;
        let at = self.target(pointer_at, pointer_at)?;
        let damage = |what| Err(Damage { offset: at, what });
        let Some(height) = height.checked_sub(1) else { return damage("a map is too high") };
        let rest_at = at + node.rest_at;
        match self.byte(at)? {
            LEAF => {
                self.claim(at, node.leaf_bytes)?;
                let count = self.length(rest_at)?;
                if NODE_ENTRY_COUNT < count {
                    return damage("a node of a map has too many entries");
                }
                for index in 0..count {
                    entries.push(self.entry(tree, at, index)?);
                }
            }
            INNER => {
                self.claim(at, node.inner_bytes)?;
                for index in 0..=NODE_ENTRY_COUNT {
                    let pointer_at = rest_at + index * POINTER_BYTES;
                    if i32::from_le_bytes(self.array(pointer_at)?) != NOWHERE {
                        self.node(tree, pointer_at, height, entries)?;
                    }
                    if index < NODE_ENTRY_COUNT {
                        entries.push(self.entry(tree, at, index)?);
                    }
                }
            }
            _ => return damage("a node of a map is of no known kind"),
        }
        Ok(())
    }

    fn entry(
        &mut self,
        tree: &Tree<'_>,
        node_at: usize,
        index: usize,
    ) -> Result<(Value, Value), Damage> {
        let node = tree.node;
        let key = self.part(tree.key, node_at + node.keys_at + index * node.key_bytes)?;
        let value = self.part(tree.value, node_at + node.values_at + index * node.value_bytes)?;
        Ok((key, value))
    }
}

/// How a map is read.
struct Tree<'a> {
    node: &'a NodeLayout,
    key: &'a Step,
    value: &'a Step,
}
