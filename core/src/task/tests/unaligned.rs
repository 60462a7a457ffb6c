//! Tasks whose checkpoints wait for no rows: every row is in one place of a cut, in its order,
//! however channels, barriers, credits and turns interleave, and though nobody takes what comes
//! out.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::exchange::descriptor::Descriptor;
use crate::limits::CHANNEL_CREDIT_FRAMES;
use crate::state::snapshot::{RunTo, Snapshot};
use crate::task::decode::Decoder;

/// Two tasks, each with one input; rows by key to two more, each with one output.
///
/// ```text
/// 0 ──► upper 0 ──10──► lower 0 ──► 20
///              ╲11  12╱
/// 1 ──► upper 1 ──13──► lower 1 ──► 21
/// ```
struct Net {
    tasks: Vec<(Box<dyn Task>, TaskMail)>,
    /// What has left and has not arrived.
    wires: BTreeMap<ChannelId, VecDeque<Element>>,
    /// Batches that an input's sender has not got back.
    lent: [u32; 2],
    next_value: u64,
    /// Rows that went in, by input and epoch.
    given: [Vec<Vec<u64>>; 2],
    /// Rows that came out, by output and epoch.
    taken: [Vec<Vec<u64>>; 2],
    returned: [VecDeque<Returned>; 2],
    triggered: u64,
    parts: BTreeMap<u64, Vec<Snapshot>>,
}

const UIDS: [&str; 2] = ["upper", "lower"];

fn channel(number: u32, peer_shard: u32) -> ChannelPlan {
    ChannelPlan { channel: ChannelId(number), peer_shard, deal: Some(Deal::KeyGroup) }
}

/// The plan of task `index` of two on `level`.
fn plan_of(level: u32, index: u32) -> TaskPlan {
    let between = |upper: u32, lower: u32| 10 + 2 * upper + lower;
    let (inputs, outputs, to_uid) = match level {
        0 => {
            let outputs = (0..2).map(|lower| channel(between(index, lower), lower)).collect();
            (vec![channel(index, index)], outputs, "lower")
        }
        _ => {
            let inputs = (0..2).map(|upper| channel(between(upper, index), upper)).collect();
            (inputs, vec![channel(20 + index, index)], "next")
        }
    };
    let partitioner = if level == 0 { Partitioner::Hash } else { Partitioner::Forward };
    let outputs = vec![OutputPlan {
        to_uid: to_uid.to_string(),
        partitioner,
        channels: outputs,
        ..plan(0, partitioner, 1).outputs.swap_remove(0)
    }];
    TaskPlan {
        uid: UIDS[level as usize].to_string(),
        chain_index: level as u16,
        task_index: index,
        parallelism: 2,
        inputs: vec![InputPlan { channels: inputs }],
        outputs,
        ..plan(0, partitioner, 1)
    }
}

impl Net {
    fn new() -> Self {
        let task = |number: u32| {
            let plan = plan_of(number / 2, number % 2);
            let feed = ChannelFeed::new(&plan, Single::<u64>::default());
            let count = plan.key_group_count;
            let end = Outputs::<u64>::new(&plan.outputs, 0, plan.task_index, count);
            let chain = Pass::default();
            let mut task = Box::new(ChainTask::new(plan, feed, chain, end, |_, _| Vec::new()));
            task.open().expect("it opens");
            let slab = Slab::new(FRAME_BYTES, 64);
            let outbox = Outbox { local: Vec::new(), remote: Vec::new(), slab };
            let mail = TaskMail { outbox, returns: Vec::new(), parts: Vec::new() };
            (task as Box<dyn Task>, mail)
        };
        Self {
            tasks: (0..4).map(task).collect(),
            wires: BTreeMap::new(),
            lent: [0; 2],
            next_value: 0,
            given: [vec![Vec::new()], vec![Vec::new()]],
            taken: [vec![Vec::new()], vec![Vec::new()]],
            returned: Default::default(),
            triggered: 0,
            parts: BTreeMap::new(),
        }
    }

    /// A row for `input`, whose key is a digit; if there is a credit.
    fn give(&mut self, input: usize, key: u64) {
        if self.lent[input] < CHANNEL_CREDIT_FRAMES {
            self.lent[input] += 1;
            let value = 10 * self.next_value + key;
            self.next_value += 1;
            // All rows of a key come by one input, or they would have no order.
            let key = 2 * (key / 2) + input as u64;
            let value = value / 10 * 10 + key;
            let row = Row { hash64: key << 60, ..Row::from(value) };
            self.given[input].last_mut().expect("an epoch").push(value);
            let wire = self.wires.entry(ChannelId(input as u32)).or_default();
            wire.push_back(Element::Batch(Batch::of_rows(vec![row])));
        }
    }

    /// The next barrier for `input`.
    fn barrier(&mut self, input: usize) {
        let checkpoint = self.given[input].len() as u64;
        if self.triggered < checkpoint {
            self.triggered = checkpoint;
            for (task, mail) in &mut self.tasks {
                task.trigger(CheckpointId(checkpoint), mail);
            }
        }
        self.given[input].push(Vec::new());
        let wire = self.wires.entry(ChannelId(input as u32)).or_default();
        wire.push_back(Element::Control(Control::Barrier(CheckpointId(checkpoint))));
    }

    fn unalign(&mut self, number: usize) {
        self.tasks[number].0.unalign(CheckpointId(self.triggered));
    }

    fn turn(&mut self, number: usize) {
        let (task, mail) = &mut self.tasks[number];
        let _ = task.turn(2, mail);
        for part in mail.parts.drain(..) {
            self.parts.entry(part.checkpoint.0).or_default().push(part.snapshot);
        }
        for (channel, element) in mail.outbox.local.drain(..) {
            self.wires.entry(channel).or_default().push_back(element);
        }
        for (_, descriptor) in mail.outbox.remote.drain(..) {
            let (channel, element) = match descriptor {
                Descriptor::Frame { channel, frame } => {
                    (channel, Element::Batch(Batch::Frame(frame)))
                }
                Descriptor::Control { channel, control } => (channel, Element::Control(control)),
                other => panic!("nothing else is sent: {other:?}"),
            };
            self.wires.entry(channel).or_default().push_back(element);
        }
        for (plan, returned) in std::mem::take(&mut mail.returns) {
            match plan.channel.0 {
                input @ 0..2 => self.lent[input as usize] -= 1,
                between => self.give_back(((between - 10) / 2) as usize, plan.channel, returned),
            }
        }
    }

    fn give_back(&mut self, number: usize, channel: ChannelId, returned: Returned) {
        let (task, mail) = &mut self.tasks[number];
        task.on_returned(channel, returned, &mut mail.outbox);
    }

    /// One element of a channel arrives.
    fn carry(&mut self, channel: u32) {
        let wire = self.wires.entry(ChannelId(channel)).or_default();
        let Some(element) = wire.pop_front() else { return };
        let (number, slot) = match channel {
            0..2 => (channel, 0),
            10..14 => (2 + (channel - 10) % 2, (channel - 10) / 2),
            _ => return self.come_out((channel - 20) as usize, element),
        };
        self.tasks[number as usize].0.on_element(slot as usize, element);
    }

    fn come_out(&mut self, output: usize, element: Element) {
        match element {
            Element::Batch(Batch::Rows(rows)) => {
                let mut rows = rows.into_rows::<u64>();
                let epoch = self.taken[output].last_mut().expect("an epoch");
                epoch.extend(rows.drain(..).map(|row| row.value));
                self.returned[output].push_back(Returned::Rows(Box::new(rows)));
            }
            Element::Control(Control::Barrier(CheckpointId(id))) => {
                assert_eq!(id, self.taken[output].len() as u64, "barriers come in their order");
                self.taken[output].push(Vec::new());
            }
            other => panic!("nothing else comes out: {other:?}"),
        }
    }

    /// Who reads `output` has read a batch.
    fn credit(&mut self, output: usize) {
        if let Some(returned) = self.returned[output].pop_front() {
            self.give_back(2 + output, ChannelId(20 + output as u32), returned);
        }
    }

    /// Everything that can happen though nobody takes what comes out.
    fn settle(&mut self) {
        for _ in 0..30 {
            for channel in [0, 1, 10, 11, 12, 13, 20, 21] {
                while self.wires.get(&ChannelId(channel)).is_some_and(|wire| !wire.is_empty()) {
                    self.carry(channel);
                }
            }
            (0..4).for_each(|number| self.turn(number));
        }
    }

    /// The rows of `checkpoint`: those that came out before it, then those in flight in the order
    /// in which they would be taken, the last operator's first.
    fn rows_of(&self, checkpoint: u64) -> Vec<u64> {
        let mut snapshot = Snapshot::default();
        self.parts[&checkpoint].iter().cloned().for_each(|part| snapshot.merge(part));
        let epochs = self.taken.iter().flat_map(|epochs| &epochs[..checkpoint as usize]);
        let mut rows: Vec<u64> = epochs.flatten().copied().collect();
        for uid in ["next", "lower", "upper"] {
            let to = RunTo { uid: uid.to_string(), input: 0 };
            for frame in snapshot.in_flight_to(&to).flat_map(|run| &run.frames) {
                let batch = Single::<u64>::default().restore(0, frame, &|_| true);
                let Ok(Some(Batch::Rows(batch))) = batch else { panic!("no rows of {uid}") };
                rows.extend(batch.into_rows::<u64>().into_iter().map(|row| row.value));
            }
        }
        rows
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Give(usize, u64),
    Barrier(usize),
    Unalign(usize),
    Turn(usize),
    Carry(u32),
    Credit(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize, 0..10_u64).prop_map(|(input, key)| Step::Give(input, key)),
        1 => (0..2_usize).prop_map(Step::Barrier),
        1 => (0..4_usize).prop_map(Step::Unalign),
        6 => (0..4_usize).prop_map(Step::Turn),
        8 => proptest::sample::select(vec![0_u32, 1, 10, 11, 12, 13, 20, 21]).prop_map(Step::Carry),
        2 => (0..2_usize).prop_map(Step::Credit),
    ]
}

/// Some seconds of a build without optimizations.
const CASES: u32 = 300;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// Every row that went in before a barrier is in that checkpoint once, after those of its key
    /// that went in before it; no other row is.
    #[test]
    fn every_row_is_in_one_place_of_a_cut(steps in proptest::collection::vec(any_step(), 1..250)) {
        let mut net = Net::new();
        for step in steps {
            match step {
                Step::Give(input, key) => net.give(input, key),
                Step::Barrier(input) => net.barrier(input),
                Step::Unalign(number) => net.unalign(number),
                Step::Turn(number) => net.turn(number),
                Step::Carry(channel) => net.carry(channel),
                Step::Credit(output) => net.credit(output),
            }
        }
        for input in 0..2 {
            while (net.given[input].len() as u64) < net.triggered + 1 {
                net.barrier(input);
            }
        }
        (0..4).for_each(|number| net.unalign(number));
        net.settle();
        for checkpoint in 1..=net.triggered {
            prop_assert_eq!(net.parts.get(&checkpoint).map(Vec::len), Some(4), "{}", checkpoint);
            let rows = net.rows_of(checkpoint);
            for key in 0..10 {
                let is_of_key = |row: &u64| row % 10 == key;
                let found: Vec<u64> = rows.iter().copied().filter(is_of_key).collect();
                let epochs = net.given.iter().flat_map(|epochs| &epochs[..checkpoint as usize]);
                let given: Vec<u64> = epochs.flatten().copied().filter(is_of_key).collect();
                prop_assert_eq!(found, given, "key {} of checkpoint {}", key, checkpoint);
            }
        }
    }
}

/// A snapshot with `frames` of rows in flight to a driven task.
fn in_flight(batches: &[&str]) -> Snapshot {
    let mut driven = Driven::pass(1);
    driven.trigger(1);
    driven.trigger(2);
    driven.task.unalign(CheckpointId(2));
    driven.tell("0b1");
    for batch in batches {
        driven.tell(batch);
    }
    driven.tell("0b2");
    // Checkpoint 1 is cut with nothing behind its barrier; then 2, in the same turn, with all.
    driven.turn();
    driven.mail.parts.swap_remove(1).snapshot
}

#[test]
fn rows_that_were_in_flight_go_before_everything_else() {
    let mut driven = Driven::pass(2);
    driven.task.restore(&in_flight(&["0r1,2", "0r3"])).expect("they are its own");
    driven.tell("0w9 0r7 1w8");
    driven.row_limit = 2;
    driven.turn();
    assert_eq!(driven.said(0), "r1 r2");
    driven.settle();
    assert_eq!(driven.said(0), "r3 r7 w8");
}

#[test]
fn what_is_left_of_them_is_in_flight_again() {
    let mut driven = Driven::pass(1);
    driven.task.restore(&in_flight(&["0r1,2,3", "0r4"])).expect("they are its own");
    driven.row_limit = 2;
    driven.turn();
    assert_eq!(driven.said(0), "r1 r2");
    driven.trigger(1);
    driven.task.unalign(CheckpointId(1));
    driven.tell("0r5 0b1");
    driven.turn();
    assert!(driven.said(0).starts_with("b1"));
    let part = driven.mail.parts.swap_remove(0);
    let mut again = Driven::pass(1);
    again.task.restore(&part.snapshot).expect("they are its own");
    again.settle();
    assert_eq!(again.said(0), "r3 r4 r5");
}

#[test]
fn rows_in_flight_of_another_type_are_refused() {
    let plan = plan(1, Partitioner::Forward, 1);
    let feed = ChannelFeed::new(&plan, Single::<String>::default());
    let end = Outputs::<String>::new(&plan.outputs, 0, 0, plan.key_group_count);
    let mut driven =
        Driven::of(ChainTask::new(plan, feed, Pass::default(), end, |_, _| Vec::new()));
    let error = driven.task.restore(&in_flight(&["0r1"])).expect_err("they are numbers");
    assert!(error.to_string().contains("rows in flight to driven"), "{error}");
}

/// Rows that every task gets are waited for, whatever the checkpoint is.
#[test]
fn a_cut_waits_for_channels_whose_rows_every_task_gets() {
    let mut plan = plan(2, Partitioner::Forward, 1);
    plan.inputs[0].channels[1].deal = None;
    let feed = ChannelFeed::new(&plan, Single::<u64>::default());
    let end = Outputs::<u64>::new(&plan.outputs, 0, 0, plan.key_group_count);
    let mut driven =
        Driven::of(ChainTask::new(plan, feed, Pass::default(), end, |_, _| Vec::new()));
    driven.row_limit = 1;
    driven.trigger(7);
    driven.task.unalign(CheckpointId(7));
    driven.tell("0r1,2,3,4 0b7 1r5,6 1b7 1r8");
    driven.turn();
    driven.turn();
    assert_eq!(driven.said(0), "r1 r5 r6 r2");
    driven.turn();
    driven.turn();
    let said = driven.said(0);
    assert!(said.starts_with("b7 r3"), "the others are not waited for: {said}");
    let part = driven.mail.parts.swap_remove(0);
    assert_ne!(part.snapshot.in_flight_bytes(), 0);
}

/// A task that has ended, and whose last rows wait for credits, has a part at once.
#[test]
fn a_task_that_only_waits_for_credits_is_cut() {
    let mut driven = Driven::pass(1);
    for word in ["0r1", "0r2", "0r3", "0r4", "0r5", "0end"] {
        driven.tell(word);
        driven.turn();
    }
    assert_eq!(driven.said(0), "r1 r2 r3 r4", "nobody reads");
    driven.trigger(7);
    driven.turn();
    assert!(driven.cut().is_empty(), "it waits for rows");
    driven.task.unalign(CheckpointId(7));
    driven.turn();
    assert_eq!(driven.said(0), "b7");
    assert_eq!(driven.cut(), [7]);
    driven.give_back();
    driven.settle();
    assert_eq!(driven.said(0), "r5 wmax end");
}

/// Holds rows until processing time calls, and takes no others meanwhile. Makes many of each.
#[derive(Clone, Default)]
struct Holds {
    rows: VecDeque<Row<u64>>,
}

impl Operator for Holds {
    type In = u64;
    type Out = u64;

    fn on_row(&mut self, row: Row<u64>, _: &OperatorContext<'_>, _: &mut impl Output<u64>) {
        self.rows.push_back(row);
    }

    fn is_ready(&self) -> bool {
        self.rows.is_empty()
    }

    fn has_waiting_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    fn next_time_ms(&self) -> Option<i64> {
        self.rows.front().map(|_| i64::MIN)
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, out: &mut impl Output<u64>) -> Progress {
        while !self.rows.is_empty() && ctx.env().spend() {
            let row = self.rows.pop_front().expect("there is one");
            (0..300).for_each(|_| out.emit(row.clone()));
        }
        if self.rows.is_empty() { Progress::Done } else { Progress::Pending }
    }
}

/// Rows in the middle of a chain whose outputs are full are handed on before the cut.
#[test]
fn operators_hand_on_what_they_hold_before_a_cut() {
    let chain = Stage::new(Holds::default(), "holds", "holds");
    let mut driven = Driven::new(chain, 1, Partitioner::Forward, 1);
    driven.tell("0r1,2,3,4,5,6");
    for _ in 0..5 {
        driven.turn();
    }
    assert_eq!(driven.said(0).split(' ').count(), 4 * 256, "nobody reads: four batches are away");
    driven.trigger(7);
    driven.tell("0r7 0b7");
    for _ in 0..2 {
        driven.turn();
    }
    assert!(driven.cut().is_empty(), "it waits for credits");
    driven.task.unalign(CheckpointId(7));
    driven.turn();
    assert_eq!(driven.said(0), "b7");
    let part = driven.mail.parts.swap_remove(0);
    let rows = |uid: &str| {
        let to = RunTo { uid: uid.to_string(), input: 0 };
        let frames = part.snapshot.in_flight_to(&to).flat_map(|run| &run.frames);
        let rows =
            frames.map(|frame| match Single::<u64>::default().restore(0, frame, &|_| true) {
                Ok(Some(Batch::Rows(rows))) => rows.into_rows::<u64>().len(),
                other => panic!("no rows of {uid}: {other:?}"),
            });
        rows.sum::<usize>()
    };
    assert_eq!((rows("driven"), rows("next")), (1, 6 * 300 - 4 * 256));
}
