//! [`DurableStore`]: what the keys of a shard had when they last changed, as the tables of which
//! checkpoints are made.
//!
//! ```text
//! operators ─changed keys, a record each─► DurableStore ─FileOp─► tables, which several
//!                                              │                  checkpoints share
//! shard ─freeze(42)──────────────────────────► │
//!       ◄─Image: the tables that have all of it┘
//! ```
//!
//! A checkpoint costs what has changed since the last one: its records go into a table, and the
//! [`Image`] of the checkpoint names that table and the older ones, with what they have of other
//! keys. Merges keep them few. Nothing is read from here while the job runs; what is read from when
//! memory is short is the store beside it ([`super::shard_store`]), which a restart begins without.
//!
//! Operators write what they had at a cut, some keys at a time, while they go on. So that an image
//! has nothing of what came after the cut, an operator that has cut writes no later change before
//! the checkpoint [is over](DurableStore::is_over) here: frozen, or given up.
//!
//! A record of more than a mebibyte is kept in pieces: the first under the key, the others
//! with their numbers as map keys.
//!
//! Not here: which keys have changed (`residents/saving.rs`), what is in a record
//! ([`super::snapshot::record`]), how tables become state again (`checkpoint/tables.rs`).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_storage::arena::CHUNK_BYTES;
use millstream_storage::io::{FileDone, FileOp, OpId};
use millstream_storage::manifest::{Manifest, StateRow};
use millstream_storage::store::{self, Pressure, Store, StoreConfig, TableRow};
use millstream_storage::table::TableId;
use millstream_storage::write_buffer::{Origin, RecordKey, SpaceId};

use super::shard_store::{Put, bands, marked, unusable};
use crate::data::element::CheckpointId;
use crate::data::key_group::KeyGroupCount;
use crate::error::Error;

/// What is the same for all the life of a shard's durable store.
#[derive(Debug, Clone)]
pub struct DurableConfig {
    /// The directory of the checkpoints.
    pub directory: PathBuf,
    /// The directory of the tables, in that: of no other shard, and no other run.
    pub name: String,
    /// Bytes for records that are not written yet.
    pub store_bytes: usize,
    /// Bytes for what is kept of tables.
    pub table_bytes: usize,
}

impl DurableConfig {
    /// Part of `memory_bytes` that it has: a sixteenth for records, in whole chunks, at least
    /// [`CHUNKS_MIN`] of them, and a thirty-second for what is kept of tables.
    pub fn new(directory: PathBuf, name: String, memory_bytes: usize) -> Self {
        let chunks = (memory_bytes / 16 / CHUNK_BYTES).clamp(CHUNKS_MIN, CHUNKS_MAX);
        let (store_bytes, table_bytes) = (chunks * CHUNK_BYTES, memory_bytes / 32);
        Self { directory, name, store_bytes, table_bytes }
    }

    /// All memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.store_bytes + self.table_bytes + 2 * store::buffer_bytes(self.store_bytes)
    }
}

/// Fewest chunks that it can work with.
pub const CHUNKS_MIN: usize = 6;

/// More chunks than these do not make it faster: it writes when half of them are full.
const CHUNKS_MAX: usize = 64;

/// Most bytes of a piece of a record.
const PIECE_BYTES: usize = CHUNK_BYTES / 2;

/// Ids of its operations and files have this bit.
pub const DURABLE_ID_BIT: u64 = 1 << 51;

/// Records that a turn orders and writes: less than 50 µs (`store_steps` of the benchmarks).
const FLUSH_STEPS: usize = 64;

/// Bytes of entries that a turn merges: about 50 µs.
const MERGE_BYTES: usize = 16 << 10;

/// The same while merges lag.
const MERGE_BYTES_LAGGING: usize = 64 << 10;

/// How long a full disk is left alone before what could not be written is tried again.
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// The tables that have what a shard had at a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The directory that they are in, in that of the checkpoints.
    pub directory: String,
    /// Which they are, and whose records they have: of each state the uid of its operator, with a
    /// number behind it, and a [table of states](super::snapshot::record::RecordStates) as its
    /// schema.
    pub manifest: Manifest,
}

impl Image {
    /// The tables, in order.
    pub fn ids(&self) -> Vec<u64> {
        let ids: BTreeSet<u64> = self.manifest.tables.iter().map(|row| row.id.0).collect();
        ids.into_iter().collect()
    }

    /// The operator that state `row` belongs to; none if its name is not that of one.
    pub fn uid_of(row: &StateRow) -> Option<&str> {
        let name = std::str::from_utf8(&row.name).ok()?;
        name.rsplit_once('#').map(|(uid, _)| uid)
    }
}

/// How much of what has changed is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Save {
    /// Up to so many keys.
    pub steps: u32,
    /// Nothing will change any more: what has changed since the last cut, too.
    pub is_last: bool,
}

/// A place for records of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurableSpace {
    space: SpaceId,
    state_id: u16,
}

/// See the module.
#[derive(Debug)]
pub struct DurableStore {
    path: PathBuf,
    name: String,
    id_prefix: Cell<u64>,
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    key_group_count: u32,
    /// By state id.
    spaces: Vec<Space>,
    /// By space, hash and key: how many pieces there are, of records that have several.
    pieces: BTreeMap<(DurableSpace, u64, Vec<u8>), u32>,
    /// The newest checkpoint that was begun.
    last_begun: CheckpointId,
    /// Those that were begun and are not over.
    open: BTreeSet<CheckpointId>,
    /// What is to be frozen, in order.
    wanted: VecDeque<CheckpointId>,
    /// What is frozen, with its epoch, and not in tables yet.
    frozen: VecDeque<(CheckpointId, u32)>,
    /// Each with the bytes of the tables that the image before it did not have.
    images: VecDeque<(CheckpointId, (Image, u64))>,
    /// The tables of images that may be of use.
    retained: BTreeMap<CheckpointId, BTreeSet<TableId>>,
    /// The tables of the last image.
    known: BTreeSet<TableId>,
    /// Something found no room since the last freeze.
    is_refused: bool,
    retry_at: Option<Duration>,
    /// It was said that nothing is written, and why.
    is_stall_told: bool,
    /// A checkpoint is over, or room was made, since somebody asked.
    has_news: bool,
}

#[derive(Debug)]
struct Space {
    /// `uid#number`: an operator may have several.
    name: String,
    states: Vec<u8>,
}

impl DurableStore {
    /// One without anything, for the `key_groups` of a shard.
    pub fn new(
        config: DurableConfig,
        key_groups: Range<u32>,
        key_group_count: KeyGroupCount,
    ) -> Self {
        let path = config.directory.join(&config.name);
        let store = Store::new(
            StoreConfig {
                directory: path.clone(),
                retained: BTreeSet::new(),
                bands: bands(&key_groups, key_group_count),
                key_groups,
                key_group_count: key_group_count.get(),
                memory_bytes: config.store_bytes,
                table_bytes: config.table_bytes,
                cache_chunks_max: 1,
                next_table_id: 1,
                times: BTreeMap::new(),
            },
            Vec::new(),
        );
        let inner = Inner {
            store,
            key_group_count: key_group_count.get(),
            spaces: Vec::new(),
            pieces: BTreeMap::new(),
            last_begun: CheckpointId::default(),
            open: BTreeSet::new(),
            wanted: VecDeque::new(),
            frozen: VecDeque::new(),
            images: VecDeque::new(),
            retained: BTreeMap::new(),
            known: BTreeSet::new(),
            is_refused: false,
            retry_at: None,
            is_stall_told: false,
            has_news: false,
        };
        let id_prefix = Cell::new(DURABLE_ID_BIT);
        Self { path, name: config.name, id_prefix, inner: RefCell::new(inner) }
    }

    pub(super) fn set_id_prefix(&self, prefix: u64) {
        self.id_prefix.set(prefix | DURABLE_ID_BIT);
    }

    /// Opens a place for records of operator `uid`.
    ///
    /// # Panics
    /// If the operators of a shard have more than 65,536 of them.
    pub fn open_space(&self, uid: &str) -> DurableSpace {
        let inner = &mut *self.inner.borrow_mut();
        let state_id = u16::try_from(inner.spaces.len()).expect("a shard has fewer operators");
        let is_of = |space: &&Space| space.name.rsplit_once('#').is_some_and(|(it, _)| it == uid);
        let number = inner.spaces.iter().filter(is_of).count();
        let states = 0_u16.to_le_bytes().to_vec();
        inner.spaces.push(Space { name: format!("{uid}#{number}"), states });
        DurableSpace { space: inner.store.open_space(state_id, 0, Origin::New), state_id }
    }

    /// The states that records of a space are about: their table, as
    /// [`RecordWriter`](super::snapshot::record::RecordWriter) encodes it.
    pub fn describe(&self, space: DurableSpace, states: Vec<u8>) {
        self.inner.borrow_mut().spaces[usize::from(space.state_id)].states = states;
    }

    /// Lets the record of the key with these `bytes`, which end with an empty namespace, be
    /// `record`.
    ///
    /// # Errors
    /// If the store has failed.
    pub fn put(
        &self,
        space: DurableSpace,
        (hash64, bytes): (u64, &[u8]),
        record: &[u8],
    ) -> Result<Put, Error> {
        let inner = &mut *self.inner.borrow_mut();
        if record.len() <= PIECE_BYTES && inner.pieces.is_empty() {
            let key = RecordKey { hash64, spread: 0, bytes };
            return inner.change(|store| store.put(space.space, key, record));
        }
        let count = record.len().div_ceil(PIECE_BYTES).max(1) as u32;
        // Those that find no room are not forgotten with those that did.
        let place = (space, hash64, bytes.to_vec());
        let before = inner.pieces.get(&place).copied().unwrap_or(1);
        if before < count {
            inner.pieces.insert(place, count);
        }
        for (number, piece) in (0..count).zip(record.chunks(PIECE_BYTES)) {
            let bytes = piece_key(bytes, number);
            let key = RecordKey { hash64, spread: 0, bytes: &bytes };
            let put = inner.change(|store| store.put(space.space, key, piece))?;
            if put != Put::Done {
                return Ok(put);
            }
        }
        inner.remove_pieces(space, (hash64, bytes), count)
    }

    /// Removes the record of a key.
    ///
    /// # Errors
    /// If the store has failed.
    pub fn remove(&self, space: DurableSpace, (hash64, bytes): (u64, &[u8])) -> Result<Put, Error> {
        let inner = &mut *self.inner.borrow_mut();
        let key = RecordKey { hash64, spread: 0, bytes };
        let removed = inner.change(|store| store.remove(space.space, key))?;
        if removed != Put::Done || inner.pieces.is_empty() {
            return Ok(removed);
        }
        inner.remove_pieces(space, (hash64, bytes), 1)
    }

    /// `checkpoint` is being taken.
    pub fn begin(&self, checkpoint: CheckpointId) {
        let inner = &mut *self.inner.borrow_mut();
        inner.last_begun = inner.last_begun.max(checkpoint);
        inner.open.insert(checkpoint);
    }

    /// Whether later changes than those of the checkpoint may be written.
    pub fn is_over(&self, checkpoint: CheckpointId) -> bool {
        let inner = self.inner.borrow();
        // A barrier may be here before the command that caused it.
        checkpoint <= inner.last_begun && !inner.open.contains(&checkpoint)
    }

    /// All records of a checkpoint that was begun are here: its image is wanted.
    pub fn freeze(&self, checkpoint: CheckpointId) {
        let inner = &mut *self.inner.borrow_mut();
        assert!(inner.open.contains(&checkpoint), "{checkpoint:?} is frozen while it is taken");
        inner.wanted.push_back(checkpoint);
    }

    /// Nothing more is wanted of a checkpoint, and its image not either, if it was not taken.
    pub fn give_up(&self, checkpoint: CheckpointId) {
        let inner = &mut *self.inner.borrow_mut();
        inner.open.remove(&checkpoint);
        inner.has_news = true;
        inner.wanted.retain(|wanted| *wanted != checkpoint);
        inner.frozen.retain(|(frozen, _)| *frozen != checkpoint);
        let image_count = inner.images.len();
        inner.images.retain(|(image, _)| *image != checkpoint);
        if inner.images.len() < image_count {
            inner.release(checkpoint);
        }
    }

    /// No file names the tables of `checkpoint` for its sake any more.
    pub fn release(&self, checkpoint: CheckpointId) {
        self.inner.borrow_mut().release(checkpoint);
    }

    /// Whether a checkpoint is over, or room was made, since the last call.
    pub fn take_news(&self) -> bool {
        std::mem::take(&mut self.inner.borrow_mut().has_news)
    }

    /// Whether what was refused may find room now.
    pub fn has_room(&self) -> bool {
        !self.inner.borrow().is_refused
    }

    /// The next image. Its tables stay until it is [released](DurableStore::release).
    /// And how many bytes of tables were not in the one before it.
    pub fn take_image(&self) -> Option<(CheckpointId, (Image, u64))> {
        self.inner.borrow_mut().images.pop_front()
    }

    /// The directory of the tables.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A bounded part of what there is to do; `now` as the shard counts it. What is wanted of the
    /// disk goes into `ops`. When it is to be called again, if nothing is answered before.
    ///
    /// # Errors
    /// If the store has failed.
    pub fn turn(&self, now: Duration, ops: &mut Vec<FileOp>) -> Result<Option<Duration>, Error> {
        let inner = &mut *self.inner.borrow_mut();
        let is_busy = inner.step(&self.name).map_err(unusable)?;
        let due = inner.retry(now, is_busy);
        let prefix = self.id_prefix.get();
        ops.extend(std::iter::from_fn(|| inner.store.next_op()).map(|op| marked(op, prefix)));
        Ok(if is_busy { Some(now) } else { due })
    }

    /// Takes the answer to an operation whose id has [`DURABLE_ID_BIT`].
    ///
    /// # Errors
    /// If the store has failed.
    pub fn on_done(&self, done: FileDone) -> Result<(), Error> {
        let inner = &mut *self.inner.borrow_mut();
        let op = OpId(done.op.0 & (DURABLE_ID_BIT - 1));
        inner.store.on_done(FileDone { op, ..done }).map_err(unusable)?;
        // What is written has made room.
        if inner.store.is_flushed() && std::mem::take(&mut inner.is_refused) {
            inner.has_news = true;
        }
        inner.make_images(&self.name);
        Ok(())
    }
}

impl Inner {
    fn change(
        &mut self,
        change: impl FnOnce(&mut Store) -> Result<(), store::Error>,
    ) -> Result<Put, Error> {
        match change(&mut self.store) {
            Ok(()) => Ok(Put::Done),
            Err(store::Error::Full(_)) => {
                self.is_refused = true;
                Ok(Put::NoRoom)
            }
            Err(error) => Err(unusable(error)),
        }
    }

    /// Removes the pieces of a record from `count` on.
    fn remove_pieces(
        &mut self,
        space: DurableSpace,
        (hash64, bytes): (u64, &[u8]),
        count: u32,
    ) -> Result<Put, Error> {
        let place = (space, hash64, bytes.to_vec());
        let before = self.pieces.get(&place).copied().unwrap_or(1);
        for number in count..before {
            let bytes = piece_key(bytes, number);
            let key = RecordKey { hash64, spread: 0, bytes: &bytes };
            let removed = self.change(|store| store.remove(space.space, key))?;
            if removed != Put::Done {
                return Ok(removed);
            }
        }
        match count {
            1 => drop(self.pieces.remove(&place)),
            _ => drop(self.pieces.insert(place, count)),
        }
        Ok(Put::Done)
    }

    fn step(&mut self, name: &str) -> Result<bool, store::Error> {
        if !self.store.is_open()? {
            return Ok(false);
        }
        let is_lagging = self.store.backlog() != Pressure::Ok;
        let merge_bytes = if is_lagging { MERGE_BYTES_LAGGING } else { MERGE_BYTES };
        let mut is_busy = self.store.merge_step(merge_bytes)?;
        if let Some(error) = self.store.take_merge_error() {
            // Nothing is lost: it is tried again after more was written.
            tracing::warn!(%error, "tables of checkpoints were not merged");
        }
        self.freeze_next(name);
        let is_short = self.is_refused || Pressure::Slow <= self.store.memory_pressure();
        if is_short && self.store.is_flushed() {
            self.is_refused = !self.store.freeze();
        }
        is_busy |= self.store.step(FLUSH_STEPS)?;
        Ok(is_busy)
    }

    /// Freezes what is wanted next, if it can be.
    fn freeze_next(&mut self, name: &str) {
        while let Some(checkpoint) = self.wanted.front().copied() {
            let epoch = self.store.epoch();
            let is_clean = self.store.dirty_bytes() == 0 && self.store.is_flushed();
            if !is_clean && !self.store.freeze() {
                return;
            }
            self.wanted.pop_front();
            self.open.remove(&checkpoint);
            self.has_news = true;
            let frozen = if is_clean { self.store.installed_epoch() } else { epoch };
            self.frozen.push_back((checkpoint, frozen));
            self.make_images(name);
        }
    }

    /// Makes the image of what is in tables.
    fn make_images(&mut self, name: &str) {
        let installed = self.store.installed_epoch();
        while let Some((checkpoint, _)) = self.frozen.pop_front_if(|(_, it)| *it <= installed) {
            let tables = TableRow::all_of(self.store.version());
            let ids: BTreeSet<TableId> = tables.iter().map(|row| row.id).collect();
            self.store.retain(ids.iter().copied());
            let is_new = |row: &&TableRow| !self.known.contains(&row.id);
            let new: BTreeMap<TableId, u64> =
                tables.iter().filter(is_new).map(|row| (row.id, row.length)).collect();
            self.known.clone_from(&ids);
            self.retained.insert(checkpoint, ids);
            let row = |(id, space): (u16, &Space)| {
                let (name, schema) = (space.name.clone().into_bytes(), space.states.clone());
                StateRow { id, name, schema }
            };
            let manifest = Manifest {
                next_table_id: self.store.next_table_id(),
                key_group_count: self.key_group_count,
                bands: self.store.version().bands().iter().map(|band| band.hashes).collect(),
                tables,
                states: (0..).zip(&self.spaces).map(row).collect(),
            };
            let (directory, added_bytes) = (name.to_string(), new.values().sum());
            self.images.push_back((checkpoint, (Image { directory, manifest }, added_bytes)));
        }
    }

    fn release(&mut self, checkpoint: CheckpointId) {
        let Some(ids) = self.retained.remove(&checkpoint) else { return };
        let is_free = |id: &TableId| !self.retained.values().any(|others| others.contains(id));
        let free: Vec<TableId> = ids.into_iter().filter(is_free).collect();
        self.store.release(free);
    }

    /// When what could not be written is tried again.
    fn retry(&mut self, now: Duration, is_busy: bool) -> Option<Duration> {
        let fault = self.store.stalled().filter(|_| !is_busy);
        let is_stalled = fault.is_some();
        let shortage = self.store.shortage();
        let why = fault.map(ToString::to_string).or(shortage.map(|it| it.to_string()));
        if let Some(why) = why.as_ref().filter(|_| !self.is_stall_told) {
            tracing::warn!(why, "checkpoints wait, for their tables cannot be written");
        }
        self.is_stall_told = why.is_some();
        match self.retry_at {
            _ if !is_stalled => self.retry_at = None,
            Some(at) if now < at => {}
            Some(_) => {
                self.store.retry();
                self.retry_at = Some(now + RETRY_PERIOD);
            }
            None => self.retry_at = Some(now + RETRY_PERIOD),
        }
        self.retry_at
    }
}

/// The name of a table's file, in the directory of its store.
pub fn table_name(id: u64) -> String {
    format!("{id:016x}.table")
}

/// The stored form of the key of a piece.
fn piece_key(bytes: &[u8], number: u32) -> Vec<u8> {
    let mut key = bytes.to_vec();
    if number != 0 {
        key.extend_from_slice(&number.to_be_bytes());
    }
    key
}
