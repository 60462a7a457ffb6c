//! Rows that are too large to leave an operator: the same at any number of shards.

use std::path::PathBuf;

use millstream::prelude::*;

const LINE_BYTES: usize = 10_000_000;

/// Text files as a job finds them: a short line, a line of 10 MB, a short line.
fn config(seed: u64) -> SimConfig {
    let text = format!("first\n{}\nlast\n", "x".repeat(LINE_BYTES));
    let files = [(PathBuf::from("/in/a.txt"), text.into_bytes())].into();
    SimConfig { files, ..SimConfig::new(seed) }
}

#[test]
fn a_line_of_10_mb_stops_the_job_with_its_place() {
    for shard_count in [1, 2] {
        let job = Job::new("lines");
        job.source("lines", FileSource::lines("/in/*.txt"))
            .map(|line| line)
            .name("clean")
            .rebalance()
            .sink("none", DiscardSink::new());
        let report = job.simulate(shard_count, &config(1)).expect("the plan has no mistakes");
        let error = report.outcome.expect_err("the line is too large").to_string();
        assert_eq!(
            error,
            "operator clean at source lines, /in/a.txt, byte 6: a row of more than 1048576 bytes; \
             make it smaller before it leaves the operator, or read the operator's side output \
             DEAD_LETTERS to put such rows aside",
            "{shard_count} shards"
        );
    }
}

#[test]
fn a_line_of_10_mb_goes_to_the_dead_letters_if_somebody_reads_them() {
    for shard_count in [1, 2] {
        let job = Job::new("lines");
        let (lines, letters) = (Collected::new(), Collected::new());
        let clean = job.source("lines", FileSource::lines("/in/*.txt")).map(|line| line);
        let clean = clean.name("clean");
        clean.side_output(DEAD_LETTERS).sink("letters", letters.sink());
        clean.rebalance().sink("others", lines.sink());
        let report = job.simulate(shard_count, &config(2)).expect("the plan has no mistakes");
        report.outcome.expect("one line is put aside");
        let mut lines = lines.take_values();
        lines.sort();
        assert_eq!(lines, ["first", "last"], "{shard_count} shards");
        let expected = DeadLetter::new(
            "operator clean at source 0, /in/a.txt, byte 6",
            "a row of more than 1048576 bytes",
            &[],
        );
        assert_eq!(letters.take_values(), [expected], "{shard_count} shards");
        let tasks = report.shards.iter().flat_map(|shard| &shard.tasks);
        assert_eq!(tasks.map(|task| task.status.dead_letters).sum::<u64>(), 1);
    }
}
