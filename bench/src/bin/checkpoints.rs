//! What checkpoints cost a job: throughput with and without, in turns, and what each one takes.
//! With `--stuck`, what they take while the sink takes nothing at all, for five seconds.
//!
//! ```text
//! numbers ─► by key: a value of 96 bytes is changed in place ─► files or nothing
//! ```
//!
//! `cargo run --release -p millstream-bench --bin checkpoints`
//! `    [-- --keys 100000 --records 20000000 --interval 1s --directory /path --stuck --shards 2]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use millstream::checkpoint::coordinator::Outcome;
use millstream::config::{Alignment, Config, Period};
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
    /// The sink takes nothing: how long do checkpoints take, and how much is in flight?
    #[arg(long)]
    stuck: bool,
    /// Shards of the job whose sink is stuck.
    #[arg(long, default_value_t = 2)]
    shards: u32,
    /// Where files are to be.
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// How long the sink is stuck.
const STUCK_MS: i64 = 5_000;

/// Takes nothing before this processing time, ms since 1970.
#[derive(Clone, Default)]
struct Stuck {
    until_ms: Option<i64>,
}

impl Operator for Stuck {
    type In = u64;
    type Out = Nothing;

    fn facts(&self) -> millstream::graph::Facts {
        millstream::graph::Facts::stateless()
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> millstream::Result<()> {
        self.until_ms = Some(ctx.processing_time_ms() + STUCK_MS);
        Ok(())
    }

    fn on_row(&mut self, _: Row<u64>, _: &OperatorContext<'_>, _: &mut impl Output<Nothing>) {}

    fn is_ready(&self) -> bool {
        self.until_ms.is_none()
    }

    fn next_time_ms(&self) -> Option<i64> {
        self.until_ms
    }

    fn on_time(&mut self, _: &OperatorContext<'_>, _: &mut impl Output<Nothing>) -> Progress {
        self.until_ms = None;
        Progress::Done
    }
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
    if options.stuck {
        return stuck(&options, directory.path());
    }
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

/// What checkpoints take while the sink takes nothing.
fn stuck(options: &Options, directory: &Path) -> anyhow::Result<()> {
    let keys = options.keys;
    let job = Job::new("stuck");
    job.source("numbers", GeneratorSource::new(options.records, |n| n))
        .key_by(move |n| mix(*n) % keys)
        .process("touch", Touch::default())
        .rebalance()
        .sink("stuck", Stuck::default());
    let config = Config {
        checkpoint_directory: Some(directory.to_path_buf()),
        checkpoint_interval: options.interval,
        alignment: Alignment::Timeout,
        ..stopwatch::spinning()
    };
    let plan = job.plan(options.shards, config.key_group_count)?;
    let report = millstream::runtime::node::run(&plan.program, &config, false)?;
    let begun_ms = report.checkpoints.iter().flat_map(|it| &it.history).map(|it| it.triggered_ms);
    let begun_ms = begun_ms.min().unwrap_or_default();
    println!("stuck for {STUCK_MS} ms, {} shards", options.shards);
    for it in report.checkpoints.iter().flat_map(|it| &it.history) {
        println!(
            "  after {:5} ms: {:?}, {:.1} ms, {} bytes, {} of them in flight, aligning {:.1} ms",
            it.triggered_ms - begun_ms,
            it.outcome,
            it.took_us.unwrap_or_default() as f64 / 1e3,
            it.bytes,
            it.in_flight_bytes,
            it.alignment_us as f64 / 1e3,
        );
    }
    Ok(())
}

/// Spreads numbers.
fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 29
}
