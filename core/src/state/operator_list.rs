//! [`OperatorList`]: state that belongs to no key, element by element.
//!
//! As Flink's operator list state: every task has a list; a snapshot has them all; after a restore,
//! at whatever parallelism, each element is on exactly one task, dealt out in turn; or, of a union
//! list, all elements are on every task.
//!
//! A function declares its lists in `open`; an operator or a source of a user's own keeps
//! [`OperatorLists`] itself.

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

/// All lists of one task of an operator or a source:
/// [`OperatorContext::lists`](crate::operator::OperatorContext::lists).
///
/// ```
/// use millstream::prelude::*;
///
/// /// Holds records back until the watermark has passed them.
/// #[derive(Clone, Default)]
/// struct InTime {
///     lists: OperatorLists,
///     held: OperatorList<(i64, u64)>,
/// }
///
/// impl Operator for InTime {
///     type In = u64;
///     type Out = u64;
///
///     fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<()> {
///         self.lists = ctx.lists();
///         self.held = self.lists.list("held");
///         Ok(())
///     }
///
///     fn on_row(
///         &mut self,
///         row: Row<u64>,
///         ctx: &OperatorContext<'_>,
///         out: &mut impl Output<u64>,
///     ) {
///         if row.event_time_ms <= ctx.watermark_ms() {
///             out.emit(row);
///         } else {
///             self.held.get_mut(&mut self.lists).push((row.event_time_ms, row.value));
///         }
///     }
///
///     fn on_watermark(
///         &mut self,
///         watermark_ms: i64,
///         _ctx: &OperatorContext<'_>,
///         out: &mut impl Output<u64>,
///     ) -> Progress {
///         let held = self.held.get_mut(&mut self.lists);
///         for (time_ms, value) in held.extract_if(.., |(time_ms, _)| *time_ms <= watermark_ms) {
///             out.collect_at(value, time_ms);
///         }
///         Progress::Done
///     }
///
///     fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
///         self.lists.snapshot(writer);
///     }
///
///     fn restore(&mut self, reader: &SnapshotReader<'_>, _: &OperatorContext<'_>) -> Result<()> {
///         self.lists.restore(reader)
///     }
/// }
///
/// let job = Job::new("in-time");
/// job.source("numbers", GeneratorSource::new(100, |n| n))
///     .watermark(Monotonic::new(), |n| *n as i64)
///     .operator("in time", InTime::default())
///     .sink("in-time-numbers", DiscardSink::new());
/// job.simulate(2, &SimConfig::new(1))?.outcome?;
/// # Ok::<(), millstream::Error>(())
/// ```
pub struct OperatorLists {
    task_index: u32,
    parallelism: u32,
    lists: Vec<(String, Box<dyn State>)>,
}

/// Those of an operator that has not been opened: they are of no task, and can do nothing.
impl Default for OperatorLists {
    fn default() -> Self {
        Self::of_task(0, 0)
    }
}

/// A clone has seen nothing: its operator has not been opened.
impl Clone for OperatorLists {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl OperatorListScope for OperatorLists {
    fn lists(&self) -> &OperatorLists {
        self
    }

    fn lists_mut(&mut self) -> &mut OperatorLists {
        self
    }
}

trait State: Any + Send {
    fn snapshot(&self, prefix: &str, writer: &mut SnapshotWriter<'_>);

    /// Takes every element whose number modulo `parallelism` is `task_index`; of a union list all.
    fn restore(
        &mut self,
        prefix: &str,
        task_index: u32,
        parallelism: u32,
        reader: &SnapshotReader<'_>,
    ) -> Result<(), Error>;
}

struct List<V> {
    elements: Vec<V>,
    /// After a restore every task has all elements.
    is_union: bool,
}

impl<V: Record> State for List<V> {
    fn snapshot(&self, prefix: &str, writer: &mut SnapshotWriter<'_>) {
        for (position, value) in self.elements.iter().enumerate() {
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
        let (first, step) = if self.is_union { (0, 1) } else { (task_index, parallelism) };
        let mine = elements.skip(first as usize).step_by(step as usize);
        self.elements = mine.map(|(_, value)| value).collect();
        Ok(())
    }
}

impl OperatorLists {
    /// No lists yet, of task `task_index` of `parallelism`.
    pub(crate) fn of_task(task_index: u32, parallelism: u32) -> Self {
        Self { task_index, parallelism, lists: Vec::new() }
    }

    /// The same lists, of another task.
    pub(crate) fn moved_to(self, task_index: u32, parallelism: u32) -> Self {
        Self { task_index, parallelism, lists: self.lists }
    }

    /// Declares a list whose elements are dealt out anew when the parallelism changes. `name` is
    /// what it is found under after a restart.
    ///
    /// # Panics
    /// If there is a list of that name, or `open` has not taken the lists of its context, as
    /// [`OperatorLists::union_list`] does.
    pub fn list<V: Record>(&mut self, name: &str) -> OperatorList<V> {
        self.declare_once(name, false)
    }

    /// Declares a list of which every task has all elements after a restart: for few.
    pub fn union_list<V: Record>(&mut self, name: &str) -> OperatorList<V> {
        self.declare_once(name, true)
    }

    fn declare_once<V: Record>(&mut self, name: &str, is_union: bool) -> OperatorList<V> {
        self.check();
        OperatorList::declare(self, name, is_union)
            .unwrap_or_else(|| panic!("declares two lists named {name:?}"))
    }

    fn check(&self) {
        assert!(0 < self.parallelism, "`open` begins with `self.lists = ctx.lists()`");
    }

    /// The lists' names, in the order in which they were declared.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lists.iter().map(|(name, _)| name.as_str())
    }

    /// Writes all lists.
    ///
    /// # Panics
    /// If `open` has not taken the lists of its context.
    pub fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        self.check();
        for (name, list) in &self.lists {
            writer.declare("list", name);
            list.snapshot(&format!("{}{:08}/", stored_prefix(name), self.task_index), writer);
        }
    }

    /// Takes what belongs to the task from a snapshot, whatever number of tasks wrote it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for damaged bytes.
    pub fn restore(&mut self, reader: &SnapshotReader<'_>) -> Result<(), Error> {
        let Self { task_index, parallelism, lists } = self;
        lists.iter_mut().try_for_each(|(name, list)| {
            list.restore(&stored_prefix(name), *task_index, *parallelism, reader)
        })
    }
}

/// The elements of the list `name`, of all tasks in order.
///
/// # Errors
/// [`Error::Corrupt`] for damaged bytes and for elements of another type.
pub fn elements<V: Record>(reader: &SnapshotReader<'_>, name: &str) -> Result<Vec<V>, Error> {
    let elements = reader.operator_state(&stored_prefix(name))?;
    Ok(elements.into_iter().map(|(_, element)| element).collect())
}

/// With the name's length: no name followed by anything begins with another's.
fn stored_prefix(name: &str) -> String {
    format!("list/{}:{name}/", name.len())
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
    pub(crate) fn declare(lists: &mut OperatorLists, name: &str, is_union: bool) -> Option<Self> {
        if lists.names().any(|other| other == name) {
            return None;
        }
        lists
            .lists
            .push((name.to_string(), Box::new(List { elements: Vec::<V>::new(), is_union })));
        Some(Self { number: lists.lists.len() - 1, types: PhantomData })
    }

    /// The elements.
    pub fn get<'a>(&self, ctx: &'a impl OperatorListScope) -> &'a [V] {
        let list = ctx.lists().lists.get(self.number).map(|(_, list)| &**list);
        let list = list.and_then(|list| (list as &dyn Any).downcast_ref::<List<V>>());
        &list.expect("`open` has declared the list").elements
    }

    /// The elements, to change.
    pub fn get_mut<'a>(&self, ctx: &'a mut impl OperatorListScope) -> &'a mut Vec<V> {
        let list = ctx.lists_mut().lists.get_mut(self.number).map(|(_, list)| &mut **list);
        let list = list.and_then(|list| (list as &mut dyn Any).downcast_mut::<List<V>>());
        &mut list.expect("`open` has declared the list").elements
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::snapshot::Snapshot;

    /// One after the other of two tasks, and what is in each list after a restore as task
    /// `task_index` of `parallelism`.
    fn restored(task_index: u32, parallelism: u32) -> [Vec<u32>; 3] {
        let declare = |task_index, parallelism| {
            let mut lists = OperatorLists::of_task(task_index, parallelism);
            let handles = [lists.list("a"), lists.list("a/00000000"), lists.union_list("all")];
            (lists, handles)
        };
        let mut snapshot = Snapshot::default();
        for task in 0..2 {
            let (mut lists, handles) = declare(task, 2);
            for (handle, element) in handles.iter().zip([1, 10, 100]) {
                handle.get_mut(&mut lists).extend([element, element + task]);
            }
            lists.snapshot(&mut SnapshotWriter::new(&mut snapshot, "uid"));
        }
        let (mut lists, handles) = declare(task_index, parallelism);
        let reader = SnapshotReader::new(&snapshot, "uid");
        lists.restore(&reader).expect("just written");
        handles.map(|handle| handle.get(&lists).to_vec())
    }

    #[test]
    fn elements_are_dealt_out_and_those_of_a_union_list_are_everywhere() {
        let all = vec![100, 100, 100, 101];
        assert_eq!(restored(0, 1), [vec![1, 1, 1, 2], vec![10, 10, 10, 11], all.clone()]);
        assert_eq!(restored(0, 3), [vec![1, 2], vec![10, 11], all.clone()]);
        assert_eq!(restored(2, 3), [vec![1], vec![10], all]);
    }

    #[test]
    #[should_panic(expected = "self.lists = ctx.lists()")]
    fn lists_that_open_has_not_taken_can_do_nothing() {
        OperatorLists::default().list::<u32>("a");
    }

    #[test]
    #[should_panic(expected = "two lists named \"a\"")]
    fn a_name_stands_for_one_list() {
        let mut lists = OperatorLists::of_task(0, 1);
        lists.list::<u32>("a");
        lists.union_list::<u32>("a");
    }
}
