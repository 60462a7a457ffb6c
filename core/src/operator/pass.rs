//! The chain of no operators: where every chain begins.

use std::marker::PhantomData;

use millstream_net::io::SocketDone;
use millstream_storage::io::FileDone;

use crate::data::ahead::Ahead;
use crate::data::element::CheckpointId;
use crate::data::row::Row;
use crate::error::Error;
use crate::operator::chain::{Chain, Label};
use crate::operator::env::TaskEnv;
use crate::operator::{Output, Progress, SplitEvent};
use crate::state::durable::Save;
use crate::state::snapshot::Snapshot;

/// Hands on every row and every watermark.
pub struct Pass<T>(PhantomData<fn(T) -> T>);

impl<T> Default for Pass<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for Pass<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> std::fmt::Debug for Pass<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pass")
    }
}

impl<T: 'static> Chain for Pass<T> {
    type In = T;
    type Out = T;

    fn label(&mut self, _labels: &mut std::vec::IntoIter<Label>) {}

    fn number(&mut self, _names: &mut Vec<String>) {}

    fn open(&mut self, _env: &TaskEnv) -> Result<(), Error> {
        Ok(())
    }

    fn prefetch(&mut self, _ahead: Ahead<'_>) {}

    #[inline]
    fn on_row(&mut self, row: Row<T>, _env: &TaskEnv, out: &mut impl Output<T>) {
        out.emit(row);
    }

    fn on_batch_end(&mut self, _env: &TaskEnv, _out: &mut impl Output<T>) -> Option<i64> {
        None
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        _env: &TaskEnv,
        _out: &mut impl Output<T>,
    ) -> Option<i64> {
        Some(watermark_ms)
    }

    fn resume(&mut self, _env: &TaskEnv, _out: &mut impl Output<T>) -> Option<i64> {
        None
    }

    fn is_pending(&self) -> bool {
        false
    }

    fn next_time_ms(&self) -> Option<i64> {
        None
    }

    fn on_time(&mut self, _env: &TaskEnv, _out: &mut impl Output<T>) -> Progress {
        Progress::Done
    }

    #[inline]
    fn is_ready(&self) -> bool {
        true
    }

    fn holds(&self, _stage_index: u16) -> bool {
        false
    }

    fn on_state_read(
        &mut self,
        stage_index: u16,
        _hash64: u64,
        _env: &TaskEnv,
        _out: &mut impl Output<T>,
    ) {
        panic!("state for operator {stage_index} of a chain without operators");
    }

    fn evict(&mut self, _steps: u32, _env: &TaskEnv) -> bool {
        false
    }

    fn has_waiting_rows(&self) -> bool {
        false
    }

    fn on_file_done(
        &mut self,
        stage_index: u16,
        done: FileDone,
        _env: &TaskEnv,
        _out: &mut impl Output<T>,
    ) {
        panic!("{done:?} for operator {stage_index} of a chain without operators");
    }

    fn on_socket_done(
        &mut self,
        stage_index: u16,
        done: SocketDone,
        _env: &TaskEnv,
        _out: &mut impl Output<T>,
    ) {
        panic!("{done:?} for operator {stage_index} of a chain without operators");
    }

    fn on_split(&mut self, _event: SplitEvent, _env: &TaskEnv) {}

    fn on_end(&mut self, _env: &TaskEnv, _out: &mut impl Output<T>) -> Progress {
        Progress::Done
    }

    fn gather(&mut self, _env: &TaskEnv) -> Progress {
        Progress::Done
    }

    fn on_cut(&mut self, _checkpoint: CheckpointId, _env: &TaskEnv) {}

    fn save(&mut self, _save: Save, _env: &TaskEnv) -> Progress {
        Progress::Done
    }

    fn is_settled(&self, _checkpoint: CheckpointId) -> bool {
        true
    }

    fn on_completed(&mut self, _checkpoint: CheckpointId, _env: &TaskEnv) {}

    fn owes_commit(&self) -> bool {
        false
    }

    fn snapshot(&self, _snapshot: &mut Snapshot) {}

    fn restore(&mut self, _snapshot: &Snapshot, _env: &TaskEnv) -> Result<(), Error> {
        Ok(())
    }
}
