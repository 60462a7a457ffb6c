//! Splits, budgets, pacing and restores of generated streams.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use super::*;
use crate::state::snapshot::Snapshot;
use crate::testing::SourceHarness;

type Numbers = GeneratorSource<FromNumber<fn(u64) -> u64>>;

fn numbers(count: u64) -> Numbers {
    GeneratorSource::new(count, |n| n)
}

/// A source of which task `task_index` has read everything, `budget` records at a time.
fn read_all(count: u64, task_index: u32, parallelism: u32, budget: u32) -> SourceHarness<Numbers> {
    let mut source = SourceHarness::new(numbers(count)).task(task_index, parallelism);
    source.set_budget(budget);
    assert_eq!(source.run(), SourceStatus::Ended);
    source
}

#[test]
fn a_split_gets_every_pth_number() {
    let mut source = read_all(10, 1, 3, 4);
    assert_eq!(source.take_values(), [1, 4, 7]);
    assert_eq!(source.take_splits(), [SplitEvent::Active(1), SplitEvent::Finished(1)]);
}

#[test]
fn splits_together_give_every_number_once() {
    for parallelism in [1, 2, 5, 20] {
        let mut all: Vec<u64> =
            (0..parallelism).flat_map(|i| read_all(13, i, parallelism, 3).take_values()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..13).collect::<Vec<_>>());
    }
}

#[test]
fn a_paced_record_waits_until_it_is_due_and_none_is_skipped() {
    let paced = GeneratorSource::of(3, Due).paced(100.0);
    let mut source = SourceHarness::new(paced).starting_at(77);
    let at = |source: &SourceHarness<_>, now_ns| source.env().now_ns.set(now_ns);
    at(&source, 190_000_000);
    assert_eq!(source.poll(), SourceStatus::Waiting(Some(87)), "the phase begins 10 ms later");
    at(&source, 200_000_000);
    assert_eq!(source.poll(), SourceStatus::Waiting(Some(87)), "record 1 is due 10 ms later");
    at(&source, 209_999_999);
    assert_eq!(source.poll(), SourceStatus::Ready, "spin");
    // Held up for two intervals: both records come at once, each with the time it was due.
    at(&source, 230_000_000);
    assert_eq!(source.poll(), SourceStatus::Ended);
    assert_eq!(source.take_values(), [200_000_000, 210_000_000, 220_000_000]);
}

/// Number and due time of every record that `parallelism` tasks give, which begin one after the
/// other, going on from `snapshot`.
fn due_times(parallelism: u32, snapshot: Option<&Snapshot>) -> Vec<(u64, u64)> {
    let source = GeneratorSource::of(12, Due).paced(100.0);
    let mut due = Vec::new();
    for task_index in 0..parallelism {
        let mut source = SourceHarness::new(source.clone()).task(task_index, parallelism);
        if let Some(snapshot) = snapshot {
            source.restore(snapshot).unwrap();
        }
        source.env().now_ns.set(1_000_000_000 + u64::from(task_index) * 7_000_000);
        assert_eq!(source.poll(), SourceStatus::Ended);
        due.extend(source.take_records().into_iter().map(|record| (record.position, record.value)));
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
        SnapshotWriter::new(&mut snapshot, "source")
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
        let mut source = SourceHarness::new(numbers(20)).task(task_index, 3);
        source.set_budget(2 + task_index);
        source.poll();
        seen.extend(source.take_values());
        snapshot.merge(source.snapshot());
    }
    assert_eq!(seen.len(), 2 + 3 + 4);
    for task_index in 0..2 {
        let mut source = SourceHarness::new(numbers(20)).task(task_index, 2);
        source.restore(&snapshot).unwrap();
        assert_eq!(source.poll(), SourceStatus::Ended);
        seen.extend(source.take_values());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}

#[test]
fn restored_splits_are_all_announced_before_the_first_record() {
    let mut snapshot = Snapshot::default();
    for task_index in 0..3 {
        let mut source = SourceHarness::new(numbers(20)).task(task_index, 3);
        source.set_budget(2);
        source.poll();
        snapshot.merge(source.snapshot());
    }
    let mut source = SourceHarness::new(numbers(20).batches_of(1));
    source.restore(&snapshot).unwrap();
    assert_eq!(source.poll(), SourceStatus::Ready);
    assert_eq!(source.take_records().len(), 1);
    assert_eq!(source.take_splits(), [0, 1, 2].map(SplitEvent::Active));
}

#[test]
fn a_paused_split_is_left_alone() {
    let mut source = SourceHarness::new(numbers(3));
    source.pause(&[0]);
    assert_eq!(source.poll(), SourceStatus::Waiting(None));
    source.pause(&[]);
    assert_eq!(source.poll(), SourceStatus::Ended);
    assert_eq!(source.take_values(), [0, 1, 2]);
}

#[test]
fn a_rate_of_nothing_is_a_mistake() {
    assert_eq!(
        numbers(1).paced(0.0).problems(),
        ["a rate of 0 records per second; give one above 0"]
    );
}
