//! Logs between jobs, on a disk that loses and tears what was not synced: one job writes, another
//! reads, the power goes again and again, and every record is there once, in its place.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::prelude::*;
use millstream::sim::rng::Rng;

/// One simulated seed in so many is one of these.
const SEEDS_PER_TEST: u64 = 20;

/// How often the power goes at most before a job may end.
const CRASHES_MAX: u64 = 5;

const KEYS: u64 = 11;

/// What a log of the disk has, as partitions.
type Partitions = BTreeMap<u32, Vec<(u64, u64)>>;

/// For every key the counts `1, 2, ..`, as `key count`.
fn write(job: &Job, parallelism: u32, count: u64) {
    let source = GeneratorSource::new(count, |n| n).paced(200_000.0);
    let counts = job
        .source("numbers", source)
        .parallelism(parallelism)
        .key_by(|n| n % KEYS)
        .aggregate(CountOf);
    let log = LogSink::json_lines("/log").partitions(3).segment_bytes(20_000);
    counts.log("log", log.keyed_by(|(key, _): &(u64, u64)| *key));
}

/// Copies a log to another, with fewer partitions.
fn copy(job: &Job, parallelism: u32) {
    let log = LogSource::json_lines::<(u64, u64)>("/log").poll_interval(Duration::from_millis(1));
    job.source("log", log.bounded())
        .parallelism(parallelism)
        .log("copy", LogSink::json_lines("/copy").partitions(2).keyed_by(|(key, _)| *key));
}

/// Key and count of a number.
#[derive(Clone)]
struct CountOf;

impl AggregateFunction for CountOf {
    type In = u64;
    type Accumulator = (u64, u64);
    type Out = (u64, u64);

    fn create(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, accumulator: &mut (u64, u64), n: u64) {
        *accumulator = (n % KEYS, accumulator.1 + 1);
    }

    fn merge(&self, accumulator: &mut (u64, u64), other: (u64, u64)) {
        accumulator.1 += other.1;
    }

    fn result(&self, accumulator: &(u64, u64)) -> (u64, u64) {
        *accumulator
    }
}

/// The disk that `report` left, without checkpoints.
fn disk_of(report: &SimReport) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let logs = report
        .disk
        .files()
        .filter(|(path, _)| path.starts_with("/log") || path.starts_with("/copy"));
    logs.map(|(path, bytes)| (path.to_path_buf(), bytes.to_vec())).collect()
}

/// What is committed in a log of the disk that `report` left, in the order of its numbers.
fn committed(log: &str, report: &SimReport, seed: u64) -> Partitions {
    let config = SimConfig { files: disk_of(report), ..SimConfig::new(seed) };
    if !config
        .files
        .keys()
        .any(|path| path.starts_with(log) && path.extension() == Some("log".as_ref()))
    {
        return Partitions::new();
    }
    let job = Job::new("reads");
    let found = Collected::<(u64, u64)>::new();
    job.source("log", LogSource::json_lines::<(u64, u64)>(log).bounded())
        .parallelism(1)
        .sink("found", found.sink());
    let report = job.simulate(1, &config).expect("the job has no mistakes");
    if let Err(error) = &report.outcome {
        panic!("seed {seed}: {}", error.chain());
    }
    let mut partitions = Partitions::new();
    for row in found.take_rows() {
        let records = partitions.entry(row.origin.split()).or_default();
        assert_eq!(row.origin.position(), Some(records.len() as u64), "seed {seed}");
        records.push(row.value);
    }
    partitions
}

/// In every partition the counts of every key ascend from 1: how many records there are. `before`
/// was there already.
fn check(about: &str, found: &Partitions, before: &Partitions) -> u64 {
    let mut counts: BTreeMap<u64, (u32, u64)> = BTreeMap::new();
    for (partition, records) in found {
        for (key, count) in records {
            let (of, last) = counts.entry(*key).or_insert((*partition, 0));
            assert_eq!((*partition, *count), (*of, *last + 1), "{about}: key {key}");
            *last = *count;
        }
    }
    for (partition, records) in before {
        let now = found.get(partition).map_or(&[][..], Vec::as_slice);
        assert!(now.starts_with(records), "{about}: what was committed stays");
    }
    found.values().map(|records| records.len() as u64).sum()
}

/// Lets a job end, however often the power goes; what `log` has then.
fn run_out(
    (log, job): (&str, impl Fn(&Job, &mut Rng)),
    files: BTreeMap<std::path::PathBuf, Vec<u8>>,
    (rng, about): (&mut Rng, &str),
    crash_count: &mut u64,
) -> (Partitions, SimReport) {
    let mut config = SimConfig {
        checkpoint_interval: Some(Duration::from_micros(300 + rng.below(1_000))),
        checkpoints_retained: 1 + rng.below(3) as usize,
        files,
        ..SimConfig::new(rng.next_u64())
    };
    let mut before = Partitions::new();
    for round in 0..=CRASHES_MAX {
        let shards = 1 + rng.below(4) as u32;
        let crash_at = Duration::from_micros(200 + rng.below(15_000));
        config.crash_at = (round < CRASHES_MAX).then_some(crash_at);
        let about = format!("{about}, round {round}, {shards} shards");
        let plan = Job::new("simulated");
        job(&plan, rng);
        let report = plan.simulate(shards, &config).expect("the job has no mistakes");
        let found = committed(log, &report, rng.next_u64());
        check(&about, &found, &before);
        before = found;
        match &report.outcome {
            Ok(()) => return (before, report),
            Err(millstream::error::Error::Crashed { .. }) => *crash_count += 1,
            Err(error) => panic!("{about}: {}", error.chain()),
        }
        config = config.after(&report, rng.next_u64()).expect("one is whole, if there are any");
    }
    panic!("{about}: the last round does not crash");
}

#[test]
fn every_record_is_in_the_log_once_and_in_the_copy_whenever_the_power_goes() {
    let count = std::env::var("MILLSTREAM_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    let mut crash_count = 0;
    for seed in 0..(count.unwrap_or(1_000) / SEEDS_PER_TEST).max(1) {
        let mut rng = Rng::new(seed).fork(2);
        let count = 500 + rng.below(3_000);
        let about = format!("seed {seed}");
        let writer = |job: &Job, rng: &mut Rng| write(job, 1 + rng.below(4) as u32, count);
        let (log, report) =
            run_out(("/log", writer), BTreeMap::new(), (&mut rng, &about), &mut crash_count);
        assert_eq!(check(&about, &log, &Partitions::new()), count, "{about}");
        let reader = |job: &Job, rng: &mut Rng| copy(job, 1 + rng.below(4) as u32);
        let files = disk_of(&report);
        let (copied, _) = run_out(("/copy", reader), files, (&mut rng, &about), &mut crash_count);
        assert_eq!(check(&about, &copied, &Partitions::new()), count, "{about}");
    }
    assert!(0 < crash_count, "the power went");
}
