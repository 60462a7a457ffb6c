//! State that has no room in memory, on a disk with its faults.

use super::super::*;
use crate::api::{AnyStream, Job};
use crate::connector::{Collected, GeneratorSource};
use crate::operator::Output;
use crate::operator::process::{KeyedContext, KeyedProcessFunction, OpenContext};
use crate::sim::rng::Chance;
use crate::state::spec::StateSpec;
use crate::state::value::ValueState;

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
