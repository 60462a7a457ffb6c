//! Connectors on the real host: files, sockets, compression, ranges, and what bad input does to a
//! job, in processes of their own.
//!
//! Not here: every branch of a connector (`core/src/connector`), disks alone
//! (`storage_conformance`).

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use tempfile::TempDir;

use millstream_tests::child::Job;

fn command(kind: &str, output: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_connector-job"));
    command.args([kind, "--shards", "2"]).env("TEST_JOB_OUTPUT", output).env("RUST_LOG", "info");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A directory with inputs, and where a job writes.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a place for files") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn with(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("it is below the directory"))
            .and_then(|()| std::fs::write(&path, bytes))
            .expect("the directory is ours");
        self
    }

    /// Runs a job that reads `input`, to its end.
    fn run(&self, kind: &str, input: &str) -> Output {
        let mut command = command(kind, &self.path("out"));
        command.env("TEST_JOB_INPUT", input).output().expect("the job is there")
    }

    /// The same of a path below the directory.
    fn run_on(&self, kind: &str, name: &str) -> Output {
        self.run(kind, &self.path(name).display().to_string())
    }

    /// All lines of the files that the job wrote to `out`, sorted.
    fn lines(&self, out: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for path in complete_files(&self.path(out)) {
            let text = std::fs::read_to_string(&path).expect("it is text");
            lines.extend(text.lines().map(ToString::to_string));
        }
        lines.sort_unstable();
        lines
    }
}

/// The files in `directory` that have their final names.
fn complete_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let is_complete = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "txt");
    paths.filter(is_complete).collect()
}

fn log_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Numbered lines, some 10 bytes each.
fn numbered(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("line {n:06}")).collect()
}

fn text(lines: &[String]) -> Vec<u8> {
    lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

#[test]
fn a_file_is_read_in_ranges_by_two_shards_without_loss() {
    let lines = numbered(0..100_000);
    let place = Place::new().with("in.txt", text(&lines));
    let output = place.run_on("lines", "in.txt");
    assert_eq!(output.status.code(), Some(0), "{}", log_of(&output));
    assert!(place.lines("out") == lines, "{} lines", place.lines("out").len());
}

#[test]
fn compressed_files_are_read() {
    let lines = numbered(0..50_000);
    let (first, second) = lines.split_at(20_000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text(first)).expect("memory");
    let gzip = gzip.finish().expect("memory");
    let zstd = zstd::bulk::compress(&text(second), 1).expect("memory");
    let place = Place::new().with("in/a.txt.gz", gzip).with("in/b.txt.zst", zstd);
    let output = place.run_on("lines", "in/*");
    assert_eq!(output.status.code(), Some(0), "{}", log_of(&output));
    assert!(place.lines("out") == lines, "{} lines", place.lines("out").len());
}

#[test]
fn new_files_of_a_watched_directory_are_read_until_the_job_is_told_to_end() {
    let place = Place::new().with("in/a.txt", "a\n");
    let mut command = command("watch", &place.path("out"));
    command.env("TEST_JOB_INPUT", place.path("in"));
    let mut job = Job::of(command);
    job.await_line("read a");
    std::fs::write(place.path("in/b.txt.inprogress"), "b\n").expect("the directory is ours");
    std::fs::rename(place.path("in/b.txt.inprogress"), place.path("in/b.txt")).expect("it is ours");
    job.await_line("read b");
    job.signal("-TERM");
    assert_eq!(job.await_end(), Some(0));
    assert_eq!(place.lines("out"), ["a", "b"]);
}

#[test]
fn lines_of_a_connection_are_read_up_to_its_end() {
    let place = Place::new();
    let server = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = server.local_addr().expect("it is bound").to_string();
    let lines = numbered(0..20_000);
    let sent = text(&lines);
    let sender = thread::spawn(move || {
        let (mut peer, _) = server.accept().expect("the job calls");
        peer.write_all(&sent).expect("the job reads");
    });
    let output = place.run("from-socket", &address);
    sender.join().expect("everything was sent");
    assert_eq!(output.status.code(), Some(0), "{}", log_of(&output));
    assert!(place.lines("out") == lines, "{} lines", place.lines("out").len());
}

/// What a peer gets that treats its connections as `serve` does, and how the job ends.
fn send_to(serve: fn(TcpListener) -> Vec<u8>) -> (Vec<u8>, Output) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = server.local_addr().expect("it is bound").to_string();
    let server = thread::spawn(move || serve(server));
    let output = Place::new().run("to-socket", &address);
    (server.join().expect("the peer is content"), output)
}

#[test]
fn a_peer_gets_everything_before_the_job_ends() {
    let (received, output) = send_to(|server| {
        let peers = [(); 2].map(|()| server.accept().expect("each task calls").0);
        let readers = peers.map(|mut peer| {
            thread::spawn(move || {
                let mut received = Vec::new();
                peer.read_to_end(&mut received).expect("the job ends its side");
                received
            })
        });
        readers.into_iter().flat_map(|reader| reader.join().expect("it reads")).collect()
    });
    assert_eq!(output.status.code(), Some(0), "{}", log_of(&output));
    let received = String::from_utf8(received).expect("text");
    let mut numbers: Vec<u64> = received.lines().map(|n| n.parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..10_000));
}

#[test]
fn a_peer_that_does_not_read_the_end_makes_the_job_fail() {
    let (_, output) = send_to(|server| {
        let peers = [(); 2].map(|()| server.accept().expect("each task calls").0);
        for mut peer in peers {
            // Something has come, and the rest is not read: closing resets the connection.
            let _ = peer.read(&mut [0; 10]).expect("the job sends");
        }
        Vec::new()
    });
    let log = log_of(&output);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("check the program on the other side"), "{log}");
}

#[test]
fn a_peer_that_ends_while_nothing_is_sent_makes_the_job_fail() {
    let output = send_to_idle();
    let log = log_of(&output);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("the peer ended its side of the connection before"), "{log}");
}

/// A job that has nothing to send and no end, and a peer that ends the connection.
fn send_to_idle() -> Output {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = server.local_addr().expect("it is bound").to_string();
    let server = thread::spawn(move || {
        drop([(); 2].map(|()| server.accept().expect("each task calls")));
    });
    let place = Place::new().with("in/.hidden", "");
    let mut command = command("watch-to-socket", &place.path("out"));
    command.env("TEST_JOB_INPUT", place.path("in")).env("TEST_JOB_PEER", address);
    let output = command.output().expect("the job is there");
    server.join().expect("the peer is content");
    output
}

/// A job on bad input ends with exit code 1 and says all of `expected`.
fn check_bad(place: &Place, kind: &str, name: &str, expected: &[&str]) {
    let output = place.run_on(kind, name);
    let log = log_of(&output);
    assert_eq!(output.status.code(), Some(1), "{log}");
    for words in expected {
        assert!(log.contains(words), "{words:?} is missing in {log}");
    }
    assert_eq!(complete_files(&place.path("out")), Vec::<PathBuf>::new(), "nothing is complete");
}

#[test]
fn a_missing_file_stops_the_job() {
    let expected = ["in.txt: no file is there", "correct the path or pattern"];
    check_bad(&Place::new(), "lines", "in.txt", &expected);
}

#[test]
fn a_directory_that_cannot_be_read_stops_the_job() {
    let place = Place::new().with("in/a.txt", "a\n");
    // Refused to everybody, root too.
    std::os::unix::fs::symlink("loop", place.path("in/loop")).expect("the directory is ours");
    let expected = ["in/loop: Too many levels of symbolic links", "check the disk and the mount"];
    check_bad(&place, "lines", "in", &expected);
}

#[test]
fn a_truncated_gzip_stops_the_job() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text(&numbered(0..1000))).expect("memory");
    let mut gzip = gzip.finish().expect("memory");
    gzip.truncate(gzip.len() / 2);
    let byte = format!("in.txt.gz, compressed byte {}", gzip.len());
    let place = Place::new().with("in.txt.gz", gzip);
    check_bad(
        &place,
        "lines",
        "in.txt.gz",
        &[&byte, "ends before its content does", "get it again"],
    );
}

#[test]
fn bytes_that_are_not_utf8_stop_the_job() {
    let mut bytes = text(&numbered(0..5000));
    bytes.extend(b"gr\xfc\xdfe\n");
    let place = Place::new().with("in.txt", bytes);
    let expected = ["in.txt:5001, character 3", "0xfc is not UTF-8", ".side_output(DEAD_LETTERS)"];
    check_bad(&place, "lines", "in.txt", &expected);
}

#[test]
fn a_field_out_of_range_stops_the_job() {
    let place = Place::new().with("in.csv", "id,amount\n1,2\n300,4\n");
    let expected = ["in.csv:3, column 1 (id): '300' does not fit; a whole number from 0 to 255"];
    check_bad(&place, "csv", "in.csv", &expected);
}

#[test]
fn a_line_beyond_the_limit_stops_the_job_and_one_of_ten_megabytes_does_not() {
    let long = "x".repeat(10 << 20);
    let place = Place::new().with("in.txt", format!("a\n{long}\nb\n"));
    let output = place.run_on("line-lengths", "in.txt");
    assert_eq!(output.status.code(), Some(0), "{}", log_of(&output));
    assert_eq!(place.lines("out"), ["1", "1", "10485760"]);
    let long = "x".repeat(17 << 20);
    let place = Place::new().with("in.txt", format!("a\n{long}\nb\n"));
    let expected = ["in.txt:2: a line of more than 16777216 bytes", "break it up"];
    check_bad(&place, "line-lengths", "in.txt", &expected);
}

#[test]
fn what_cannot_be_read_goes_to_the_dead_letters_if_they_are_asked_for() {
    let place = Place::new().with("in.csv", b"id,amount\n1,2\n300,4\n\xff,5\n6,7\n");
    let output = place.run_on("csv-skip", "in.csv");
    assert_eq!(output.status.code(), Some(0), "{}", log_of(&output));
    assert_eq!(place.lines("out"), ["1", "6"]);
    let letters = place.lines("out/dead");
    let [first, second] = letters.as_slice() else { panic!("{letters:?}") };
    assert!(first.contains(":3, column 1 (id): '300' does not fit"), "{first}");
    assert!(second.contains(":4, character 1: the byte 0xff"), "{second}");
}
