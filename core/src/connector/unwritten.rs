//! What a sink has encoded and nobody has taken from it yet: a part of its state.
//!
//! ```text
//! rows ──encoder──► waiting ──written──► under way ──answered──► gone
//! ```
//!
//! A checkpoint may be cut while whoever reads lags, for however long. The rows that the sink has
//! taken are behind the cut then, so what they became is in the snapshot: a job that goes on from
//! it writes that first. What was under way has perhaps been read, and is written again.
//!
//! Copies are kept only where checkpoints are taken.

use std::collections::VecDeque;

use crate::error::Error;
use crate::operator::OperatorContext;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// Under which a snapshot has it: by task, and in order.
const UNWRITTEN: &str = "unwritten/";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    waiting: VecDeque<Vec<u8>>,
    under_way: VecDeque<Vec<u8>>,
}

impl Unwritten {
    /// Appends whole records.
    pub(super) fn push(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.waiting.push_back(bytes);
        }
    }

    /// What waits the longest.
    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        self.waiting.pop_front()
    }

    /// How many bytes wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(Vec::len).sum()
    }

    /// `bytes` are being written.
    pub(super) fn begin(&mut self, bytes: &[u8], ctx: &OperatorContext<'_>) {
        if ctx.has_checkpoints() {
            self.under_way.push_back(bytes.to_vec());
        }
    }

    /// Those that were begun first have been written.
    pub(super) fn end(&mut self) {
        self.under_way.pop_front();
    }

    pub(super) fn snapshot(&self, task_index: u32, writer: &mut SnapshotWriter<'_>) {
        for (number, bytes) in self.under_way.iter().chain(&self.waiting).enumerate() {
            writer.operator_state(&format!("{UNWRITTEN}{task_index:05}/{number:05}"), bytes);
        }
    }

    /// What the tasks had that this one stands for now.
    pub(super) fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let place = &ctx.env().task;
        for (name, bytes) in reader.operator_state::<Vec<u8>>(UNWRITTEN)? {
            let task = name[UNWRITTEN.len()..].split('/').next().and_then(|it| it.parse().ok());
            let task: u32 = task.ok_or_else(|| Error::Corrupt {
                what: format!("state {name} of operator {}", ctx.name()),
                offset: 0,
                reason: "its name has no task".to_string(),
            })?;
            if task % place.parallelism == place.task_index {
                self.push(bytes);
            }
        }
        Ok(())
    }
}
