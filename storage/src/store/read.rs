//! Lookups in tables: one block after the other, and what they come to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Awaited, Error, Store};
use crate::cache::BlockId;
use crate::io::{FileAnswer, FileFault, FileOp, OpId};
use crate::key::StoredKey;
use crate::table::{Change, Located, PAGE_BYTES, View, Want};
use crate::version::Version;
use crate::write_buffer::{Lookup as Known, RecordKey, SpaceId};

/// Where the hash ends in a stored key, and a record's key begins.
const HASH_END: usize = 20;

/// Most bytes of what was found and has no room yet, or could not be found, for readers who may not
/// come any more. Those who come later have it looked up again.
const ENDED_BYTES_MAX: usize = 4 << 20;

/// What is being looked up and read.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// By stored key.
    pub(super) lookups: BTreeMap<Vec<u8>, Lookup>,
    under_way: BTreeMap<BlockId, Read>,
    /// The stored keys of the lookups that wait for their readers, by when they came to that.
    ended: BTreeMap<u64, Vec<u8>>,
    pub(super) ended_bytes: usize,
    ended_count: u64,
}

/// How far a key was looked up.
#[derive(Debug)]
pub(super) struct Lookup {
    space: SpaceId,
    /// Of the key.
    spread: u64,
    /// What it goes through; none once it is at its end, so that files can go.
    version: Option<Arc<Version>>,
    /// Deltas that were installed when it began.
    installed_count: u64,
    /// The table that is next.
    table: usize,
    /// What is to be appended, the newest first.
    operands: Vec<Vec<u8>>,
    state: State,
    /// Its number among those that wait for their readers.
    ended: Option<u64>,
}

impl Lookup {
    /// Bytes of what was found.
    pub(super) fn value_len(&self) -> usize {
        match &self.state {
            State::Found(value) => value.as_ref().map_or(0, Vec::len),
            State::Waits(_) | State::Failed(_) => 0,
        }
    }

    fn bytes(&self, key: &[u8]) -> usize {
        size_of::<Self>() + 2 * key.len() + self.value_len()
    }
}

impl Reads {
    /// Takes a lookup that `is_it` out.
    fn take(&mut self, key: &[u8], is_it: impl Fn(&Lookup) -> bool) -> Option<Lookup> {
        self.lookups.get(key).filter(|lookup| is_it(lookup))?;
        let mut lookup = self.lookups.remove(key)?;
        if let Some(number) = lookup.ended.take() {
            self.ended.remove(&number);
            self.ended_bytes -= lookup.bytes(key);
        }
        Some(lookup)
    }

    /// Keeps a lookup for its reader, unless there are too many by then.
    fn keep(&mut self, key: Vec<u8>, mut lookup: Lookup) {
        if !matches!(lookup.state, State::Waits(_)) {
            lookup.ended = Some(self.ended_count);
            self.ended.insert(self.ended_count, key.clone());
            self.ended_count += 1;
            self.ended_bytes += lookup.bytes(&key);
        }
        self.lookups.insert(key, lookup);
        while ENDED_BYTES_MAX < self.ended_bytes
            && let Some((_, first)) = self.ended.pop_first()
        {
            self.take(&first, |_| true);
        }
    }
}

#[derive(Debug)]
enum State {
    /// For a block.
    Waits(OpId),
    Found(Option<Vec<u8>>),
    Failed(Error),
}

/// A block that is being read, for all that need it.
#[derive(Debug)]
struct Read {
    op: OpId,
    /// Keeps the file.
    view: View,
    want: Want,
    /// Stored keys.
    for_keys: Vec<Vec<u8>>,
    /// Whether it was not what was written before.
    is_second: bool,
}

impl Store {
    /// Looks `key` up and takes what is found into the write buffer. Answers what is waited for.
    pub(super) fn look_up(
        &mut self,
        space: SpaceId,
        key: RecordKey<'_>,
    ) -> Result<Option<OpId>, Error> {
        if let Some(op) = self.awaited_to_open() {
            return Ok(Some(op));
        }
        let stored = self.stored(space, key);
        let is_stale = |it: &Lookup| {
            it.installed_count != self.installed_count && !matches!(it.state, State::Waits(_))
        };
        let begun = self.reads.take(&stored, |_| true).filter(|lookup| !is_stale(lookup));
        let lookup = begun.unwrap_or_else(|| self.begin(&stored, space, key.spread));
        let value = match &lookup.state {
            State::Failed(error) => return Err(error.clone()),
            State::Waits(op) => {
                let op = *op;
                self.reads.keep(stored, lookup);
                return Ok(Some(op));
            }
            State::Found(value) => value.as_deref(),
        };
        let taken = self.take_in(space, key, value);
        if matches!(taken, Err(Error::Full(_))) {
            self.reads.keep(stored, lookup);
        }
        taken.map(|()| None)
    }

    /// A lookup from the newest table on, up to the first block that is not here.
    fn begin(&mut self, stored: &[u8], space: SpaceId, spread: u64) -> Lookup {
        let mut lookup = Lookup {
            space,
            spread,
            version: Some(Arc::clone(self.versions.newest())),
            installed_count: self.installed_count,
            table: 0,
            operands: Vec::new(),
            state: State::Found(None),
            ended: None,
        };
        self.go_on(stored, &mut lookup, None);
        lookup
    }

    /// What was found goes into the write buffer; if that is full, it waits here for its reader.
    fn end(&mut self, stored: Vec<u8>, mut lookup: Lookup) {
        if lookup.installed_count != self.installed_count {
            lookup = self.begin(&stored, lookup.space, lookup.spread);
        }
        if let State::Found(value) = &lookup.state {
            let hash64 = parts_of(&stored).hash64;
            let key = RecordKey { hash64, spread: lookup.spread, bytes: &stored[HASH_END..] };
            match self.take_in(lookup.space, key, value.as_deref()) {
                Ok(()) => return,
                Err(Error::Full(_)) => {}
                Err(error) => lookup.state = State::Failed(error),
            }
        }
        self.reads.keep(stored, lookup);
    }

    /// Nobody reads what is in `space` any more.
    pub(super) fn forget_space(&mut self, space: SpaceId) {
        let lookups = self.reads.lookups.iter().filter(|(_, lookup)| lookup.space == space);
        let keys: Vec<Vec<u8>> = lookups.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.reads.take(&key, |_| true);
        }
    }

    /// A block has come, or not.
    pub(super) fn on_block(&mut self, block: BlockId, result: Result<FileAnswer, FileFault>) {
        let mut read = self.reads.under_way.remove(&block).expect("a block that comes was wanted");
        let checked = match result {
            Ok(FileAnswer::Read { bytes }) => {
                let checked = read.view.table().block(read.want, &bytes).map(|_| ());
                checked.map(|()| bytes).map_err(|error| self.config.unusable(block.table, error))
            }
            Ok(answer) => unreachable!("a read was answered by {answer:?}"),
            Err(fault) => Err(Error::Read(Arc::new(fault))),
        };
        if matches!(checked, Err(Error::Table { .. })) && !read.is_second {
            read.is_second = true;
            read.op = self.ask_for(block, &read.view, read.want);
            for key in &read.for_keys {
                if let Some(lookup) = self.reads.lookups.get_mut(key) {
                    lookup.state = State::Waits(read.op);
                }
            }
            self.reads.under_way.insert(block, read);
            return;
        }
        if let Ok(bytes) = &checked {
            self.keep(block, bytes);
        }
        for key in read.for_keys {
            // One that was begun anew may wait for another block by now.
            let is_it = |it: &Lookup| matches!(it.state, State::Waits(op) if op == read.op);
            let Some(mut lookup) = self.reads.take(&key, is_it) else { continue };
            match &checked {
                Ok(bytes) => self.go_on(&key, &mut lookup, Some((block, bytes))),
                Err(error) => {
                    lookup.version = None;
                    lookup.state = State::Failed(error.clone());
                }
            }
            match lookup.state {
                State::Found(_) => self.end(key, lookup),
                State::Waits(_) | State::Failed(_) => self.reads.keep(key, lookup),
            }
        }
    }

    /// Goes through the tables until a block has to be read, or all is known.
    fn go_on(&mut self, key: &[u8], lookup: &mut Lookup, come: Option<(BlockId, &[u8])>) {
        let version = lookup.version.take().expect("a lookup that goes on has tables left");
        lookup.state = match self.walk(key, lookup, &version, come) {
            Ok(state) => state,
            Err(error) => State::Failed(error),
        };
        if matches!(lookup.state, State::Waits(_)) {
            lookup.version = Some(version);
        }
    }

    fn walk(
        &mut self,
        key: &[u8],
        lookup: &mut Lookup,
        version: &Version,
        come: Option<(BlockId, &[u8])>,
    ) -> Result<State, Error> {
        let StoredKey { hash64, state_id, .. } = parts_of(key);
        let alive_from_ms = self.life_of(state_id).map(|(_, from)| from);
        let mut base = None;
        'tables: while let Some(placed) = version.tables_of(hash64).get(lookup.table) {
            let table = placed.view.table();
            let unusable = |error| self.config.unusable(placed.id(), error);
            if let Located::Block(want) = placed.view.locate(key).map_err(unusable)? {
                let page = (want.offset / PAGE_BYTES as u64) as u32;
                let block = BlockId { table: placed.id(), page };
                let come = come.filter(|come| come.0 == block).map(|come| come.1);
                let Some(bytes) = come.or_else(|| self.cache.get(block)) else {
                    return Ok(State::Waits(self.read(block, &placed.view, want, key)));
                };
                let unusable = |error| self.config.unusable(placed.id(), error);
                for entry in table.block(want, bytes).map_err(unusable)?.search(key) {
                    if entry.time_ms.zip(alive_from_ms).is_some_and(|(time, from)| time < from) {
                        break 'tables;
                    }
                    match entry.change {
                        Change::Operand(bytes) => lookup.operands.push(bytes.to_vec()),
                        Change::Value(bytes) => {
                            base = Some(bytes.to_vec());
                            break 'tables;
                        }
                        Change::Tombstone => break 'tables,
                    }
                }
            }
            lookup.table += 1;
        }
        for operand in lookup.operands.drain(..).rev() {
            base.get_or_insert_default().extend_from_slice(&operand);
        }
        Ok(State::Found(base))
    }

    /// Lets a block be read for `key`, with those who want it already.
    fn read(&mut self, block: BlockId, view: &View, want: Want, key: &[u8]) -> OpId {
        if let Some(read) = self.reads.under_way.get_mut(&block) {
            read.for_keys.push(key.to_vec());
            return read.op;
        }
        let op = self.ask_for(block, view, want);
        let (view, for_keys) = (view.clone(), vec![key.to_vec()]);
        self.reads.under_way.insert(block, Read { op, view, want, for_keys, is_second: false });
        op
    }

    fn ask_for(&mut self, block: BlockId, view: &View, want: Want) -> OpId {
        let (file, Want { offset, len }) = (view.table().file(), want);
        self.ask(Awaited::Block(block), |op| FileOp::Read { op, file, offset, len })
    }

    /// Keeps a block that was read, in memory that nobody else needs now.
    fn keep(&mut self, block: BlockId, bytes: &[u8]) {
        let chunk_bytes = crate::arena::CHUNK_BYTES;
        let is_small = self.cache.chunk_bytes() < self.config.cache_chunks_max * chunk_bytes;
        if is_small && self.budget.total_bytes() / 4 < self.budget.left_bytes() {
            // There is one: memory is left.
            let _is_grown = self.cache.grow(&mut self.budget).is_ok();
        }
        self.cache.insert(block, bytes);
    }

    /// Takes what tables say of `key` into the write buffer.
    fn take_in(
        &mut self,
        space: SpaceId,
        key: RecordKey<'_>,
        value: Option<&[u8]>,
    ) -> Result<(), Error> {
        match self.buffer.get(space, key) {
            Known::Found(_) | Known::Absent => Ok(()),
            Known::Unknown => {
                self.change(space, key, |buffer, budget| buffer.load(budget, space, key, value))
            }
            Known::Operands => {
                let mut merged = value.unwrap_or_default().to_vec();
                self.buffer.operands(space, key).iter().for_each(|it| merged.extend(*it));
                self.change(space, key, |buffer, budget| buffer.put(budget, space, key, &merged))
            }
        }
    }
}

fn parts_of(stored: &[u8]) -> StoredKey<'_> {
    StoredKey::decode(stored).expect("it was made here")
}
