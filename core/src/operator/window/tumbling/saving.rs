//! Accumulators in snapshots.
//!
//! Until a checkpoint names the tables of a store, a snapshot has everything in one piece: what has
//! left memory is *gathered* first, merged with what the tables have of the same keys. Nothing
//! leaves and nothing fires while that is under way.

use std::collections::BTreeSet;

use super::{Open, Stored, TumblingWindows};
use crate::data::key::Key;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::operator::window::aggregate::WindowAggregate;
use crate::operator::window::function::WindowFunction;
use crate::operator::window::partials::{self, Merged, Partials, Walk};
use crate::operator::window::stored::{self, KeyWriter, Place, StateName};
use crate::operator::{OperatorContext, Progress};
use crate::state::packed::Damage;
use crate::state::snapshot::{Snapshot, SnapshotReader, SnapshotWriter};
use crate::state::table::KeyTable;

/// Accumulators of windows whose key has not fired, and of those whose key has.
const OPEN: StateName = StateName("open", 0);
const FIRED: StateName = StateName("fired", 1);

/// How far a snapshot has come.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Ends (ms) of windows that are still to be walked over, the next one last.
    left: Vec<i64>,
    walk: Option<Walk>,
    /// What keys have that have left memory, under no uid.
    states: Snapshot,
    /// Ends (ms) and slots of those that have something in the table as well.
    met: BTreeSet<(i64, Slot)>,
}

impl<K, S, A, F> TumblingWindows<K, S, A, F>
where
    K: Key,
    S: FnMut(&A::In) -> K + 'static,
    A: WindowAggregate,
    F: WindowFunction<K, A::Out>,
{
    /// Sees to it that the snapshot has what has left memory.
    pub(super) fn gather_partials(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        if self.gathering.is_none() {
            let open = self.windows.iter().filter(|open| open.sums.have_left());
            let fired = self.fired.iter().filter(|(_, sums)| sums.have_left());
            let left: Vec<i64> =
                open.map(|open| open.end_ms).chain(fired.map(|(end_ms, _)| *end_ms)).collect();
            if left.is_empty() {
                return Progress::Done;
            }
            self.gathering = Some(Gathering { left, ..Gathering::default() });
        }
        match self.gather_some(ctx) {
            Ok(progress) => progress,
            Err(error) => {
                ctx.fail(error);
                Progress::Pending
            }
        }
    }

    fn gather_some(&mut self, ctx: &OperatorContext<'_>) -> Result<Progress, Error> {
        let Self { windows, fired, aggregate, groups, .. } = self;
        let (Some(gathering), Some(partials)) = (&mut self.gathering, &mut self.partials) else {
            return Ok(Progress::Done);
        };
        let Some(store) = ctx.env().store.get() else { return Ok(Progress::Done) };
        let is_kept = 0 < self.lateness.allowed_ms();
        while let Some(end_ms) = gathering.left.last().copied() {
            let open = windows.iter().find(|open| open.end_ms == end_ms);
            let sums = open.map(|open| &open.sums).or_else(|| fired.get(&end_ms));
            let sums = sums.expect("nothing fires while a snapshot is made");
            if gathering.walk.is_none() {
                gathering.walk = Partials::walk(sums, store);
            }
            let walk = gathering.walk.as_mut().expect("it has partials");
            let mut writer = SnapshotWriter::new(&mut gathering.states, "");
            let waiter = partials.waiter(0);
            let mut damage = None;
            let mut keep = |stored: &[u8], value: &[u8]| -> Result<(), Damage> {
                let has_fired = open.is_none_or(|open| open.stored.has_fired(stored));
                if has_fired && !is_kept {
                    return Ok(());
                }
                let Merged { hash64, key, mut sum } =
                    partials::read::<K, A>(stored, value, aggregate, partials.archive())?;
                if let Some(slot) = sums.table.find(hash64, &key) {
                    aggregate.merge(&mut sum, sums.table.value(slot).clone());
                    gathering.met.insert((end_ms, slot));
                }
                let place = Place { window_bucket: end_ms, ..Place::default() };
                let state = if has_fired { FIRED } else { OPEN };
                let sum = aggregate.stored(&sum);
                KeyWriter::new(&mut writer, *groups, hash64, &key).put(state, place, sum);
                Ok(())
            };
            let see = |stored: &[u8], value: &[u8]| {
                if damage.is_none() {
                    damage = keep(stored, value).err();
                }
            };
            let progress = store.scan_some(&mut walk.scan, waiter, see)?;
            if let Some(damage) = damage {
                return Err(partials::damaged(damage));
            }
            if progress.is_pending() {
                return Ok(Progress::Pending);
            }
            gathering.walk = None;
            gathering.left.pop();
        }
        Ok(Progress::Done)
    }

    pub(super) fn save(&self, writer: &mut SnapshotWriter<'_>) {
        let mut put = |state, end_ms, table: &KeyTable<K, A::Accumulator>, slot| {
            let is_met = |gathering: &Gathering| gathering.met.contains(&(end_ms, slot));
            if self.gathering.as_ref().is_some_and(is_met) {
                return;
            }
            let (hash64, key) = (table.hash64(slot), table.key(slot));
            let place = Place { window_bucket: end_ms, ..Place::default() };
            let sum = self.aggregate.stored(table.value(slot));
            KeyWriter::new(writer, self.groups, hash64, key).put(state, place, sum);
        };
        for Open { end_ms, sums, cursor, early, .. } in &self.windows {
            for slot in sums.table.slots() {
                let has_fired = slot.0 < *cursor || early.contains(&slot);
                put(if has_fired { FIRED } else { OPEN }, *end_ms, &sums.table, slot);
            }
        }
        for (end_ms, sums) in &self.fired {
            sums.table.slots().for_each(|slot| put(FIRED, *end_ms, &sums.table, slot));
        }
        if let Some(gathering) = &self.gathering {
            writer.absorb(&gathering.states);
        }
    }

    /// Windows that have fired are put among the others, all their keys early: the next firing
    /// sorts them out.
    pub(super) fn load(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        for state in [OPEN, FIRED] {
            for entry in stored::read::<K, A::Stored>(reader, state, ctx)? {
                self.turn_to(entry.window_bucket);
                let open = &mut self.windows[self.last];
                let restored = || self.aggregate.restored(entry.value);
                let slot = open.sums.table.find_or_insert_with(entry.hash64, entry.key, restored);
                if state.1 == FIRED.1 {
                    open.early.insert(slot);
                }
            }
        }
        Ok(())
    }
}

impl Stored {
    /// Whether a key of which the store has something has fired.
    fn has_fired(&self, stored: &[u8]) -> bool {
        match self {
            Self::Unseen => false,
            Self::Walked(walk) => walk.has_reached(stored),
            Self::Seen => true,
        }
    }
}
