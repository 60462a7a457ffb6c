//! The panes of keys in snapshots.

use crate::data::key::Key;
use crate::error::Error;
use crate::operator::OperatorContext;
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::window::function::WindowFunction;
use crate::operator::window::panes::{Pane, Panes};
use crate::operator::window::sliding::SlidingWindows;
use crate::operator::window::sliding::leaving::Leaving;
use crate::operator::window::stored::{self, Entry, KeyWriter, Place, StateName};

/// End of the key's next window, ms. Read last.
pub(super) const FIRE_END: StateName = StateName("fire_end", 0);

/// Where in a key's panes a sum belongs. Front and back are kept as they are: the order in which
/// sums of floats were added up survives a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Front,
    Back,
    Open,
    BackSum,
    Straggler,
    History,
}

impl Part {
    /// In the order in which they are restored.
    pub(super) const ALL: [Self; 6] =
        [Self::Front, Self::Back, Self::Open, Self::BackSum, Self::Straggler, Self::History];

    pub(super) fn state(self) -> StateName {
        match self {
            Self::Front => StateName("front", 1),
            Self::Back => StateName("back", 2),
            Self::Open => StateName("open", 3),
            Self::BackSum => StateName("back_sum", 4),
            Self::Straggler => StateName("straggler", 5),
            Self::History => StateName("history", 6),
        }
    }
}

impl<A: WindowAggregate> Leaving<'_, A> {
    /// Writes the panes of one key. A slice's bucket is the end of the last window that covers it.
    pub(super) fn save_panes(&self, panes: &Panes<A::Accumulator>, writer: &mut KeyWriter<'_, '_>) {
        panes.for_each(|part, slice, sum| {
            let map_key = stored::ordered(slice);
            let window_bucket = self.slices.last_end_ms(slice);
            let place = Place { window_bucket, map_key: &map_key, ..Place::default() };
            writer.put(part.state(), place, self.aggregate.stored(sum));
        });
        writer.put(FIRE_END, Place::default(), &panes.fire_end_ms);
    }
}

impl<A: Clone> Panes<A> {
    /// Shows everything in it, in the order in which [`Panes::put_back`] takes it: where it
    /// belongs, its slice and its sum.
    pub(super) fn for_each(&self, mut show: impl FnMut(Part, i64, &A)) {
        let closed_len = self.front_len() + self.back_len();
        for (index, pane) in self.entries.iter().chain(&self.newest).enumerate() {
            let part = match index {
                _ if index < self.front_len() => Part::Front,
                _ if index < closed_len => Part::Back,
                _ => Part::Open,
            };
            show(part, pane.slice, &pane.sum);
        }
        if let (Some(sum), Some(newest)) = (&self.back_sum, self.newest_closed()) {
            show(Part::BackSum, newest, sum);
        }
        self.stragglers().rev().for_each(|pane| show(Part::Straggler, pane.slice, &pane.sum));
        self.history().for_each(|pane| show(Part::History, pane.slice, &pane.sum));
    }

    /// Puts back what [`Panes::for_each`] has shown.
    pub(super) fn put_back(&mut self, part: Part, slice: i64, sum: A) {
        match part {
            Part::Front => self.front_count += 1,
            Part::Back => self.back_count += 1,
            Part::Open => {}
            Part::BackSum => {
                self.back_sum = Some(sum);
                return;
            }
            Part::Straggler => {
                self.restore_straggler(Pane { slice, sum });
                return;
            }
            Part::History => {
                self.history_mut().push_back(Pane { slice, sum });
                return;
            }
        }
        self.entries.push_back(Pane { slice, sum });
    }
}

impl<K, S, A, F> SlidingWindows<K, S, A, F>
where
    K: Key,
    S: FnMut(&A::In) -> K + 'static,
    A: WindowAggregate,
    F: WindowFunction<K, A::Out>,
{
    /// Puts back an entry that [`Leaving::save_panes`] wrote.
    pub(super) fn load(
        &mut self,
        part: Part,
        entry: Entry<'_, K, A::Stored>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let slice = stored::from_ordered(entry.map_key)
            .ok_or_else(|| stored::damaged(part.state(), ctx, &"no slice in the key"))?;
        let sum = self.work.aggregate.restored(entry.value);
        let slot = self.keys.find_or_insert_with(entry.hash64, entry.key, Panes::default);
        self.keys.value_mut(slot).put_back(part, slice, sum);
        Ok(())
    }
}
