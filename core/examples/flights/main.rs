//! A year of flights from New York: real data, really out of order.
//!
//! ```sh
//! cargo run --release --example flights                          # the answers, checked
//! cargo run --release --example flights -- --patience-minutes 60 # what came later than that
//! cargo run --release --example flights -- explain               # the plan
//! cargo run --release --example flights -- simulate --seeds 5    # simulated: takes its time
//! ```
//!
//! The data is in `data/`; the dataflow is in `job.rs`. Results are JSON Lines in folders of
//! `target/flights`. They are compared with answers that were computed by other means (`check.rs`);
//! the program fails if one differs.

#![allow(clippy::print_stdout, reason = "a program for people")]

pub mod aggregates;
pub mod check;
pub mod job;
pub mod records;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use millstream::api::JobCommand;
use millstream::prelude::*;
use millstream::testing::written_lines;

use check::Answer;

/// Where the data is, wherever the program is started.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/flights/data");

/// So long after another one that was to leave later, no flight comes: the worst is 1,300 minutes.
const PATIENCE_MINUTES: u64 = 1_440;

/// A year of flights from New York.
#[derive(Debug, Parser)]
struct Args {
    /// Where the results are written, in place of those that are there.
    #[arg(long, value_name = "FOLDER", default_value = "target/flights", global = true)]
    dir: PathBuf,
    /// How long the watermark waits for flights that come out of order.
    #[arg(long, value_name = "MINUTES", default_value_t = PATIENCE_MINUTES, global = true)]
    patience_minutes: u64,
    #[command(flatten)]
    job: JobArgs,
}

fn main() -> anyhow::Result<ExitCode> {
    let mut args = Args::parse();
    if let Some(JobCommand::Simulate(simulate)) = &mut args.job.command {
        simulate.files.extend(job::FILES.map(|name| Path::new(DATA).join(name)));
    }
    let job = Job::new("flights");
    job::build(&job, Path::new(DATA), &args.dir, Duration::from_mins(args.patience_minutes));
    if args.job.command.is_none() && args.dir.exists() {
        let cleared = check::clear(&args.dir);
        cleared.with_context(|| format!("could not clear {}", args.dir.display()))?;
    }
    let report = match job.execute(&args.job) {
        Ok(Some(report)) => report,
        Ok(None) => return Ok(ExitCode::SUCCESS),
        Err(error) => return Ok(millstream::api::fail(&error)),
    };
    println!(
        "a year of flights in {:.2} s; results are in {}",
        report.took.as_secs_f64(),
        args.dir.display()
    );
    let late_count = written_lines(args.dir.join("late")).map_or(0, |lines| lines.len());
    if late_count > 0 {
        println!(
            "{late_count} flights came too late for their hour: see late/. \
             With all of them, the answers are:"
        );
    }
    let answers = check::answers(&args.dir).context("could not read the results")?;
    for answer in &answers {
        println!("{answer}");
    }
    let is_right = answers.iter().all(Answer::is_right) || late_count > 0;
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
