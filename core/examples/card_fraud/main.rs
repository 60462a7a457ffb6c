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
//!    the thefts (`report.rs`);
//! 2. over the same payments, each due at its time of a clock that waits for nobody: that gives
//!    latency (`paced.rs`).

#![allow(clippy::print_stdout, reason = "a program for people")]

pub mod input;
pub mod job;
pub mod judge;
pub mod punctual;
pub mod records;
pub mod report;
pub mod usual;
pub mod velocity;
pub mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use millstream::api::JobCommand;
use millstream::prelude::*;

use report::Score;
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
    let job = Job::new("card-fraud");
    job::from_files(&job, &args.dir);
    match &mut args.job.command {
        None if !args.job.run.print_config => {}
        None | Some(JobCommand::Explain { .. }) => return Ok(job.main_with(&args.job)),
        Some(JobCommand::Simulate(simulate)) => {
            let world = World::new(args.payments.unwrap_or(SIMULATED_PAYMENT_COUNT));
            write_input(&world, &args.dir)?;
            simulate.files.extend(input::paths(&args.dir));
            return Ok(job.main_with(&args.job));
        }
    }
    let world = World::new(args.payments.unwrap_or(PAYMENT_COUNT));
    write_input(&world, &args.dir)?;
    let Some(report) = job.execute(&args.job)? else { return Ok(ExitCode::SUCCESS) };
    let seconds = report.took.as_secs_f64();
    println!(
        "{} payments in {seconds:.2} s: {:.0} payments/s",
        world.payment_count,
        world.payment_count as f64 / seconds
    );
    let alerts = report::read_alerts(&args.dir.join("alerts"))?;
    println!("{:#?}", Score::of(&world, &alerts));
    Ok(ExitCode::SUCCESS)
}

fn write_input(world: &World, folder: &Path) -> anyhow::Result<()> {
    println!("writing {} payments to {}", world.payment_count, folder.display());
    let written = input::write(world, folder)
        .with_context(|| format!("could not write the input to {}", folder.display()))?;
    println!("{} of them late, and {} broken lines", written.late_count, written.broken_count);
    Ok(())
}
