//! Rows find their channels; a full output opens when a credit comes; rows that cannot leave are
//! put aside or stop the job.

use millstream_storage::arena::Slab;

use super::*;
use crate::data::element::{Batch, Element};
use crate::data::row::Origin;
use crate::graph::plan::{ChannelPlan, Deal, Partitioner};
use crate::limits::{CHANNEL_CREDIT_FRAMES, FRAME_BYTES, INPUT_BUDGET_RECORDS, ROW_BYTES_MAX};
use crate::operator::env::TaskPlace;
use crate::operator::side_output::{DEAD_LETTERS, DeadLetter};

fn key_group_count() -> KeyGroupCount {
    KeyGroupCount::new(8).expect("in range")
}

fn env() -> TaskEnv {
    let key_group_count = key_group_count();
    TaskEnv::new(TaskPlace { chain_index: 0, task_index: 0, parallelism: 1, key_group_count })
}

fn outbox() -> Outbox {
    Outbox { local: Vec::new(), remote: Vec::new(), slab: Slab::new(FRAME_BYTES, 64) }
}

/// One edge to `channel_count` tasks on the own shard; channels count from 10.
fn outputs<T: Record>(partitioner: Partitioner, channel_count: u32) -> Outputs<T> {
    let deal = Some(Deal::KeyGroup);
    let channel = |i| ChannelPlan { channel: ChannelId(10 + i), peer_shard: 0, deal };
    let channels = (0..channel_count).map(channel).collect();
    let operator = "enrich".to_string();
    let (side, to_uid, to_input) = (None, "next".to_string(), 0);
    let plan = OutputPlan { operator, side, partitioner, to_uid, to_input, channels };
    Outputs::new([&plan], 3, 0, key_group_count())
}

/// A record that counts its clones.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Counted(u64);

thread_local! {
    static CLONES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        CLONES.set(CLONES.get() + 1);
        Self(self.0)
    }
}

#[test]
fn a_broadcast_row_is_cloned_for_all_channels_but_one() {
    let mut outputs = outputs::<Counted>(Partitioner::Broadcast, 3);
    outputs.push(Row::new(Counted(7), 0, Origin::NONE), &env());
    assert_eq!(CLONES.get(), 2);
    let mut outbox = outbox();
    outputs.flush(&mut outbox);
    let channels: Vec<_> = outbox.local.iter().map(|(channel, _)| channel.0).collect();
    assert_eq!(channels, [10, 11, 12]);
}

#[test]
fn a_returned_credit_opens_a_full_output_at_once() {
    let mut outputs = outputs::<u64>(Partitioner::Broadcast, 2);
    let (mut outbox, env) = (outbox(), env());
    let mut pushed = 0;
    while !outputs.is_full() {
        outputs.push(Row::new(pushed, 0, Origin::NONE), &env);
        outputs.flush(&mut outbox);
        pushed += 1;
        assert!(pushed < 10_000, "it never becomes full");
    }
    assert_eq!(pushed, u64::from(CHANNEL_CREDIT_FRAMES + INPUT_BUDGET_RECORDS));
    let sent = std::mem::take(&mut outbox.local);
    let mut returned = sent.into_iter().filter_map(|(channel, element)| match element {
        Element::Batch(Batch::Rows(rows)) => {
            let mut rows = rows.into_rows::<u64>();
            rows.clear();
            Some((channel, Returned::Rows(Box::new(rows))))
        }
        _ => None,
    });
    let (channel, container) = returned.next().expect("all credits are away");
    assert!(outputs.on_returned(channel, container, &mut outbox).is_ok());
    assert!(outputs.is_full(), "the other channel is");
    assert_eq!(outbox.local.len(), 1, "what waited has left");
    let (channel, container) = returned.next().expect("both channels are full");
    assert!(outputs.on_returned(channel, container, &mut outbox).is_ok());
    assert!(!outputs.is_full());
    let stranger = outputs.on_returned(ChannelId(99), Returned::Rows(Box::new(())), &mut outbox);
    assert!(stranger.is_err(), "not a channel of this output");
}

#[test]
fn a_row_that_cannot_leave_stops_the_job_and_is_named() {
    let mut outputs = outputs::<Vec<u8>>(Partitioner::Rebalance, 2);
    let env = env();
    outputs.push(Row::new(vec![0; ROW_BYTES_MAX], 5, Origin::new(1, 2, 3)), &env);
    let (error, origin) = env.take_failure_at().expect("it is too large");
    assert_eq!(origin, Origin::new(1, 2, 3));
    assert_eq!(
        error.to_string(),
        "operator enrich at source 1, split 2, position 3: a row of more than 1048576 bytes; make \
         it smaller before it leaves the operator, or read the operator's side output DEAD_LETTERS \
         to put such rows aside"
    );
    assert_eq!(outputs.row_count(), 0);
}

#[test]
fn a_row_that_cannot_leave_is_a_dead_letter_if_somebody_reads_them() {
    let mut outputs = outputs::<Vec<u8>>(Partitioner::Rebalance, 2);
    let env = env();
    // Another operator of the task has dead letters, too: these are not its own.
    env.side_outputs.borrow_mut().register(0, DEAD_LETTERS);
    env.side_outputs.borrow_mut().register(3, DEAD_LETTERS);
    let origin = Origin::new(1, 2, 3);
    outputs.push(Row::new(vec![0; ROW_BYTES_MAX], 5, origin), &env);
    assert!(!env.has_failed());
    assert_eq!(env.dead_letters.get(), 1);
    let mut side_outputs = env.side_outputs.borrow_mut();
    let letters = side_outputs.rows(3, DEAD_LETTERS).ok().flatten().expect("it is registered");
    let expected = DeadLetter::new(
        "operator enrich at source 1, split 2, position 3",
        "a row of more than 1048576 bytes",
        &[],
    );
    assert_eq!((letters.len(), letters[0].origin, &letters[0].value), (1, origin, &expected));
    let others = side_outputs.rows(0, DEAD_LETTERS).ok().flatten().expect("it is registered");
    assert!(others.is_empty(), "the letters of another operator");
}
