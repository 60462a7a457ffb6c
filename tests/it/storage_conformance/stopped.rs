//! The service survives being stopped and continued at any moment (SIGSTOP, SIGCONT): what puts
//! glommio's executor to sleep for good without the containment.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Stops per run.
const STOP_COUNT: usize = 20;

/// Longer than glommio's own preemption timer. The stop is what is tested, not a way to wait.
const STOPPED_FOR: Duration = Duration::from_millis(120);

/// The worker prints a line per round, and ends after 20 seconds without progress with an error.
fn check(driver: &str) {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_storage-worker"))
        .arg(driver)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the worker can be started");
    let mut rounds = BufReader::new(worker.stdout.take().expect("it is piped")).lines();
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
    worker.kill().expect("the worker is running");
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
