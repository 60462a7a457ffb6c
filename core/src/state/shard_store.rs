//! [`ShardStore`]: the store of a shard, as its operators and the shard see it.
//!
//! ```text
//! operators ─get, put, remove─►┌────────────┐─FileOp─► shard ─► disk
//!     ▲                        │ ShardStore │
//!     └── whose key was read ──┤   Store    │◄─FileDone─ shard
//!                              └────────────┘
//! ```
//!
//! What operators work with is in their own memory, decoded; what they have no room for is here, as
//! bytes, and from here it goes into tables. One store for all operators of a shard, so that one
//! number bounds their memory: each [charges](ShardStore::charge) what it keeps decoded, and the
//! shard lets them give some back while that is [too much](ShardStore::excess_bytes).
//!
//! Operators hold it at the same time, one of them uses it at a time: a shard is one thread.
//!
//! What is read is asked for, and waited for by nobody: [`ShardStore::get`] answers `None`, the
//! shard wakes the task when there is an answer, which tells the operator the hashes of
//! [`ShardStore::take_read`], and the operator asks again.
//!
//! Not here: what the bytes mean (`keyed.rs`), how they are kept ([`millstream_storage::store`]).

mod scans;
mod status;
mod windows;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_storage::arena::CHUNK_BYTES;
use millstream_storage::io::{FileDone, FileFault, FileId, FileOp, OpId};
use millstream_storage::store::{self, Got, Pressure, Store, StoreConfig};
use millstream_storage::table::{self, HashRange};
use millstream_storage::write_buffer::{Origin, RecordKey, SpaceId};

use crate::data::key_group::KeyGroupCount;
use crate::error::Error;
use crate::limits::{MEMORY_PER_SHARD_MIN, SHARD_COUNT_MAX};
use crate::state::durable::{DurableConfig, DurableStore};

pub use self::scans::Seen;
pub use self::status::StoreStatus;

/// What is the same for all the life of a shard's store.
#[derive(Debug, Clone)]
pub struct ShardStoreConfig {
    /// Where its files are, and those of no other store.
    pub directory: PathBuf,
    /// The key groups of the shard's tasks.
    pub key_groups: Range<u32>,
    /// Key groups of the job.
    pub key_group_count: KeyGroupCount,
    /// Bytes that operators may keep decoded.
    pub working_bytes: usize,
    /// Bytes for what the store keeps of its tables.
    pub table_bytes: usize,
    /// Bytes for records and blocks of the store.
    pub store_bytes: usize,
    /// Where what changes is kept for checkpoints, if any are taken.
    pub durable: Option<DurableConfig>,
}

impl ShardStoreConfig {
    /// Divides `memory_bytes` between operators and store: the store has a quarter for records and
    /// blocks, in whole chunks, at least [`STORE_CHUNKS_MIN`] of them, a sixth for what it keeps of
    /// tables, and buffers; operators have the rest. None of it goes from one to the other: what
    /// operators have grown to does not become less.
    pub fn new(
        directory: PathBuf,
        key_groups: Range<u32>,
        key_group_count: KeyGroupCount,
        memory_bytes: usize,
    ) -> Self {
        let chunks = (memory_bytes / 4 / CHUNK_BYTES).max(STORE_CHUNKS_MIN);
        let store_bytes = chunks * CHUNK_BYTES;
        // The storage service copies what is read and written into aligned buffers of its own.
        let buffer_bytes = 2 * store::buffer_bytes(store_bytes);
        let table_bytes = memory_bytes / 6;
        let beside_bytes = store_bytes + table_bytes + buffer_bytes;
        let working_bytes = memory_bytes.saturating_sub(beside_bytes);
        let durable = None;
        Self {
            directory,
            key_groups,
            key_group_count,
            working_bytes,
            table_bytes,
            store_bytes,
            durable,
        }
    }

    /// The same memory, of which a part is for what checkpoints are made of.
    #[must_use]
    pub fn with_durable(self, durable: DurableConfig) -> Self {
        let working_bytes = self.working_bytes.saturating_sub(durable.memory_bytes());
        Self { working_bytes, durable: Some(durable), ..self }
    }
}

/// Fewest chunks that a store can work with: records, indexes, lists and blocks have some each.
pub const STORE_CHUNKS_MIN: usize = 8;
const _: () = assert!(4 * STORE_CHUNKS_MIN * CHUNK_BYTES == MEMORY_PER_SHARD_MIN as usize);

/// Who waits for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiter {
    /// Chain of the operator.
    pub chain_index: u16,
    /// The operator.
    pub stage_index: u16,
    /// Hash of the key.
    pub hash64: u64,
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Put {
    /// It was made.
    Done,
    /// It was not: there is no memory for it before something is written.
    NoRoom,
    /// It was not: a record takes at most a chunk.
    TooLarge,
}

/// Ids of the store's operations and files have this bit, and no operator's have.
///
/// ```text
/// 63  62         53 52                                          0
/// │ 1 │ shard index │ id of the store's own                     │
/// ```
pub const STORE_ID_BIT: u64 = 1 << 63;

/// Ids of operations and files of checkpoints have this bit beside [`STORE_ID_BIT`], and no id of a
/// store has it.
pub const CHECKPOINT_ID_BIT: u64 = 1 << 52;
const _: () = assert!(CHECKPOINT_ID_BIT < 1 << SHARD_SHIFT);

/// What is common to the ids of a shard that no operator has.
pub fn id_prefix(shard_index: u32) -> u64 {
    STORE_ID_BIT | u64::from(shard_index) << SHARD_SHIFT
}

/// Where the index of the shard is in an id: other shards of the node have other ids.
const SHARD_SHIFT: u32 = 53;
const _: () = assert!(SHARD_COUNT_MAX == 1 << (63 - SHARD_SHIFT));

/// Bands of a store, if there are as many key groups.
const BANDS: u32 = 8;

/// Records that a turn orders and writes: less than 50 µs (`store_steps` of the benchmarks).
const FLUSH_STEPS: usize = 32;

/// Bytes of entries that a turn merges: about 50 µs.
const MERGE_BYTES: usize = 16 << 10;

/// The same while merges lag, so that they catch up however long turns are: about 150 µs.
const MERGE_BYTES_LAGGING: usize = 64 << 10;

/// How long a full disk is left alone before what could not be written is tried again.
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct ShardStore {
    working_bytes_max: usize,
    working_bytes: Cell<usize>,
    /// What is common to the ids of its operations.
    id_prefix: u64,
    inner: RefCell<Inner>,
    durable: Option<DurableStore>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    key_groups: Range<u32>,
    state_count: u16,
    /// By operation of the store.
    waiters: BTreeMap<OpId, Vec<Waiter>>,
    /// Whose value found no memory.
    crowded: Vec<Waiter>,
    /// Stages and hashes of keys that can be asked for again, by chain.
    read: BTreeMap<u16, Vec<(u16, u64)>>,
    /// Chains that got some of these since the shard last asked.
    woken: BTreeSet<u16>,
    /// Something found no room since the last freeze.
    is_refused: bool,
    retry_at: Option<Duration>,
    /// It was said that the memory for tables is used up.
    is_shortage_told: bool,
}

impl ShardStore {
    /// A store without any state, which begins by clearing its directory.
    pub fn new(config: ShardStoreConfig) -> Self {
        let (group_count, key_groups) = (config.key_group_count, config.key_groups.clone());
        let durable = |config| DurableStore::new(config, key_groups.clone(), group_count);
        let durable = config.durable.map(durable);
        let store = Store::new(
            StoreConfig {
                directory: config.directory,
                retained: BTreeSet::new(),
                bands: bands(&config.key_groups, group_count),
                key_groups: config.key_groups,
                key_group_count: group_count.get(),
                memory_bytes: config.store_bytes,
                table_bytes: config.table_bytes,
                cache_chunks_max: (config.store_bytes / CHUNK_BYTES / 4).max(1),
                next_table_id: 1,
                times: BTreeMap::new(),
            },
            Vec::new(),
        );
        let inner = Inner {
            store,
            key_groups,
            state_count: 0,
            waiters: BTreeMap::new(),
            crowded: Vec::new(),
            read: BTreeMap::new(),
            woken: BTreeSet::new(),
            is_refused: false,
            retry_at: None,
            is_shortage_told: false,
        };
        Self {
            working_bytes_max: config.working_bytes,
            working_bytes: Cell::new(0),
            id_prefix: STORE_ID_BIT,
            inner: RefCell::new(inner),
            durable,
        }
    }

    /// Where what changes is kept for checkpoints, if any are taken.
    #[inline]
    pub fn durable(&self) -> Option<&DurableStore> {
        self.durable.as_ref()
    }

    /// The same store, with ids that no store of another shard has.
    pub fn with_ids_of(self, shard_index: u32) -> Self {
        let id_prefix = id_prefix(shard_index);
        self.durable.iter().for_each(|durable| durable.set_id_prefix(id_prefix));
        Self { id_prefix, ..self }
    }

    /// Opens a place for the keys of an operator.
    ///
    /// # Panics
    /// If the operators of a shard have more than 65,536 of them.
    pub fn open_state(&self) -> SpaceId {
        let inner = &mut *self.inner.borrow_mut();
        let state_id = inner.take_state_id();
        inner.store.open_space(state_id, 0, Origin::New)
    }

    /// What an operator keeps decoded has become `now_bytes`, from `before_bytes`.
    #[inline]
    pub fn charge(&self, before_bytes: usize, now_bytes: usize) {
        self.working_bytes.set(self.working_bytes.get() + now_bytes - before_bytes);
    }

    /// Bytes that operators keep decoded.
    pub fn working_bytes(&self) -> usize {
        self.working_bytes.get()
    }

    /// Bytes that they may.
    pub fn working_bytes_max(&self) -> usize {
        self.working_bytes_max
    }

    /// Bytes that operators should give back.
    #[inline]
    pub fn excess_bytes(&self) -> usize {
        self.working_bytes.get().saturating_sub(self.working_bytes_max)
    }

    /// What `read` makes of the value of `key` in `space`, or `None` while it is being read: then
    /// the waiter is told.
    ///
    /// # Errors
    /// If a table cannot be read or is damaged.
    pub fn get<R>(
        &self,
        space: SpaceId,
        key: RecordKey<'_>,
        waiter: Waiter,
        read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<Option<R>, Error> {
        let inner = &mut *self.inner.borrow_mut();
        match inner.store.get(space, key) {
            Ok(Got::Ready(value)) => Ok(Some(read(value))),
            Ok(Got::Wait(op)) => {
                let waiters = inner.waiters.entry(op).or_default();
                if !waiters.contains(&waiter) {
                    waiters.push(waiter);
                }
                Ok(None)
            }
            Err(store::Error::Full(_)) => {
                inner.wait_for_room(waiter);
                inner.is_refused = true;
                Ok(None)
            }
            Err(error) => Err(unusable(error)),
        }
    }

    /// Lets the value of `key` be `value`.
    ///
    /// # Errors
    /// If the store has failed.
    pub fn put(&self, space: SpaceId, key: RecordKey<'_>, value: &[u8]) -> Result<Put, Error> {
        self.change(|store| store.put(space, key, value))
    }

    /// Removes `key`.
    ///
    /// # Errors
    /// If the store has failed.
    pub fn remove(&self, space: SpaceId, key: RecordKey<'_>) -> Result<Put, Error> {
        self.change(|store| store.remove(space, key))
    }

    /// Stage and hash of the keys of a chain that can be asked for again.
    pub fn take_read(&self, chain_index: u16) -> Vec<(u16, u64)> {
        self.inner.borrow_mut().read.remove(&chain_index).unwrap_or_default()
    }

    /// A bounded part of what there is to do; `now` as the shard counts it. What is wanted of the
    /// disk goes into `ops`. When it is to be called again, if nothing is answered before.
    ///
    /// # Errors
    /// If the store has failed.
    pub fn turn(&self, now: Duration, ops: &mut Vec<FileOp>) -> Result<Option<Duration>, Error> {
        let inner = &mut *self.inner.borrow_mut();
        let mut is_busy = false;
        if inner.store.is_open().map_err(unusable)? {
            let is_lagging = inner.store.backlog() != Pressure::Ok;
            let merge_bytes = if is_lagging { MERGE_BYTES_LAGGING } else { MERGE_BYTES };
            is_busy = inner.store.merge_step(merge_bytes).map_err(unusable)?;
            if let Some(error) = inner.store.take_merge_error() {
                // Nothing is lost: it is tried again after more was written.
                tracing::warn!(%error, "tables of state were not merged");
            }
            let is_short = inner.is_refused || Pressure::Slow <= inner.store.memory_pressure();
            if is_short && inner.store.is_flushed() {
                inner.is_refused = !inner.store.freeze();
            }
            is_busy |= inner.store.step(FLUSH_STEPS).map_err(unusable)?;
            inner.tell_shortage();
        }
        let stalled = inner.store.pressure() == Pressure::Stop && !is_busy;
        match inner.retry_at {
            _ if !stalled => inner.retry_at = None,
            None => inner.retry_at = Some(now + RETRY_PERIOD),
            Some(at) if at <= now => {
                inner.store.retry();
                inner.retry_at = Some(now + RETRY_PERIOD);
            }
            Some(_) => {}
        }
        if inner.store.is_flushed() {
            inner.wake_crowded();
        }
        ops.extend(
            std::iter::from_fn(|| inner.store.next_op()).map(|op| marked(op, self.id_prefix)),
        );
        Ok(if is_busy { Some(now) } else { inner.retry_at })
    }

    /// Takes the answer to an operation whose id has [`STORE_ID_BIT`].
    ///
    /// # Errors
    /// If the store has failed.
    pub fn on_done(&self, done: FileDone) -> Result<(), Error> {
        let inner = &mut *self.inner.borrow_mut();
        let op = OpId(done.op.0 & ((1 << SHARD_SHIFT) - 1));
        let taken = inner.store.on_done(FileDone { op, ..done });
        for waiter in inner.waiters.remove(&op).unwrap_or_default() {
            inner.wake(waiter);
        }
        // What was written has made room.
        inner.wake_crowded();
        taken.map_err(unusable)
    }

    /// Whether an operator has opened a state.
    pub(crate) fn has_states(&self) -> bool {
        self.inner.borrow().state_count != 0
    }

    /// Whether keys are being read, or were and have not been taken.
    pub(crate) fn is_waited_for(&self) -> bool {
        let inner = self.inner.borrow();
        !inner.waiters.is_empty() || !inner.crowded.is_empty() || !inner.read.is_empty()
    }

    /// Lets all that changed be written, and gives back the memory of all that was: for tests, so
    /// that what is asked for is read.
    pub(crate) fn squeeze(&self) {
        let inner = &mut *self.inner.borrow_mut();
        if 0 < inner.store.dirty_bytes() {
            inner.is_refused = true;
        } else {
            inner.store.evict(usize::MAX, usize::MAX);
        }
    }

    /// The chains that [`ShardStore::take_read`] has got something for since the last call.
    pub fn take_woken(&self) -> BTreeSet<u16> {
        std::mem::take(&mut self.inner.borrow_mut().woken)
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Store) -> Result<(), store::Error>,
    ) -> Result<Put, Error> {
        let inner = &mut *self.inner.borrow_mut();
        match change(&mut inner.store) {
            Ok(()) => Ok(Put::Done),
            Err(store::Error::Full(_)) => {
                inner.is_refused = true;
                Ok(Put::NoRoom)
            }
            Err(store::Error::TooLarge { .. }) => Ok(Put::TooLarge),
            Err(error) => Err(unusable(error)),
        }
    }
}

impl Inner {
    fn take_state_id(&mut self) -> u16 {
        let state_id = self.state_count;
        self.state_count = state_id.checked_add(1).expect("a shard has fewer operators");
        state_id
    }

    fn wake(&mut self, waiter: Waiter) {
        let Waiter { chain_index, stage_index, hash64 } = waiter;
        self.read.entry(chain_index).or_default().push((stage_index, hash64));
        self.woken.insert(chain_index);
    }

    fn wait_for_room(&mut self, waiter: Waiter) {
        if !self.crowded.contains(&waiter) {
            self.crowded.push(waiter);
        }
    }

    /// Says once that nothing more goes to disk for want of memory.
    fn tell_shortage(&mut self) {
        let shortage = self.store.shortage();
        if let Some(shortage) = shortage.filter(|_| !self.is_shortage_told) {
            tracing::warn!(%shortage, "records wait, for more state cannot be kept in files");
        }
        self.is_shortage_told = shortage.is_some();
    }

    /// Those whose value found no memory try again.
    fn wake_crowded(&mut self) {
        for waiter in std::mem::take(&mut self.crowded) {
            self.wake(waiter);
        }
    }
}

/// Ranges of whole key groups, of about the same size.
pub(super) fn bands(key_groups: &Range<u32>, group_count: KeyGroupCount) -> Vec<HashRange> {
    let len = key_groups.end - key_groups.start;
    let count = BANDS.min(len);
    let start = |band: u32| key_groups.start + len * band / count;
    (0..count)
        .map(|band| {
            let hashes = group_count.hashes(start(band)..start(band + 1));
            HashRange { first: hashes.first, last: hashes.last }
        })
        .collect()
}

/// The same operation under ids that nobody else has.
pub(super) fn marked(op: FileOp, prefix: u64) -> FileOp {
    let mark = |op: OpId| OpId(op.0 | prefix);
    let mark_file = |file: FileId| FileId(file.0 | prefix);
    match op {
        FileOp::Open { op, file, path, mode } => {
            FileOp::Open { op: mark(op), file: mark_file(file), path, mode }
        }
        FileOp::Read { op, file, offset, len } => {
            FileOp::Read { op: mark(op), file: mark_file(file), offset, len }
        }
        FileOp::Write { op, file, offset, bytes } => {
            FileOp::Write { op: mark(op), file: mark_file(file), offset, bytes }
        }
        FileOp::Sync { op, file } => FileOp::Sync { op: mark(op), file: mark_file(file) },
        FileOp::Close { op, file } => FileOp::Close { op: mark(op), file: mark_file(file) },
        FileOp::Rename { op, from, to } => FileOp::Rename { op: mark(op), from, to },
        FileOp::Link { op, from, to } => FileOp::Link { op: mark(op), from, to },
        FileOp::Remove { op, path } => FileOp::Remove { op: mark(op), path },
        FileOp::List { op, pattern, together } => FileOp::List { op: mark(op), pattern, together },
        FileOp::ListDirectory { op, path } => FileOp::ListDirectory { op: mark(op), path },
    }
}

/// Why the store cannot be used, as the engine says it.
pub(super) fn unusable(error: store::Error) -> Error {
    match error {
        store::Error::Table { path, source } => {
            let offset = match &source {
                table::Error::Corrupt { offset, .. } => *offset,
                _ => 0,
            };
            let what = format!("the table {}", path.display());
            Error::Corrupt { what, offset, reason: source.to_string() }
        }
        store::Error::Read(fault) | store::Error::Failed(fault) => system(&fault),
        error @ (store::Error::TooLarge { .. } | store::Error::Full(_)) => {
            Error::bug("the store", error.to_string())
        }
    }
}

fn system(fault: &Arc<FileFault>) -> Error {
    let source = match fault.source.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(fault.source.kind(), fault.source.to_string()),
    };
    let advice = "state that does not fit into memory is kept in files: look at the disk, and start \
                  again from the last checkpoint";
    Error::System { action: fault.action.clone(), advice: Some(advice), source }
}
