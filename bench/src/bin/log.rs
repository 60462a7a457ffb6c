//! What a log between jobs costs: records a second written and read, and how old a record is when
//! the other job has it.
//!
//! ```text
//! numbers as JSON ─► log ─► nothing        throughput, one after the other
//! times, paced    ─► log ─► how long ago   latency, both at once
//! ```
//!
//! `cargo run --release -p millstream-bench --bin log`
//! `    [-- --records 5000000 --rate 20000 --directory /path]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use clap::Parser;
use hdrhistogram::Histogram;
use millstream::config::{Config, Period};
use millstream::prelude::*;
use millstream_bench::stopwatch;

/// Measures a log.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Records written and read.
    #[arg(long, default_value_t = 5_000_000)]
    records: u64,
    /// Records a second where latency is measured.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// From one checkpoint to the next, where latency is measured; each in turn.
    #[arg(long, value_delimiter = ',', default_value = "10ms,100ms,1s")]
    intervals: Vec<Period>,
    /// Where files are to be.
    #[arg(long)]
    directory: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let place = tempfile::tempdir_in(options.directory.as_deref().unwrap_or(Path::new(".")))?;
    for partitions in [1, 4] {
        throughput(&options, &place.path().join(partitions.to_string()), partitions)?;
    }
    for interval in &options.intervals {
        latency(&options, &place.path().join(format!("{interval}")), *interval)?;
    }
    Ok(())
}

fn run(job: &Job, config: &Config) -> anyhow::Result<Duration> {
    let plan = job.plan(1, config.key_group_count)?;
    Ok(millstream::runtime::node::run(&plan.program, config, false)?.took)
}

/// Writes a log and reads it.
fn throughput(options: &Options, place: &Path, partitions: u32) -> anyhow::Result<()> {
    let log = place.join("log");
    let records = options.records;
    let config =
        Config { checkpoint_directory: Some(place.join("checkpoints")), ..stopwatch::spinning() };
    let job = Job::new("writes");
    job.source("numbers", GeneratorSource::new(records, |n| n))
        .log("log", LogSink::json_lines(&log).partitions(partitions).keyed_by(|n| *n));
    let written = run(&job, &config)?;
    let bytes: u64 = std::fs::read_dir(&log)?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .sum::<std::io::Result<u64>>()?;
    let job = Job::new("reads");
    job.source("log", LogSource::json_lines::<u64>(&log).bounded()).discard();
    let read = run(&job, &stopwatch::spinning())?;
    let speed = |took: Duration| {
        let seconds = took.as_secs_f64();
        format!(
            "{:.2} million records a second ({:.0} MB/s)",
            records as f64 / seconds / 1e6,
            bytes as f64 / seconds / 1e6
        )
    };
    println!("{partitions} partitions: written {}, read {}", speed(written), speed(read));
    Ok(())
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as u64
}

/// Lets one job read what another writes meanwhile.
fn latency(options: &Options, place: &Path, interval: Period) -> anyhow::Result<()> {
    let log = place.join("log");
    let count = options.rate * 5;
    let ages = Arc::new(Mutex::new(Histogram::<u64>::new(3)?));
    let reader = Job::new("reads");
    let seen = Arc::clone(&ages);
    reader
        .source("log", LogSource::json_lines::<u64>(&log).poll_interval(Duration::from_millis(2)))
        .sink(
            "ages",
            ForEachSink::new(move |written_us: u64| {
                let age_us = now_us().saturating_sub(written_us);
                let mut seen = seen.lock().expect("nobody panics with it");
                seen.record(age_us).expect("it resizes itself");
            }),
        );
    // It has no end; the process has.
    std::thread::spawn(move || {
        let config = Config { shards: Some(1), ..Config::default() };
        if let Err(error) = run(&reader, &config) {
            println!("the reader failed: {error:#}");
        }
    });
    let job = Job::new("writes");
    job.source("times", GeneratorSource::new(count, |_| now_us()).paced(options.rate as f64))
        .log("log", LogSink::json_lines(&log));
    let config = Config {
        shards: Some(1),
        checkpoint_directory: Some(place.join("checkpoints")),
        checkpoint_interval: interval,
        ..Config::default()
    };
    run(&job, &config)?;
    while ages.lock().expect("nobody panics with it").len() < count {
        std::thread::sleep(Duration::from_millis(10));
    }
    let ages = ages.lock().expect("nobody panics with it");
    let ms = |quantile: f64| ages.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "a checkpoint every {interval}: age of a record in the other job {:.1} ms (median), {:.1} ms \
         (99 %), {:.1} ms at most",
        ms(0.5),
        ms(0.99),
        ms(1.0)
    );
    Ok(())
}
