//! The state of a shard: what is in memory, what is in tables, and the way from one to the other.
//!
//! ```text
//!  get ──► write buffer ──unknown──► tables, newest first ──► block cache ──► FileOp::Read
//!            ▲    │ freeze                ▲       a value, a tombstone, or the end: ──► load
//!  put ──────┘    ▼                       │ install, and the records are clean
//!               flush: create, write … sync, rename, open
//! ```
//!
//! Sans-IO: [`Store::next_op`] says what is wanted of the disk, [`Store::on_done`] takes the
//! answers, [`Store::step`] does a bounded part of a flush, [`Store::merge_step`] one of a merge.
//! Nothing here waits: a value that is on disk is a [`Got::Wait`], memory that is used up is
//! [`Error::Full`], and how much of either is near is the [`Pressure`].
//!
//! # Reads
//!
//! A lookup goes through the tables that may have its key, with one read for each that is not ruled
//! out by directory and filter. Lookups of one block share its read. Operands are appended to what
//! is older, up to a value or a tombstone. A lookup that began before a delta was installed begins
//! again: what it does not know may be clean by now.
//!
//! [`Store::scan`] goes through all that a space has in some key groups, [`Store::scan_key`]
//! through the entries of a map; what they see of changes meanwhile is written at `store/scan.rs`.
//!
//! # Times to live
//!
//! A state may have a [`TimeOf`] that finds in a value the time from which it lives. Values with an
//! earlier time than [`Store::expire`] said are not there any more: reads do not see them, and a
//! merge drops them. Such a state is not appended to: what is appended would have to live longer
//! than what it is appended to.
//!
//! # What fails
//!
//! - A block that is not what was written is read once more; then the lookup fails, and names file
//!   and place.
//! - A directory that cannot be listed, or a table of the manifest that cannot be opened: the store
//!   does not open, and removes nothing.
//! - A merge that fails leaves its inputs, and its band waits for more deltas (`store/merging.rs`).
//! - A piece that could not be written (the disk is full) is kept, and the pressure is
//!   [`Pressure::Stop`], until [`Store::retry`]; [`Store::stalled`] says why.
//! - After a failed sync nothing of the table may be trusted, and its records are partly gone from
//!   memory: the store has [failed](Error::Failed), and is restored from its tables.
//!
//! Not here: the manifest (which of [`Store::version`] a checkpoint names).

mod config;
mod counts;
mod files;
mod flush;
mod inputs;
mod memory;
mod merging;
mod opening;
mod read;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use self::flush::{Flush, OpenTable};
use self::merging::Merging;
use self::read::Reads;
use self::scan::ScanReads;
use crate::arena::CHUNK_BYTES;
use crate::cache::{BlockCache, BlockId};
use crate::io::{FileDone, FileFault, FileId, FileOp, OpId};
use crate::key::{StoredKey, is_behind_hash};
use crate::table::{Table, TableId};
use crate::version::{Version, Versions};
use crate::write_buffer::{
    Budget, Frozen, Full, Lookup, Origin, RecordKey, Refused, SpaceId, WriteBuffer,
};

pub use self::config::{Error, MergeError, Shortage, StoreConfig, TableRow, TimeOf};
pub use self::counts::StoreCounts;
pub use self::memory::buffer_bytes;
pub use self::scan::{Scan, Scanned};

/// Least memory of a store: chunks for records, for what finds them, and for a record as large as a
/// chunk.
pub const MEMORY_BYTES_MIN: usize = 4 * CHUNK_BYTES;

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got<'a> {
    /// The value; `None` if there is none.
    Ready(Option<&'a [u8]>),
    /// Ask again when [`Store::on_done`] was given the answer to this operation.
    Wait(OpId),
}

/// How near the end of memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Far.
    Ok,
    /// Take in less, and freeze.
    Slow,
    /// Take in nothing.
    Stop,
}

/// For what an answer is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Block(BlockId),
    Flush,
    Scan,
    Table(TableId),
    Listing,
    /// Of the merge into this table.
    Merge(TableId),
    /// That the file of a merge that was given up is closed.
    Discard(TableId),
    /// Of a file that is not needed any more.
    Nothing,
}

/// The state of a shard; see the head of the file.
#[derive(Debug)]
pub struct Store {
    config: StoreConfig,
    budget: Budget,
    buffer: WriteBuffer,
    cache: BlockCache,
    versions: Versions,
    /// By state id, the time (ms) before which values have expired.
    alive_from_ms: BTreeMap<u16, i64>,
    /// By state id, the time (ms) up to whose windows it has passed.
    windows_from_ms: BTreeMap<u16, i64>,
    /// State id and window bucket of the spaces.
    spaces: BTreeMap<SpaceId, (u16, i64)>,
    /// Those of spaces that were dropped, but for windows that have passed.
    dropped: BTreeSet<(u16, i64)>,
    reads: Reads,
    scan_reads: ScanReads,
    /// Deltas that were installed.
    installed_count: u64,
    /// That of the last of them.
    installed_epoch: u32,
    /// What was frozen and is not being flushed yet.
    frozen: VecDeque<Frozen>,
    flush: Option<Flush>,
    /// Tables that are being opened.
    opening: BTreeMap<TableId, OpenTable>,
    /// What is to be restored, once all of it is open.
    manifest: Vec<TableRow>,
    /// What of it is.
    restored: BTreeMap<TableId, Arc<Table>>,
    /// Files that nothing names, from when the directory is listed to when the store is open.
    unnamed: Option<Vec<PathBuf>>,
    is_open: bool,
    merging: Merging,
    /// All entries so far have a smaller sequence than the next epoch's plus this.
    sequence_base: u64,
    failure: Option<Error>,
    ops: VecDeque<FileOp>,
    awaited: BTreeMap<OpId, Awaited>,
    next_op_id: u64,
    next_file_id: u64,
    /// Blocks that lookups asked for.
    read_count: u64,
    /// What is kept of tables, as it was found last.
    index_bytes: usize,
}

impl Store {
    /// A store with the tables of a manifest, each band's the newest first. What they have is read
    /// once it [is open](Store::is_open): who asks before waits for that.
    ///
    /// # Panics
    /// If the bands are not ranges of whole key groups, or not all of those that the store has, or
    /// a table is of none of them: they are those of its manifest, or other key groups are.
    pub fn new(config: StoreConfig, tables: Vec<TableRow>) -> Self {
        config.check_bands();
        for TableRow { band, id, .. } in &tables {
            assert!(*band < config.bands.len(), "there is no band {band}, where {id:?} is to be");
        }
        let mut store = Self {
            budget: Budget::new(config.memory_bytes.max(MEMORY_BYTES_MIN)),
            buffer: WriteBuffer::new(config.key_groups.clone(), config.key_group_count),
            cache: BlockCache::default(),
            versions: Versions::new(config.bands.iter().copied()),
            alive_from_ms: BTreeMap::new(),
            windows_from_ms: BTreeMap::new(),
            spaces: BTreeMap::new(),
            dropped: BTreeSet::new(),
            reads: Reads::default(),
            scan_reads: ScanReads::default(),
            installed_count: 0,
            installed_epoch: 0,
            frozen: VecDeque::new(),
            flush: None,
            opening: BTreeMap::new(),
            manifest: Vec::new(),
            restored: BTreeMap::new(),
            unnamed: None,
            is_open: false,
            merging: Merging::default(),
            sequence_base: 0,
            failure: None,
            ops: VecDeque::new(),
            awaited: BTreeMap::new(),
            next_op_id: 0,
            next_file_id: 0,
            read_count: 0,
            index_bytes: 0,
            config,
        };
        store.list();
        for row in &tables {
            if !store.opening.contains_key(&row.id) {
                store.open_table(row.id, flush::Purpose::Restore);
            }
        }
        store.manifest = tables;
        store
    }

    /// Whether all tables of the manifest are open, and it is known what else is in the directory.
    /// Files that nothing names are removed from then on.
    ///
    /// # Errors
    /// If the directory cannot be listed, or a table cannot be opened, or is not the one that the
    /// manifest means.
    pub fn is_open(&self) -> Result<bool, Error> {
        self.check()?;
        Ok(self.is_open)
    }

    /// Opens the space of a state and a window, as [`WriteBuffer::open`] does.
    ///
    /// # Panics
    /// If it is open, or was dropped: tables may have some of it, which would be there again.
    pub fn open_space(&mut self, state_id: u16, window_bucket: i64, origin: Origin) -> SpaceId {
        let has_passed = self.windows_from_ms.get(&state_id).is_some_and(|it| window_bucket < *it);
        let is_gone = has_passed || self.dropped.contains(&(state_id, window_bucket));
        assert!(!is_gone, "state {state_id} had a space for {window_bucket}, which was dropped");
        let space = self.buffer.open(state_id, window_bucket, origin);
        self.spaces.insert(space, (state_id, window_bucket));
        space
    }

    /// Drops a space with all that is in it, as [`WriteBuffer::drop_space`] does. What tables have
    /// of it goes with merges, once its window [has passed](Store::pass_windows).
    ///
    /// # Panics
    /// If it is not open.
    pub fn drop_space(&mut self, space: SpaceId) {
        self.forget_space(space);
        self.dropped.extend(self.spaces.remove(&space));
        self.buffer.drop_space(space);
    }

    /// The value of `key`, or what to wait for.
    ///
    /// # Errors
    /// If a table cannot be read or is damaged, there is no memory for the value, or all that was
    /// appended to it is too large.
    pub fn get(&mut self, space: SpaceId, key: RecordKey<'_>) -> Result<Got<'_>, Error> {
        self.check()?;
        let mut located = self.buffer.locate(space, key);
        if matches!(located, Lookup::Unknown | Lookup::Operands) {
            if let Some(op) = self.look_up(space, key)? {
                return Ok(Got::Wait(op));
            }
            located = self.buffer.locate(space, key);
        }
        let life =
            if self.alive_from_ms.is_empty() { None } else { self.life_of(self.spaces[&space].0) };
        let is_alive = |value: &&[u8]| life.is_none_or(|(time_of, from)| from <= time_of(value));
        match located {
            Lookup::Found(at) => Ok(Got::Ready(Some(self.buffer.value(at)).filter(is_alive))),
            Lookup::Absent => Ok(Got::Ready(None)),
            Lookup::Unknown | Lookup::Operands => unreachable!("what was looked up is loaded"),
        }
    }

    /// Begins to read what is not in memory of `keys`: those that are asked for soon. How many
    /// reads are under way at once is up to the caller.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn prefetch(&mut self, space: SpaceId, keys: &[RecordKey<'_>]) -> Result<(), Error> {
        keys.iter().try_for_each(|key| self.get(space, *key).map(|_| ()))
    }

    /// Lets the value of `key` be `value`.
    ///
    /// # Errors
    /// If there is no memory for it, or it is too large.
    ///
    /// # Panics
    /// If the key's [bytes](RecordKey::bytes) are not those of a stored key, here as wherever a key
    /// is given.
    pub fn put(&mut self, space: SpaceId, key: RecordKey<'_>, value: &[u8]) -> Result<(), Error> {
        self.change(space, key, |buffer, budget| buffer.put(budget, space, key, value))
    }

    /// Adds `bytes` at the end of the value of `key`. Nothing is read.
    ///
    /// # Errors
    /// If there is no memory for it, or the value would be too large. One that is in tables counts
    /// when it is read.
    ///
    /// # Panics
    /// If the state has a time to live.
    pub fn append(
        &mut self,
        space: SpaceId,
        key: RecordKey<'_>,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let (state_id, _) = self.spaces[&space];
        assert!(!self.config.times.contains_key(&state_id), "state {state_id} has a time to live");
        self.change(space, key, |buffer, budget| buffer.append(budget, space, key, bytes))
    }

    /// Removes `key`.
    ///
    /// # Errors
    /// If there is no memory for a tombstone, or the key is too large for one.
    pub fn remove(&mut self, space: SpaceId, key: RecordKey<'_>) -> Result<(), Error> {
        self.change(space, key, |buffer, budget| buffer.remove(budget, space, key))
    }

    /// Lets values of a state that live from before `alive_from_ms` have expired; an earlier time
    /// than the last changes nothing. After a restore this is to be said again.
    ///
    /// # Panics
    /// If the state has no time to live.
    pub fn expire(&mut self, state_id: u16, alive_from_ms: i64) {
        assert!(self.config.times.contains_key(&state_id), "state {state_id} lives for ever");
        let from = self.alive_from_ms.entry(state_id).or_insert(alive_from_ms);
        *from = alive_from_ms.max(*from);
    }

    /// Lets windows of a state that end before `windows_from_ms` have passed: nobody opens their
    /// spaces any more, and merges drop what tables have of them. An earlier time than the last
    /// changes nothing. After a restore this is to be said again.
    pub fn pass_windows(&mut self, state_id: u16, windows_from_ms: i64) {
        let from = self.windows_from_ms.entry(state_id).or_insert(windows_from_ms);
        *from = windows_from_ms.max(*from);
        let from = (state_id, *from);
        self.dropped.retain(|(id, bucket)| *id != from.0 || from.1 <= *bucket);
    }

    /// Ends the epoch: what it changed will be in a table. False while too many are on their way.
    pub fn freeze(&mut self) -> bool {
        let frozen = self.buffer.freeze();
        let is_frozen = frozen.is_some();
        self.frozen.extend(frozen);
        is_frozen
    }

    /// The epoch that changes belong to: they count from 1, and [`Store::freeze`] ends one.
    pub fn epoch(&self) -> u32 {
        self.buffer.epoch()
    }

    /// The last epoch that was installed, 0 if none was: what the tables of [`Store::version`] have
    /// is what changed up to its end, and nothing of later ones. Who looks after each
    /// [`Store::on_done`] sees all of them, one after the other.
    pub fn installed_epoch(&self) -> u32 {
        self.installed_epoch
    }

    /// Gives back memory of clean records, until it is `bytes` or `steps` were taken. Answers how
    /// many bytes came back.
    pub fn evict(&mut self, bytes: usize, steps: usize) -> usize {
        self.buffer.evict(&mut self.budget, bytes, steps)
    }

    /// Bytes of the records that changed and are not written.
    pub fn dirty_bytes(&self) -> usize {
        self.buffer.dirty_bytes()
    }

    /// How near the end of memory is ([`Store::memory_pressure`]), or of what merges can look
    /// after ([`Store::backlog`]): the larger of both.
    pub fn pressure(&self) -> Pressure {
        self.memory_pressure().max(self.backlog())
    }

    /// Why a piece or a file could not be written, while it waits for [`Store::retry`].
    pub fn stalled(&self) -> Option<&FileFault> {
        self.flush.as_ref().and_then(Flush::stalled)
    }

    /// The newest version: what a manifest names, and what pins its tables.
    pub fn version(&self) -> &Arc<Version> {
        self.versions.newest()
    }

    /// Whether nothing frozen is left to be written.
    pub fn is_flushed(&self) -> bool {
        self.frozen.is_empty() && self.flush.is_none()
    }

    /// The next operation for the disk.
    pub fn next_op(&mut self) -> Option<FileOp> {
        self.ops.pop_front()
    }

    /// Takes the answer to an operation.
    ///
    /// # Errors
    /// If the store has failed.
    ///
    /// # Panics
    /// If nobody asked for it.
    pub fn on_done(&mut self, done: FileDone) -> Result<(), Error> {
        let awaited = self.awaited.remove(&done.op).expect("what is answered was asked");
        match awaited {
            Awaited::Block(block) => self.on_block(block, done.result),
            Awaited::Flush => self.on_flushed(done.op, done.result),
            Awaited::Table(table) => self.on_table(table, done.result),
            Awaited::Listing => self.on_listed(done.result),
            Awaited::Scan => self.on_scan_read(done.op, done.result),
            Awaited::Merge(table) => self.on_merge(table, done.op, done.result),
            Awaited::Discard(table) => self.on_discarded(table),
            Awaited::Nothing => {}
        }
        self.remove_dead();
        self.check()
    }

    /// How a state tells the time of its values, and the time before which they have expired.
    fn life_of(&self, state_id: u16) -> Option<(TimeOf, i64)> {
        let from = self.alive_from_ms.get(&state_id)?;
        Some((*self.config.times.get(&state_id)?, *from))
    }

    fn check(&self) -> Result<(), Error> {
        match &self.failure {
            None => Ok(()),
            Some(error) => Err(error.clone()),
        }
    }

    /// Changes the record of `key` in the write buffer, with memory that others can spare.
    fn change(
        &mut self,
        space: SpaceId,
        key: RecordKey<'_>,
        mut change: impl FnMut(&mut WriteBuffer, &mut Budget) -> Result<(), Refused>,
    ) -> Result<(), Error> {
        /// A change needs a slot, a copy, and room in a list and an index.
        const TRIES: usize = 16;
        self.check()?;
        assert!(is_behind_hash(key.bytes), "{:?} have no lengths of key and namespace", key.bytes);
        for _ in 0..TRIES {
            match change(&mut self.buffer, &mut self.budget) {
                Ok(()) => return Ok(()),
                Err(Refused::Full(_)) => {}
                Err(Refused::TooLarge) => {
                    let (state_id, _) = self.spaces[&space];
                    let (key_bytes, limit_bytes) = (key.bytes.len(), CHUNK_BYTES);
                    return Err(Error::TooLarge { state_id, key_bytes, limit_bytes });
                }
            }
            let is_room =
                self.buffer.make_room(&mut self.budget) || self.cache.shrink(&mut self.budget);
            if !is_room {
                break;
            }
        }
        Err(Full.into())
    }

    /// The whole stored key.
    fn stored(&self, space: SpaceId, key: RecordKey<'_>) -> Vec<u8> {
        let (state_id, window_bucket) = self.spaces[&space];
        let product = u128::from(key.hash64) * u128::from(self.config.key_group_count);
        let (key_group, hash64) = ((product >> 64) as u16, key.hash64);
        let (part, namespace, map_key) = (&[][..], &[][..], &[][..]);
        let mut stored =
            StoredKey { key_group, state_id, window_bucket, hash64, key: part, namespace, map_key }
                .encode();
        stored.truncate(stored.len() - 8);
        stored.extend_from_slice(key.bytes);
        stored
    }

    fn take_table_id(&mut self) -> TableId {
        self.config.next_table_id += 1;
        TableId(self.config.next_table_id - 1)
    }

    fn next_file_id(&mut self) -> FileId {
        self.next_file_id += 1;
        FileId(self.next_file_id - 1)
    }

    fn ask(&mut self, awaited: Awaited, op: impl FnOnce(OpId) -> FileOp) -> OpId {
        let id = OpId(self.next_op_id);
        self.next_op_id += 1;
        self.read_count += u64::from(matches!(awaited, Awaited::Block(_)));
        self.awaited.insert(id, awaited);
        self.ops.push_back(op(id));
        id
    }
}
