//! A job of two chains, wired by hand: numbers → by key → running count per key → collected.

mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::data::key_group::KeyGroupCount;
use crate::data::row::Row;
use crate::exchange::outputs::Outputs;
use crate::graph::plan::{
    ChannelId, ChannelPlan, Deal, InputPlan, OutputPlan, Partitioner, TaskPlan,
};
use crate::operator::source::{Source, SourceOutput, SourceReader, SourceStatus};
use crate::operator::stateless::KeyBy;
use crate::operator::{Nothing, Operator, OperatorContext, Output, SplitEvent, Stage};
use crate::shard::program::TaskFactory;
use crate::task::channel_feed::ChannelFeed;
use crate::task::decode::Single;
use crate::task::end::NoOutput;
use crate::task::source_feed::SourceFeed;
use crate::task::{ChainTask, Task};

/// The numbers below `count`, each on one task.
#[derive(Clone)]
struct Numbers {
    count: u64,
}

struct NumbersReader {
    next: u64,
    step: u64,
    count: u64,
}

impl Source for Numbers {
    type Out = u64;
    type Reader = NumbersReader;

    fn describe(&self) -> String {
        format!("numbers below {}", self.count)
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn open(&self, ctx: &OperatorContext<'_>) -> Result<NumbersReader, Error> {
        let task = ctx.env().task;
        ctx.name_split(task.task_index, format!("numbers {}", task.task_index), "number");
        let (next, step) = (u64::from(task.task_index), u64::from(task.parallelism));
        Ok(NumbersReader { next, step, count: self.count })
    }
}

impl SourceReader for NumbersReader {
    type Out = u64;

    fn poll(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<u64>,
    ) -> SourceStatus {
        let split = ctx.env().task.task_index;
        if self.next < self.step {
            out.on_split(SplitEvent::Active(split));
        }
        while self.next < self.count {
            if !ctx.env().spend() {
                return SourceStatus::Ready;
            }
            out.emit(split, self.next, self.next as i64, self.next);
            self.next += self.step;
        }
        SourceStatus::Ended
    }
}

/// Counts per key and hands the counts to the test when the input ends.
#[derive(Clone)]
struct CountByKey {
    counts: BTreeMap<u64, u64>,
    collected: Arc<Mutex<BTreeMap<u64, u64>>>,
    panic_at: Option<u64>,
}

impl Operator for CountByKey {
    type In = u64;
    type Out = Nothing;

    fn on_row(&mut self, row: Row<u64>, _: &OperatorContext<'_>, _: &mut impl Output<Nothing>) {
        assert!(self.panic_at != Some(row.value), "cannot count {}", row.value);
        *self.counts.entry(row.value % KEY_COUNT).or_default() += 1;
    }

    fn on_end(
        &mut self,
        _: &OperatorContext<'_>,
        _: &mut impl Output<Nothing>,
    ) -> crate::operator::Progress {
        let mut collected = self.collected.lock().expect("no test thread panics holding it");
        for (key, count) in std::mem::take(&mut self.counts) {
            assert_eq!(collected.insert(key, count), None, "key {key} is on two tasks");
        }
        crate::operator::Progress::Done
    }
}

const KEY_COUNT: u64 = 37;

fn plan(chain_index: u16, task_index: u32, shard_count: u32) -> TaskPlan {
    let channel = |from: u32, to: u32, peer_shard| ChannelPlan {
        channel: ChannelId(from * shard_count + to),
        peer_shard,
        deal: Some(Deal::KeyGroup),
    };
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    if chain_index == 0 {
        let channels = (0..shard_count).map(|to| channel(task_index, to, to)).collect();
        outputs.push(OutputPlan {
            operator: "source".to_string(),
            side: None,
            partitioner: Partitioner::Hash,
            to_uid: "count".to_string(),
            to_input: 0,
            channels,
        });
    } else {
        let channels = (0..shard_count).map(|from| channel(from, task_index, from)).collect();
        inputs.push(InputPlan { channels });
    }
    TaskPlan {
        chain_index,
        name: ["numbers -> by key", "count"][usize::from(chain_index)].to_string(),
        uid: ["numbers", "count"][usize::from(chain_index)].to_string(),
        task_index,
        parallelism: shard_count,
        key_group_count: KeyGroupCount::new(64).expect("in range"),
        is_keyed: chain_index == 1,
        source_index: (chain_index == 0).then_some(0),
        inputs,
        outputs,
    }
}

fn program(
    shard_count: u32,
    count: u64,
    panic_at: Option<u64>,
    collected: &Arc<Mutex<BTreeMap<u64, u64>>>,
) -> Program {
    let source: TaskFactory = Arc::new(move |plan| {
        let feed = SourceFeed::new(Numbers { count }, "numbers", "numbers", 0);
        let chain = Stage::new(KeyBy::new(|n: &u64| n % KEY_COUNT), "by key", "by key");
        let end = Outputs::<u64>::new(&plan.outputs, 0, plan.task_index, plan.key_group_count);
        let sides = |_: &_, _: &_| Vec::new();
        Ok(Box::new(ChainTask::new(plan, feed, chain, end, sides)) as Box<dyn Task>)
    });
    let collected = Arc::clone(collected);
    let sink: TaskFactory = Arc::new(move |plan| {
        let feed = ChannelFeed::new(&plan, Single::<u64>::default());
        let collected = Arc::clone(&collected);
        let count = CountByKey { counts: BTreeMap::new(), collected, panic_at };
        let chain = Stage::new(count, "count", "count");
        let sides = |_: &_, _: &_| Vec::new();
        Ok(Box::new(ChainTask::new(plan, feed, chain, NoOutput, sides)) as Box<dyn Task>)
    });
    let plans = (0..shard_count)
        .map(|shard| (0..2).map(|chain| plan(chain, shard, shard_count)).collect::<Vec<_>>());
    Program {
        name: "count numbers".to_string(),
        plans: plans.collect(),
        factories: vec![source, sink],
        source_names: vec!["numbers".to_string()],
        uids: Vec::new(),
    }
}

fn check(shard_count: u32, count: u64, seed: u64) -> SimReport {
    let collected = Arc::default();
    let program = program(shard_count, count, None, &collected);
    let report = run(&program, &SimConfig::new(seed));
    assert!(report.outcome.is_ok(), "seed {seed}: {:?}", report.outcome);
    let collected = collected.lock().expect("no test thread panics holding it");
    for key in 0..KEY_COUNT {
        let expected = (0..count).filter(|n| n % KEY_COUNT == key).count() as u64;
        let found = collected.get(&key).copied().unwrap_or_default();
        assert_eq!(found, expected, "seed {seed}: key {key}");
    }
    report
}

#[test]
fn every_record_arrives_once_whatever_the_seed() {
    for seed in 0..30 {
        for shard_count in [1, 2, 3, 5] {
            check(shard_count, 3_000, seed);
        }
    }
}

#[test]
fn two_runs_of_a_seed_are_byte_identical_and_two_seeds_differ() {
    let collected = Arc::default();
    let run = |seed| {
        let config = SimConfig { keep_trace: true, ..SimConfig::new(seed) };
        let report = run(&program(3, 2_000, None, &collected), &config);
        collected.lock().expect("no test thread panics holding it").clear();
        (report.trace.expect("kept"), report.trace_hash64)
    };
    let (first, second, other) = (run(7), run(7), run(8));
    assert!(first == second, "the traces of one seed differ");
    assert_ne!(first.1, other.1);
    assert_eq!(xxhash_rust::xxh3::xxh3_64(first.0.as_bytes()), first.1);
}

#[test]
fn a_panic_in_user_code_names_operator_and_record() {
    let collected = Arc::default();
    let program = program(3, 2_000, Some(1_234), &collected);
    let report = run(&program, &SimConfig::new(1));
    let error = report.outcome.expect_err("the operator panicked").to_string();
    let expected = format!(
        "operator count panicked at source numbers, numbers 1, number 1234: cannot count 1234 ({}:",
        file!()
    );
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn draining_ends_an_endless_job_and_loses_nothing_under_way() {
    let collected = Arc::default();
    let program = program(2, u64::MAX, None, &collected);
    let drain_at = Some(Duration::from_millis(20));
    let report = run(&program, &SimConfig { drain_at, ..SimConfig::new(3) });
    assert!(report.outcome.is_ok(), "{:?}", report.outcome);
    let rows = |chain: u16, f: fn(&crate::task::TaskStatus) -> u64| -> u64 {
        let tasks = report.shards.iter().flat_map(|shard| &shard.tasks);
        tasks.filter(|task| task.chain_index == chain).map(|task| f(&task.status)).sum()
    };
    assert!(0 < rows(0, |status| status.records_out));
    assert_eq!(rows(0, |status| status.records_out), rows(1, |status| status.records_in));
    let counted: u64 = collected.lock().expect("no test thread panics holding it").values().sum();
    assert_eq!(counted, rows(1, |status| status.records_in));
}

#[test]
fn barriers_cut_every_task_once() {
    let collected = Arc::default();
    let program = program(3, 300_000, None, &collected);
    let checkpoint_interval = Some(Duration::from_millis(2));
    let report = run(&program, &SimConfig { checkpoint_interval, ..SimConfig::new(5) });
    assert!(report.outcome.is_ok(), "{:?}", report.outcome);
    assert!(!report.checkpoints.is_empty(), "none completed in {} turns", report.turn_count);
    for checkpoint in &report.checkpoints {
        let snapshot = report.checkpoint(*checkpoint).expect("it is whole");
        assert_eq!(snapshot.uids().collect::<Vec<_>>(), ["by key", "count", "numbers"]);
    }
}
