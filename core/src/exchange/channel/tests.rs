//! A channel is FIFO, lossless and bounded, whatever is sent and whenever credit comes back.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::data::element::CheckpointId;
use crate::data::row::Origin;
use crate::graph::plan::Deal;
use crate::limits::FRAME_BYTES;

const OWN_SHARD: u32 = 0;

fn outbox() -> Outbox {
    let slab = Slab::new(FRAME_BYTES, CHANNEL_CREDIT_FRAMES as usize);
    Outbox { local: Vec::new(), remote: Vec::new(), slab }
}

fn channel<T: Record>(peer_shard: u32) -> Channel<T> {
    let deal = Some(Deal::KeyGroup);
    Channel::new(ChannelPlan { channel: ChannelId(9), peer_shard, deal }, OWN_SHARD)
}

/// Pushes a row that is not refused.
fn push<T: Record>(channel: &mut Channel<T>, value: T) -> bool {
    channel.push(row(value), &mut Arena::new()).expect("within the limits")
}

fn row<T>(value: T) -> Row<T> {
    Row::new(value, 0, Origin::NONE)
}

/// What a receiver saw, in order.
#[derive(Debug, Clone, PartialEq)]
enum Seen<T> {
    Row(T),
    Control(Control),
}

/// Takes everything that has left; emptied containers wait in `held`.
fn receive<T: Record>(outbox: &mut Outbox, seen: &mut Vec<Seen<T>>, held: &mut VecDeque<Returned>) {
    for (_, element) in outbox.local.drain(..) {
        match element {
            Element::Batch(Batch::Rows(rows)) => {
                let mut rows = rows.into_rows::<T>();
                seen.extend(rows.drain(..).map(|row| Seen::Row(row.value)));
                held.push_back(Returned::Rows(Box::new(rows)));
            }
            Element::Batch(Batch::Frame(_)) => panic!("a frame within a shard"),
            Element::Control(control) => seen.push(Seen::Control(control)),
        }
    }
    for (_, descriptor) in outbox.remote.drain(..) {
        match descriptor {
            Descriptor::Frame { frame, .. } => {
                seen.extend(frame.rows::<T>().iter().map(|row| Seen::Row(row.to_row().value)));
                held.push_back(Returned::Buffer(frame.into_buffer()));
            }
            Descriptor::Control { control, .. } => seen.push(Seen::Control(control)),
            other => panic!("a channel does not send {other:?}"),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push(u32),
    Control(u64),
    Flush,
    Return,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u32..200).prop_map(Step::Push),
        1 => (1_u64..4).prop_map(Step::Control),
        2 => Just(Step::Flush),
        2 => Just(Step::Return),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    /// What arrives is what was sent, in order; never more batches are away than there are
    /// credits; and in the end every buffer is home.
    #[test]
    fn a_channel_is_fifo_lossless_and_bounded(steps in steps(), peer_shard in 0_u32..2) {
        let (mut channel, mut outbox) = (channel::<u64>(peer_shard), outbox());
        let (mut sent, mut seen, mut held) = (Vec::new(), Vec::new(), VecDeque::new());
        let mut next = 0;
        for step in steps {
            match step {
                Step::Push(count) => {
                    for _ in 0..count {
                        if channel.is_full() {
                            break;
                        }
                        push(&mut channel, next);
                        sent.push(Seen::Row(next));
                        next += 1;
                    }
                }
                Step::Control(id) => {
                    channel.control(Control::Barrier(CheckpointId(id)));
                    sent.push(Seen::Control(Control::Barrier(CheckpointId(id))));
                }
                Step::Flush => channel.flush(&mut outbox),
                Step::Return => {
                    if let Some(returned) = held.pop_front() {
                        channel.on_returned(returned, &mut outbox.slab);
                    }
                }
            }
            receive(&mut outbox, &mut seen, &mut held);
            prop_assert!(channel.in_flight_count() <= CHANNEL_CREDIT_FRAMES);
            prop_assert_eq!(channel.in_flight_count() as usize, held.len());
            prop_assert!(seen.len() <= sent.len());
        }
        while !channel.is_empty() {
            channel.flush(&mut outbox);
            receive(&mut outbox, &mut seen, &mut held);
            held.drain(..).for_each(|returned| channel.on_returned(returned, &mut outbox.slab));
        }
        held.drain(..).for_each(|returned| channel.on_returned(returned, &mut outbox.slab));
        prop_assert_eq!(seen, sent);
        prop_assert_eq!(outbox.slab.outstanding(), 0);
        prop_assert_eq!(channel.load().bytes, 0);
    }

    /// Rows of any size, up to the limit, arrive whole, however they share frames.
    #[test]
    fn rows_of_any_size_arrive(sizes in proptest::collection::vec(0_usize..40_000, 1..60)) {
        let (mut channel, mut outbox) = (channel::<Vec<u8>>(1), outbox());
        let (mut seen, mut held) = (Vec::new(), VecDeque::new());
        let rows: Vec<_> = sizes.iter().enumerate().map(|(i, size)| vec![i as u8; *size]).collect();
        for value in &rows {
            push(&mut channel, value.clone());
        }
        while !channel.is_empty() {
            channel.flush(&mut outbox);
            receive(&mut outbox, &mut seen, &mut held);
            held.drain(..).for_each(|returned| channel.on_returned(returned, &mut outbox.slab));
        }
        let expected: Vec<_> = rows.into_iter().map(Seen::Row).collect();
        prop_assert_eq!(seen, expected);
    }
}

/// Whether rows leave the shard or not.
#[test]
fn a_row_beyond_the_limit_is_refused_and_the_others_go_on() {
    for peer_shard in [OWN_SHARD, 1] {
        let (mut channel, mut outbox) = (channel::<Vec<u8>>(peer_shard), outbox());
        let (mut seen, mut held) = (Vec::<Seen<Vec<u8>>>::new(), VecDeque::new());
        let overhead_bytes = frame_bytes::<Vec<u8>>(0, 1);
        push(&mut channel, vec![1; 3]);
        let beyond = row(vec![0; ROW_BYTES_MAX - overhead_bytes + 1]);
        let refused = channel.push(beyond, &mut Arena::new()).expect_err("too large");
        assert!(matches!(refused, ArchiveError::Overflow { .. }), "{refused}");
        push(&mut channel, vec![2; ROW_BYTES_MAX - overhead_bytes]);
        push(&mut channel, vec![3; 3]);
        channel.flush(&mut outbox);
        receive(&mut outbox, &mut seen, &mut held);
        let sizes: Vec<_> = seen
            .iter()
            .map(|seen| match seen {
                Seen::Row(row) => (row[0], row.len()),
                Seen::Control(_) => unreachable!("none was sent"),
            })
            .collect();
        assert_eq!(sizes, [(1, 3), (2, ROW_BYTES_MAX - overhead_bytes), (3, 3)]);
    }
}

#[test]
fn a_batch_fills_a_frame_and_no_more() {
    fn check<T: Record + PartialEq + fmt::Debug>(value: &T, count: usize, frames: &[usize]) {
        let (mut channel, mut outbox) = (channel::<T>(1), outbox());
        for _ in 0..count {
            push(&mut channel, value.clone());
        }
        channel.flush(&mut outbox);
        let row_counts: Vec<_> = outbox
            .remote
            .iter()
            .map(|(_, descriptor)| match descriptor {
                Descriptor::Frame { frame, .. } => {
                    assert!(frame.size_bytes() <= FRAME_BYTES);
                    frame.row_count() as usize
                }
                other => panic!("a channel does not send {other:?}"),
            })
            .collect();
        assert_eq!(row_counts, frames);
    }
    check(&[7_u64; 8], 600, &[256, 256, 88]);
    check(&[7_u64; 61], 200, &[63, 63, 63, 11]);
    check(&"x".repeat(1000), 100, &[31, 31, 31, 7]);
    check(&"x".repeat(20), 300, &[256, 44]);
}

#[test]
fn vectors_are_reused_and_do_not_accumulate() {
    let (mut channel, mut outbox) = (channel::<String>(1), outbox());
    let (mut seen, mut held) = (Vec::<Seen<String>>::new(), VecDeque::new());
    for _ in 0..1000 {
        for _ in 0..100 {
            push(&mut channel, "x".repeat(1000));
        }
        while !channel.is_empty() {
            channel.flush(&mut outbox);
            receive(&mut outbox, &mut seen, &mut held);
            held.drain(..).for_each(|returned| channel.on_returned(returned, &mut outbox.slab));
        }
        assert!(channel.spare.len() <= SPARE_COUNT_MAX, "{} are kept", channel.spare.len());
    }
    assert_eq!(seen.len(), 100_000);
}

#[test]
#[should_panic(expected = "a batch was given back with rows in it")]
fn a_container_comes_back_empty() {
    let (mut channel, mut outbox) = (channel::<u64>(OWN_SHARD), outbox());
    push(&mut channel, 1);
    channel.flush(&mut outbox);
    channel.on_returned(Returned::Rows(Box::new(vec![row(1_u64)])), &mut outbox.slab);
}

#[test]
fn without_a_credit_rows_wait_and_the_channel_becomes_full() {
    let (mut channel, mut outbox) = (channel::<u64>(1), outbox());
    for n in 0..u64::from(CHANNEL_CREDIT_FRAMES) {
        push(&mut channel, n);
        channel.flush(&mut outbox);
    }
    assert_eq!(outbox.remote.len(), CHANNEL_CREDIT_FRAMES as usize);
    for n in 0..BATCH_ROWS_MAX as u64 {
        assert!(!channel.is_full(), "full after {n} rows");
        push(&mut channel, n);
        channel.flush(&mut outbox);
    }
    assert!(channel.is_full());
    assert_eq!(outbox.remote.len(), CHANNEL_CREDIT_FRAMES as usize);
    let in_flight_bytes = CHANNEL_CREDIT_FRAMES as usize * frame_bytes::<u64>(0, 1);
    let waiting_bytes = frame_bytes::<u64>(0, BATCH_ROWS_MAX);
    let bytes = (in_flight_bytes + waiting_bytes) as u64;
    assert_eq!(channel.load(), Load { bytes, waiting_batches_max: 1 });
}

/// Rows of 20,000 bytes: one fits into a frame.
#[test]
fn a_channel_that_fills_by_bytes_says_so_at_once() {
    let (mut channel, mut outbox) = (channel::<Vec<u8>>(1), outbox());
    for _ in 0..CHANNEL_CREDIT_FRAMES {
        push(&mut channel, vec![7; 20_000]);
        channel.flush(&mut outbox);
    }
    assert!(!push(&mut channel, vec![7; 20_000]), "an open batch waits for nothing yet");
    assert!(push(&mut channel, vec![7; 20_000]), "the first of two has no credit to leave with");
    assert!(channel.is_full());
}

#[test]
fn of_watermarks_that_wait_only_the_last_is_sent() {
    let (mut channel, mut outbox) = (channel::<u64>(1), outbox());
    let (mut seen, mut held) = (Vec::<Seen<u64>>::new(), VecDeque::new());
    for n in 0..=u64::from(CHANNEL_CREDIT_FRAMES) {
        push(&mut channel, n);
        channel.control(Control::Watermark(n as i64));
        channel.control(Control::Watermark(n as i64 + 100));
        channel.flush(&mut outbox);
    }
    receive(&mut outbox, &mut seen, &mut held);
    assert_eq!(seen.len(), 2 * CHANNEL_CREDIT_FRAMES as usize);
    assert_eq!(seen[1], Seen::Control(Control::Watermark(100)));
}

/// The values archived in `frames`.
fn values(frames: Vec<Vec<u8>>) -> Vec<u64> {
    let value = |bytes: Vec<u8>| {
        let mut buffer = Buffer::heap(bytes.len());
        buffer.extend_from_slice(&bytes);
        let frame = Frame::validate::<u64>(buffer).expect("just archived");
        frame.rows::<u64>().iter().map(|row| row.to_row().value).collect::<Vec<_>>()
    };
    frames.into_iter().flat_map(value).collect()
}

fn barrier(id: u64) -> Control {
    Control::Barrier(CheckpointId(id))
}

/// A channel without a credit, and rows 5 and 6 in it with a barrier behind them.
fn stuck(peer_shard: u32, outbox: &mut Outbox) -> Channel<u64> {
    let mut channel = channel::<u64>(peer_shard);
    for value in 1..=4 {
        push(&mut channel, value);
        channel.flush(outbox);
    }
    push(&mut channel, 5);
    channel.control(Control::Watermark(50));
    push(&mut channel, 6);
    channel.control(barrier(7));
    push(&mut channel, 8);
    channel.flush(outbox);
    channel
}

#[test]
fn a_barrier_overtakes_what_has_not_left_and_that_is_told() {
    for peer_shard in 0..2 {
        let (mut outbox, mut seen, mut held) = (outbox(), Vec::<Seen<u64>>::new(), VecDeque::new());
        let mut channel = stuck(peer_shard, &mut outbox);
        receive(&mut outbox, &mut seen, &mut held);
        assert_eq!(seen.len(), 4, "there is no credit for more");
        assert!(channel.holds_barrier(CheckpointId(7)) && !channel.holds_barrier(CheckpointId(8)));
        assert_eq!(values(channel.overtake(CheckpointId(7))), [5, 6]);
        channel.control(barrier(8));
        assert_eq!(values(channel.overtake(CheckpointId(8))), [5, 6, 8]);
        assert_eq!(values(channel.overtake(CheckpointId(7))), [0; 0], "it is ahead already");
        channel.flush(&mut outbox);
        assert!(!channel.holds_barrier(CheckpointId(7)), "it has left");
        while !channel.is_empty() {
            receive(&mut outbox, &mut seen, &mut held);
            held.drain(..).for_each(|it| channel.on_returned(it, &mut outbox.slab));
            channel.flush(&mut outbox);
        }
        receive(&mut outbox, &mut seen, &mut held);
        let expected = [
            Seen::Control(barrier(7)),
            Seen::Control(barrier(8)),
            Seen::Row(5),
            Seen::Control(Control::Watermark(50)),
            Seen::Row(6),
            Seen::Row(8),
        ];
        assert_eq!(seen[4..], expected);
    }
}

#[test]
fn no_barrier_overtakes_rows_that_every_task_gets() {
    let mut outbox = outbox();
    let mut channel = stuck(0, &mut outbox);
    channel.plan.deal = None;
    assert!(!channel.holds_barrier(CheckpointId(7)), "nobody has to wait for it to leave");
    assert_eq!(channel.overtake(CheckpointId(7)), [[0; 0]; 0]);
    assert_eq!(channel.queued_row_count(), 3);
}

#[test]
fn a_barrier_goes_ahead_of_the_end_and_none_comes_behind_it() {
    let (mut outbox, mut seen, mut held) = (outbox(), Vec::new(), VecDeque::new());
    let mut channel = channel::<u64>(0);
    channel.control(Control::EndOfStream);
    channel.control(barrier(7));
    channel.flush(&mut outbox);
    channel.control(barrier(8));
    channel.flush(&mut outbox);
    receive::<u64>(&mut outbox, &mut seen, &mut held);
    let expected = [Seen::Control(barrier(7)), Seen::Control(Control::EndOfStream)];
    assert_eq!(seen, expected);
    assert!(channel.is_empty());
}
