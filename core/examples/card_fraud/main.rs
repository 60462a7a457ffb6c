//! Finds stolen cards in a stream of payments: the tour of Millstream in one program.
//!
//! ```sh
//! cargo run --release --example card_fraud                        # runs it
//! cargo run --release --example card_fraud -- explain             # prints the plan
//! cargo run --release --example card_fraud -- simulate --seeds 50 # the same job, simulated
//! ```
//!
//! First it makes up a city in which some cards are stolen (`world.rs`) and writes what its bank
//! would find in its log (`input.rs`): out of order, partly late, partly broken. Then it runs the
//! job (`job.rs`) twice:
//!
//! 1. over those files, as fast as it can: that gives throughput, and alerts that are compared with
//!    the thefts (`score.rs`);
//! 2. over payments and rules that come at their times, whether the job keeps up or not: that gives
//!    latency (`live.rs`, `paced.rs`).
//!
//! In both, rules change the thresholds while payments are judged (`judge.rs`, `announce.rs`). It
//! ends with a report (`report.rs`).

#![allow(clippy::print_stdout, reason = "a program for people")]

pub mod announce;
pub mod input;
pub mod job;
pub mod judge;
pub mod live;
pub mod paced;
pub mod punctual;
pub mod records;
pub mod report;
pub mod score;
pub mod usual;
pub mod velocity;
pub mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use millstream::api::{self, JobCommand};
use millstream::prelude::*;
use tracing_subscriber::EnvFilter;

use announce::Announcer;
use report::grouped;
use score::Score;
use world::World;

/// Payments for a run, and for a simulation, which is some hundred times slower.
const PAYMENT_COUNT: u64 = 2_000_000;
const SIMULATED_PAYMENT_COUNT: u64 = 20_000;

/// Finds stolen cards in a stream of payments.
#[derive(Debug, Parser)]
struct Args {
    /// How many payments are made up; 2,000,000 to run, 20,000 to simulate.
    #[arg(long, value_name = "N", global = true)]
    payments: Option<u64>,
    /// Where input and results are written.
    #[arg(long, value_name = "FOLDER", default_value = "target/card-fraud", global = true)]
    dir: PathBuf,
    /// Payments per second of the second run, which measures latency.
    #[arg(long, value_name = "N", default_value_t = 30_000)]
    rate: u64,
    /// How long the second run takes; 0 leaves it out.
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u64,
    #[command(flatten)]
    job: JobArgs,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    let is_simulated = matches!(args.job.command, Some(JobCommand::Simulate(_)));
    let is_run = args.job.command.is_none() && !args.job.run.print_config;
    let default_count = if is_simulated { SIMULATED_PAYMENT_COUNT } else { PAYMENT_COUNT };
    let world = World::new(args.payments.unwrap_or(default_count));
    if is_simulated || is_run {
        write_input(&world, &args.dir)?;
    }
    if let Some(JobCommand::Simulate(simulate)) = &mut args.job.command {
        simulate.files.extend(input::paths(&args.dir));
    }
    if args.job.run.config.is_none() {
        log_errors();
    }
    let job = Job::new("card-fraud");
    let announced = if is_run { world.rules() } else { Vec::new() };
    job::from_files(&job, &args.dir, Announcer::new(announced));
    if !is_run {
        return Ok(job.main_with(&args.job));
    }
    match tour(&job, &world, &mut args) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast_ref::<Error>() {
            Some(error) => Ok(api::fail(error)),
            None => Err(error),
        },
    }
}

/// Both runs, and the report.
fn tour(job: &Job, world: &World, args: &mut Args) -> anyhow::Result<()> {
    println!("\nJudging them as fast as possible");
    args.job.run.progress = true;
    let Some(report) = job.execute(&args.job)? else { return Ok(()) };
    if report.end != JobEnd::InputEnded {
        println!("\nEnded before all payments were judged: what came of the others is in");
        report::print_files(&args.dir);
        return Ok(());
    }
    let measured = if args.rate * args.seconds == 0 {
        None
    } else {
        println!("\nJudging {} payments a second as they come", grouped(args.rate));
        args.job.run.progress = false;
        Some(live::run(args.rate, args.seconds, &args.job)?)
    };
    let alerts =
        score::read_alerts(&args.dir.join("alerts")).context("could not read the alerts")?;
    report::print_score(&Score::of(world, &alerts));
    report::print_speed(world, &report, measured.as_ref());
    report::print_files(&args.dir);
    Ok(())
}

/// Leaves the screen to the report; `RUST_LOG=info` shows what the engine has to say beside.
fn log_errors() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

fn write_input(world: &World, folder: &Path) -> anyhow::Result<()> {
    let count = grouped(world.payment_count);
    println!("Writing {count} payments to {}", folder.display());
    let written = input::write(world, folder)
        .with_context(|| format!("could not write the input to {}", folder.display()))?;
    println!(
        "     {} of them come late; {} lines cannot be read; {} cards are stolen",
        grouped(written.late_count),
        grouped(written.broken_count),
        grouped(world.thefts().count() as u64)
    );
    Ok(())
}
