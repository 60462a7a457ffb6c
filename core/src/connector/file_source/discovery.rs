//! When to list files, and what a listing means for one task.
//!
//! A fixed set is listed once, for all tasks together: files may come and grow between two
//! listings. A watched one is listed again an interval after the last answer, so that slow listings
//! do not pile up.

use std::collections::BTreeSet;

use millstream_storage::io::{FileEntry, OpId, Together};

use super::split::{
    Progress, Split, SplitState, Unfit, is_named_by, is_visible, splits_of, task_by_hash,
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
    chain_index: u16,
    task_index: u32,
    parallelism: u32,
    state: State,
    /// A listing has been answered, here or before a restore.
    has_listed: bool,
    /// Path and range of the splits that have been found, so that none is found twice.
    known: BTreeSet<(String, u32)>,
    /// Splits numbered by this task since `number_base`.
    numbered_count: u32,
    /// Above all numbers given before a restore.
    number_base: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be listed at this processing time, ms since 1970.
    Due(i64),
    /// A listing is under way.
    Listing(OpId),
    /// The fixed set is known.
    Complete,
}

impl Discovery {
    pub(super) fn new(
        pattern: String,
        range_bytes: Option<u64>,
        interval_ms: Option<i64>,
        task: TaskPlace,
    ) -> Self {
        Self {
            pattern,
            range_bytes,
            interval_ms,
            chain_index: task.chain_index,
            task_index: task.task_index,
            parallelism: task.parallelism,
            state: State::Due(i64::MIN),
            has_listed: false,
            known: BTreeSet::new(),
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
        let group = u64::from(self.chain_index);
        let together = Together { group, requester_count: self.parallelism };
        (!self.is_watching()).then_some(together)
    }

    /// The listing is under way as `op`.
    pub(super) fn asked(&mut self, op: OpId) {
        self.state = State::Listing(op);
    }

    /// Whether `op` is its listing.
    pub(super) fn is_waiting_for(&self, op: OpId) -> bool {
        self.state == State::Listing(op)
    }

    /// When to ask [`Discovery::wish`] again, ms since 1970.
    pub(super) fn next_ms(&self) -> Option<i64> {
        match self.state {
            State::Due(due_ms) => Some(due_ms),
            State::Listing(_) | State::Complete => None,
        }
    }

    /// Whether there has been a listing.
    pub(super) fn has_listed(&self) -> bool {
        self.has_listed
    }

    /// Whether no more splits will be found.
    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Whether the files are listed again and again.
    pub(super) fn is_watching(&self) -> bool {
        self.interval_ms.is_some()
    }

    /// Takes a listing: the task's new splits, in order, with their numbers.
    pub(super) fn on_listed(
        &mut self,
        mut files: Vec<FileEntry>,
        now_ms: i64,
    ) -> Result<Vec<SplitState>, NoSplits> {
        self.state = match self.interval_ms {
            Some(interval_ms) => State::Due(now_ms.saturating_add(interval_ms)),
            None => State::Complete,
        };
        self.has_listed = true;
        files.retain(|file| is_visible(&file.path) || is_named_by(&file.path, &self.pattern));
        if files.is_empty() && !self.is_watching() {
            return Err(NoSplits::NoFile);
        }
        let mut splits = splits_of(&files, self.range_bytes).map_err(NoSplits::Unfit)?;
        splits.retain(|split| !self.known.contains(&key_of(split)));
        let own = self.own(splits, |split| split);
        self.known.extend(own.iter().map(key_of));
        let number = |split| {
            let number = self.next_number();
            self.numbered_count += 1;
            SplitState { split, number, progress: Progress::Waiting }
        };
        Ok(own.into_iter().map(number).collect())
    }

    /// Those of `items`, which are in order of their splits, that are this task's.
    fn own<T>(&self, items: Vec<T>, split_of: impl Fn(&T) -> &Split) -> Vec<T> {
        let task_of = |ordinal: usize, item: &T| match self.interval_ms {
            Some(_) => task_by_hash(split_of(item), self.parallelism),
            None => (ordinal as u64 % u64::from(self.parallelism)) as u32,
        };
        let items = items.into_iter().enumerate();
        let own = items.filter(|(ordinal, item)| task_of(*ordinal, item) == self.task_index);
        own.map(|(_, item)| item).collect()
    }

    /// The number of the next split that this task finds. No other task gives the same number.
    pub(super) fn next_number(&self) -> u32 {
        self.number_base + self.numbered_count * self.parallelism + self.task_index
    }

    /// Takes the splits of a snapshot, of all tasks: those that are this task's now, in order.
    /// `is_complete` says that every task had listed its files.
    pub(super) fn restore(
        &mut self,
        mut states: Vec<SplitState>,
        is_complete: bool,
    ) -> Vec<SplitState> {
        states.sort_by(|a, b| a.split.cmp(&b.split));
        self.number_base = states.iter().map(|state| state.number + 1).max().unwrap_or(0);
        self.known = states.iter().map(|state| key_of(&state.split)).collect();
        if is_complete && !self.is_watching() {
            self.state = State::Complete;
            self.has_listed = true;
        }
        self.own(states, |state| &state.split)
    }
}

fn key_of(split: &Split) -> (String, u32) {
    (split.path.clone(), split.range)
}

/// Why a listing gives no splits.
#[derive(Debug)]
pub(super) enum NoSplits {
    /// The pattern names no file.
    NoFile,
    /// A name is not text.
    Unfit(Unfit),
}
