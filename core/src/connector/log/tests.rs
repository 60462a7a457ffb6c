//! What a log promises: committed records in their order, once, whatever happens to who writes it.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::name::{SegmentId, Stage};
use super::sink::LogWriter;
use super::*;
use crate::connector::format::{Encode, Format, JsonLinesEncoder, JsonLinesFormat};
use crate::connector::testing::{NoOutput, context};
use crate::data::element::CheckpointId;
use crate::data::row::{Origin, Row};
use crate::operator::env::owner_of;
use crate::operator::source::SourceStatus;
use crate::operator::{Operator, Progress, SplitEvent, TaskEnv};
use crate::state::snapshot::{Snapshot, SnapshotReader, SnapshotWriter};
use crate::task::feed::SOURCE_STAGE;
use crate::testing::{MemoryDisk, SourceHarness, task_env};

type Sink = LogSink<JsonLinesEncoder<u64>>;

fn sink() -> Sink {
    LogSink::json_lines("log")
}

/// All tasks of a sink above a disk.
struct Run {
    disk: MemoryDisk,
    tasks: Vec<(TaskEnv, LogWriter<JsonLinesEncoder<u64>>)>,
    partition_count: u64,
    last: CheckpointId,
    follower: Option<Follower>,
}

/// Another job, which reads the log while it is written.
struct Follower {
    reader: SourceHarness<LogSource<JsonLinesFormat<u64>>>,
    now_ms: i64,
    seen: BTreeMap<u32, Vec<u64>>,
}

impl Follower {
    fn new() -> Self {
        Self { reader: SourceHarness::new(source()), now_ms: 0, seen: BTreeMap::new() }
    }

    /// It dies and goes on from its own checkpoint.
    fn restart(&mut self) {
        let snapshot = self.reader.snapshot();
        self.reader = SourceHarness::new(source()).starting_at(self.now_ms);
        self.reader.restore(&snapshot).expect("it is its own state");
    }

    fn poll(&mut self, disk: &mut MemoryDisk) {
        self.now_ms += 10;
        self.reader.processing_time(self.now_ms);
        let _ = self.reader.poll();
        disk.accept(self.reader.env());
        for record in self.reader.take_records() {
            let seen = self.seen.entry(record.split).or_default();
            assert_eq!(record.position, seen.len() as u64, "each record once, in order");
            seen.push(record.value);
        }
    }
}

impl Run {
    /// A run of so many tasks, which goes on from `state`, or without checkpoints.
    fn new(sink: Sink, tasks: u32, disk: MemoryDisk, state: Option<&Snapshot>) -> Self {
        let partition_count = sink.partition_count().into();
        let (_, writer) = sink.into_parts();
        let task = |index| {
            let env = task_env(index, tasks);
            env.has_checkpoints.set(state.is_some());
            let mut writer = writer.clone();
            writer.open(&context(&env, "log")).expect("opening only locks");
            if let Some(state) = state {
                let reader = SnapshotReader::new(state, "log");
                writer.restore(&reader, &context(&env, "log")).expect("it is its own state");
            }
            (env, writer)
        };
        let tasks = (0..tasks).map(task).collect();
        Self { disk, tasks, partition_count, last: CheckpointId(0), follower: None }
    }

    /// Answers one operation; `false` if there is none.
    fn answer(&mut self) -> bool {
        for (env, _) in &self.tasks {
            self.disk.accept(env);
        }
        let Some(done) = self.disk.answer() else { return false };
        if owner_of(done.op.0).1 == SOURCE_STAGE {
            let Some(follower) = &mut self.follower else { return true };
            follower.reader.file_done(done);
            self.disk.accept(follower.reader.env());
            return true;
        }
        let index = (done.op.0 >> 53) as usize;
        let (env, writer) = &mut self.tasks[index];
        writer.on_file_done(done, &context(env, "log"), &mut NoOutput(env));
        true
    }

    /// Answers everything; the error, if there is one.
    fn settle(&mut self) -> Result<(), String> {
        while self.answer() {}
        let failure = self.tasks.iter().find_map(|(env, _)| env.take_failure());
        failure.map_or(Ok(()), |error| Err(error.chain()))
    }

    fn is_ready(&self, partition: u64) -> bool {
        self.tasks[partition as usize % self.tasks.len()].1.is_ready()
    }

    /// A record for a partition.
    fn write(&mut self, partition: u64, value: u64) {
        let count = self.tasks.len() as u64;
        let (env, writer) = &mut self.tasks[(partition % count) as usize];
        let mut row = Row::new(value, value as i64, Origin::NONE);
        row.hash64 = partition;
        writer.on_row(row, &context(env, "log"), &mut NoOutput(env));
    }

    fn write_all(&mut self, values: impl IntoIterator<Item = u64>) {
        for value in values {
            self.write(value % self.partition_count, value);
        }
    }

    /// A barrier; what the tasks have, which is durable when they say so.
    fn cut(&mut self) -> (CheckpointId, Snapshot) {
        self.last = CheckpointId(self.last.0 + 1);
        let mut all = Snapshot::default();
        for (env, writer) in &mut self.tasks {
            assert_eq!(writer.gather(&context(env, "log")), Progress::Done);
            let mut snapshot = Snapshot::default();
            writer.snapshot(&mut SnapshotWriter::new(&mut snapshot, "log"));
            writer.on_cut(self.last, &context(env, "log"));
            all.merge(snapshot);
        }
        (self.last, all)
    }

    fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        self.tasks.iter().all(|(_, writer)| writer.is_settled(checkpoint))
    }

    fn complete(&mut self, checkpoint: CheckpointId) {
        for (env, writer) in &mut self.tasks {
            writer.on_completed(checkpoint, &context(env, "log"));
        }
    }

    /// A checkpoint from its barrier to its commit.
    fn checkpoint(&mut self) -> Snapshot {
        let (checkpoint, snapshot) = self.cut();
        self.settle().expect("a disk without faults");
        assert!(self.is_settled(checkpoint), "all is answered");
        self.complete(checkpoint);
        self.settle().expect("a disk without faults");
        assert!(!self.tasks.iter().any(|(_, writer)| writer.owes_commit()), "all is answered");
        snapshot
    }

    /// Ends the input, with a last checkpoint if there are any.
    fn finish(mut self) -> MemoryDisk {
        loop {
            self.settle().expect("a disk without faults");
            let mut is_done = true;
            let mut wants = false;
            for (env, writer) in &mut self.tasks {
                let progress = writer.on_end(&context(env, "log"), &mut NoOutput(env));
                is_done &= progress == Progress::Done;
                wants |= std::mem::take(&mut env.requests.borrow_mut().checkpoint);
            }
            if is_done {
                assert!(self.disk.locks.is_empty(), "the log is given back");
                return self.disk;
            }
            if wants {
                let _ = self.checkpoint();
            }
        }
    }

    fn names(&self) -> Vec<String> {
        names(&self.disk)
    }
}

fn names(disk: &MemoryDisk) -> Vec<String> {
    let names = disk.paths().filter(|path| SegmentId::of(path).is_some());
    names.map(|path| path.file_name().expect("it has a name").display().to_string()).collect()
}

fn source() -> LogSource<JsonLinesFormat<u64>> {
    LogSource::json_lines("log")
}

/// Lets the reader read on its own, up to its end.
fn run_out<F: Format>(
    reader: &mut SourceHarness<LogSource<F>>,
    disk: &mut MemoryDisk,
) -> SourceStatus {
    let status = reader.run_on(disk);
    disk.accept(reader.env());
    // What it has asked for and does not need any more.
    while disk.answer().is_some() {}
    status
}

/// What is committed, by partition, as a bounded source of so many tasks reads it.
fn committed(disk: &mut MemoryDisk, tasks: u32) -> BTreeMap<u32, Vec<u64>> {
    let mut found: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for task in 0..tasks {
        let mut reader = SourceHarness::new(source().bounded()).task(task, tasks).may_fail();
        let status = run_out(&mut reader, disk);
        match reader.take_failure() {
            Some(error) if error.chain().contains("no log is there") => continue,
            Some(error) => panic!("{}", error.chain()),
            None => assert_eq!(status, SourceStatus::Ended),
        }
        for record in reader.take_records() {
            let values = found.entry(record.split).or_default();
            assert_eq!(record.position, values.len() as u64, "positions are numbers");
            assert_eq!(record.event_time_ms, record.value as i64);
            values.push(record.value);
        }
    }
    found
}

fn all(found: &BTreeMap<u32, Vec<u64>>) -> Vec<u64> {
    let mut all: Vec<u64> = found.values().flatten().copied().collect();
    all.sort_unstable();
    all
}

#[test]
fn records_appear_with_the_checkpoint_and_not_before() {
    let state = Snapshot::default();
    let mut run = Run::new(sink().partitions(2), 2, MemoryDisk::new(1), Some(&state));
    run.settle().expect("it takes the log");
    run.write_all(0..10);
    let (checkpoint, _) = run.cut();
    run.settle().expect("a disk without faults");
    assert!(committed(&mut run.disk, 1).is_empty(), "{:?}", run.names());
    run.write_all(10..20);
    run.complete(checkpoint);
    run.settle().expect("a disk without faults");
    assert_eq!(all(&committed(&mut run.disk, 2)), (0..10).collect::<Vec<_>>());
    let mut disk = run.finish();
    assert_eq!(committed(&mut disk, 1)[&1], [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
}

#[test]
fn without_checkpoints_records_appear_after_the_interval() {
    let mut run =
        Run::new(sink().commit_interval(Duration::from_secs(1)), 1, MemoryDisk::new(1), None);
    run.settle().expect("it takes the log");
    run.write_all(0..3);
    let (env, writer) = &mut run.tasks[0];
    assert_eq!(writer.next_time_ms(), Some(1000));
    env.processing_time_ms.set(1000);
    let progress = writer.on_time(&context(env, "log"), &mut NoOutput(env));
    assert_eq!(progress, Progress::Done);
    run.settle().expect("a disk without faults");
    assert_eq!(committed(&mut run.disk, 1)[&0], [0, 1, 2]);
    assert_eq!(run.tasks[0].1.next_time_ms(), None, "nothing waits");
}

#[test]
fn a_restart_commits_what_the_checkpoint_has_and_takes_back_the_rest() {
    let state = Snapshot::default();
    let mut run = Run::new(sink().segment_bytes(1), 1, MemoryDisk::new(3), Some(&state));
    run.settle().expect("it takes the log");
    run.write_all(0..3);
    let _ = run.checkpoint();
    run.write_all(3..6);
    let (_, state) = run.cut();
    run.settle().expect("a disk without faults");
    // It is complete, and nobody could say so. What follows is in none.
    run.write_all(6..9);
    let _ = run.cut();
    run.settle().expect("a disk without faults");
    let mut disk = run.disk;
    disk.crash();
    assert_eq!(committed(&mut disk, 1)[&0], [0, 1, 2]);
    let mut run = Run::new(sink().segment_bytes(1), 1, disk, Some(&state));
    run.settle().expect("it takes the log");
    assert_eq!(committed(&mut run.disk, 1)[&0], [0, 1, 2, 3, 4, 5]);
    let is_named = |name: &String| SegmentId::of(Path::new(name)).map(|(_, stage)| stage);
    let stages: Vec<_> = run.names().iter().filter_map(is_named).collect();
    assert!(stages.iter().all(|stage| *stage == Stage::Committed), "{:?}", run.names());
    run.write_all(6..9);
    let mut disk = run.finish();
    assert_eq!(committed(&mut disk, 1)[&0], (0..9).collect::<Vec<_>>());
}

#[test]
fn an_older_checkpoint_takes_nothing_back_that_was_seen() {
    let state = Snapshot::default();
    let mut run = Run::new(sink(), 1, MemoryDisk::new(3), Some(&state));
    run.settle().expect("it takes the log");
    run.write_all(0..3);
    let state = run.checkpoint();
    run.write_all(3..6);
    let _ = run.checkpoint();
    let mut disk = run.disk;
    disk.crash();
    let mut run = Run::new(sink(), 1, disk, Some(&state));
    run.settle().expect("it takes the log");
    run.write_all(3..6);
    let mut disk = run.finish();
    assert_eq!(committed(&mut disk, 1)[&0], [0, 1, 2, 3, 4, 5, 3, 4, 5]);
}

#[test]
fn a_log_of_other_partitions_or_another_format_is_left_alone() {
    let mut run = Run::new(sink().partitions(2), 1, MemoryDisk::new(1), None);
    run.settle().expect("it takes the log");
    run.write_all(0..10);
    let disk = run.finish();
    let mut run = Run::new(sink().partitions(3), 1, disk, None);
    let problem = run.settle().expect_err("it has two partitions");
    assert!(problem.contains("the log log has 2 partitions, not 3: call .partitions(2)"));
    let mut disk = run.disk;
    let mut reader = SourceHarness::new(LogSource::text("log")).may_fail();
    run_out(&mut reader, &mut disk);
    let problem = reader.take_failure().expect("it is no text").chain();
    assert!(problem.contains("the records of the log log are jsonl, not txt"), "{problem}");
}

#[test]
fn what_a_checkpoint_speaks_of_must_be_there() {
    let state = Snapshot::default();
    let mut run = Run::new(sink(), 1, MemoryDisk::new(3), Some(&state));
    run.settle().expect("it takes the log");
    run.write_all(0..3);
    let state = run.checkpoint();
    let mut disk = run.disk;
    disk.crash();
    let path = disk.paths().find(|path| SegmentId::of(path).is_some()).map(Path::to_path_buf);
    let path = path.expect("there is a segment");
    disk.files.get_mut(&path).expect("it is there").pop();
    let problem = Run::new(sink(), 1, disk, Some(&state)).settle().expect_err("a byte is missing");
    assert!(problem.contains("which the checkpoint speaks of, is damaged at byte 0: it has"));
}

#[test]
fn damage_names_file_and_byte() {
    let mut run = Run::new(sink(), 1, MemoryDisk::new(1), None);
    run.settle().expect("it takes the log");
    run.write_all(0..3);
    let disk = run.finish();
    let path = disk.paths().find(|path| SegmentId::of(path).is_some()).map(Path::to_path_buf);
    let path = path.expect("there is a segment");
    let bytes = disk.file(&path).expect("it is there").to_vec();
    let check = |at: usize, expected: &str| {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        let mut disk = MemoryDisk::new(1).with(path.to_str().expect("it is text"), damaged);
        let mut reader = SourceHarness::new(source().bounded()).may_fail();
        run_out(&mut reader, &mut disk);
        let failure = reader.take_failure().map(|error| error.chain());
        let name = path.display();
        assert_eq!(failure, Some(format!("{name} is damaged at byte {expected}")), "byte {at}");
        assert_eq!(reader.take_values(), [0_u64; 0]);
    };
    check(0, "0: it does not begin as a segment of a log does");
    check(30, "12: a wrong checksum");
    check(12_288 + 50, "12292: a wrong checksum");
    check(12_288 + 8, "12296: its records are not those that are expected");
    let mut short =
        MemoryDisk::new(1).with(path.to_str().expect("it is text"), &bytes[..bytes.len() - 1]);
    let mut reader = SourceHarness::new(source().bounded()).may_fail();
    run_out(&mut reader, &mut short);
    let failure = reader.take_failure().map(|error| error.chain()).unwrap_or_default();
    assert!(failure.ends_with("it ends within what is committed"), "{failure}");
}

#[test]
fn a_slot_that_was_torn_leaves_what_was_committed_before() {
    let mut run = Run::new(sink(), 1, MemoryDisk::new(1), Some(&Snapshot::default()));
    run.settle().expect("it takes the log");
    run.write_all(0..3);
    let _ = run.checkpoint();
    run.write_all(3..5);
    let _ = run.checkpoint();
    let path = run.disk.paths().find(|path| SegmentId::of(path).is_some()).map(Path::to_path_buf);
    let bytes = run.disk.files.get_mut(&path.expect("a segment")).expect("it is there");
    // Sequence 1 made it, 2 and 3 committed: 3 is in the first slot.
    bytes[4096 + 20] ^= 0xff;
    assert_eq!(committed(&mut run.disk, 1)[&0], [0, 1, 2]);
}

/// Three segments of records 0..3, 3..6 and 6..9, each with its number as event time.
fn three_segments() -> MemoryDisk {
    let state = Snapshot::default();
    let mut run = Run::new(sink().segment_bytes(1), 1, MemoryDisk::new(5), Some(&state));
    run.settle().expect("it takes the log");
    for start in [0, 3, 6] {
        run.write_all(start..start + 3);
        let _ = run.checkpoint();
    }
    run.finish()
}

#[test]
fn a_log_is_read_from_where_one_likes() {
    let check = |source: LogSource<_>, expected: &[u64]| {
        let mut disk = three_segments();
        let mut reader = SourceHarness::new(source.bounded());
        assert_eq!(run_out(&mut reader, &mut disk), SourceStatus::Ended);
        assert_eq!(reader.take_values(), expected);
    };
    check(source(), &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    check(source().from_record(4), &[4, 5, 6, 7, 8]);
    check(source().from_record(9), &[]);
    check(source().from_time_ms(7), &[7, 8]);
    check(source().from_time_ms(-5), &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    check(source().from_time_ms(70), &[]);
    check(source().from_latest(), &[]);
}

#[test]
fn a_commit_that_did_not_reach_its_slot_is_believed_because_of_the_next_segment() {
    let mut disk = three_segments();
    let path = disk.paths().find(|path| SegmentId::of(path).is_some()).map(Path::to_path_buf);
    let bytes = disk.files.get_mut(&path.expect("there are segments")).expect("it is there");
    // Its commit is in the second slot.
    bytes[8192..8192 + 44].fill(0);
    let mut reader = SourceHarness::new(source().bounded());
    // Slow: what was asked for ahead is answered before it is needed.
    reader.set_budget(1);
    assert_eq!(run_out(&mut reader, &mut disk), SourceStatus::Ended);
    assert_eq!(reader.take_values(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_log_is_followed_and_idle_only_when_nothing_is_left() {
    let state = Snapshot::default();
    let mut run = Run::new(sink().segment_bytes(1), 1, MemoryDisk::new(5), Some(&state));
    let mut reader = SourceHarness::new(source());
    let mut latest = SourceHarness::new(source().from_latest());
    assert_eq!(reader.run_on(&mut run.disk), SourceStatus::Waiting(Some(20)));
    assert_eq!(reader.take_splits(), [SplitEvent::Idle(10_000)], "there is no partition");
    run.settle().expect("it takes the log");
    for round in 0..3 {
        run.write_all(round * 3..round * 3 + 3);
        let _ = run.checkpoint();
        if round == 0 {
            assert!(matches!(latest.run_on(&mut run.disk), SourceStatus::Waiting(_)));
        }
        reader.processing_time(20 * (round as i64 + 1));
        assert!(matches!(reader.run_on(&mut run.disk), SourceStatus::Waiting(_)));
        assert_eq!(reader.take_values(), [round * 3, round * 3 + 1, round * 3 + 2]);
        assert_eq!(reader.take_splits(), [SplitEvent::Active(0), SplitEvent::Idle(0)]);
        assert_eq!(
            reader.run_on(&mut run.disk),
            SourceStatus::Waiting(Some(20 * (round as i64 + 2)))
        );
    }
    latest.processing_time(20);
    latest.run_on(&mut run.disk);
    assert_eq!(latest.take_values(), [3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_reader_goes_on_where_it_was_with_any_number_of_tasks() {
    let mut run = Run::new(sink().partitions(3), 2, MemoryDisk::new(1), None);
    run.settle().expect("it takes the log");
    run.write_all(0..300);
    let mut disk = run.finish();
    let mut reader = SourceHarness::new(source().bounded());
    reader.set_budget(50);
    while reader.take_records().is_empty() {
        let _ = reader.poll();
        for op in reader.take_file_ops() {
            disk.accept_ops(vec![op]);
        }
        while let Some(done) = disk.answer() {
            reader.file_done(done);
        }
    }
    let snapshot = reader.snapshot();
    let read: u64 = SnapshotReader::new(&snapshot, "source")
        .operator_state::<super::partition_reader::Position>("partition/")
        .expect("it is its own state")
        .iter()
        .filter_map(|(_, position)| position.next)
        .sum();
    assert!(0 < read && read < 300, "{read} were read");
    let mut rest = 0;
    for task in 0..2 {
        let mut reader = SourceHarness::new(source().bounded()).task(task, 2);
        reader.restore(&snapshot).expect("it is its own state");
        assert_eq!(run_out(&mut reader, &mut disk), SourceStatus::Ended);
        rest += reader.take_records().len() as u64;
    }
    assert_eq!(read + rest, 300);
}

#[test]
fn the_oldest_segments_go_and_a_reader_that_needs_them_is_told() {
    let state = Snapshot::default();
    let sink = sink().segment_bytes(1).retain_bytes(1);
    let mut run = Run::new(sink, 1, MemoryDisk::new(5), Some(&state));
    run.settle().expect("it takes the log");
    for start in [0, 3, 6, 9] {
        run.write_all(start..start + 3);
        let _ = run.checkpoint();
    }
    let mut disk = run.finish();
    assert_eq!(names(&disk).len(), 1, "the last one stays");
    let mut reader = SourceHarness::new(source().bounded());
    assert_eq!(run_out(&mut reader, &mut disk), SourceStatus::Ended);
    assert_eq!(reader.take_values(), [9, 10, 11]);
    let mut reader = SourceHarness::new(source().from_record(4)).may_fail();
    run_out(&mut reader, &mut disk);
    let problem = reader.take_failure().expect("records are missing").chain();
    let expected = "log, partition 0: the records 4 to 8 have been removed by";
    assert!(problem.starts_with(expected), "{problem}");
}

#[test]
fn records_that_are_something_else_are_told_with_their_numbers() {
    let mut disk = three_segments();
    let mut reader = SourceHarness::new(LogSource::json_lines::<String>("log")).may_fail();
    run_out(&mut reader, &mut disk);
    let problem = reader.take_failure().expect("they are numbers").chain();
    assert!(problem.starts_with("log log, partition 0, record 0, character 1: invalid type"));
}

#[test]
fn mistakes_in_the_description_are_found() {
    let (_, writer) = LogSink::<JsonLinesEncoder<u64>>::json_lines("")
        .partitions(0)
        .segment_bytes(0)
        .into_parts();
    assert_eq!(writer.facts().problems.len(), 3);
    let (_, writer) = sink().partitions(4).into_parts();
    assert_eq!(writer.facts().detail, "log log (JSON Lines, 4 partitions)");
    let source = LogSource::text("").poll_interval(Duration::ZERO);
    assert_eq!(crate::operator::source::Source::problems(&source).len(), 2);
    assert_eq!(JsonLinesEncoder::<u64>::default().extension(), "jsonl");
    assert_eq!(SegmentId::of(Path::new(".lock")), None);
    assert!(Stage::Pending < Stage::Committed);
}

proptest! {
    /// Whatever is written, cut, completed, killed and started again with other tasks: what is
    /// committed at any time is what the last complete checkpoint has, once and in order; and in
    /// the end all of it.
    #[test]
    fn what_is_committed_is_what_the_last_checkpoint_has(
        steps in prop::collection::vec((0_u8..10, 0_u64..3, 1_u32..4), 1..60),
        seed: u64,
    ) {
        const PARTITIONS: u32 = 3;
        let sink = || sink().partitions(PARTITIONS).segment_bytes(15_000);
        let mut complete = (Snapshot::default(), BTreeMap::<u32, Vec<u64>>::new());
        let mut written = complete.1.clone();
        let mut cuts: Vec<(CheckpointId, Snapshot, BTreeMap<u32, Vec<u64>>)> = Vec::new();
        let mut run = Run::new(sink(), 2, MemoryDisk::new(seed), Some(&complete.0));
        run.follower = Some(Follower::new());
        let mut next = 0;
        for (kind, partition, tasks) in steps {
            match kind {
                0..=3 if run.is_ready(partition) => {
                    for _ in 0..30 {
                        run.write(partition, next);
                        written.entry(partition as u32).or_default().push(next);
                        next += 1;
                    }
                }
                4 if (0..3).all(|partition| run.is_ready(partition)) => {
                    let (checkpoint, snapshot) = run.cut();
                    cuts.push((checkpoint, snapshot, written.clone()));
                }
                5 if cuts.first().is_some_and(|(checkpoint, ..)| run.is_settled(*checkpoint)) => {
                    let (checkpoint, snapshot, content) = cuts.remove(0);
                    complete = (snapshot, content);
                    run.complete(checkpoint);
                }
                6 => {
                    let Run { mut disk, mut follower, .. } = run;
                    disk.crash();
                    follower.as_mut().expect("it follows").restart();
                    cuts.clear();
                    written.clone_from(&complete.1);
                    run = Run::new(sink(), tasks, disk, Some(&complete.0));
                    run.follower = follower;
                }
                7 => {
                    prop_assert_eq!(run.settle(), Ok(()));
                    // The follower's own operations go on.
                    let mut copy = MemoryDisk::new(seed);
                    copy.files.clone_from(&run.disk.files);
                    let mut found = committed(&mut copy, tasks);
                    found.retain(|_, values| !values.is_empty());
                    let expected = complete.1.iter().filter(|(_, values)| !values.is_empty());
                    prop_assert!(found.iter().eq(expected));
                }
                8 => run.follower.as_mut().expect("it follows").poll(&mut run.disk),
                _ => drop(run.answer()),
            }
            let seen = &run.follower.as_ref().expect("it follows").seen;
            for (partition, seen) in seen {
                let expected = complete.1.get(partition).map_or(&[][..], Vec::as_slice);
                prop_assert!(expected.starts_with(seen), "{seen:?}, {expected:?}");
            }
        }
        prop_assert_eq!(run.settle(), Ok(()));
        let mut follower = run.follower.take().expect("it follows");
        let mut disk = run.finish();
        prop_assert_eq!(committed(&mut disk, 2), written.clone());
        follower.restart();
        for _ in 0..1_000 {
            follower.poll(&mut disk);
            while let Some(done) = disk.answer() {
                follower.reader.file_done(done);
                disk.accept(follower.reader.env());
            }
        }
        prop_assert_eq!(follower.seen, written);
    }
}
