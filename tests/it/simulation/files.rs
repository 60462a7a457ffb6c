//! Jobs that read and write files, on disks that fail, fill up and lose their power.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream::prelude::*;
use millstream::sim::disk::{Disk, DiskFaults};
use millstream::sim::rng::{Chance, Rng};
use millstream_tests::model::window::Kind;

use super::input::{BEGIN_MS, Fired, Gather, Input, fired, ms};
use super::ledger::Ledger;
use super::{Layout, assert_same, check, seeds_of};

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Line `n`. Its length tells whether all of it is there.
fn line(n: u64) -> String {
    format!("{n}:{}", "x".repeat((n % 40) as usize))
}

/// The number of a whole line.
fn number(line: &str) -> Option<u64> {
    let n = line.split_once(':')?.0.parse().ok()?;
    (self::line(n) == line).then_some(n)
}

/// Some files of lines, numbered through, and how many lines there are.
fn draw_inputs(rng: &mut Rng) -> (Files, u64) {
    let (mut files, mut count) = (Files::new(), 0);
    for file in 0..=rng.below(4) {
        let next = count + rng.below(150);
        let lines: Vec<String> = (count..next).map(|n| line(n) + "\n").collect();
        files.insert(PathBuf::from(format!("in/{file}.txt")), lines.concat().into_bytes());
        count = next;
    }
    (files, count)
}

/// What is below `out/` under a final name.
fn complete(disk: &Disk) -> Files {
    let files = disk.files().filter(|(path, _)| path.starts_with("out"));
    let complete = files.filter(|(path, _)| path.extension() != Some("inprogress".as_ref()));
    complete.map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect()
}

/// The numbers in a file, all of whose lines must be whole.
fn numbers(about: &str, path: &Path, bytes: &[u8]) -> Vec<u64> {
    let path = path.display();
    let text = std::str::from_utf8(bytes).unwrap_or_else(|_| panic!("{about}: {path}, no text"));
    assert!(text.ends_with('\n'), "{about}: {path} ends within a line: {text:?}");
    let number = |line| number(line).unwrap_or_else(|| panic!("{about}: {path} has {line:?}"));
    text.lines().map(number).collect()
}

/// The positions of a file source are in the checkpoint, whoever reads which split afterwards; and
/// those that were being read hold event time back, so no line is late.
#[test]
fn reading_files_exactly_once() {
    let draw = |rng: &mut Rng, config: &mut SimConfig| {
        let (files, count) = draw_inputs(rng);
        config.files = files;
        (count, 20 + rng.below(3_000))
    };
    let write = |drawn: &(u64, u64), job: &Job, layout: &Layout, ledger: Ledger<Fired>| {
        let source = FileSource::lines("in/*.txt").split_bytes(drawn.1);
        let event = |line: &String| {
            let n = number(line).expect("a whole line");
            ((n % 3) as u32, BEGIN_MS + n as i64, n as u32 + 1)
        };
        job.source("lines", source)
            .parallelism(layout.parallelism)
            .watermark(Monotonic::new(), move |line| event(line).1)
            .map(move |line| event(&line))
            .key_by(|event| event.0)
            .window(Tumbling::new(ms(10)))
            .aggregate_with(Gather, fired)
            .sink("ledger", ledger);
    };
    check(11, draw, write, |about, drawn, _, rows| {
        let event = |n: u64| ((n % 3) as u32, BEGIN_MS + n as i64, n as u32 + 1);
        let input = Input { events: (0..drawn.0).map(event).collect(), disorder_ms: 0 };
        assert_same(about, rows, input.fired(Kind::Sliding { size: 10, slide: 10, offset: 0 }));
    });
}

fn copy(job: &Job) {
    let source = FileSource::lines("in/*.txt").split_bytes(500);
    let sink = FileSink::text("out").roll_interval(Duration::from_millis(3));
    job.source("lines", source).rebalance().map(|line| line).sink("copies", sink);
}

/// What goes wrong under a seed: nothing, or one thing.
fn draw_trouble(rng: &mut Rng, config: &mut SimConfig) {
    let faults = DiskFaults::default();
    match rng.below(7) {
        0 => {}
        1 => config.disk = DiskFaults { write_error: Chance::one_in(4), ..faults },
        2 => config.disk = DiskFaults { sync_error: Chance::one_in(3), ..faults },
        3 => config.disk = DiskFaults { read_error: Chance::one_in(8), ..faults },
        4 => {
            let failing_ops = BTreeSet::from([rng.below(40)]);
            config.disk = DiskFaults { failing_ops, ..faults };
        }
        5 => config.disk = DiskFaults { capacity_bytes: Some(rng.below(12_000)), ..faults },
        _ => config.crash_at = Some(Duration::from_micros(rng.below(60_000))),
    }
}

/// Files appear when they are complete and durable, or not at all. After whatever went wrong, the
/// job starts again on the disk as it is and writes everything.
#[test]
fn writing_files_on_disks_that_fail() {
    for seed in seeds_of(12) {
        let mut rng = Rng::new(seed).fork(12);
        let (files, count) = draw_inputs(&mut rng);
        let mut config = SimConfig { files, ..SimConfig::new(seed) };
        config.disk.capacity_bytes = None;
        draw_trouble(&mut rng, &mut config);
        if let Some(capacity_bytes) = &mut config.disk.capacity_bytes {
            *capacity_bytes += config.files.values().map(|file| file.len() as u64).sum::<u64>();
        }
        let job = Job::new("copy");
        copy(&job);
        let mut report =
            job.simulate(1 + rng.below(4) as u32, &config).expect("the job has no mistakes");
        let about = format!("seed {seed}, {:?}, crash at {:?}", config.disk, config.crash_at);
        match &report.outcome {
            Ok(()) => {}
            Err(Error::File { action, .. }) => assert!(!action.is_empty(), "{about}"),
            Err(Error::Crashed { .. }) => assert!(config.crash_at.is_some(), "{about}"),
            Err(error) => panic!("{about}: {}", error.chain()),
        }
        if rng.chance(1, 2) {
            // Whatever the sink believed, the disk may have forgotten what was not durable.
            report.disk.crash();
        }
        let before = complete(&report.disk);
        let mut found = Vec::new();
        for (path, bytes) in &before {
            found.extend(numbers(&about, path, bytes));
        }
        if report.outcome.is_ok() {
            assert_same(&about, found, (0..count).collect());
        } else {
            let distinct: BTreeSet<_> = found.iter().copied().collect();
            assert_eq!(distinct.len(), found.len(), "{about}: a line was written twice");
        }
        restart(&about, &report.disk, &before, count, &mut rng);
    }
}

/// Starts the job again on what is left of a disk.
fn restart(about: &str, disk: &Disk, before: &Files, count: u64, rng: &mut Rng) {
    let files = disk.files().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect();
    let config = SimConfig { files, ..SimConfig::new(rng.next_u64()) };
    let job = Job::new("copy");
    copy(&job);
    let report = job.simulate(1 + rng.below(4) as u32, &config).expect("the job has no mistakes");
    assert!(report.outcome.is_ok(), "{about}, again: {:?}", report.outcome);
    let mut after = complete(&report.disk);
    for (path, bytes) in before {
        assert_eq!(after.remove(path).as_ref(), Some(bytes), "{about}: {} changed", path.display());
    }
    let written = after.iter().flat_map(|(path, bytes)| numbers(about, path, bytes));
    assert_same(about, written.collect(), (0..count).collect());
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
        let report = numbers_to_files(20_000).simulate(1 + seed as u32 % 5, &config);
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
        let report = numbers_to_files(5_000).simulate(1 + seed as u32 % 5, &config);
        let report = report.expect("the job has no mistakes");
        assert!(report.outcome.is_ok(), "seed {seed}: {:?}", report.outcome);
        let (numbers, unfinished) = written(&report);
        assert_eq!(unfinished, Vec::<String>::new(), "seed {seed}");
        assert!(numbers.into_iter().eq((0..5_000).chain([1_000_000])), "seed {seed}");
    }
}
