//! A job between two connectors, for the tests that need a real process. Which one is the first
//! argument; `TEST_JOB_INPUT` says what it reads, `TEST_JOB_OUTPUT` where it writes, and
//! `TEST_JOB_PEER` whom it calls.

use std::process::ExitCode;
use std::time::Duration;

use millstream::connector::format::TextEncoder;
use millstream::prelude::*;

#[derive(clap::Parser)]
struct TestArgs {
    /// lines, line-lengths, csv, csv-skip, watch, from-socket, to-socket or watch-to-socket.
    kind: String,
    #[command(flatten)]
    job: JobArgs,
}

#[derive(Debug, Clone, serde::Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Payment {
    id: u8,
    amount: f64,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn input() -> String {
    variable("TEST_JOB_INPUT")
}

fn files<T: std::fmt::Display + 'static>() -> FileSink<TextEncoder<T>> {
    FileSink::text(variable("TEST_JOB_OUTPUT"))
}

fn main() -> ExitCode {
    let args = <TestArgs as clap::Parser>::parse();
    let job = Job::new("connector-job");
    match args.kind.as_str() {
        "lines" => {
            let lines = FileSource::lines(input()).split_bytes(64 << 10);
            job.source("lines", lines).sink("files", files());
        }
        "line-lengths" => {
            let lines = job.source("lines", FileSource::lines(input()));
            lines.map(|line| line.len()).sink("files", files());
        }
        "csv" => {
            let payments = job.source("payments", FileSource::csv::<Payment>(input()));
            payments.map(|payment| payment.id).sink("files", files());
        }
        "csv-skip" => {
            let source = FileSource::csv::<Payment>(input()).on_error(skip_to("dead-letter"));
            let payments = job.source("payments", source);
            let dead = payments.side_output(DEAD_LETTERS);
            let dead_files = FileSink::text(variable("TEST_JOB_OUTPUT") + "/dead");
            dead.map(|letter| format!("{}: {}", letter.place, letter.reason))
                .sink("dead-letters", dead_files);
            payments.map(|payment| payment.id).sink("files", files());
        }
        "watch" => {
            let lines = FileSource::lines(input()).watch(Duration::from_millis(10));
            let lines = job.source("lines", lines);
            let said = lines.map(|line| {
                eprintln!("read {line}");
                line
            });
            said.sink("files", files());
        }
        "from-socket" => {
            job.source("lines", SocketSource::lines(input())).sink("files", files());
        }
        "to-socket" => {
            let numbers = job.source("numbers", GeneratorSource::new(10_000, |n| n));
            numbers.sink("peer", SocketSink::text(input()));
        }
        "watch-to-socket" => {
            let lines = FileSource::lines(input()).watch(Duration::from_millis(10));
            let peer = SocketSink::text(variable("TEST_JOB_PEER"));
            job.source("lines", lines).sink("peer", peer);
        }
        other => {
            eprintln!("no such job: {other}");
            return ExitCode::from(64);
        }
    }
    job.main_with(&args.job)
}
