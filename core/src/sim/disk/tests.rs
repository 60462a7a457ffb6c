//! What the simulated disk keeps, loses and says.

#![allow(clippy::disallowed_methods, reason = "inputs are prepared on the real file system")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use millstream_storage::io::OpId;
use proptest::prelude::*;

use super::*;
use crate::sim::rng::Rng;

mod durability;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A disk and a requester that numbers its operations.
struct Bench {
    disk: Disk,
    now: Duration,
    ops: u64,
}

impl Bench {
    fn new(seed: u64, faults: DiskFaults) -> Self {
        Self { disk: Disk::new(Rng::new(seed), faults), now: Duration::ZERO, ops: 0 }
    }

    fn submit(&mut self, op: impl FnOnce(OpId) -> FileOp) -> OpId {
        let id = OpId(self.ops);
        self.ops += 1;
        self.disk.submit(self.now, op(id));
        id
    }

    fn after(&mut self, pause: Duration) -> Vec<FileDone> {
        self.now += pause;
        let mut done = Vec::new();
        self.disk.poll(self.now, &mut done);
        done
    }

    /// Submits and waits; the error in the words of a log.
    fn run(&mut self, op: impl FnOnce(OpId) -> FileOp) -> Result<FileAnswer, String> {
        let id = self.submit(op);
        let done = self.after(SECOND).into_iter().find(|done| done.op == id).unwrap();
        done.result.map_err(|fault| format!("{fault}: {}", fault.source))
    }

    fn open(&mut self, file: u64, path: &str, mode: OpenMode) -> Result<FileAnswer, String> {
        self.run(|op| FileOp::Open { op, file: FileId(file), path: path.into(), mode })
    }

    fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> Result<FileAnswer, String> {
        let bytes = bytes.to_vec();
        self.run(|op| FileOp::Write { op, file: FileId(file), offset, bytes })
    }

    fn read(&mut self, file: u64, offset: u64, len: usize) -> Result<Vec<u8>, String> {
        match self.run(|op| FileOp::Read { op, file: FileId(file), offset, len })? {
            FileAnswer::Read { bytes } => Ok(bytes),
            other => panic!("a read answers {other:?}"),
        }
    }

    fn sync(&mut self, file: u64) -> Result<FileAnswer, String> {
        self.run(|op| FileOp::Sync { op, file: FileId(file) })
    }

    fn close(&mut self, file: u64) -> Result<FileAnswer, String> {
        self.run(|op| FileOp::Close { op, file: FileId(file) })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<FileAnswer, String> {
        self.run(|op| FileOp::Rename { op, from: from.into(), to: to.into() })
    }

    fn remove(&mut self, path: &str) -> Result<FileAnswer, String> {
        self.run(|op| FileOp::Remove { op, path: path.into() })
    }

    /// Paths and sizes, one word per file.
    fn list(&mut self, pattern: &str) -> Result<String, String> {
        match self.run(|op| FileOp::List { op, pattern: pattern.into(), together: None })? {
            FileAnswer::Listed { files } => {
                let words = files.iter().map(|f| format!("{}:{}", f.path.display(), f.size_bytes));
                Ok(words.collect::<Vec<_>>().join(" "))
            }
            other => panic!("a listing answers {other:?}"),
        }
    }

    fn contents(&self) -> String {
        let files = self.disk.files();
        let words = files.map(|(path, bytes)| format!("{}={}", path.display(), text(bytes)));
        words.collect::<Vec<_>>().join(" ")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_file_is_written_renamed_and_read() {
    let mut bench = Bench::new(0, DiskFaults::NONE);
    let empty = Ok(FileAnswer::Opened { size_bytes: 0 });
    assert_eq!(bench.open(1, "out/a.tmp", OpenMode::Create), empty);
    bench.write(1, 0, b"hello").unwrap();
    bench.write(1, 7, b"x").unwrap();
    assert_eq!(bench.sync(1), Ok(FileAnswer::Synced));
    assert_eq!(bench.close(1), Ok(FileAnswer::Closed));
    assert_eq!(bench.rename("out/a.tmp", "out/a"), Ok(FileAnswer::Renamed));
    assert_eq!(bench.contents(), "out/a=hello\0\0x");

    let opened = Ok(FileAnswer::Opened { size_bytes: 8 });
    assert_eq!(bench.open(1, "./out//a", OpenMode::Read), opened);
    assert_eq!(bench.read(1, 3, 100).unwrap(), b"lo\0\0x");
    assert_eq!(bench.read(1, 9, 1).unwrap(), b"");
    assert_eq!(bench.remove("out/a"), Ok(FileAnswer::Removed));
    assert_eq!(bench.read(1, 0, 2).unwrap(), b"he", "an open file outlives its name");
    assert_eq!(bench.contents(), "");
}

#[test]
fn mistakes_are_answered_as_by_an_operating_system() {
    let mut bench = Bench::new(0, DiskFaults::NONE);
    bench.disk.write_file("d/f", "1");
    let error = |result: Result<FileAnswer, String>| result.unwrap_err();
    let missing = "No such file or directory (os error 2)";
    assert_eq!(
        error(bench.open(1, "d/no", OpenMode::Read)),
        format!("could not open d/no: {missing}")
    );
    assert_eq!(error(bench.sync(1)), "could not sync d/no: Bad file descriptor (os error 9)");
    assert_eq!(error(bench.close(1)), "could not close d/no: Bad file descriptor (os error 9)");
    assert_eq!(
        error(bench.close(1)),
        "could not close file 1, which is not open: Bad file descriptor (os error 9)"
    );
    assert_eq!(error(bench.rename("no", "d/x")), format!("could not rename no to d/x: {missing}"));
    assert_eq!(
        error(bench.rename("d/f", "e/f")),
        format!("could not rename d/f to e/f: {missing}")
    );
    assert_eq!(error(bench.remove("no")), format!("could not remove no: {missing}"));
    assert!(error(bench.remove("d")).ends_with("Is a directory (os error 21)"));
    assert!(error(bench.open(1, "d/f/g", OpenMode::Create)).ends_with("(os error 20)"));
    assert!(bench.list("a**b").unwrap_err().starts_with("could not list a**b: "));
    bench.open(2, "d/f", OpenMode::ReadDirect).unwrap();
    assert_eq!(
        bench.read(2, 1, 4096).unwrap_err(),
        "could not read d/f: Invalid argument (os error 22)"
    );
    assert_eq!(
        error(bench.write(2, 0, b"")),
        "could not write d/f: Bad file descriptor (os error 9)"
    );
}

#[test]
fn real_files_are_read_once_and_hidden_by_what_the_run_does() {
    let real = tempfile::tempdir().unwrap();
    let dir = real.path().to_str().unwrap();
    for name in ["a.csv", "b.csv", "c.txt", ".hidden.csv"] {
        std::fs::write(real.path().join(name), name).unwrap();
    }
    let mut bench = Bench::new(0, DiskFaults::NONE);
    bench.open(1, &format!("{dir}/a.csv"), OpenMode::Read).unwrap();
    std::fs::write(real.path().join("a.csv"), "changed meanwhile").unwrap();
    assert_eq!(bench.read(1, 0, 99).unwrap(), b"a.csv");
    assert_eq!(bench.contents(), "", "inputs are not the run's files");

    let list = |bench: &mut Bench, pattern: &str| {
        bench.list(&format!("{dir}{pattern}")).unwrap().replace(&format!("{dir}/"), "")
    };
    assert_eq!(list(&mut bench, "/*.csv"), "a.csv:5 b.csv:5");
    bench.disk.write_file(format!("{dir}/d.csv"), "1");
    bench.disk.write_file(format!("{dir}/sub/e.csv"), "12");
    bench.remove(&format!("{dir}/b.csv")).unwrap();
    assert_eq!(list(&mut bench, "/*.csv"), "a.csv:5 d.csv:1");
    assert_eq!(list(&mut bench, "/"), ".hidden.csv:11 a.csv:5 c.txt:5 d.csv:1");
    assert_eq!(list(&mut bench, "/**/*.csv"), "a.csv:5 d.csv:1 sub/e.csv:2");
    assert_eq!(list(&mut bench, "/c.txt"), "c.txt:5");
    assert_eq!(list(&mut bench, "/nothing"), "");
    assert!(real.path().join("b.csv").exists(), "the real file system is only read");
}

#[test]
fn a_full_disk_takes_what_fits() {
    let faults = DiskFaults { capacity_bytes: Some(6), ..DiskFaults::NONE };
    let mut bench = Bench::new(0, faults);
    bench.open(1, "a", OpenMode::Create).unwrap();
    bench.write(1, 0, b"1234").unwrap();
    bench.write(1, 0, b"abcd").unwrap();
    let full = "could not write a: No space left on device (os error 28)";
    assert_eq!(bench.write(1, 4, b"5678").unwrap_err(), full);
    assert_eq!(bench.contents(), "a=abcd56");
    bench.close(1).unwrap();
    bench.remove("a").unwrap();
    bench.open(1, "b", OpenMode::Create).unwrap();
    bench.write(1, 0, b"123456").unwrap();
}

#[test]
fn the_nth_operation_fails() {
    let faults = DiskFaults { failing_ops: BTreeSet::from([1, 3]), ..DiskFaults::NONE };
    let mut bench = Bench::new(0, faults);
    bench.disk.write_file("a", "1");
    bench.open(1, "a", OpenMode::Read).unwrap();
    assert_eq!(
        bench.read(1, 0, 1).unwrap_err(),
        "could not read a: Input/output error (os error 5)"
    );
    assert_eq!(bench.read(1, 0, 1).unwrap(), b"1");
    assert!(bench.rename("a", "b").is_err());
    assert_eq!(bench.contents(), "a=1");
}

#[test]
fn slow_syncs_are_late() {
    let faults = DiskFaults {
        slow_sync: Chance::ALWAYS,
        slow_sync_latency: SECOND..2 * SECOND,
        ..DiskFaults::NONE
    };
    let mut bench = Bench::new(0, faults);
    bench.submit(|op| FileOp::Open {
        op,
        file: FileId(1),
        path: "a".into(),
        mode: OpenMode::Create,
    });
    bench.submit(|op| FileOp::Sync { op, file: FileId(1) });
    assert_eq!(bench.after(Duration::ZERO).len(), 1);
    assert!(SECOND <= bench.disk.next_due().unwrap());
    assert_eq!(bench.after(2 * SECOND).len(), 1);
    assert_eq!(bench.disk.next_due(), None);
}

#[test]
fn an_id_in_use_is_not_opened_again() {
    let mut bench = Bench::new(0, DiskFaults::NONE);
    bench.open(1, "a", OpenMode::Create).unwrap();
    let error = bench.open(1, "b", OpenMode::Create).unwrap_err();
    assert!(error.contains("open b"), "{error}");
}

/// What a requester does in a generated run: which file, and what.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Write { file: u64, block: u64, value: u8 },
    Sync { file: u64 },
    Wait { ms: u64 },
}

pub(super) fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..3u64, 0..6u64, 1..=u8::MAX)
            .prop_map(|(file, block, value)| Act::Write { file, block, value }),
        2 => (0..3u64).prop_map(|file| Act::Sync { file }),
        2 => (0..15u64).prop_map(|ms| Act::Wait { ms }),
    ];
    proptest::collection::vec(act, 0..60)
}

/// Not a multiple of a sector, so that tearing meets the neighbours.
pub(super) const BLOCK_BYTES: usize = 700;

/// Opens `d/0`, `d/1` and `d/2` under durable names.
fn open_files(bench: &mut Bench) {
    let faults = std::mem::replace(&mut bench.disk.faults, DiskFaults::NONE);
    for file in 0..3 {
        bench.open(file, &format!("d/{file}.tmp"), OpenMode::Create).unwrap();
        bench.rename(&format!("d/{file}.tmp"), &format!("d/{file}")).unwrap();
    }
    bench.disk.faults = faults;
}

fn submit(bench: &mut Bench, act: &Act) -> Option<(OpId, u64)> {
    match *act {
        Act::Write { file, block, value } => {
            let offset = block * BLOCK_BYTES as u64;
            let bytes = vec![value; BLOCK_BYTES];
            let id = bench.submit(|op| FileOp::Write { op, file: FileId(file), offset, bytes });
            Some((id, file))
        }
        Act::Sync { file } => {
            Some((bench.submit(|op| FileOp::Sync { op, file: FileId(file) }), file))
        }
        Act::Wait { .. } => None,
    }
}

fn all_faults() -> DiskFaults {
    DiskFaults {
        latency: Duration::ZERO..10 * MS,
        slow_sync: Chance::one_in(4),
        slow_sync_latency: MS..20 * MS,
        read_error: Chance::one_in(10),
        write_error: Chance::one_in(10),
        sync_error: Chance::one_in(10),
        failing_ops: BTreeSet::from([9, 20]),
        capacity_bytes: Some(3 * 5 * BLOCK_BYTES as u64),
    }
}

/// Runs `acts`; the requester looks every `look_ms`. Returns the answers and what a crash left.
fn transcript(seed: u64, acts: &[Act], look_ms: u64) -> (Vec<String>, Vec<(PathBuf, Vec<u8>)>) {
    let mut bench = Bench::new(seed, all_faults());
    open_files(&mut bench);
    let mut answers = Vec::new();
    for act in acts {
        submit(&mut bench, act);
        let Act::Wait { ms } = act else { continue };
        for _ in 0..ms / look_ms {
            answers.extend(bench.after(Duration::from_millis(look_ms)));
        }
        answers.extend(bench.after(Duration::from_millis(ms % look_ms)));
    }
    bench.disk.crash();
    let files = bench.disk.files().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect();
    (answers.iter().map(|done| format!("{done:?}")).collect(), files)
}

proptest! {
    /// Two runs of a seed are the same run, however often the host looks.
    #[test]
    fn equal_seeds_give_equal_answers(seed: u64, acts in acts()) {
        prop_assert_eq!(transcript(seed, &acts, 1), transcript(seed, &acts, 1));
        prop_assert_eq!(transcript(seed, &acts, 1), transcript(seed, &acts, 7));
    }

    /// Each operation is answered once; those of one file in the order in which they were asked.
    #[test]
    fn operations_of_a_file_keep_their_order(seed: u64, acts in acts()) {
        let mut bench = Bench::new(seed, all_faults());
        open_files(&mut bench);
        let asked = acts.iter().filter_map(|act| submit(&mut bench, act));
        let asked: Vec<(OpId, u64)> = asked.collect();
        let done = bench.after(60 * SECOND);
        prop_assert_eq!(done.len(), asked.len());
        for file in 0..3 {
            let of_file: Vec<OpId> =
                asked.iter().filter(|(_, of)| *of == file).map(|(op, _)| *op).collect();
            let answered: Vec<OpId> =
                done.iter().map(|done| done.op).filter(|op| of_file.contains(op)).collect();
            prop_assert_eq!(answered, of_file);
        }
    }
}

#[test]
fn operations_of_different_files_overtake_each_other() {
    let faults = DiskFaults { latency: Duration::ZERO..10 * MS, ..DiskFaults::NONE };
    let mut bench = Bench::new(1, faults);
    open_files(&mut bench);
    for round in 0..20 {
        submit(&mut bench, &Act::Sync { file: round % 3 });
    }
    let order: Vec<OpId> = bench.after(SECOND).iter().map(|done| done.op).collect();
    assert!(!order.is_sorted(), "{order:?}");
}
