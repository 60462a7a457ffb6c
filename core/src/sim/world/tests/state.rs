//! State that has no room in memory, on a disk with its faults.

use super::super::*;
use crate::api::{AnyStream, Job};
use crate::connector::{Collected, GeneratorSource};
use crate::operator::Output;
use crate::operator::process::{KeyedContext, KeyedProcessFunction, OpenContext};
use crate::sim::rng::Chance;
use crate::state::aggregate::AggregateFunction;
use crate::state::spec::StateSpec;
use crate::state::value::ValueState;
use crate::time::strategy::{BoundedOutOfOrderness, WatermarkStrategy};
use crate::time::window::Tumbling;

const KEY_COUNT: u64 = 150;

const RECORD_COUNT: u64 = 15_000;

/// How many records of its key there were before each.
#[derive(Clone, Default)]
struct CountBefore {
    /// The count, in all places.
    count: ValueState<[u64; 32]>,
}

impl KeyedProcessFunction<u64, u64> for CountBefore {
    type Out = (u64, u64);

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.count = ctx.value("count", StateSpec::kept_until_cleared());
    }

    fn process(
        &mut self,
        number: u64,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut impl Output<(u64, u64)>,
    ) {
        let count = self.count.get(ctx).copied().unwrap_or([0; 32]);
        assert_eq!(count, [count[0]; 32], "a value is whole");
        self.count.set(ctx, [count[0] + 1; 32]);
        out.collect((number % KEY_COUNT, count[0]));
    }
}

/// A run with so little memory that most keys are on the disk, and what came out.
fn run(shard_count: u32, config: &SimConfig) -> (SimReport, Vec<(u64, u64)>) {
    let (job, collected) = (Job::new("count"), Collected::new());
    job.source("numbers", GeneratorSource::new(RECORD_COUNT, |n| n))
        .key_by(|n| n % KEY_COUNT)
        .process("count", CountBefore::default())
        .sink("collected", collected.sink());
    let config = SimConfig { working_bytes: 4 << 10, ..config.clone() };
    let report = job.simulate(shard_count, &config).expect("the job has no mistakes");
    (report, collected.values())
}

#[test]
fn what_is_on_the_disk_is_found_whatever_the_seed() {
    let (mut flush_count, mut merge_count) = (0, 0);
    for seed in 0..12 {
        let (report, mut rows) = run(1 + seed as u32 % 3, &SimConfig::new(seed));
        assert!(report.outcome.is_ok(), "seed {seed}: {:?}", report.outcome);
        rows.sort_unstable();
        let counts = 0..RECORD_COUNT / KEY_COUNT;
        let expected = (0..KEY_COUNT).flat_map(|key| counts.clone().map(move |n| (key, n)));
        assert!(rows.into_iter().eq(expected), "seed {seed}");
        for store in report.shards.iter().filter_map(|shard| shard.store) {
            flush_count += store.flush_count;
            merge_count += store.merge_count;
        }
        let mut files = report.disk.files().map(|(path, _)| path);
        assert!(!files.any(|path| path.starts_with(STATE_DIRECTORY)), "seed {seed}: it is over");
    }
    assert!(0 < flush_count && 0 < merge_count, "{flush_count} flushes, {merge_count} merges");
}

/// Gathers numbers.
#[derive(Clone)]
struct Gather;

impl AggregateFunction for Gather {
    type In = u64;
    type Accumulator = Vec<u64>;
    type Out = Vec<u64>;

    fn create(&self) -> Vec<u64> {
        Vec::new()
    }

    fn add(&self, numbers: &mut Vec<u64>, number: u64) {
        numbers.push(number);
    }

    fn merge(&self, numbers: &mut Vec<u64>, other: Vec<u64>) {
        numbers.extend(other);
    }

    fn result(&self, numbers: &Vec<u64>) -> Vec<u64> {
        let mut numbers = numbers.clone();
        numbers.sort_unstable();
        numbers
    }
}

const WINDOW_MS: u64 = 3_000;

#[test]
fn windows_whose_accumulators_are_on_the_disk_have_all_their_numbers() {
    let mut flush_count = 0;
    for seed in 0..12 {
        let (job, collected) = (Job::new("gather"), Collected::new());
        let strategy =
            || WatermarkStrategy::new(BoundedOutOfOrderness::new(Duration::from_millis(20)));
        job.source("numbers", GeneratorSource::new(RECORD_COUNT, |n| n))
            .watermark(strategy(), |n| *n as i64)
            .key_by(|n| n % KEY_COUNT)
            .window(Tumbling::new(Duration::from_millis(WINDOW_MS)))
            .aggregate(Gather)
            .sink("collected", collected.sink());
        // Every other disk does not take all that is written at once.
        let write_error = if seed % 2 == 0 { Chance::NEVER } else { Chance::one_in(8) };
        let disk = DiskFaults { write_error, ..DiskFaults::default() };
        let config = SimConfig { working_bytes: 4 << 10, disk, ..SimConfig::new(seed) };
        let report = job.simulate(1 + seed as u32 % 3, &config).expect("the job has no mistakes");
        assert!(report.outcome.is_ok(), "seed {seed}: {:?}", report.outcome);
        let mut found = collected.values();
        found.sort_unstable();
        let mut expected: Vec<Vec<u64>> = (0..RECORD_COUNT / WINDOW_MS)
            .flat_map(|window| (0..KEY_COUNT).map(move |key| (window * WINDOW_MS, key)))
            .map(|(from, key)| (from..from + WINDOW_MS).filter(|n| n % KEY_COUNT == key).collect())
            .collect();
        expected.sort_unstable();
        assert!(found == expected, "seed {seed}");
        for store in report.shards.iter().filter_map(|shard| shard.store) {
            flush_count += store.flush_count;
            assert_eq!(store.read_count, 0, "seed {seed}: no row waits for the disk");
        }
    }
    assert!(0 < flush_count);
}

#[test]
fn equal_seeds_keep_and_read_the_same() {
    let config = SimConfig { keep_trace: true, ..SimConfig::new(5) };
    let (first, second) = (run(2, &config).0, run(2, &config).0);
    assert!(first.trace == second.trace, "the traces of one seed differ");
    assert!(first.trace.is_some_and(|trace| trace.contains(STATE_DIRECTORY)));
}

#[test]
fn a_disk_that_fails_stops_the_job_and_the_file_is_named() {
    let faults = [
        ("sync", DiskFaults { sync_error: Chance::one_in(1), ..DiskFaults::default() }),
        ("read", DiskFaults { read_error: Chance::one_in(1), ..DiskFaults::default() }),
    ];
    for (action, disk) in faults {
        let mut failed_count = 0;
        for seed in 0..8 {
            let config = SimConfig { disk: disk.clone(), ..SimConfig::new(seed) };
            // It may be over before the disk is needed.
            let Err(error) = run(3, &config).0.outcome else { continue };
            let (error, expected) = (error.chain(), format!("{action} {STATE_DIRECTORY}/shard-"));
            assert!(error.contains(&expected), "seed {seed}: {error}");
            failed_count += 1;
        }
        assert!(0 < failed_count, "{action}: no run needed the disk");
    }
}

#[test]
fn state_that_is_left_by_a_crash_disturbs_nobody() {
    let crash_at = Some(Duration::from_millis(30));
    let (report, _) = run(2, &SimConfig { crash_at, ..SimConfig::new(6) });
    assert!(matches!(report.outcome, Err(Error::Crashed { .. })), "{:?}", report.outcome);
    let files: BTreeMap<_, _> =
        report.disk.files().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect();
    assert!(files.keys().any(|path| path.starts_with(STATE_DIRECTORY)), "it crashed too early");
    let (report, rows) = run(2, &SimConfig { files, ..SimConfig::new(7) });
    assert!(report.outcome.is_ok(), "{:?}", report.outcome);
    assert_eq!(rows.len() as u64, RECORD_COUNT);
}
