//! A seed decides everything: two runs of one give the same trace, and records are part of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use millstream::prelude::*;

fn parse(line: &str) -> (u64, i64) {
    let n: u64 = line.parse().expect("a number");
    (n, 1_700_000_000_000 + n as i64 * 3)
}

/// Files, windows with event timers, sessions with processing timers, files again.
fn write(job: &Job) {
    let lines = job.source("lines", FileSource::lines("in/*.txt").split_bytes(400));
    let numbers = lines
        .map(|line| parse(&line))
        .watermark(BoundedOutOfOrderness::new(Duration::from_secs(2)), |n| n.1)
        .shared();
    let event = numbers.key_by(|n| n.0 % 5).window(Session::new(Duration::from_millis(40)));
    let clock = numbers
        .key_by(|n| n.0 % 3)
        .window(Tumbling::new(Duration::from_millis(2)).processing_time());
    event
        .reduce(|a, b| (a.0 + b.0, a.1))
        .union(clock.reduce(|a, b| (a.0 + b.0, a.1)))
        .map(|(sum, _)| sum)
        .sink("sums", FileSink::text("out").roll_interval(Duration::from_millis(5)));
}

fn trace(seed: u64, shards: u32) -> String {
    let text =
        |from: u64| (from..from + 200).map(|n| format!("{n}\n")).collect::<Vec<_>>().concat();
    let file = |n: u64| (PathBuf::from(format!("in/{n}.txt")), text(n * 200).into_bytes());
    let config = SimConfig {
        files: (0..3).map(file).collect::<BTreeMap<_, _>>(),
        checkpoint_interval: Some(Duration::from_millis(1)),
        keep_trace: true,
        ..SimConfig::new(seed)
    };
    let job = Job::new("sums");
    write(&job);
    let report = job.simulate(shards, &config).expect("the job has no mistakes");
    assert!(report.outcome.is_ok(), "{:?}", report.outcome);
    assert!(!report.checkpoints.is_empty(), "barriers are part of it");
    report.trace.expect("it was kept")
}

#[test]
fn two_simulations_of_a_seed_give_the_same_bytes() {
    for (seed, shards) in [(1, 1), (2, 2), (3, 3), (4, 5)] {
        let (first, second) = (trace(seed, shards), trace(seed, shards));
        let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}, {shards} shards");
        assert_eq!(first.len(), second.len());
    }
}

/// Jobs whose records differ have different traces, even if nothing else about them does.
#[test]
fn records_are_part_of_the_trace_of_a_simulation() {
    let hash = |shards, added: u64| {
        let job = Job::new("numbers");
        let numbers = job.source("numbers", GeneratorSource::new(100, |n| n));
        numbers.map(move |n| n + added).rebalance().discard();
        let report = job.simulate(shards, &SimConfig::new(5)).expect("the job has no mistakes");
        assert!(report.outcome.is_ok(), "{:?}", report.outcome);
        report.trace_hash64
    };
    for shards in [1, 3] {
        assert_eq!(hash(shards, 1), hash(shards, 1), "{shards} shards");
        assert_ne!(hash(shards, 1), hash(shards, 2), "{shards} shards");
    }
}
