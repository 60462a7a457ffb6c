//! The receiving end of one channel: the elements that have arrived and were not taken.
//!
//! Batches are bounded by credits. Control elements need none, so a watermark or a state that
//! arrives behind another one takes its place.
//!
//! Invariant: elements leave in the order in which they came.

use std::collections::VecDeque;

use crate::data::element::{CheckpointId, Control, Element};
use crate::graph::plan::ChannelPlan;
use crate::task::decode::OpenBatch;
use crate::task::recorder::Recorded;

/// See the module.
pub(super) struct Incoming<O> {
    pub(super) plan: ChannelPlan,
    /// Of which logical input.
    pub(super) input: usize,
    queue: VecDeque<Element>,
    /// The batch that is being read.
    pub(super) open: Option<O>,
    /// Batches that the sender has not got back.
    pub(super) batch_count: u32,
    /// Elements in the queue that nothing makes superfluous: batches, barriers, the end.
    kept_count: usize,
}

/// What ends an epoch in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EpochEnd {
    Barrier,
    EndOfStream,
}

impl<O: OpenBatch> Incoming<O> {
    pub(super) fn new(input: usize, plan: ChannelPlan) -> Self {
        Self { plan, input, queue: VecDeque::new(), open: None, batch_count: 0, kept_count: 0 }
    }

    pub(super) fn push(&mut self, element: Element) {
        let controls = self.queue.iter().rev().map(|element| match element {
            Element::Control(control) => Some(*control),
            Element::Batch(_) => None,
        });
        let superseded = match &element {
            Element::Control(control) => control.superseded(controls),
            Element::Batch(_) => None,
        };
        if let Some(back) = superseded {
            let index = self.queue.len() - 1 - back;
            self.queue[index] = element;
            return;
        }
        self.kept_count += usize::from(is_kept(&element));
        self.queue.push_back(element);
        let len_max = 3 * self.kept_count + 2;
        assert!(self.queue.len() <= len_max, "{:?} queues without bound", self.plan.channel);
    }

    pub(super) fn pop(&mut self) -> Option<Element> {
        let element = self.queue.pop_front()?;
        self.kept_count -= usize::from(is_kept(&element));
        Some(element)
    }

    pub(super) fn front(&self) -> Option<&Element> {
        self.queue.front()
    }

    pub(super) fn has_some(&self) -> bool {
        self.open.is_some() || !self.queue.is_empty()
    }

    /// Elements, and the batch that is being read.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + usize::from(self.open.is_some())
    }

    pub(super) fn has_barrier(&self) -> bool {
        let is_barrier =
            |element: &Element| matches!(element, Element::Control(Control::Barrier(_)));
        self.kept_count != 0 && self.queue.iter().any(is_barrier)
    }

    /// Where the epoch of `checkpoint` ends in the queue, if it does, and with what.
    pub(super) fn end_of(&self, checkpoint: CheckpointId) -> Option<(usize, EpochEnd)> {
        let ends = self.queue.iter().map(|element| match element {
            Element::Control(Control::Barrier(other)) if *other == checkpoint => {
                Some(EpochEnd::Barrier)
            }
            Element::Control(Control::EndOfStream) => Some(EpochEnd::EndOfStream),
            _ => None,
        });
        ends.enumerate().find_map(|(index, end)| Some((index, end?)))
    }

    /// What is there before the barrier of `checkpoint`. The barrier itself goes.
    pub(super) fn record(&mut self, checkpoint: CheckpointId) -> Recorded {
        let end = self.end_of(checkpoint);
        let before = self.queue.range(..end.map_or(self.queue.len(), |(index, _)| index));
        let batches = before.filter_map(|element| match element {
            Element::Batch(batch) => Some(batch.archive()),
            Element::Control(_) => None,
        });
        let rest = self.open.as_ref().and_then(OpenBatch::rest);
        let frames = rest.into_iter().chain(batches).collect();
        if let Some((index, EpochEnd::Barrier)) = end {
            let behind = self.queue.split_off(index);
            self.kept_count = self.queue.iter().filter(|element| is_kept(element)).count();
            behind.into_iter().skip(1).for_each(|element| self.push(element));
        }
        Recorded { frames, is_expecting: end.is_none() }
    }
}

fn is_kept(element: &Element) -> bool {
    !matches!(element, Element::Control(control) if control.is_state())
}
