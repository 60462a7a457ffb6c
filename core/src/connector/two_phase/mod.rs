//! Sinks of your own that are exactly once: [`TwoPhaseSink`], and the operator around it.
//!
//! ```text
//! records ─► write, write, ... ─► pre_commit ─► committable ─► snapshot
//!               one transaction      │ barrier                    │ checkpoint complete
//!                                    └► durable, not seen         └► commit: seen
//! ```
//!
//! What a system outside can do in a transaction, it can do exactly once: a checkpoint ends the
//! transaction, and has in its snapshot what it takes to commit it; when the checkpoint is
//! complete, it is committed. If the process dies before, the next run finds the committable in the
//! checkpoint that it goes on from, and commits it then; transactions of which no checkpoint speaks
//! are ended and their records written again. So a committable is committed at least once, and
//! committing it again must change nothing.
//!
//! Methods of a [`TwoPhaseSink`] may block: they are called on a thread of the sink's own, one for
//! each task, and never on a shard's. The task waits with its input while it has
//! enough calls under way, and between a barrier and the answer to `pre_commit`.
//!
//! [`FileSink`](crate::connector::FileSink) and [`LogSink`](crate::connector::LogSink) do the same
//! with files that get their names and segments that are committed, on the hooks of
//! [`Operator`](crate::operator::Operator) that this one uses: `gather`, `on_cut`, `is_settled`,
//! `on_completed`, `owes_commit`.
//!
//! Not here: the checks that a sink must pass ([`crate::testing::two_phase_conformance`]), the
//! operator's order of calls (`operator.rs`).

mod operator;

#[cfg(test)]
mod tests;

pub use operator::TwoPhase;

use std::io;

use crate::data::record::Record;

/// A sink that writes in transactions: see the [module](self). Wrap it in [`TwoPhase`] to use it.
///
/// Every method may block. An error is a failure of the job, which goes on from its last
/// checkpoint, in the same process or another, with clones of the sink as it was given to the job;
/// no method is called behind one that has failed.
///
/// ```
/// use std::io;
/// use std::sync::{Arc, Mutex};
///
/// use millstream::connector::two_phase::{TwoPhase, TwoPhaseSink, Writer};
/// use millstream::prelude::*;
/// use millstream::testing::two_phase_conformance;
///
/// /// Stands for a database: transactions by name, whether they are prepared, and their rows.
/// type Database = Arc<Mutex<Vec<(String, bool, Vec<u64>)>>>;
///
/// #[derive(Clone)]
/// struct Rows {
///     database: Database,
///     committed: Arc<Mutex<Vec<u64>>>,
///     writer: Option<Writer>,
///     open: Vec<u64>,
///     count: u32,
/// }
///
/// impl TwoPhaseSink for Rows {
///     type In = u64;
///     type Committable = String;
///
///     fn describe(&self) -> String {
///         "rows of a database".to_string()
///     }
///
///     fn open(&mut self, writer: Writer) -> io::Result<()> {
///         self.writer = Some(writer);
///         Ok(())
///     }
///
///     fn abort_all_but(&mut self, kept: &[String]) -> io::Result<()> {
///         let writer = self.writer.as_ref().expect("it is open");
///         let is_mine = |name: &str| {
///             let task = name.split('-').nth(1).and_then(|task| task.parse().ok());
///             task.is_some_and(|task| writer.answers_for(task))
///         };
///         let mut database = self.database.lock().unwrap();
///         database.retain(|(name, ..)| !is_mine(name) || kept.contains(name));
///         Ok(())
///     }
///
///     fn write(&mut self, rows: Vec<u64>) -> io::Result<()> {
///         self.open.extend(rows);
///         Ok(())
///     }
///
///     fn pre_commit(&mut self) -> io::Result<Option<String>> {
///         let (rows, writer) = (std::mem::take(&mut self.open), self.writer.as_ref().unwrap());
///         self.count += 1;
///         let name = format!("rows-{}-{}-{}", writer.task_index, writer.begun_ms, self.count);
///         self.database.lock().unwrap().push((name.clone(), true, rows));
///         Ok(Some(name))
///     }
///
///     fn commit(&mut self, name: &String) -> io::Result<()> {
///         let mut database = self.database.lock().unwrap();
///         // What is not there any more was committed.
///         if let Some(index) = database.iter().position(|(other, ..)| other == name) {
///             self.committed.lock().unwrap().extend(database.remove(index).2);
///         }
///         Ok(())
///     }
/// }
///
/// two_phase_conformance(|| {
///     let (database, committed) = (Database::default(), Arc::<Mutex<Vec<u64>>>::default());
///     let (writer, open, count, seen) = (None, Vec::new(), 0, Arc::clone(&committed));
///     (Rows { database, committed, writer, open, count }, move || seen.lock().unwrap().clone())
/// }, |n| n);
///
/// let job = Job::new("rows");
/// # let (database, committed) = (Database::default(), Arc::default());
/// # let rows = Rows { database, committed, writer: None, open: Vec::new(), count: 0 };
/// job.source("numbers", GeneratorSource::new(10, |n| n)).sink("rows", TwoPhase::new(rows));
/// ```
pub trait TwoPhaseSink: Clone + Send + 'static {
    /// What it takes.
    type In: Send + 'static;
    /// What it takes to commit a transaction, in this run or the next: its name, for example.
    type Committable: Record;

    /// What it writes to, for `explain`: `table payments of postgres://..`.
    fn describe(&self) -> String;

    /// Everything wrong with the description that can be seen without connecting: one sentence
    /// each, saying what to do.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// Connects. Called once, before anything else, on the sink's own thread.
    ///
    /// # Errors
    /// Whatever makes it impossible to write.
    fn open(&mut self, writer: Writer) -> io::Result<()>;

    /// Ends every transaction that an earlier run has left, open or ended by
    /// [`TwoPhaseSink::pre_commit`], of a task that this one answers for
    /// ([`Writer::answers_for`]), unless it is one of `kept`: those are committed, by this task or
    /// another. Called once, behind `open`.
    ///
    /// # Errors
    /// If it is not known whether they are ended.
    fn abort_all_but(&mut self, kept: &[Self::Committable]) -> io::Result<()>;

    /// Writes records into the transaction; begins one if none is open.
    ///
    /// # Errors
    /// If they are not in it.
    fn write(&mut self, records: Vec<Self::In>) -> io::Result<()>;

    /// Ends the transaction, if one is open: whatever ends the process now, it can be committed,
    /// and nobody sees it before. Called only if something was written since the last call.
    ///
    /// # Errors
    /// If it is not durable.
    fn pre_commit(&mut self) -> io::Result<Option<Self::Committable>>;

    /// Lets everybody see the transaction. It may have been committed before, by this run or an
    /// earlier one: then nothing changes.
    ///
    /// # Errors
    /// If it is not certain that it is committed.
    fn commit(&mut self, committable: &Self::Committable) -> io::Result<()>;

    /// Disconnects: nothing more is written, and everything is committed.
    ///
    /// # Errors
    /// Stop the job.
    fn close(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which task of a sink writes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Writer {
    /// The sink's name in the plan.
    pub sink: String,
    /// Which of its tasks this is.
    pub task_index: u32,
    /// How many tasks it has.
    pub parallelism: u32,
    /// When it began, ms since 1970: with a number that counts its transactions this names them so
    /// that none of an earlier run, or of this one before a failure, has the same name.
    pub begun_ms: i64,
}

impl Writer {
    /// Whether this task ends what task `task_index` of an earlier run has left: its own, and its
    /// share of those of tasks that there are not any more.
    pub fn answers_for(&self, task_index: u32) -> bool {
        task_index % self.parallelism == self.task_index
    }
}
