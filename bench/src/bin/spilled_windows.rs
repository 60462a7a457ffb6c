//! Windows whose accumulators do not fit into memory, through the engine: what a record costs,
//! compared with the same job in memory.
//!
//! ```text
//! numbers ─► key: all as likely ─► tumbling windows: count, sum, least, most ─► tally
//! ```
//!
//! A window has some records of every key. With little memory most accumulators leave as partials,
//! to be merged when their window fires. Both runs have to come to the same.
//!
//! `cargo run --release -p millstream-bench --bin spilled_windows`
//! `    [-- --keys 6000000 --records-per-key 2 --windows 3 --memory 64MiB --directory /path]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use millstream::config::{ByteCount, Config};
use millstream::prelude::*;
use millstream_bench::{mix, process, stopwatch};

/// Measures windows that do not fit into memory.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Keys, of 16 bytes.
    #[arg(long, default_value_t = 6_000_000)]
    keys: u64,
    /// Records of a key in a window, on average.
    #[arg(long, default_value_t = 2)]
    records_per_key: u64,
    /// Windows, one after the other.
    #[arg(long, default_value_t = 3)]
    windows: u64,
    /// Memory of the shard when it is short.
    #[arg(long, default_value = "64MiB")]
    memory: ByteCount,
    /// Where the files are to be.
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// A key, as two words.
type Id = (u64, u64);

/// Count, sum, least and most.
type Sums = [u64; 4];

/// Aggregates the numbers of records.
#[derive(Clone)]
struct Summarize;

impl AggregateFunction for Summarize {
    type In = (Id, u64);
    type Accumulator = Sums;
    type Out = Sums;

    fn create(&self) -> Sums {
        [0, 0, u64::MAX, 0]
    }

    fn add(&self, sums: &mut Sums, (_, number): (Id, u64)) {
        self.merge(sums, [1, number, number, number]);
    }

    fn merge(&self, sums: &mut Sums, other: Sums) {
        sums[0] += other[0];
        sums[1] = sums[1].wrapping_add(other[1]);
        sums[2] = sums[2].min(other[2]);
        sums[3] = sums[3].max(other[3]);
    }

    fn result(&self, sums: &Sums) -> Sums {
        *sums
    }
}

/// What a run took, and what came of it.
struct Took {
    record_ns: f64,
    record_cpu_ns: f64,
    peak_mib: f64,
    results: u64,
    digest: u64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let Options { keys, records_per_key, windows, memory, .. } = options;
    let entry_bytes = (8 + size_of::<Id>() + size_of::<Sums>()) as u64;
    let data_mib = (keys * entry_bytes) as f64 / f64::from(1 << 20);
    println!(
        "{keys} keys of {entry_bytes} bytes = {data_mib:.0} MiB, {windows} windows of \
         {records_per_key} records a key"
    );
    println!("{:24} {:>10} {:>10} {:>12}", "", "ns", "CPU ns", "peak");
    let everything = ByteCount(8 * keys * entry_bytes + (256 << 20));
    let short = measure("memory short", &options, memory)?;
    let enough = measure("memory for everything", &options, everything)?;
    anyhow::ensure!(
        (short.results, short.digest) == (enough.results, enough.digest),
        "the runs came to different results"
    );
    println!(
        "ratio {:.2}, of processor time {:.2}",
        short.record_ns / enough.record_ns,
        short.record_cpu_ns / enough.record_cpu_ns
    );
    Ok(())
}

fn measure(name: &str, options: &Options, memory: ByteCount) -> anyhow::Result<Took> {
    let took = run(options, memory)?;
    let Took { record_ns, record_cpu_ns, peak_mib, .. } = took;
    println!("{name:24} {record_ns:10.0} {record_cpu_ns:10.0} {peak_mib:8.0} MiB");
    Ok(took)
}

fn run(options: &Options, memory: ByteCount) -> anyhow::Result<Took> {
    let Options { keys, records_per_key, windows, .. } = *options;
    let window_ms = keys * records_per_key;
    let records = window_ms * windows;
    let record_of = move |number: u64| {
        let key = mix(number) % keys;
        ((key, mix(key)), number)
    };
    let (results, digest) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (at_sink, digest_at_sink) = (Arc::clone(&results), Arc::clone(&digest));
    let job = Job::new("spilled-windows");
    job.source("numbers", GeneratorSource::new(records, record_of))
        .watermark(WatermarkStrategy::new(Monotonic::default()), |record| record.1 as i64)
        .key_by(|record| record.0)
        .window(Tumbling::new(Duration::from_millis(window_ms)))
        .aggregate(Summarize)
        .sink(
            "tally",
            ForEachSink::new(move |sums: Sums| {
                let of_result = sums.into_iter().fold(0, |digest, sum| mix(digest ^ sum));
                at_sink.fetch_add(1, Ordering::Relaxed);
                // In any order.
                digest_at_sink.fetch_add(of_result, Ordering::Relaxed);
            }),
        );
    let config = Config {
        memory_per_shard: Some(memory),
        state_directory: options.directory.clone(),
        ..stopwatch::spinning()
    };
    let plan = job.plan(1, config.key_group_count)?;
    let (begun, cpu) = (Instant::now(), process::cpu_time());
    millstream::runtime::node::run(&plan.program, &config, false)?;
    let ns = |duration: Duration| duration.as_secs_f64() * 1e9 / records as f64;
    Ok(Took {
        record_ns: ns(begun.elapsed()),
        record_cpu_ns: ns(process::cpu_time().saturating_sub(cpu)),
        peak_mib: process::peak_mib(),
        results: results.load(Ordering::Relaxed),
        digest: digest.load(Ordering::Relaxed),
    })
}
