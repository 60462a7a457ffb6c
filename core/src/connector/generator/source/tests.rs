//! Splits, budgets, pacing and restores of generated streams.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use super::*;
use crate::connector::testing::{Rows, context, task_env};
use crate::state::snapshot::Snapshot;

type Numbers = GeneratorSource<FromNumber<fn(u64) -> u64>>;

fn numbers(count: u64) -> Numbers {
    GeneratorSource::new(count, |n| n)
}

fn values(rows: &Rows<u64>) -> Vec<u64> {
    rows.rows.iter().map(|(_, _, _, value)| *value).collect()
}

/// Reads everything that task `task_index` gives, `budget` records at a time.
fn read_all(source: &Numbers, task_index: u32, parallelism: u32, budget: u32) -> Rows<u64> {
    let env = task_env(task_index, parallelism);
    let mut reader = source.open(&context(&env, "numbers")).unwrap();
    let mut rows = Rows::default();
    loop {
        env.set_budget(budget);
        match reader.poll(&context(&env, "numbers"), &mut rows) {
            SourceStatus::Ended => return rows,
            status => assert_eq!(status, SourceStatus::Ready),
        }
    }
}

#[test]
fn a_split_gets_every_pth_number() {
    let rows = read_all(&numbers(10), 1, 3, 4);
    assert_eq!(values(&rows), [1, 4, 7]);
    assert_eq!(rows.splits, [SplitEvent::Active(1), SplitEvent::Finished(1)]);
}

#[test]
fn splits_together_give_every_number_once() {
    for parallelism in [1, 2, 5, 20] {
        let mut all: Vec<u64> = (0..parallelism)
            .flat_map(|i| values(&read_all(&numbers(13), i, parallelism, 3)))
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..13).collect::<Vec<_>>());
    }
}

#[test]
fn a_paced_record_waits_until_it_is_due_and_none_is_skipped() {
    let env = task_env(0, 1);
    env.now_ns.set(190_000_000);
    env.processing_time_ms.set(77);
    let source = GeneratorSource::of(3, Due).paced(100.0);
    let mut reader = source.open(&context(&env, "due")).unwrap();
    let mut rows = Rows::default();

    let status = reader.poll(&context(&env, "due"), &mut rows);
    assert_eq!(status, SourceStatus::Waiting(Some(87)), "the phase begins 10 ms later");
    env.now_ns.set(200_000_000);
    let status = reader.poll(&context(&env, "due"), &mut rows);
    assert_eq!(status, SourceStatus::Waiting(Some(87)), "record 1 is due 10 ms later");
    env.now_ns.set(209_999_999);
    assert_eq!(reader.poll(&context(&env, "due"), &mut rows), SourceStatus::Ready, "spin");
    // Held up for two intervals: both records come at once, each with the time it was due.
    env.now_ns.set(230_000_000);
    assert_eq!(reader.poll(&context(&env, "due"), &mut rows), SourceStatus::Ended);
    assert_eq!(values(&rows), [200_000_000, 210_000_000, 220_000_000]);
}

/// Number and due time of every record that `parallelism` tasks give, which begin one after the
/// other, going on from `snapshot`.
fn due_times(parallelism: u32, snapshot: Option<&Snapshot>) -> Vec<(u64, u64)> {
    let source = GeneratorSource::of(12, Due).paced(100.0);
    let mut due = Vec::new();
    for task_index in 0..parallelism {
        let env = task_env(task_index, parallelism);
        let mut reader = source.open(&context(&env, "due")).unwrap();
        if let Some(snapshot) = snapshot {
            let reader_of = SnapshotReader::new(snapshot, "due");
            reader.restore(&reader_of, &context(&env, "due")).unwrap();
        }
        env.now_ns.set(1_000_000_000 + u64::from(task_index) * 7_000_000);
        let mut rows = Rows::default();
        assert_eq!(reader.poll(&context(&env, "due"), &mut rows), SourceStatus::Ended);
        due.extend(rows.rows.iter().map(|(_, n, _, due_ns)| (*n, *due_ns)));
    }
    due.sort_unstable();
    due
}

#[test]
fn a_record_is_due_at_the_same_time_whatever_the_number_of_tasks() {
    let expected: Vec<_> = (0..12).map(|n| (n, 200_000_000 + n * 10_000_000)).collect();
    for parallelism in [1, 2, 5] {
        assert_eq!(due_times(parallelism, None), expected);
    }
}

#[test]
fn a_restored_phase_begins_with_the_first_record_that_is_left() {
    let mut snapshot = Snapshot::default();
    for (task_index, next) in [(0, 6), (1, 5)] {
        let split = Split { next, ..Split::new(task_index, 2) };
        SnapshotWriter::new(&mut snapshot, "due")
            .operator_state(&format!("split/{:010}", split.index), &split);
    }
    let expected: Vec<_> = (5..12).map(|n| (n, 200_000_000 + (n - 5) * 10_000_000)).collect();
    for parallelism in [1, 2] {
        assert_eq!(due_times(parallelism, Some(&snapshot)), expected);
    }
}

/// Gives the due time as the value.
#[derive(Debug, Clone)]
struct Due;

impl Generate for Due {
    type Out = u64;

    fn make(&mut self, _n: u64, due_ns: u64) -> (i64, u64) {
        (0, due_ns)
    }

    fn describe(&self) -> String {
        "due times".to_string()
    }
}

#[test]
fn a_restore_with_another_parallelism_gives_the_rest_once() {
    let mut snapshot = Snapshot::default();
    let mut seen = Vec::new();
    for task_index in 0..3 {
        let env = task_env(task_index, 3);
        let mut reader = numbers(20).open(&context(&env, "numbers")).unwrap();
        let mut rows = Rows::default();
        env.set_budget(2 + task_index);
        let _ = reader.poll(&context(&env, "numbers"), &mut rows);
        seen.extend(values(&rows));
        reader.snapshot(&mut SnapshotWriter::new(&mut snapshot, "numbers"));
    }
    assert_eq!(seen.len(), 2 + 3 + 4);
    for task_index in 0..2 {
        let env = task_env(task_index, 2);
        let mut reader = numbers(20).open(&context(&env, "numbers")).unwrap();
        reader.restore(&SnapshotReader::new(&snapshot, "numbers"), &context(&env, "n")).unwrap();
        let mut rows = Rows::default();
        assert_eq!(reader.poll(&context(&env, "numbers"), &mut rows), SourceStatus::Ended);
        seen.extend(values(&rows));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}

#[test]
fn restored_splits_are_all_announced_before_the_first_record() {
    let mut snapshot = Snapshot::default();
    for task_index in 0..3 {
        let env = task_env(task_index, 3);
        let mut reader = numbers(20).open(&context(&env, "numbers")).unwrap();
        env.set_budget(2);
        let _ = reader.poll(&context(&env, "numbers"), &mut Rows::default());
        reader.snapshot(&mut SnapshotWriter::new(&mut snapshot, "numbers"));
    }
    let env = task_env(0, 1);
    let mut reader = numbers(20).batches_of(1).open(&context(&env, "numbers")).unwrap();
    reader.restore(&SnapshotReader::new(&snapshot, "numbers"), &context(&env, "n")).unwrap();
    let mut rows = Rows::default();
    assert_eq!(reader.poll(&context(&env, "numbers"), &mut rows), SourceStatus::Ready);
    assert_eq!(rows.rows.len(), 1);
    assert_eq!(rows.splits, [0, 1, 2].map(SplitEvent::Active));
}

#[test]
fn a_paused_split_is_left_alone() {
    let env = task_env(0, 1);
    env.paused_splits.borrow_mut().push(0);
    let mut reader = numbers(3).open(&context(&env, "numbers")).unwrap();
    let mut rows = Rows::default();
    assert_eq!(reader.poll(&context(&env, "n"), &mut rows), SourceStatus::Waiting(None));
    env.paused_splits.borrow_mut().clear();
    assert_eq!(reader.poll(&context(&env, "n"), &mut rows), SourceStatus::Ended);
    assert_eq!(values(&rows), [0, 1, 2]);
}

#[test]
fn a_rate_of_nothing_is_a_mistake() {
    assert_eq!(
        numbers(1).paced(0.0).problems(),
        ["a rate of 0 records per second; give one above 0"]
    );
}
