//! Everything that leaves one task by one output: the edges to its consumers.

use rkyv::ser::allocator::Arena;

use crate::data::element::{CheckpointId, Control};
use crate::data::key_group::KeyGroupCount;
use crate::data::record::{ArchiveError, Record};
use crate::data::row::Row;
use crate::exchange::channel::{Channel, Load, Outbox, Returned};
use crate::exchange::partitioner::TaskPartitioner;
use crate::graph::plan::{ChannelId, OutputPlan};
use crate::operator::TaskEnv;
use crate::state::snapshot::{Place, Run, RunTo, Snapshot, ValueLayout};

/// One consumer: a partitioner and a channel to each of its tasks.
struct Edge<T> {
    to: RunTo,
    partitioner: TaskPartitioner,
    channels: Vec<Channel<T>>,
}

/// The end of a chain: rows of one type, to any number of consumers.
pub struct Outputs<T> {
    /// Who emits the rows, and which stage of the task that is.
    operator: String,
    stage_index: u16,
    edges: Vec<Edge<T>>,
    /// Where each channel is: edge and index. In the order of the channels' numbers.
    places: Vec<(ChannelId, (usize, usize))>,
    /// Room for measuring rows.
    arena: Arena,
    row_count: u64,
    is_full: bool,
}

impl<T: Record> Outputs<T> {
    /// The edges of `plans`, for the rows of stage `stage_index` of a task on shard `own_shard`.
    pub fn new<'a>(
        plans: impl IntoIterator<Item = &'a OutputPlan>,
        stage_index: u16,
        own_shard: u32,
        key_group_count: KeyGroupCount,
    ) -> Self {
        let (mut operator, mut edges, mut places) = (String::new(), Vec::new(), Vec::new());
        for (edge, plan) in plans.into_iter().enumerate() {
            let count = plan.channels.len();
            operator.clone_from(&plan.operator);
            places.extend(plan.channels.iter().enumerate().map(|(i, c)| (c.channel, (edge, i))));
            edges.push(Edge {
                to: RunTo { uid: plan.to_uid.clone(), input: plan.to_input },
                partitioner: TaskPartitioner::new(
                    plan.partitioner,
                    own_shard,
                    count,
                    key_group_count,
                ),
                channels: plan.channels.iter().map(|c| Channel::new(*c, own_shard)).collect(),
            });
        }
        places.sort_unstable();
        let arena = Arena::new();
        Self { operator, stage_index, edges, places, arena, row_count: 0, is_full: false }
    }

    /// Takes a row. One that cannot leave is refused in `env`.
    #[inline]
    pub fn push(&mut self, row: Row<T>, env: &TaskEnv) {
        let origin = row.origin;
        match self.offer(row) {
            Ok(()) => self.row_count += 1,
            Err(error) => env.refuse_row((&self.operator, self.stage_index), origin, &error),
        }
    }

    /// Whether a row can leave is the same on all edges: the first of them decides.
    #[inline]
    fn offer(&mut self, row: Row<T>) -> Result<(), ArchiveError> {
        if let Some((last, others)) = self.edges.split_last_mut() {
            for edge in others {
                self.is_full |= edge.push(row.clone(), &mut self.arena)?;
            }
            self.is_full |= last.push(row, &mut self.arena)?;
        }
        Ok(())
    }

    /// Whether a channel is full: nothing more should be pushed.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Appends a control element to every channel.
    pub fn control(&mut self, control: Control) {
        for channel in self.channels_mut() {
            channel.control(control);
        }
    }

    /// Sends what credits allow.
    pub fn flush(&mut self, outbox: &mut Outbox) {
        self.channels_mut().for_each(|channel| channel.flush(outbox));
        self.is_full = self.is_any_full();
    }

    /// A container came back from `channel`'s receiver.
    ///
    /// # Errors
    /// `returned`, if the channel is not one of these.
    pub fn on_returned(
        &mut self,
        channel: ChannelId,
        returned: Returned,
        outbox: &mut Outbox,
    ) -> Result<(), Returned> {
        let Ok(place) = self.places.binary_search_by_key(&channel, |(channel, _)| *channel) else {
            return Err(returned);
        };
        let (_, (edge, index)) = self.places[place];
        let channel = &mut self.edges[edge].channels[index];
        channel.on_returned(returned, &mut outbox.slab);
        if self.is_full {
            // What waited for this leaves now, so that the turn that follows may take rows.
            channel.flush(outbox);
            self.is_full = self.is_any_full();
        }
        Ok(())
    }

    /// Whether everything has left.
    pub fn is_empty(&self) -> bool {
        self.channels().all(Channel::is_empty)
    }

    /// Whether the barrier of `checkpoint` waits behind rows that it could overtake.
    pub fn holds_barrier(&self, checkpoint: CheckpointId) -> bool {
        self.channels().any(|channel| channel.holds_barrier(checkpoint))
    }

    /// Lets the barrier of `checkpoint` overtake the rows before it, which go into `snapshot`.
    pub fn overtake(&mut self, checkpoint: CheckpointId, snapshot: &mut Snapshot) {
        for edge in &mut self.edges {
            for channel in &mut edge.channels {
                let Some(deal) = channel.plan().deal else { continue };
                let place = Place::Channel { channel: channel.id(), is_queued: true };
                let (layout, frames) = (ValueLayout::of::<T>(), channel.overtake(checkpoint));
                snapshot.put_in_flight(edge.to.clone(), place, Run { deal, layout, frames });
            }
        }
    }

    /// What its channels keep in memory.
    pub fn load(&self) -> Load {
        self.channels().map(Channel::load).fold(Load::default(), Load::and)
    }

    /// Rows taken so far.
    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    fn is_any_full(&self) -> bool {
        self.channels().any(Channel::is_full)
    }

    fn channels(&self) -> impl Iterator<Item = &Channel<T>> {
        self.edges.iter().flat_map(|edge| &edge.channels)
    }

    fn channels_mut(&mut self) -> impl Iterator<Item = &mut Channel<T>> {
        self.edges.iter_mut().flat_map(|edge| &mut edge.channels)
    }
}

impl<T: Record> Edge<T> {
    #[inline]
    fn push(&mut self, row: Row<T>, arena: &mut Arena) -> Result<bool, ArchiveError> {
        match self.partitioner.pick(row.hash64, self.channels.len()) {
            Some(index) => self.channels[index].push(row, arena),
            None => {
                let (last, others) = self.channels.split_last_mut().expect("checked by the plan");
                let mut is_full = false;
                for channel in others {
                    is_full |= channel.push(row.clone(), arena)?;
                }
                Ok(last.push(row, arena)? | is_full)
            }
        }
    }
}

#[cfg(test)]
mod tests;
