//! The panes of keys in snapshots.

use crate::data::key::Key;
use crate::error::Error;
use crate::operator::OperatorContext;
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::window::function::WindowFunction;
use crate::operator::window::panes::{Pane, Panes};
use crate::operator::window::sliding::SlidingWindows;
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

impl<K, S, A, F> SlidingWindows<K, S, A, F>
where
    K: Key,
    S: FnMut(&A::In) -> K + 'static,
    A: WindowAggregate,
    F: WindowFunction<K, A::Out>,
{
    /// Writes the panes of one key. A slice's bucket is the end of the last window that covers it.
    pub(super) fn save(&self, writer: &mut KeyWriter<'_, '_>, panes: &Panes<A::Accumulator>) {
        let slices = &self.work.by.slices;
        let mut put = |part: Part, slice, sum| {
            let map_key = stored::ordered(slice);
            let window_bucket = slices.last_end_ms(slice);
            let place = Place { window_bucket, map_key: &map_key, ..Place::default() };
            writer.put(part.state(), place, self.work.aggregate.stored(sum));
        };
        let closed_len = panes.front_len + panes.back_len;
        for (index, pane) in panes.entries.iter().chain(&panes.newest).enumerate() {
            let part = match index {
                _ if index < panes.front_len => Part::Front,
                _ if index < closed_len => Part::Back,
                _ => Part::Open,
            };
            put(part, pane.slice, &pane.sum);
        }
        if let (Some(sum), Some(newest)) = (&panes.back_sum, panes.newest_closed()) {
            put(Part::BackSum, newest, sum);
        }
        panes.stragglers().for_each(|pane| put(Part::Straggler, pane.slice, &pane.sum));
        panes.history().for_each(|pane| put(Part::History, pane.slice, &pane.sum));
        writer.put(FIRE_END, Place::default(), &panes.fire_end_ms);
    }

    /// Puts back an entry that [`SlidingWindows::save`] wrote.
    pub(super) fn load(
        &mut self,
        part: Part,
        entry: Entry<'_, K, A::Stored>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let slice = stored::from_ordered(entry.map_key)
            .ok_or_else(|| stored::damaged(part.state(), ctx, &"no slice in the key"))?;
        let sum = self.work.aggregate.restored(entry.value);
        let panes = self.keys.get_or_insert_with(entry.hash64, entry.key, Panes::default);
        match part {
            Part::Front => panes.front_len += 1,
            Part::Back => panes.back_len += 1,
            Part::Open => {}
            Part::BackSum => {
                panes.back_sum = Some(sum);
                return Ok(());
            }
            Part::Straggler => {
                panes.restore_straggler(Pane { slice, sum });
                return Ok(());
            }
            Part::History => {
                panes.history_mut().push_back(Pane { slice, sum });
                return Ok(());
            }
        }
        panes.entries.push_back(Pane { slice, sum });
        Ok(())
    }
}
