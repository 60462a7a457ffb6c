//! Where the parts of a value lie within its archive.
//!
//! ```text
//! strings, elements, nodes of maps …  │ the value itself
//!                                       ends with the archive
//! ```
//!
//! The rules are those of `rkyv` 0.8 with little-endian numbers and pointers of 32 bits, which are
//! layout 1 (`docs/formats/schema.md`). They follow from the shape alone, so a schema stores no
//! places, and none has to be believed. [`super::describe::Describe::described`] holds them against
//! what the compiler says of the archived type.

use super::shape::{Fields, Shape};
use crate::limits::ARCHIVE_BYTES_MAX;

/// Entries of a node of a map.
pub(super) const NODE_ENTRY_COUNT: usize = 5;

/// Size of a pointer: the distance from itself, with a sign.
pub(super) const POINTER_BYTES: usize = 4;

/// Size and alignment of a part, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) size: usize,
    pub(super) align: usize,
}

/// Why values of a shape cannot be archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unarchivable {
    /// They are larger than an archive can be.
    #[error("values are larger than an archive may be")]
    TooLarge,
    /// Elements take no room, so nothing limits how many of them there are.
    #[error("elements have no size")]
    SizelessElement,
}

/// Where the parts of a node of a map are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeLayout {
    pub(super) keys_at: usize,
    pub(super) key_bytes: usize,
    pub(super) values_at: usize,
    pub(super) value_bytes: usize,
    /// Behind the entries: the number of them in a leaf, the pointers of an inner node.
    pub(super) rest_at: usize,
    pub(super) leaf_bytes: usize,
    pub(super) inner_bytes: usize,
}

/// One part after another, each at a multiple of its alignment.
struct Row {
    end: usize,
    align: usize,
}

impl Row {
    fn new() -> Self {
        Self { end: 0, align: 1 }
    }

    /// Where `part` is.
    fn push(&mut self, part: Layout) -> Result<usize, Unarchivable> {
        let at = self.end.next_multiple_of(part.align);
        self.end = bounded(at + part.size)?;
        self.align = self.align.max(part.align);
        Ok(at)
    }

    fn layout(&self) -> Layout {
        Layout { size: self.end.next_multiple_of(self.align), align: self.align }
    }
}

fn bounded(size: usize) -> Result<usize, Unarchivable> {
    if size <= ARCHIVE_BYTES_MAX { Ok(size) } else { Err(Unarchivable::TooLarge) }
}

/// A pointer and a length, or a short string.
const REFERENCE: Layout = Layout { size: 2 * POINTER_BYTES, align: POINTER_BYTES };
const POINTER: Layout = Layout { size: POINTER_BYTES, align: POINTER_BYTES };
const TAG: Layout = Layout { size: 1, align: 1 };

impl Layout {
    /// Of values of `shape`.
    pub(super) fn of(shape: &Shape) -> Result<Self, Unarchivable> {
        let square = |size| Self { size, align: size };
        Ok(match shape {
            Shape::Unit => Self { size: 0, align: 1 },
            Shape::Bool => square(1),
            Shape::Char => square(4),
            Shape::Number(number) => square(number.bytes()),
            Shape::Text => REFERENCE,
            Shape::Option(inner) => {
                let inner = Self::of(inner)?;
                let mut row = Row::new();
                row.push(TAG)?;
                row.push(inner)?;
                row.layout()
            }
            Shape::Boxed(inner) => {
                Self::of(inner)?;
                POINTER
            }
            Shape::Vec(element) => {
                Self::of_element(element)?;
                REFERENCE
            }
            Shape::Array(element, count) => {
                let element = Self::of_element(element)?;
                let size = element.size.checked_mul(*count as usize);
                let size = bounded(size.ok_or(Unarchivable::TooLarge)?)?;
                Self { size, align: element.align }
            }
            Shape::Set(element) => {
                NodeLayout::of(element, &Shape::Unit)?;
                REFERENCE
            }
            Shape::Map(key, value) => {
                NodeLayout::of(key, value)?;
                REFERENCE
            }
            Shape::Struct { fields, .. } => field_places(fields, false)?.1,
            Shape::Enum { variants, .. } => {
                let mut whole = TAG;
                for variant in variants {
                    let (_, layout) = field_places(&variant.fields, true)?;
                    whole.size = whole.size.max(layout.size);
                    whole.align = whole.align.max(layout.align);
                }
                whole.size = whole.size.next_multiple_of(whole.align);
                whole
            }
        })
    }

    /// Of elements of a vector, array, set or map, of which there may be as many as have room.
    pub(super) fn of_element(shape: &Shape) -> Result<Self, Unarchivable> {
        let layout = Self::of(shape)?;
        if layout.size == 0 { Err(Unarchivable::SizelessElement) } else { Ok(layout) }
    }
}

/// Where each of `fields` is, behind the tag of a variant if they are of one, and the layout of all
/// of it.
pub(super) fn field_places(
    fields: &Fields,
    has_tag: bool,
) -> Result<(Vec<usize>, Layout), Unarchivable> {
    let mut row = Row::new();
    if has_tag {
        row.push(TAG)?;
    }
    let places = fields.shapes().into_iter().map(|shape| row.push(Layout::of(shape)?));
    let places = places.collect::<Result<Vec<usize>, Unarchivable>>()?;
    Ok((places, row.layout()))
}

/// Where the value of an option is, behind the tag.
pub(super) fn option_place(inner: &Shape) -> Result<usize, Unarchivable> {
    Ok(Layout::of(inner)?.align)
}

impl NodeLayout {
    /// Of a map from `key` to `value`.
    pub(super) fn of(key: &Shape, value: &Shape) -> Result<Self, Unarchivable> {
        let (key, value) = (Layout::of_element(key)?, Layout::of(value)?);
        let entries = |one: Layout| Layout { size: NODE_ENTRY_COUNT * one.size, ..one };
        let mut node = Row::new();
        node.push(TAG)?;
        let keys_at = node.push(entries(key))?;
        let values_at = node.push(entries(value))?;
        let node = node.layout();

        let with_rest = |count: usize| {
            let mut row = Row::new();
            row.push(node)?;
            let rest = Layout { size: count * POINTER_BYTES, align: POINTER_BYTES };
            let rest_at = row.push(rest)?;
            Ok::<_, Unarchivable>((rest_at, row.layout().size))
        };
        let (rest_at, leaf_bytes) = with_rest(1)?;
        let (_, inner_bytes) = with_rest(NODE_ENTRY_COUNT + 1)?;
        Ok(Self {
            keys_at,
            key_bytes: key.size,
            values_at,
            value_bytes: value.size,
            rest_at,
            leaf_bytes,
            inner_bytes,
        })
    }
}
