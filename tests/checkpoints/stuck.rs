//! A real process whose sink is stuck: the program that it sends to does not read. Checkpoints and
//! savepoints are completed all the same, and nothing is lost or counted twice when the process is
//! killed.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use millstream_tests::child::{self, Job};

const COUNT: u64 = 60_000;
const KEYS: u64 = 50;

/// What is in flight fits between the tasks of 2 shards: 3 edges of 4 channels at most, each with
/// the frames that are away, those that wait, and what a turn makes of a batch.
const IN_FLIGHT_BYTES_MAX: u64 = 3 * 4 * 16 * (32 << 10);

/// The last checkpoints, and how many records the tasks have taken.
fn look(address: &str) -> (Vec<Value>, u64) {
    let status = child::json_of(&child::http(address, "GET", "/checkpoints", ""));
    let history = status["history"].as_array().expect("a list");
    let completed = history.iter().filter(|report| report["outcome"] == "completed");
    let metrics = child::http(address, "GET", "/metrics", "");
    let taken = metrics.lines().filter(|line| line.starts_with("millstream_task_records_in_total"));
    let taken = taken.map(|line| line.rsplit(' ').next().expect("a value").parse::<u64>());
    (completed.cloned().collect(), taken.map(|it| it.expect("a number")).sum())
}

/// The lines that a connection has received, the last of which may be cut off by a kill.
fn read(mut stream: TcpStream) -> Vec<String> {
    let mut bytes = Vec::new();
    // A killed process resets it, and what had arrived is there before that is seen.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("it is text");
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text[..whole].lines().map(str::to_string).collect()
}

#[test]
fn checkpoints_are_completed_while_nobody_reads_and_nothing_is_lost_when_it_is_killed() {
    let place = tempfile::tempdir().expect("a place for files");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let peer = listener.local_addr().expect("it listens").to_string();
    let command = |shards: &str| {
        let args =
            ["--shards", shards, "--listen", "127.0.0.1:0", "--checkpoint-interval", "100ms"];
        let program = env!("CARGO_BIN_EXE_test_job");
        let mut command = child::command(program, "stuck-peer", &args, &place.path().join("none"));
        command.arg("--checkpoint-directory").arg(place.path().join("checkpoints"));
        command.env("TEST_JOB_COUNT", COUNT.to_string()).env("TEST_JOB_LISTEN", &peer);
        command
    };
    let mut job = Job::of(command("2"));
    let address = job.await_address();
    let silent: Vec<TcpStream> = (0..2).map(|_| listener.accept().expect("it calls").0).collect();
    let until = Instant::now() + child::PATIENCE;
    let (mut stuck, mut before) = (0, look(&address));
    while stuck < 3 {
        assert!(Instant::now() < until, "nothing is completed: {:?}", before.0.last());
        std::thread::sleep(Duration::from_millis(20));
        let now = look(&address);
        if now.1 != before.1 {
            (stuck, before) = (0, now);
        } else if now.0.last() != before.0.last() {
            (stuck, before) = (stuck + 1, now);
        }
    }
    let last = before.0.last().expect("some are completed");
    let in_flight = last["in_flight_bytes"].as_u64().expect("it says how many");
    assert!((1..IN_FLIGHT_BYTES_MAX).contains(&in_flight), "{last}");
    let granted = child::http(&address, "POST", "/savepoints", r#"{"name": "stuck"}"#);
    assert!(granted.starts_with("HTTP/1.1 202"), "{granted}");
    while !look(&address).0.iter().any(|report| report["kind"] == "savepoint") {
        assert!(Instant::now() < until, "no savepoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    job.signal("-KILL");
    assert_eq!(job.await_end(), None);

    let mut lines: Vec<String> = silent.into_iter().flat_map(read).collect();
    assert!((lines.len() as u64) < COUNT, "it was stuck before the end");
    let mut job = Job::of(command("3"));
    job.await_line("going on from a checkpoint");
    let readers = (0..3).map(|_| listener.accept().expect("it calls").0);
    let readers: Vec<_> = readers.map(|stream| std::thread::spawn(move || read(stream))).collect();
    assert_eq!(job.await_end(), Some(0), "its state had every record once, in order");
    lines.extend(readers.into_iter().flat_map(|reader| reader.join().expect("it reads")));
    let mut counts: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for line in &lines {
        let mut words = line.split(' ').map(str::parse);
        let (Some(Ok(key)), Some(Ok(count))) = (words.next(), words.next()) else {
            panic!("no line of the job: {line}");
        };
        counts.entry(key).or_default().push(count);
    }
    for key in 0..KEYS {
        let mut found = counts.remove(&key).expect("every key has lines");
        found.sort_unstable();
        found.dedup();
        assert!(found.iter().copied().eq(0..COUNT / KEYS), "key {key}: some are lost");
    }
}
