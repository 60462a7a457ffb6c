//! Channels as the input of a task.
//!
//! Each channel is a queue of elements that have arrived; [`ChannelFeed`] takes them in turn, one
//! piece from a channel and on to the next, so no channel waits for more than one piece of every
//! other. A channel that barrier alignment has blocked keeps its queue.
//!
//! Invariant: rows of a channel are taken in order, and before any control element behind them.

use std::collections::VecDeque;

use millstream_net::io::SocketDone;
use millstream_storage::io::FileDone;

use crate::data::ahead::{Ahead, HashGroup};
use crate::data::element::{CheckpointId, Control, Element};
use crate::error::Error;
use crate::exchange::channel::Returned;
use crate::graph::plan::{ChannelPlan, TaskPlan};
use crate::limits::CHANNEL_CREDIT_FRAMES;
use crate::operator::{Chain, Output, TaskEnv};
use crate::state::snapshot::Snapshot;
use crate::task::align::{Aligner, Alignment};
use crate::task::decode::{Decoder, OpenBatch};
use crate::task::feed::{Fed, Feed};
use crate::time::watermark::WatermarkCombiner;

/// The input channels of one task.
pub struct ChannelFeed<D: Decoder> {
    decoder: D,
    channels: Vec<Incoming<D::Open>>,
    combiner: WatermarkCombiner,
    aligner: Aligner,
    /// What has been decided and not handed on yet.
    due: VecDeque<Fed>,
    /// Which channel has its turn next.
    next: usize,
    open_count: usize,
    row_count: u64,
    watermark_ms: i64,
}

/// The receiving end of one channel.
struct Incoming<O> {
    plan: ChannelPlan,
    input: usize,
    queue: VecDeque<Element>,
    open: Option<O>,
    batch_count: u32,
}

impl<O> Incoming<O> {
    fn has_some(&self) -> bool {
        self.open.is_some() || !self.queue.is_empty()
    }
}

impl<D: Decoder> ChannelFeed<D> {
    /// The channels of `plan`'s inputs, read by `decoder`.
    pub fn new(plan: &TaskPlan, decoder: D) -> Self {
        let incoming = |(input, plan)| Incoming {
            plan,
            input,
            queue: VecDeque::new(),
            open: None,
            batch_count: 0,
        };
        let plans = plan.inputs.iter().enumerate();
        let plans =
            plans.flat_map(|(index, input)| input.channels.iter().map(move |c| (index, *c)));
        let channels: Vec<_> = plans.map(incoming).collect();
        let count = channels.len();
        Self {
            decoder,
            channels,
            combiner: WatermarkCombiner::new(count),
            aligner: Aligner::new(count),
            due: VecDeque::new(),
            next: 0,
            open_count: count,
            row_count: 0,
            watermark_ms: crate::data::row::NO_EVENT_TIME,
        }
    }

    /// The next channel, from `next` on, that has something and is not blocked.
    fn pick(&self) -> Option<usize> {
        let count = self.channels.len();
        let mut candidates = (self.next..count).chain(0..self.next);
        candidates.find(|&index| self.channels[index].has_some() && !self.aligner.is_blocked(index))
    }

    /// Feeds the rows of the channel's open batch while there is budget.
    fn feed_rows<C: Chain<In = D::Out>>(
        &mut self,
        index: usize,
        chain: &mut C,
        env: &TaskEnv,
        out: &mut impl Output<C::Out>,
        returns: &mut Vec<(ChannelPlan, Returned)>,
    ) {
        let channel = &mut self.channels[index];
        let Some(open) = &mut channel.open else { return };
        let (mut now, mut near) = (HashGroup::default(), open.peek(0));
        chain.prefetch(Ahead { near: now.as_slice(), far: near.as_slice() });
        loop {
            let far = open.peek(now.len() + near.len());
            chain.prefetch(Ahead { near: near.as_slice(), far: far.as_slice() });
            if now.is_empty() && near.is_empty() {
                break;
            }
            for _ in 0..now.len() {
                if !env.spend() {
                    return;
                }
                let Some(row) = self.decoder.next(open) else { break };
                self.row_count += 1;
                env.begin_row(&row);
                chain.on_row(row, env, out);
            }
            (now, near) = (near, far);
        }
        if let Some(open) = channel.open.take() {
            channel.batch_count -= 1;
            returns.push((channel.plan, open.close()));
        }
    }

    /// Takes a control element. What follows from it is appended to `due`.
    fn on_control(&mut self, index: usize, element: Element) {
        let raised = match element {
            Element::Batch(batch) => {
                self.combiner.on_active(index);
                let channel = &mut self.channels[index];
                channel.open = Some(self.decoder.open(channel.input, batch));
                None
            }
            Element::Control(Control::Watermark(watermark_ms)) => {
                self.combiner.on_watermark(index, watermark_ms)
            }
            Element::Control(Control::Idle) => {
                let raised = self.combiner.on_idle(index);
                if self.combiner.is_idle() {
                    self.due.push_back(Fed::Idle);
                }
                raised
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
                    self.due.push_back(Fed::End);
                    return;
                }
                self.combiner.on_end(index)
            }
        };
        if let Some(watermark_ms) = raised {
            self.watermark_ms = watermark_ms;
            self.due.push_back(Fed::Watermark(watermark_ms));
        }
    }

    fn on_alignment(&mut self, alignment: Alignment) {
        if let Alignment::Aligned(checkpoint) = alignment {
            self.due.push_back(Fed::Barrier(checkpoint));
        }
    }
}

impl<D: Decoder> Feed for ChannelFeed<D> {
    type Out = D::Out;

    fn open(&mut self, _name: &str, _env: &TaskEnv) -> Result<(), Error> {
        Ok(())
    }

    fn source_name(&self) -> &'static str {
        ""
    }

    fn feed<C: Chain<In = D::Out>>(
        &mut self,
        chain: &mut C,
        env: &TaskEnv,
        out: &mut impl Output<C::Out>,
        returns: &mut Vec<(ChannelPlan, Returned)>,
    ) -> Fed {
        if let Some(due) = self.due.pop_front() {
            return due;
        }
        env.wants_turn.set(false);
        let Some(index) = self.pick() else { return Fed::Nothing };
        if self.channels[index].open.is_none()
            && let Some(element) = self.channels[index].queue.pop_front()
        {
            self.on_control(index, element);
        }
        if self.channels[index].open.is_some() {
            self.feed_rows(index, chain, env, out, returns);
            self.next = (index + 1) % self.channels.len();
        }
        self.due.pop_front().unwrap_or(Fed::Some)
    }

    fn input_count(&self) -> usize {
        self.channels.len()
    }

    fn is_ready(&self, _now_ms: i64) -> bool {
        !self.due.is_empty() || self.pick().is_some()
    }

    fn next_time_ms(&self) -> Option<i64> {
        None
    }

    fn on_element(&mut self, slot: usize, element: Element) {
        let channel = &mut self.channels[slot];
        if let Element::Batch(_) = element {
            channel.batch_count += 1;
            assert!(
                channel.batch_count <= CHANNEL_CREDIT_FRAMES,
                "channel {:?} got a batch without a credit",
                channel.plan.channel,
            );
        }
        channel.queue.push_back(element);
    }

    fn on_file_done(&mut self, done: FileDone, _env: &TaskEnv) {
        panic!("an answer for a source, and this task has none: {done:?}");
    }

    fn on_socket_done(&mut self, done: SocketDone, _env: &TaskEnv) {
        panic!("an answer for a source, and this task has none: {done:?}");
    }

    fn drain(&mut self) {}

    fn trigger(&mut self, _checkpoint: CheckpointId) {}

    fn row_count(&self) -> u64 {
        self.row_count
    }

    fn queued_count(&self) -> u64 {
        self.channels.iter().map(|c| c.queue.len() + usize::from(c.open.is_some())).sum::<usize>()
            as u64
    }

    fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    fn snapshot(&self, _snapshot: &mut Snapshot) {}

    fn restore(&mut self, _snapshot: &Snapshot, _env: &TaskEnv) -> Result<(), Error> {
        Ok(())
    }
}
