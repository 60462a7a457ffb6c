//! Rows that wait: until what is due of their key has happened, or until its state was read.
//!
//! What is due of a row's key (timers that fire, records that are joined) happens before the row,
//! but at most so much in one go. If there is more, the row waits, and so do those behind it; the
//! operator is not ready meanwhile, so the task leaves its inputs alone and no barrier passes. What
//! is due is pending, so the operator is called again in the next turn, and that begins with the
//! rows that wait.
//!
//! An operator may have more to do before a row than what is due of one key: what is due of all
//! keys, before a broadcast record, and a walk over all of them that such a record has asked for.
//! That happens in slices, too.
//!
//! A row whose key's state is not in memory is *parked* while that is being read: rows of other
//! keys overtake it, those of its key queue behind it.
//!
//! ```text
//! row ──► key parked, or cold? ──no──► take                    (hot rows never wait for a disk)
//!              │ yes
//!              ▼
//!         by hash: [row, row, …] ──its state was read──► take, in order, as of the watermark
//!                                                        that it had come behind
//! ```
//!
//! What a watermark makes due of a key comes behind the parked rows of that key, and the watermark
//! goes on when all rows that it came behind have been taken. Rows behind it do not wait for that.
//! A barrier waits for all rows that are parked.
//!
//! Invariant: rows that are not parked wait only while the operator has told the task that
//! something is pending, or that processing time is to call it at once; parked rows only while the
//! store is being asked for their key, or to be called at once.

use std::collections::{BTreeMap, VecDeque};

use crate::limits::PARKED_ROWS_MAX;
use crate::operator::{Operator, OperatorContext, Output, Progress};

/// Rows whose keys' states are being read, and those of the same keys behind them.
#[derive(Debug)]
pub(in crate::operator) struct Parked<W> {
    /// Each with the watermark (ms) that it came behind.
    rows: BTreeMap<u64, VecDeque<(i64, W)>>,
    /// How many came behind each watermark.
    behind: BTreeMap<i64, usize>,
    row_count: usize,
    /// Hashes whose keys were read.
    read: VecDeque<u64>,
}

impl<W> Default for Parked<W> {
    fn default() -> Self {
        let (rows, behind) = (BTreeMap::new(), BTreeMap::new());
        Self { rows, behind, row_count: 0, read: VecDeque::new() }
    }
}

impl<W> Parked<W> {
    /// Whether there are none.
    pub(in crate::operator) fn is_empty(&self) -> bool {
        self.row_count == 0
    }

    /// Whether no more should come.
    pub(in crate::operator) fn is_full(&self) -> bool {
        PARKED_ROWS_MAX <= self.row_count
    }

    /// Whether rows of a key with this hash are parked.
    #[inline]
    pub(in crate::operator) fn holds(&self, hash64: u64) -> bool {
        self.row_count != 0 && self.rows.contains_key(&hash64)
    }

    /// The watermark (ms) that the first of them came behind.
    pub(in crate::operator) fn first_behind_ms(&self) -> Option<i64> {
        self.behind.first_key_value().map(|(first_ms, _)| *first_ms)
    }

    /// Whether there are some that came before event time reached `watermark_ms`.
    pub(in crate::operator) fn has_some_before(&self, watermark_ms: i64) -> bool {
        self.first_behind_ms().is_some_and(|first_ms| first_ms < watermark_ms)
    }

    /// Whether some can be taken.
    pub(in crate::operator) fn has_read(&self) -> bool {
        !self.read.is_empty()
    }

    /// Whether there is something to take: rows that were read, or, if there `is_room`, of
    /// `waiting_count` that wait for some.
    pub(in crate::operator) fn wants_call(&self, waiting_count: usize, is_room: bool) -> bool {
        self.has_read() || 0 < waiting_count && is_room && !self.is_full()
    }

    /// The state of a key with this hash was read.
    pub(in crate::operator) fn on_read(&mut self, hash64: u64) {
        self.read.push_back(hash64);
    }

    fn push(&mut self, hash64: u64, watermark_ms: i64, row: W) {
        self.count(watermark_ms);
        self.rows.entry(hash64).or_default().push_back((watermark_ms, row));
    }

    fn push_front(&mut self, hash64: u64, watermark_ms: i64, row: W) {
        self.count(watermark_ms);
        self.rows.entry(hash64).or_default().push_front((watermark_ms, row));
    }

    fn count(&mut self, watermark_ms: i64) {
        self.row_count += 1;
        *self.behind.entry(watermark_ms).or_default() += 1;
    }

    fn pop(&mut self, hash64: u64) -> Option<(i64, W)> {
        let rows = self.rows.get_mut(&hash64)?;
        let (watermark_ms, row) = rows.pop_front().expect("no queue is empty");
        if rows.is_empty() {
            self.rows.remove(&hash64);
        }
        self.row_count -= 1;
        let count = self.behind.get_mut(&watermark_ms).expect("every row is counted");
        *count -= 1;
        if *count == 0 {
            self.behind.remove(&watermark_ms);
        }
        Some((watermark_ms, row))
    }
}

/// An operator whose rows may have to wait.
pub(in crate::operator) trait WaitingRows: Operator {
    /// A row, and what must be known of the moment at which it came.
    type Waiting;

    /// The rows that wait, in their order.
    fn waiting(&mut self) -> &mut VecDeque<Self::Waiting>;

    /// The rows that are parked; none if the operator's state is always in memory.
    #[inline]
    fn parked(&mut self) -> Option<&mut Parked<Self::Waiting>> {
        None
    }

    /// Hash of a row's key. Asked of operators that park rows.
    fn hash64_of(_row: &Self::Waiting) -> u64 {
        0
    }

    /// Sees to it that the state of the row's key is in memory; `false` while it is being read.
    #[inline]
    fn admit(&mut self, _row: &Self::Waiting, _ctx: &OperatorContext<'_>) -> bool {
        true
    }

    /// Goes on with what must be done before the first of the rows that wait, and is more than what
    /// is due of one key.
    #[inline]
    fn go_on(&mut self, _ctx: &OperatorContext<'_>, _out: &mut impl Output<Self::Out>) -> Progress {
        Progress::Done
    }

    /// Brings the operator's clocks to where they were when `row` came; pending if more happens
    /// before than in one go.
    #[inline]
    fn rise_for(
        &mut self,
        _row: &Self::Waiting,
        _ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Self::Out>,
    ) -> Progress {
        Progress::Done
    }

    /// Takes `row`; gives it back if more is due before it than happens in one go.
    fn take(
        &mut self,
        row: Self::Waiting,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<Self::Out>,
    ) -> Option<Self::Waiting>;

    /// Takes `row`, now or later.
    #[inline]
    fn take_or_wait(
        &mut self,
        row: Self::Waiting,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<Self::Out>,
    ) {
        let row = if self.is_ready() && self.rise_for(&row, ctx, out) == Progress::Done {
            let Some(row) = self.park(row, ctx) else { return };
            self.take(row, ctx, out)
        } else {
            Some(row)
        };
        if let Some(row) = row {
            self.wait(row, ctx);
        }
    }

    /// Parks `row` if the state of its key is not in memory, or rows of the key are parked;
    /// otherwise gives it back.
    #[inline]
    fn park(&mut self, row: Self::Waiting, ctx: &OperatorContext<'_>) -> Option<Self::Waiting> {
        let hash64 = Self::hash64_of(&row);
        let is_behind = self.parked().is_some_and(|parked| parked.holds(hash64));
        if !is_behind && self.admit(&row, ctx) {
            return Some(row);
        }
        let parked = self.parked().expect("who does not admit a row parks it");
        parked.push(hash64, ctx.watermark_ms(), row);
        if parked.is_full() {
            ctx.env().set_budget(0);
        }
        None
    }

    /// Takes the parked rows whose keys were read, as far as the budget goes.
    fn take_parked(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<Self::Out>,
    ) -> Progress {
        while let Some(hash64) = self.parked().and_then(|parked| parked.read.pop_front()) {
            while let Some(row) = self.parked().and_then(|parked| parked.pop(hash64)) {
                let (watermark_ms, row) = row;
                let has_budget = ctx.env().spend();
                let is_in_memory = has_budget && self.admit(&row, ctx);
                let ctx = ctx.behind(watermark_ms);
                let row = if is_in_memory { self.take(row, &ctx, out) } else { Some(row) };
                let (Some(row), Some(parked)) = (row, self.parked()) else { continue };
                parked.push_front(hash64, watermark_ms, row);
                if has_budget && !is_in_memory {
                    // It is asked for again.
                    break;
                }
                parked.read.push_front(hash64);
                return Progress::Pending;
            }
        }
        Progress::Done
    }

    /// Puts `row` behind those that wait.
    fn wait(&mut self, row: Self::Waiting, ctx: &OperatorContext<'_>) {
        self.waiting().push_back(row);
        // The feed stops here; what one row before this makes of itself may still come.
        ctx.env().set_budget(0);
    }

    /// Takes the rows that wait, as far as the budget goes.
    fn take_waiting(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<Self::Out>,
    ) -> Progress {
        if self.take_parked(ctx, out) == Progress::Pending {
            return Progress::Pending;
        }
        loop {
            if self.go_on(ctx, out) == Progress::Pending {
                return Progress::Pending;
            }
            let Some(row) = self.waiting().pop_front() else { return Progress::Done };
            let row = if ctx.env().spend() && self.rise_for(&row, ctx, out) == Progress::Done {
                let Some(row) = self.park(row, ctx) else { continue };
                self.take(row, ctx, out)
            } else {
                Some(row)
            };
            if let Some(row) = row {
                self.waiting().push_front(row);
                return Progress::Pending;
            }
        }
    }
}
