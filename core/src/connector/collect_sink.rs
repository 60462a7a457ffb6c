//! Collects rows in memory, for tests.
//!
//! ```text
//! task 0 ─► CollectSink ─┐ once a batch
//! task 1 ─► CollectSink ─┴──────────────► Collected (shared) ─► the test
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::data::row::Row;
use crate::graph::Facts;
use crate::operator::{Nothing, Operator, OperatorContext, Output, Progress};

/// Where collected rows are found.
///
/// ```
/// use millstream::prelude::*;
/// let results = Collected::<u64>::new();
/// let sink = results.sink(); // for `.sink("results", ...)`
/// // After the job, its results are there, those of one task in order:
/// assert!(results.values().is_empty());
/// ```
#[derive(Debug)]
pub struct Collected<T> {
    rows: Arc<Mutex<Vec<Row<T>>>>,
}

impl<T> Default for Collected<T> {
    fn default() -> Self {
        Self { rows: Arc::default() }
    }
}

impl<T> Clone for Collected<T> {
    fn clone(&self) -> Self {
        Self { rows: Arc::clone(&self.rows) }
    }
}

impl<T> Collected<T> {
    /// No rows yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A sink that puts its rows here. All its tasks do.
    pub fn sink(&self) -> CollectSink<T> {
        CollectSink { collected: self.clone(), batch: Vec::new() }
    }

    /// Takes the rows that have come so far. Rows of one task are in their order.
    pub fn take_rows(&self) -> Vec<Row<T>> {
        std::mem::take(&mut *self.lock())
    }

    /// Takes the values that have come so far, as [`Collected::take_rows`] does the rows.
    pub fn take_values(&self) -> Vec<T> {
        self.take_rows().into_iter().map(|row| row.value).collect()
    }

    /// Copies of the values that have come so far.
    pub fn values(&self) -> Vec<T>
    where
        T: Clone,
    {
        self.lock().iter().map(|row| row.value.clone()).collect()
    }

    /// How many rows have come and have not been taken.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Row<T>>> {
        // A panic elsewhere cannot leave a vector half appended to.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts rows into a [`Collected`].
#[derive(Debug)]
pub struct CollectSink<T> {
    collected: Collected<T>,
    /// Rows since the last batch ended: the lock is taken once a batch.
    batch: Vec<Row<T>>,
}

impl<T> Clone for CollectSink<T> {
    fn clone(&self) -> Self {
        self.collected.sink()
    }
}

impl<T> CollectSink<T> {
    fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.collected.lock().append(&mut self.batch);
        }
    }
}

impl<T: Send + 'static> Operator for CollectSink<T> {
    type In = T;
    type Out = Nothing;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts::stateless().detailed("collects rows in memory")
    }

    fn on_row(&mut self, row: Row<T>, _ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) {
        self.batch.push(row);
    }

    fn on_batch_end(
        &mut self,
        _ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) -> Option<i64> {
        self.flush();
        None
    }

    fn on_end(&mut self, _ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) -> Progress {
        self.flush();
        Progress::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::testing::{NoOutput, context};
    use crate::testing::task_env;

    #[test]
    fn rows_of_all_clones_arrive_when_a_batch_ends() {
        let env = task_env(0, 1);
        let results = Collected::new();
        let (mut first, mut second) = (results.sink(), results.sink().clone());
        let out = &mut NoOutput(&env);
        first.on_row(1.into(), &context(&env, "results"), out);
        second.on_row(2.into(), &context(&env, "results"), out);
        assert!(results.is_empty());
        first.on_batch_end(&context(&env, "results"), out);
        assert_eq!(second.on_end(&context(&env, "results"), out), Progress::Done);
        assert_eq!((results.values(), results.take_values()), (vec![1, 2], vec![1, 2]));
        assert!(results.is_empty());
    }
}
