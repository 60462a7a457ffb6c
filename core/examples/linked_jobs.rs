//! Two jobs linked by a log: one writes payments to it, the other adds them up, by the hour.
//!
//! ```text
//! payments ──► log/payments, 4 partitions, by card ──► sum of each card's hours ──► stdout
//! ```
//!
//! Each job has its own program in earnest, runs when it likes, and has checkpoints of its own;
//! here one program is both, one after the other.
//!
//! ```text
//! cargo run --release --example linked_jobs
//! cargo run --release --example linked_jobs -- explain
//! cargo run --release --example linked_jobs -- --only adds
//! cargo run --release -p millstream-tools -- log inspect log/payments
//! ```

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use millstream::prelude::*;

/// Somebody paid.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Payment {
    card: u64,
    cents: u64,
}

const LOG: &str = "log/payments";

/// The job that writes the log: four payments a minute for a day.
fn pays(job: &Job) {
    let payment = |n: u64| Payment { card: n % 3, cents: 100 + n % 7 };
    let log = LogSink::json_lines(LOG).partitions(4).keyed_by(|payment: &Payment| payment.card);
    let timed = (0..5_760).map(|n| (n as i64 * 15_000, payment(n))).collect();
    job.source("payments", VecSource::timed(timed)).log("log", log);
}

/// The job that reads it, as far as it has come.
fn adds(job: &Job) {
    let late = BoundedOutOfOrderness::new(Duration::from_secs(1));
    job.source("log", LogSource::json_lines::<Payment>(LOG).bounded())
        .watermark_from_source(late)
        .key_by(|payment| payment.card)
        .window(Tumbling::new(Duration::from_hours(1)))
        .reduce(|a, b| Payment { card: a.card, cents: a.cents + b.cents })
        .name("hours")
        .map(|sum| format!("card {}: {} cents", sum.card, sum.cents))
        .sink("sums", StdoutSink::text());
}

#[derive(Parser)]
struct Args {
    /// Only one of the two.
    #[arg(long)]
    only: Option<Which>,
    #[command(flatten)]
    job: JobArgs,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Which {
    Pays,
    Adds,
}

fn main() -> ExitCode {
    let args = Args::parse();
    for (which, build) in [(Which::Pays, pays as fn(&Job)), (Which::Adds, adds)] {
        if args.only.is_some_and(|only| only != which) {
            continue;
        }
        let job = Job::new("linked-jobs");
        build(&job);
        let code = job.main_with(&args.job);
        if code != ExitCode::SUCCESS {
            return code;
        }
    }
    ExitCode::SUCCESS
}
