//! Random values of random types over random compatible changes: what both have, stays.
//!
//! Types of Rust cannot be made at random, shapes can. [`Written`] archives a value of any shape as
//! `rkyv` would, and [`change`] makes a shape together with what becomes of values, by rules of its
//! own.

use std::iter::zip;

use proptest::prelude::*;

use super::super::layout::{Layout, NodeLayout, field_places, option_place};
use super::*;

const WIDTHS: [Width; 5] = [Width::One, Width::Two, Width::Four, Width::Eight, Width::Sixteen];

fn number(draw: &mut Draw) -> Number {
    let width = WIDTHS[draw.below(WIDTHS.len())];
    match draw.below(6) {
        0 => Number::F32,
        1 => Number::F64,
        2 | 3 => Number::Signed(width),
        _ => Number::Unsigned(width),
    }
}

/// Any shape, nested up to `depth` deep.
fn shape(draw: &mut Draw, depth: usize) -> Shape {
    let inner = |draw: &mut Draw| Box::new(shape(draw, depth - 1));
    match draw.below(if depth == 0 { 4 } else { 12 }) {
        0 => Shape::Bool,
        1 => Shape::Text,
        2 => Shape::Char,
        3 => Shape::Number(number(draw)),
        4 => Shape::Option(inner(draw)),
        5 => Shape::Boxed(inner(draw)),
        6 => Shape::Vec(inner(draw)),
        7 => Shape::Array(inner(draw), draw.below(4) as u32),
        8 => Shape::Map(Box::new(Shape::Text), inner(draw)),
        9 => Shape::tuple((0..=draw.below(3)).map(|_| *inner(draw)).collect()),
        10 => {
            let variants = (0..=draw.below(4)).map(|index| Variant {
                name: format!("V{index}"),
                fields: fields(draw, depth - 1),
            });
            Shape::Enum { name: "E".to_string(), variants: variants.collect() }
        }
        _ => Shape::Struct { name: "S".to_string(), fields: fields(draw, depth - 1) },
    }
}

fn fields(draw: &mut Draw, depth: usize) -> Fields {
    if draw.is_one_of(4) {
        return Fields::Positional(vec![shape(draw, depth)]);
    }
    let named = (0..=draw.below(4)).map(|index| field(draw, depth, &format!("f{index}")));
    Fields::Named(named.collect())
}

fn field(draw: &mut Draw, depth: usize, name: &str) -> Field {
    Field { name: name.to_string(), shape: shape(draw, depth), has_default: draw.is_one_of(2) }
}

/// Any value of `shape`, as it is read without a change.
fn value(draw: &mut Draw, shape: &Shape) -> Value {
    match shape {
        Shape::Unit => Value::Unit,
        Shape::Bool => Value::Bool(draw.is_one_of(2)),
        Shape::Char => Value::Char(['a', 'ß', '€', '𝄞'][draw.below(4)]),
        Shape::Number(Number::F32) => Value::F32(draw.below(1000) as f32 / 8.0),
        Shape::Number(Number::F64) => Value::F64(draw.below(1000) as f64 / 8.0),
        Shape::Number(Number::Unsigned(width)) => {
            let bits = u128::from(draw.next()) << 64 | u128::from(draw.next());
            Value::Unsigned(bits >> (128 - 8 * width.bytes()))
        }
        Shape::Number(Number::Signed(width)) => {
            let bits = u128::from(draw.next()) << 64 | u128::from(draw.next());
            Value::Signed(bits as i128 >> (128 - 8 * width.bytes()))
        }
        Shape::Text => Value::Text("ü-".repeat(draw.below(8))),
        Shape::Option(inner) => {
            let is_some = draw.is_one_of(2);
            Value::Option(is_some.then(|| Box::new(value(draw, inner))))
        }
        Shape::Boxed(inner) => value(draw, inner),
        Shape::Vec(element) => {
            Value::List((0..draw.below(5)).map(|_| value(draw, element)).collect())
        }
        Shape::Array(element, count) => {
            Value::List((0..*count).map(|_| value(draw, element)).collect())
        }
        Shape::Set(_) => unreachable!("no shape has one here"),
        Shape::Map(_, inner) => {
            // As many as one node holds.
            let count = draw.below(6);
            let entry = |index: usize| (Value::Text(format!("key {index}")), value(draw, inner));
            Value::Map((0..count).map(entry).collect())
        }
        Shape::Struct { fields, .. } => Value::List(values(draw, fields)),
        Shape::Enum { variants, .. } => {
            let number = draw.below(variants.len());
            Value::Variant(number as u32, values(draw, &variants[number].fields))
        }
    }
}

fn values(draw: &mut Draw, fields: &Fields) -> Vec<Value> {
    fields.shapes().into_iter().map(|shape| value(draw, shape)).collect()
}

/// An archive with room for parts before the value itself.
struct Written {
    bytes: Vec<u8>,
    end: usize,
}

impl Written {
    fn archive(shape: &Shape, value: &Value) -> Vec<u8> {
        let root = Layout::of(shape).expect("it is small");
        let parts_bytes = 1 << 16;
        let mut written = Self { bytes: vec![0; parts_bytes + root.size], end: 0 };
        written.put(shape, value, parts_bytes);
        written.bytes
    }

    fn part(&mut self, layout: Layout) -> usize {
        let at = self.end.next_multiple_of(layout.align);
        self.end = at + layout.size;
        at
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..][..bytes.len()].copy_from_slice(bytes);
    }

    fn point(&mut self, base: usize, at: usize, target: usize) {
        self.set(at, &(target as i32 - base as i32).to_le_bytes());
    }

    fn put_all(&mut self, fields: &Fields, values: &[Value], at: usize, has_tag: bool) {
        let (places, _) = field_places(fields, has_tag).expect("it is small");
        for ((shape, value), place) in zip(zip(fields.shapes(), values), places) {
            self.put(shape, value, at + place);
        }
    }

    fn put_elements(&mut self, element: &Shape, elements: &[Value], at: usize) {
        let stride = Layout::of(element).expect("it is small").size;
        for (index, value) in elements.iter().enumerate() {
            self.put(element, value, at + index * stride);
        }
    }

    fn put(&mut self, shape: &Shape, value: &Value, at: usize) {
        match (shape, value) {
            (Shape::Bool, Value::Bool(is)) => self.set(at, &[u8::from(*is)]),
            (Shape::Char, Value::Char(char)) => self.set(at, &u32::from(*char).to_le_bytes()),
            (Shape::Number(_), Value::F32(number)) => self.set(at, &number.to_le_bytes()),
            (Shape::Number(_), Value::F64(number)) => self.set(at, &number.to_le_bytes()),
            (Shape::Number(kind), Value::Unsigned(number)) => {
                self.set(at, &number.to_le_bytes()[..kind.bytes()]);
            }
            (Shape::Number(kind), Value::Signed(number)) => {
                self.set(at, &number.to_le_bytes()[..kind.bytes()]);
            }
            (Shape::Text, Value::Text(text)) if text.len() <= 8 => {
                self.set(at, &[0xff; 8]);
                self.set(at, text.as_bytes());
            }
            (Shape::Text, Value::Text(text)) => {
                let len = text.len() as u32;
                self.set(at, &((len & 0x3f) | 0x80 | ((len & !0x3f) << 2)).to_le_bytes());
                let start = self.part(Layout { size: text.len(), align: 1 });
                self.set(start, text.as_bytes());
                self.point(at, at + 4, start);
            }
            (Shape::Option(inner), Value::Option(Some(value))) => {
                self.set(at, &[1]);
                self.put(inner, value, at + option_place(inner).expect("it is small"));
            }
            (Shape::Boxed(inner), value) => {
                let start = self.part(Layout::of(inner).expect("it is small"));
                self.put(inner, value, start);
                self.point(at, at, start);
            }
            (Shape::Vec(element), Value::List(elements)) => {
                let one = Layout::of(element).expect("it is small");
                let start = self.part(Layout { size: one.size * elements.len(), ..one });
                self.put_elements(element, elements, start);
                self.point(at, at, start);
                self.set(at + 4, &(elements.len() as u32).to_le_bytes());
            }
            (Shape::Array(element, _), Value::List(elements)) => {
                self.put_elements(element, elements, at);
            }
            (Shape::Map(key, inner), Value::Map(entries)) if !entries.is_empty() => {
                let node = NodeLayout::of(key, inner).expect("it is small");
                let start = self.part(Layout { size: node.leaf_bytes, align: 16 });
                for (index, (map_key, value)) in entries.iter().enumerate() {
                    self.put(key, map_key, start + node.keys_at + index * node.key_bytes);
                    self.put(inner, value, start + node.values_at + index * node.value_bytes);
                }
                let count = (entries.len() as u32).to_le_bytes();
                self.set(start + node.rest_at, &count);
                self.point(at, at, start);
                self.set(at + 4, &count);
            }
            (Shape::Option(_), Value::Option(None)) | (Shape::Map(..), Value::Map(_)) => {}
            (Shape::Struct { fields, .. }, Value::List(values)) => {
                self.put_all(fields, values, at, false);
            }
            (Shape::Enum { variants, .. }, Value::Variant(number, values)) => {
                self.set(at, &[*number as u8]);
                self.put_all(&variants[*number as usize].fields, values, at, true);
            }
            (shape, value) => unreachable!("{value:?} is no {shape}"),
        }
    }
}

/// What becomes of a value.
type Becomes = Box<dyn Fn(Value) -> Value>;

/// What becomes of the fields of a struct or variant.
type FieldsBecome = Box<dyn Fn(Vec<Value>) -> Vec<Value>>;

/// A compatible change of `old`, and what becomes of its values.
fn change(draw: &mut Draw, old: &Shape) -> (Shape, Becomes) {
    if !matches!(old, Shape::Option(_) | Shape::Boxed(_)) && draw.is_one_of(8) {
        let (inner, becomes) = change_within(draw, old);
        let some = move |value| Value::Option(Some(Box::new(becomes(value))));
        return (Shape::Option(Box::new(inner)), Box::new(some));
    }
    if draw.is_one_of(8) {
        let (inner, becomes) = change_within(draw, old);
        return match inner {
            Shape::Boxed(inner) => (*inner, becomes),
            inner => (Shape::Boxed(Box::new(inner)), becomes),
        };
    }
    change_within(draw, old)
}

fn change_within(draw: &mut Draw, old: &Shape) -> (Shape, Becomes) {
    let list = |becomes: Becomes| -> Becomes {
        Box::new(move |value| {
            let elements = value.into_list().expect("it is a list");
            Value::List(elements.into_iter().map(&becomes).collect())
        })
    };
    match old {
        Shape::Number(number) => (Shape::Number(wider(draw, *number)), Box::new(|value| value)),
        Shape::Option(inner) => {
            let (inner, becomes) = change(draw, inner);
            let inner_becomes = move |value| match value {
                Value::Option(value) => Value::Option(value.map(|value| Box::new(becomes(*value)))),
                value => unreachable!("{value:?} is no option"),
            };
            (Shape::Option(Box::new(inner)), Box::new(inner_becomes))
        }
        Shape::Boxed(inner) => {
            let (inner, becomes) = change_within(draw, inner);
            (Shape::Boxed(Box::new(inner)), becomes)
        }
        Shape::Vec(element) => {
            let (element, becomes) = change(draw, element);
            (Shape::Vec(Box::new(element)), list(becomes))
        }
        Shape::Array(element, count) => {
            let (element, becomes) = change(draw, element);
            (Shape::Array(Box::new(element), *count), list(becomes))
        }
        Shape::Map(key, inner) => {
            let (inner, becomes) = change(draw, inner);
            let values_become = move |value| match value {
                Value::Map(entries) => {
                    let entries = entries.into_iter().map(|(key, value)| (key, becomes(value)));
                    Value::Map(entries.collect())
                }
                value => unreachable!("{value:?} is no map"),
            };
            (Shape::Map(key.clone(), Box::new(inner)), Box::new(values_become))
        }
        Shape::Struct { fields, .. } => {
            let (fields, becomes) = change_fields(draw, fields);
            let list =
                move |value: Value| Value::List(becomes(value.into_list().expect("it is a list")));
            (Shape::Struct { name: "T".to_string(), fields }, Box::new(list))
        }
        Shape::Enum { variants, .. } => change_variants(draw, variants),
        same => (same.clone(), Box::new(|value| value)),
    }
}

fn wider(draw: &mut Draw, number: Number) -> Number {
    let any = self::number(draw);
    if number.fits(any) { any } else { number }
}

/// Fields with names are shuffled, removed, added and changed; others are changed.
fn change_fields(draw: &mut Draw, old: &Fields) -> (Fields, FieldsBecome) {
    let old = match old {
        Fields::Positional(shapes) => {
            let changed = shapes.iter().map(|shape| change(draw, shape));
            let (shapes, becomes): (Vec<_>, Vec<_>) = changed.unzip();
            let all = move |values: Vec<Value>| {
                zip(values, &becomes).map(|(value, becomes)| becomes(value)).collect()
            };
            return (Fields::Positional(shapes), Box::new(all));
        }
        Fields::Named(fields) => fields,
    };
    let mut new: Vec<(Field, Option<(usize, Becomes)>)> = Vec::new();
    for (index, field) in old.iter().enumerate() {
        if !draw.is_one_of(5) {
            let (shape, becomes) = change(draw, &field.shape);
            let field = Field { shape, has_default: draw.is_one_of(2), ..field.clone() };
            new.insert(draw.below(new.len() + 1), (field, Some((index, becomes))));
        }
    }
    if draw.is_one_of(2) {
        let added = Field { has_default: true, ..field(draw, 1, "added") };
        new.insert(draw.below(new.len() + 1), (added, None));
    }
    let (fields, sources): (Vec<_>, Vec<_>) = new.into_iter().unzip();
    let all = move |values: Vec<Value>| {
        let from = |source: &Option<(usize, Becomes)>| match source {
            Some((index, becomes)) => becomes(values[*index].clone()),
            None => Value::Absent,
        };
        sources.iter().map(from).collect()
    };
    (Fields::Named(fields), Box::new(all))
}

/// Variants are shuffled, added and changed.
fn change_variants(draw: &mut Draw, old: &[Variant]) -> (Shape, Becomes) {
    let mut new: Vec<(Variant, Option<(usize, FieldsBecome)>)> = Vec::new();
    for (index, variant) in old.iter().enumerate() {
        let (fields, becomes) = change_fields(draw, &variant.fields);
        let variant = Variant { name: variant.name.clone(), fields };
        new.insert(draw.below(new.len() + 1), (variant, Some((index, becomes))));
    }
    if draw.is_one_of(2) {
        let added = Variant { name: "Added".to_string(), fields: fields(draw, 1) };
        new.insert(draw.below(new.len() + 1), (added, None));
    }
    let (variants, sources): (Vec<_>, Vec<_>) = new.into_iter().unzip();
    let becomes = move |value: Value| {
        let (number, values) = value.into_variant().expect("it is a variant");
        let is_it = |source: &Option<(usize, FieldsBecome)>| {
            source.as_ref().is_some_and(|(index, _)| *index == number as usize)
        };
        let at = sources.iter().position(is_it).expect("no variant is removed");
        let Some((_, fields_become)) = &sources[at] else { unreachable!("it is an old one") };
        Value::Variant(at as u32, fields_become(values))
    };
    (Shape::Enum { name: "F".to_string(), variants }, Box::new(becomes))
}

/// Bytes as the list that they stand for.
fn listed(value: Value) -> Value {
    match value {
        Value::Bytes(_) => Value::List(value.into_list().expect("they are elements")),
        Value::List(elements) => Value::List(elements.into_iter().map(listed).collect()),
        Value::Option(value) => Value::Option(value.map(|value| Box::new(listed(*value)))),
        Value::Variant(number, fields) => {
            Value::Variant(number, fields.into_iter().map(listed).collect())
        }
        Value::Map(entries) => {
            Value::Map(entries.into_iter().map(|(key, value)| (key, listed(value))).collect())
        }
        value => value,
    }
}

fn schema(shape: &Shape) -> Schema {
    let encoded = encoding::encode(shape).expect("it is small");
    let schema = Schema::decode(&encoded).expect("it was just written");
    assert_eq!(schema.shape(), shape);
    schema
}

/// A shape whose values can be archived.
fn archivable(draw: &mut Draw) -> Shape {
    loop {
        let shape = shape(draw, 3);
        if Layout::of(&shape).is_ok() {
            return shape;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// A value over a compatible change has what it had, in the places of the new type.
    #[test]
    fn what_both_have_stays(seed: u64) {
        let draw = &mut Draw(seed);
        let old = archivable(draw);
        let (new, becomes) = change(draw, &old);
        prop_assume!(Layout::of(&new).is_ok());
        let migration = compatibility(&schema(&old), &schema(&new)).expect("it is compatible");
        for _ in 0..4 {
            let value = value(draw, &old);
            let archive = Written::archive(&old, &value);
            let read = listed(migration.value(&archive).expect("it is whole"));
            prop_assert_eq!(read, becomes(value), "{:?} -> {:?}", &old, &new);
        }
    }

    /// Two types that have nothing to do with each other are compared without a panic, and what is
    /// said to be compatible is read.
    #[test]
    fn any_two_types_can_be_compared(seed: u64) {
        let draw = &mut Draw(seed);
        let (old, new) = (archivable(draw), archivable(draw));
        match compatibility(&schema(&old), &schema(&new)) {
            Ok(migration) => {
                let archive = Written::archive(&old, &value(draw, &old));
                prop_assert!(migration.value(&archive).is_ok());
            }
            Err(diff) => prop_assert!(!diff.problems.is_empty()),
        }
    }
}
