//! Merging: the entries of many sources in one order, without those that are dead.
//!
//! ```text
//! newest  source 0   a5      c9                     a5 c9 d1 e2 …
//!         source 1   a3  b!      d1      ──step──►  (a3 is hidden by a5, b! hides b4;
//! oldest  source 2       b4      d0 e2               nothing is left for b! to hide)
//! ```
//!
//! Entries of one key come the newest first: by sequence, and of equal ones that of the newer
//! source. Operands let older entries through, up to a value or a tombstone; these hide what is
//! older. What is dropped:
//!
//! - what is hidden;
//! - tombstones, if no older table has their keys ([`Beneath::Nothing`]);
//! - what a state's [`Retention`] gives up: windows that have passed, and keys whose newest entry
//!   has expired. If an older table may have such a key, a tombstone remains of it.
//!
//! Every [`Merge::step`] looks at one entry, so a caller with a budget stops where it likes.
//!
//! Not here: which tables are merged ([`compaction`](crate::compaction)), what operands mean.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use crate::key::StoredKey;
use crate::table::{Change, Cursor, Entry, Error, Want};

/// Entries in the order of their keys, those of one key the newest first.
pub trait Source: fmt::Debug + Send {
    /// What has to be read before there is a next entry.
    fn want(&self) -> Option<Want>;

    /// What was wanted is `bytes`.
    ///
    /// # Errors
    /// If they are not those that were written. What is wanted then may be read once more.
    fn on_read(&mut self, bytes: Vec<u8>) -> Result<(), Error>;

    /// The current entry; `None` while something is wanted, and at the end.
    fn entry(&self) -> Option<Entry<'_>>;

    /// Leaves the current entry.
    ///
    /// # Errors
    /// If what comes next is not what was written. What is wanted then may be read once more.
    fn advance(&mut self) -> Result<(), Error>;
}

impl Source for Cursor {
    fn want(&self) -> Option<Want> {
        self.want()
    }

    fn on_read(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        self.on_read(bytes)
    }

    fn entry(&self) -> Option<Entry<'_>> {
        self.entry()
    }

    fn advance(&mut self) -> Result<(), Error> {
        self.advance()
    }
}

/// Entries in memory, in order.
impl Source for &[Entry<'_>] {
    fn want(&self) -> Option<Want> {
        None
    }

    fn on_read(&mut self, _: Vec<u8>) -> Result<(), Error> {
        unreachable!("what is in memory is not read")
    }

    fn entry(&self) -> Option<Entry<'_>> {
        self.first().copied()
    }

    fn advance(&mut self) -> Result<(), Error> {
        *self = &self[1..];
        Ok(())
    }
}

/// Whether there are tables older than all sources that have keys of their range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beneath {
    /// There are none: what a tombstone hides is among the sources.
    Nothing,
    /// There are, or there may be.
    OlderTables,
}

/// What of a state is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Keys whose newest entry has an earlier time (ms) have expired.
    ///
    /// Only the newest entry of all counts. So for a state with operands this is to be `None`
    /// unless the sources have the newest there is: a newer operand may have prolonged its life.
    pub alive_from_ms: Option<i64>,
    /// Windows that end before this time (ms) have passed.
    pub windows_from_ms: Option<i64>,
}

/// What came of a step.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing can be said before what [`Merge::wants`] names was read.
    Wants,
    /// The next entry.
    Entry(Entry<'a>),
    /// An entry was dropped.
    Dropped,
    /// There are no more.
    Done,
}

/// Merges sources.
#[derive(Debug)]
pub struct Merge<'a> {
    /// The newest first.
    sources: Vec<Box<dyn Source + 'a>>,
    /// The sources that have an entry, in the reverse order of those: the next is the last.
    order: Vec<usize>,
    /// The source whose entry was given out, and is to be left.
    spent: Option<usize>,
    /// The sources that want something.
    waiting: Vec<usize>,
    beneath: Beneath,
    /// By state id.
    retentions: BTreeMap<u16, Retention>,
    /// What is kept of the current key's state.
    retention: Retention,
    /// The current key.
    key: Vec<u8>,
    /// Whether older entries of the current key do not count.
    is_hidden: bool,
}

impl<'a> Merge<'a> {
    /// Merges `sources`, the newest first. States without a retention are kept whole.
    pub fn new(
        sources: Vec<Box<dyn Source + 'a>>,
        beneath: Beneath,
        retentions: BTreeMap<u16, Retention>,
    ) -> Self {
        let mut merge = Self {
            order: Vec::with_capacity(sources.len()),
            waiting: Vec::new(),
            sources,
            spent: None,
            beneath,
            retentions,
            retention: Retention::default(),
            key: Vec::new(),
            is_hidden: false,
        };
        for source in 0..merge.sources.len() {
            merge.place(source);
        }
        merge
    }

    /// What has to be read before the next step, and for which source. All of it may be read at
    /// once.
    pub fn wants(&self) -> impl Iterator<Item = (usize, Want)> {
        self.waiting.iter().filter_map(|source| Some((*source, self.sources[*source].want()?)))
    }

    /// What `source` wanted is `bytes`.
    ///
    /// # Errors
    /// If they are not those that were written. If [`Merge::wants`] still has the source, it may be
    /// read once more; otherwise the merge is at its end.
    ///
    /// # Panics
    /// If it wanted nothing.
    pub fn on_read(&mut self, source: usize, bytes: Vec<u8>) -> Result<(), Error> {
        let at = self.waiting.iter().position(|waiting| *waiting == source);
        self.waiting.swap_remove(at.expect("nothing is read that was not wanted"));
        let read = self.sources[source].on_read(bytes);
        self.place(source);
        read
    }

    /// Looks at the next entry.
    ///
    /// # Errors
    /// If a source is not what was written. If [`Merge::wants`] has it, it may be read once more;
    /// otherwise the merge is at its end.
    pub fn step(&mut self) -> Result<Step<'_>, Error> {
        if let Some(source) = self.spent.take() {
            let advanced = self.sources[source].advance();
            self.place(source);
            advanced?;
        }
        if !self.waiting.is_empty() {
            return Ok(Step::Wants);
        }
        let Some(source) = self.order.pop() else { return Ok(Step::Done) };
        self.spent = Some(source);
        let is_newest = current(self.sources[source].as_ref()).key != self.key;
        if is_newest {
            self.begin_key(source);
        } else if self.is_hidden {
            return Ok(Step::Dropped);
        }
        let mut entry = current(self.sources[source].as_ref());
        let key = parts(entry.key);
        if self.retention.windows_from_ms.is_some_and(|from| key.window_bucket < from) {
            return Ok(Step::Dropped);
        }
        let alive_from = self.retention.alive_from_ms.filter(|_| is_newest);
        if alive_from.is_some_and(|from| entry.time_ms.is_some_and(|time| time < from)) {
            entry.change = Change::Tombstone;
        }
        self.is_hidden = !entry.change.needs_older();
        if entry.change == Change::Tombstone && self.beneath == Beneath::Nothing {
            return Ok(Step::Dropped);
        }
        Ok(Step::Entry(entry))
    }

    /// The entry of `source` is the first of its key.
    fn begin_key(&mut self, source: usize) {
        let entry = current(self.sources[source].as_ref());
        let state_id = parts(entry.key).state_id;
        self.retention = self.retentions.get(&state_id).copied().unwrap_or_default();
        self.key.clear();
        self.key.extend_from_slice(entry.key);
        self.is_hidden = false;
    }

    /// Puts `source` where it belongs by its current entry, or among those that wait.
    fn place(&mut self, source: usize) {
        if self.sources[source].want().is_some() {
            self.waiting.push(source);
            return;
        }
        let Some(entry) = self.sources[source].entry() else { return };
        // Later in `order` is earlier in the output.
        let at = self.order.partition_point(|other| {
            let before = current(self.sources[*other].as_ref());
            let by_age = before.sequence.cmp(&entry.sequence).reverse().then(other.cmp(&source));
            before.key.cmp(entry.key).then(by_age).is_gt()
        });
        self.order.insert(at, source);
    }
}

/// The entry of a source that is in the order.
fn current<'s>(source: &'s (dyn Source + '_)) -> Entry<'s> {
    source.entry().expect("a source in the order has an entry")
}

/// The parts of a stored key that came from a table or a store.
fn parts(key: &[u8]) -> StoredKey<'_> {
    StoredKey::decode(key).expect("the keys of entries are stored keys")
}
