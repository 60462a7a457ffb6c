//! Where the nanoseconds of the main job go: `core/examples/card_fraud`, cut off after each stage.
//!
//! ```text
//! read ─► time ─► by card, usual amounts ─► by card, windows ─► by card, judge ─► write
//! ```
//!
//! Each prefix is a job of its own that ends in a tally; all of them take turns, on one shard, over
//! the same files. A stage costs what its prefix takes more than the one before it.
//!
//! `cargo run --release -p millstream-bench --bin main_job [-- --payments 2000000 --runs 5]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

#[path = "../../../core/examples/card_fraud/announce.rs"]
pub mod announce;
#[path = "../../../core/examples/card_fraud/input.rs"]
pub mod input;
#[path = "../../../core/examples/card_fraud/job.rs"]
pub mod job;
#[path = "../../../core/examples/card_fraud/judge.rs"]
pub mod judge;
#[path = "../../../core/examples/card_fraud/punctual.rs"]
pub mod punctual;
#[path = "../../../core/examples/card_fraud/records.rs"]
pub mod records;
#[path = "../../../core/examples/card_fraud/usual.rs"]
pub mod usual;
#[path = "../../../core/examples/card_fraud/velocity.rs"]
pub mod velocity;
#[path = "../../../core/examples/card_fraud/world.rs"]
pub mod world;

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use millstream::prelude::*;
use millstream_bench::contest::Spread;
use millstream_bench::stopwatch;

use announce::Announcer;
use punctual::Punctual;
use records::{Evidence, LATE_AFTER_MS, Payment, Rule, Verdict};
use usual::UsualAmount;
use world::World;

/// Measures what each stage of the main job costs.
#[derive(Debug, Clone, Copy, Parser)]
struct Options {
    /// Payments.
    #[arg(long, default_value_t = 2_000_000)]
    payments: u64,
    /// Runs of each prefix.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// A prefix of the job: what its last stage is, and how it is built from the files in a folder.
type Prefix = (&'static str, fn(&Job, &Path));

const PREFIXES: [Prefix; 6] = [
    ("read files, parse CSV", |job, folder| {
        payments(job, folder).sink("end", end(|payment: Payment| payment.amount_cents));
    }),
    ("watermark, set late ones aside", |job, folder| {
        punctual(job, folder).sink("end", end(|payment: Payment| payment.amount_cents));
    }),
    ("by card: usual amounts", |job, folder| {
        punctual(job, folder)
            .key_by(|payment| payment.card)
            .process("usual", UsualAmount::default())
            .sink("end", end(|evidence: Evidence| evidence.card));
    }),
    ("by card: windows of 5 minutes, every minute", |job, folder| {
        let (evidence, _) = job::evidence(payments(job, folder));
        evidence.sink("end", end(|evidence: Evidence| evidence.card));
    }),
    ("by card: judge by the rules", |job, folder| {
        let (verdicts, _) = job::judged(payments(job, folder), rules(job, folder));
        verdicts.sink("end", end(|verdict: Verdict| u64::from(verdict.rule)));
    }),
    ("write alerts, late payments, dead letters", |job, folder| {
        job::from_files(job, folder, Announcer::new(Vec::new()));
    }),
];

fn payments<'j>(job: &'j Job, folder: &Path) -> impl AnyStream<'j, Out = Payment> {
    let files = folder.join("payments/*.csv").display().to_string();
    let dead_letters = OutputTag::<DeadLetter>::new("dead-letters");
    let source =
        FileSource::csv::<Payment>(files).side_by_side(8).on_error(skip_to(dead_letters.name()));
    job.source("payments", source)
}

fn rules<'j>(job: &'j Job, folder: &Path) -> impl AnyStream<'j, Out = Rule> {
    let file = folder.join("rules.jsonl").display().to_string();
    job.source("rules", FileSource::jsonl::<Rule>(file))
}

fn punctual<'j>(job: &'j Job, folder: &Path) -> impl AnyStream<'j, Out = Payment> {
    let bound = Duration::from_millis(LATE_AFTER_MS as u64);
    payments(job, folder)
        .watermark(BoundedOutOfOrderness::new(bound), |payment| payment.at_ms)
        .operator("punctual", Punctual)
}

/// Looks at every record, so that making it cannot be left out.
fn end<T: Send + 'static>(number_of: fn(T) -> u64) -> ForEachSink<T, impl FnMut(T) + Clone> {
    ForEachSink::new(move |record| {
        std::hint::black_box(number_of(record));
    })
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let folder = tempfile::tempdir()?;
    input::write(&World::new(options.payments), folder.path())?;
    let config = stopwatch::spinning();
    let mut took_ns = vec![Vec::new(); PREFIXES.len()];
    for _ in 0..options.runs {
        for ((_, build), took_ns) in PREFIXES.iter().zip(&mut took_ns) {
            let job = Job::new("main-job");
            build(&job, folder.path());
            let plan = job.plan(1, config.key_group_count)?;
            let report = millstream::runtime::node::run(&plan.program, &config, false)?;
            took_ns.push(report.took.as_nanos() as f64 / options.payments as f64);
        }
    }
    println!("{} payments, one shard, ns a payment; medians of {}", options.payments, options.runs);
    println!("{:46} {:>8}   up to here", "stage", "alone");
    let mut before = 0.0;
    for ((name, _), took_ns) in PREFIXES.iter().zip(took_ns) {
        let spread = Spread::of(took_ns);
        println!("{name:46} {:8.0}   {spread:.0}", spread.median - before);
        before = spread.median;
    }
    Ok(())
}
