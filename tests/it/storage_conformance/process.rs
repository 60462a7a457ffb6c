//! The service in a process of its own: stopped and continued at any moment (SIGSTOP, SIGCONT),
//! which can put glommio's executor to sleep for good without the containment; and short of locked
//! memory, without which there is no such executor.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const WORKER: &str = env!("CARGO_BIN_EXE_storage-worker");

/// Stops per run.
const STOP_COUNT: usize = 20;

/// Longer than glommio's own preemption timer. The stop is what is tested, not a way to wait.
const STOPPED_FOR: Duration = Duration::from_millis(120);

/// The worker prints a line per round, and ends after 20 seconds without progress with an error.
fn check(driver: &str) {
    let mut worker = start(Command::new(WORKER).arg(driver));
    let mut rounds = rounds(&mut worker);
    for stop in 0..STOP_COUNT {
        signal(&worker, "STOP");
        std::thread::sleep(STOPPED_FOR);
        signal(&worker, "CONT");
        // Some rounds in between, not always as many, so that stops hit different moments.
        for _ in 0..=stop % 3 {
            let round = rounds.next().unwrap_or_else(|| panic!("{driver} hangs after stop {stop}"));
            round.expect("the worker prints text");
        }
    }
    end(worker);
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the worker can be started")
}

/// The lines that the worker prints.
fn rounds(worker: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(worker.stdout.take().expect("it is piped")).lines()
}

fn end(mut worker: Child) {
    worker.kill().expect("the worker can be killed");
    worker.wait().expect("the worker can be waited for");
}

fn signal(worker: &Child, name: &str) {
    let id = worker.id().to_string();
    let status = Command::new("kill").args(["-s", name, &id]).status().expect("kill exists");
    assert!(status.success());
}

#[test]
fn glommio_goes_on_after_being_stopped() {
    check("glommio");
}

#[test]
fn the_ring_goes_on_after_being_stopped() {
    check("ring");
}

#[test]
fn without_locked_memory_the_ring_takes_over() {
    let limited = ["--memlock=65536:65536", WORKER, "glommio"];
    let mut worker = start(Command::new("prlimit").args(limited));
    let round = rounds(&mut worker).next().expect("the worker makes progress");
    assert_eq!(round.expect("the worker prints text"), "0");
    end(worker);
}
