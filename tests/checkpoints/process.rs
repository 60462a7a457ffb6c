//! Real processes that are killed, stopped and started again: every result appears once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use millstream::sim::rng::Rng;
use millstream::testing::written_lines;

use millstream_tests::child::{self, Job};

/// Numbers, keys, and what a run may take at their rate: some seconds.
const COUNT: u64 = 150_000;
const KEYS: u64 = 500;

/// Places of a job that counts: see `counted` of the test job.
struct Counted {
    place: tempfile::TempDir,
    rate: u64,
}

impl Counted {
    fn new(rate: u64) -> Self {
        Self { place: tempfile::tempdir().expect("a place for files"), rate }
    }

    fn output(&self) -> PathBuf {
        self.place.path().join("output")
    }

    fn checkpoints(&self) -> PathBuf {
        self.place.path().join("checkpoints")
    }

    fn command(&self, args: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_test_job");
        let mut command = child::command(program, "counted", args, &self.output());
        command
            .arg("--checkpoint-directory")
            .arg(self.checkpoints())
            .env("TEST_JOB_COUNT", COUNT.to_string())
            .env("TEST_JOB_RATE", self.rate.to_string());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        child::run(self.command(args))
    }

    /// What is complete: no line twice, and for every key a prefix of its counts.
    fn lines(&self) -> usize {
        let Ok(lines) = written_lines(self.output()) else { return 0 };
        let mut counts: Vec<Vec<u64>> = vec![Vec::new(); KEYS as usize];
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

    fn checkpoint_names(&self) -> Vec<String> {
        names(&self.checkpoints())
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("it can be listed").file_name();
    entries.map(name).map(|name| name.to_string_lossy().into_owned()).collect()
}

fn log_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn killed_at_any_instant_and_started_with_other_shards_every_count_appears_once() {
    let job = Counted::new(100_000);
    let mut rng = Rng::new(std::process::id().into());
    let mut kills = 0;
    loop {
        let shards = (1 + rng.below(3)).to_string();
        let args = ["--shards", &shards, "--checkpoint-interval", "40ms"];
        let mut child = Job::of(job.command(&args));
        child.await_line("started");
        std::thread::sleep(Duration::from_millis(rng.below(400)));
        let killed = kills < 8;
        if killed {
            child.signal("-KILL");
        }
        let code = child.await_end();
        let lines = job.lines();
        if code == Some(0) {
            assert_eq!(lines as u64, COUNT, "after {kills} kills");
            break;
        }
        assert!(killed && code.is_none(), "it was killed or it ended well: {code:?}");
        kills += 1;
    }
    assert!(0 < kills, "it was killed before it ended");
    assert!(job.checkpoint_names().is_empty(), "a job that is over leaves nothing to go on from");
}

#[test]
fn a_signal_stops_it_with_a_checkpoint_that_the_next_run_goes_on_from() {
    let job = Counted::new(100_000);
    // The interval is far: the signal takes the checkpoint.
    let args = ["--shards", "2", "--checkpoint-interval", "1h"];
    let mut child = Job::of(job.command(&args));
    child.await_line("started");
    std::thread::sleep(Duration::from_millis(300));
    child.signal("-TERM");
    child.await_line("stopping with a checkpoint");
    assert_eq!(child.await_end(), Some(0));
    let lines = job.lines();
    assert!(0 < lines && (lines as u64) < COUNT, "it was stopped in the middle, after {lines}");
    let output = job.run(&args);
    assert_eq!(output.status.code(), Some(0), "{}", log_of(&output));
    assert!(log_of(&output).contains("going on from a checkpoint"), "{}", log_of(&output));
    assert_eq!(job.lines() as u64, COUNT);
}

#[test]
fn a_damaged_checkpoint_is_told_and_the_one_before_is_used_but_not_nothing() {
    let job = Counted::new(100_000);
    let args = ["--shards", "1", "--checkpoint-interval", "50ms"];
    let mut child = Job::of(job.command(&args));
    child.await_line("started");
    while job.checkpoints().exists()
        && job.checkpoint_names().iter().filter(|name| name.ends_with(".manifest")).count() < 2
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.signal("-KILL");
    child.await_end();
    let mut manifests = job.checkpoint_names();
    manifests.retain(|name| name.ends_with(".manifest"));
    manifests.sort();
    let damage = |name: &str| {
        let path = job.checkpoints().join(name);
        let mut bytes = fs::read(&path).expect("it is there");
        bytes[40] ^= 1;
        fs::write(&path, bytes).expect("it can be written");
    };
    damage(manifests.last().expect("two are kept"));
    let mut child = Job::of(job.command(&args));
    let line = child.await_line("a checkpoint is damaged and is passed over");
    assert!(line.contains(manifests.last().expect("two are kept")), "{line}");
    child.await_line("going on from a checkpoint");
    child.signal("-KILL");
    child.await_end();
    for name in job.checkpoint_names().iter().filter(|name| name.ends_with(".manifest")) {
        if name != manifests.last().expect("two are kept") {
            damage(name);
        }
    }
    let output = job.run(&args);
    assert_eq!(output.status.code(), Some(1), "{}", log_of(&output));
    assert!(log_of(&output).contains("a wrong checksum"), "{}", log_of(&output));
}

#[test]
fn two_runs_never_share_checkpoints_and_another_job_is_refused() {
    let job = Counted::new(100_000);
    let args = ["--shards", "1", "--checkpoint-interval", "20ms"];
    let mut child = Job::of(job.command(&args));
    child.await_line("started");
    let output = job.run(&args);
    assert_eq!(output.status.code(), Some(1));
    assert!(log_of(&output).contains("another run has its checkpoints there"));
    std::thread::sleep(Duration::from_millis(200));
    child.signal("-KILL");
    child.await_end();
    let settings = job.place.path().join("job.toml");
    fs::write(&settings, "key_group_count = 64").expect("it can be written");
    let settings = settings.to_str().expect("a path of characters");
    let output = job.run(&["--config", settings]);
    assert_eq!(output.status.code(), Some(2), "{}", log_of(&output));
    assert!(log_of(&output).contains("set key_group_count to 1024"), "{}", log_of(&output));
}
