//! A job for the tests that need a real process. Which one is the first argument; the others are
//! the engine's own.

use std::process::ExitCode;
use std::time::Duration;

use millstream::prelude::*;

#[derive(clap::Parser)]
struct TestArgs {
    /// bounded, endless, panics, stuck or invalid.
    kind: String,
    #[command(flatten)]
    job: JobArgs,
}

fn main() -> ExitCode {
    let args = <TestArgs as clap::Parser>::parse();
    let job = Job::new("test-job");
    match args.kind.as_str() {
        "bounded" => numbers(&job, 10_000),
        "endless" => numbers(&job, u64::MAX),
        "panics" => {
            job.source("numbers", GeneratorSource::new(10_000, |n| n))
                .key_by(|n| n % 10)
                .reduce(|a, b| {
                    assert!(b != 4_321, "4321 is not to be added");
                    a.max(b)
                })
                .name("largest")
                .sink("none", DiscardSink::new());
        }
        "stuck" => {
            job.source("numbers", GeneratorSource::new(10, |n| n))
                .map(|n| {
                    eprintln!("stuck");
                    std::thread::sleep(Duration::from_hours(1));
                    n
                })
                .sink("none", DiscardSink::new());
        }
        "invalid" => {
            // No sink, and a window without a watermark.
            let _ = job
                .source("numbers", GeneratorSource::new(10, |n| n))
                .key_by(|n| n % 10)
                .window(Tumbling::new(Duration::from_secs(1)))
                .reduce(|a, _| a)
                .shared();
        }
        other => {
            eprintln!("no such test job: {other}");
            return ExitCode::from(64);
        }
    }
    job.main_with(&args.job)
}

/// Numbers in files, one a line, in the directory that `TEST_JOB_OUTPUT` names.
fn numbers(job: &Job, count: u64) {
    let directory = std::env::var("TEST_JOB_OUTPUT").unwrap_or_else(|_| "output".to_string());
    job.source("numbers", GeneratorSource::new(count, |n| n))
        .key_by(|n| *n)
        .reduce(|_, b| b)
        .sink("files", FileSink::json_lines(directory));
}
