//! Real processes: how a job ends, what it says, what it leaves behind.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use millstream_tests::child::{self, Job, PATIENCE};

pub(crate) fn command(kind: &str, args: &[&str], output: &Path) -> Command {
    child::command(env!("CARGO_BIN_EXE_test_job"), kind, args, output)
}

/// Runs a job to its end.
pub(crate) fn run(kind: &str, args: &[&str], output: &Path) -> Output {
    child::run(command(kind, args, output))
}

fn start(kind: &str, args: &[&str], output: &Path) -> Job {
    Job::of(command(kind, args, output))
}

/// All numbers in the files of `directory`. No file may be unfinished.
fn numbers_in(directory: &Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the sink made it") {
        let path = entry.expect("it can be listed").path();
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        assert!(!name.contains("inprogress"), "{name} was left behind");
        let text = std::fs::read_to_string(&path).expect("it is text");
        numbers.extend(text.lines().map(|line| line.parse::<u64>().expect("a number a line")));
    }
    numbers
}

fn http_get(address: &str, path: &str) -> String {
    child::http(address, "GET", path, "")
}

fn http_json(address: &str, path: &str) -> serde_json::Value {
    child::json_of(&http_get(address, path))
}

#[test]
fn a_bounded_input_ends_with_everything_written_and_exit_0() {
    for shards in ["1", "2", "5"] {
        let directory = tempfile::tempdir().expect("a place for files");
        let output = run("bounded", &["--shards", shards], directory.path());
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{log}");
        let mut numbers = numbers_in(directory.path());
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..10_000), "{shards} shards");
    }
}

#[test]
fn every_idle_strategy_works_with_every_storage_service() {
    for idle in ["spin", "yield", "park"] {
        for service in ["glommio", "ring"] {
            let directory = tempfile::tempdir().expect("a place for files");
            let settings = directory.path().join("job.toml");
            let text = format!("shards = 2\nidle = \"{idle}\"\nstorage_service = \"{service}\"\n");
            std::fs::write(&settings, text).expect("a file can be written");
            let output = directory.path().join("numbers");
            let args = ["--config", settings.to_str().expect("a path of characters")];
            let ended = run("bounded", &args, &output);
            let log = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(0), "{idle}, {service}: {log}");
            let mut numbers = numbers_in(&output);
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..10_000), "{idle}, {service}");
        }
    }
}

/// A command that runs a shell's `script`, with `$DISK` mounted as a disk of 16 KiB, in a namespace
/// of its own. None where this machine does not let us: that is said.
fn on_small_disk(script: &str, disk: &Path) -> Option<Command> {
    let mount = "mount -t tmpfs -o size=16k none \"$DISK\"";
    let command = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg(format!("{mount} && {script}")).env("DISK", disk);
        command
    };
    let tried = command("true").output();
    let reason = match tried {
        Ok(output) if output.status.success() => return Some(command(script)),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_string(),
        Err(error) => error.to_string(),
    };
    // Past the test's captured output: whoever runs the tests should know.
    let line = format!("full disk: skipped because a small disk cannot be mounted: {reason}");
    writeln!(std::io::stderr(), "{line}").expect("somebody reads it");
    None
}

/// The shell runs the job on a small disk, and lists what is on it.
#[test]
fn a_full_disk_stops_the_job_and_leaves_no_file_that_looks_complete() {
    let directory = tempfile::tempdir().expect("a place to mount it");
    let script = "\"$JOB\" bounded --shards 2; code=$?; ls \"$DISK\"; exit $code";
    let Some(mut command) = on_small_disk(script, directory.path()) else { return };
    command.env("JOB", env!("CARGO_BIN_EXE_test_job")).env("TEST_JOB_OUTPUT", directory.path());
    let output = command.output().expect("it has just run");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("operator files: could not "), "{log}");
    assert!(log.contains("No space left on device"), "{log}");
    let names = String::from_utf8_lossy(&output.stdout);
    let complete: Vec<&str> = names.lines().filter(|name| !name.contains("inprogress")).collect();
    assert!(complete.is_empty(), "{complete:?} cannot be whole");
}

#[test]
fn a_signal_drains_what_is_under_way_and_exits_0() {
    for signal in ["-INT", "-TERM"] {
        let directory = tempfile::tempdir().expect("a place for files");
        let args = ["--shards", "2", "--listen", "127.0.0.1:0"];
        let mut job = start("endless", &args, directory.path());
        let address = job.await_address();
        let sum_in = await_metric(&address, RECORDS_IN, "numbers", 10_000);
        job.signal(signal);
        assert_eq!(job.await_end(), Some(0), "{signal}");
        // Every task reads every other number: each must have written a prefix, without holes.
        let numbers = numbers_in(directory.path());
        assert!(sum_in <= numbers.len() as u64, "what had been read is written");
        let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
        assert_eq!(distinct.len(), numbers.len(), "a number was written twice");
        for split in 0..2 {
            let of_split = distinct.iter().filter(|n| *n % 2 == split);
            let expected = (0..).map(|i| i * 2 + split);
            assert!(of_split.zip(expected).all(|(n, i)| *n == i), "split {split} has a hole");
        }
    }
}

#[test]
fn a_second_signal_ends_whatever_user_code_does() {
    let directory = tempfile::tempdir().expect("a place for files");
    let mut job = start("stuck", &["--shards", "1"], directory.path());
    job.await_line("stuck");
    job.signal("-INT");
    job.await_line("draining");
    job.signal("-INT");
    // The user's code would hold it up for an hour.
    assert_eq!(job.await_end(), Some(1));
}

#[test]
fn a_second_run_in_the_directory_is_refused_and_the_first_goes_on() {
    let directory = tempfile::tempdir().expect("a place for files");
    let mut job = start("endless", &["--shards", "2"], directory.path());
    job.await_line("started");
    await_unfinished(directory.path());
    for shards in ["1", "2", "3"] {
        let output = run("bounded", &["--shards", shards], directory.path());
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{shards} shards: {log}");
        assert!(log.contains("another run of this job, or another job, writes to the"), "{log}");
    }
    job.signal("-INT");
    assert_eq!(job.await_end(), Some(0));
    let numbers = numbers_in(directory.path());
    let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(distinct.len(), numbers.len(), "both have written");
}

#[test]
fn a_run_after_a_kill_removes_what_was_not_finished() {
    let directory = tempfile::tempdir().expect("a place for files");
    let mut job = start("endless", &["--shards", "3"], directory.path());
    job.await_line("started");
    await_unfinished(directory.path());
    job.signal("-KILL");
    assert_eq!(job.await_end(), None);
    for entry in std::fs::read_dir(directory.path()).expect("it is there") {
        let path = entry.expect("it can be listed").path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            std::fs::remove_file(path).expect("it is ours");
        }
    }
    let output = run("bounded", &["--shards", "3"], directory.path());
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains("removing what an earlier run left unfinished"), "{log}");
    assert_eq!(numbers_in(directory.path()).len(), 10_000);
}

/// Waits until a job has begun a file.
fn await_unfinished(directory: &Path) {
    let until = Instant::now() + PATIENCE;
    let is_unfinished = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with(".inprogress"))
    };
    while !std::fs::read_dir(directory).expect("it is there").any(is_unfinished) {
        assert!(Instant::now() < until, "no file is begun");
        std::thread::yield_now();
    }
}

#[test]
fn a_panic_names_the_operator_and_the_record_and_exits_1() {
    let directory = tempfile::tempdir().expect("a place for files");
    let output = run("panics", &["--shards", "2"], directory.path());
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("operator largest panicked at source numbers"), "{log}");
    assert!(log.contains("record 4321: 4321 is not to be added"), "{log}");
    assert!(log.contains("added (tests/src/bin/test_job.rs:"), "the place is there: {log}");
}

#[test]
fn a_panic_at_the_very_first_record_names_its_split() {
    let directory = tempfile::tempdir().expect("a place for files");
    let output = run("panics-at-once", &["--shards", "1"], directory.path());
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("operator never panicked at source numbers, "), "{log}");
    assert!(log.contains("record 0: not even 0"), "{log}");
}

#[test]
fn a_panic_in_a_source_names_the_source_and_what_came_before() {
    let directory = tempfile::tempdir().expect("a place for files");
    let output = run("panics-in-source", &["--shards", "1"], directory.path());
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("operator numbers panicked at what follows source numbers"), "{log}");
    assert!(log.contains("record 4320: there is no 4321"), "{log}");
}

#[test]
fn a_panic_outside_of_every_turn_ends_the_job_too() {
    let directory = tempfile::tempdir().expect("a place for files");
    let output = run("panics-while-copied", &["--shards", "2"], directory.path());
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    let expected =
        "operator numbers -> none panicked at the start, while it was copied for a shard";
    assert!(log.contains(expected) && log.contains("it breaks"), "{log}");
    assert!(!log.contains("bug in the engine"), "it is the user's code: {log}");
}

#[test]
fn a_signal_that_comes_before_the_first_turn_drains_as_well() {
    let directory = tempfile::tempdir().expect("a place for files");
    let mut job = start("slow-to-open", &["--shards", "1"], directory.path());
    job.await_line("opening");
    job.signal("-INT");
    assert_eq!(job.await_end(), Some(0));
}

#[test]
fn a_job_with_mistakes_does_not_start_and_exits_2() {
    let directory = tempfile::tempdir().expect("a place for files");
    let output = run("invalid", &[], directory.path());
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(log.contains("watermark") && log.contains("sink"), "both mistakes are there: {log}");
}

#[test]
fn http_shows_health_metrics_and_shards() {
    let directory = tempfile::tempdir().expect("a place for files");
    let args = ["--shards", "2", "--listen", "127.0.0.1:0"];
    let mut job = start("endless", &args, directory.path());
    let address = job.await_address();
    assert!(http_get(&address, "/healthz").starts_with("HTTP/1.1 200"));
    for name in [RECORDS_IN, "millstream_task_records_out_total", "millstream_task_watermark_ms"] {
        await_metric(&address, name, "numbers", 0);
    }
    // A shard that is busy is missing until it has answered once.
    let until = Instant::now() + PATIENCE;
    let shards = loop {
        let shards = http_json(&address, "/shards");
        if shards.as_array().map(Vec::len) == Some(2) {
            break shards;
        }
        assert!(Instant::now() < until, "a shard does not answer: {shards}");
    };
    assert!(shards[1]["tasks"][0]["status"]["records_in"].is_u64(), "{shards}");
    let metrics = http_get(&address, "/metrics");
    assert!(metrics.contains("millstream_task_records_in_total{shard=\"1\""), "{metrics}");
    let threads = http_json(&address, "/threads");
    let names: Vec<_> = (0..5).map(|index| threads[index]["thread"].as_str()).collect();
    let expected = ["shard-0", "shard-1", "storage", "stdout", "control"].map(Some);
    assert_eq!(names, expected, "{threads}");
    job.signal("-INT");
    assert_eq!(job.await_end(), Some(0));
}

/// A connection to who listens there, or will in a moment.
fn call(address: &str) -> TcpStream {
    let until = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < until, "nobody listens: {error}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn callers_for_whom_there_is_no_descriptor_wait_and_are_served_later() {
    const CALLER_COUNT: u64 = 120;
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let address = free.expect("a free port").to_string();
    let script = "ulimit -n 128 && exec \"$0\" listens --shards 1 --listen 127.0.0.1:0";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_test_job")]);
    command.env("TEST_JOB_LISTEN", &address).env("RUST_LOG", "info");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut job = Job::of(command);
    let http = job.await_address();
    let mut callers = Vec::new();
    for number in 0..CALLER_COUNT {
        let mut caller = call(&address);
        writeln!(caller, "{number}").expect("the system takes a line");
        callers.push(caller);
    }
    let line = job.await_line("raise the limit");
    assert!(line.contains("ulimit -n"), "{line}");
    drop(callers);
    await_metric(&http, RECORDS_IN, "lines", CALLER_COUNT - 1);
    job.signal("-INT");
    assert_eq!(job.await_end(), Some(0));
}

/// Whether a job has left anything in its output.
fn is_untouched(directory: &Path) -> bool {
    std::fs::read_dir(directory).expect("it is there").next().is_none()
}

/// The sum over all shards of a metric of the task whose name begins with `task`, if there is one.
fn metric(address: &str, name: &str, task: &str) -> Option<u64> {
    let metrics = http_get(address, "/metrics");
    let of_task = |line: &&str| line.starts_with(name) && line.contains(&format!("task=\"{task}"));
    let value = |line: &str| line.rsplit(' ').next().expect("a value").parse::<u64>();
    let values = metrics.lines().filter(of_task).map(|line| value(line).expect("a number"));
    values.reduce(|a, b| a + b)
}

/// Waits until the metric is more than `min`. Answers its value.
fn await_metric(address: &str, name: &str, task: &str, min: u64) -> u64 {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = metric(address, name, task).filter(|value| min < *value) {
            return value;
        }
        assert!(Instant::now() < until, "{name} of {task} does not come to {min}");
        std::thread::yield_now();
    }
}

const RECORDS_IN: &str = "millstream_task_records_in_total";

#[test]
fn a_reader_of_standard_output_that_lags_holds_up_nobody_else() {
    let directory = tempfile::tempdir().expect("a place for files");
    let args = ["--shards", "1", "--listen", "127.0.0.1:0"];
    let mut job = start("prints", &args, directory.path());
    let address = job.await_address();
    // Nobody reads: once the pipe is full, the task that prints waits, and the other goes on.
    await_metric(&address, "millstream_task_backpressured_ms_total", "printed", 50);
    let until = Instant::now() + PATIENCE;
    let printed = loop {
        let printed = metric(&address, RECORDS_IN, "printed").expect("it has begun");
        let others = metric(&address, RECORDS_IN, "others").expect("it has begun");
        await_metric(&address, RECORDS_IN, "others", others + 100_000);
        if metric(&address, RECORDS_IN, "printed") == Some(printed) {
            break printed;
        }
        assert!(Instant::now() < until, "the pipe is never full");
    };
    job.signal("-INT");
    let mut stdout = job.child.stdout.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text).expect("it is text")
    });
    assert_eq!(job.await_end(), Some(0));
    let text = reader.join().expect("reading does not fail");
    let numbers = text.lines().map(|line| line.parse::<u64>().expect("whole lines"));
    let count = numbers.clone().count() as u64;
    assert!(numbers.eq(0..count), "a line is missing");
    assert!(printed <= count, "{printed} records were under way, {count} were written");
}

#[test]
fn a_reader_of_standard_output_that_leaves_ends_the_job() {
    let directory = tempfile::tempdir().expect("a place for files");
    let mut job = start("prints", &["--shards", "2"], directory.path());
    let mut lines = BufReader::new(job.child.stdout.take().expect("piped")).lines();
    assert!(lines.next().is_some_and(|line| line.is_ok()));
    drop(lines);
    let line = job.await_line("error: ");
    assert!(line.contains("operator stdout: could not write to standard output: "), "{line}");
    assert!(line.contains("whoever read it has gone"), "{line}");
    assert_eq!(job.await_end(), Some(1));
}

#[test]
fn it_does_not_listen_beyond_loopback() {
    let directory = tempfile::tempdir().expect("a place for files");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let args = ["--listen", address, "--shards", "5000"];
        let output = run("bounded", &args, directory.path());
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{log}");
        let is_told = log.contains("listen must be an address of the machine itself");
        assert!(is_told && log.contains("shards must be"), "all mistakes are told: {log}");
        assert!(is_untouched(directory.path()));
    }
}

#[test]
fn a_port_that_is_taken_is_found_before_anything_is_written() {
    let directory = tempfile::tempdir().expect("a place for files");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let output = run("bounded", &["--listen", &address], directory.path());
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("could not listen at {address}: Address already in use")));
    assert!(log.contains("end it, or choose another"), "what to do is said: {log}");
    assert!(is_untouched(directory.path()));
}
