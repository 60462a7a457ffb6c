//! Merges of tables: when one is due, how it is carried out, and what comes of it.
//!
//! ```text
//! merge_step ─► create ─► read inputs, write pieces ─► sync ─► rename ─► open ─► installed
//!                 └───────────────┴──────────────────────┴────────┴────────┴─► given up:
//!                                         its file is removed, and the band waits
//! ```
//!
//! Inputs do not change, and nobody knows the merged table before it is installed, so a merge that
//! does not succeed leaves everything as it was. It would be the next that is due, though. So its
//! band is left alone until more deltas were installed: 1 after the first failure, 2 after the
//! second in a row, then 4, up to 64. Other bands go on. What makes a merge urgent is deltas: while
//! none come, nothing gets worse without it. A block that is not what was written is read once more
//! before its merge is given up.
//!
//! # Memory
//!
//! One merge at a time, beside the budget of the store. It holds:
//!
//! - of its inputs, blocks of `Store::inputs_bytes` together, or one block of each if that is
//!   more;
//! - of its output, one piece and [`PIECES_MAX`] that are being written, 256 KiB each, or a larger
//!   block; index and filters, about 2 % of the file.
//!
//! Not here: which tables are merged ([`crate::compaction`]), what is dropped ([`crate::merge`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::flush::{PIECES_MAX, Purpose};
use super::inputs::{Inputs, Refused};
use super::{Awaited, Error, MergeError, Store};
use crate::compaction::{Choice, Job, Progress, Tier};
use crate::io::{FileAnswer, FileFault, FileId, FileOp, OpId, OpenMode};
use crate::merge::{Merge, Retention};
use crate::table::{self, KeyRange, Table, TableId, Values, Writer, WriterConfig};

/// Most deltas that have to be installed before a merge that failed is tried again.
const BACKOFF_DELTAS_MAX: u64 = 64;

/// What there is to know of merges.
#[derive(Debug, Default)]
pub(super) struct Merging {
    pub(super) run: Option<Run>,
    /// The bands whose last merge failed.
    pub(super) backoffs: BTreeMap<usize, Backoff>,
    /// How many have succeeded.
    pub(super) merged_count: u64,
    /// Why the last merge was given up, until it was said.
    error: Option<MergeError>,
}

/// A band whose merges fail.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// In a row.
    failed_count: u32,
    /// Nothing is merged before so many deltas are installed.
    until_count: u64,
}

/// A merge that is being carried out.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) band: usize,
    tier: Tier,
    inputs: Inputs,
    /// Of the merged table.
    id: TableId,
    file: FileId,
    is_created: bool,
    job: Job<'static>,
    stage: Stage,
    /// What is being written.
    writes: BTreeSet<OpId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Entries,
    /// Every piece was given out.
    Rest,
    Sync,
    Rename,
    Open,
}

impl Merging {
    /// Memory of index and filters of the table that is being written, in bytes.
    pub(super) fn resident_bytes(&self) -> usize {
        self.run.as_ref().map_or(0, |run| run.job.resident_bytes())
    }

    /// Whether tables are merged into the base of a band.
    pub(super) fn is_of_base(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.tier == Tier::Base)
    }
}

impl Store {
    /// Goes on with a merge, or begins one that is due: looks at about `budget_bytes` of entries.
    /// False if nothing can be done before an operation is answered, or a table is installed.
    ///
    /// A merge that fails is no error of the store: [`Store::take_merge_error`] tells.
    ///
    /// # Errors
    /// If the store has failed.
    pub fn merge_step(&mut self, budget_bytes: usize) -> Result<bool, Error> {
        self.check()?;
        let Some(mut run) = self.merging.run.take() else {
            let due = self.due_merge();
            self.merging.run = due.as_ref().and_then(|choice| self.begin_merge(choice));
            return Ok(due.is_some());
        };
        match self.merge_some(&mut run, budget_bytes) {
            Ok(is_busy) => {
                self.merging.run = Some(run);
                Ok(is_busy)
            }
            Err(error) => {
                self.give_up(&run, error);
                Ok(true)
            }
        }
    }

    /// Why the last merge that failed was given up. Says it once, to be logged.
    pub fn take_merge_error(&mut self) -> Option<MergeError> {
        self.merging.error.take()
    }

    /// The next merge, if its band does not wait.
    pub(super) fn due_merge(&self) -> Option<Choice> {
        let is_ready = |band| self.may_merge(band);
        if self.is_open { self.versions.newest().pick(is_ready) } else { None }
    }

    /// Whether a band does not wait after a merge that failed.
    pub(super) fn may_merge(&self, band: usize) -> bool {
        let backoff = self.merging.backoffs.get(&band);
        backoff.is_none_or(|backoff| backoff.until_count <= self.installed_count)
    }

    /// Begins a merge; if an input contradicts itself, it has failed.
    fn begin_merge(&mut self, choice: &Choice) -> Option<Run> {
        let Choice { band, tables, tier, beneath } = choice;
        let tables = &self.versions.newest().bands()[*band].tables[tables.clone()];
        let inputs = Inputs::new(tables.iter().map(|table| table.view.clone()).collect());
        let sources = match inputs.sources(&KeyRange::all(), self.inputs_bytes()) {
            Ok(sources) => sources,
            Err(refused) => {
                self.let_wait(*band, self.unusable(refused));
                return None;
            }
        };
        let merge = Merge::new(sources, *beneath, self.retentions());
        let (id, file) = (self.take_table_id(), self.next_file_id());
        let config = WriterConfig {
            id,
            key_group_count: self.config.key_group_count,
            values: Values::Aligned,
        };
        let (path, mode) = (self.config.part_path(id), OpenMode::CreateDirect);
        self.ask(Awaited::Merge(id), |op| FileOp::Open { op, file, path, mode });
        Some(Run {
            band: *band,
            tier: *tier,
            inputs,
            id,
            file,
            is_created: false,
            job: Job::new(merge, Writer::new(config).sharing_blocks()),
            stage: Stage::Entries,
            writes: BTreeSet::new(),
        })
    }

    /// What is given up of which state.
    fn retentions(&self) -> BTreeMap<u16, Retention> {
        let mut retentions: BTreeMap<u16, Retention> = BTreeMap::new();
        for (state_id, from) in &self.alive_from_ms {
            retentions.entry(*state_id).or_default().alive_from_ms = Some(*from);
        }
        for (state_id, from) in &self.windows_from_ms {
            retentions.entry(*state_id).or_default().windows_from_ms = Some(*from);
        }
        retentions
    }

    /// Merges, or goes on with the end of the table. Answers whether more can be done at once.
    fn merge_some(&mut self, run: &mut Run, budget_bytes: usize) -> Result<bool, MergeError> {
        if run.stage == Stage::Entries {
            if run.inputs.first_read().is_some() || PIECES_MAX <= run.writes.len() {
                return Ok(false);
            }
            match run.job.step(budget_bytes) {
                Ok(Progress::Slice) => return Ok(true),
                Ok(Progress::Write(piece)) => {
                    let (file, offset, bytes) = (run.file, piece.offset, piece.bytes);
                    let awaited = Awaited::Merge(run.id);
                    let op = self.ask(awaited, |op| FileOp::Write { op, file, offset, bytes });
                    run.writes.insert(op);
                    return Ok(true);
                }
                Ok(Progress::Reads) => {}
                Ok(Progress::Done) => run.stage = Stage::Rest,
                Err(error @ table::Error::KeyTooLarge(_)) => {
                    return Err(self.unusable((run.id, error)));
                }
                Err(error) => self.read_again(run, error)?,
            }
            self.ask_for_inputs(&mut run.inputs, run.job.merge(), Awaited::Merge(run.id));
        }
        if run.stage == Stage::Rest && run.is_created && run.writes.is_empty() {
            run.stage = Stage::Sync;
            let file = run.file;
            self.ask(Awaited::Merge(run.id), |op| FileOp::Sync { op, file });
        }
        Ok(false)
    }

    fn unusable(&self, (table, source): Refused) -> MergeError {
        MergeError::Table { path: self.config.path(table), source }
    }

    /// Lets what `error` says of an input be read once more, unless it was.
    fn read_again(&self, run: &mut Run, error: table::Error) -> Result<(), MergeError> {
        let again = run.inputs.read_again(run.job.merge(), error);
        again.map_err(|refused| self.unusable(refused))
    }

    /// An operation of a merge is answered, which may have been given up since.
    pub(super) fn on_merge(
        &mut self,
        id: TableId,
        op: OpId,
        result: Result<FileAnswer, FileFault>,
    ) {
        let Some(mut run) = self.merging.run.take_if(|run| run.id == id) else { return };
        match self.on_answer(&mut run, op, result) {
            Ok(()) => self.merging.run = Some(run),
            Err(error) => self.give_up(&run, error),
        }
    }

    fn on_answer(
        &mut self,
        run: &mut Run,
        op: OpId,
        result: Result<FileAnswer, FileFault>,
    ) -> Result<(), MergeError> {
        let source = run.inputs.on_answer(op);
        match result.map_err(|fault| MergeError::File(Arc::new(fault)))? {
            FileAnswer::Opened { .. } => run.is_created = true,
            FileAnswer::Written { .. } => _ = run.writes.remove(&op),
            FileAnswer::Read { bytes } => {
                let source = source.expect("what is read is for an input");
                if let Err(error) = run.job.merge().on_read(source, bytes) {
                    self.read_again(run, error)?;
                }
            }
            FileAnswer::Synced => {
                let (file, id) = (run.file, run.id);
                let (from, to) = (self.config.part_path(id), self.config.path(id));
                self.ask(Awaited::Nothing, |op| FileOp::Close { op, file });
                self.ask(Awaited::Merge(id), |op| FileOp::Rename { op, from, to });
                run.stage = Stage::Rename;
            }
            FileAnswer::Renamed => {
                self.open_table(run.id, Purpose::Merged);
                run.stage = Stage::Open;
            }
            answer => unreachable!("{answer:?} was not asked for"),
        }
        Ok(())
    }

    /// The merged table can be read.
    pub(super) fn on_merged(&mut self, table: &Arc<Table>) {
        let run = self.merging.run.take().expect("the table is that of the merge");
        self.versions.replace(run.band, &run.inputs.ids(), Some((table, run.tier)));
        self.merging.backoffs.remove(&run.band);
        self.merging.merged_count += 1;
    }

    /// The merged table cannot be read.
    pub(super) fn on_merged_unread(&mut self, error: Error) {
        let run = self.merging.run.take().expect("the table is that of the merge");
        let error = match error {
            Error::Table { path, source } => MergeError::Table { path, source },
            Error::Read(fault) => MergeError::File(fault),
            error => unreachable!("a table is not opened: {error}"),
        };
        self.give_up(&run, error);
    }

    /// Nothing comes of a merge: what there is of its table is removed.
    fn give_up(&mut self, run: &Run, error: MergeError) {
        let (id, file) = (run.id, run.file);
        match run.stage {
            Stage::Entries | Stage::Rest | Stage::Sync => {
                self.ask(Awaited::Discard(id), |op| FileOp::Close { op, file });
            }
            // Nobody knows under which name it is.
            Stage::Rename => {
                self.remove_file(self.config.part_path(id));
                self.remove_file(self.config.path(id));
            }
            Stage::Open => self.remove_file(self.config.path(id)),
        }
        self.let_wait(run.band, error);
    }

    /// The file of a merge that was given up is closed: nothing makes it any more.
    pub(super) fn on_discarded(&mut self, id: TableId) {
        self.remove_file(self.config.part_path(id));
    }

    /// A merge of `band` has failed.
    fn let_wait(&mut self, band: usize, error: MergeError) {
        self.merging.error = Some(error);
        let backoff = self.merging.backoffs.entry(band).or_default();
        let delta_count = 1_u64.checked_shl(backoff.failed_count).unwrap_or(BACKOFF_DELTAS_MAX);
        backoff.until_count = self.installed_count + delta_count.min(BACKOFF_DELTAS_MAX);
        backoff.failed_count += 1;
    }
}
