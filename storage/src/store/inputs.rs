//! Tables that are read from one end to the other: by a merge, or by a scan.
//!
//! ```text
//! ask_for_inputs ─► FileOp::Read, one for each input that wants something ─► Merge::on_read
//!      ▲                                                                        │
//!      └──────────── once more, if a block is not what was written ◄────────────┘
//! ```

use std::collections::BTreeMap;

use super::{Awaited, Store};
use crate::io::{FileId, FileOp, OpId};
use crate::merge::{Merge, Source};
use crate::table::{self, Cursor, KeyRange, PIECE_BYTES, TableId, View};

/// Tables, and what is being read of them.
#[derive(Debug)]
pub(super) struct Inputs {
    /// The newest first.
    views: Vec<View>,
    /// What is being read, and for which of them.
    reads: BTreeMap<OpId, usize>,
    /// By file, the last block that was not what was written and was read again.
    read_again: BTreeMap<FileId, u64>,
}

/// A table that cannot be believed, and why.
pub(super) type Refused = (TableId, table::Error);

impl Inputs {
    pub(super) fn new(views: Vec<View>) -> Self {
        Self { views, reads: BTreeMap::new(), read_again: BTreeMap::new() }
    }

    /// Cursors over `range` of all of them, which read about `bytes` at once, all together.
    pub(super) fn sources(
        &self,
        range: &KeyRange,
        bytes: usize,
    ) -> Result<Vec<Box<dyn Source>>, Refused> {
        let share = (bytes / self.views.len().max(1)).min(PIECE_BYTES);
        let source = |view: &View| -> Result<Box<dyn Source>, Refused> {
            let refused = |error| (view.table().meta().id, error);
            Ok(Box::new(Cursor::new(view.clone(), range.clone(), share).map_err(refused)?))
        };
        self.views.iter().map(source).collect()
    }

    pub(super) fn ids(&self) -> Vec<TableId> {
        self.views.iter().map(|view| view.table().meta().id).collect()
    }

    /// An operation that is not answered.
    pub(super) fn first_read(&self) -> Option<OpId> {
        self.reads.keys().next().copied()
    }

    /// All operations that are not answered.
    pub(super) fn reads(&self) -> impl Iterator<Item = OpId> {
        self.reads.keys().copied()
    }

    /// An operation is answered. Which input it was for; `None` if it was for none.
    pub(super) fn on_answer(&mut self, op: OpId) -> Option<usize> {
        self.reads.remove(&op)
    }

    /// Lets the block of which `error` tells be read once more, unless it was.
    pub(super) fn read_again(
        &mut self,
        merge: &Merge<'_>,
        error: table::Error,
    ) -> Result<(), Refused> {
        let table::Error::Corrupt { file, offset, .. } = error else {
            unreachable!("what is read is corrupt, or as it was: {error}")
        };
        let is_it = |view: &View| view.table().file() == file;
        let is_wanted = merge.wants().any(|(source, _)| is_it(&self.views[source]));
        if is_wanted && self.read_again.insert(file, offset) != Some(offset) {
            return Ok(());
        }
        let view = self.views.iter().find(|view| is_it(view)).expect("it is a file of the inputs");
        Err((view.table().meta().id, error))
    }
}

impl Store {
    /// Asks for what `merge` wants of `inputs`; nothing of it is being read.
    pub(super) fn ask_for_inputs(
        &mut self,
        inputs: &mut Inputs,
        merge: &Merge<'_>,
        awaited: Awaited,
    ) {
        for (source, want) in merge.wants() {
            let file = inputs.views[source].table().file();
            let (offset, len) = (want.offset, want.len);
            let op = self.ask(awaited, |op| FileOp::Read { op, file, offset, len });
            inputs.reads.insert(op, source);
        }
    }
}
