//! Whole jobs in the simulator, seed after seed, against naive models.
//!
//! Each seed decides the number of shards, which shard runs when, how long everything takes, who
//! stalls. Watermarks allow for all the disorder there is, so nothing is late and the results must
//! be the model's, whatever the seed. `MILLSTREAM_SIM_SEEDS` says how many (1,000 by default).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use millstream::prelude::*;

/// A measurement: sensor, event time (ms), value.
type Measured = (u64, i64, u64);

const COUNT: u64 = 1_500;
const SENSOR_COUNT: u64 = 13;
const DISORDER_MS: i64 = 700;

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("MILLSTREAM_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    0..count.unwrap_or(1_000)
}

fn shard_count(seed: u64) -> u32 {
    [1, 2, 3, 5][(seed / 4 % 4) as usize]
}

/// Measurement `n`: 7 ms apart on average, up to [`DISORDER_MS`] early, with a long pause now and
/// then so that sessions end.
fn measured(n: u64) -> Measured {
    let mixed = (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let early_ms = ((mixed >> 8) % DISORDER_MS as u64) as i64;
    let pause_ms = (n / 400) as i64 * 5_000;
    let time_ms = 1_700_000_000_000 + n as i64 * 7 + pause_ms + DISORDER_MS - early_ms;
    ((mixed >> 40) % SENSOR_COUNT, time_ms, mixed % 1_000)
}

fn all() -> impl Iterator<Item = Measured> {
    (0..COUNT).map(measured)
}

fn source(job: &Job) -> impl AnyStream<'_, Out = Measured> + use<'_> {
    let disorder = Duration::from_millis(2 * DISORDER_MS as u64);
    job.source("measured", GeneratorSource::new(COUNT, measured))
        .watermark(BoundedOutOfOrderness::new(disorder), |m| m.1)
}

/// Runs `job` under `seed`, with a checkpoint's barriers under way all the time.
fn simulate(job: &Job, seed: u64) -> SimReport {
    let checkpoint_interval = Some(Duration::from_micros(500 + seed % 7 * 300));
    let config = SimConfig { checkpoint_interval, ..SimConfig::new(seed) };
    let report = job.simulate(shard_count(seed), &config).expect("the job has no mistakes");
    if let Err(error) = &report.outcome {
        panic!("seed {seed}: {}", error.chain());
    }
    let tasks = report.shards.iter().flat_map(|shard| &shard.tasks);
    let late: u64 = tasks.map(|task| task.status.late_records).sum();
    assert_eq!(late, 0, "seed {seed}: records are late");
    report
}

/// Numbers to files of some 4 KB each, in directory `out`.
fn numbers_to_files(count: u64) -> Job {
    let job = Job::new("numbers-to-files");
    let files = FileSink::json_lines("out").roll_bytes(4 << 10);
    job.source("numbers", GeneratorSource::new(count, |n| n)).sink("files", files);
    job
}

/// The numbers in the files of directory `out` that have their final names, and the other names.
fn written(report: &SimReport) -> (Vec<u64>, Vec<String>) {
    let (mut numbers, mut unfinished) = (Vec::new(), Vec::new());
    for (path, bytes) in report.disk.files() {
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let text = std::str::from_utf8(bytes).expect("text is written");
            assert!(text.ends_with('\n'), "{} is not whole", path.display());
            numbers.extend(text.lines().map(|line| line.parse::<u64>().expect("a number a line")));
        } else {
            unfinished.push(path.display().to_string());
        }
    }
    numbers.sort_unstable();
    (numbers, unfinished)
}

#[test]
fn a_full_disk_ends_a_job_with_an_error_and_without_half_a_file() {
    for seed in 0..100 {
        let mut config = SimConfig::new(seed);
        config.disk.capacity_bytes = Some(30_000);
        let report = numbers_to_files(20_000).simulate(shard_count(seed), &config);
        let report = report.expect("the job has no mistakes");
        let error = report.outcome.as_ref().expect_err("the disk is too small").chain();
        assert!(error.contains("No space left on device"), "seed {seed}: {error}");
        assert!(error.contains("make room there or write elsewhere"), "seed {seed}: {error}");
        let (numbers, _) = written(&report);
        assert!(numbers.is_sorted_by(|a, b| a < b), "seed {seed}: a number is there twice");
    }
}

#[test]
fn a_run_removes_what_an_earlier_one_left_and_keeps_what_is_complete() {
    for seed in 0..100 {
        let mut config = SimConfig::new(seed);
        for (name, text) in [
            ("part-00000-000004.jsonl", "1000000\n"),
            ("part-00000-000005.jsonl.inprogress", "1000"),
            ("part-00007-000000.jsonl.inprogress", "1000"),
        ] {
            config.files.insert(Path::new("out").join(name), text.into());
        }
        let report = numbers_to_files(5_000).simulate(shard_count(seed), &config);
        let report = report.expect("the job has no mistakes");
        assert!(report.outcome.is_ok(), "seed {seed}: {:?}", report.outcome);
        let (numbers, unfinished) = written(&report);
        assert_eq!(unfinished, Vec::<String>::new(), "seed {seed}");
        assert!(numbers.into_iter().eq((0..5_000).chain([1_000_000])), "seed {seed}");
    }
}

/// Sum and count of a window, by sensor and window's start.
fn sums(size_ms: i64, slide_ms: i64) -> BTreeSet<(u64, i64, u64, u64)> {
    let mut sums: BTreeMap<(u64, i64), (u64, u64)> = BTreeMap::new();
    for (sensor, time_ms, value) in all() {
        let mut start_ms = time_ms.div_euclid(slide_ms) * slide_ms;
        while time_ms < start_ms + size_ms {
            let sum = sums.entry((sensor, start_ms)).or_default();
            *sum = (sum.0 + 1, sum.1 + value);
            start_ms -= slide_ms;
        }
    }
    sums.into_iter().map(|((sensor, start), (count, sum))| (sensor, start, count, sum)).collect()
}

#[derive(Clone)]
struct CountAndSum;

impl AggregateFunction for CountAndSum {
    type In = Measured;
    type Accumulator = (u64, u64);
    type Out = (u64, u64);

    fn create(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, accumulator: &mut (u64, u64), (_, _, value): Measured) {
        self.merge(accumulator, (1, value));
    }

    fn merge(&self, accumulator: &mut (u64, u64), other: (u64, u64)) {
        *accumulator = (accumulator.0 + other.0, accumulator.1 + other.1);
    }

    fn result(&self, accumulator: &(u64, u64)) -> (u64, u64) {
        *accumulator
    }
}

/// Seeds are dealt out to the tests below: each has another part of them.
fn seeds_of(test: u64) -> impl Iterator<Item = u64> {
    seeds().filter(move |seed| seed % 4 == test)
}

#[test]
fn simulation_of_tumbling_windows() {
    let expected = sums(1_000, 1_000);
    for seed in seeds_of(0) {
        let job = Job::new("tumbling");
        let results = Collected::new();
        source(&job)
            .key_by(|m| m.0)
            .window(Tumbling::new(Duration::from_secs(1)))
            .aggregate_with(CountAndSum, |sensor: &u64, window: &Window, (count, sum)| {
                (*sensor, window.start_ms, count, sum)
            })
            .sink("results", results.sink());
        simulate(&job, seed);
        let values = results.values();
        assert_eq!(values.len(), expected.len(), "seed {seed}: a window fired twice or never");
        assert_eq!(values.into_iter().collect::<BTreeSet<_>>(), expected, "seed {seed}");
    }
}

#[test]
fn simulation_of_sliding_windows() {
    let expected = sums(3_000, 500);
    for seed in seeds_of(1) {
        let job = Job::new("sliding");
        let results = Collected::new();
        source(&job)
            .rebalance()
            .key_by(|m| m.0)
            .window(Sliding::new(Duration::from_secs(3), Duration::from_millis(500)))
            .aggregate_with(CountAndSum, |sensor: &u64, window: &Window, (count, sum)| {
                (*sensor, window.start_ms, count, sum)
            })
            .sink("results", results.sink());
        simulate(&job, seed);
        let values = results.values();
        assert_eq!(values.len(), expected.len(), "seed {seed}: a window fired twice or never");
        assert_eq!(values.into_iter().collect::<BTreeSet<_>>(), expected, "seed {seed}");
    }
}

/// Two sources united, rolled up by key, every intermediate result kept: as many results as
/// records, and the last of each key is its total.
#[test]
fn simulation_of_union_and_reduce() {
    let mut totals: BTreeMap<u64, u64> = BTreeMap::new();
    all().chain(all()).for_each(|(sensor, _, value)| *totals.entry(sensor).or_default() += value);
    for seed in seeds_of(2) {
        let job = Job::new("union");
        let results = Collected::new();
        let first = source(&job).map(|m| (m.0, m.2));
        let other = job.source("again", GeneratorSource::new(COUNT, measured)).map(|m| (m.0, m.2));
        first
            .union(other)
            .key_by(|r| r.0)
            .reduce(|a, b| (a.0, a.1 + b.1))
            .sink("results", results.sink());
        simulate(&job, seed);
        let values = results.values();
        assert_eq!(values.len() as u64, 2 * COUNT, "seed {seed}");
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for (sensor, sum) in values {
            let best = last.entry(sensor).or_default();
            *best = sum.max(*best);
        }
        assert_eq!(last, totals, "seed {seed}");
    }
}

/// One stream with three consumers, over every kind of edge; nothing is lost or doubled.
#[test]
fn simulation_of_every_partitioner() {
    let expected: Vec<u64> = {
        let mut values: Vec<u64> = (0..COUNT).collect();
        values.sort_unstable();
        values
    };
    for seed in seeds_of(3) {
        let job = Job::new("partitioners");
        let (global, custom, broadcast) = (Collected::new(), Collected::new(), Collected::new());
        let numbers = job.source("numbers", GeneratorSource::new(COUNT, |n| n)).shared();
        numbers.global().map(|n| n).sink("to one", global.sink());
        numbers.partition_by(|n| *n).sink("custom", custom.sink());
        numbers.broadcast().sink("broadcast", broadcast.sink());
        simulate(&job, seed);
        let sorted = |collected: &Collected<u64>| {
            let mut values = collected.values();
            values.sort_unstable();
            values
        };
        assert_eq!(sorted(&global), expected, "seed {seed}: global");
        assert_eq!(sorted(&custom), expected, "seed {seed}: custom");
        let copies = shard_count(seed) as usize;
        let all_copies = expected.iter().flat_map(|n| std::iter::repeat_n(*n, copies));
        assert!(sorted(&broadcast).into_iter().eq(all_copies), "seed {seed}: broadcast");
    }
}

/// Sources that wait for each other: the shard that ends first must not keep the others waiting,
/// though it ends within the time between two words about its source; nor may barriers, which come
/// before rows, make a source forget that it may go on.
#[test]
fn simulation_of_aligned_watermarks_that_end() {
    for seed in seeds_of(3) {
        let job = Job::new("aligned");
        let results = Collected::new();
        let count = 200 + seed % 997;
        let shards = u64::from(shard_count(seed));
        let strategy = Monotonic::new().with_alignment(Duration::from_millis(seed % 50));
        // Each split goes faster through event time than the one before, and has to wait for it.
        job.source("numbers", GeneratorSource::new(count, |n| n).paced(100_000.0))
            .watermark(strategy, move |n| 1_700_000_000_000 + (n * (1 + n % shards)) as i64)
            .sink("results", results.sink());
        simulate(&job, seed);
        let mut found = results.take_values();
        found.sort_unstable();
        assert!(found.into_iter().eq(0..count), "seed {seed}: records are missing");
    }
}
