//! The input of a simulated job, drawn from its seed: bursts, pauses, a few busy keys, disorder.

use std::time::Duration;

use millstream::prelude::*;
use millstream::sim::rng::Rng;
use millstream_tests::model::window::{Firing, Kind, Step, run};

use super::Layout;

/// Key, event time (ms), and a number of its own, from 1.
pub(super) type Event = (u32, i64, u32);

/// Key, start and end of a window, and the numbers of the records in it, ascending.
pub(super) type Fired = (u32, i64, i64, Vec<u32>);

/// Records, and by how much their times are out of order at most.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) events: Vec<Event>,
    pub(super) disorder_ms: i64,
}

pub(super) const BEGIN_MS: i64 = 1_700_000_000_000;

pub(super) fn ms(count: i64) -> Duration {
    Duration::from_millis(count.unsigned_abs())
}

impl Input {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let (count, key_count) = (50 + rng.below(350), 1 + rng.below(12));
        let disorder_ms = rng.below(400) as i64;
        let mut now_ms = BEGIN_MS;
        let mut event = |id| {
            now_ms += match rng.below(40) {
                0 => 1_000,
                1..=10 => rng.below(30) as i64,
                11..=20 => rng.below(4) as i64,
                _ => 0,
            };
            let key = if rng.chance(1, 4) { 0 } else { rng.below(key_count) as u32 };
            (key, now_ms - rng.below(disorder_ms as u64 + 1) as i64, id as u32)
        };
        let events = (1..=count).map(&mut event).collect();
        Self { events, disorder_ms }
    }

    /// A source of the events, with watermarks that make none of them late.
    pub(super) fn source<'j>(
        &self,
        job: &'j Job,
        name: &str,
        layout: &Layout,
    ) -> impl AnyStream<'j, Out = Event> + use<'j> {
        let strategy = BoundedOutOfOrderness::new(ms(self.disorder_ms));
        job.source(name, self.vector(layout))
            .parallelism(layout.parallelism)
            .watermark(strategy, |event| event.1)
    }

    /// The events as a source without watermarks.
    pub(super) fn vector(&self, layout: &Layout) -> VecSource<Event> {
        let source = VecSource::from_vec(self.events.clone()).batches_of(layout.batch);
        match layout.rate_per_s {
            Some(rate_per_s) => source.paced(rate_per_s),
            None => source,
        }
    }

    /// What windows of `kind` give for it.
    pub(super) fn fired(&self, kind: Kind) -> Vec<Fired> {
        let record = |&(key, time, id): &Event| Step::Record { key, time, id };
        let end = Step::Watermark(i64::MAX);
        let script: Vec<_> = self.events.iter().map(record).chain([end]).collect();
        let fired = |Firing { key, start, end, ids }| (key, start, end, ids);
        run(kind, 0, &script).firings.into_iter().map(fired).collect()
    }
}

/// Gathers numbers, so that a record that is missing or counted twice is seen.
#[derive(Debug, Clone)]
pub(super) struct Gather;

impl AggregateFunction for Gather {
    type In = Event;
    type Accumulator = Vec<u32>;
    type Out = Vec<u32>;

    fn create(&self) -> Vec<u32> {
        Vec::new()
    }

    fn add(&self, ids: &mut Vec<u32>, (_, _, id): Event) {
        ids.push(id);
    }

    fn merge(&self, ids: &mut Vec<u32>, other: Vec<u32>) {
        ids.extend(other);
    }

    fn result(&self, ids: &Vec<u32>) -> Vec<u32> {
        let mut ids = ids.clone();
        ids.sort_unstable();
        ids
    }
}

/// A firing as a row.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a window function")]
pub(super) fn fired(key: &u32, window: &Window, ids: Vec<u32>) -> Fired {
    (*key, window.start_ms, window.end_ms, ids)
}
