//! A generated stream as a source: splits, and pacing.
//!
//! ```text
//! P tasks:   split i = records i, i + P, i + 2P, ...          position = n
//! paced:     record n is due at t0 + (n - n0) / rate, whether anybody is ready for it or not
//! ```
//!
//! All tasks have one t0, 200 ms after the host's start, when the tasks are there; n0 is 0, or the
//! smallest number that a restore goes on with. So a record is due at the same instant whatever the
//! number of tasks, and whichever of them begins first.
//!
//! Unpaced, a record is made when it is asked for. Paced, the loop is *open*: a reader that was
//! held up hands on everything that has become due meanwhile, and each record says when it was due.
//!
//! A split keeps the stride it was made with, so after a restore with another parallelism every
//! number is still produced exactly once.

use crate::error::Error;
use crate::operator::source::{Source, SourceOutput, SourceReader, SourceStatus};
use crate::operator::{OperatorContext, SplitEvent};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// Makes the records of a stream from their numbers.
pub trait Generate: Clone + Send + 'static {
    /// What it makes.
    type Out: 'static;

    /// Event time (ms) and value of record `n`; without an event time,
    /// [`crate::data::row::NO_EVENT_TIME`]. `due_ns` is when the record is due, ns since the
    /// host's start; 0 without pacing.
    fn make(&mut self, n: u64, due_ns: u64) -> (i64, Self::Out);

    /// What it makes, in a few words.
    fn describe(&self) -> String;

    /// What its splits are called when a record is named: `generator, record 17`.
    fn split_name(&self) -> &'static str {
        "generator"
    }
}

/// A closure from number to value.
#[derive(Debug, Clone)]
pub struct FromNumber<F>(F);

impl<T: 'static, F: FnMut(u64) -> T + Clone + Send + 'static> Generate for FromNumber<F> {
    type Out = T;

    #[inline]
    fn make(&mut self, n: u64, _due_ns: u64) -> (i64, T) {
        (crate::data::row::NO_EVENT_TIME, (self.0)(n))
    }

    fn describe(&self) -> String {
        "generated".to_string()
    }
}

/// A source that computes its records.
#[derive(Debug, Clone)]
pub struct GeneratorSource<G> {
    count: u64,
    rate_per_s: Option<f64>,
    batch_count: u32,
    generator: G,
}

impl<T: 'static, F: FnMut(u64) -> T + Clone + Send + 'static> GeneratorSource<FromNumber<F>> {
    /// `make(n)` for every `n` in `0..count`; `u64::MAX` means without end.
    ///
    /// ```
    /// use millstream::prelude::*;
    /// let squares = GeneratorSource::new(100, |n| n * n);
    /// ```
    pub fn new(count: u64, make: F) -> Self {
        Self::of(count, FromNumber(make))
    }
}

impl<G: Generate> GeneratorSource<G> {
    /// The first `count` records of `generator`; `u64::MAX` means without end.
    pub fn of(count: u64, generator: G) -> Self {
        Self { count, rate_per_s: None, batch_count: u32::MAX, generator }
    }

    /// Makes records due at `rate_per_s`, over all splits together, from 200 ms after the host's
    /// start on.
    pub fn paced(self, rate_per_s: f64) -> Self {
        Self { rate_per_s: Some(rate_per_s), ..self }
    }

    /// Hands on at most `record_count` records at a time, so that watermarks and time can come
    /// between them.
    ///
    /// # Panics
    /// If `record_count` is 0.
    pub fn batches_of(self, record_count: u32) -> Self {
        assert!(record_count > 0, "a batch holds a record");
        Self { batch_count: record_count, ..self }
    }
}

impl<G: Generate> Source for GeneratorSource<G> {
    type Out = G::Out;
    type Reader = GeneratorReader<G>;

    fn problems(&self) -> Vec<String> {
        match self.rate_per_s {
            Some(rate) if !(rate > 0.0 && rate.is_finite()) => {
                vec![format!("a rate of {rate} records per second; give one above 0")]
            }
            _ => Vec::new(),
        }
    }

    fn describe(&self) -> String {
        let what = self.generator.describe();
        let count = match self.count {
            u64::MAX => "without end".to_string(),
            count => format!("{count} records"),
        };
        match self.rate_per_s {
            Some(rate) => format!("{what}, {count}, {rate} per second"),
            None => format!("{what}, {count}"),
        }
    }

    fn is_bounded(&self) -> bool {
        self.count != u64::MAX
    }

    fn open(&self, ctx: &OperatorContext<'_>) -> Result<GeneratorReader<G>, Error> {
        let task = ctx.env().task;
        Ok(GeneratorReader {
            splits: vec![Split::new(task.task_index, task.parallelism)],
            turn: 0,
            count: self.count,
            batch_count: self.batch_count,
            pace: self.rate_per_s.map(|rate| Pace { ns_per_record: 1e9 / rate, first: 0 }),
            generator: self.generator.clone(),
        })
    }
}

/// The numbers `next`, `next + stride`, and so on.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Split {
    index: u32,
    stride: u32,
    next: u64,
    phase: Phase,
}

/// What the output has been told of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Phase {
    Unannounced,
    Active,
    Finished,
}

impl Split {
    fn new(index: u32, stride: u32) -> Self {
        Self { index, stride, next: u64::from(index), phase: Phase::Unannounced }
    }
}

/// When the first record is due, ns since the host's start. The clock takes 20 ms to start, the
/// threads and tasks some more; a task that comes later finds records overdue, as they are.
const PHASE_START_NS: u64 = 200_000_000;

/// When records are due.
#[derive(Debug)]
struct Pace {
    ns_per_record: f64,
    /// The record that is due at [`PHASE_START_NS`].
    first: u64,
}

impl Pace {
    fn due_ns(&self, n: u64) -> u64 {
        PHASE_START_NS + ((n - self.first) as f64 * self.ns_per_record) as u64
    }
}

/// One task's half of a [`GeneratorSource`].
#[derive(Debug)]
pub struct GeneratorReader<G> {
    splits: Vec<Split>,
    /// Which split is asked next; they take turns record by record.
    turn: usize,
    count: u64,
    batch_count: u32,
    pace: Option<Pace>,
    generator: G,
}

/// Records that are charged to the budget at once.
const RUSH_LEN: u64 = 16;

/// What one split could do.
enum Step {
    Emitted,
    /// It will at this instant, ns since the host's start.
    DueAt(u64),
    Nothing,
}

impl<G: Generate> GeneratorReader<G> {
    /// Announces all splits before the first record of any: a watermark must not run ahead of one
    /// that has not had its turn yet.
    fn announce(&mut self, ctx: &OperatorContext<'_>, out: &mut impl SourceOutput<G::Out>) {
        let unannounced = self.splits.iter_mut().filter(|s| s.phase == Phase::Unannounced);
        for split in unannounced {
            split.phase = Phase::Active;
            ctx.name_split(split.index, self.generator.split_name(), "record");
            out.on_split(SplitEvent::Active(split.index));
        }
    }

    fn step(
        &mut self,
        index: usize,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<G::Out>,
    ) -> Step {
        let split = &mut self.splits[index];
        if split.phase == Phase::Finished || is_paused(ctx, split.index) {
            return Step::Nothing;
        }
        if split.next >= self.count {
            split.phase = Phase::Finished;
            out.on_split(SplitEvent::Finished(split.index));
            return Step::Nothing;
        }
        let due_ns = match &self.pace {
            Some(pace) => {
                let due_ns = pace.due_ns(split.next);
                if ctx.now_ns() < due_ns {
                    return Step::DueAt(due_ns);
                }
                due_ns
            }
            None => 0,
        };
        let n = split.next;
        split.next = n.saturating_add(u64::from(split.stride));
        let (event_time_ms, value) = self.generator.make(n, due_ns);
        out.emit(split.index, n, event_time_ms, value);
        Step::Emitted
    }

    /// The usual case, in a loop of its own: one split, which nobody takes turns with, and no
    /// record waits to be due. `false` if the split needs more than the next record.
    #[inline]
    fn rush(&mut self, ctx: &OperatorContext<'_>, out: &mut impl SourceOutput<G::Out>) -> bool {
        let [split] = &mut self.splits[..] else { return false };
        let is_plain = self.pace.is_none() && split.phase == Phase::Active;
        if !is_plain || is_paused(ctx, split.index) {
            return false;
        }
        let Split { index, stride, mut next, .. } = *split;
        let rest = self.count.saturating_sub(next).div_ceil(u64::from(stride));
        let mut left = rest.min(u64::from(self.batch_count));
        while left > 0 {
            let (group_len, mut done_len) = (left.min(RUSH_LEN) as u32, 0);
            while done_len < group_len.min(ctx.env().budget()) {
                done_len += 1;
                let n = next;
                next = n.saturating_add(u64::from(stride));
                let (event_time_ms, value) = self.generator.make(n, 0);
                out.emit(index, n, event_time_ms, value);
            }
            ctx.env().spend_more(done_len);
            if done_len < group_len {
                break;
            }
            left -= u64::from(group_len);
        }
        split.next = next;
        next < self.count
    }

    fn status(&self, ctx: &OperatorContext<'_>, due_ns: Option<u64>) -> SourceStatus {
        if self.splits.iter().all(|split| split.phase == Phase::Finished) {
            return SourceStatus::Ended;
        }
        let Some(due_ns) = due_ns else { return SourceStatus::Waiting(None) };
        let wait_ms = due_ns.saturating_sub(ctx.now_ns()) / 1_000_000;
        // Processing time has a grain of a millisecond; within one the host is asked to spin.
        match wait_ms {
            0 => SourceStatus::Ready,
            wait_ms => SourceStatus::Waiting(Some(ctx.processing_time_ms() + wait_ms as i64)),
        }
    }
}

fn is_paused(ctx: &OperatorContext<'_>, split: u32) -> bool {
    ctx.env().paused_splits.borrow().contains(&split)
}

impl<G: Generate> SourceReader for GeneratorReader<G> {
    type Out = G::Out;

    fn poll(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<G::Out>,
    ) -> SourceStatus {
        if self.rush(ctx, out) {
            return SourceStatus::Ready;
        }
        self.announce(ctx, out);
        let mut earliest_ns: Option<u64> = None;
        let mut rested = 0;
        let mut left = self.batch_count;
        while rested < self.splits.len() {
            if left == 0 || !ctx.env().spend() {
                return SourceStatus::Ready;
            }
            let index = self.turn % self.splits.len();
            self.turn = index + 1;
            match self.step(index, ctx, out) {
                Step::Emitted => {
                    left -= 1;
                    rested = 0;
                    earliest_ns = None;
                }
                Step::DueAt(due_ns) => {
                    rested += 1;
                    earliest_ns = Some(earliest_ns.map_or(due_ns, |other| other.min(due_ns)));
                }
                Step::Nothing => rested += 1,
            }
        }
        self.status(ctx, earliest_ns)
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        for split in &self.splits {
            writer.operator_state(&format!("split/{:010}", split.index), split);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let task = ctx.env().task;
        let known = reader.operator_state::<Split>("split/")?;
        if known.is_empty() {
            return Ok(());
        }
        if let (Some(pace), Some(first)) =
            (&mut self.pace, known.iter().map(|(_, split)| split.next).min())
        {
            pace.first = first;
        }
        let mine = |split: &Split| split.index % task.parallelism == task.task_index;
        self.splits = known.into_iter().map(|(_, split)| split).filter(mine).collect();
        for split in &mut self.splits {
            if split.phase == Phase::Active {
                split.phase = Phase::Unannounced;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
