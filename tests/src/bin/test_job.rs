//! A job for the tests that need a real process. Which one is the first argument; the others are
//! the engine's own.

use std::process::ExitCode;
use std::time::Duration;

use millstream::prelude::*;

#[path = "test_job/counted.rs"]
mod counted;
#[path = "test_job/flows.rs"]
mod flows;
#[path = "test_job/large_state.rs"]
mod large_state;
#[path = "test_job/restless.rs"]
mod restless;
#[path = "test_job/rows.rs"]
mod rows;
#[path = "test_job/stuck_peer.rs"]
mod stuck_peer;

#[derive(clap::Parser)]
struct TestArgs {
    /// Which one; see `main`.
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
        "counted" => counted::write(&job),
        "counted-rows" => counted::write_rows(&job),
        "counted-log" => counted::write_log(&job),
        "reads-log" => counted::read_log(&job),
        "prints" => {
            job.source("printed", GeneratorSource::new(u64::MAX, |n| n))
                .sink("stdout", StdoutSink::text());
            job.source("others", GeneratorSource::new(u64::MAX, |n| n))
                .sink("none", DiscardSink::new());
        }
        "flows" => flows::write(&job),
        "large-state" => large_state::write(&job),
        "restless" => restless::write(&job),
        "stuck-peer" => stuck_peer::write(&job),
        "listens" => {
            let address = std::env::var("TEST_JOB_LISTEN").unwrap_or_default();
            job.source("lines", SocketSource::lines(address).listen())
                .sink("none", DiscardSink::new());
        }
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
        "panics-at-once" => {
            job.source("numbers", GeneratorSource::new(10, |n| n))
                .map(|n: u64| -> u64 { panic!("not even {n}") })
                .name("never")
                .sink("none", DiscardSink::new());
        }
        "panics-in-source" => {
            let make = |n| {
                assert!(n != 4_321, "there is no 4321");
                n
            };
            job.source("numbers", GeneratorSource::new(10_000, make))
                .sink("none", DiscardSink::new());
        }
        "panics-while-copied" => {
            job.source("numbers", GeneratorSource::new(u64::MAX, |n| n))
                .sink("none", Sink::Fragile);
        }
        "slow-to-open" => {
            job.source("numbers", GeneratorSource::new(u64::MAX, |n| n)).sink("none", Sink::Slow);
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
        .watermark(Monotonic::new(), |n| *n as i64)
        .key_by(|n| *n)
        .reduce(|_, b| b)
        .sink("files", FileSink::json_lines(directory));
}

/// A sink that makes trouble before the first record.
enum Sink {
    /// Cannot be copied on a shard's thread.
    Fragile,
    /// Waits until the test has had time to send a signal.
    Slow,
}

impl Clone for Sink {
    fn clone(&self) -> Self {
        match self {
            Self::Fragile => {
                let thread = std::thread::current();
                let is_shard = thread.name().is_some_and(|name| name.starts_with("shard-"));
                assert!(!is_shard, "it breaks");
                Self::Fragile
            }
            Self::Slow => Self::Slow,
        }
    }
}

impl Operator for Sink {
    type In = u64;
    type Out = Nothing;

    fn open(&mut self, _: &OperatorContext<'_>) -> millstream::Result<()> {
        if let Self::Slow = self {
            eprintln!("opening");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn on_row(&mut self, _: Row<u64>, _: &OperatorContext<'_>, _: &mut impl Output<Nothing>) {}
}
