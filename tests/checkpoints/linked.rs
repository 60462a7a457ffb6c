//! Two real processes linked by a log, both killed again and again while they run: what the one
//! counts appears once in the files of the other.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use millstream::sim::rng::Rng;
use millstream::testing::written_lines;

use millstream_tests::child::{self, Job, PATIENCE};

/// Numbers, keys, and how many numbers there are a second.
const COUNT: u64 = 60_000;
const KEYS: usize = 500;
const RATE: u64 = 30_000;

/// How often each is killed at most.
const KILLS_MAX: u32 = 8;

struct Linked {
    place: tempfile::TempDir,
}

impl Linked {
    fn output(&self) -> PathBuf {
        self.place.path().join("output")
    }

    /// One of the two, on so many shards.
    fn job(&self, kind: &str, shards: u64) -> Job {
        let program = env!("CARGO_BIN_EXE_test_job");
        let shards = shards.to_string();
        let args = ["--shards", &shards, "--checkpoint-interval", "40ms"];
        let mut command: Command = child::command(program, kind, &args, &self.output());
        command
            .arg("--checkpoint-directory")
            .arg(self.place.path().join(kind))
            .env("TEST_JOB_LOG", self.place.path().join("log"))
            .env("TEST_JOB_COUNT", COUNT.to_string())
            .env("TEST_JOB_RATE", RATE.to_string());
        Job::of(command)
    }

    /// What is complete: no line twice, and for every key a prefix of its counts.
    fn lines(&self) -> usize {
        let Ok(lines) = written_lines(self.output()) else { return 0 };
        let mut counts: Vec<Vec<u64>> = vec![Vec::new(); KEYS];
        for line in &lines {
            let (key, count) = line.split_once(' ').expect("a key and a count");
            let key: usize = key.parse().expect("a number");
            counts[key].push(count.parse().expect("a number"));
        }
        for (key, mut counts) in counts.into_iter().enumerate() {
            counts.sort_unstable();
            assert!(counts.iter().copied().eq(1..=counts.len() as u64), "key {key}: {counts:?}");
        }
        lines.len()
    }
}

/// Kills `job` after a while; how it has ended, if it was faster.
fn kill(mut job: Job, rng: &mut Rng) -> Option<i32> {
    job.await_line("started");
    std::thread::sleep(Duration::from_millis(rng.below(500)));
    job.signal("-KILL");
    job.await_end()
}

#[test]
fn both_killed_at_any_instant_each_count_appears_once() {
    let linked = Linked { place: tempfile::tempdir().expect("a place for files") };
    let mut rng = Rng::new(std::process::id().into());
    std::thread::scope(|scope| {
        let mut rng_of_writer = rng.fork(1);
        let linked = &linked;
        scope.spawn(move || {
            for _ in 0..KILLS_MAX {
                let job = linked.job("counted-log", 1 + rng_of_writer.below(3));
                if kill(job, &mut rng_of_writer) == Some(0) {
                    return;
                }
            }
            let job = linked.job("counted-log", 2);
            assert_eq!(job.await_end(), Some(0), "it ends when it is left alone");
        });
        for _ in 0..KILLS_MAX {
            let job = linked.job("reads-log", 1 + rng.below(3));
            assert_eq!(kill(job, &mut rng), None, "it has no end");
            linked.lines();
        }
    });
    let mut reader = linked.job("reads-log", 2);
    reader.await_line("started");
    let until = Instant::now() + PATIENCE;
    while (linked.lines() as u64) < COUNT {
        assert!(Instant::now() < until, "{} lines of {COUNT}", linked.lines());
        std::thread::sleep(Duration::from_millis(20));
    }
    reader.signal("-TERM");
    assert_eq!(reader.await_end(), Some(0));
    assert_eq!(linked.lines() as u64, COUNT);
}
