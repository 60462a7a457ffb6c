//! Whole tasks, driven element by element: what they are told, what they say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use millstream_storage::arena::Slab;

use super::*;
use crate::data::element::{Batch, Control};
use crate::data::key_group::KeyGroupCount;
use crate::data::row::{MAX_WATERMARK, Row};
use crate::exchange::outputs::Outputs;
use crate::graph::plan::{Deal, InputPlan, OutputPlan, Partitioner};
use crate::limits::FRAME_BYTES;
use crate::operator::pass::Pass;
use crate::operator::source::{Source, SourceOutput, SourceReader, SourceStatus};
use crate::operator::{Chain, Operator, OperatorContext, Output, Progress, Stage, Then};
use crate::task::channel_feed::ChannelFeed;
use crate::task::decode::Single;
use crate::task::source_feed::SourceFeed;

mod unaligned;

const FIRST_OUTPUT: u32 = 100;

/// A task with a number of inputs and outputs, all of this shard.
struct Driven {
    task: Box<dyn Task>,
    mail: TaskMail,
    row_limit: u32,
    /// By output: what has left, as words.
    said: BTreeMap<ChannelId, Vec<String>>,
    /// What the outputs' readers have not given back.
    unreturned: Vec<(ChannelId, Returned)>,
}

impl Driven {
    fn new(
        chain: impl Chain<In = u64, Out = u64>,
        input_count: u32,
        partitioner: Partitioner,
        output_count: u32,
    ) -> Self {
        let plan = plan(input_count, partitioner, output_count);
        let feed = ChannelFeed::new(&plan, Single::<u64>::default());
        let end = Outputs::<u64>::new(&plan.outputs, 0, 0, plan.key_group_count);
        Self::of(ChainTask::new(plan, feed, chain, end, |_, _| Vec::new()))
    }

    fn of(task: impl Task + 'static) -> Self {
        let mut task = Box::new(task);
        task.open().expect("it opens");
        let slab = Slab::new(FRAME_BYTES, 1);
        let outbox = Outbox { local: Vec::new(), remote: Vec::new(), slab };
        let mail = TaskMail { outbox, returns: Vec::new(), parts: Vec::new() };
        Self { task, mail, row_limit: 256, said: BTreeMap::new(), unreturned: Vec::new() }
    }

    /// One that hands everything on to one output.
    fn pass(input_count: u32) -> Self {
        Self::new(Pass::default(), input_count, Partitioner::Forward, 1)
    }

    /// Tells it words such as `0w10 1idle 1active 0r5,6 0b7 0end` (input, then what), all before
    /// its next turn.
    fn tell(&mut self, script: &str) {
        for word in script.split_whitespace() {
            let (slot, rest) = word.split_at(1);
            let slot = slot.parse().expect("a digit");
            self.task.on_element(slot, element(rest));
        }
    }

    fn trigger(&mut self, id: u64) {
        self.task.trigger(CheckpointId(id), &mut self.mail);
    }

    /// The checkpoints of which it has reported its part since the last call.
    fn cut(&mut self) -> Vec<u64> {
        self.mail.parts.drain(..).map(|part| part.checkpoint.0).collect()
    }

    fn turn(&mut self) -> Activity {
        let activity = self.task.turn(self.row_limit, &mut self.mail);
        for (channel, element) in self.mail.outbox.local.drain(..) {
            let said = self.said.entry(channel).or_default();
            said.extend(words_of(element, channel, &mut self.unreturned));
        }
        activity
    }

    /// The outputs' readers have read everything.
    fn give_back(&mut self) {
        for (channel, returned) in self.unreturned.drain(..) {
            self.task.on_returned(channel, returned, &mut self.mail.outbox);
        }
    }

    /// Turns until it waits.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            let activity = self.turn();
            self.give_back();
            if activity != Activity::Busy {
                return;
            }
        }
        panic!("the task is busy for ever");
    }

    /// What it has said on an output since the last call.
    fn said(&mut self, output: u32) -> String {
        let said = self.said.remove(&ChannelId(FIRST_OUTPUT + output));
        said.unwrap_or_default().join(" ")
    }

    /// Tells it `script`, one word a turn, and answers what it says.
    fn play(&mut self, script: &str) -> String {
        for word in script.split_whitespace() {
            self.tell(word);
            self.settle();
        }
        self.said(0)
    }

    fn time(&mut self, processing_time_ms: i64) {
        self.task.env().processing_time_ms.set(processing_time_ms);
    }
}

fn plan(input_count: u32, partitioner: Partitioner, output_count: u32) -> TaskPlan {
    let channel = |number| ChannelPlan {
        channel: ChannelId(number),
        peer_shard: 0,
        deal: Some(Deal::KeyGroup),
    };
    let outputs = (0..output_count).map(|output| channel(FIRST_OUTPUT + output));
    TaskPlan {
        chain_index: 1,
        name: "driven".to_string(),
        uid: "driven".to_string(),
        task_index: 0,
        parallelism: 1,
        key_group_count: KeyGroupCount::new(16).expect("in range"),
        is_keyed: true,
        source_index: None,
        inputs: vec![InputPlan { channels: (0..input_count).map(channel).collect() }],
        outputs: vec![OutputPlan {
            operator: "driven".to_string(),
            side: None,
            partitioner,
            to_uid: "next".to_string(),
            to_input: 0,
            channels: outputs.collect(),
        }],
    }
}

fn element(word: &str) -> Element {
    let number = |text: &str| text.parse().expect("a number");
    let control = match word.split_at(1) {
        ("w", "max") => Control::Watermark(MAX_WATERMARK),
        ("w", ms) => Control::Watermark(number(ms)),
        ("b", id) => Control::Barrier(CheckpointId(number(id).unsigned_abs())),
        ("i", "dle") => Control::Idle,
        ("a", "ctive") => Control::Active,
        ("e", "nd") => Control::EndOfStream,
        ("r", values) => {
            let row =
                |value: &str| Row { event_time_ms: number(value), ..Row::from(number(value)) };
            let rows = values.split(',').map(row).map(|row| row.map(i64::unsigned_abs));
            return Element::Batch(Batch::of_rows(rows.collect::<Vec<Row<u64>>>()));
        }
        other => panic!("no such word: {other:?}"),
    };
    Element::Control(control)
}

fn words_of(
    element: Element,
    channel: ChannelId,
    unreturned: &mut Vec<(ChannelId, Returned)>,
) -> Vec<String> {
    let control = match element {
        Element::Control(control) => control,
        Element::Batch(Batch::Frame(_)) => panic!("a frame within a shard"),
        Element::Batch(Batch::Rows(rows)) => {
            let mut rows = rows.into_rows::<u64>();
            let words = rows.drain(..).map(|row| format!("r{}", row.value)).collect();
            unreturned.push((channel, Returned::Rows(Box::new(rows))));
            return words;
        }
    };
    vec![match control {
        Control::Watermark(MAX_WATERMARK) => "wmax".to_string(),
        Control::Watermark(ms) => format!("w{ms}"),
        Control::Barrier(CheckpointId(id)) => format!("b{id}"),
        Control::Idle => "idle".to_string(),
        Control::Active => "active".to_string(),
        Control::EndOfStream => "end".to_string(),
    }]
}

/// Owes a row for every millisecond that event time has passed, and gives one at a time.
#[derive(Clone, Default)]
struct Ticks {
    next_ms: i64,
    /// Processing time (ms) of its only row of that kind.
    alarm_ms: Option<i64>,
}

impl Operator for Ticks {
    type In = u64;
    type Out = u64;

    fn on_row(&mut self, row: Row<u64>, _: &OperatorContext<'_>, out: &mut impl Output<u64>) {
        out.emit(row);
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<u64>,
    ) -> Progress {
        while self.next_ms <= watermark_ms.min(1_000) {
            if !ctx.env().spend() {
                return Progress::Pending;
            }
            out.emit(Row::from(self.next_ms.unsigned_abs()));
            self.next_ms += 1;
        }
        Progress::Done
    }

    fn next_time_ms(&self) -> Option<i64> {
        self.alarm_ms
    }

    fn on_time(&mut self, _: &OperatorContext<'_>, out: &mut impl Output<u64>) -> Progress {
        self.alarm_ms = None;
        out.emit(Row::from(777));
        Progress::Done
    }
}

fn ticks(alarm_ms: Option<i64>) -> Driven {
    let ticks = Ticks { next_ms: 0, alarm_ms };
    Driven::new(Stage::new(ticks, "ticks", "ticks"), 1, Partitioner::Forward, 1)
}

/// The last input that falls idle raises the watermark; a task behind must hear both, and in the
/// end not wait for this one.
#[test]
fn idleness_comes_behind_the_watermark_that_it_raises_and_lasts() {
    let said = Driven::pass(2).play("0w10 1w5 0idle 1idle");
    assert_eq!(said, "w5 w10 idle");
    let mut next = Driven::pass(2);
    let script = format!("0{} 1w20 1w30", said.replace(' ', " 0"));
    assert_eq!(next.play(&script), "w20 w30");
}

#[test]
fn all_outputs_hear_that_a_task_is_active_again_ahead_of_its_rows() {
    let mut task = Driven::new(Pass::default(), 1, Partitioner::Rebalance, 3);
    task.tell("0w5 0idle");
    task.settle();
    task.tell("0active 0r7");
    task.settle();
    assert_eq!(task.said(0), "w5 idle active r7");
    assert_eq!(task.said(1), "w5 idle active");
    assert_eq!(task.said(2), "w5 idle active");
}

#[test]
fn a_task_is_idle_only_when_its_operators_owe_nothing() {
    let mut task = ticks(None);
    task.row_limit = 2;
    task.tell("0w4 0idle");
    task.turn();
    assert_eq!(task.said(0), "r0 r1", "the rest is pending");
    task.settle();
    assert_eq!(task.said(0), "r2 r3 r4 w4 idle");
}

#[test]
fn rows_of_processing_time_do_not_end_idleness() {
    let mut task = ticks(Some(50));
    assert_eq!(task.play("0w1 0idle"), "r0 r1 w1 idle");
    task.time(50);
    task.settle();
    let said = task.said(0);
    assert_eq!(said, "r777");
    let mut next = Driven::pass(2);
    assert_eq!(next.play("0w1 1w1 0idle 1w2 0r777 1w9"), "w1 w2 r777 w9");
}

#[test]
fn a_watermark_of_an_idle_input_counts_when_all_are_idle() {
    assert_eq!(Driven::pass(2).play("0w5 1w5 0idle 1idle 0w20"), "w5 idle w20");
}

#[test]
fn the_end_of_time_comes_with_the_end_of_all_inputs() {
    let mut task = Driven::pass(2);
    assert_eq!(task.play("0wmax 1w3 1wmax 0end"), "w3");
    assert_eq!(task.play("1r9 1end"), "r9 wmax end");
    assert_eq!(task.turn(), Activity::Finished);
}

#[test]
fn a_task_without_inputs_ends_at_once() {
    let mut task = Driven::pass(0);
    task.settle();
    assert_eq!(task.said(0), "wmax end");
    assert_eq!(task.turn(), Activity::Finished);
}

#[test]
fn a_barrier_cuts_between_the_rows_before_it_and_those_behind() {
    let mut task = Driven::pass(2);
    task.tell("0r1 0b7 0r2 1r3");
    task.settle();
    assert_eq!(task.said(0), "r1 r3", "input 0 is blocked");
    task.tell("1b7 1r4");
    task.settle();
    assert_eq!(task.said(0), "b7 r4 r2");
    assert_eq!(task.mail.parts.len(), 1);
}

/// In one turn every input gives so many rows, however many batches and control elements they are
/// in.
#[test]
fn inputs_take_turns_whatever_they_carry() {
    let mut task = Driven::pass(2);
    task.row_limit = 2;
    task.tell("1r9 0w1 0r1,2,3 0w2 0r4,5 1w1 1r8");
    task.turn();
    assert_eq!(task.said(0), "r1 r2 r9 w1 r8");
    task.turn();
    assert_eq!(task.said(0), "r3 r4");
    task.turn();
    assert_eq!(task.said(0), "r5");
}

/// Control elements need no credit, so a reader that does not read must not collect them.
#[test]
fn control_elements_that_wait_make_each_other_superfluous() {
    let mut task = Driven::new(Pass::default(), 1, Partitioner::Forward, 1);
    for batch in 0..4 {
        task.tell(&format!("0r{batch}"));
        for ms in 0..1_000 {
            task.tell(&format!("0w{} 0idle 0active", 1_000 * batch + ms));
        }
    }
    assert!(task.task.status().queued_elements <= 4 * 3);
    task.settle();
    assert_eq!(task.said(0), "r0 w999 r1 w1999 r2 w2999 r3 w3999");
}

/// Holds numbers, and ends by draining alone.
#[derive(Clone)]
struct Holding(Vec<u64>);

impl Source for Holding {
    type Out = u64;
    type Reader = Self;

    fn describe(&self) -> String {
        "held".to_string()
    }

    fn is_bounded(&self) -> bool {
        false
    }

    fn open(&self, _: &OperatorContext<'_>) -> Result<Self, Error> {
        Ok(Self(Vec::new()))
    }
}

impl SourceReader for Holding {
    type Out = u64;

    fn poll(&mut self, _: &OperatorContext<'_>, out: &mut impl SourceOutput<u64>) -> SourceStatus {
        match self.0.pop() {
            Some(number) => {
                out.emit(0, number, 0, number);
                if self.0.is_empty() { SourceStatus::Ended } else { SourceStatus::Ready }
            }
            None => SourceStatus::Waiting(None),
        }
    }

    fn drain(&mut self, _: &OperatorContext<'_>) -> bool {
        self.0 = vec![3, 2, 1];
        true
    }
}

#[test]
fn a_source_that_drains_hands_on_what_it_holds() {
    let plan = plan(0, Partitioner::Forward, 1);
    let feed = SourceFeed::new(Holding(Vec::new()), "held", "held", 0);
    let end = Outputs::<u64>::new(&plan.outputs, 0, 0, plan.key_group_count);
    let task = ChainTask::new(plan, feed, Pass::default(), end, |_, _| Vec::new());
    let mut driven = Driven::of(task);
    driven.settle();
    driven.task.drain();
    driven.settle();
    assert_eq!(driven.said(0), "r1 r2 r3 wmax end");
    assert_eq!(driven.turn(), Activity::Finished);
}

/// The numbers from 0 on, without an end.
#[derive(Clone)]
struct Counting(u64);

impl Source for Counting {
    type Out = u64;
    type Reader = Self;

    fn describe(&self) -> String {
        "numbers".to_string()
    }

    fn is_bounded(&self) -> bool {
        false
    }

    fn open(&self, _: &OperatorContext<'_>) -> Result<Self, Error> {
        Ok(Self(0))
    }
}

impl SourceReader for Counting {
    type Out = u64;

    fn poll(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<u64>,
    ) -> SourceStatus {
        while ctx.env().spend() {
            out.emit(0, self.0, 0, self.0);
            self.0 += 1;
        }
        SourceStatus::Ready
    }
}

#[test]
fn records_have_their_share_between_two_barriers() {
    let plan = plan(0, Partitioner::Forward, 1);
    let feed = SourceFeed::new(Counting(0), "numbers", "numbers", 0);
    let end = Outputs::<u64>::new(&plan.outputs, 0, 0, plan.key_group_count);
    let task = ChainTask::new(plan, feed, Pass::default(), end, |_, _| Vec::new());
    let mut driven = Driven::of(task);
    driven.row_limit = 2;
    (1..=3).for_each(|id| driven.trigger(id));
    driven.turn();
    driven.turn();
    assert_eq!(driven.said(0), "b1 r0 r1 b2 r2 r3 b3");
    driven.task.drain();
    (4..=5).for_each(|id| driven.trigger(id));
    driven.settle();
    assert_eq!(driven.said(0), "b4 b5 wmax end", "nothing is to come between these");
    assert_eq!(driven.cut(), [1, 2, 3, 4, 5]);
    driven.trigger(6);
    assert_eq!(driven.cut(), [6], "who drains a job is done with it");
}

#[test]
fn a_source_that_is_halted_gives_barriers_and_nothing_else() {
    let plan = plan(0, Partitioner::Forward, 1);
    let feed = SourceFeed::new(Counting(0), "numbers", "numbers", 0);
    let end = Outputs::<u64>::new(&plan.outputs, 0, 0, plan.key_group_count);
    let task = ChainTask::new(plan, feed, Pass::default(), end, |_, _| Vec::new());
    let mut driven = Driven::of(task);
    driven.row_limit = 2;
    driven.trigger(1);
    driven.turn();
    driven.turn();
    driven.task.halt();
    driven.settle();
    assert_eq!(driven.said(0), "b1 r0 r1 r2 r3");
    // The first cannot be written, perhaps: another is tried.
    (2..=3).for_each(|id| driven.trigger(id));
    driven.settle();
    assert_eq!(driven.said(0), "b2 b3");
    assert_eq!(driven.cut(), [1, 2, 3]);
    driven.task.drain();
    driven.settle();
    assert_eq!(driven.said(0), "wmax end", "it can still be drained");
}

#[test]
fn a_task_that_has_ended_has_a_part_in_every_checkpoint() {
    let mut task = Driven::pass(2);
    task.tell("0b1 1b1");
    task.settle();
    assert_eq!(task.cut(), [1]);
    // The barrier was faster than the command.
    task.trigger(1);
    assert!(task.cut().is_empty());
    (2..=3).for_each(|id| task.trigger(id));
    task.tell("0b2 1end");
    task.settle();
    assert_eq!(task.cut(), [2]);
    task.tell("0end");
    task.settle();
    assert_eq!(task.cut(), [3], "nobody sends this barrier any more");
    task.trigger(4);
    assert_eq!(task.cut(), [4]);
    assert_eq!(task.said(0), "b1 b2 wmax end");
}

/// Owes results.
#[derive(Default)]
struct Owing {
    /// Now, if event time has begun.
    left: u32,
    /// More with every watermark.
    each: u32,
    watermark_ms: i64,
    done: Arc<AtomicU32>,
}

impl Operator for Owing {
    type In = u64;
    type Out = u64;

    fn on_row(&mut self, row: Row<u64>, _ctx: &OperatorContext<'_>, out: &mut impl Output<u64>) {
        out.emit(row);
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<u64>,
    ) -> Progress {
        if self.watermark_ms < watermark_ms {
            self.watermark_ms = watermark_ms;
            self.left += self.each;
        }
        while self.left > 0 {
            if !ctx.env().spend() {
                return Progress::Pending;
            }
            self.left -= 1;
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        Progress::Done
    }
}

/// Says that event time goes on with every batch.
struct Dating(i64);

impl Operator for Dating {
    type In = u64;
    type Out = u64;

    fn on_row(&mut self, row: Row<u64>, _ctx: &OperatorContext<'_>, out: &mut impl Output<u64>) {
        out.emit(row);
    }

    fn on_batch_end(
        &mut self,
        _ctx: &OperatorContext<'_>,
        _out: &mut impl Output<u64>,
    ) -> Option<i64> {
        self.0 += 1;
        Some(self.0)
    }
}

#[test]
fn rows_go_on_while_results_are_due_and_do_not_outpace_them() {
    let owing = Owing { left: 40_000, ..Owing::default() };
    let mut task = Driven::new(Stage::new(owing, "o", "o"), 1, Partitioner::Forward, 1);
    let rows: Vec<String> = (0..256).map(|n| n.to_string()).collect();
    let rows = format!("0r{}", rows.join(","));
    let taken = |task: &mut Driven, script: &str| {
        let before = task.task.status().records_in;
        task.tell(script);
        task.turn();
        task.give_back();
        task.task.status().records_in - before
    };
    assert_eq!(taken(&mut task, "0w10"), 0);
    assert_eq!(taken(&mut task, &rows), 256, "event time rests");
    assert_eq!(taken(&mut task, &format!("0w11 {rows}")), 256);
    assert_eq!(taken(&mut task, &rows), 128, "it has moved while results were due");
    assert_eq!(taken(&mut task, ""), 128);
    for time_ms in 12..40 {
        assert_eq!(taken(&mut task, &format!("0w{time_ms}")), 0);
    }
    assert_eq!(taken(&mut task, &rows), 256 / 16, "no less than that");
    task.settle();
    assert_eq!(taken(&mut task, &rows), 256, "all that was due is done");
}

#[test]
fn many_watermarks_in_one_turn_make_no_more_results_than_one() {
    let owing = Owing { each: 1_000, ..Owing::default() };
    let done = Arc::clone(&owing.done);
    let mut task = Driven::new(Stage::new(owing, "o", "o"), 1, Partitioner::Forward, 1);
    task.tell("0w1 0r1 0w2 0r2 0w3 0r3 0w4 0r4 0w5");
    task.turn();
    assert_eq!(task.said(0), "r1 r2 r3 r4");
    assert_eq!(done.load(Ordering::Relaxed), 256);
    task.settle();
    assert_eq!(done.load(Ordering::Relaxed), 5_000);
    assert_eq!(task.said(0), "w5");
}

#[test]
fn rows_do_not_outpace_the_results_of_watermarks_from_within_the_chain() {
    let plan = plan(0, Partitioner::Forward, 1);
    let feed = SourceFeed::new(Counting(0), "numbers", "numbers", 0);
    let end = Outputs::<u64>::new(&plan.outputs, 0, 0, plan.key_group_count);
    let owing = Owing { each: 1_000, ..Owing::default() };
    let first = Stage::new(Dating(0), "d", "d");
    let chain = Then { first, second: Stage::new(owing, "o", "o") };
    let mut task = Driven::of(ChainTask::new(plan, feed, chain, end, |_, _| Vec::new()));
    let mut last = 0;
    for _ in 0..40 {
        let before = task.task.status().records_in;
        task.turn();
        task.give_back();
        last = task.task.status().records_in - before;
    }
    assert_eq!(last, 256 / 16);
}

#[test]
fn an_idleness_that_ends_and_begins_in_one_turn_is_told() {
    let mut task = Driven::pass(1);
    assert_eq!(task.play("0w5 0idle"), "w5 idle");
    task.tell("0active 0r7 0idle");
    task.settle();
    assert_eq!(task.said(0), "active r7 idle");
}

#[test]
fn a_channel_whose_watermarks_fill_the_output_passes_its_turn_on() {
    let mut task = Driven::pass(2);
    assert_eq!(task.play("0w0 1w0 1idle"), "w0");
    task.tell("1active 1r9");
    let mut said = String::new();
    for turn in 0..2 {
        let from = 10 * (turn + 1);
        (from..from + 4).for_each(|n| task.tell(&format!("0r{n} 0w{n}")));
        task.turn();
        task.give_back();
        said += &task.said(0);
    }
    assert!(said.contains("r9"), "{said}");
}

/// Gives a number whenever it is opened, and does not remember that.
#[derive(Clone)]
struct Forgetful(bool);

impl Source for Forgetful {
    type Out = u64;
    type Reader = Self;

    fn describe(&self) -> String {
        "forgetful".to_string()
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn open(&self, _: &OperatorContext<'_>) -> Result<Self, Error> {
        Ok(self.clone())
    }
}

impl SourceReader for Forgetful {
    type Out = u64;

    fn poll(&mut self, _: &OperatorContext<'_>, out: &mut impl SourceOutput<u64>) -> SourceStatus {
        if std::mem::replace(&mut self.0, true) {
            return SourceStatus::Ended;
        }
        out.emit(0, 7, 0, 7);
        SourceStatus::Ready
    }
}

#[test]
fn a_source_that_had_ended_ends_again_though_its_reader_has_forgotten() {
    let open = || {
        let plan = plan(0, Partitioner::Forward, 1);
        let feed = SourceFeed::new(Forgetful(false), "forgetful", "forgetful", 0);
        let end = Outputs::<u64>::new(&plan.outputs, 0, 0, plan.key_group_count);
        Driven::of(ChainTask::new(plan, feed, Pass::default(), end, |_, _| Vec::new()))
    };
    let mut driven = open();
    driven.trigger(1);
    driven.settle();
    driven.trigger(2);
    assert_eq!(driven.said(0), "b1 r7 wmax end");
    let snapshots = std::mem::take(&mut driven.mail.parts);
    for (TaskPart { snapshot, .. }, expected) in snapshots.iter().zip(["r7 wmax end", "wmax end"]) {
        let mut again = open();
        again.task.restore(snapshot).expect("it is its own");
        again.settle();
        assert_eq!(again.said(0), expected);
    }
    assert_eq!(driven.cut().len() + snapshots.len(), 2);
}

/// Hands rows on, and takes all that a turn may do for number 3.
#[derive(Clone)]
struct Costly;

impl Operator for Costly {
    type In = u64;
    type Out = u64;

    fn on_row(&mut self, row: Row<u64>, ctx: &OperatorContext<'_>, out: &mut impl Output<u64>) {
        if row.value == 3 {
            ctx.env().set_budget(0);
        }
        out.emit(row);
    }
}

#[test]
fn a_row_that_takes_all_of_a_turn_is_the_last_of_its_turn() {
    let chain = Stage::new(Costly, "costly", "costly");
    let mut driven = Driven::new(chain, 1, Partitioner::Forward, 1);
    driven.tell("0r1,2,3,4,5");
    driven.turn();
    assert_eq!(driven.said(0), "r1 r2 r3");
    driven.turn();
    assert_eq!(driven.said(0), "r4 r5");
}
