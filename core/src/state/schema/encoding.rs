//! A schema as bytes, format version 1; `docs/formats/schema.md` draws all of it.
//!
//! ```text
//! byte 0         8         12       16       20       24
//!      │ magic   │ version │ crc    │ layout │ length │ shape, `length` bytes │
//! ```
//!
//! The crc is that of all bytes but its own. Magic, version and crc stay where they are in all
//! versions. A shape is a byte that says which, and its parts; nothing is padded.
//!
//! What is decoded is whole: every byte is used, names differ, values of the shape can be archived.
//! Each part of a shape takes a byte at least and nothing is reserved by a count, so a decoded
//! schema is never larger than its bytes allow; shapes are nested 32 deep at most.

use std::collections::BTreeSet;

use super::layout::Layout;
use super::shape::{Depth, Field, Fields, Number, Shape, VARIANT_COUNT_MAX, Variant, Width};
use crate::limits::SCHEMA_BYTES_MAX;

/// The first bytes. The ends of lines notice who takes them for a text.
const MAGIC: [u8; 8] = *b"\x89MSSCH\r\n";

/// The version that is written.
const VERSION: u32 = 1;

/// The rules of `layout.rs`.
const LAYOUT: u32 = 1;

const VERSION_AT: usize = 8;
const CRC_AT: usize = 12;
const LAYOUT_AT: usize = 16;
const LENGTH_AT: usize = 20;
const HEADER_BYTES: usize = 24;

const UNIT: u8 = 1;
const BOOL: u8 = 2;
const CHAR: u8 = 3;
const TEXT: u8 = 4;
const UNSIGNED: u8 = 16;
const SIGNED: u8 = 24;
const F32: u8 = 32;
const F64: u8 = 33;
const OPTION: u8 = 40;
const BOXED: u8 = 41;
const VEC: u8 = 42;
const ARRAY: u8 = 43;
const SET: u8 = 44;
const MAP: u8 = 45;
const STRUCT: u8 = 48;
const ENUM: u8 = 49;

const NAMED: u8 = 0;
const POSITIONAL: u8 = 1;

const HAS_DEFAULT: u8 = 1;

const WIDTHS: [Width; 5] = [Width::One, Width::Two, Width::Four, Width::Eight, Width::Sixteen];

/// Bytes that are not the schema they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// They are not those that were written.
    #[error("the schema is corrupt at byte {offset}: {what}")]
    Corrupt {
        /// Where.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// A later release has written them.
    #[error("the schema is of version {found}, this release reads up to {newest}")]
    Version {
        /// Their version.
        found: u32,
        /// The last version that is known here.
        newest: u32,
    },
    /// The values that it describes lie as this release does not know.
    #[error("the schema is of values in layout {found}, this release reads layout {known}")]
    Layout {
        /// Their layout.
        found: u32,
        /// The layout that is known here.
        known: u32,
    },
}

/// `shape` as bytes; `None` if they were more than [`SCHEMA_BYTES_MAX`], or a name or count too
/// large for its place.
pub(super) fn encode(shape: &Shape) -> Option<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    for number in [VERSION, 0, LAYOUT, 0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put_shape(shape, &mut out)?;
    if SCHEMA_BYTES_MAX < out.len() {
        return None;
    }
    let length = (out.len() - HEADER_BYTES) as u32;
    out[LENGTH_AT..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&out);
    out[CRC_AT..LAYOUT_AT].copy_from_slice(&crc.to_le_bytes());
    Some(out)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..CRC_AT]);
    crc.update(&bytes[LAYOUT_AT..]);
    crc.finalize()
}

fn put_name(name: &str, out: &mut Vec<u8>) -> Option<()> {
    out.push(u8::try_from(name.len()).ok()?);
    out.extend_from_slice(name.as_bytes());
    Some(())
}

fn put_count(count: usize, out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(&u16::try_from(count).ok()?.to_le_bytes());
    Some(())
}

fn put_shape(shape: &Shape, out: &mut Vec<u8>) -> Option<()> {
    match shape {
        Shape::Unit => out.push(UNIT),
        Shape::Bool => out.push(BOOL),
        Shape::Char => out.push(CHAR),
        Shape::Text => out.push(TEXT),
        Shape::Number(Number::Unsigned(width)) => out.push(UNSIGNED + *width as u8),
        Shape::Number(Number::Signed(width)) => out.push(SIGNED + *width as u8),
        Shape::Number(Number::F32) => out.push(F32),
        Shape::Number(Number::F64) => out.push(F64),
        Shape::Option(inner) => put_with(OPTION, inner, out)?,
        Shape::Boxed(inner) => put_with(BOXED, inner, out)?,
        Shape::Vec(element) => put_with(VEC, element, out)?,
        Shape::Set(element) => put_with(SET, element, out)?,
        Shape::Array(element, count) => {
            out.push(ARRAY);
            out.extend_from_slice(&count.to_le_bytes());
            put_shape(element, out)?;
        }
        Shape::Map(key, value) => {
            put_with(MAP, key, out)?;
            put_shape(value, out)?;
        }
        Shape::Struct { name, fields } => {
            out.push(STRUCT);
            put_name(name, out)?;
            put_fields(fields, out)?;
        }
        Shape::Enum { name, variants } => {
            out.push(ENUM);
            put_name(name, out)?;
            put_count(variants.len(), out)?;
            for variant in variants {
                put_name(&variant.name, out)?;
                put_fields(&variant.fields, out)?;
            }
        }
    }
    Some(())
}

fn put_with(tag: u8, shape: &Shape, out: &mut Vec<u8>) -> Option<()> {
    out.push(tag);
    put_shape(shape, out)
}

fn put_fields(fields: &Fields, out: &mut Vec<u8>) -> Option<()> {
    match fields {
        Fields::Named(fields) => {
            out.push(NAMED);
            put_count(fields.len(), out)?;
            for field in fields {
                put_name(&field.name, out)?;
                out.push(u8::from(field.has_default) * HAS_DEFAULT);
                put_shape(&field.shape, out)?;
            }
        }
        Fields::Positional(shapes) => {
            out.push(POSITIONAL);
            put_count(shapes.len(), out)?;
            for shape in shapes {
                put_shape(shape, out)?;
            }
        }
    }
    Some(())
}

/// The shape in `bytes`.
pub(super) fn decode(bytes: &[u8]) -> Result<Shape, SchemaError> {
    let corrupt = |offset, what| Err(SchemaError::Corrupt { offset, what });
    if bytes.len() < HEADER_BYTES || SCHEMA_BYTES_MAX < bytes.len() {
        return corrupt(0, "it is shorter or longer than a schema");
    }
    if bytes[..MAGIC.len()] != MAGIC {
        return corrupt(0, "it does not begin as a schema does");
    }
    if u32_at(bytes, CRC_AT) != checksum(bytes) {
        return corrupt(CRC_AT, "the checksum is wrong");
    }
    match (u32_at(bytes, VERSION_AT), u32_at(bytes, LAYOUT_AT)) {
        (VERSION, LAYOUT) => {}
        (VERSION, found) => return Err(SchemaError::Layout { found, known: LAYOUT }),
        (0, _) => return corrupt(VERSION_AT, "there is no version 0"),
        (found, _) => return Err(SchemaError::Version { found, newest: VERSION }),
    }
    if u32_at(bytes, LENGTH_AT) as usize != bytes.len() - HEADER_BYTES {
        return corrupt(LENGTH_AT, "the length is not that of the shape");
    }
    let mut parts = Parts { bytes, at: HEADER_BYTES };
    let shape = parts.shape(Depth::default())?;
    if parts.at != bytes.len() {
        return corrupt(parts.at, "something follows the shape");
    }
    if Layout::of(&shape).is_err() {
        return corrupt(HEADER_BYTES, "no value of this shape can be archived");
    }
    Ok(shape)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the slice has this length"))
}

/// What is left to decode.
struct Parts<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Parts<'a> {
    fn corrupt(&self, what: &'static str) -> SchemaError {
        SchemaError::Corrupt { offset: self.at, what }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], SchemaError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or(self.corrupt("the shape is cut off"))?;
        self.at += len;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, SchemaError> {
        Ok(self.take(1)?[0])
    }

    fn count(&mut self) -> Result<usize, SchemaError> {
        let bytes = self.take(2)?;
        Ok(usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    }

    fn name(&mut self) -> Result<&'a str, SchemaError> {
        let len = usize::from(self.byte()?);
        let at = self.at;
        std::str::from_utf8(self.take(len)?)
            .map_err(|_| SchemaError::Corrupt { offset: at, what: "a name is not text" })
    }

    /// A name that is not among `names`.
    fn new_name(&mut self, names: &mut BTreeSet<&'a str>) -> Result<String, SchemaError> {
        let at = self.at;
        let name = self.name()?;
        if name.is_empty() || !names.insert(name) {
            let what = "a name is empty or there twice";
            return Err(SchemaError::Corrupt { offset: at, what });
        }
        Ok(name.to_string())
    }

    fn shape(&mut self, depth: Depth) -> Result<Shape, SchemaError> {
        let depth = depth.deeper().ok_or(self.corrupt("shapes are nested too deep"))?;
        let tag_at = self.at;
        Ok(match self.byte()? {
            UNIT => Shape::Unit,
            BOOL => Shape::Bool,
            CHAR => Shape::Char,
            TEXT => Shape::Text,
            F32 => Shape::Number(Number::F32),
            F64 => Shape::Number(Number::F64),
            OPTION => Shape::Option(self.boxed(depth)?),
            BOXED => Shape::Boxed(self.boxed(depth)?),
            VEC => Shape::Vec(self.boxed(depth)?),
            SET => Shape::Set(self.boxed(depth)?),
            ARRAY => {
                let count = u32_at(self.take(4)?, 0);
                Shape::Array(self.boxed(depth)?, count)
            }
            MAP => Shape::Map(self.boxed(depth)?, self.boxed(depth)?),
            STRUCT => Shape::Struct { name: self.name()?.to_string(), fields: self.fields(depth)? },
            ENUM => Shape::Enum { name: self.name()?.to_string(), variants: self.variants(depth)? },
            tag => {
                let width = |first: u8| WIDTHS.get(usize::from(tag.checked_sub(first)?)).copied();
                let number = width(SIGNED).map(Number::Signed);
                let number = number.or(width(UNSIGNED).map(Number::Unsigned));
                let what = "there is no such shape";
                Shape::Number(number.ok_or(SchemaError::Corrupt { offset: tag_at, what })?)
            }
        })
    }

    fn boxed(&mut self, depth: Depth) -> Result<Box<Shape>, SchemaError> {
        self.shape(depth).map(Box::new)
    }

    fn variants(&mut self, depth: Depth) -> Result<Vec<Variant>, SchemaError> {
        let count = self.count()?;
        if !(1..=VARIANT_COUNT_MAX).contains(&count) {
            return Err(self.corrupt("an enum has no or too many variants"));
        }
        let mut names = BTreeSet::new();
        let mut variants = Vec::new();
        for _ in 0..count {
            let name = self.new_name(&mut names)?;
            variants.push(Variant { name, fields: self.fields(depth)? });
        }
        Ok(variants)
    }

    fn fields(&mut self, depth: Depth) -> Result<Fields, SchemaError> {
        let form = self.byte()?;
        if form == POSITIONAL {
            let mut shapes = Vec::new();
            for _ in 0..self.count()? {
                shapes.push(self.shape(depth)?);
            }
            return Ok(Fields::Positional(shapes));
        }
        if form != NAMED {
            return Err(self.corrupt("fields are of no known form"));
        }
        let mut names = BTreeSet::new();
        let mut fields = Vec::new();
        for _ in 0..self.count()? {
            let name = self.new_name(&mut names)?;
            let flags = self.byte()?;
            if flags & !HAS_DEFAULT != 0 {
                return Err(self.corrupt("a field has an unknown flag"));
            }
            let shape = self.shape(depth)?;
            fields.push(Field { name, shape, has_default: flags == HAS_DEFAULT });
        }
        Ok(Fields::Named(fields))
    }
}
