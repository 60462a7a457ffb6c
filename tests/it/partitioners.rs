//! Where the rows of a job go: every partitioner, seen from the receiving tasks.

use std::collections::BTreeMap;

use millstream::data::key_group::KeyGroupCount;
use millstream::prelude::*;

const SHARD_COUNT: u32 = 3;
const RECORD_COUNT: u64 = 600;

/// A record with the task that sent it and the task that got it.
type Way = (u64, u32, u32);

/// Notes which task a record passes.
#[derive(Clone)]
struct Note(fn(&mut Way, u32));

/// A channel keeps the order of the records that a task sends into it. (A task of the generator
/// sends its numbers in ascending order.)
fn check_order(ways: &[Way]) {
    let mut last = BTreeMap::<(u32, u32), u64>::new();
    for (record, sender, receiver) in ways {
        let before = last.insert((*sender, *receiver), *record);
        assert!(before.is_none_or(|before| before < *record), "{record} came after {before:?}");
    }
}

impl Operator for Note {
    type In = Way;
    type Out = Way;

    fn on_row(&mut self, row: Row<Way>, ctx: &OperatorContext<'_>, out: &mut impl Output<Way>) {
        let task_index = ctx.env().task.task_index;
        out.emit(row.map(|mut way| {
            self.0(&mut way, task_index);
            way
        }));
    }
}

/// Sends records from three tasks through `exchange`; their ways, in the order of the records.
macro_rules! ways {
    ($sent:ident => $exchanged:expr) => {{
        let job = Job::new("ways");
        let collected = Collected::new();
        let $sent = job
            .source("numbers", GeneratorSource::new(RECORD_COUNT, |n| (n, 0, 0)))
            .operator("sent", Note(|way, task_index| way.1 = task_index));
        $exchanged
            .operator("received", Note(|way, task_index| way.2 = task_index))
            .sink("collect", collected.sink());
        let report = job.simulate(SHARD_COUNT, &SimConfig::new(7)).expect("no mistakes");
        report.outcome.expect("it ends well");
        let mut ways: Vec<Way> = collected.take_values();
        check_order(&ways);
        ways.sort_unstable();
        let senders: std::collections::BTreeSet<_> = ways.iter().map(|way| way.1).collect();
        assert_eq!(senders.len(), SHARD_COUNT as usize, "all tasks send");
        ways
    }};
}

/// Every record arrives once, where `expected` says.
fn check(ways: &[Way], expected: impl Fn(u64, u32) -> u32) {
    assert!(ways.iter().map(|way| way.0).eq(0..RECORD_COUNT));
    for (record, sender, receiver) in ways {
        assert_eq!(*receiver, expected(*record, *sender), "record {record} of task {sender}");
    }
}

#[test]
fn forward_stays_with_the_task_of_the_same_index() {
    check(&ways!(sent => sent.forward()), |_, sender| sender);
}

#[test]
fn hash_goes_to_the_owner_of_the_key_group() {
    let count = KeyGroupCount::new(Config::default().key_group_count).expect("in range");
    check(&ways!(sent => sent.key_by(|way: &Way| way.0 % 50)), |record, _| {
        count.task_index(count.of((record % 50).hash64()), SHARD_COUNT)
    });
}

/// From its own index on, whatever the others do.
#[test]
fn rebalance_gives_each_task_its_turn() {
    let ways = ways!(sent => sent.rebalance());
    let mut next: BTreeMap<u32, u32> = (0..SHARD_COUNT).map(|sender| (sender, sender)).collect();
    assert!(ways.iter().map(|way| way.0).eq(0..RECORD_COUNT));
    for (record, sender, receiver) in ways {
        let next = next.get_mut(&sender).expect("one of the tasks");
        assert_eq!(receiver, *next % SHARD_COUNT, "record {record} of task {sender}");
        *next += 1;
    }
}

#[test]
fn rescale_stays_within_the_share_of_the_task() {
    check(&ways!(sent => sent.rescale()), |_, sender| sender);
    check(&ways!(sent => sent.rescale().parallelism(2)), |_, sender| sender % 2);
}

#[test]
fn broadcast_goes_to_all() {
    let ways = ways!(sent => sent.broadcast());
    let expected = (0..RECORD_COUNT).flat_map(|n| (0..SHARD_COUNT).map(move |task| (n, task)));
    assert!(ways.iter().map(|way| (way.0, way.2)).eq(expected));
}

#[test]
fn global_goes_to_the_first_task() {
    check(&ways!(sent => sent.global()), |_, _| 0);
}

#[test]
fn custom_goes_where_the_closure_says() {
    let partition = |way: &Way| way.0 / 10;
    check(&ways!(sent => sent.partition_by(partition)), |record, _| {
        (record / 10 % u64::from(SHARD_COUNT)) as u32
    });
}
