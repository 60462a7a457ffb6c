//! Real processes of the test job: started, listened to, told to end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything that a test waits for takes, on any machine.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// A test job of some kind, to be started: `program` is the test job's.
pub fn command(program: &str, kind: &str, args: &[&str], output: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(kind).args(args).env("TEST_JOB_OUTPUT", output).env("RUST_LOG", "info");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end.
///
/// # Panics
/// If there is no such program.
pub fn run(mut command: Command) -> Output {
    command.output().expect("the job is there")
}

/// A job that runs.
#[derive(Debug)]
pub struct Job {
    /// Its process.
    pub child: Child,
    /// What it logs.
    pub log: BufReader<ChildStderr>,
}

impl Job {
    /// The job that `command` starts, with its log piped.
    ///
    /// # Panics
    /// If there is no such program.
    pub fn of(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the job is there");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, log }
    }

    /// Reads the log up to a line that contains `text`, and gives that line.
    ///
    /// # Panics
    /// If the job ends before it says so.
    pub fn await_line(&mut self, text: &str) -> String {
        let mut seen = String::new();
        let mut line = String::new();
        while self.log.read_line(&mut line).expect("the log is text") > 0 {
            if line.contains(text) {
                return line;
            }
            seen.push_str(&line);
            line.clear();
        }
        panic!("the job ended without saying {text:?}, but:\n{seen}");
    }

    /// Where it serves HTTP.
    ///
    /// # Panics
    /// If it ends before it does.
    pub fn await_address(&mut self) -> String {
        let line = self.await_line("http server listens");
        line.split("address=").nth(1).expect("it says where").trim().to_string()
    }

    /// Sends it a signal, such as `-TERM`.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().expect("kill is there");
        assert!(status.success());
    }

    /// The exit code, once it has ended; none if a signal has killed it.
    ///
    /// # Panics
    /// If it does not end within two minutes.
    pub fn await_end(mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        // The log must be read on, or the job could wait for us.
        let drain = std::thread::spawn(move || {
            let mut rest = String::new();
            self.log.read_to_string(&mut rest).expect("the log is text");
            rest
        });
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                drain.join().expect("reading does not fail");
                return status.code();
            }
            assert!(Instant::now() < until, "the job does not end");
            std::thread::yield_now();
        }
    }
}

/// The answer to an HTTP request with a body of JSON, none if it is empty: head and body.
///
/// # Panics
/// If nobody answers.
pub fn http(address: &str, method: &str, path: &str, json: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let length = json.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// The JSON of an answer.
///
/// # Panics
/// If it has none.
pub fn json_of(answer: &str) -> serde_json::Value {
    let body = answer.split("\r\n\r\n").nth(1).expect("it has a body");
    serde_json::from_str(body).expect("it is JSON")
}
