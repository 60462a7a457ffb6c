//! A stopwatch inside the job: it starts when the first source is opened and stops when the last
//! sink ends, so that starting and joining threads is not measured.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream::config::{Config, Idle, Pin};
use millstream::graph::{Facts, SideOutputFact};
use millstream::operator::source::Source;
use millstream::prelude::*;

use crate::process;

/// What a run took, and a proof of what it did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// From the first source's opening to the last sink's end.
    pub took: Duration,
    /// How long the thread that fared worst waited for its core.
    pub waited: Duration,
    /// Records that reached a sink.
    pub rows: u64,
    /// A sum over them: equal for two runs that did the same.
    pub sum: u64,
}

impl Run {
    /// Nanoseconds for each of `records`, without the time in which others had the core.
    pub fn ns_per(&self, records: u64) -> f64 {
        self.took.saturating_sub(self.waited).as_nanos() as f64 / records as f64
    }
}

/// Shared by the sources and sinks of one run.
#[derive(Debug, Clone, Default)]
pub struct Stopwatch(Arc<Mutex<Taken>>);

thread_local! {
    /// How long the thread had waited for its core when the stopwatch started.
    static WAITED_BEFORE: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

#[derive(Debug, Default)]
struct Taken {
    begun: Option<Instant>,
    ended: Option<Instant>,
    waited: Duration,
    rows: u64,
    sum: u64,
}

impl Stopwatch {
    fn begin(&self) {
        WAITED_BEFORE.set(process::waited());
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.begun.get_or_insert_with(Instant::now);
    }

    /// The calling thread has done its part.
    fn end(&self, rows: u64, sum: u64) {
        let now = Instant::now();
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.ended = Some(taken.ended.map_or(now, |ended| ended.max(now)));
        let waited = process::waited().saturating_sub(WAITED_BEFORE.get());
        taken.waited = taken.waited.max(waited);
        taken.rows += rows;
        taken.sum = taken.sum.wrapping_add(sum);
    }

    fn run(&self) -> Run {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(begun), Some(ended)) = (taken.begun, taken.ended) else {
            panic!("the job has no timed source or no tally");
        };
        let Taken { waited, rows, sum, .. } = *taken;
        Run { took: ended - begun, waited, rows, sum }
    }
}

/// A source that starts the stopwatch.
#[derive(Clone)]
pub struct Timed<S> {
    source: S,
    stopwatch: Stopwatch,
}

impl<S: Source> Timed<S> {
    /// `source`, timed.
    pub fn new(source: S, stopwatch: &Stopwatch) -> Self {
        Self { source, stopwatch: stopwatch.clone() }
    }
}

impl<S: Source> Source for Timed<S> {
    type Out = S::Out;
    type Reader = S::Reader;

    fn problems(&self) -> Vec<String> {
        self.source.problems()
    }

    fn describe(&self) -> String {
        self.source.describe()
    }

    fn side_outputs(&self) -> Vec<SideOutputFact> {
        self.source.side_outputs()
    }

    fn is_bounded(&self) -> bool {
        self.source.is_bounded()
    }

    fn open(&self, ctx: &OperatorContext<'_>) -> Result<S::Reader> {
        self.stopwatch.begin();
        self.source.open(ctx)
    }
}

/// A sink that adds up what `F` makes of the records, and stops the stopwatch.
pub struct Tally<T, F> {
    number_of: F,
    rows: u64,
    sum: u64,
    stopwatch: Stopwatch,
    record: PhantomData<fn(T)>,
}

impl<T, F> Tally<T, F> {
    /// Adds up `number_of` of every record.
    pub fn new(number_of: F, stopwatch: &Stopwatch) -> Self {
        Self { number_of, rows: 0, sum: 0, stopwatch: stopwatch.clone(), record: PhantomData }
    }
}

impl<T, F: Clone> Clone for Tally<T, F> {
    fn clone(&self) -> Self {
        Self::new(self.number_of.clone(), &self.stopwatch)
    }
}

impl<T: 'static, F: FnMut(T) -> u64 + 'static> Operator for Tally<T, F> {
    type In = T;
    type Out = Nothing;

    fn facts(&self) -> Facts {
        Facts::stateless()
    }

    #[inline]
    fn on_row(&mut self, row: Row<T>, _ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add((self.number_of)(row.value));
    }

    fn on_end(&mut self, _ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) -> Progress {
        self.stopwatch.end(self.rows, self.sum);
        Progress::Done
    }
}

/// Shards that spin, each on a core of its own.
pub fn spinning() -> Config {
    Config { idle: Idle::Spin, pin: Pin::On, ..Config::default() }
}

/// Runs `job`, whose sources and sinks hold `stopwatch`, on `shard_count` spinning shards.
///
/// # Errors
/// The job's.
pub fn run_job(job: &Job, shard_count: u32, stopwatch: &Stopwatch) -> Result<Run> {
    let config = spinning();
    let plan = job.plan(shard_count, config.key_group_count)?;
    millstream::runtime::node::run(&plan.program, &config, false)?;
    Ok(stopwatch.run())
}

/// Runs a loop written by hand, which answers rows and sum, pinned to the first core.
///
/// # Panics
/// If the loop does.
pub fn run_by_hand(work: impl FnOnce() -> (u64, u64) + Send) -> Run {
    let stopwatch = Stopwatch::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            core_affinity::set_for_current(core_affinity::CoreId { id: 0 });
            stopwatch.begin();
            let (rows, sum) = work();
            stopwatch.end(rows, sum);
        });
    });
    stopwatch.run()
}
