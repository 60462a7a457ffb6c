//! A sink whose rows are state: what it has at the end is what an exactly-once sink would have
//! written, over a restore as well.

use std::sync::{Arc, Mutex};

use millstream::prelude::*;
use millstream::state::snapshot::{SnapshotReader, SnapshotWriter};

/// See the module. Clones write to the same place when they end.
#[derive(Debug)]
pub(super) struct Ledger<T> {
    task_index: u32,
    rows: Vec<T>,
    ended: Arc<Mutex<Vec<T>>>,
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self { task_index: 0, rows: Vec::new(), ended: Arc::default() }
    }
}

impl<T> Clone for Ledger<T> {
    fn clone(&self) -> Self {
        Self { ended: Arc::clone(&self.ended), ..Self::default() }
    }
}

impl<T> Ledger<T> {
    /// The rows of all tasks that have ended.
    pub(super) fn into_rows(self) -> Vec<T> {
        std::mem::take(&mut *self.ended.lock().expect("nobody panics holding it"))
    }
}

impl<T: Record> Operator for Ledger<T> {
    type In = T;
    type Out = Nothing;

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<()> {
        self.task_index = ctx.env().task.task_index;
        Ok(())
    }

    fn on_row(&mut self, row: Row<T>, _: &OperatorContext<'_>, _: &mut impl Output<Nothing>) {
        self.rows.push(row.value);
    }

    fn on_end(&mut self, _: &OperatorContext<'_>, _: &mut impl Output<Nothing>) -> Progress {
        // They stay: a checkpoint behind the end is one with all rows.
        self.ended.lock().expect("nobody panics holding it").extend_from_slice(&self.rows);
        Progress::Done
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        for (number, row) in self.rows.iter().enumerate() {
            writer.operator_state(&format!("row/{:04}/{number:08}", self.task_index), row);
        }
    }

    fn restore(&mut self, reader: &SnapshotReader<'_>, ctx: &OperatorContext<'_>) -> Result<()> {
        let (index, count) = (ctx.env().task.task_index, ctx.env().task.parallelism);
        let rows = reader.operator_state::<T>("row/")?.into_iter();
        self.rows = rows.skip(index as usize).step_by(count as usize).map(|(_, row)| row).collect();
        Ok(())
    }
}
