//! Whether values of an old schema become values of a new one, and how: a pure function.
//!
//! ```text
//! old             new                 what becomes of a value
//! u32             u64, i64, …         the same number: every width that holds all of them
//! f32             f64                 the same number
//! T               Option<T>           Some
//! T               Box<T>, and back    the same
//! a field         gone                dropped; refused in a key of a map and an element of a set
//!                 a field = default   the default; refused without one
//! fields          in another order    matched by name
//! a variant       gone                refused: values may have it
//!                 a variant           there is none yet
//! anything else                       refused
//! ```
//!
//! The same holds for everything within elements, options, keys and values. Fields and elements
//! without names (of tuples) are matched by their place and are as many as before.

use std::fmt;

use super::layout::{Layout, NodeLayout, field_places, option_place};
use super::migration::{Migration, Part, Step};
use super::shape::{Fields, Shape, Variant};

/// How the values of one schema become values of another.
///
/// # Errors
/// All differences for which there is no rule, by name.
pub(super) fn compatibility(old: &Shape, new: &Shape) -> Result<Migration, SchemaDiff> {
    let mut comparison = Comparison::default();
    let step = comparison.shape(old, new);
    let Comparison { problems, changes, .. } = comparison;
    match step {
        Some(step) if problems.is_empty() => {
            let is_identity = old.stored() == new.stored();
            let root = Layout::of(old).expect(ARCHIVABLE);
            Ok(Migration { step, root_bytes: root.size, is_identity, changes })
        }
        _ => Err(SchemaDiff { problems }),
    }
}

/// Why layouts of shapes do not fail here.
const ARCHIVABLE: &str = "schemas are checked when they are made and when they are decoded";

/// What a user can do about a difference that has no rule.
const ADVICE: &str = "write a migration or choose another uid";

/// Why values of a schema cannot become values of another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(problems))]
pub struct SchemaDiff {
    /// One for each difference that has no rule.
    pub problems: Vec<Difference>,
}

fn lines(problems: &[Difference]) -> String {
    let line = |problem: &Difference| format!("{problem}; {ADVICE}");
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// One difference between two schemas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which part, by name: `field orders[].amount`, `variant state::Paid`, `the value`.
    pub place: String,
    /// What is different, and what comes of it.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Two shapes, part by part.
#[derive(Default)]
struct Comparison {
    /// The way to the part: `.orders`, `[]`, `::Paid`.
    path: Vec<String>,
    /// Within a key of a map or an element of a set: what differs must go on to differ.
    is_key: bool,
    problems: Vec<Difference>,
    changes: Vec<Difference>,
}

impl Comparison {
    fn place(&self, kind: &str) -> String {
        let path = self.path.concat();
        let path = path.trim_start_matches(['.', ':']);
        if path.is_empty() { "the value".to_string() } else { format!("{kind} {path}") }
    }

    fn problem<T>(&mut self, kind: &str, what: String) -> Option<T> {
        let place = self.place(kind);
        self.problems.push(Difference { place, what });
        None
    }

    fn change(&mut self, what: String) {
        let place = self.place("field");
        self.changes.push(Difference { place, what });
    }

    /// Compares what is under `segment`.
    fn within<T>(&mut self, segment: String, compare: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(segment);
        let compared = compare(self);
        self.path.pop();
        compared
    }

    fn boxed(&mut self, segment: &str, old: &Shape, new: &Shape) -> Option<Box<Step>> {
        self.within(segment.to_string(), |this| this.shape(old, new)).map(Box::new)
    }

    fn key(&mut self, old: &Shape, new: &Shape) -> Option<Box<Step>> {
        let outer = std::mem::replace(&mut self.is_key, true);
        let step = self.boxed("{key}", old, new);
        self.is_key = outer;
        step
    }

    fn shape(&mut self, old: &Shape, new: &Shape) -> Option<Step> {
        Some(match (old, new) {
            (_, Shape::Boxed(new)) if !matches!(old, Shape::Boxed(_)) => self.shape(old, new)?,
            (Shape::Boxed(old), new) => {
                let new = if let Shape::Boxed(new) = new { new } else { new };
                Step::Follow(layout(old).size, Box::new(self.shape(old, new)?))
            }
            (Shape::Option(old), Shape::Option(new)) => Step::Option {
                place: option_place(old).expect(ARCHIVABLE),
                inner: self.boxed("", old, new)?,
            },
            (Shape::Option(_), _) => {
                return self.problem("field", format!("{old} -> {new}, and values may be None"));
            }
            (_, Shape::Option(inner)) => {
                self.change(format!("{old} -> {new}, values become Some"));
                Step::Some(Box::new(self.shape(old, inner)?))
            }
            (Shape::Unit, Shape::Unit) => Step::Unit,
            (Shape::Bool, Shape::Bool) => Step::Bool,
            (Shape::Char, Shape::Char) => Step::Char,
            (Shape::Text, Shape::Text) => Step::Text,
            (Shape::Number(from), Shape::Number(to)) => {
                if !from.fits(*to) {
                    return self.problem("field", format!("{old} -> {new}, not a widening"));
                }
                if from != to {
                    self.change(format!("{old} -> {new}, widened"));
                }
                Step::Number(*from)
            }
            (Shape::Vec(old), Shape::Vec(new)) => {
                Step::Vec { stride: layout(old).size, element: self.boxed("[]", old, new)? }
            }
            (Shape::Array(old_element, count), Shape::Array(new_element, new_count)) => {
                if count != new_count {
                    return self.problem("field", format!("{old} -> {new}, another length"));
                }
                let element = self.boxed("[]", old_element, new_element)?;
                Step::Array { count: *count as usize, stride: layout(old_element).size, element }
            }
            (Shape::Set(old), Shape::Set(new)) => {
                let node = node(old, &Shape::Unit);
                Step::Set { node, key: self.key(old, new)? }
            }
            (Shape::Map(old_key, old_value), Shape::Map(new_key, new_value)) => {
                let key = self.key(old_key, new_key);
                let value = self.boxed("{value}", old_value, new_value);
                Step::Map { node: node(old_key, old_value), key: key?, value: value? }
            }
            (Shape::Struct { fields: old, .. }, Shape::Struct { fields: new, .. }) => {
                Step::Fields(self.fields(old, new, false)?)
            }
            (Shape::Enum { variants: old, .. }, Shape::Enum { variants: new, .. }) => {
                Step::Enum(self.variants(old, new)?)
            }
            _ => return self.problem("field", format!("{old} -> {new}, another type")),
        })
    }

    /// Where each of the new fields comes from.
    fn fields(&mut self, old: &Fields, new: &Fields, is_variant: bool) -> Option<Vec<Part>> {
        let (places, _) = field_places(old, is_variant).expect(ARCHIVABLE);
        match (old, new) {
            (Fields::Named(old), Fields::Named(new)) => {
                let mut parts = Vec::with_capacity(new.len());
                for field in new {
                    let at = old.iter().position(|older| older.name == field.name);
                    let part = self.within(format!(".{}", field.name), |this| match at {
                        Some(at) => {
                            let step = this.shape(&old[at].shape, &field.shape)?;
                            Some(Part::At(places[at], step))
                        }
                        None if field.has_default => {
                            this.change("added, older values get its default".to_string());
                            Some(Part::Absent)
                        }
                        None => {
                            let what = format!("{} added without a default", field.shape);
                            this.problem("field", what)
                        }
                    });
                    parts.push(part);
                }
                for field in old.iter().filter(|older| new.iter().all(|f| f.name != older.name)) {
                    self.within(format!(".{}", field.name), Self::removed);
                }
                parts.into_iter().collect()
            }
            (Fields::Positional(old), Fields::Positional(new)) if old.len() == new.len() => {
                let pairs = old.iter().zip(new).zip(places).enumerate();
                let parts = pairs.map(|(position, ((old, new), at))| {
                    let step = self.within(format!(".{position}"), |this| this.shape(old, new))?;
                    Some(Part::At(at, step))
                });
                // All of them are compared, so that all problems are found.
                parts.collect::<Vec<_>>().into_iter().collect()
            }
            _ => {
                let what = format!("{old} -> {new}, and places are no names to go by");
                self.problem(if is_variant { "variant" } else { "field" }, what)
            }
        }
    }

    fn removed(&mut self) {
        if self.is_key {
            let what = "removed from a key, so that keys could become equal".to_string();
            self.problem::<()>("field", what);
        } else {
            self.change("removed, what it held is dropped".to_string());
        }
    }

    /// What becomes of each of the old variants.
    fn variants(&mut self, old: &[Variant], new: &[Variant]) -> Option<Vec<(u32, Vec<Part>)>> {
        let steps = old.iter().map(|variant| {
            let at = new.iter().position(|newer| newer.name == variant.name);
            self.within(format!("::{}", variant.name), |this| match at {
                Some(at) => Some((at as u32, this.fields(&variant.fields, &new[at].fields, true)?)),
                None => this.problem("variant", "removed, and values may have it".to_string()),
            })
        });
        steps.collect::<Vec<_>>().into_iter().collect()
    }
}

fn layout(shape: &Shape) -> Layout {
    Layout::of(shape).expect(ARCHIVABLE)
}

fn node(key: &Shape, value: &Shape) -> NodeLayout {
    NodeLayout::of(key, value).expect(ARCHIVABLE)
}
