//! Rows that were in flight when the checkpoint was cut that a task goes on from: it takes them
//! before anything else.
//!
//! Every task of a chain finds the rows that were on their way to any of its tasks, and keeps those
//! that are its own now. Nothing is read from a channel before the last of them has been taken: no
//! row of their keys overtakes them, and no watermark makes them late.
//!
//! A checkpoint that is cut meanwhile has what is left of them.

use std::collections::VecDeque;

use crate::data::element::Batch;
use crate::error::Error;
use crate::graph::plan::{Deal, TaskPlan};
use crate::state::snapshot::{Place, Run, RunTo, Snapshot};
use crate::task::decode::{Decoder, OpenBatch};

/// The rows that are left.
pub struct Replay<O> {
    queue: VecDeque<Left>,
    open: Option<(usize, Deal, O)>,
}

struct Left {
    input: usize,
    deal: Deal,
    batch: Batch,
}

impl<O: OpenBatch> Replay<O> {
    /// None.
    pub fn none() -> Self {
        Self { queue: VecDeque::new(), open: None }
    }

    /// Of the rows in flight in `snapshot` those that are for the task of `plan`.
    ///
    /// # Errors
    /// If rows are not what the task reads.
    pub fn of(
        snapshot: &Snapshot,
        plan: &TaskPlan,
        decoder: &impl Decoder<Open = O>,
    ) -> Result<Self, Error> {
        let mut queue = VecDeque::new();
        for input in 0..plan.inputs.len() {
            let to = RunTo { uid: plan.uid.clone(), input: input as u8 };
            for Run { deal, layout, frames } in snapshot.in_flight_to(&to) {
                let incompatible = |reason: &str| Error::Plan {
                    problems: vec![format!(
                        "the checkpoint has rows in flight to {} that are not what it reads now \
                         ({reason}): change types of records with a checkpoint that has none in \
                         flight (alignment = \"aligned\")",
                        plan.uid
                    )],
                };
                if *layout != decoder.layout(input) {
                    return Err(incompatible("their size differs"));
                }
                let deal = *deal;
                let is_own = |hash64| deal.is_for(plan, hash64);
                for bytes in frames {
                    let batch = decoder.restore(input, bytes, &is_own);
                    let batch = batch.map_err(|error| incompatible(&error.to_string()))?;
                    queue.extend(batch.map(|batch| Left { input, deal, batch }));
                }
            }
        }
        Ok(Self { queue, open: None })
    }

    /// Whether all have been taken.
    pub fn is_empty(&self) -> bool {
        self.open.is_none() && self.queue.is_empty()
    }

    /// How many batches are left.
    pub fn len(&self) -> usize {
        self.queue.len() + usize::from(self.open.is_some())
    }

    /// The batch whose turn it is, opened.
    pub fn next(&mut self, decoder: &mut impl Decoder<Open = O>) -> Option<&mut O> {
        if self.open.is_none() {
            let Left { input, deal, batch } = self.queue.pop_front()?;
            self.open = Some((input, deal, decoder.open(input, batch)));
        }
        self.open.as_mut().map(|(_, _, open)| open)
    }

    /// That batch has been taken.
    pub fn pass(&mut self) -> Option<O> {
        self.open.take().map(|(_, _, open)| open)
    }

    /// Adds what is left to `snapshot`. What is for a task is for this one now.
    pub fn save(&self, snapshot: &mut Snapshot, plan: &TaskPlan, decoder: &impl Decoder<Open = O>) {
        let open = self.open.iter().map(|(input, deal, open)| (*input, *deal, open.rest()));
        let queued = self.queue.iter().map(|it| (it.input, it.deal, Some(it.batch.archive())));
        for (index, (input, deal, frame)) in (0..).zip(open.chain(queued)) {
            let deal = match deal {
                Deal::Task(_) => Deal::Task(plan.task_index),
                deal => deal,
            };
            let to = RunTo { uid: plan.uid.clone(), input: input as u8 };
            let place = Place::Left { task: plan.task_index, index };
            let (layout, frames) = (decoder.layout(input), frame.into_iter().collect());
            snapshot.put_in_flight(to, place, Run { deal, layout, frames });
        }
    }
}
