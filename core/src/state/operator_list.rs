//! [`OperatorList`]: state that belongs to no key, element by element.
//!
//! As Flink's operator list state: every task has a list; a snapshot has them all; after a restore,
//! at whatever parallelism, each element is on exactly one task, dealt out in turn.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

use crate::data::record::Record;
use crate::error::Error;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// Gives access to the lists of an operator's task.
pub trait OperatorListScope {
    /// The lists, to read.
    fn lists(&self) -> &OperatorLists;

    /// The lists, to write.
    fn lists_mut(&mut self) -> &mut OperatorLists;
}

/// All lists of an operator's task.
#[derive(Default)]
pub struct OperatorLists {
    lists: Vec<(String, Box<dyn State>)>,
}

trait State: Any + Send {
    fn snapshot(&self, prefix: &str, writer: &mut SnapshotWriter<'_>);

    /// Takes every element whose number modulo `parallelism` is `task_index`.
    fn restore(
        &mut self,
        prefix: &str,
        task_index: u32,
        parallelism: u32,
        reader: &SnapshotReader<'_>,
    ) -> Result<(), Error>;
}

struct List<V>(Vec<V>);

impl<V: Record> State for List<V> {
    fn snapshot(&self, prefix: &str, writer: &mut SnapshotWriter<'_>) {
        for (position, value) in self.0.iter().enumerate() {
            writer.operator_state(&format!("{prefix}{position:012}"), value);
        }
    }

    fn restore(
        &mut self,
        prefix: &str,
        task_index: u32,
        parallelism: u32,
        reader: &SnapshotReader<'_>,
    ) -> Result<(), Error> {
        let elements = reader.operator_state::<V>(prefix)?.into_iter();
        let mine = elements.skip(task_index as usize).step_by(parallelism as usize);
        self.0 = mine.map(|(_, value)| value).collect();
        Ok(())
    }
}

impl OperatorLists {
    /// The lists' names, in the order in which they were declared.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lists.iter().map(|(name, _)| name.as_str())
    }

    /// Writes all lists of the task `task_index`.
    pub fn snapshot(&self, task_index: u32, writer: &mut SnapshotWriter<'_>) {
        for (name, list) in &self.lists {
            list.snapshot(&format!("{}{task_index:08}/", stored_prefix(name)), writer);
        }
    }

    /// Takes what belongs to the task `task_index` of `parallelism` from a snapshot.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for damaged bytes.
    pub fn restore(
        &mut self,
        task_index: u32,
        parallelism: u32,
        reader: &SnapshotReader<'_>,
    ) -> Result<(), Error> {
        let mut lists = self.lists.iter_mut();
        lists.try_for_each(|(name, list)| {
            list.restore(&stored_prefix(name), task_index, parallelism, reader)
        })
    }
}

fn stored_prefix(name: &str) -> String {
    format!("list/{name}/")
}

impl fmt::Debug for OperatorLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// A list for each task.
pub struct OperatorList<V> {
    number: usize,
    types: PhantomData<fn() -> V>,
}

impl<V> Default for OperatorList<V> {
    fn default() -> Self {
        Self { number: usize::MAX, types: PhantomData }
    }
}

impl<V> Clone for OperatorList<V> {
    fn clone(&self) -> Self {
        Self { number: self.number, types: PhantomData }
    }
}

impl<V> fmt::Debug for OperatorList<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "list {}", self.number)
    }
}

impl<V: Record> OperatorList<V> {
    /// Declares the list; `None` if the operator has one of that name.
    pub(crate) fn declare(lists: &mut OperatorLists, name: &str) -> Option<Self> {
        if lists.names().any(|other| other == name) {
            return None;
        }
        lists.lists.push((name.to_string(), Box::new(List(Vec::<V>::new()))));
        Some(Self { number: lists.lists.len() - 1, types: PhantomData })
    }

    /// The elements.
    pub fn get<'a>(&self, ctx: &'a impl OperatorListScope) -> &'a [V] {
        let list = ctx.lists().lists.get(self.number).map(|(_, list)| &**list);
        let list = list.and_then(|list| (list as &dyn Any).downcast_ref::<List<V>>());
        &list.expect("`open` has declared the list").0
    }

    /// The elements, to change.
    pub fn get_mut<'a>(&self, ctx: &'a mut impl OperatorListScope) -> &'a mut Vec<V> {
        let list = ctx.lists_mut().lists.get_mut(self.number).map(|(_, list)| &mut **list);
        let list = list.and_then(|list| (list as &mut dyn Any).downcast_mut::<List<V>>());
        &mut list.expect("`open` has declared the list").0
    }
}
