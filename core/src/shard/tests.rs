//! Events and instants in, effects out: a shard whose tasks do what the test says.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;
use crate::data::element::CheckpointId;
use crate::data::key_group::KeyGroupCount;
use crate::graph::plan::TaskPlan;
use crate::limits::{INPUT_BUDGET_RECORDS, TURN_STALL_NS};
use crate::operator::TaskEnv;
use crate::operator::env::TaskPlace;
use crate::task::{TaskPart, TaskStatus};

const MS: Duration = Duration::from_millis(1);

/// What a task does in its turn, and when it is to give back in so many steps.
type InTurn = Box<dyn FnMut(&TaskEnv)>;
type InRelief = Box<dyn FnMut(&TaskEnv, u32)>;

/// What a task did, and what it is to answer.
pub(super) struct Log {
    /// Rows that it might take, turn by turn.
    pub(super) turns: RefCell<Vec<u32>>,
    pub(super) activity: Cell<Activity>,
    /// The last checkpoint that it was told of.
    pub(super) completed: Cell<u64>,
    /// The last one whose barriers wait for rows no longer.
    pub(super) unaligned: Cell<u64>,
    pub(super) owes_commit: Cell<bool>,
    /// Its part of this checkpoint is to come in its next turn.
    pub(super) cuts: Cell<Option<u64>>,
    pub(super) in_turn: RefCell<InTurn>,
    pub(super) in_relief: RefCell<InRelief>,
}

/// A part without anything in it.
fn part(checkpoint: CheckpointId) -> TaskPart {
    TaskPart { checkpoint, snapshot: Snapshot::default(), alignment_ns: 0 }
}

struct Scripted {
    plan: TaskPlan,
    env: TaskEnv,
    log: Rc<Log>,
}

impl Task for Scripted {
    fn plan(&self) -> &TaskPlan {
        &self.plan
    }

    fn env(&self) -> &TaskEnv {
        &self.env
    }

    fn source_name(&self) -> &'static str {
        ""
    }

    fn operator_names(&self) -> &[String] {
        &[]
    }

    fn open(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn on_element(&mut self, _: usize, _: Element) {}

    fn on_returned(&mut self, _: ChannelId, _: Returned, _: &mut Outbox) {}

    fn on_file_done(&mut self, _: u16, _: millstream_storage::io::FileDone) {}

    fn on_socket_done(&mut self, _: u16, _: millstream_net::io::SocketDone) {}

    fn drain(&mut self) {
        self.log.activity.set(Activity::Finished);
    }

    fn halt(&mut self) {}

    fn trigger(&mut self, checkpoint: CheckpointId, mail: &mut TaskMail) {
        if self.log.activity.get() == Activity::Finished {
            mail.parts.push(part(checkpoint));
        }
    }

    fn unalign(&mut self, checkpoint: CheckpointId) {
        self.log.unaligned.set(checkpoint.0);
    }

    fn on_completed(&mut self, checkpoint: CheckpointId) {
        self.log.completed.set(checkpoint.0);
    }

    fn owes_commit(&self) -> bool {
        self.log.owes_commit.get()
    }

    fn turn(&mut self, row_limit: u32, mail: &mut TaskMail) -> Activity {
        mail.parts.extend(self.log.cuts.take().map(|id| part(CheckpointId(id))));
        self.log.turns.borrow_mut().push(row_limit);
        (self.log.in_turn.borrow_mut())(&self.env);
        self.log.activity.get()
    }

    fn relieve(&mut self, steps: u32) -> bool {
        (self.log.in_relief.borrow_mut())(&self.env, steps);
        false
    }

    fn status(&self) -> TaskStatus {
        TaskStatus {
            records_in: 0,
            records_out: 0,
            late_records: 0,
            dead_letters: 0,
            watermark_ms: 0,
            queued_elements: 0,
            output_bytes: 0,
            waiting_batches_max: 0,
            is_finished: self.log.activity.get() == Activity::Finished,
        }
    }

    fn restore(&mut self, _: &Snapshot) -> Result<(), Error> {
        Ok(())
    }
}

/// A shard of scripted tasks, and its time.
pub(super) struct Bench {
    pub(super) shard: Shard,
    pub(super) logs: Vec<Rc<Log>>,
    pub(super) now: Duration,
}

impl Bench {
    pub(super) fn new(activities: &[Activity]) -> Self {
        let log = |activity: &Activity| {
            Rc::new(Log {
                turns: RefCell::default(),
                activity: Cell::new(*activity),
                completed: Cell::new(0),
                owes_commit: Cell::new(false),
                cuts: Cell::new(None),
                unaligned: Cell::new(0),
                in_turn: RefCell::new(Box::new(|_| ())),
                in_relief: RefCell::new(Box::new(|_, _| ())),
            })
        };
        let logs: Vec<Rc<Log>> = activities.iter().map(log).collect();
        let tasks = (0..).zip(&logs).map(|(chain_index, log)| {
            let key_group_count = KeyGroupCount::new(16).expect("in range");
            let place = TaskPlace { chain_index, task_index: 0, parallelism: 1, key_group_count };
            let plan = TaskPlan {
                chain_index,
                name: format!("task {chain_index}"),
                uid: format!("task {chain_index}"),
                task_index: 0,
                parallelism: 1,
                key_group_count,
                is_keyed: true,
                source_index: None,
                inputs: Vec::new(),
                outputs: Vec::new(),
            };
            let task = Scripted { plan, env: TaskEnv::new(place), log: Rc::clone(log) };
            Box::new(task) as Box<dyn Task>
        });
        let shard = Shard::new(0, 0, tasks.collect());
        Self { shard, logs, now: Duration::ZERO }
    }

    /// A turn that takes `took`; what is reported.
    fn turn(&mut self, commands: &[Command], took: Duration) -> Vec<Report> {
        let events = commands.iter().cloned().map(Event::Command).collect();
        let reports = self.turn_with(events, took).into_iter().map(|effect| match effect {
            Effect::Report(report) => *report,
            other => panic!("nothing else is wanted: {other:?}"),
        });
        reports.collect()
    }

    /// A turn that takes `took`; what is wanted.
    pub(super) fn turn_with(&mut self, mut events: Vec<Event>, took: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.shard.turn(self.now, &mut events, &mut effects);
        assert!(events.is_empty(), "all events are handled");
        self.now += took;
        self.shard.turn_ended(self.now, &mut effects);
        effects
    }

    /// How often each task has run since this was asked last.
    pub(super) fn runs(&self) -> Vec<usize> {
        self.logs.iter().map(|log| log.turns.take().len()).collect()
    }
}

#[test]
fn every_task_with_something_to_do_has_one_turn_and_no_other_has() {
    let busy = Activity::Busy;
    let mut bench = Bench::new(&[busy, Activity::Idle(None), busy, Activity::Blocked(None)]);
    bench.turn(&[], MS / 100);
    assert_eq!(bench.runs(), [1, 1, 1, 1], "at first, nobody knows");
    for _ in 0..5 {
        assert_eq!(bench.shard.next(), Next::Busy);
        bench.turn(&[], MS / 100);
    }
    assert_eq!(bench.runs(), [5, 0, 5, 0]);
}

#[test]
fn processing_time_wakes_a_task_and_is_known_before() {
    let mut bench = Bench::new(&[Activity::Idle(Some(7)), Activity::Idle(Some(9))]);
    bench.turn(&[], MS);
    assert_eq!(bench.runs(), [1, 1]);
    assert_eq!(bench.shard.next(), Next::At(7 * MS));
    bench.turn(&[], 6 * MS);
    assert_eq!(bench.runs(), [0, 0], "too early");
    bench.logs[0].activity.set(Activity::Idle(None));
    bench.turn(&[], MS / 100);
    assert_eq!(bench.runs(), [1, 0]);
    assert_eq!(bench.shard.next(), Next::At(9 * MS));
}

#[test]
fn what_is_measured_is_the_turn_and_not_the_time_after_it() {
    let mut bench = Bench::new(&[Activity::Idle(None)]);
    bench.turn(&[], MS / 100);
    bench.now += 1_000 * MS;
    bench.turn(&[Command::Status], MS / 50);
    bench.now += 1_000 * MS;
    bench.turn(&[], MS / 50);
    let turns = bench.shard.status().turns;
    assert_eq!((turns.busy_turns, turns.idle_turns, turns.stalls), (2, 1, 0));
    assert_eq!((turns.turn_ns_sum, turns.turn_ns_max), (30_000, 20_000));
}

#[test]
fn a_slow_task_is_named_and_takes_fewer_rows_and_the_others_do_not() {
    let mut bench = Bench::new(&[Activity::Busy; 2]);
    let mut stalled = Vec::new();
    for _ in 0..30 {
        // The second task needs 50 µs for a row; the first nothing at all.
        let before = bench.logs[1].turns.borrow().len();
        let mut events = Vec::new();
        let mut effects = Vec::new();
        bench.shard.turn(bench.now, &mut events, &mut effects);
        let rows: u32 = bench.logs[1].turns.borrow()[before..].iter().sum();
        bench.now += u64::from(rows) as u32 * MS / 20;
        bench.shard.turn_ended(bench.now, &mut effects);
        for effect in effects {
            if let Effect::Report(report) = effect
                && let Report::Stalled { task, .. } = *report
            {
                stalled.push(task);
            }
        }
    }
    assert_eq!(stalled, [Some("task 1".to_string())]);
    assert!(bench.logs[0].turns.borrow().iter().all(|rows| *rows == INPUT_BUDGET_RECORDS));
    assert_eq!(bench.logs[1].turns.borrow().last(), Some(&1));
    assert!(bench.shard.status().turns.stalls > 0);
}

#[test]
fn a_turn_within_its_budget_is_no_stall() {
    let mut bench = Bench::new(&[Activity::Busy; 10]);
    for _ in 0..100 {
        // Ten tasks of 20 µs: twice what a turn of one may take.
        assert!(bench.turn(&[], Duration::from_nanos(2 * TURN_STALL_NS)).is_empty());
    }
    assert_eq!(bench.runs(), [100; 10]);
    assert_eq!(bench.shard.status().turns.stalls, 0);
}

#[test]
fn backpressured_time_is_that_between_being_blocked_and_going_on() {
    let mut bench = Bench::new(&[Activity::Blocked(None)]);
    let ms = |bench: &Bench| bench.shard.status().tasks[0].backpressured_ms;
    bench.turn(&[], 10 * MS);
    bench.turn(&[], 30 * MS);
    assert_eq!(ms(&bench), 10, "it is counted while it lasts, up to the last turn");
    bench.logs[0].activity.set(Activity::Idle(None));
    bench.turn(&[Command::Trigger(CheckpointId(1), "/checkpoints".into(), None)], 50 * MS);
    assert_eq!(ms(&bench), 40, "it was woken, and could go on");
    bench.turn(&[], MS);
    assert_eq!(ms(&bench), 40, "it is over");
}

#[test]
fn a_shard_that_is_over_says_so_once_and_answers_questions() {
    let mut bench = Bench::new(&[Activity::Idle(None), Activity::Busy]);
    bench.turn(&[], MS / 100);
    let reports = bench.turn(&[Command::Drain], MS / 100);
    assert!(matches!(reports[..], [Report::Finished]), "{reports:?}");
    assert_eq!(bench.shard.next(), Next::Over);
    bench.runs();
    let reports = bench.turn(&[Command::Drain, Command::Status], MS / 100);
    assert!(matches!(reports[..], [Report::Status(_)]), "{reports:?}");
    assert_eq!(bench.runs(), [0, 0], "nobody has a turn any more");
}

#[test]
fn a_failure_ends_the_turn_and_the_shard() {
    let mut bench = Bench::new(&[Activity::Busy; 2]);
    bench.shard.tasks[0].task.env().fail(Error::bug("task 0", "for the test"));
    let reports = bench.turn(&[], MS / 100);
    assert!(matches!(reports[..], [Report::Failed { .. }]), "{reports:?}");
    assert_eq!(bench.runs(), [1, 0], "who comes behind it has no turn");
    assert_eq!(bench.shard.next(), Next::Over);
}

#[test]
#[should_panic(expected = "time went back")]
fn time_does_not_go_back() {
    let mut bench = Bench::new(&[]);
    bench.turn(&[], MS);
    bench.now = MS / 2;
    bench.shard.turn(MS, &mut Vec::new(), &mut Vec::new());
    bench.turn(&[], MS);
}
