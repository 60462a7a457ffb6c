//! The watermarks of a source task's splits: one generator each, combined, idle, aligned.
//!
//! ```text
//! record of split 7 ──► generator of split 7 ──┐ end of batch
//! record of split 9 ──► generator of split 9 ──┼──────────────► combined watermark
//! split 8 idle ────────────────────────────────┘                splits that must pause
//! ```
//!
//! Generators are asked once per batch and only for splits that delivered something in it, so a
//! record costs its generator's update and a comparison.
//!
//! A split is idle because its source says so, or because it has delivered nothing for the timeout.
//! A paused split is never idle by timeout: it is silent because it was told to be. When the last
//! split has finished, the task counts as idle and not as ended: a watched directory may have more.
//! The end of time is announced by the end of the stream.
//!
//! Invariant: a split's watermark never goes back, not even over a restore; neither does the
//! combined one.

use std::collections::BTreeMap;

use crate::data::row::{MAX_WATERMARK, NO_EVENT_TIME};
use crate::time::strategy::{WatermarkGenerator, WatermarkStrategy};
use crate::time::watermark::WatermarkCombiner;

/// The splits of one source task. Splits are numbered by their source; the combiner's channels are
/// indices into `splits`. Channel 0 is no split: it stands, idle, for all that have finished.
#[derive(Debug, Clone)]
pub struct SplitWatermarks<G> {
    strategy: WatermarkStrategy<G>,
    combiner: WatermarkCombiner,
    splits: Vec<Split<G>>,
    index_of: BTreeMap<u32, usize>,
    /// Indices whose split has finished; the next new split takes one.
    free: Vec<usize>,
    /// Split and index of the last record.
    last: (u32, usize),
    /// Indices of splits that delivered something since the last end of a batch.
    touched: Vec<usize>,
    /// No split falls idle by timeout, and no generator waits for a time, before this processing
    /// time (ms).
    next_deadline_ms: i64,
    /// Watermarks (ms) of splits from before a restore that have not been announced yet.
    restored: BTreeMap<u32, i64>,
    sent_ms: i64,
}

#[derive(Debug, Clone)]
struct Split<G> {
    number: u32,
    generator: G,
    /// What it had reached before a restore.
    floor_ms: i64,
    /// Processing time (ms) of the last batch with a record, of its beginning, or of its resuming.
    heard_ms: i64,
    is_touched: bool,
    is_paused: bool,
}

const FINISHED: usize = 0;
const NO_DEADLINE: i64 = i64::MAX;

impl<G: Clone> SplitWatermarks<G> {
    /// No splits yet.
    pub fn new(strategy: WatermarkStrategy<G>) -> Self {
        let mut combiner = WatermarkCombiner::new(1);
        assert_eq!(combiner.on_idle(FINISHED), None);
        let nobody = Split::new(u32::MAX, strategy.generator.clone(), NO_EVENT_TIME, 0);
        Self {
            strategy,
            combiner,
            splits: vec![nobody],
            index_of: BTreeMap::new(),
            free: Vec::new(),
            last: (u32::MAX, FINISHED),
            touched: Vec::new(),
            next_deadline_ms: NO_DEADLINE,
            restored: BTreeMap::new(),
            sent_ms: NO_EVENT_TIME,
        }
    }

    /// The strategy given at first.
    pub fn strategy(&self) -> &WatermarkStrategy<G> {
        &self.strategy
    }

    /// A record of `split`, at processing time `now_ms`. A split not announced before is announced
    /// by this.
    #[inline]
    pub fn on_record<T>(&mut self, split: u32, record: &T, event_time_ms: i64, now_ms: i64)
    where
        G: WatermarkGenerator<T>,
    {
        if self.last.0 != split || self.last.1 == FINISHED {
            self.last = (split, self.index(split, now_ms));
        }
        let index = self.last.1;
        let known = &mut self.splits[index];
        if !known.is_touched {
            known.is_touched = true;
            self.touched.push(index);
        }
        if let Some(ahead_max_ms) = self.strategy.ahead_max_ms
            && now_ms.saturating_add(ahead_max_ms) < event_time_ms
        {
            return;
        }
        known.generator.on_record(record, event_time_ms);
    }

    /// `split` will deliver records (again).
    pub fn on_active(&mut self, split: u32, now_ms: i64) {
        let index = self.index(split, now_ms);
        self.hear(index, now_ms);
        self.combiner.on_active(index);
        self.next_deadline_ms = self.next_deadline_ms.min(now_ms);
    }

    /// `split` has delivered all there is for now. For a split never heard of: the task has nothing
    /// to read at all for now.
    pub fn on_idle<T>(&mut self, split: u32, now_ms: i64)
    where
        G: WatermarkGenerator<T>,
    {
        let index = self.index(split, now_ms);
        self.settle(index, now_ms);
        self.combiner.on_idle(index);
    }

    /// `split` will never deliver another record. If there is another split to read, it must have
    /// been announced before.
    pub fn on_finished<T>(&mut self, split: u32, now_ms: i64)
    where
        G: WatermarkGenerator<T>,
    {
        let index = self.index(split, now_ms);
        self.settle(index, now_ms);
        let reached_ms = self.combiner.watermark_ms(index).min(MAX_WATERMARK - 1);
        if self.combiner.watermark_ms(FINISHED) < reached_ms {
            self.combiner.on_watermark(FINISHED, reached_ms);
        }
        self.combiner.on_end(index);
        self.index_of.remove(&split);
        self.free.push(index);
        self.last = (u32::MAX, FINISHED);
    }

    /// The batch is over: answers the combined watermark (ms) if it has risen. Also to be called
    /// when only time has passed.
    pub fn on_batch_end<T>(&mut self, now_ms: i64) -> Option<i64>
    where
        G: WatermarkGenerator<T>,
    {
        // A split that was idle holds the others back from the batch in which it delivered again.
        for index in &self.touched {
            self.combiner.on_active(*index);
        }
        for i in 0..self.touched.len() {
            self.settle_touched(self.touched[i], now_ms);
        }
        self.touched.clear();
        self.expire::<T>(now_ms);
        let combined_ms = self.combiner.combined_ms();
        if combined_ms <= self.sent_ms {
            return None;
        }
        self.sent_ms = combined_ms;
        Some(combined_ms)
    }

    /// Decides which splits are too far ahead of the slowest: of this task, and of the other tasks,
    /// which have reached `group_ms`. Answers whether that has changed.
    pub fn align(&mut self, group_ms: i64, now_ms: i64, paused: &mut Vec<u32>) -> bool {
        let Some(drift_max_ms) = self.strategy.drift_max_ms else { return false };
        let slowest_ms = self.combiner.active_min_ms().min(group_ms);
        let limit_ms = slowest_ms.saturating_add(drift_max_ms);
        let before = paused.len();
        let mut is_changed = false;
        paused.clear();
        for (index, split) in self.splits.iter_mut().enumerate().skip(1) {
            let is_ahead =
                self.combiner.is_active(index) && self.combiner.watermark_ms(index) > limit_ms;
            if split.is_paused && !is_ahead {
                split.heard_ms = now_ms;
            }
            is_changed |= split.is_paused != is_ahead;
            split.is_paused = is_ahead;
            if is_ahead {
                paused.push(split.number);
            }
        }
        is_changed || before != paused.len()
    }

    /// Smallest watermark (ms) of the splits that may deliver records now; [`MAX_WATERMARK`] if
    /// there is none.
    pub fn active_min_ms(&self) -> i64 {
        self.combiner.active_min_ms()
    }

    /// Whether there were splits, and none will deliver anything for now.
    pub fn is_idle(&self) -> bool {
        self.splits.len() > 1 && self.combiner.is_idle()
    }

    /// Processing time (ms) at which a split may fall idle or have another watermark.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        (self.next_deadline_ms != NO_DEADLINE).then_some(self.next_deadline_ms)
    }

    /// Every split's watermark (ms) that a restored task could not learn otherwise.
    pub fn reached(&self) -> impl Iterator<Item = (u32, i64)> {
        let known = self.index_of.iter().map(|(split, index)| {
            let floor_ms = self.splits[*index].floor_ms;
            (*split, self.combiner.watermark_ms(*index).max(floor_ms))
        });
        let unannounced = self.restored.iter().map(|(split, ms)| (*split, *ms));
        // What is behind the combined watermark holds nothing back after a restore either.
        known.chain(unannounced).filter(|(_, ms)| *ms > self.sent_ms)
    }

    /// Continues from the combined watermark (ms) sent on before the snapshot.
    pub fn restore_sent(&mut self, sent_ms: i64) {
        self.sent_ms = self.sent_ms.max(sent_ms);
        self.combiner.restore(sent_ms);
    }

    /// `split` had reached `watermark_ms` before the snapshot. Counts once the split is announced.
    pub fn restore_split(&mut self, split: u32, watermark_ms: i64) {
        let known = self.restored.entry(split).or_insert(watermark_ms);
        *known = watermark_ms.max(*known);
    }

    fn index(&mut self, split: u32, now_ms: i64) -> usize {
        if let Some(index) = self.index_of.get(&split) {
            return *index;
        }
        let floor_ms = self.restored.remove(&split).unwrap_or(NO_EVENT_TIME);
        let new = Split::new(split, self.strategy.generator.clone(), floor_ms, now_ms);
        let index = match self.free.pop() {
            Some(index) => {
                self.splits[index] = new;
                self.combiner.reuse(index);
                index
            }
            None => {
                self.splits.push(new);
                self.combiner.add()
            }
        };
        assert!(index < self.splits.len(), "splits and channels are numbered alike");
        if floor_ms != NO_EVENT_TIME {
            self.combiner.on_watermark(index, floor_ms);
        }
        self.index_of.insert(split, index);
        self.hear(index, now_ms);
        // Its generator may know something before the first record.
        self.next_deadline_ms = self.next_deadline_ms.min(now_ms);
        index
    }

    /// The split at `index` is alive at `now_ms`.
    fn hear(&mut self, index: usize, now_ms: i64) {
        self.splits[index].heard_ms = now_ms;
        if let Some(idleness_ms) = self.strategy.idleness_ms {
            self.next_deadline_ms = self.next_deadline_ms.min(now_ms + idleness_ms);
        }
    }

    /// Brings the watermark of the split at `index` up to date before it changes its state.
    fn settle<T>(&mut self, index: usize, now_ms: i64)
    where
        G: WatermarkGenerator<T>,
    {
        if self.splits[index].is_touched {
            self.settle_touched(index, now_ms);
            self.touched.retain(|touched| *touched != index);
        }
    }

    fn settle_touched<T>(&mut self, index: usize, now_ms: i64)
    where
        G: WatermarkGenerator<T>,
    {
        self.hear(index, now_ms);
        self.splits[index].is_touched = false;
        self.combiner.on_active(index);
        self.ask(index, now_ms);
    }

    /// Asks the generator of the split at `index` for its watermark.
    fn ask<T>(&mut self, index: usize, now_ms: i64)
    where
        G: WatermarkGenerator<T>,
    {
        let split = &mut self.splits[index];
        split.generator.on_time(now_ms);
        let watermark_ms = split.generator.watermark_ms().max(split.floor_ms);
        if watermark_ms != NO_EVENT_TIME {
            self.combiner.on_watermark(index, watermark_ms.min(MAX_WATERMARK - 1));
        }
        if let Some(due_ms) = split.generator.next_time_ms() {
            self.next_deadline_ms = self.next_deadline_ms.min(due_ms.max(now_ms + 1));
        }
    }

    /// Splits whose generators wait for processing time have another watermark, and those that have
    /// been silent for the timeout fall idle; the end of the batch says what follows from it.
    pub fn expire<T>(&mut self, now_ms: i64)
    where
        G: WatermarkGenerator<T>,
    {
        if now_ms < self.next_deadline_ms {
            return;
        }
        self.next_deadline_ms = NO_DEADLINE;
        let active: Vec<usize> =
            self.index_of.values().copied().filter(|i| self.combiner.is_active(*i)).collect();
        for index in active {
            if !self.splits[index].is_touched {
                self.ask(index, now_ms);
            }
            let Some(idleness_ms) = self.strategy.idleness_ms else { continue };
            let split = &self.splits[index];
            let heard_ms = if split.is_paused { now_ms } else { split.heard_ms };
            let deadline_ms = heard_ms + idleness_ms;
            if deadline_ms <= now_ms {
                self.combiner.on_idle(index);
            } else {
                self.next_deadline_ms = self.next_deadline_ms.min(deadline_ms);
            }
        }
    }
}

impl<G> Split<G> {
    fn new(number: u32, generator: G, floor_ms: i64, heard_ms: i64) -> Self {
        Self { number, generator, floor_ms, heard_ms, is_touched: false, is_paused: false }
    }
}

#[cfg(test)]
mod tests;
