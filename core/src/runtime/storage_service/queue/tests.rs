//! Order and overlap, as scripts: `>` accepts an operation, `<` ends a job.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

/// A requester and workers that write down what they see. A handle is the path.
struct Bench {
    files: Files<String>,
    /// Jobs taken and not ended, by operation.
    running: BTreeMap<u64, Job<String>>,
    next_op: u64,
}

impl Bench {
    fn new() -> Self {
        Self { files: Files::new(), running: BTreeMap::new(), next_op: 0 }
    }

    /// Accepts `name` for file `file` as operation number `next_op`.
    fn accept(&mut self, name: &str, file: u64) {
        let (op, file) = (OpId(self.next_op), FileId(file));
        self.next_op += 1;
        let offset = 4096 * name[1..].parse().unwrap_or(0);
        let open = |mode| FileOp::Open { op, file, path: "p".into(), mode };
        self.files.on_op(
            0,
            match &name[..1] {
                "o" => open(OpenMode::Read),
                "c" => open(OpenMode::CreateDirect),
                "r" => FileOp::Read { op, file, offset, len: 4096 },
                "w" => FileOp::Write { op, file, offset, bytes: vec![0; 4096] },
                "u" => FileOp::Write { op, file, offset, bytes: vec![0; 100] },
                "s" => FileOp::Sync { op, file },
                "x" => FileOp::Close { op, file },
                "l" => FileOp::List { op, pattern: "*".to_owned(), together: None },
                other => panic!("{other} is no operation"),
            },
        );
    }

    /// Takes every possible job; returns their operations.
    fn take(&mut self) -> Vec<u64> {
        let jobs: Vec<_> = std::iter::from_fn(|| self.files.next_job()).collect();
        let taken = jobs.iter().map(|job| job.ticket.op.0).collect();
        self.running.extend(jobs.into_iter().map(|job| (job.ticket.op.0, job)));
        taken
    }

    fn end(&mut self, op: u64, succeeds: bool) {
        let Job { ticket, work } = self.running.remove(&op).expect("it runs");
        let result = match work {
            _ if !succeeds => Err(io::Error::from_raw_os_error(libc::ENOENT)),
            Work::Open { .. } => Ok(Outcome::Opened { file: "handle".to_owned(), size_bytes: 9 }),
            Work::Read { .. } => Ok(Outcome::Answer(FileAnswer::Read { bytes: Vec::new() })),
            Work::Write { bytes, .. } => Ok(Outcome::Answer(FileAnswer::Written { bytes })),
            Work::Close { .. } => Ok(Outcome::Answer(FileAnswer::Closed)),
            Work::Sync { .. } => Ok(Outcome::Answer(FileAnswer::Synced)),
            _ => Ok(Outcome::Answer(FileAnswer::Listed { files: Vec::new() })),
        };
        self.files.on_done(ticket, result);
    }

    /// What is answered now, with `!` after a failure.
    fn answers(&mut self) -> Vec<(u64, Option<String>)> {
        std::iter::from_fn(|| self.files.next_answer())
            .map(|answer| (answer.done.op.0, answer.done.result.err().map(|e| e.action)))
            .collect()
    }
}

/// Runs a script on one file. `>r0` accepts a read of the first block, `<2` ends operation 2, `<2!`
/// fails it. After each step stands what starts (`+n`) and what is answered (`=n`, `=n!`).
fn check(script: &str) {
    let mut bench = Bench::new();
    let mut found = String::new();
    let expected: Vec<&str> = script.split_whitespace().collect();
    for word in expected.iter().filter(|word| word.starts_with(['>', '<'])) {
        match word.split_at(1) {
            (">", name) => bench.accept(name, 0),
            (_, op) => {
                let number = op.trim_end_matches('!').parse().expect("a number");
                bench.end(number, !op.ends_with('!'));
            }
        }
        found += word;
        for op in bench.take() {
            let _ = write!(found, " +{op}");
        }
        for (op, fault) in bench.answers() {
            let _ = write!(found, " ={op}{}", if fault.is_some() { "!" } else { "" });
        }
        found += " ";
    }
    assert_eq!(found.trim_end(), expected.join(" "));
}

#[test]
fn operations_wait_for_the_file_to_open() {
    check(">o +0 >r0 >r1 <0 +1 +2 =0 <1 =1 <2 =2 >x +3 <3 =3");
}

#[test]
fn reads_run_at_once_and_are_answered_in_order() {
    check(">o +0 <0 =0 >r0 +1 >r1 +2 >r1 +3 <3 <2 <1 =1 =2 =3");
}

#[test]
fn disjoint_writes_run_at_once_others_wait() {
    check(">c +0 <0 =0 >w0 +1 >w1 +2 >w0 >w2 <1 +3 +4 =1 <4 <3 <2 =2 =3 =4");
}

#[test]
fn sync_and_close_run_alone() {
    check(">c +0 <0 =0 >w0 +1 >s >w1 >x <1 +2 =1 <2 +3 =2 <3 +4 =3 <4 =4");
}

#[test]
fn what_follows_a_failed_opening_fails() {
    check(">o +0 >r0 >x <0! =0! =1! =2! >r0 =3! >o +4 <4 =4");
}

#[test]
fn a_file_that_is_not_open_cannot_be_used() {
    check(">r0 =0! >s =1! >x =2!");
}

#[test]
fn failures_come_in_order_too() {
    check(">o +0 <0 =0 >r0 +1 >w0 >x <1! +3 =1! =2! <3 =3");
}

#[test]
fn direct_files_are_used_in_whole_blocks() {
    check(">c +0 <0 =0 >w0 +1 >u1 <1 =1 =2! >r0 =3!");
}

#[test]
fn an_open_id_is_not_opened_again() {
    check(">o +0 <0 =0 >o =1! >r0 +2 <2 =2");
}

#[test]
fn a_closed_id_may_be_opened_again() {
    check(">o +0 <0 =0 >x +1 <1! =1! >c +2 <2 =2 >w0 +3 <3 =3");
}

#[test]
fn names_wait_for_nothing() {
    check(">o +0 >l +1 <1 =1 <0 =0");
}

#[test]
fn requesters_use_the_same_ids_for_different_files() {
    let mut files: Files<u8> = Files::new();
    for requester in 0..2 {
        let (op, file, mode) = (OpId(1), FileId(1), OpenMode::Read);
        files.on_op(requester, FileOp::Open { op, file, path: "p".into(), mode });
    }
    let jobs: Vec<_> = std::iter::from_fn(|| files.next_job()).collect();
    assert_eq!(jobs.len(), 2);
    for job in jobs.into_iter().rev() {
        files.on_done(job.ticket, Ok(Outcome::Opened { file: 0, size_bytes: 0 }));
    }
    let answers = std::iter::from_fn(|| files.next_answer());
    assert_eq!(answers.map(|answer| answer.requester).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(files.pending_count(), 0);
}

#[test]
fn faults_name_the_path() {
    let mut bench = Bench::new();
    for name in ["o", "r0", "s"] {
        bench.accept(name, 7);
    }
    bench.take();
    bench.end(0, false);
    bench.accept("r0", 7);
    let actions: Vec<_> = bench.answers().into_iter().filter_map(|(_, action)| action).collect();
    assert_eq!(actions, ["open p", "read p", "sync p", "read file 7, which is not open"]);
}

proptest! {
    /// Whatever is asked for and in whatever order jobs end: every operation is answered once, and
    /// those of one file in order.
    #[test]
    fn everything_is_answered_once_and_in_order(
        ops in prop::collection::vec((0_usize..7, 0_u64..3, 0_u64..3), 1..80),
        ends in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..80),
    ) {
        let mut bench = Bench::new();
        let mut answered: Vec<u64> = Vec::new();
        let mut files_of = Vec::new();
        let mut ends = ends.into_iter().cycle();
        for (name, block, file) in ops {
            bench.accept(&format!("{}{block}", ["o", "c", "r", "w", "u", "s", "x"][name]), file);
            files_of.push(file);
            bench.take();
            let (which, succeeds) = ends.next().expect("cycles");
            if succeeds && !bench.running.is_empty() {
                let op = *which.get(&bench.running.keys().copied().collect::<Vec<_>>());
                bench.end(op, block != 1);
            }
            answered.extend(bench.answers().into_iter().map(|(op, _)| op));
        }
        while bench.files.pending_count() > 0 {
            bench.take();
            let (which, succeeds) = ends.next().expect("cycles");
            let op = *which.get(&bench.running.keys().copied().collect::<Vec<_>>());
            bench.end(op, succeeds);
            answered.extend(bench.answers().into_iter().map(|(op, _)| op));
        }
        for file in 0..3 {
            let of_file = |op: &&u64| files_of[**op as usize] == file;
            prop_assert!(answered.iter().filter(of_file).is_sorted());
        }
        answered.sort_unstable();
        prop_assert!(answered.into_iter().eq(0..files_of.len() as u64));
    }
}
