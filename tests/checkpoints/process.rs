//! Real processes that are killed, stopped and started again: every result appears once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use millstream::sim::rng::Rng;
use millstream::testing::written_lines;

use millstream_tests::child::{self, Job};

/// Numbers, keys, and what a run may take at their rate: some seconds.
pub(crate) const COUNT: u64 = 150_000;
const KEYS: u64 = 500;

/// Places of a job that counts: see `counted` of the test job.
pub(crate) struct Counted {
    pub(crate) place: tempfile::TempDir,
    rate: u64,
    /// Of the test job.
    kind: &'static str,
}

impl Counted {
    pub(crate) fn new(rate: u64) -> Self {
        Self { place: tempfile::tempdir().expect("a place for files"), rate, kind: "counted" }
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.place.path().join("output")
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.place.path().join("checkpoints")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_test_job");
        let mut command = child::command(program, self.kind, args, &self.output());
        command
            .arg("--checkpoint-directory")
            .arg(self.checkpoints())
            .env("TEST_JOB_COUNT", COUNT.to_string())
            .env("TEST_JOB_RATE", self.rate.to_string());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        child::run(self.command(args))
    }

    /// What is complete: no line twice, and for every key a prefix of its counts.
    pub(crate) fn lines(&self) -> usize {
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

    /// Started again, the job says that it has ended and does nothing, and leaves nothing else.
    pub(crate) fn check_ended(&self) {
        let before = names(&self.output()).len();
        let output = self.run(&["--shards", "3"]);
        let log = log_of(&output);
        assert_eq!(output.status.code(), Some(0), "{log}");
        assert!(log.contains("nothing is done: this job has ended before"), "{log}");
        assert!(!log.contains("started"), "{log}");
        assert_eq!(names(&self.output()).len(), before);
        assert_eq!(self.checkpoint_names(), ["ended"]);
    }

    pub(crate) fn checkpoint_names(&self) -> Vec<String> {
        names(&self.checkpoints())
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("it can be listed").file_name();
    entries.map(name).map(|name| name.to_string_lossy().into_owned()).collect()
}

pub(crate) fn log_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn killed_at_any_instant_and_started_with_other_shards_every_count_appears_once() {
    killed_again_and_again(&Counted::new(100_000));
}

#[test]
fn killed_at_any_instant_transactions_are_seen_once() {
    killed_again_and_again(&Counted { kind: "counted-rows", ..Counted::new(100_000) });
}

fn killed_again_and_again(job: &Counted) {
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
    job.check_ended();
}

#[test]
fn whatever_kills_it_at_its_end_it_is_not_begun_anew() {
    let job = Counted::new(1_000_000);
    let args = ["--shards", "2", "--checkpoint-interval", "20ms"];
    let mut rng = Rng::new(u64::from(std::process::id()) + 1);
    for kills in 0.. {
        let mut child = Job::of(job.command(&args));
        child.await_line("started");
        // It has 150 ms of numbers, and then ends; a slow machine takes longer.
        std::thread::sleep(Duration::from_millis(100 + rng.below(200) + 50 * kills));
        let _ = child.child.kill();
        if child.await_end() == Some(0) || job.checkpoints().join("ended").exists() {
            break;
        }
        job.lines();
    }
    assert_eq!(job.lines() as u64, COUNT);
    job.check_ended();
    // A kill between the word and the last checkpoint's removal.
    let ended = fs::read(job.checkpoints().join("ended")).expect("it is there");
    let other = Counted::new(100_000);
    let mut child = Job::of(other.command(&args));
    child.await_line("started");
    while other.lines() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.signal("-KILL");
    child.await_end();
    let lines = other.lines();
    fs::write(other.checkpoints().join("ended"), ended).expect("it can be written");
    other.check_ended();
    assert_eq!(other.lines(), lines);
    // What it says can be taken back: the file is all that keeps the job from running.
    fs::remove_file(job.checkpoints().join("ended")).expect("it is there");
    assert_eq!(job.run(&["--print-config"]).status.code(), Some(0));
    fs::remove_dir_all(job.output()).expect("it is there");
    assert_eq!(job.run(&args).status.code(), Some(0));
    assert_eq!(job.lines() as u64, COUNT);
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
    // Somebody takes away what is complete: the next run neither misses it nor uses its names.
    let archive = job.place.path().join("archive");
    fs::create_dir(&archive).expect("it can be made");
    let parts = names(&job.output()).into_iter().filter(|name| name.starts_with("part-"));
    let complete = parts.filter(|name| !name.ends_with(".inprogress")).collect::<Vec<_>>();
    for name in &complete {
        fs::rename(job.output().join(name), archive.join(name)).expect("it can be moved");
    }
    let output = job.run(&args);
    assert_eq!(output.status.code(), Some(0), "{}", log_of(&output));
    assert!(log_of(&output).contains("going on from a checkpoint"), "{}", log_of(&output));
    for name in &complete {
        let path = job.output().join(name);
        assert!(!path.exists(), "{name} is another file's name now");
        fs::rename(archive.join(name), path).expect("it can be moved back");
    }
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

/// How many checkpoints of a kind are complete.
fn completed(address: &str, kind: &str) -> usize {
    let status = child::json_of(&child::http(address, "GET", "/checkpoints", ""));
    let history = status["history"].as_array().expect("a list").iter();
    let is_one = |it: &&serde_json::Value| it["kind"] == kind && it["outcome"] == "completed";
    history.filter(is_one).count()
}

#[test]
fn savepoints_are_made_while_it_runs_and_when_it_stops_and_another_job_begins_with_them() {
    // So slow that it cannot end before it is stopped.
    let job = Counted::new(10_000);
    let args = ["--shards", "2", "--listen", "127.0.0.1:0", "--checkpoint-interval", "1h"];
    let mut child = Job::of(job.command(&args));
    let address = child.await_address();
    let wish = |path: &str, json: &str| child::http(&address, "POST", path, json);
    // Output appears with checkpoints, and the interval is far.
    while job.lines() == 0 {
        assert!(wish("/checkpoints", "{}").starts_with("HTTP/1.1 202"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let granted = wish("/savepoints", r#"{"name": "first"}"#);
    assert!(granted.starts_with("HTTP/1.1 202"), "{granted}");
    while completed(&address, "savepoint") == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(wish("/savepoints", r#"{"name": "first"}"#).contains("is there already"));
    assert!(wish("/savepoints", r#"{"name": "../first"}"#).contains("is no name"));
    assert!(wish("/savepoints", r#"{"name": "a", "b": 1}"#).starts_with("HTTP/1.1 422"));
    let metrics = child::http(&address, "GET", "/metrics", "");
    let count =
        metrics.lines().find_map(|it| it.strip_prefix("millstream_checkpoints_completed_total "));
    let count: usize = count.and_then(|it| it.parse().ok()).expect("it is among the metrics");
    assert!(completed(&address, "checkpoint") < count, "the savepoint is one, too");
    assert!(wish("/stop", r#"{"savepoint": "last"}"#).starts_with("HTTP/1.1 202"));
    assert_eq!(child.await_end(), Some(0));
    let first = job.lines() as u64;
    assert!(0 < first && first < COUNT, "{first} lines");
    // With the same directory it would go on; with another it begins with the savepoint. What the
    // savepoint says of files is about the place where they were written.
    let savepoint = job.checkpoints().join("savepoints/last");
    let other = Counted::new(200_000);
    let restore = savepoint.to_str().expect("a path of characters");
    let args = ["--shards", "3", "--restore", restore];
    let output = other.run(&args);
    assert_eq!(output.status.code(), Some(2));
    assert!(log_of(&output).contains("it wrote to"), "{}", log_of(&output));
    let mut command = other.command(&args);
    let output = command.env("TEST_JOB_OUTPUT", job.output()).output().expect("the job is there");
    assert_eq!(output.status.code(), Some(0), "{}", log_of(&output));
    assert_eq!(job.lines() as u64, COUNT);
}

#[test]
fn nothing_is_written_behind_the_checkpoint_of_a_stop() {
    let place = tempfile::tempdir().expect("a place for files");
    let args = ["--shards", "1", "--checkpoint-interval", "1h"];
    let mut next = 0;
    for round in 0..3 {
        let program = env!("CARGO_BIN_EXE_test_job");
        let mut command = child::command(program, "prints", &args, place.path());
        let printed = place.path().join(format!("printed-{round}"));
        let file = fs::File::create(&printed).expect("it can be made");
        command.arg("--checkpoint-directory").arg(place.path().join("checkpoints")).stdout(file);
        let mut child = Job::of(command);
        child.await_line("started");
        while fs::metadata(&printed).expect("it is there").len() < 10_000 {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.signal("-TERM");
        assert_eq!(child.await_end(), Some(0));
        let text = fs::read_to_string(&printed).expect("numbers");
        for line in text.lines() {
            assert_eq!(line.parse(), Ok(next), "round {round}");
            next += 1_u64;
        }
    }
    assert!(0 < next);
}

#[test]
fn a_job_that_is_drained_shows_everything_and_has_ended() {
    let job = Counted::new(20_000);
    let args = ["--shards", "2", "--listen", "127.0.0.1:0", "--checkpoint-interval", "1h"];
    let mut child = Job::of(job.command(&args));
    let address = child.await_address();
    child.await_line("started");
    std::thread::sleep(Duration::from_millis(300));
    let wish = |json: &str| child::http(&address, "POST", "/stop", json);
    let refusal = wish(r#"{"drain": true, "savepoint": "last"}"#);
    assert!(refusal.starts_with("HTTP/1.1 409"), "{refusal}");
    let granted = wish(r#"{"drain": true}"#);
    assert!(granted.starts_with("HTTP/1.1 202"), "{granted}");
    assert_eq!(child.await_end(), Some(0));
    let lines = job.lines() as u64;
    assert!(0 < lines && lines < COUNT, "it was drained in the middle, after {lines}");
    job.check_ended();
}

#[test]
fn pages_of_other_hosts_are_kept_out() {
    use std::io::{Read as _, Write as _};
    let job = Counted::new(50_000);
    let mut child = Job::of(job.command(&["--shards", "1", "--listen", "127.0.0.1:0"]));
    let address = child.await_address();
    for (head, status) in [
        ("POST /stop HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json", "403"),
        ("GET /shards HTTP/1.1\r\nHost: 127.0.0.1.evil.example:80", "403"),
        ("POST /stop HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain", "415"),
        ("GET /healthz HTTP/1.1\r\nHost: [::1]:80", "200"),
    ] {
        let mut stream = std::net::TcpStream::connect(&address).expect("it listens");
        write!(stream, "{head}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}")
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {answer}");
    }
    child.signal("-KILL");
    child.await_end();
}

#[test]
fn exactly_once_is_refused_where_it_cannot_be_had() {
    let place = tempfile::tempdir().expect("a place for files");
    let settings = place.path().join("job.toml");
    let checkpoints = place.path().join("checkpoints");
    let check = |kind: &str, text: &str, refusal: Option<&str>| {
        std::fs::write(&settings, text).expect("it can be written");
        let args = ["--config", settings.to_str().expect("a path of characters")];
        let program = env!("CARGO_BIN_EXE_test_job");
        let mut command = child::command(program, kind, &args, &place.path().join("output"));
        command.env("TEST_JOB_LISTEN", "127.0.0.1:0");
        let output = child::run(command);
        let code = if refusal.is_some() { 2 } else { 0 };
        assert_eq!(output.status.code(), Some(code), "{}", log_of(&output));
        assert!(log_of(&output).contains(refusal.unwrap_or_default()), "{}", log_of(&output));
    };
    let exactly = "guarantee = \"exactly-once\"\n";
    let with = format!("{exactly}checkpoint_directory = {checkpoints:?}\n");
    check("bounded", exactly, Some("no checkpoints are taken: set checkpoint_directory"));
    check("prints", &with, Some("stdout: at least once, not exactly once, because"));
    check(
        "listens",
        &with,
        Some("none: records may be lost, not exactly once, because source lines"),
    );
    check("bounded", &with, None);
}
