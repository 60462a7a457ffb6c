//! The slices of one key, kept so that the next window's sum costs one merge, however many slices
//! it has.
//!
//! ```text
//! slices, oldest first:  │ front: sums from here │ back: as they came │ open: in no window   │
//!                        │ to the front's end    │ and their sum      │ that has fired yet   │
//!                        └──── one window: sum at its first slice + sum of the back ──┘
//! ```
//!
//! A window fires: slices that it ends join the back (one merge), slices before its start leave the
//! front. When the front is empty and the back's oldest must go, the back becomes the front: its
//! sums are built from the newest to the oldest (one merge each). The window's value is the sum at
//! the first slice plus the sum of the back (one merge). So each slice costs two merges in its life
//! and each window one, however long it is: two stacks, back to back.
//!
//! *Stragglers* are records behind the watermark whose slice is in the front, where nothing can be
//! added to one slice. They are slices of their own, newest first, with sums like the front's.
//! There are few: those of the front's slices only, and all gone when it is empty.
//!
//! With allowed lateness the slices of windows that may still fire again are kept a second time, as
//! they came: the *history*.
//!
//! Invariant: `entries` is ascending by slice, its first `front_count` are sums, `newest` comes
//! after them, and no straggler is newer than the front.

use std::collections::VecDeque;

use millstream_storage::prefetch::prefetch;

use crate::operator::window::aggregate::WindowAggregate;
use crate::time::slices::Slices;

/// No window of the key is due.
pub(super) const NEVER_MS: i64 = i64::MAX;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Panes<A> {
    /// The newest slice of which no window has fired, beside the entries: nearly every record is
    /// added to it, and finds it without going through a pointer.
    pub(super) newest: Option<Pane<A>>,
    pub(super) entries: VecDeque<Pane<A>>,
    pub(super) front_count: u32,
    pub(super) back_count: u32,
    /// The sum of the back, if that is more than one slice.
    pub(super) back_sum: Option<A>,
    /// What only records behind the watermark and allowed lateness need: beside the rest, so that
    /// a key's panes stay within two cache lines.
    odd: Option<Box<Odd<A>>>,
    /// End (ms) of the next window that fires; [`NEVER_MS`] if none would have anything in it.
    pub(super) fire_end_ms: i64,
    /// The time (ms) under which the key is in the agenda; [`NEVER_MS`] if it is not.
    pub(super) due_ms: i64,
}

/// See [`Panes::odd`].
#[derive(Debug, Clone)]
struct Odd<A> {
    /// Newest first.
    stragglers: Vec<Pane<A>>,
    /// `straggler_sums[i]` is the sum of `stragglers[..=i]`; the last ones may be missing.
    straggler_sums: Vec<A>,
    /// Ascending by slice; empty without allowed lateness.
    history: VecDeque<Pane<A>>,
}

impl<A> Default for Odd<A> {
    fn default() -> Self {
        Self { stragglers: Vec::new(), straggler_sums: Vec::new(), history: VecDeque::new() }
    }
}

/// One slice, or the sum of several that begin with it.
#[derive(Debug, Clone)]
pub(super) struct Pane<A> {
    pub(super) slice: i64,
    pub(super) sum: A,
}

impl<A> Default for Panes<A> {
    fn default() -> Self {
        Self {
            newest: None,
            entries: VecDeque::new(),
            front_count: 0,
            back_count: 0,
            back_sum: None,
            odd: None,
            fire_end_ms: NEVER_MS,
            due_ms: NEVER_MS,
        }
    }
}

impl<A: Clone> Panes<A> {
    /// How many entries are the front.
    #[inline]
    pub(super) fn front_len(&self) -> usize {
        self.front_count as usize
    }

    /// How many entries behind that are the back.
    #[inline]
    pub(super) fn back_len(&self) -> usize {
        self.back_count as usize
    }

    /// Asks for the ends of the entries: where [`Panes::fire`] takes away and appends.
    #[inline]
    pub(super) fn prefetch(&self) {
        for pane in self.entries.front().into_iter().chain(self.entries.back()) {
            prefetch(pane);
        }
    }

    /// Adds a value to a slice of which no window has fired.
    #[inline]
    pub(super) fn add_open<G>(&mut self, slice: i64, value: G::In, aggregate: &G)
    where
        G: WindowAggregate<Accumulator = A>,
    {
        if let Some(newest) = &mut self.newest
            && newest.slice == slice
        {
            aggregate.add(&mut newest.sum, value);
            return;
        }
        self.add_other_open(slice, value, aggregate);
    }

    /// [`Panes::add_open`] for a slice that is not the newest so far.
    fn add_other_open<G>(&mut self, slice: i64, value: G::In, aggregate: &G)
    where
        G: WindowAggregate<Accumulator = A>,
    {
        let closed_len = self.front_len() + self.back_len();
        let has_open = closed_len < self.entries.len();
        let last = self.newest.as_ref().or(self.entries.back().filter(|_| has_open));
        if last.is_none_or(|last| last.slice < slice) {
            let mut sum = aggregate.create();
            aggregate.add(&mut sum, value);
            if let Some(before) = self.newest.replace(Pane { slice, sum }) {
                self.entries.push_back(before);
            }
            return;
        }
        let index = position(&self.entries, slice, closed_len..self.entries.len());
        match self.entries.get_mut(index) {
            Some(pane) if pane.slice == slice => aggregate.add(&mut pane.sum, value),
            _ => {
                let mut sum = aggregate.create();
                aggregate.add(&mut sum, value);
                self.entries.insert(index, Pane { slice, sum });
            }
        }
    }

    /// Adds a value to a slice that ended before: windows have fired that it is part of, or could
    /// have been. `next_first` is the first slice of the next window to fire.
    pub(super) fn add_closed<G>(
        &mut self,
        slice: i64,
        value: G::In,
        next_first: i64,
        keeps_history: bool,
        aggregate: &G,
    ) where
        G: WindowAggregate<Accumulator = A>,
    {
        let mut sum = aggregate.create();
        aggregate.add(&mut sum, value);
        if keeps_history {
            let history = self.history_mut();
            let index = position(history, slice, 0..history.len());
            match history.get_mut(index) {
                Some(pane) if pane.slice == slice => aggregate.merge(&mut pane.sum, sum.clone()),
                _ => history.insert(index, Pane { slice, sum: sum.clone() }),
            }
        }
        if slice < next_first {
            return;
        }
        let is_in_front = self.front_len() > 0 && slice <= self.entries[self.front_len() - 1].slice;
        if is_in_front {
            self.odd.get_or_insert_default().add_straggler(Pane { slice, sum }, aggregate);
            return;
        }
        let closed_len = self.front_len() + self.back_len();
        let index = position(&self.entries, slice, self.front_len()..closed_len);
        match self.entries.get_mut(index) {
            Some(pane) if index < closed_len && pane.slice == slice => {
                if let Some(back) = &mut self.back_sum {
                    aggregate.merge(back, sum.clone());
                }
                aggregate.merge(&mut pane.sum, sum);
            }
            _ => {
                if self.back_len() > 0 {
                    self.add_to_back(sum.clone(), aggregate);
                }
                self.entries.insert(index, Pane { slice, sum });
                self.back_count += 1;
            }
        }
    }

    /// Brings the key to the window of the slices from `first` up to, not including, `behind`;
    /// answers the window's result, unless it is empty, and how many merges that took.
    #[inline]
    pub(super) fn fire<G>(
        &mut self,
        first: i64,
        behind: i64,
        keeps_history: bool,
        aggregate: &G,
    ) -> (Option<G::Out>, usize)
    where
        G: WindowAggregate<Accumulator = A>,
    {
        self.close(behind, keeps_history, aggregate);
        let moved_len = self.evict(first, aggregate);
        let (front_len, back_len) = (self.front_len(), self.back_len());
        let front = (front_len > 0).then(|| &self.entries[0].sum);
        let stragglers = self.odd.as_mut().and_then(|odd| odd.sum_stragglers(aggregate));
        let back = match back_len {
            0 => None,
            1 => Some(&self.entries[front_len].sum),
            _ => self.back_sum.as_ref(),
        };
        let result = match (front, stragglers, back) {
            (None, None, None) => None,
            // Nearly all windows of keys with few records: nothing is copied.
            (Some(only), None, None) | (None, Some(only), None) | (None, None, Some(only)) => {
                Some(aggregate.result(only))
            }
            (first, second, third) => {
                let mut sum = first.cloned();
                for part in [second, third].into_iter().flatten() {
                    add_to(&mut sum, part.clone(), aggregate);
                }
                sum.map(|sum| aggregate.result(&sum))
            }
        };
        (result, moved_len)
    }

    /// Drops slices before `first` from front and back, turning the back into the front where it
    /// must; answers how many slices that moved.
    #[inline]
    pub(super) fn evict<G>(&mut self, first: i64, aggregate: &G) -> usize
    where
        G: WindowAggregate<Accumulator = A>,
    {
        if let Some(odd) = &mut self.odd {
            odd.drop_stragglers_before(first);
        }
        self.pop_front_before(first);
        if self.front_len() > 0 || self.back_len() == 0 || first <= self.entries[0].slice {
            return 0;
        }
        self.turn_back_into_front(first, aggregate)
    }

    /// The front is empty and the back's oldest slices must go: what stays of the back becomes the
    /// front.
    #[cold]
    fn turn_back_into_front<G>(&mut self, first: i64, aggregate: &G) -> usize
    where
        G: WindowAggregate<Accumulator = A>,
    {
        self.back_sum = None;
        if self.entries[self.back_len() - 1].slice < first {
            self.entries.drain(..self.back_len());
            self.back_count = 0;
            return 0;
        }
        let gone_len = position(&self.entries, first, 0..self.back_len());
        self.entries.drain(..gone_len);
        self.front_count = self.back_count - gone_len as u32;
        self.back_count = 0;
        for index in (1..self.front_len()).rev() {
            let newer = self.entries[index].sum.clone();
            aggregate.merge(&mut self.entries[index - 1].sum, newer);
        }
        self.front_len()
    }

    /// Slices that may still fire again, ascending.
    pub(super) fn history(&self) -> impl DoubleEndedIterator<Item = &Pane<A>> {
        self.odd.iter().flat_map(|odd| &odd.history)
    }

    /// [`Panes::history`], to be changed.
    pub(super) fn history_mut(&mut self) -> &mut VecDeque<Pane<A>> {
        &mut self.odd.get_or_insert_default().history
    }

    /// Slices that are not in the front although they are not newer than it, newest first.
    pub(super) fn stragglers(&self) -> impl DoubleEndedIterator<Item = &Pane<A>> {
        self.odd.iter().flat_map(|odd| &odd.stragglers)
    }

    /// Puts back a straggler that is newer than all others.
    pub(super) fn restore_straggler(&mut self, pane: Pane<A>) {
        self.odd.get_or_insert_default().stragglers.insert(0, pane);
    }

    /// Bytes on the heap, about, if a sum has `each`.
    pub(super) fn heap_bytes(&self, each: usize) -> usize {
        let sum_bytes = size_of::<Pane<A>>();
        let odd = self.odd.as_ref().map_or(0, |odd| {
            let sums = odd.stragglers.len() + odd.straggler_sums.len() + odd.history.len();
            size_of::<Odd<A>>() + sums * (sum_bytes + each)
        });
        let count = self.entries.len() + usize::from(self.newest.is_some());
        self.entries.capacity() * sum_bytes + count * each + odd
    }

    /// The newest slice that is part of a window that has fired, or could have been.
    #[inline]
    pub(super) fn newest_closed(&self) -> Option<i64> {
        let closed_len = self.front_len() + self.back_len();
        (closed_len > 0).then(|| self.entries[closed_len - 1].slice)
    }

    /// The oldest slice of which no window has fired.
    pub(super) fn oldest_open(&self) -> Option<i64> {
        let oldest = self.entries.get(self.front_len() + self.back_len()).or(self.newest.as_ref());
        oldest.map(|pane| pane.slice)
    }

    /// Sums of the windows that end at `end_ms` and every slide after that up to `last_end_ms`,
    /// which all contain `slice`, from the history.
    ///
    /// The windows' starts and ends only grow: going down from `slice` gives the left parts of
    /// all of them, going up the right ones, so the whole costs as much as the history is long.
    pub(super) fn sums_around<G>(
        &self,
        slice: i64,
        end_ms: i64,
        last_end_ms: i64,
        slices: &Slices,
        aggregate: &G,
    ) -> Vec<(i64, A)>
    where
        G: WindowAggregate<Accumulator = A>,
    {
        let mut ends = Vec::new();
        let mut next_ms = end_ms;
        while next_ms <= last_end_ms {
            ends.push(next_ms);
            next_ms = slices.next_end_ms(next_ms);
        }
        let Some(Odd { history, .. }) = self.odd.as_deref() else { return Vec::new() };
        let middle = position(history, slice, 0..history.len());
        let mut lefts = Vec::with_capacity(ends.len());
        let mut left = None;
        let mut index = middle;
        for end_ms in ends.iter().rev() {
            let first = slices.first_slice(*end_ms);
            while index > 0 && first <= history[index - 1].slice {
                index -= 1;
                let mut sum = history[index].sum.clone();
                if let Some(newer) = left.take() {
                    aggregate.merge(&mut sum, newer);
                }
                left = Some(sum);
            }
            lefts.push(left.clone());
        }
        let mut right = None;
        let mut index = middle;
        let windows = ends.into_iter().zip(lefts.into_iter().rev());
        let sum_of = |(end_ms, left): (i64, Option<A>)| {
            let behind = slices.slice_behind(end_ms);
            while index < history.len() && history[index].slice < behind {
                add_to(&mut right, history[index].sum.clone(), aggregate);
                index += 1;
            }
            let mut sum = left;
            add_to(&mut sum, right.clone()?, aggregate);
            sum.map(|sum| (end_ms, sum))
        };
        windows.filter_map(sum_of).collect()
    }

    /// Slices before `behind` become part of the back.
    #[inline]
    fn close<G>(&mut self, behind: i64, keeps_history: bool, aggregate: &G)
    where
        G: WindowAggregate<Accumulator = A>,
    {
        while let Some(pane) = self.entries.get(self.front_len() + self.back_len()) {
            if behind <= pane.slice {
                return;
            }
            let sum = (self.back_len() > 0).then(|| pane.sum.clone());
            if keeps_history {
                let pane = pane.clone();
                self.keep(pane);
            }
            if let Some(sum) = sum {
                self.add_to_back(sum, aggregate);
            }
            self.back_count += 1;
        }
        if let Some(newest) = self.newest.take_if(|newest| newest.slice < behind) {
            if keeps_history {
                self.keep(newest.clone());
            }
            if self.back_len() > 0 {
                self.add_to_back(newest.sum.clone(), aggregate);
            }
            self.entries.push_back(newest);
            self.back_count += 1;
        }
    }

    /// The back, which has one slice at least, is about to have one more with this sum.
    #[inline]
    fn add_to_back<G>(&mut self, sum: A, aggregate: &G)
    where
        G: WindowAggregate<Accumulator = A>,
    {
        if self.back_len() == 1 {
            self.back_sum = Some(self.entries[self.front_len()].sum.clone());
        }
        if let Some(back) = &mut self.back_sum {
            aggregate.merge(back, sum);
        }
    }

    /// Keeps a slice that is closed for windows that may fire again.
    fn keep(&mut self, pane: Pane<A>) {
        let history = self.history_mut();
        let index = position(history, pane.slice, 0..history.len());
        history.insert(index, pane);
    }

    #[inline]
    fn pop_front_before(&mut self, first: i64) {
        while self.front_len() > 0 && self.entries.front().is_some_and(|pane| pane.slice < first) {
            self.entries.pop_front();
            self.front_count -= 1;
        }
    }
}

impl<A: Clone> Odd<A> {
    fn add_straggler<G>(&mut self, pane: Pane<A>, aggregate: &G)
    where
        G: WindowAggregate<Accumulator = A>,
    {
        let index = self.stragglers.partition_point(|newer| newer.slice > pane.slice);
        self.straggler_sums.truncate(index);
        match self.stragglers.get_mut(index) {
            Some(known) if known.slice == pane.slice => aggregate.merge(&mut known.sum, pane.sum),
            _ => self.stragglers.insert(index, pane),
        }
    }

    fn drop_stragglers_before(&mut self, first: i64) {
        while self.stragglers.last().is_some_and(|pane| pane.slice < first) {
            self.stragglers.pop();
        }
        self.straggler_sums.truncate(self.stragglers.len());
    }

    /// The sum of all stragglers, if there are any.
    fn sum_stragglers<G>(&mut self, aggregate: &G) -> Option<&A>
    where
        G: WindowAggregate<Accumulator = A>,
    {
        for index in self.straggler_sums.len()..self.stragglers.len() {
            let mut sum = self.stragglers[index].sum.clone();
            if let Some(newer) = self.straggler_sums.last() {
                aggregate.merge(&mut sum, newer.clone());
            }
            self.straggler_sums.push(sum);
        }
        self.straggler_sums.last()
    }
}

/// Where `slice` is, or would be put, among the entries of `range`.
fn position<A>(entries: &VecDeque<Pane<A>>, slice: i64, range: std::ops::Range<usize>) -> usize {
    // Nearly always it is at the end.
    if range.is_empty() || entries[range.end - 1].slice < slice {
        return range.end;
    }
    let (mut from, mut to) = (range.start, range.end);
    while from < to {
        let middle = usize::midpoint(from, to);
        if entries[middle].slice < slice { from = middle + 1 } else { to = middle }
    }
    from
}

fn add_to<G: WindowAggregate>(
    sum: &mut Option<G::Accumulator>,
    other: G::Accumulator,
    aggregate: &G,
) {
    match sum {
        Some(sum) => aggregate.merge(sum, other),
        None => *sum = Some(other),
    }
}
