//! Real processes whose jobs fail and begin again by themselves.

use std::fs;
use std::process::Command;
use std::time::Duration;

use millstream::sim::rng::Rng;

use millstream_tests::child::{self, Job};

use crate::process::{COUNT, Counted, log_of};

/// Settings under which nobody waits long.
const QUICK: &str = "restart_initial_backoff = \"5ms\"\nrestart_max_backoff = \"20ms\"\n";

impl Counted {
    /// Settings for the job, as arguments.
    fn settings(&self, text: &str) -> [String; 2] {
        let path = self.place.path().join("job.toml");
        fs::write(&path, text).expect("it can be written");
        ["--config".to_string(), path.to_str().expect("a path of characters").to_string()]
    }

    /// The job that fails at about every so many numbers.
    fn troubled(&self, every: u64, settings: &str, args: &[&str]) -> Command {
        let mut command = self.command(args);
        command.args(self.settings(settings)).env("TEST_JOB_TROUBLE", every.to_string());
        // Finding the lines of a panic takes longer than a restart.
        command.env("RUST_BACKTRACE", "0");
        command
    }
}

#[test]
fn whatever_fails_and_whoever_kills_it_every_count_appears_once() {
    let job = Counted::new(100_000);
    let mut rng = Rng::new(std::process::id().into());
    let (mut kills, mut restarts) = (0, 0);
    loop {
        let shards = (1 + rng.below(3)).to_string();
        // So far apart that a checkpoint is complete in between, on any machine.
        let every = 15_000 + rng.below(15_000);
        let args = ["--shards", &shards, "--checkpoint-interval", "20ms"];
        let mut child = Job::of(job.troubled(every, QUICK, &args));
        child.await_line("started");
        let is_killed = kills < 4;
        for _ in 0..if is_killed { rng.below(4) } else { 0 } {
            child.await_line("the job failed and begins again");
            restarts += 1;
        }
        std::thread::sleep(Duration::from_millis(rng.below(100)));
        if is_killed {
            child.signal("-KILL");
        }
        let code = child.await_end();
        let lines = job.lines();
        if code == Some(0) {
            assert_eq!(lines as u64, COUNT, "after {kills} kills and {restarts} restarts");
            break;
        }
        assert!(is_killed && code.is_none(), "it was killed or it ended well: {code:?}");
        kills += 1;
    }
    assert!(0 < kills && 0 < restarts, "{kills} kills, {restarts} restarts");
    job.check_ended();
}

#[test]
fn each_failure_is_told_once_with_operator_and_record_and_the_report_counts_them() {
    let job = Counted::new(1_000_000);
    let args = ["--shards", "2", "--checkpoint-interval", "20ms"];
    let output = child::run(job.troubled(20_000, QUICK, &args));
    let log = log_of(&output);
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert_eq!(job.lines() as u64, COUNT);
    let told: Vec<_> = log.lines().filter(|it| it.contains("the job failed and begins")).collect();
    let of = |what: &str| told.iter().filter(|line| line.contains(what)).count();
    let kinds = [
        of("operator numbers panicked at what follows source numbers, generator, record"),
        of("operator count panicked at source numbers, generator, record"),
        of("could not reach the moon: connection reset"),
    ];
    assert!(kinds.iter().all(|count| 0 < *count), "{kinds:?} in {log}");
    assert_eq!(kinds.iter().sum::<usize>(), told.len(), "{told:?}");
    for (restart, line) in (1..).zip(&told) {
        assert!(line.contains(&format!("restart={restart} after=")), "{line}");
    }
}

#[test]
fn a_job_is_given_up_as_its_strategy_says_and_the_next_run_goes_on() {
    let job = Counted::new(100_000);
    let fixed =
        "restart_strategy = \"fixed-delay\"\nrestart_attempts = 2\nrestart_delay = \"1ms\"\n";
    let args = ["--shards", "1", "--checkpoint-interval", "20ms"];
    let output = child::run(job.troubled(10_000, fixed, &args));
    let log = log_of(&output);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert_eq!(log.matches("the job failed and begins again").count(), 2, "{log}");
    assert!(log.contains("does not begin again reason=\"it has begun again 2 times\""), "{log}");
    assert_eq!(log.matches("reach the moon").count(), 1, "the last failure ends it: {log}");
    let none = ["--restart-strategy", "none", "--shards", "1"];
    let output = child::run(job.troubled(30_000, "", &none));
    let log = log_of(&output);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("going on from a checkpoint"), "{log}");
    assert!(!log.contains("begin again"), "without a strategy nothing is said of one: {log}");
    let output = job.run(&["--shards", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", log_of(&output));
    assert_eq!(job.lines() as u64, COUNT);
}

#[test]
fn while_it_waits_it_is_asked_and_stopped_and_a_signal_ends_it_at_once() {
    let job = Counted::new(100_000);
    let slow = "restart_initial_backoff = \"1h\"\nrestart_max_backoff = \"1h\"\n";
    let args = ["--shards", "2", "--checkpoint-interval", "20ms", "--listen", "127.0.0.1:0"];
    let wait = |every| {
        let mut child = Job::of(job.troubled(every, slow, &args));
        let address = child.await_address();
        child.await_line("the job failed and begins again");
        (child, address)
    };
    let (child, address) = wait(40_000);
    let health = child::http(&address, "GET", "/healthz", "");
    assert!(health.starts_with("HTTP/1.1 200") && health.contains("panicked at"), "{health}");
    let status = child::json_of(&child::http(&address, "GET", "/restarts", ""));
    assert_eq!((&status["phase"], &status["restart_count"]), (&"waiting".into(), &1.into()));
    let metrics = child::http(&address, "GET", "/metrics", "");
    assert!(metrics.contains("\nmillstream_restarts_total 1\n"), "{metrics}");
    assert!(!metrics.contains("\nmillstream_running_since_ms "), "it does not run: {metrics}");
    let checkpoints = child::json_of(&child::http(&address, "GET", "/checkpoints", ""));
    assert!(checkpoints["completed_count"].as_u64() > Some(0), "{checkpoints}");
    let refusal = child::http(&address, "POST", "/checkpoints", "{}");
    assert!(refusal.contains("is about to begin again"), "{refusal}");
    let stop = child::http(&address, "POST", "/stop", "{\"savepoint\": \"kept\"}");
    assert!(stop.starts_with("HTTP/1.1 202"), "{stop}");
    assert_eq!(child.await_end(), Some(0));
    assert!(job.checkpoints().join("savepoints/kept").is_dir());
    let (child, _) = wait(40_000);
    child.signal("-TERM");
    assert_eq!(child.await_end(), Some(0));
    let output = job.run(&["--shards", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", log_of(&output));
    assert_eq!(job.lines() as u64, COUNT);
}

#[test]
fn what_only_somebody_can_mend_ends_it() {
    let job = Counted::new(100_000);
    let output = job.output();
    fs::write(&output, "no directory").expect("it can be written");
    let ended = child::run(job.troubled(0, QUICK, &["--shards", "1"]));
    let log = log_of(&ended);
    assert_eq!(ended.status.code(), Some(1), "{log}");
    assert!(!log.contains("begins again"), "{log}");
}

#[test]
fn fifty_restarts_leave_threads_and_files_where_they_were() {
    let place = tempfile::tempdir().expect("a place for files");
    let settings = place.path().join("job.toml");
    let text = format!(
        "restart_strategy = \"fixed-delay\"\nrestart_delay = \"1ms\"\ncheckpoint_interval = \"20ms\"\n\
         checkpoint_directory = {:?}\n",
        place.path().join("checkpoints")
    );
    fs::write(&settings, text).expect("it can be written");
    let args = ["--shards", "2", "--config", settings.to_str().expect("a path of characters")];
    let program = env!("CARGO_BIN_EXE_test_job");
    let mut command = child::command(program, "restless", &args, &place.path().join("output"));
    command.env("TEST_JOB_COUNT", "50").env("TEST_JOB_LISTEN", "127.0.0.1:0");
    command.env("RUST_BACKTRACE", "0");
    let mut child = Job::of(command);
    let mut seen: Vec<(usize, usize)> = Vec::new();
    for _ in 0..50 {
        let line = child.await_line("threads ");
        let numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
        let numbers: Vec<usize> = numbers.collect();
        seen.push((numbers[0], numbers[1]));
    }
    child.signal("-KILL");
    child.await_end();
    let least = |part: &[(usize, usize)]| {
        let threads = part.iter().map(|(threads, _)| *threads).min();
        (threads.expect("some"), part.iter().map(|(_, files)| *files).min().expect("some"))
    };
    // Files of a checkpoint that is being written come and go, and so do workers of the kernel's.
    let (begun, ended) = (least(&seen[5..15]), least(&seen[40..]));
    assert!(
        ended.0 <= begun.0 + 3 && ended.1 <= begun.1 + 3,
        "{begun:?}, then {ended:?}: {seen:?}"
    );
}
