//! Event time over several tasks and hops, in the simulator: sources follow a script that says at
//! which processing time what happens.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream::operator::SplitEvent;
use millstream::operator::source::{Source, SourceOutput, SourceReader, SourceStatus};
use millstream::prelude::*;

/// A record: its key and when it happened, ms.
type Timed = (u64, i64);

/// Key, start of a window (ms), number of records.
type Counted = (u64, i64, u64);

/// Processing time at which every simulation begins, ms. Event time does, too.
const START_MS: i64 = 1_700_000_000_000;

/// Rows that a split hands on in one go at most.
const POLL_ROWS_MAX: usize = 10;

#[derive(Debug, Clone)]
enum Step {
    /// A record with this key and event time, ms after the start.
    Row(u64, i64),
    Idle,
}

/// What the splits of a task do, each step at a processing time (ms after the start). A split is
/// finished behind its last step.
type Script = BTreeMap<u32, VecDeque<(i64, Step)>>;

/// A source whose task `index` follows `script(index)`.
#[derive(Clone)]
struct Scripted {
    script: Arc<dyn Fn(u32) -> Script + Send + Sync>,
}

impl Scripted {
    /// Task `index` has one split of its number, and that does `steps(index)`.
    fn new<I: IntoIterator<Item = (i64, Step)>>(
        steps: impl Fn(u32) -> I + Send + Sync + 'static,
    ) -> Self {
        let script = move |index| BTreeMap::from([(index, steps(index).into_iter().collect())]);
        Self { script: Arc::new(script) }
    }
}

impl Source for Scripted {
    type Out = Timed;
    type Reader = ScriptedReader;

    fn describe(&self) -> String {
        "a script".to_string()
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn open(&self, ctx: &OperatorContext<'_>) -> Result<ScriptedReader> {
        Ok(ScriptedReader { script: (self.script)(ctx.env().task.task_index), is_begun: false })
    }
}

struct ScriptedReader {
    script: Script,
    is_begun: bool,
}

impl SourceReader for ScriptedReader {
    type Out = Timed;

    fn poll(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<Timed>,
    ) -> SourceStatus {
        if !std::mem::replace(&mut self.is_begun, true) {
            self.script.keys().for_each(|split| out.on_split(SplitEvent::Active(*split)));
        }
        let now_ms = ctx.processing_time_ms() - START_MS;
        let mut next_ms = Vec::new();
        let mut finished = Vec::new();
        for (split, steps) in &mut self.script {
            if ctx.env().paused_splits.borrow().contains(split) {
                continue;
            }
            for _ in 0..POLL_ROWS_MAX {
                let Some((_, step)) = steps.pop_front_if(|(at_ms, _)| *at_ms <= now_ms) else {
                    break;
                };
                match step {
                    Step::Row(key, event_ms) => {
                        out.emit(*split, 0, START_MS + event_ms, (key, START_MS + event_ms));
                    }
                    Step::Idle => out.on_split(SplitEvent::Idle(*split)),
                }
            }
            match steps.front() {
                Some((at_ms, _)) => next_ms.push(START_MS + *at_ms),
                None => finished.push(*split),
            }
        }
        for split in finished {
            self.script.remove(&split);
            out.on_split(SplitEvent::Finished(split));
        }
        if self.script.is_empty() {
            return SourceStatus::Ended;
        }
        SourceStatus::Waiting(next_ms.into_iter().min())
    }
}

/// Adds the processing time at which a record came, ms after the start.
#[derive(Clone)]
struct Stamp;

impl ProcessFunction<Counted> for Stamp {
    type Out = (Counted, i64);

    fn process(
        &mut self,
        counted: Counted,
        ctx: &mut ProcessContext<'_>,
        out: &mut impl Output<Self::Out>,
    ) {
        out.collect((counted, ctx.processing_time_ms() - START_MS));
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a window function")]
fn count<T>(key: &u64, window: &Window, records: &[T]) -> Counted {
    (*key, window.start_ms - START_MS, records.len() as u64)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A quiet source: tasks deliver until `until_ms`, then nothing until 2 s after the start.
fn quiet(until_ms: i64, last_words: Option<Step>) -> Scripted {
    Scripted::new(move |task| {
        let rows = (0..until_ms).map(move |at| (at, Step::Row(u64::from(task), at)));
        let last = last_words.clone().map(|step| (until_ms, step));
        rows.chain(last).chain([(2_000, Step::Idle)])
    })
}

/// A source that delivers a record a millisecond and task for 300 ms.
fn busy() -> Scripted {
    Scripted::new(|task| (0..300).map(move |at| (at, Step::Row(u64::from(task) % 5, at))))
}

/// Two quiet sources meet in windows, and what comes of those meets a busy source in others: the
/// busy source's windows fire while it delivers, and not when the quiet ones end.
fn check_quiet_sources_hold_nobody_back<S>(quiet_source: fn(i64) -> Scripted, strategy: S)
where
    S: Fn() -> WatermarkStrategy<Monotonic>,
{
    for seed in 0..16 {
        let job = Job::new("quiet");
        let results = Collected::new();
        let quiet = |name: &str, until_ms| {
            job.source(name, quiet_source(until_ms)).watermark(strategy(), |r: &Timed| r.1)
        };
        let first = quiet("one", 20).union(quiet("other", 30)).key_by(|r| r.0);
        let first = first.window(Tumbling::new(ms(10))).process(count);
        let busy = job.source("busy", busy()).watermark(Monotonic::new(), |r: &Timed| r.1);
        first
            .map(|(key, start_ms, _)| (key, START_MS + start_ms))
            .union(busy)
            .key_by(|r| r.0)
            .window(Tumbling::new(ms(10)))
            .process(count)
            .process("stamp", Stamp)
            .sink("results", results.sink());
        let report = simulate(&job, seed);
        // The quiet sources' last window waits for them, and what comes of it is late by then.
        assert!(late_count(&report) <= u64::from(shard_count(seed)), "seed {seed}");
        let results: Vec<(Counted, i64)> = results.values();
        let last_ms = results.iter().map(|((_, start_ms, _), _)| *start_ms).max();
        assert_eq!(last_ms, Some(290), "seed {seed}: all windows have fired");
        for ((_, start_ms, _), at_ms) in
            results.into_iter().filter(|((_, start, _), _)| *start < 250)
        {
            assert!(at_ms < 1_000, "seed {seed}: the window at {start_ms} ms fired at {at_ms} ms");
        }
    }
}

fn shard_count(seed: u64) -> u32 {
    [1, 2, 3, 5][(seed % 4) as usize]
}

fn simulate(job: &Job, seed: u64) -> SimReport {
    let checkpoint_interval = seed.is_multiple_of(2).then_some(ms(50));
    let config = SimConfig { start_ms: START_MS, checkpoint_interval, ..SimConfig::new(seed) };
    let report = job.simulate(shard_count(seed), &config).expect("the job has no mistakes");
    if let Err(error) = &report.outcome {
        panic!("seed {seed}: {}", error.chain());
    }
    report
}

fn late_count(report: &SimReport) -> u64 {
    let tasks = report.shards.iter().flat_map(|shard| &shard.tasks);
    tasks.map(|task| task.status.late_records).sum()
}

#[test]
fn sources_that_say_they_are_idle_hold_nobody_back() {
    let quiet = |until_ms| quiet(until_ms, Some(Step::Idle));
    check_quiet_sources_hold_nobody_back(quiet, || WatermarkStrategy::new(Monotonic::new()));
}

#[test]
fn sources_that_are_silent_hold_nobody_back_for_longer_than_the_timeout() {
    let strategy = || Monotonic::new().with_idleness(ms(40));
    check_quiet_sources_hold_nobody_back(|until_ms| quiet(until_ms, None), strategy);
}

/// A source comes back. Tasks that get none of its first records wait for the others all the same.
#[test]
fn whoever_comes_back_is_waited_for_everywhere() {
    for seed in 0..16 {
        let job = Job::new("back");
        let results = Collected::new();
        let back = Scripted::new(|task| {
            let rows = (0..10).map(|i| (50 + 100 * i, Step::Row(i as u64, 150 + 10 * i)));
            let rows = rows.filter(move |_| task == 0);
            [(0, Step::Row(0, 0)), (1, Step::Idle)].into_iter().chain(rows)
        });
        let ahead = Scripted::new(|task| {
            let jump = |at: i64| if at < 100 { at } else { 50 * at };
            (0..300).map(move |at| (at, Step::Row(u64::from(task), jump(at))))
        });
        let back = job.source("back", back).watermark(Monotonic::new(), |r: &Timed| r.1);
        let ahead = job.source("ahead", ahead).watermark(Monotonic::new(), |r: &Timed| r.1);
        let keyed = back.union(ahead).key_by(|r| r.0);
        keyed.window(Tumbling::new(ms(10))).process(count).sink("results", results.sink());
        let report = simulate(&job, seed);
        assert_eq!(late_count(&report), 0, "seed {seed}");
    }
}

/// Windows of processing time fire at the end, and nobody behind finds their results late.
#[test]
fn what_waits_for_processing_time_comes_before_the_end_of_event_time() {
    for seed in 0..16 {
        let job = Job::new("end");
        let results = Collected::new();
        let rows = Scripted::new(|task| (0..50).map(move |i| (i, Step::Row(u64::from(task), i))));
        let rows = job.source("rows", rows).watermark(Monotonic::new(), |r: &Timed| r.1);
        let by_clock = rows.key_by(|r| r.0).window(Tumbling::new(ms(3_600_000)).processing_time());
        let by_clock = by_clock.process(count).key_by(|r| r.0);
        let by_event = by_clock.window(Tumbling::new(ms(7_200_000)));
        by_event.reduce(|a, b| (a.0, a.1, a.2 + b.2)).sink("results", results.sink());
        let report = simulate(&job, seed);
        assert_eq!(late_count(&report), 0, "seed {seed}");
        let counted: Vec<Counted> = results.values();
        let total: u64 = counted.iter().map(|(_, _, count)| *count).sum();
        assert_eq!(total, 50 * u64::from(shard_count(seed)), "seed {seed}: {counted:?}");
    }
}

/// One split delivers all it has at once, the others take their time: it never gets further ahead
/// than it may, and in the end it has delivered everything.
#[test]
fn alignment_keeps_the_splits_of_all_shards_together() {
    const DRIFT_MS: i64 = 200;
    for seed in 0..16 {
        let job = Job::new("aligned");
        let reached: Arc<Mutex<BTreeMap<u64, i64>>> = Arc::default();
        let rows = Scripted::new(|task| {
            // Others have been heard of before the first one begins.
            let at = move |i: i64| if task == 0 { 40 } else { i };
            (0..600).map(move |i| (at(i), Step::Row(u64::from(task), 10 * i)))
        });
        let strategy = Monotonic::new().with_alignment(Duration::from_millis(DRIFT_MS as u64));
        let seen = Arc::clone(&reached);
        job.source("rows", rows)
            .watermark(strategy, |r: &Timed| r.1)
            .inspect(move |(task, time_ms)| {
                let mut reached = seen.lock().expect("no test thread panics holding it");
                reached.insert(*task, *time_ms);
                let slowest_ms = reached.values().min().copied().unwrap_or_default();
                let ahead_ms = time_ms - slowest_ms;
                let ahead_max_ms = DRIFT_MS + 10 * POLL_ROWS_MAX as i64;
                let is_over = 10 * 599 + START_MS == slowest_ms;
                assert!(is_over || ahead_ms <= ahead_max_ms, "{task} is {ahead_ms} ms ahead");
            })
            .discard();
        let report = simulate(&job, seed);
        let tasks = report.shards.iter().flat_map(|shard| &shard.tasks);
        let records: u64 = tasks.map(|task| task.status.records_in).sum();
        assert_eq!(records, 600 * u64::from(shard_count(seed)), "seed {seed}");
    }
}

/// Windows over a main stream that meets rules: the rules' stream is silent for ever, and the main
/// one falls silent for a while.
#[test]
fn a_stream_that_holds_nothing_back_neither_stops_event_time_nor_moves_it() {
    for seed in 0..16 {
        let job = Job::new("rules");
        let results = Collected::new();
        let rules = Scripted::new(|task| [(0, Step::Row(u64::from(task), 0)), (2_000, Step::Idle)]);
        let rows = Scripted::new(|task| {
            let row = move |at: i64| (at, Step::Row(u64::from(task), at));
            (0..50).map(row).chain([(60, Step::Idle)]).chain((500..550).map(row))
        });
        let rules = job.source("rules", rules).hold_nothing_back();
        let rows = job.source("rows", rows).watermark_from_source(Monotonic::new());
        rows.connect(rules)
            .flat_map(Some, |_| None)
            .key_by(|r| r.0)
            .window(Tumbling::new(ms(10)))
            .process(count)
            .process("stamp", Stamp)
            .sink("results", results.sink());
        let report = simulate(&job, seed);
        assert_eq!(late_count(&report), 0, "seed {seed}");
        let results: Vec<(Counted, i64)> = results.values();
        assert_eq!(results.len() as u32, 10 * shard_count(seed), "seed {seed}");
        for ((_, start_ms, _), at_ms) in
            results.into_iter().filter(|((_, start, _), _)| *start < 530)
        {
            assert!(at_ms < 1_000, "seed {seed}: the window at {start_ms} ms fired at {at_ms} ms");
        }
    }
}

/// Event time is the clock: windows close though nothing comes any more, and nothing is late.
#[test]
fn records_that_happen_when_they_are_read_are_never_late() {
    for seed in 0..16 {
        let job = Job::new("ingestion");
        let results = Collected::new();
        // Event times of the source that nobody asks for.
        let rows = Scripted::new(|task| {
            let rows = (0..50).map(move |at| (at, Step::Row(u64::from(task), 5_000 - at)));
            rows.chain([(2_000, Step::Idle)])
        });
        let rows = job.source("rows", rows).ingestion_time();
        let windows = rows.key_by(|r| r.0).window(Tumbling::new(ms(10)));
        windows.process(count).process("stamp", Stamp).sink("results", results.sink());
        let report = simulate(&job, seed);
        assert_eq!(late_count(&report), 0, "seed {seed}");
        let results: Vec<(Counted, i64)> = results.values();
        let total: u64 = results.iter().map(|((_, _, count), _)| *count).sum();
        assert_eq!(total, 50 * u64::from(shard_count(seed)), "seed {seed}");
        for ((_, start_ms, _), at_ms) in results {
            assert!(start_ms < 150 && at_ms < 500, "seed {seed}: {start_ms} ms at {at_ms} ms");
        }
    }
}
