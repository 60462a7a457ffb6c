//! Everything that leaves one task by one output: the edges to its consumers.

use crate::data::element::Control;
use crate::data::key_group::KeyGroupCount;
use crate::data::record::Record;
use crate::data::row::Row;
use crate::error::Error;
use crate::exchange::channel::{Channel, Outbox, Returned};
use crate::exchange::router::Router;
use crate::graph::plan::{ChannelId, OutputPlan};

/// One consumer: a router and a channel to each of its tasks.
struct Edge<T> {
    router: Router,
    channels: Vec<Channel<T>>,
}

/// The end of a chain: rows of one type, to any number of consumers.
pub struct Outputs<T> {
    edges: Vec<Edge<T>>,
    row_count: u64,
    is_full: bool,
}

impl<T: Record> Outputs<T> {
    /// The edges of `plans` for a task on shard `own_shard`.
    pub fn new<'a>(
        plans: impl IntoIterator<Item = &'a OutputPlan>,
        own_shard: u32,
        key_group_count: KeyGroupCount,
    ) -> Self {
        let edge = |plan: &OutputPlan| Edge {
            router: Router::new(plan.partitioner, plan.channels.len(), key_group_count),
            channels: plan.channels.iter().map(|c| Channel::new(*c, own_shard)).collect(),
        };
        Self { edges: plans.into_iter().map(edge).collect(), row_count: 0, is_full: false }
    }

    /// Takes a row.
    #[inline]
    pub fn push(&mut self, row: Row<T>) {
        self.row_count += 1;
        if let Some((last, others)) = self.edges.split_last_mut() {
            for edge in others {
                self.is_full |= edge.push(row.clone());
            }
            self.is_full |= last.push(row);
        }
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
    ///
    /// # Errors
    /// [`Error::RowTooLarge`] for `operator`.
    pub fn flush(&mut self, operator: &str, outbox: &mut Outbox) -> Result<(), Error> {
        self.channels_mut().try_for_each(|channel| channel.flush(operator, outbox))?;
        let is_full = self.channels_mut().any(|channel| channel.is_full());
        self.is_full = is_full;
        Ok(())
    }

    /// A container came back from `channel`'s receiver; `Err` with it if the channel is not one of
    /// these.
    ///
    /// # Errors
    /// `returned`, for another output.
    pub fn on_returned(
        &mut self,
        channel: ChannelId,
        returned: Returned,
        outbox: &mut Outbox,
    ) -> Result<(), Returned> {
        let Some(channel) = self.channels_mut().find(|c| c.id() == channel) else {
            return Err(returned);
        };
        channel.on_returned(returned, &mut outbox.slab);
        Ok(())
    }

    /// Whether everything has left.
    pub fn is_empty(&self) -> bool {
        self.edges.iter().flat_map(|edge| &edge.channels).all(Channel::is_empty)
    }

    /// Rows taken so far.
    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    fn channels_mut(&mut self) -> impl Iterator<Item = &mut Channel<T>> {
        self.edges.iter_mut().flat_map(|edge| &mut edge.channels)
    }
}

impl<T: Record> Edge<T> {
    #[inline]
    fn push(&mut self, row: Row<T>) -> bool {
        match self.router.route(row.hash64, self.channels.len()) {
            Some(index) => self.channels[index].push(row),
            None => {
                let mut is_full = false;
                for channel in &mut self.channels {
                    is_full |= channel.push(row.clone());
                }
                is_full
            }
        }
    }
}
