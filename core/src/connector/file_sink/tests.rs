//! Names, rolling, durability, backpressure and failures of written files.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use proptest::prelude::*;

use super::*;
use crate::connector::file_source::IN_PROGRESS_SUFFIX;
use crate::connector::testing::{NoOutput, context};
use crate::operator::TaskEnv;
use crate::testing::{MemoryDisk, task_env};

#[derive(Debug, Clone, serde::Serialize)]
struct Alert {
    id: u32,
    reason: &'static str,
}

/// One task of a sink above a disk.
struct Task<E> {
    env: TaskEnv,
    sink: FileSink<E>,
    disk: MemoryDisk,
}

impl<E: Encode<Record = Alert>> Task<E> {
    fn new(sink: &FileSink<E>, task_index: u32, disk: MemoryDisk) -> Self {
        let mut task = Self { env: task_env(task_index, 2), sink: sink.clone(), disk };
        task.sink.open(&context(&task.env, "alerts")).expect("opening only lists");
        task
    }

    fn write(&mut self, id: u32) {
        let alert = Alert { id, reason: "a,b" };
        self.sink.on_row(alert.into(), &context(&self.env, "alerts"), &mut NoOutput(&self.env));
    }

    fn advance_to(&mut self, now_ms: i64) {
        self.env.processing_time_ms.set(now_ms);
        if self.sink.next_time_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            let ctx = context(&self.env, "alerts");
            assert_eq!(self.sink.on_time(&ctx, &mut NoOutput(&self.env)), Progress::Done);
        }
    }

    /// Answers operations until files may be written.
    fn take(&mut self) {
        while !self.sink.take.is_taken() {
            assert!(self.answer(), "it waits for nothing");
        }
    }

    /// Answers one operation; `false` if there is none.
    fn answer(&mut self) -> bool {
        self.disk.accept(&self.env);
        let Some(done) = self.disk.answer() else { return false };
        self.sink.on_file_done(done, &context(&self.env, "alerts"), &mut NoOutput(&self.env));
        true
    }

    fn end(&mut self) -> Progress {
        self.sink.on_end(&context(&self.env, "alerts"), &mut NoOutput(&self.env))
    }

    /// Ends the input and answers everything: the error, if there is one.
    fn finish(&mut self) -> Result<(), String> {
        while self.end() == Progress::Pending && !self.env.has_failed() {
            assert!(self.answer() || self.env.has_failed(), "it waits for nothing");
        }
        self.env.take_failure().map_or(Ok(()), |error| Err(error.chain()))
    }

    /// The files there are, with their content.
    fn files(&self) -> BTreeMap<String, String> {
        let files = self.disk.files.iter();
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).expect("text is written");
        files.map(|(path, bytes)| (path.display().to_string(), text(bytes))).collect()
    }

    fn names(&self) -> Vec<String> {
        self.files().into_keys().collect()
    }
}

fn json() -> FileSink<JsonLinesEncoder<Alert>> {
    FileSink::json_lines("out")
}

#[test]
fn files_are_named_by_task_and_number_and_hold_the_rows() {
    let mut task = Task::new(&json(), 1, MemoryDisk::new(1));
    (0..2).for_each(|id| task.write(id));
    task.finish().expect("a disk without faults");
    let expected = "{\"id\":0,\"reason\":\"a,b\"}\n{\"id\":1,\"reason\":\"a,b\"}\n";
    assert_eq!(task.files(), [("out/part-00001-000000.jsonl".into(), expected.into())].into());
}

#[test]
fn every_csv_file_begins_with_a_header() {
    let sink = FileSink::csv("out").roll_interval(Duration::from_secs(1));
    let mut task = Task::new(&sink, 0, MemoryDisk::new(1));
    task.take();
    task.write(0);
    task.advance_to(1000);
    task.write(1);
    task.finish().expect("a disk without faults");
    let texts: Vec<_> = task.files().into_values().collect();
    assert_eq!(texts, ["id,reason\n0,\"a,b\"\n", "id,reason\n1,\"a,b\"\n"]);
}

#[test]
fn a_task_without_rows_writes_no_file() {
    let mut task = Task::new(&json(), 0, MemoryDisk::new(1));
    task.finish().expect("there is nothing to fail");
    assert_eq!(task.names(), Vec::<String>::new());
}

#[test]
fn a_file_has_its_name_only_when_it_is_written_synced_and_closed() {
    let mut task = Task::new(&json(), 0, MemoryDisk::new(1));
    task.take();
    task.write(0);
    assert_eq!(task.end(), Progress::Pending);
    let mut seen = Vec::new();
    while task.answer() {
        seen.push(task.names().join(" "));
    }
    let (temporary, last) =
        ("out/part-00000-000000.jsonl.inprogress", "out/part-00000-000000.jsonl");
    // Opened, written, synced, closed, renamed.
    assert_eq!(seen, [temporary, temporary, temporary, temporary, last]);
    assert_eq!(task.end(), Progress::Pending, "the directory is given back");
    assert!(task.answer());
    assert_eq!(task.end(), Progress::Done);
}

#[test]
fn a_file_ends_at_its_age() {
    let sink = json().roll_interval(Duration::from_secs(10));
    let mut task = Task::new(&sink, 0, MemoryDisk::new(1));
    task.take();
    task.advance_to(5_000);
    assert_eq!(task.sink.next_time_ms(), None, "no record, no age");
    task.write(0);
    task.advance_to(14_999);
    task.write(1);
    assert!(!task.answer(), "nothing is written before it is time");
    task.advance_to(15_000);
    while task.answer() {}
    assert_eq!(task.names(), ["out/part-00000-000000.jsonl"]);
    assert_eq!(task.sink.next_time_ms(), None);
}

#[test]
fn a_file_ends_at_its_size() {
    let mut task = Task::new(&json().roll_bytes(1), 0, MemoryDisk::new(1));
    task.take();
    let rows_per_write = WRITE_BYTES / 20;
    for id in 0..2 * rows_per_write as u32 {
        task.write(id);
        while task.answer() {}
    }
    task.finish().expect("a disk without faults");
    assert!(task.names().len() >= 3, "{:?}", task.names());
}

#[test]
fn numbers_continue_behind_what_is_there_and_leftovers_are_removed() {
    let disk = MemoryDisk::new(1)
        .with("out/part-00000-000004.jsonl", "old")
        .with("out/part-00000-000005.jsonl.inprogress", "left behind by a crash, rather long")
        .with("out/part-00000-000003.csv.inprogress", "left behind in another format")
        .with("out/part-00001-000009.jsonl", "of another task")
        .with("out/part-00001-000010.jsonl.inprogress", "of another task, which removes it")
        .with("out/part-00002-000001.jsonl.inprogress", "of a task that there is not any more")
        .with("out/notes.txt", "of nobody");
    let mut task = Task::new(&json(), 0, disk);
    task.take();
    assert_eq!(
        task.names(),
        [
            "out/notes.txt",
            "out/part-00000-000004.jsonl",
            "out/part-00001-000009.jsonl",
            "out/part-00001-000010.jsonl.inprogress"
        ]
    );
    task.write(7);
    task.finish().expect("a disk without faults");
    let files = task.files();
    assert_eq!(files["out/part-00000-000004.jsonl"], "old");
    assert_eq!(files["out/part-00000-000005.jsonl"], "{\"id\":7,\"reason\":\"a,b\"}\n");
}

#[test]
fn a_directory_that_another_run_writes_to_is_left_alone() {
    let disk = MemoryDisk::new(1)
        .with("out/part-00001-000000.jsonl.inprogress", "theirs")
        .locked("out/.lock");
    let mut task = Task::new(&json(), 1, disk);
    task.write(0);
    assert_eq!(
        task.finish(),
        Err("operator alerts: could not lock out/.lock: operation would block; another run of \
             this job, or another job, writes to the directory: stop it, or write elsewhere"
            .to_string())
    );
    assert_eq!(task.names(), ["out/part-00001-000000.jsonl.inprogress"]);
}

#[test]
fn the_directory_is_given_back_at_the_end() {
    let mut task = Task::new(&json(), 0, MemoryDisk::new(1));
    task.write(0);
    task.take();
    assert_eq!(task.disk.locks.len(), 1);
    task.finish().expect("a disk without faults");
    assert_eq!(task.disk.locks.len(), 0);
}

#[test]
fn writes_that_lag_make_the_sink_refuse_more() {
    let mut task = Task::new(&json(), 0, MemoryDisk::new(1));
    assert!(!task.sink.is_ready(), "the directory has not been listed");
    task.take();
    let mut accepted_bytes = 0;
    while task.sink.is_ready() {
        task.write(0);
        accepted_bytes += 24;
        assert!(accepted_bytes < OPS_WAITING_MAX * WRITE_BYTES, "it takes rows without bound");
    }
    task.answer();
    assert!(task.sink.is_ready());
}

/// One row, on a disk where `verb` fails with `kind`: the error, and the files that are left.
fn check_fault(verb: &'static str, kind: ErrorKind, expected: &str) {
    let path = "out/part-00000-000000.jsonl.inprogress";
    let disk = MemoryDisk::new(1).failing_at(verb, path, kind);
    let mut task = Task::new(&json(), 0, disk);
    task.write(0);
    assert_eq!(task.finish(), Err(format!("operator alerts: could not {expected}")));
    assert!(
        task.names().iter().all(|name| name.ends_with(IN_PROGRESS_SUFFIX)),
        "no file appears under its name"
    );
}

#[test]
fn a_full_disk_says_what_to_do_whatever_fails_first() {
    let path = "out/part-00000-000000.jsonl";
    let advice = "make room there or write elsewhere, then start the job again";
    for verb in ["open", "write", "sync"] {
        let full = format!("{verb} {path}.inprogress: no storage space; {advice}");
        check_fault(verb, ErrorKind::StorageFull, &full);
        let quota = format!("{verb} {path}.inprogress: quota exceeded; {advice}");
        check_fault(verb, ErrorKind::QuotaExceeded, &quota);
    }
    let full = format!("rename {path}.inprogress to {path}: no storage space; {advice}");
    check_fault("rename", ErrorKind::StorageFull, &full);
}

#[test]
fn an_error_of_the_disk_says_what_to_do_whatever_fails_first() {
    let path = "out/part-00000-000000.jsonl";
    let advice = "check the disk (what it reported last may be lost) or write elsewhere, then \
                  start the job again";
    for verb in ["open", "write", "sync", "close"] {
        let broken = format!("{verb} {path}.inprogress: other error; {advice}");
        check_fault(verb, ErrorKind::Other, &broken);
    }
    let broken = format!("rename {path}.inprogress to {path}: other error; {advice}");
    check_fault("rename", ErrorKind::Other, &broken);
}

#[test]
fn a_directory_that_cannot_be_written_says_what_to_do() {
    let lock = "out/.lock";
    let disk = MemoryDisk::new(1).failing(lock, ErrorKind::PermissionDenied);
    let mut task = Task::new(&json(), 0, disk);
    task.write(0);
    assert_eq!(
        task.finish(),
        Err(format!(
            "operator alerts: could not lock {lock}: permission denied; let the user that runs \
             the job write there, or write elsewhere"
        ))
    );
}

#[test]
fn a_small_file_is_not_held_back_until_a_large_write() {
    let mut task = Task::new(&json().roll_bytes(100), 0, MemoryDisk::new(1));
    task.take();
    (0..10).for_each(|id| task.write(id));
    while task.answer() {}
    // 24 bytes a row: five make a file.
    assert_eq!(task.names(), ["out/part-00000-000000.jsonl", "out/part-00000-000001.jsonl"]);
}

#[test]
fn a_sink_names_the_directory_that_it_must_have_for_itself() {
    assert_eq!(json().facts().directory, Some("out".into()));
}

#[test]
fn mistakes_in_the_description_are_found() {
    assert_eq!(
        FileSink::<JsonLinesEncoder<Alert>>::json_lines("").roll_bytes(0).facts().problems.len(),
        2
    );
    assert_eq!(json().facts().detail, "files in out (JSON Lines)");
}

proptest! {
    /// Every row is in exactly one complete file, in order, whenever files end and however the
    /// disk is late.
    #[test]
    fn every_row_is_written_once(
        steps in prop::collection::vec((0_u8..4, 0_i64..3000), 0..60),
        seed: u64,
    ) {
        let sink = json().roll_interval(Duration::from_secs(2));
        let mut task = Task::new(&sink, 0, MemoryDisk::new(seed));
        let (mut now_ms, mut id) = (0, 0);
        for (kind, wait_ms) in steps {
            match kind {
                0 | 1 if task.sink.is_ready() => {
                    task.write(id);
                    id += 1;
                }
                2 => {
                    now_ms += wait_ms;
                    task.advance_to(now_ms);
                }
                _ => drop(task.answer()),
            }
        }
        prop_assert_eq!(task.finish(), Ok(()));
        let files = task.files();
        prop_assert!(files.keys().all(|name| !name.ends_with(IN_PROGRESS_SUFFIX)));
        let text = files.into_values().collect::<String>();
        let expected = (0..id).map(|id| format!("{{\"id\":{id},\"reason\":\"a,b\"}}\n"));
        prop_assert_eq!(text, expected.collect::<String>());
    }
}
