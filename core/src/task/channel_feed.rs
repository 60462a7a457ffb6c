//! Channels as the input of a task.
//!
//! Each channel is a queue of elements that have arrived; [`ChannelFeed`] takes them in turn, as
//! many rows as the round's limit says with the control elements before them, and on to the next,
//! so no channel waits for more than that of every other. A channel that barrier alignment has
//! blocked keeps its queue.
//!
//! Rows that the job began with go before all channels.
//!
//! Invariants: rows of a channel are taken in order, and before any control element behind them;
//! what is due is carried out before the next row is taken.
//! Not here: cuts that do not wait for barriers (`channel_feed/unaligned.rs`).

mod unaligned;

use std::collections::VecDeque;

use millstream_net::io::SocketDone;
use millstream_storage::io::FileDone;

use crate::data::ahead::{Ahead, HashGroup};
use crate::data::element::{CheckpointId, Control, Element};
use crate::data::row::{MAX_WATERMARK, NO_EVENT_TIME};
use crate::error::Error;
use crate::exchange::channel::Returned;
use crate::graph::plan::{ChannelPlan, TaskPlan};
use crate::limits::CHANNEL_CREDIT_FRAMES;
use crate::operator::{Chain, Output, TaskEnv};
use crate::state::snapshot::Snapshot;
use crate::task::align::{Aligner, Alignment};
use crate::task::decode::{Decoded, Decoder, OpenBatch};
use crate::task::feed::{Due, Feed};
use crate::task::incoming::Incoming;
use crate::task::recorder::Recorder;
use crate::task::replay::Replay;
use crate::time::watermark::WatermarkCombiner;

/// The input channels of one task.
pub struct ChannelFeed<D: Decoder> {
    plan: TaskPlan,
    decoder: D,
    replay: Replay<D::Open>,
    recorder: Recorder,
    channels: Vec<Incoming<D::Open>>,
    combiner: WatermarkCombiner,
    aligner: Aligner,
    /// What has been decided and not handed on yet.
    due: VecDeque<Due>,
    /// Which channel has its turn next.
    next: usize,
    /// How many channels have not had their turn in this round.
    left_count: usize,
    /// How many rows a channel may give in this round, and how many the next one still may.
    row_limit: u32,
    left_rows: u32,
    /// The next channel has begun its turn and not ended it.
    is_amid: bool,
    open_count: usize,
    row_count: u64,
    watermark_ms: i64,
}

impl<D: Decoder> ChannelFeed<D> {
    /// The channels of `plan`'s inputs, read by `decoder`.
    pub fn new(plan: &TaskPlan, decoder: D) -> Self {
        let inputs = plan.inputs.iter().enumerate();
        let channels = inputs.flat_map(|(index, input)| {
            input.channels.iter().map(move |plan| Incoming::new(index, *plan))
        });
        let channels: Vec<_> = channels.collect();
        let count = channels.len();
        Self {
            plan: plan.clone(),
            decoder,
            replay: Replay::none(),
            recorder: Recorder::default(),
            channels,
            combiner: WatermarkCombiner::new(count),
            aligner: Aligner::new(count),
            // A task that nobody sends to has nothing to wait for.
            due: (count == 0).then_some(Due::End).into_iter().collect(),
            next: 0,
            left_count: 0,
            row_limit: 0,
            left_rows: 0,
            is_amid: false,
            open_count: count,
            row_count: 0,
            watermark_ms: NO_EVENT_TIME,
        }
    }

    fn can_read(&self, index: usize) -> bool {
        self.channels[index].has_some() && !self.aligner.is_blocked(index)
    }

    /// The next channel of this round that can be read. Those before it have had their turn.
    fn pick(&mut self) -> Option<usize> {
        while 0 < self.left_count {
            if self.can_read(self.next) {
                return Some(self.next);
            }
            self.pass();
        }
        None
    }

    /// The next channel has had its turn.
    fn pass(&mut self) {
        self.left_count -= 1;
        self.left_rows = self.row_limit;
        self.next = (self.next + 1) % self.channels.len();
    }

    /// Takes the control elements before the channel's next row, until something is due. That a
    /// channel is idle waits for the next round if it `has_given` rows in this one: what the task
    /// tells its outputs in between must say that it was not.
    fn take_controls(&mut self, index: usize, has_given: bool) {
        let is_idle = |element: &Element| matches!(element, Element::Control(Control::Idle));
        while self.due.is_empty()
            && !self.aligner.is_blocked(index)
            && self.channels[index].open.is_none()
            && !(has_given && self.channels[index].front().is_some_and(is_idle))
            && let Some(element) = self.channels[index].pop()
        {
            self.on_element(index, element);
        }
    }

    /// Feeds the channel's rows while there is budget, until it has no more or something is due.
    fn feed_channel<C: Chain<In = D::Out>>(
        &mut self,
        index: usize,
        chain: &mut C,
        env: &TaskEnv,
        out: &mut impl Output<C::Out>,
        returns: &mut Vec<(ChannelPlan, Returned)>,
    ) {
        loop {
            self.take_controls(index, env.budget() < self.row_limit);
            let has_rows = self.channels[index].open.is_some() && self.can_read(index);
            if !self.due.is_empty() || !has_rows || env.budget() == 0 {
                return;
            }
            let channel = &mut self.channels[index];
            let Some(open) = &mut channel.open else { return };
            if feed_rows((&mut self.decoder, open), &mut self.row_count, chain, env, out)
                && let Some(open) = channel.open.take()
            {
                channel.batch_count -= 1;
                returns.push((channel.plan, self.decoder.close(open)));
            }
        }
    }

    /// Feeds rows that the job began with while there is budget.
    fn feed_replay<C: Chain<In = D::Out>>(
        &mut self,
        chain: &mut C,
        env: &TaskEnv,
        out: &mut impl Output<C::Out>,
    ) {
        while env.budget() != 0
            && let Some(open) = self.replay.next(&mut self.decoder)
        {
            if feed_rows((&mut self.decoder, open), &mut self.row_count, chain, env, out)
                && let Some(open) = self.replay.pass()
            {
                // Nobody waits for the container.
                drop(self.decoder.close(open));
            }
        }
    }

    /// Takes an element. What follows from it is appended to `due`.
    fn on_element(&mut self, index: usize, element: Element) {
        let raised = match element {
            Element::Batch(batch) => {
                let channel = &mut self.channels[index];
                channel.open = Some(self.decoder.open(channel.input, batch));
                None
            }
            Element::Control(Control::Watermark(watermark_ms)) => {
                self.combiner.on_watermark(index, watermark_ms)
            }
            Element::Control(Control::Idle) => self.combiner.on_idle(index),
            Element::Control(Control::Active) => {
                self.combiner.on_active(index);
                None
            }
            Element::Control(Control::Barrier(checkpoint)) => {
                let alignment = self.aligner.on_barrier(index, checkpoint);
                self.on_alignment(alignment);
                None
            }
            Element::Control(Control::EndOfStream) => {
                let alignment = self.aligner.on_end(index);
                self.on_alignment(alignment);
                self.open_count -= 1;
                if self.open_count == 0 {
                    self.due.push_back(Due::End);
                    return;
                }
                self.combiner.on_end(index)
            }
        };
        // The end of event time comes with the end of the input.
        if let Some(watermark_ms) = raised.filter(|raised_ms| *raised_ms < MAX_WATERMARK) {
            self.watermark_ms = watermark_ms;
            self.due.push_back(Due::Watermark(watermark_ms));
        }
    }

    fn on_alignment(&mut self, alignment: Alignment) {
        if let Alignment::Aligned(checkpoint) = alignment {
            self.due.push_back(Due::Barrier(checkpoint));
        }
    }
}

/// Feeds the rows of an open batch while there is budget. Whether it has been read.
fn feed_rows<D: Decoder, C: Chain<In = D::Out>>(
    (decoder, open): (&mut D, &mut D::Open),
    row_count: &mut u64,
    chain: &mut C,
    env: &TaskEnv,
    out: &mut impl Output<C::Out>,
) -> bool {
    let (mut now, mut near) = (HashGroup::default(), open.peek(0));
    chain.prefetch(Ahead { near: now.as_slice(), far: near.as_slice() });
    loop {
        let far = open.peek(now.len() + near.len());
        chain.prefetch(Ahead { near: near.as_slice(), far: far.as_slice() });
        if now.is_empty() && near.is_empty() {
            break;
        }
        // Charged as a group; what operators take of the budget meanwhile counts at once.
        let (group_len, mut done_len) = (now.len() as u32, 0);
        while done_len < group_len.min(env.budget()) {
            done_len += 1;
            match decoder.next(open, env) {
                Decoded::Row(row) => {
                    *row_count += 1;
                    env.begin_row(&row);
                    chain.on_row(row, env, out);
                }
                Decoded::Nothing => *row_count += 1,
                Decoded::End => break,
            }
        }
        env.spend_more(done_len);
        if done_len < group_len {
            return false;
        }
        (now, near) = (near, far);
    }
    true
}

impl<D: Decoder> Feed for ChannelFeed<D> {
    type Out = D::Out;

    fn open(&mut self, _name: &str, _env: &TaskEnv) -> Result<(), Error> {
        Ok(())
    }

    fn source_name(&self) -> &'static str {
        ""
    }

    fn begin_round(&mut self, row_limit: u32) {
        if self.is_amid {
            // The round ended because nothing more could be taken; others go first now.
            self.next = (self.next + 1) % self.channels.len();
            self.is_amid = false;
        }
        self.left_count = self.channels.len();
        self.row_limit = row_limit;
        self.left_rows = row_limit;
    }

    fn feed<C: Chain<In = D::Out>>(
        &mut self,
        chain: &mut C,
        env: &TaskEnv,
        out: &mut impl Output<C::Out>,
        returns: &mut Vec<(ChannelPlan, Returned)>,
    ) -> bool {
        let may_feed = self.due.is_empty() || !self.replay.is_empty();
        debug_assert!(may_feed, "what is due goes first");
        env.wants_turn.set(false);
        if !self.replay.is_empty() {
            env.set_budget(self.left_rows);
            self.feed_replay(chain, env, out);
            self.left_rows = env.budget();
            return self.replay.is_empty();
        }
        let Some(index) = self.pick() else { return false };
        self.is_amid = true;
        env.set_budget(self.left_rows);
        self.feed_channel(index, chain, env, out, returns);
        self.left_rows = env.budget();
        if self.due.is_empty() || self.left_rows == 0 {
            self.pass();
        }
        true
    }

    fn pop_due(&mut self) -> Option<Due> {
        // The end of no input comes behind the rows that the job began with.
        self.due.pop_front_if(|_| self.replay.is_empty())
    }

    fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    fn is_idle(&self, _env: &TaskEnv) -> bool {
        self.combiner.is_idle() && self.replay.is_empty()
    }

    fn is_ready(&self, _now_ms: i64) -> bool {
        self.has_due()
            || !self.replay.is_empty()
            || (0..self.channels.len()).any(|index| self.can_read(index))
    }

    fn next_time_ms(&self) -> Option<i64> {
        None
    }

    fn on_element(&mut self, slot: usize, element: Element) {
        let channel = &mut self.channels[slot];
        match &element {
            Element::Batch(batch) => {
                channel.batch_count += 1;
                assert!(
                    channel.batch_count <= CHANNEL_CREDIT_FRAMES,
                    "channel {:?} got a batch without a credit",
                    channel.plan.channel,
                );
                self.recorder.on_batch(slot, batch);
            }
            Element::Control(Control::Barrier(checkpoint)) => {
                if self.recorder.on_barrier(slot, *checkpoint) {
                    return;
                }
            }
            Element::Control(Control::EndOfStream) => self.recorder.on_end(slot),
            Element::Control(_) => {}
        }
        channel.push(element);
    }

    fn on_file_done(&mut self, done: FileDone, _env: &TaskEnv) {
        panic!("an answer for a source, and this task has none: {done:?}");
    }

    fn on_socket_done(&mut self, done: SocketDone, _env: &TaskEnv) {
        panic!("an answer for a source, and this task has none: {done:?}");
    }

    fn drain(&mut self, _env: &TaskEnv) {}

    fn halt(&mut self) {}

    fn trigger(&mut self, _checkpoint: CheckpointId) {}

    fn row_count(&self) -> u64 {
        self.row_count
    }

    fn queued_count(&self) -> u64 {
        let channels = self.channels.iter().map(Incoming::len);
        (self.replay.len() + channels.sum::<usize>()) as u64
    }

    fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    fn snapshot(&self, _snapshot: &mut Snapshot, _env: &TaskEnv) {}

    fn restore(&mut self, snapshot: &Snapshot, _env: &TaskEnv) -> Result<(), Error> {
        self.replay = Replay::of(snapshot, &self.plan, &self.decoder)?;
        Ok(())
    }

    fn has_barrier(&self) -> bool {
        self.aligner.is_aligning() || self.channels.iter().any(Incoming::has_barrier)
    }

    fn can_cut(&self, checkpoint: CheckpointId) -> bool {
        self.can_cut_unaligned(checkpoint)
    }

    fn cut(&mut self, checkpoint: CheckpointId, snapshot: &mut Snapshot) {
        if self.aligner.has_aligned(checkpoint) {
            self.due.retain(|due| *due != Due::Barrier(checkpoint));
        } else {
            self.cut_unaligned(checkpoint, snapshot);
        }
    }

    fn is_recorded(&self, checkpoint: CheckpointId) -> bool {
        self.recorder.is_complete(checkpoint)
    }

    fn take_recorded(&mut self, checkpoint: CheckpointId, snapshot: &mut Snapshot) {
        self.save_recorded(checkpoint, snapshot);
    }
}
