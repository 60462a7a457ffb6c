//! Scans: everything of a space in some key groups, or under one key, in the order of stored keys.
//!
//! ```text
//! key group   write buffer: its keys ──┐
//!             tables of a version ─────┴─► the smaller ─► value ─► Scanned::Entry
//! ```
//!
//! A [`Scan`] is a value of its own: it borrows nothing, and whoever drops it has ended it. It
//! takes one key group after the other. When it comes to one, it takes down the keys that the
//! write buffer has of it and holds the tables that there are: that is the group's *moment*. From
//! then on both are read in order, as [`Store::scan_next`] is called.
//!
//! # What is seen
//!
//! Whatever is changed, flushed, merged or evicted meanwhile:
//!
//! - Every key is seen once at most, and keys ascend.
//! - A key that does not change while the scan is under way is seen with its value, or not at all
//!   if it has none.
//! - A key that changes is seen with a value that it had at its group's moment or later, or not, if
//!   it had none at some such time.
//!
//! Tombstones, what is hidden, and what has expired are not seen; operands are joined.
//!
//! Why: a key that the write buffer did not have at the moment is in the tables that are held. One
//! that it had is asked for when its turn comes. If it is not there any more, or has operands
//! without what they are appended to, the tables that are held have the rest. But if a delta was
//! installed since the moment, or the write buffer was complete then and no tables are held, it is
//! looked up as any other.
//!
//! # Memory
//!
//! Beside the budget: the keys that the write buffer has of one key group, with 24 bytes for each,
//! which are taken down in one go; blocks of [`TABLES_BYTES`] of all tables together, or one block
//! of each if that is more; two entries.
//!
//! # What fails
//!
//! A block that cannot be read is asked for again when the scan goes on. One that is not what was
//! written is read once more; then the scan is at its end, and says so whenever it is asked.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter;
use std::ops::Range;
use std::sync::{Arc, Weak};

use super::inputs::{Inputs, Refused};
use super::{Awaited, Error, Got, Store};
use crate::io::{FileAnswer, FileFault, OpId};
use crate::merge::{Beneath, Merge, Retention, Step};
use crate::table::KeyRange;
use crate::write_buffer::{KeyList, Lookup, RecordKey, SpaceId};

/// What the tables of a scan read at once, all together.
pub(super) const TABLES_BYTES: usize = 1 << 20;

/// Most entries that one call looks at.
const STEPS_MAX: usize = 256;

/// Values begin at multiples of this.
const ALIGNMENT_BYTES: usize = 16;

/// Bytes of key group, state id and window bucket in a stored key.
const SECTION_BYTES: usize = 12;

/// How far a scan is; see the head of the file.
#[derive(Debug)]
pub struct Scan {
    space: SpaceId,
    /// Its state id and window bucket.
    name: (u16, i64),
    /// Those that it has not come to.
    key_groups: Range<u32>,
    /// What follows the section in the stored keys of all that it sees.
    prefix: Vec<u8>,
    group: Option<Group>,
    /// The stored key of the last entry.
    key: Vec<u8>,
    value: AlignedBytes,
    failure: Option<Error>,
    /// As long as this is held, somebody wants the answers.
    life: Arc<()>,
}

/// A key group that is being scanned.
#[derive(Debug)]
struct Group {
    /// Key group, state id and window bucket: what its stored keys begin with.
    section: Vec<u8>,
    /// What the write buffer had at the moment.
    keys: KeyList,
    next_key: usize,
    /// `None` once they are at their end, or if the write buffer had all that they have.
    tables: Option<Tables>,
    /// Deltas that were installed at the moment; `None` if tables were not needed then.
    installed_count: Option<u64>,
}

/// What tables have of a key group.
#[derive(Debug)]
struct Tables {
    inputs: Inputs,
    merge: Merge<'static>,
    /// The next entry, once it is known that it is all of it.
    current: Joined,
    /// What is known of the one behind it.
    following: Joined,
}

/// The entries of a key.
#[derive(Debug, Default)]
struct Joined {
    /// Empty if there are none.
    key: Vec<u8>,
    /// The newest first, one behind the other, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// What came of going on with a scan.
#[derive(Debug, PartialEq, Eq)]
pub enum Scanned<'a> {
    /// The next entry.
    Entry {
        /// Its whole stored key.
        key: &'a [u8],
        /// Its value. It begins at a multiple of 16.
        value: &'a [u8],
    },
    /// Ask again when [`Store::on_done`] was given the answer to this operation.
    Wait(OpId),
    /// There was much to look at and nothing to be seen: ask again.
    Slice,
    /// There are no more.
    Done,
}

/// What scans have asked for: who, and the answer.
#[derive(Debug, Default)]
pub(super) struct ScanReads(BTreeMap<OpId, (Weak<()>, Option<Answer>)>);

type Answer = Result<FileAnswer, FileFault>;

/// Where the next entry is.
enum Next {
    Wait(OpId),
    /// In the scan.
    Found,
    /// It was not to be seen, or is not known yet.
    Skipped,
    GroupEnd,
}

/// What tables have at this place.
enum InTables {
    Wait(OpId),
    /// There is more to look at.
    Skipped,
    Known,
    End,
}

impl Store {
    /// Begins to scan all entries of `space` in `key_groups`.
    ///
    /// # Panics
    /// If the space is not open, or a key group is not the shard's.
    pub fn scan(&self, space: SpaceId, key_groups: Range<u32>) -> Scan {
        let all = &self.config.key_groups;
        let is_within = all.start <= key_groups.start && key_groups.end <= all.end;
        assert!(key_groups.is_empty() || is_within, "{key_groups:?} are not all of this shard");
        self.scan_of(space, key_groups, Vec::new())
    }

    /// Begins to scan what `space` has of one key: all entries of that hash whose
    /// [bytes](RecordKey::bytes) begin with `prefix`. With the key and its namespace, both with
    /// their lengths, these are the entries of a map. It looks at all keys that the write buffer
    /// has of the key group.
    ///
    /// # Panics
    /// If the space is not open, or the hash is another shard's.
    pub fn scan_key(&self, space: SpaceId, hash64: u64, prefix: &[u8]) -> Scan {
        let product = u128::from(hash64) * u128::from(self.config.key_group_count);
        let key_group = (product >> 64) as u32;
        assert!(self.config.key_groups.contains(&key_group), "{hash64:#x} is another shard's");
        let prefix = [&hash64.to_be_bytes(), prefix].concat();
        self.scan_of(space, key_group..key_group + 1, prefix)
    }

    fn scan_of(&self, space: SpaceId, key_groups: Range<u32>, prefix: Vec<u8>) -> Scan {
        let name = self.spaces[&space];
        Scan {
            space,
            name,
            key_groups,
            prefix,
            group: None,
            key: Vec::new(),
            value: AlignedBytes::default(),
            failure: None,
            life: Arc::new(()),
        }
    }

    /// The next entry of a scan, or what to wait for. Looks at some hundred entries at most, but
    /// for the keys of a key group that it comes to.
    ///
    /// # Errors
    /// If the store has failed; as [`Store::get`] does, and then it may be asked again; if a table
    /// is not what was written, and then the scan is over.
    ///
    /// # Panics
    /// If the space is not open any more.
    pub fn scan_next<'a>(&mut self, scan: &'a mut Scan) -> Result<Scanned<'a>, Error> {
        self.check()?;
        assert_eq!(self.spaces.get(&scan.space), Some(&scan.name), "the space is open");
        if let Some(op) = self.awaited_to_open() {
            return Ok(Scanned::Wait(op));
        }
        for _ in 0..STEPS_MAX {
            if let Some(error) = &scan.failure {
                return Err(error.clone());
            }
            let Some(mut group) = scan.group.take() else {
                let Some(key_group) = scan.key_groups.next() else { return Ok(Scanned::Done) };
                self.begin_group(scan, key_group);
                continue;
            };
            let next = self.next_of(scan, &mut group);
            if let Err(error @ Error::Table { .. }) = &next {
                scan.failure = Some(error.clone());
            }
            if !matches!(next, Ok(Next::GroupEnd)) {
                scan.group = Some(group);
            }
            match next? {
                Next::Wait(op) => return Ok(Scanned::Wait(op)),
                Next::Found => {
                    let (key, value) = (&scan.key, scan.value.get());
                    return Ok(Scanned::Entry { key, value });
                }
                Next::Skipped | Next::GroupEnd => {}
            }
        }
        Ok(Scanned::Slice)
    }

    /// The moment of a key group.
    fn begin_group(&mut self, scan: &mut Scan, key_group: u32) {
        let (state_id, window_bucket) = scan.name;
        let mut section = Vec::with_capacity(SECTION_BYTES);
        section.extend_from_slice(&(key_group as u16).to_be_bytes());
        section.extend_from_slice(&state_id.to_be_bytes());
        section.extend_from_slice(&(window_bucket as u64 ^ 1 << 63).to_be_bytes());
        let tables = if self.buffer.is_complete(scan.space, key_group) {
            Ok(None)
        } else {
            self.tables_of(scan, key_group, &section).map(Some)
        };
        match tables {
            Ok(tables) => {
                let keys = self.buffer.keys(scan.space, key_group, &scan.prefix);
                let installed_count = tables.is_some().then_some(self.installed_count);
                scan.group = Some(Group { section, keys, next_key: 0, tables, installed_count });
            }
            Err((table, error)) => scan.failure = Some(self.config.unusable(table, error)),
        }
    }

    fn tables_of(&self, scan: &Scan, key_group: u32, section: &[u8]) -> Result<Tables, Refused> {
        let first = u128::from(key_group) << 64;
        let first_hash = first.div_ceil(u128::from(self.config.key_group_count)) as u64;
        let tables = self.versions.newest().tables_of(first_hash).iter();
        let inputs = Inputs::new(tables.map(|table| table.view.clone()).collect());
        let range = KeyRange::prefix(&[section, &scan.prefix].concat());
        let sources = inputs.sources(&range, TABLES_BYTES)?;
        let (state_id, _) = scan.name;
        let alive_from_ms = self.life_of(state_id).map(|(_, from)| from);
        let retention = Retention { alive_from_ms, windows_from_ms: None };
        let retentions = BTreeMap::from([(state_id, retention)]);
        let merge = Merge::new(sources, Beneath::Nothing, retentions);
        Ok(Tables { inputs, merge, current: Joined::default(), following: Joined::default() })
    }

    /// Goes to the next entry of a key group. If it is to be seen, it is then in `scan`.
    fn next_of(&mut self, scan: &mut Scan, group: &mut Group) -> Result<Next, Error> {
        match self.read_tables(&scan.life, group)? {
            InTables::Wait(op) => return Ok(Next::Wait(op)),
            InTables::Skipped => return Ok(Next::Skipped),
            InTables::Known => {}
            InTables::End => group.tables = None,
        }
        let in_tables = group.tables.as_mut().map(|tables| &mut tables.current);
        let Some(key) = group.keys.get(group.next_key) else {
            let Some(current) = in_tables else { return Ok(Next::GroupEnd) };
            scan.take(current, &[]);
            return Ok(Next::Found);
        };
        let order = in_tables.as_ref().map(|current| current.cmp_key(key));
        if order == Some(Ordering::Less) {
            scan.take(in_tables.expect("they have a key"), &[]);
            return Ok(Next::Found);
        }
        let mut nothing = Joined::default();
        let current = in_tables.filter(|_| order == Some(Ordering::Equal)).unwrap_or(&mut nothing);
        let are_all_held = group.installed_count == Some(self.installed_count);
        let is_found = match self.buffer.peek(scan.space, key) {
            Lookup::Absent => false,
            Lookup::Found(value) => {
                let life = self.life_of(scan.name.0);
                let is_alive = life.is_none_or(|(time_of, from)| from <= time_of(value));
                scan.value.set(iter::once(value));
                is_alive
            }
            Lookup::Unknown | Lookup::Operands if are_all_held => {
                let operands = self.buffer.operands(scan.space, key);
                let is_there = !current.is_empty() || !operands.is_empty();
                scan.take(current, &operands);
                is_there
            }
            Lookup::Unknown | Lookup::Operands => match self.get(scan.space, key)? {
                Got::Wait(op) => return Ok(Next::Wait(op)),
                Got::Ready(value) => {
                    scan.value.set(value.into_iter());
                    value.is_some()
                }
            },
        };
        current.clear();
        scan.set_key(&group.section, key);
        group.next_key += 1;
        Ok(if is_found { Next::Found } else { Next::Skipped })
    }

    /// Reads of the tables of a key group, until it is known what they have next.
    fn read_tables(&mut self, life: &Arc<()>, group: &mut Group) -> Result<InTables, Error> {
        let Some(Tables { inputs, merge, current, following }) = &mut group.tables else {
            return Ok(InTables::End);
        };
        if !current.is_empty() {
            return Ok(InTables::Known);
        }
        for (op, answer) in self.scan_reads.take(inputs.reads()) {
            let source = inputs.on_answer(op).expect("it was asked for an input");
            let bytes = match answer {
                Ok(FileAnswer::Read { bytes }) => bytes,
                Ok(answer) => unreachable!("a read was answered by {answer:?}"),
                Err(fault) => return Err(Error::Read(Arc::new(fault))),
            };
            if let Err(error) = merge.on_read(source, bytes) {
                let again = inputs.read_again(merge, error);
                again.map_err(|(table, error)| self.config.unusable(table, error))?;
            }
        }
        if let Some(op) = inputs.first_read() {
            return Ok(InTables::Wait(op));
        }
        match merge.step() {
            Ok(Step::Dropped) => return Ok(InTables::Skipped),
            Ok(Step::Entry(entry)) => {
                if following.key != entry.key {
                    std::mem::swap(current, following);
                    following.clear();
                    following.key.extend_from_slice(entry.key);
                }
                following.push(entry.change.bytes());
                let is_known = !current.is_empty();
                return Ok(if is_known { InTables::Known } else { InTables::Skipped });
            }
            Ok(Step::Done) => {
                std::mem::swap(current, following);
                let is_known = !current.is_empty();
                return Ok(if is_known { InTables::Known } else { InTables::End });
            }
            Ok(Step::Wants) => {}
            Err(error) => {
                let again = inputs.read_again(merge, error);
                again.map_err(|(table, error)| self.config.unusable(table, error))?;
            }
        }
        self.ask_for_inputs(inputs, merge, Awaited::Scan);
        self.scan_reads.expect(inputs.reads(), life);
        Ok(InTables::Wait(inputs.first_read().expect("what wants something was asked for it")))
    }

    /// A read of a scan is answered.
    pub(super) fn on_scan_read(&mut self, op: OpId, answer: Answer) {
        self.scan_reads.on_answer(op, answer);
    }
}

impl Scan {
    /// The next entry is what `joined` has, with `operands` behind it, the oldest first.
    fn take(&mut self, joined: &mut Joined, operands: &[&[u8]]) {
        self.key.clone_from(&joined.key);
        self.value.set(joined.parts().chain(operands.iter().copied()));
        joined.clear();
    }

    fn set_key(&mut self, section: &[u8], key: RecordKey<'_>) {
        self.key.clear();
        self.key.extend_from_slice(section);
        self.key.extend_from_slice(&key.hash64.to_be_bytes());
        self.key.extend_from_slice(key.bytes);
    }
}

impl Joined {
    fn is_empty(&self) -> bool {
        self.key.is_empty()
    }

    fn clear(&mut self) {
        self.key.clear();
        self.bytes.clear();
        self.ends.clear();
    }

    /// Adds what is older.
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    /// The oldest first.
    fn parts(&self) -> impl Iterator<Item = &[u8]> + Clone {
        (0..self.ends.len()).rev().map(|index| {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[start..self.ends[index]]
        })
    }

    /// Where its key is, as seen from that of a record of the same section.
    fn cmp_key(&self, key: RecordKey<'_>) -> Ordering {
        let (hash, bytes) = self.key[SECTION_BYTES..].split_at(size_of::<u64>());
        hash.cmp(&key.hash64.to_be_bytes()).then_with(|| bytes.cmp(key.bytes))
    }
}

impl ScanReads {
    /// Whoever holds `life` wants the answers to `ops`.
    fn expect(&mut self, ops: impl Iterator<Item = OpId>, life: &Arc<()>) {
        self.0.extend(ops.map(|op| (op, (Arc::downgrade(life), None))));
    }

    /// Keeps an answer for whoever wants it.
    fn on_answer(&mut self, op: OpId, answer: Answer) {
        if let Some(read) = self.0.get_mut(&op) {
            read.1 = Some(answer);
        }
        self.0.retain(|_, (life, _)| 0 < life.strong_count());
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of `ops` that are answered.
    fn take(&mut self, ops: impl Iterator<Item = OpId>) -> Vec<(OpId, Answer)> {
        let is_answered = |op: &OpId| matches!(self.0.get(op), Some((_, Some(_))));
        let ops: Vec<OpId> = ops.filter(is_answered).collect();
        let take = |op: OpId| Some((op, self.0.remove(&op)?.1?));
        ops.into_iter().filter_map(take).collect()
    }
}

/// Bytes that begin at a multiple of [`ALIGNMENT_BYTES`].
#[derive(Debug, Default)]
struct AlignedBytes {
    bytes: Vec<u8>,
    start: usize,
}

impl AlignedBytes {
    /// Lets them be `parts`, one behind the other.
    fn set<'p>(&mut self, parts: impl Iterator<Item = &'p [u8]> + Clone) {
        let len: usize = parts.clone().map(<[u8]>::len).sum();
        self.bytes.clear();
        self.bytes.reserve(len + ALIGNMENT_BYTES);
        self.start = self.bytes.as_ptr().align_offset(ALIGNMENT_BYTES);
        self.bytes.resize(self.start, 0);
        parts.for_each(|part| self.bytes.extend_from_slice(part));
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}
