//! Records that are due at their times, whether anybody is ready for them or not.
//!
//! ```text
//! due      │     │     │     │     │     │
//! engine   ·· busy ·················│ it takes what has become due meanwhile, at once
//! latency  ◄────────────────────────┘ counts from when a record was due, not when it was taken
//! ```
//!
//! So a slow engine cannot slow its own measurement down. A source of our own: what the plan sees,
//! and a reader for each task.

#![allow(clippy::disallowed_methods, reason = "what is measured is what a clock on the wall says")]

use std::time::{Duration, Instant};

use millstream::data::row::NO_EVENT_TIME;
use millstream::operator::SplitEvent;
use millstream::operator::source::{Source, SourceOutput, SourceReader, SourceStatus};
use millstream::prelude::*;

/// Record `n` of `0..count` is due at `begin` plus what `make(n)` says.
#[derive(Debug, Clone)]
pub struct Paced<M> {
    begin: Instant,
    count: u64,
    make: M,
}

impl<M> Paced<M> {
    /// `count` records.
    pub fn new(begin: Instant, count: u64, make: M) -> Self {
        Self { begin, count, make }
    }
}

impl<T, M> Source for Paced<M>
where
    T: 'static,
    M: Fn(u64) -> (Duration, T) + Clone + Send + 'static,
{
    type Out = T;
    type Reader = PacedReader<T, M>;

    fn describe(&self) -> String {
        format!("{} records, each at its time", self.count)
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn open(&self, ctx: &OperatorContext<'_>) -> Result<Self::Reader> {
        let place = ctx.env().task;
        let split = place.task_index;
        let (next, step) = (u64::from(split), u64::from(place.parallelism));
        Ok(PacedReader { paced: self.clone(), split, next, step, is_open: false, waiting: None })
    }
}

/// One task's half: every `step`th record.
#[derive(Debug)]
pub struct PacedReader<T, M> {
    paced: Paced<M>,
    split: u32,
    next: u64,
    step: u64,
    is_open: bool,
    /// Record `next`, made ahead of its time.
    waiting: Option<(Duration, T)>,
}

impl<T, M> SourceReader for PacedReader<T, M>
where
    T: 'static,
    M: Fn(u64) -> (Duration, T) + 'static,
{
    type Out = T;

    fn poll(&mut self, ctx: &OperatorContext<'_>, out: &mut impl SourceOutput<T>) -> SourceStatus {
        if !self.is_open {
            self.is_open = true;
            ctx.name_split(self.split, "paced", "record");
            out.on_split(SplitEvent::Active(self.split));
        }
        while self.next < self.paced.count {
            let (due, record) = self.waiting.take().unwrap_or_else(|| (self.paced.make)(self.next));
            let wait = (self.paced.begin + due).saturating_duration_since(Instant::now());
            if !wait.is_zero() || !ctx.env().spend() {
                self.waiting = Some((due, record));
                return match wait.as_millis() {
                    0 => SourceStatus::Ready,
                    ms => SourceStatus::Waiting(Some(ctx.processing_time_ms() + ms as i64)),
                };
            }
            out.emit(self.split, self.next, NO_EVENT_TIME, record);
            self.next += self.step;
        }
        SourceStatus::Ended
    }
}
