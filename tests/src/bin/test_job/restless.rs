//! A job that fails again and again, and says each time how many threads and files its process has.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream::prelude::*;

/// Records before a failure.
const LIFE: u64 = 20_000;

/// Fails `TEST_JOB_COUNT` times, and ends in the next attempt. It has state, files, standard output
/// and a socket.
pub(crate) fn write(job: &Job) {
    static FAILURES: AtomicU64 = AtomicU64::new(0);
    let set = |name: &str| std::env::var(name).unwrap_or_default();
    let failures_max: u64 = set("TEST_JOB_COUNT").parse().unwrap_or(50);
    let counts = job
        .source("numbers", GeneratorSource::new(LIFE, |n| n))
        .key_by(|n| n % 100)
        .reduce(u64::max)
        .map(move |n: u64| {
            if n == LIFE - 1 && FAILURES.load(Ordering::Relaxed) < failures_max {
                // By now all threads have begun, and opened what they need.
                std::thread::sleep(Duration::from_millis(50));
                FAILURES.fetch_add(1, Ordering::Relaxed);
                eprintln!("threads {} files {}", entries("task"), entries("fd"));
                panic!("enough of it");
            }
            n
        })
        .shared();
    counts.sink("files", FileSink::json_lines(set("TEST_JOB_OUTPUT")));
    counts.filter(|n| n % 1_000 == 0).sink("stdout", StdoutSink::text());
    // Nobody calls, and it ends with the process.
    job.source("lines", SocketSource::lines(set("TEST_JOB_LISTEN")).listen())
        .sink("none", DiscardSink::new());
}

/// How many entries a directory of this process has.
fn entries(directory: &str) -> usize {
    let path = format!("/proc/self/{directory}");
    std::fs::read_dir(path).expect("the process is there").count()
}
