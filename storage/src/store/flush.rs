//! From a frozen epoch to a table that can be read, and the opening of all tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Awaited, Error, Pressure, Store, TimeOf};
use crate::compaction::Tier;
use crate::io::{FileAnswer, FileFault, FileId, FileOp, OpId, OpenMode};
use crate::key::StoredKey;
use crate::table::{
    self, Change, Ending, Entry, Filters, Opening, PAGE_BYTES, Piece, Table, TableId, TableMeta,
    Values, Want, Writer, WriterConfig,
};
use crate::write_buffer::Frozen;

/// Most pieces that are being written: what a flush, or a merge, holds of them outside the budget.
pub(super) const PIECES_MAX: usize = 4;

/// An epoch on its way into a table.
#[derive(Debug)]
pub(super) struct Flush {
    frozen: Frozen,
    id: TableId,
    file: FileId,
    /// What the file is called before it is durable.
    path: PathBuf,
    /// While the opening of the file is not answered.
    create: Option<OpId>,
    is_created: bool,
    stage: Stage,
    /// What is being written.
    pieces: BTreeMap<OpId, Piece>,
    /// What could not be written.
    failed: Vec<Piece>,
    /// Why the first that failed did.
    fault: Option<FileFault>,
}

#[derive(Debug)]
enum Stage {
    Entries(Box<Writer>),
    Rest(Box<Ending>),
    Sync,
    Rename,
    Open,
}

impl Flush {
    /// Memory of index and filters of its table, in bytes.
    pub(super) fn resident_bytes(&self) -> usize {
        match &self.stage {
            Stage::Entries(writer) => writer.resident_bytes(),
            Stage::Rest(ending) => ending.resident_bytes(),
            Stage::Sync | Stage::Rename | Stage::Open => 0,
        }
    }

    /// Why it waits for [`Store::retry`], if it does.
    pub(super) fn stalled(&self) -> Option<&FileFault> {
        let is_stalled = !self.failed.is_empty() || self.create.is_none() && !self.is_created;
        self.fault.as_ref().filter(|_| is_stalled)
    }
}

/// A table that is being opened.
#[derive(Debug)]
pub(super) struct OpenTable {
    file: FileId,
    purpose: Purpose,
    /// Once the file is open.
    opening: Option<Opening>,
    /// Whether it was tried before, in vain.
    is_second: bool,
}

/// What a table is opened for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// The delta of the flush.
    Delta,
    /// It was merged, and takes the place of others.
    Merged,
    /// It is in the manifest.
    Restore,
}

impl Store {
    /// Removes files that nobody reads any more, frees records of spaces that were dropped, and
    /// goes on with the flush: about so many of each. False if nothing can be done before an
    /// operation is answered, or something is frozen.
    ///
    /// # Errors
    /// If the store has failed.
    pub fn step(&mut self, steps: usize) -> Result<bool, Error> {
        self.check()?;
        self.remove_dead();
        self.charge();
        let is_sweeping = self.buffer.sweep_dropped(&mut self.budget, steps);
        let Some(mut flush) = self.flush.take().or_else(|| self.begin_flush()) else {
            return Ok(is_sweeping);
        };
        let is_busy = self.write_some(&mut flush, steps);
        self.flush = Some(flush);
        Ok(is_busy || is_sweeping)
    }

    /// Writes again what could not be written.
    pub fn retry(&mut self) {
        let Some(mut flush) = self.flush.take().filter(|_| self.failure.is_none()) else { return };
        if flush.create.is_none() && !flush.is_created {
            flush.file = self.next_file_id();
            flush.create = Some(self.create(flush.file, &flush.path));
        }
        flush.fault = None;
        for piece in std::mem::take(&mut flush.failed) {
            self.write(&mut flush, piece);
        }
        self.flush = Some(flush);
    }

    fn begin_flush(&mut self) -> Option<Flush> {
        // Another table is more than can be looked after.
        if !self.is_open || self.shortage().is_some() || self.backlog() == Pressure::Stop {
            return None;
        }
        let frozen = self.frozen.pop_front()?;
        let (id, file) = (self.take_table_id(), self.next_file_id());
        let path = self.config.part_path(id);
        let config = WriterConfig {
            id,
            key_group_count: self.config.key_group_count,
            values: Values::Aligned,
        };
        Some(Flush {
            create: Some(self.create(file, &path)),
            is_created: false,
            frozen,
            id,
            file,
            path,
            stage: Stage::Entries(Box::new(Writer::new(config).sharing_blocks())),
            pieces: BTreeMap::new(),
            failed: Vec::new(),
            fault: None,
        })
    }

    /// Hands out records, or goes on with the end of the table.
    fn write_some(&mut self, flush: &mut Flush, steps: usize) -> bool {
        if flush.stalled().is_some() || PIECES_MAX <= flush.pieces.len() {
            return false;
        }
        match &mut flush.stage {
            Stage::Entries(writer) => {
                let sequence = self.sequence_base + u64::from(flush.frozen.epoch());
                let times = &self.config.times;
                let emit = |key: &[u8], change: Change<'_>| {
                    let time_ms = time_of(times, key, change);
                    let entry = Entry { key, change, sequence, time_ms };
                    writer.push(entry).expect("a record is smaller than a block may be");
                };
                let frozen = &mut flush.frozen;
                let has_more = frozen.next(&mut self.buffer, &mut self.budget, steps, emit);
                let piece = writer.full_piece();
                if !has_more {
                    let rest = Stage::Sync;
                    let Stage::Entries(writer) = std::mem::replace(&mut flush.stage, rest) else {
                        unreachable!("entries are being written");
                    };
                    flush.stage = Stage::Rest(Box::new(writer.finish()));
                }
                if let Some(piece) = piece {
                    self.write(flush, piece);
                }
                true
            }
            Stage::Rest(ending) => {
                if let Some(piece) = ending.next_piece() {
                    self.write(flush, piece);
                    return true;
                }
                if flush.pieces.is_empty() && flush.is_created {
                    flush.stage = Stage::Sync;
                    let file = flush.file;
                    self.ask(Awaited::Flush, |op| FileOp::Sync { op, file });
                }
                false
            }
            Stage::Sync | Stage::Rename | Stage::Open => false,
        }
    }

    fn create(&mut self, file: FileId, path: &Path) -> OpId {
        let (path, mode) = (path.to_path_buf(), OpenMode::CreateDirect);
        self.ask(Awaited::Flush, |op| FileOp::Open { op, file, path, mode })
    }

    fn write(&mut self, flush: &mut Flush, piece: Piece) {
        let (file, offset, bytes) = (flush.file, piece.offset, piece.bytes.clone());
        let op = self.ask(Awaited::Flush, |op| FileOp::Write { op, file, offset, bytes });
        flush.pieces.insert(op, piece);
    }

    /// An operation of the flush is answered.
    pub(super) fn on_flushed(&mut self, op: OpId, result: Result<FileAnswer, FileFault>) {
        let mut flush = self.flush.take().expect("a flush is being written");
        if flush.create == Some(op) {
            flush.create = None;
            flush.is_created = result.is_ok();
            flush.fault = flush.fault.take().or(result.err());
        } else if let Some(piece) = flush.pieces.remove(&op) {
            if let Err(fault) = result {
                flush.failed.push(piece);
                flush.fault.get_or_insert(fault);
            }
        } else if let Err(fault) = result {
            self.failure = Some(Error::Failed(Arc::new(fault)));
        } else if matches!(flush.stage, Stage::Sync) {
            let (file, from, to) = (flush.file, flush.path.clone(), self.config.path(flush.id));
            self.ask(Awaited::Nothing, |op| FileOp::Close { op, file });
            self.ask(Awaited::Flush, |op| FileOp::Rename { op, from, to });
            flush.stage = Stage::Rename;
        } else {
            self.open_table(flush.id, Purpose::Delta);
            flush.stage = Stage::Open;
        }
        self.flush = Some(flush);
    }

    /// Begins to open a table.
    pub(super) fn open_table(&mut self, table: TableId, purpose: Purpose) {
        self.begin_to_open(table, purpose, false);
    }

    fn begin_to_open(&mut self, table: TableId, purpose: Purpose, is_second: bool) {
        let (file, path, mode) =
            (self.next_file_id(), self.config.path(table), OpenMode::ReadDirect);
        self.ask(Awaited::Table(table), |op| FileOp::Open { op, file, path, mode });
        self.opening.insert(table, OpenTable { file, purpose, opening: None, is_second });
    }

    /// An operation on a table that is being opened is answered.
    pub(super) fn on_table(&mut self, table: TableId, result: Result<FileAnswer, FileFault>) {
        let mut open = self.opening.remove(&table).expect("the table is being opened");
        let filter_bytes_max = self.filter_room(self.is_base(table, open.purpose));
        match open.go_on(result, filter_bytes_max, |e| self.config.unusable(table, e)) {
            Ok(Some(want)) => {
                let (file, Want { offset, len }) = (open.file, want);
                self.ask(Awaited::Table(table), |op| FileOp::Read { op, file, offset, len });
                self.opening.insert(table, open);
            }
            Ok(None) => {
                let opening = open.opening.take().expect("an open table was being opened");
                let opened = opening.into_table();
                if let Some(what) = self.objection(table, opened.meta()) {
                    let (file, offset) = (open.file, opened.meta().length - PAGE_BYTES as u64);
                    let error = table::Error::Corrupt { file, offset, what };
                    let error = self.config.unusable(table, error);
                    self.on_not_opened(table, &open, error);
                } else {
                    self.install(table, Arc::new(opened), open.purpose);
                }
            }
            Err(error) => self.on_not_opened(table, &open, error),
        }
    }

    /// Whether a band is to have the table as its base.
    fn is_base(&self, table: TableId, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Delta => false,
            Purpose::Merged => self.merging.is_of_base(),
            Purpose::Restore => {
                let mut rows = self.manifest.iter().filter(|row| row.id == table);
                rows.any(|row| row.tier == Tier::Base)
            }
        }
    }

    /// Why a table is not the one that was to be opened as `table`.
    fn objection(&self, table: TableId, meta: &TableMeta) -> Option<&'static str> {
        if meta.id != table {
            return Some("it is another table than its name says");
        }
        if meta.key_group_count != self.config.key_group_count {
            return Some("it was made for another number of key groups");
        }
        let mut rows = self.manifest.iter().filter(|row| row.id == table);
        rows.find_map(|row| row.objection(meta))
    }

    /// A table was not opened: it is tried once more.
    fn on_not_opened(&mut self, table: TableId, open: &OpenTable, error: Error) {
        let file = open.file;
        self.ask(Awaited::Nothing, |op| FileOp::Close { op, file });
        if !open.is_second {
            self.begin_to_open(table, open.purpose, true);
        } else if let Purpose::Merged = open.purpose {
            self.on_merged_unread(error);
        } else {
            self.failure = Some(error);
        }
    }

    fn install(&mut self, id: TableId, table: Arc<Table>, purpose: Purpose) {
        match purpose {
            Purpose::Delta => {
                self.versions.add(&table);
                self.installed_count += 1;
                let flush = self.flush.take().expect("the delta is that of the flush");
                self.installed_epoch = flush.frozen.epoch();
                self.buffer.on_written(flush.frozen);
            }
            Purpose::Merged => self.on_merged(&table),
            Purpose::Restore => {
                self.sequence_base = self.sequence_base.max(table.meta().sequence_max);
                self.restored.insert(id, table);
                self.end_opening();
            }
        }
    }
}

/// The time of a value whose state has a time to live.
fn time_of(times: &BTreeMap<u16, TimeOf>, key: &[u8], change: Change<'_>) -> Option<i64> {
    if times.is_empty() {
        return None;
    }
    let state_id = StoredKey::decode(key).expect("the write buffer has stored keys").state_id;
    match change {
        // One that lives to the end of time does not expire.
        Change::Value(value) => {
            times.get(&state_id).map(|time_of| time_of(value)).filter(|time| *time < i64::MAX)
        }
        Change::Tombstone | Change::Operand(_) => None,
    }
}

impl OpenTable {
    pub(super) fn resident_bytes(&self) -> usize {
        self.opening.as_ref().map_or(0, Opening::resident_bytes)
    }

    pub(super) fn filter_bytes(&self) -> usize {
        self.opening.as_ref().map_or(0, Opening::filter_bytes)
    }

    /// Takes an answer. What has to be read next; `None` if the table is open.
    fn go_on(
        &mut self,
        result: Result<FileAnswer, FileFault>,
        filter_bytes_max: usize,
        unusable: impl Fn(table::Error) -> Error,
    ) -> Result<Option<Want>, Error> {
        match (result, &mut self.opening) {
            (Ok(FileAnswer::Opened { size_bytes }), None) => {
                let opening = Opening::new(self.file, size_bytes, Filters::Load);
                self.opening = Some(opening.map_err(unusable)?);
            }
            (Ok(FileAnswer::Read { bytes }), Some(opening)) => {
                opening.limit_filters(filter_bytes_max);
                opening.on_read(&bytes).map_err(unusable)?;
            }
            (Ok(answer), _) => unreachable!("{answer:?} was not asked for"),
            (Err(fault), _) => return Err(Error::Read(Arc::new(fault))),
        }
        Ok(self.opening.as_ref().and_then(Opening::want))
    }
}
