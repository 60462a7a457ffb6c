//! Carrying a compaction out: a merge goes into a writer, slice by slice.
//!
//! ```text
//! step ─► Reads   read what merge.wants() names, merge.on_read
//!         Write   write the piece
//!         Slice   the budget is used up
//!         Done    every piece was given out
//! ```
//!
//! The inputs do not change and nobody knows the output before it is installed, so a job may run
//! anywhere and be given up at any time: the file is removed, and nothing has happened.

use crate::merge::{Merge, Step};
use crate::table::{Ending, Error, Piece, TableMeta, Writer};

/// Looking at an entry that is dropped costs as much as so many bytes of one that is kept.
const DROPPED_ENTRY_BYTES: usize = 64;

/// A compaction that is being carried out.
#[derive(Debug)]
pub struct Job<'a> {
    merge: Merge<'a>,
    /// Until the last entry was merged.
    writer: Option<Writer>,
    /// From then on.
    ending: Option<Ending>,
}

/// What came of a step.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// It cannot go on before what [`Merge::wants`] names was read.
    Reads,
    /// This is to be written. The job does not wait for it.
    Write(Piece),
    /// The budget is used up.
    Slice,
    /// The table is complete.
    Done,
}

impl<'a> Job<'a> {
    /// A job that makes a table of what `merge` gives.
    pub fn new(merge: Merge<'a>, writer: Writer) -> Self {
        Self { merge, writer: Some(writer), ending: None }
    }

    /// What is being merged: asks for reads, and takes their answers.
    pub fn merge(&mut self) -> &mut Merge<'a> {
        &mut self.merge
    }

    /// Memory of index, filters and directory of the table so far, in bytes.
    pub fn resident_bytes(&self) -> usize {
        let writer = self.writer.as_ref().map_or(0, Writer::resident_bytes);
        writer + self.ending.as_ref().map_or(0, Ending::resident_bytes)
    }

    /// Goes on until about `budget_bytes` of entries were looked at, or something is to be done.
    ///
    /// # Errors
    /// If an input is not what was written: if [`Merge::wants`] has it, it may be read once more.
    /// Or if the entries of a key do not fit a block. Otherwise the job has to be given up.
    pub fn step(&mut self, budget_bytes: usize) -> Result<Progress, Error> {
        let mut spent_bytes = 0;
        loop {
            if let Some(ending) = &mut self.ending {
                return Ok(ending.next_piece().map_or(Progress::Done, Progress::Write));
            }
            let writer = self.writer.as_mut().expect("a job writes, or ends");
            if let Some(piece) = writer.full_piece() {
                return Ok(Progress::Write(piece));
            }
            if budget_bytes <= spent_bytes {
                return Ok(Progress::Slice);
            }
            match self.merge.step()? {
                Step::Wants => return Ok(Progress::Reads),
                Step::Dropped => spent_bytes += DROPPED_ENTRY_BYTES,
                Step::Entry(entry) => {
                    spent_bytes += entry.key.len() + entry.change.bytes().len();
                    writer.push(entry)?;
                }
                Step::Done => self.ending = self.writer.take().map(Writer::finish),
            }
        }
    }

    /// What there is to know of the table.
    ///
    /// # Panics
    /// If the job is not done.
    pub fn finish(self) -> TableMeta {
        self.ending.expect("there are entries left").meta()
    }
}
