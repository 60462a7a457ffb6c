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
//! shard wakes the task when there is an answer, and the operator takes the hashes that it waited
//! for from [`ShardStore::take_read`] and asks again.
//!
//! Not here: what the bytes mean (`keyed.rs`), how they are kept ([`millstream_storage::store`]).

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
    /// Bytes for records and blocks of the store.
    pub store_bytes: usize,
}

impl ShardStoreConfig {
    /// Divides `memory_bytes` between operators and store: the store has a quarter, in whole
    /// chunks, and at least [`STORE_CHUNKS_MIN`] of them.
    pub fn new(
        directory: PathBuf,
        key_groups: Range<u32>,
        key_group_count: KeyGroupCount,
        memory_bytes: usize,
    ) -> Self {
        let chunks = (memory_bytes / 4 / CHUNK_BYTES).max(STORE_CHUNKS_MIN);
        let store_bytes = chunks * CHUNK_BYTES;
        let working_bytes = memory_bytes.saturating_sub(store_bytes);
        Self { directory, key_groups, key_group_count, working_bytes, store_bytes }
    }
}

/// Fewest chunks that a store can work with: records, indexes, lists and blocks have some each.
pub const STORE_CHUNKS_MIN: usize = 8;

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
pub const STORE_ID_BIT: u64 = 1 << 63;

/// Bands of a store, if there are as many key groups.
const BANDS: u32 = 8;

/// Records that a turn orders and writes: about 50 µs.
const FLUSH_STEPS: usize = 128;

/// How long a full disk is left alone before what could not be written is tried again.
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct ShardStore {
    working_bytes_max: usize,
    working_bytes: Cell<usize>,
    /// The last record that was to make room found none itself.
    is_full: Cell<bool>,
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    state_count: u16,
    /// By operation of the store.
    waiters: BTreeMap<OpId, Vec<Waiter>>,
    /// Whose value found no memory.
    crowded: Vec<Waiter>,
    /// Hashes whose keys can be asked for again, by chain and stage.
    read: BTreeMap<(u16, u16), Vec<u64>>,
    /// Chains that something was read for since the shard last asked.
    woken: BTreeSet<u16>,
    retry_at: Option<Duration>,
}

impl ShardStore {
    /// A store without any state, which begins by clearing its directory.
    pub fn new(config: ShardStoreConfig) -> Self {
        let group_count = config.key_group_count;
        let store = Store::new(
            StoreConfig {
                directory: config.directory,
                retained: BTreeSet::new(),
                bands: bands(&config.key_groups, group_count),
                key_groups: config.key_groups,
                key_group_count: group_count.get(),
                memory_bytes: config.store_bytes,
                cache_chunks_max: (config.store_bytes / CHUNK_BYTES / 4).max(1),
                next_table_id: 1,
                times: BTreeMap::new(),
            },
            Vec::new(),
        );
        let inner = Inner {
            store,
            state_count: 0,
            waiters: BTreeMap::new(),
            crowded: Vec::new(),
            read: BTreeMap::new(),
            woken: BTreeSet::new(),
            retry_at: None,
        };
        Self {
            working_bytes_max: config.working_bytes,
            working_bytes: Cell::new(0),
            is_full: Cell::new(false),
            inner: RefCell::new(inner),
        }
    }

    /// Opens a place for the keys of an operator.
    ///
    /// # Panics
    /// If the operators of a shard have more than 65,536 of them.
    pub fn open_state(&self) -> SpaceId {
        let inner = &mut *self.inner.borrow_mut();
        let state_id = inner.state_count;
        inner.state_count = state_id.checked_add(1).expect("a shard has fewer operators");
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

    /// Bytes that operators should give back.
    #[inline]
    pub fn excess_bytes(&self) -> usize {
        self.working_bytes.get().saturating_sub(self.working_bytes_max)
    }

    /// Whether operators should take nothing in: what they want to give back finds no room.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.is_full.get() && 0 < self.excess_bytes()
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
                inner.waiters.entry(op).or_default().push(waiter);
                Ok(None)
            }
            Err(store::Error::Full(_)) => {
                inner.crowded.push(waiter);
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

    /// Hashes of keys that an operator can ask for again.
    pub fn take_read(&self, chain_index: u16, stage_index: u16) -> Vec<u64> {
        self.inner.borrow_mut().read.remove(&(chain_index, stage_index)).unwrap_or_default()
    }

    /// Whether [`ShardStore::take_read`] has some.
    pub fn has_read(&self, chain_index: u16, stage_index: u16) -> bool {
        self.inner.borrow().read.contains_key(&(chain_index, stage_index))
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
            if Pressure::Slow <= inner.store.pressure() && inner.store.is_flushed() {
                inner.store.freeze();
            }
            is_busy = inner.store.step(FLUSH_STEPS).map_err(unusable)?;
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
        inner.wake_crowded();
        ops.extend(std::iter::from_fn(|| inner.store.next_op()).map(to_shard));
        Ok(if is_busy { Some(now) } else { inner.retry_at })
    }

    /// Takes the answer to an operation whose id has [`STORE_ID_BIT`].
    ///
    /// # Errors
    /// If the store has failed.
    pub fn on_done(&self, done: FileDone) -> Result<(), Error> {
        let inner = &mut *self.inner.borrow_mut();
        let op = OpId(done.op.0 & !STORE_ID_BIT);
        let taken = inner.store.on_done(FileDone { op, ..done });
        for waiter in inner.waiters.remove(&op).unwrap_or_default() {
            inner.wake(waiter);
        }
        // What was written has made room.
        self.is_full.set(false);
        taken.map_err(unusable)
    }

    /// The chains whose operators something was read for, since the last call.
    pub fn take_woken(&self) -> BTreeSet<u16> {
        std::mem::take(&mut self.inner.borrow_mut().woken)
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Store) -> Result<(), store::Error>,
    ) -> Result<Put, Error> {
        let changed = change(&mut self.inner.borrow_mut().store);
        self.is_full.set(matches!(changed, Err(store::Error::Full(_))));
        match changed {
            Ok(()) => Ok(Put::Done),
            Err(store::Error::Full(_)) => Ok(Put::NoRoom),
            Err(store::Error::TooLarge { .. }) => Ok(Put::TooLarge),
            Err(error) => Err(unusable(error)),
        }
    }
}

impl Inner {
    fn wake(&mut self, waiter: Waiter) {
        let Waiter { chain_index, stage_index, hash64 } = waiter;
        self.read.entry((chain_index, stage_index)).or_default().push(hash64);
        self.woken.insert(chain_index);
    }

    /// Those whose value found no memory try again.
    fn wake_crowded(&mut self) {
        for waiter in std::mem::take(&mut self.crowded) {
            self.wake(waiter);
        }
    }
}

/// Ranges of whole key groups, of about the same size.
fn bands(key_groups: &Range<u32>, group_count: KeyGroupCount) -> Vec<HashRange> {
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

/// The same operation under ids that no operator has.
fn to_shard(op: FileOp) -> FileOp {
    let mark = |op: OpId| OpId(op.0 | STORE_ID_BIT);
    let mark_file = |file: FileId| FileId(file.0 | STORE_ID_BIT);
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
        FileOp::Remove { op, path } => FileOp::Remove { op: mark(op), path },
        FileOp::List { op, pattern, together } => FileOp::List { op: mark(op), pattern, together },
        FileOp::ListDirectory { op, path } => FileOp::ListDirectory { op: mark(op), path },
    }
}

/// Why the store cannot be used, as the engine says it.
fn unusable(error: store::Error) -> Error {
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
