//! When to list files, and what a listing means for one task.
//!
//! A fixed set is listed once, for all tasks together: files may come and grow between two
//! listings. A watched one is listed again an interval after the last answer, so that slow listings
//! do not pile up.
//!
//! ```text
//! Due ──asked──► Listing ──on_listed──► Dealing ──deal, a few files at a time──► Due, or Complete
//! ```
//!
//! A listing may hold a million files, so it is dealt out in pieces that fit into a turn; and what
//! has been read is remembered by a hash, not by its path.

use std::collections::BTreeMap;
use std::vec;

use millstream_storage::io::{FileEntry, OpId, Together};

use super::split::{
    FinishedSplit, Progress, Split, SplitKey, SplitState, Unfit, is_named_by, is_visible, splits_of,
};
use crate::operator::env::TaskPlace;

/// Finds the splits of one task.
#[derive(Debug)]
pub(super) struct Discovery {
    pattern: String,
    /// Bytes of a range; none if files are not cut.
    range_bytes: Option<u64>,
    /// Time between two listings; none for a fixed set.
    interval_ms: Option<i64>,
    place: TaskPlace,
    state: State,
    /// A listing has been dealt out, here or before a restore.
    has_listed: bool,
    /// A fixed set was restored from before all tasks had listed it.
    must_list: bool,
    /// Bytes of the file of every split that is not to be found again.
    known: BTreeMap<SplitKey, u64>,
    /// Splits numbered by this task since `number_base`.
    numbered_count: u32,
    /// Above all numbers given before a restore.
    number_base: u32,
}

#[derive(Debug)]
enum State {
    /// To be listed at this processing time, ms since 1970.
    Due(i64),
    /// A listing is under way.
    Listing(OpId),
    /// A listing is being dealt out.
    Dealing(Dealing),
    /// The fixed set is known.
    Complete,
}

/// A listing that is being dealt out.
#[derive(Debug)]
struct Dealing {
    files: vec::IntoIter<FileEntry>,
    /// Files that were meant.
    file_count: u64,
    /// Splits that nobody has found before.
    split_count: u64,
}

impl Discovery {
    pub(super) fn new(
        pattern: String,
        range_bytes: Option<u64>,
        interval_ms: Option<i64>,
        place: TaskPlace,
    ) -> Self {
        Self {
            pattern,
            range_bytes,
            interval_ms,
            place,
            state: State::Due(i64::MIN),
            has_listed: false,
            must_list: false,
            known: BTreeMap::new(),
            numbered_count: 0,
            number_base: 0,
        }
    }

    /// The pattern to list now, if it is time; it must be followed by [`Discovery::asked`].
    pub(super) fn wish(&self, now_ms: i64) -> Option<&str> {
        matches!(self.state, State::Due(due_ms) if due_ms <= now_ms).then_some(&self.pattern)
    }

    /// Who must find the same files. A watched set changes, and its tasks list when they can.
    pub(super) fn together(&self) -> Option<Together> {
        let group = u64::from(self.place.chain_index);
        let together = Together { group, requester_count: self.place.parallelism };
        (!self.is_watching()).then_some(together)
    }

    /// The listing is under way as `op`.
    pub(super) fn asked(&mut self, op: OpId) {
        self.state = State::Listing(op);
    }

    /// Whether `op` is its listing.
    pub(super) fn is_waiting_for(&self, op: OpId) -> bool {
        matches!(self.state, State::Listing(own) if own == op)
    }

    /// When to ask [`Discovery::wish`] again, ms since 1970.
    pub(super) fn next_ms(&self) -> Option<i64> {
        match self.state {
            State::Due(due_ms) => Some(due_ms),
            State::Listing(_) | State::Dealing(_) | State::Complete => None,
        }
    }

    /// Whether there has been a listing.
    pub(super) fn has_listed(&self) -> bool {
        self.has_listed
    }

    /// Whether nothing may be read before the next listing has been dealt out, because splits may
    /// be among it that come first.
    pub(super) fn must_list(&self) -> bool {
        self.must_list
    }

    /// Whether no more splits will be found.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }

    /// Whether [`Discovery::deal`] has something to do.
    pub(super) fn is_dealing(&self) -> bool {
        matches!(self.state, State::Dealing(_))
    }

    /// Whether the files are listed again and again.
    fn is_watching(&self) -> bool {
        self.interval_ms.is_some()
    }

    /// Takes a listing, to be dealt out.
    pub(super) fn on_listed(&mut self, files: Vec<FileEntry>) {
        let files = files.into_iter();
        self.state = State::Dealing(Dealing { files, file_count: 0, split_count: 0 });
    }

    /// Looks at the next `file_count` files of the listing: the task's new splits among them, in
    /// order, with their numbers.
    pub(super) fn deal(
        &mut self,
        file_count: usize,
        now_ms: i64,
    ) -> Result<Vec<SplitState>, NoSplits> {
        let mut own = Vec::new();
        for _ in 0..file_count {
            let State::Dealing(dealing) = &mut self.state else { break };
            match dealing.files.next() {
                Some(file) => self.deal_file(&file, &mut own)?,
                None => self.end_dealing(now_ms)?,
            }
        }
        Ok(own)
    }

    fn deal_file(&mut self, file: &FileEntry, own: &mut Vec<SplitState>) -> Result<(), NoSplits> {
        if !is_visible(&file.path) && !is_named_by(&file.path, &self.pattern) {
            return Ok(());
        }
        let State::Dealing(dealing) = &mut self.state else { return Ok(()) };
        dealing.file_count += 1;
        for split in splits_of(file, self.range_bytes).map_err(NoSplits::Unfit)? {
            let key = split.key();
            match self.known.get(&key) {
                Some(known_bytes) if *known_bytes < split.size_bytes => {
                    return Err(NoSplits::Grown { path: split.path });
                }
                Some(_) => continue,
                None => {}
            }
            let State::Dealing(dealing) = &mut self.state else { return Ok(()) };
            let ordinal = dealing.split_count;
            dealing.split_count += 1;
            if self.is_own(&split, ordinal) {
                self.known.insert(key, split.size_bytes);
                let number = self.next_number();
                self.numbered_count += 1;
                own.push(SplitState { split, number, progress: Progress::Waiting });
            }
        }
        Ok(())
    }

    fn end_dealing(&mut self, now_ms: i64) -> Result<(), NoSplits> {
        let State::Dealing(dealing) = &self.state else { return Ok(()) };
        let has_files = dealing.file_count > 0;
        self.has_listed = true;
        self.must_list = false;
        self.state = match self.interval_ms {
            Some(interval_ms) => State::Due(now_ms.saturating_add(interval_ms)),
            None => State::Complete,
        };
        if has_files || self.is_watching() { Ok(()) } else { Err(NoSplits::NoFile) }
    }

    /// Whether a split is this task's; it is the `ordinal`th of those that are dealt out.
    fn is_own(&self, split: &Split, ordinal: u64) -> bool {
        let task_index = match self.interval_ms {
            Some(_) => split.key().task_index(self.place.parallelism),
            None => (ordinal % u64::from(self.place.parallelism)) as u32,
        };
        task_index == self.place.task_index
    }

    /// The number of the next split that this task finds. No other task gives the same number.
    pub(super) fn next_number(&self) -> u32 {
        self.number_base + self.numbered_count * self.place.parallelism + self.place.task_index
    }

    /// Takes the splits of a snapshot, of all tasks, those that had been read apart: those that are
    /// this task's now, in order. All numbers given before are below `number_base`; `is_complete`
    /// says that every task had listed its files.
    pub(super) fn restore(
        &mut self,
        mut states: Vec<SplitState>,
        finished: &[FinishedSplit],
        number_base: u32,
        is_complete: bool,
    ) -> Vec<SplitState> {
        states.sort_by(|a, b| a.split.cmp(&b.split));
        self.number_base = number_base;
        if is_complete && !self.is_watching() {
            self.state = State::Complete;
            self.has_listed = true;
        } else {
            // Of a fixed set that is listed anew, every task must leave out the same splits: those
            // that have begun. The others are found again, in order with those that nobody knew.
            self.must_list = !self.is_watching();
            states.retain(|state| self.is_watching() || state.progress != Progress::Waiting);
            let begun = states.iter().map(|state| (state.split.key(), state.split.size_bytes));
            let finished = finished.iter().map(|split| (split.key, split.size_bytes));
            self.known = begun.chain(finished).collect();
        }
        let states = (0..).zip(states);
        let own = states.filter(|(ordinal, state)| self.is_own(&state.split, *ordinal));
        own.map(|(_, state)| state).collect()
    }
}

/// Why a listing gives no splits.
#[derive(Debug)]
pub(super) enum NoSplits {
    /// The pattern names no file.
    NoFile,
    /// A name is not text.
    Unfit(Unfit),
    /// A file is larger than when it was found.
    Grown { path: String },
}
