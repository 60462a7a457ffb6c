//! Files and checkpoints together: a job that loses its power again and again, on a disk that loses
//! and tears what was not synced, writes every result once; and so does one that fails and begins
//! again as its restart strategy says.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream::checkpoint::{Restarts, Strategy, Verdict};
use millstream::error::Error;
use millstream::prelude::*;
use millstream::sim::rng::Rng;

/// One simulated seed in so many is one of these.
const SEEDS_PER_TEST: u64 = 10;

/// With fewer not everything comes up that these tests are to have seen.
const SEEDS_MIN: u64 = 10;

/// How often the power goes at most before a job may end.
const CRASHES_MAX: u64 = 6;

/// Lines of the complete files below `/out`.
pub(super) fn lines(report: &SimReport) -> Vec<String> {
    let files = report.disk.files();
    let complete = files.filter(|(path, _)| {
        let name = path.to_string_lossy();
        name.starts_with("/out/part-") && !name.ends_with(".inprogress")
    });
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it is text");
    complete
        .flat_map(|(_, bytes)| text(bytes).lines().map(str::to_string).collect::<Vec<_>>())
        .collect()
}

/// For every key the counts `1, 2, ..`, each once: how many lines there are.
fn check_counts(about: &str, lines: &[String]) -> usize {
    let mut counts: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for line in lines {
        let (key, count) = line.split_once(' ').expect("a key and a count");
        counts.entry(key).or_default().push(count.parse().expect("a number"));
    }
    for (key, mut counts) in counts {
        counts.sort_unstable();
        let expected = 1..=counts.len() as u64;
        assert!(counts.iter().copied().eq(expected), "{about}: key {key} has {counts:?}");
    }
    lines.len()
}

fn write(job: &Job, parallelism: u32, count: u64, trouble: Trouble) {
    job.source("numbers", GeneratorSource::new(count, |n| n).paced(200_000.0))
        .parallelism(parallelism)
        .process("trouble", trouble)
        .key_by(|n| n % 11)
        .aggregate(CountOf)
        .sink("files", FileSink::text("/out").roll_interval(Duration::from_micros(1_500)));
}

/// Cannot go on at some numbers, counted over all attempts.
#[derive(Clone, Default)]
struct Trouble {
    seen: Arc<AtomicU64>,
    due: Arc<[u64]>,
}

impl ProcessFunction<u64> for Trouble {
    type Out = u64;

    fn process(&mut self, n: u64, ctx: &mut ProcessContext<'_>, out: &mut impl Output<u64>) {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        if self.due.contains(&seen) {
            let (action, source) = ("go on".to_string(), io::ErrorKind::TimedOut.into());
            ctx.fail(Error::System { action, advice: None, source });
        } else {
            out.collect(n);
        }
    }
}

/// `key count` of a number.
#[derive(Clone)]
struct CountOf;

impl AggregateFunction for CountOf {
    type In = u64;
    type Accumulator = (u64, u64);
    type Out = String;

    fn create(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, accumulator: &mut (u64, u64), n: u64) {
        *accumulator = (n % 11, accumulator.1 + 1);
    }

    fn merge(&self, accumulator: &mut (u64, u64), other: (u64, u64)) {
        accumulator.1 += other.1;
    }

    fn result(&self, accumulator: &(u64, u64)) -> String {
        format!("{} {}", accumulator.0, accumulator.1)
    }
}

/// Seeds of each of these tests.
pub(super) fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("MILLSTREAM_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    0..(count.unwrap_or(1_000) / SEEDS_PER_TEST).max(SEEDS_MIN)
}

#[test]
fn every_result_is_in_one_complete_file_whenever_the_power_goes() {
    let mut crash_count = 0;
    for seed in seeds() {
        let mut rng = Rng::new(seed).fork(1);
        let count = 500 + rng.below(3_000);
        let mut config = SimConfig {
            checkpoint_interval: Some(Duration::from_micros(300 + rng.below(1_000))),
            checkpoints_retained: 1 + rng.below(3) as usize,
            ..SimConfig::new(rng.next_u64())
        };
        for round in 0..=CRASHES_MAX {
            let (shards, parallelism) = (1 + rng.below(4) as u32, 1 + rng.below(4) as u32);
            let crash_at = Duration::from_micros(200 + rng.below(15_000));
            config.crash_at = (round < CRASHES_MAX).then_some(crash_at);
            let job = Job::new("simulated");
            write(&job, parallelism, count, Trouble::default());
            let about = format!("seed {seed}, round {round}, {shards} shards");
            let report = job.simulate(shards, &config).expect("the job has no mistakes");
            let found = check_counts(&about, &lines(&report));
            match &report.outcome {
                Ok(()) => {
                    assert_eq!(found as u64, count, "{about}");
                    break;
                }
                Err(Error::Crashed { .. }) => crash_count += 1,
                Err(error) => panic!("{about}: {}", error.chain()),
            }
            config = config.after(&report, rng.next_u64()).expect("one is whole, if there are any");
        }
    }
    assert!(0 < crash_count, "the power went");
}

#[test]
fn a_job_that_fails_begins_again_while_its_strategy_lets_it_and_writes_every_result_once() {
    let (mut restart_count, mut given_up_count) = (0, 0);
    for seed in seeds() {
        let mut rng = Rng::new(seed).fork(2);
        let count = 500 + rng.below(2_000);
        let (shards, parallelism) = (1 + rng.below(4) as u32, 1 + rng.below(4) as u32);
        let due = (0..=rng.below(5)).map(|_| rng.below(2 * count)).collect();
        let trouble = Trouble { seen: Arc::default(), due };
        let (attempts, delay) = (rng.below(6) as u32, Duration::from_millis(1));
        let strategy = Strategy::FixedDelay { attempts: Some(attempts), delay };
        let (mut restarts, mut now) = (Restarts::new(strategy), Duration::ZERO);
        let mut config = SimConfig {
            checkpoint_interval: Some(Duration::from_micros(300 + rng.below(1_000))),
            ..SimConfig::new(rng.next_u64())
        };
        loop {
            let job = Job::new("simulated");
            write(&job, parallelism, count, trouble.clone());
            let about = format!("seed {seed}, restart {}, {shards} shards", restarts.count());
            let report = job.simulate(shards, &config).expect("the job has no mistakes");
            let lines = lines(&report);
            let Err(error) = &report.outcome else {
                assert_eq!(check_counts(&about, &lines) as u64, count, "{about}");
                break;
            };
            // Of the files of one checkpoint some may have their names, and some not yet.
            let distinct: BTreeSet<&String> = lines.iter().collect();
            assert_eq!(distinct.len(), lines.len(), "{about}: nothing is there twice");
            assert!(error.may_pass(), "{about}: {}", error.chain());
            now += report.took;
            match restarts.on_failure(now, rng.next_u64()) {
                Verdict::Restart { after } => now += after,
                Verdict::GiveUp { .. } => {
                    assert_eq!(restarts.count(), u64::from(attempts), "{about}");
                    given_up_count += 1;
                    break;
                }
            }
            config = config.after(&report, rng.next_u64()).expect("one is whole, if there are any");
        }
        restart_count += restarts.count();
    }
    assert!(0 < restart_count && 0 < given_up_count, "{restart_count}, {given_up_count}");
}
