//! What checkpoints cost a job: throughput with and without, in turns, and what each one takes.
//!
//! ```text
//! numbers ─► by key: a value of 96 bytes is changed in place ─► files or nothing
//! ```
//!
//! `cargo run --release -p millstream-bench --bin checkpoints`
//! `    [-- --keys 100000 --records 20000000 --interval 1s --directory /path]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use millstream::checkpoint::coordinator::Outcome;
use millstream::config::{Config, Period};
use millstream::prelude::*;
use millstream::runtime::node::JobReport;
use millstream_bench::stopwatch;

/// Measures what checkpoints cost.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Keys, each with a value of 96 bytes.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Records.
    #[arg(long, default_value_t = 20_000_000)]
    records: u64,
    /// From one checkpoint to the next.
    #[arg(long, default_value = "1s")]
    interval: Period,
    /// How often each is measured.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Where files are to be.
    #[arg(long)]
    directory: Option<PathBuf>,
}

const VALUE_WORDS: usize = 12;

/// Changes the value of its key.
#[derive(Clone, Default)]
struct Touch {
    value: ValueState<[u64; VALUE_WORDS]>,
}

impl KeyedProcessFunction<u64, u64> for Touch {
    type Out = u64;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.value = ctx.value("value", StateSpec::kept_until_cleared());
    }

    fn process(
        &mut self,
        number: u64,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut impl Output<u64>,
    ) {
        let count = self.value.update(ctx, |value| {
            value[1 + number as usize % (VALUE_WORDS - 1)] ^= number;
            value[0] += 1;
            value[0]
        });
        out.collect(count);
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let directory = tempfile::tempdir_in(options.directory.as_deref().unwrap_or(Path::new(".")))?;
    println!("{} records over {} keys", options.records, options.keys);
    let mut ratios = Vec::new();
    for round in 1..=options.rounds {
        let without = run(&options, None)?;
        // A directory of its own: where a job has ended, it does nothing any more.
        let with = run(&options, Some(&directory.path().join(round.to_string())))?;
        ratios.push(without.took.as_secs_f64() / with.took.as_secs_f64());
        println!("round {round}");
        print("  without", &options, &without);
        print("  with", &options, &with);
        let checkpoints = with.checkpoints.expect("they were taken");
        for report in checkpoints.history.iter().filter(|it| it.outcome == Outcome::Completed) {
            let took_ms = report.took_us.unwrap_or_default() as f64 / 1e3;
            println!("    {:?}: {took_ms:.1} ms, {} bytes", report.checkpoint, report.bytes);
        }
    }
    ratios.sort_by(f64::total_cmp);
    println!("throughput with over without: {:.3} ({ratios:.3?})", ratios[ratios.len() / 2]);
    Ok(())
}

fn print(name: &str, options: &Options, report: &JobReport) {
    let ns = report.took.as_nanos() as f64 / options.records as f64;
    let longest = report.shards.iter().map(|shard| shard.turns.turn_ns_max).max();
    let longest = Duration::from_nanos(longest.unwrap_or_default());
    println!("{name:12} {ns:8.1} ns a record, longest turn {longest:?}");
}

fn run(options: &Options, checkpoints: Option<&Path>) -> anyhow::Result<JobReport> {
    let keys = options.keys;
    let job = Job::new("checkpoints");
    job.source("numbers", GeneratorSource::new(options.records, |n| n))
        .key_by(move |n| mix(*n) % keys)
        .process("touch", Touch::default())
        .sink("nothing", DiscardSink::new());
    let config = Config {
        checkpoint_directory: checkpoints.map(Path::to_path_buf),
        checkpoint_interval: options.interval,
        ..stopwatch::spinning()
    };
    let plan = job.plan(1, config.key_group_count)?;
    Ok(millstream::runtime::node::run(&plan.program, &config, false)?)
}

/// Spreads numbers.
fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 29
}
