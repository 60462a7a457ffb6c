//! Side outputs: rows that leave an operator beside its main output.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

use crate::data::row::Row;
use crate::graph::SideOutputFact;
use crate::operator::env::OperatorContext;

/// Names a side output and the type of its records.
///
/// ```
/// use millstream::prelude::*;
/// const LATE: OutputTag<u64> = OutputTag::new("late");
/// ```
pub struct OutputTag<T> {
    name: &'static str,
    record: PhantomData<fn() -> T>,
}

impl<T> OutputTag<T> {
    /// A tag; one operator has at most one side output of a name.
    pub const fn new(name: &'static str) -> Self {
        Self { name, record: PhantomData }
    }

    /// Its name in the plan.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The tag as the plan sees it.
    pub fn fact(&self) -> SideOutputFact {
        SideOutputFact { tag: self.name, record: std::any::type_name::<T>() }
    }
}

impl<T> Clone for OutputTag<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OutputTag<T> {}

impl<T> fmt::Debug for OutputTag<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutputTag({})", self.name)
    }
}

/// The rows of a task's side outputs that have not been taken yet. Only tags that somebody reads
/// are kept.
#[derive(Default)]
pub struct SideOutputs {
    outputs: Vec<(&'static str, Box<dyn Any>)>,
}

impl SideOutputs {
    /// Somebody reads `tag`.
    pub fn register<T: 'static>(&mut self, tag: OutputTag<T>) {
        if !self.is_registered(tag) {
            self.outputs.push((tag.name, Box::new(Vec::<Row<T>>::new())));
        }
    }

    /// Whether somebody reads `tag`.
    pub fn is_registered<T>(&self, tag: OutputTag<T>) -> bool {
        self.outputs.iter().any(|(name, _)| *name == tag.name)
    }

    /// The rows put under `tag` and not yet taken, if somebody reads it.
    ///
    /// # Panics
    /// If two tags of one name have different types; the plan refuses that.
    pub fn rows<T: 'static>(&mut self, tag: OutputTag<T>) -> Option<&mut Vec<Row<T>>> {
        let (_, rows) = self.outputs.iter_mut().find(|(name, _)| *name == tag.name)?;
        Some(rows.downcast_mut().expect("one type per tag, checked in the plan"))
    }
}

impl fmt::Debug for SideOutputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.outputs.iter().map(|(name, _)| name)).finish()
    }
}

impl OperatorContext<'_> {
    /// Puts a value caused by the row being processed into a side output.
    pub fn side_output<T: 'static>(&self, tag: OutputTag<T>, value: T) {
        self.side_output_row(tag, self.env().row(value));
    }

    /// Puts a row into a side output. `false` if nobody reads it; the row is dropped then.
    pub fn side_output_row<T: 'static>(&self, tag: OutputTag<T>, row: Row<T>) -> bool {
        match self.env().side_outputs.borrow_mut().rows(tag) {
            Some(rows) => {
                rows.push(row);
                true
            }
            None => false,
        }
    }

    /// Puts a record that could not be read into a side output, and counts it whether somebody
    /// reads that output or not.
    pub fn dead_letter(&self, tag: OutputTag<DeadLetter>, letter: DeadLetter) {
        let count = &self.env().dead_letters;
        count.set(count.get() + 1);
        self.side_output_row(tag, Row::from(letter));
    }
}

/// A raw record that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DeadLetter {
    /// File, line, column and field, as far as they are known.
    pub place: String,
    /// What is wrong, and what would be right.
    pub reason: String,
    /// The record as it came; bytes that are not UTF-8 are replaced.
    pub raw: String,
}

/// What to do with a record that cannot be read.
#[derive(Debug, Clone, Copy, Default)]
pub enum OnError {
    /// Stop the job with an error that names the place.
    #[default]
    Stop,
    /// Put the raw record and the reason there, count it, and go on.
    SkipTo(OutputTag<DeadLetter>),
}

/// Puts unreadable records into the side output `name` instead of stopping the job.
pub const fn skip_to(name: &'static str) -> OnError {
    OnError::SkipTo(OutputTag::new(name))
}
