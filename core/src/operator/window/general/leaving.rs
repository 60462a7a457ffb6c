//! How the windows of a key leave memory, and how they come back: all of them together.
//!
//! The states of the function are kept beside the windows, and leave by themselves. A key is in
//! memory when its windows are, and the states of the key and of all these windows. Timers stay.

use crate::data::key::Key;
use crate::data::key_group::KeyGroupCount;
use crate::data::record::Record;
use crate::data::slot::Slot;
use crate::operator::spilling::{self, READ_AHEAD};
use crate::operator::window::contents::WindowContents;
use crate::operator::window::general::GeneralWindows;
use crate::operator::window::held::{self, KeyWindows};
use crate::operator::window::states::WindowStates;
use crate::operator::window::stored::KeyWriter;
use crate::operator::{OperatorContext, Progress};
use crate::state::packed::{Damage, Packer};
use crate::state::residents::{Belongings, Residents};
use crate::state::snapshot::SnapshotWriter;
use crate::time::timer::{Moment, TimerQueue};
use crate::time::trigger::Trigger;
use crate::time::window::{TimeDomain, Window, WindowAssigner};

/// Bytes of a timer, in the agenda and with its key, about.
const TIMER_BYTES: usize = 48;

/// The keys of windows with contents `C` and trigger `G`.
pub(super) type KeysOf<K, C, G> = Residents<
    K,
    KeyWindows<<C as WindowContents<K>>::Kept, <G as Trigger<<C as WindowContents<K>>::In>>::State>,
>;

/// What keys have.
pub(super) struct Leaving<'a, C> {
    contents: &'a C,
    event_timers: &'a mut TimerQueue,
    processing_timers: &'a mut TimerQueue,
    /// As of when timers are saved.
    moments: [Moment; 2],
    groups: KeyGroupCount,
}

impl<K, C, S> Belongings<K, KeyWindows<C::Kept, S>> for Leaving<'_, C>
where
    K: Key,
    C: WindowContents<K>,
    S: Record + Default + PartialEq,
{
    fn create(&self) -> KeyWindows<C::Kept, S> {
        KeyWindows::default()
    }

    fn is_empty(&self, _slot: Slot, of_key: &KeyWindows<C::Kept, S>) -> bool {
        of_key.windows.is_empty()
    }

    fn pack(&self, _slot: Slot, of_key: &KeyWindows<C::Kept, S>, packer: &mut Packer) {
        of_key.pack(packer, |kept, packer| self.contents.pack(kept, packer));
    }

    fn unpack(
        &mut self,
        _slot: Slot,
        of_key: &mut KeyWindows<C::Kept, S>,
        bytes: &[u8],
    ) -> Result<(), Damage> {
        of_key.unpack(bytes, |part| self.contents.unpack(part))
    }

    fn clear(&mut self, _slot: Slot, of_key: &mut KeyWindows<C::Kept, S>) {
        *of_key = KeyWindows::default();
    }

    fn is_expected(&mut self, slot: Slot, hash64: u64, _of_key: &KeyWindows<C::Kept, S>) -> bool {
        let is_quiet = self.event_timers.settle(slot, hash64);
        !(self.processing_timers.settle(slot, hash64) && is_quiet)
    }

    fn heap_bytes(&self, _slot: Slot, of_key: &KeyWindows<C::Kept, S>) -> usize {
        of_key.heap_bytes(|kept| self.contents.heap_bytes(kept))
    }

    fn other_bytes(&self) -> usize {
        (self.event_timers.len() + self.processing_timers.len()) * TIMER_BYTES
    }

    fn save(
        &self,
        slot: Slot,
        (hash64, key): (u64, &K),
        of_key: &KeyWindows<C::Kept, S>,
        writer: &mut SnapshotWriter<'_>,
    ) {
        let mut writer = KeyWriter::new(writer, self.groups, hash64, key);
        for held in &of_key.windows {
            held.save(&mut writer);
            if let Some(kept) = &held.contents {
                self.contents.save(kept, held.window, &mut writer);
            }
        }
        let [event, processing] = self.moments;
        for (time_ms, is_late) in self.event_timers.timers_at(slot, event) {
            held::save_timer((TimeDomain::Event, time_ms, is_late), &mut writer);
        }
        for (time_ms, is_late) in self.processing_timers.timers_at(slot, processing) {
            held::save_timer((TimeDomain::Processing, time_ms, is_late), &mut writer);
        }
    }
}

impl<K, S, W, G, C> GeneralWindows<K, S, W, G, C>
where
    K: Key,
    S: FnMut(&C::In) -> K + 'static,
    W: WindowAssigner<C::In>,
    G: Trigger<C::In>,
    C: WindowContents<K>,
{
    /// Whether something has left memory: until then, all is there.
    #[inline]
    pub(super) fn has_evicted(&self) -> bool {
        self.keys.has_evicted() || self.states.as_ref().is_some_and(WindowStates::has_evicted)
    }

    /// Whether there is room for what rows bring.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        !self.keys.is_full() && !self.states.as_ref().is_some_and(WindowStates::is_full)
    }

    /// Sees to it that all of a key is in memory; `false` while some of it is being read.
    #[cold]
    pub(super) fn admit_key(
        &mut self,
        (hash64, key): (u64, &K),
        ctx: &OperatorContext<'_>,
    ) -> bool {
        let (keys, mut leaving) = self.split();
        spilling::admit(keys, (hash64, key), &mut leaving, ctx)
            && self.admit_states(self.keys.find(hash64, key), (hash64, key), ctx)
    }

    /// As [`GeneralWindows::admit_key`], of the key whose timer is due next.
    #[cold]
    pub(super) fn admit_due(&mut self, domain: TimeDomain, ctx: &OperatorContext<'_>) -> bool {
        let Some(slot) = self.timers(domain).next_due() else { return true };
        let timers = self.timers(domain);
        let next: Vec<Slot> =
            (1..READ_AHEAD).map_while(|count| timers.ahead(count)).map(|(slot, _)| slot).collect();
        let (keys, mut leaving) = self.split();
        if !spilling::admit_slot(keys, slot, next.into_iter(), &mut leaving, ctx) {
            return false;
        }
        let (key, hash64) = (self.keys.key(slot).clone(), self.keys.hash64(slot));
        self.admit_states(Some(slot), (hash64, &key), ctx)
    }

    /// The same for the states of a key, whose windows are in memory, if it has any.
    fn admit_states(
        &mut self,
        slot: Option<Slot>,
        of: (u64, &K),
        ctx: &OperatorContext<'_>,
    ) -> bool {
        let Some(states) = self.states.as_mut().filter(|states| states.has_evicted()) else {
            return true;
        };
        let held = slot.map(|slot| self.keys.value(slot).windows.iter());
        let windows = held.into_iter().flatten().map(|held| held.window);
        // Its states stay when there is nothing in it.
        let global = self.assigner.is_endless().then_some(Window::GLOBAL);
        states.admit(of, windows.chain(global), ctx)
    }

    /// Tells the shard's store how much is in memory.
    pub(super) fn recharge(&mut self, ctx: &OperatorContext<'_>) {
        let (keys, leaving) = self.split();
        spilling::recharge(keys, &leaving, ctx);
        self.states.iter_mut().for_each(|states| states.recharge(ctx));
    }

    /// Lets up to `steps` keys leave, and states. Whether there was no room for rows, and is now.
    pub(super) fn let_go(&mut self, steps: u32, ctx: &OperatorContext<'_>) -> bool {
        let had_room = self.has_room();
        let (keys, mut leaving) = self.split();
        spilling::evict(keys, steps, &mut leaving, ctx);
        self.states.iter_mut().for_each(|states| {
            states.evict(steps, ctx);
        });
        !had_room && self.has_room()
    }

    /// While memory is short, some keys leave for a row or a timer.
    #[inline]
    pub(super) fn make_room(&mut self, ctx: &OperatorContext<'_>) {
        let (keys, mut leaving) = self.split();
        spilling::make_room(keys, &mut leaving, ctx);
        if let Some(states) = &mut self.states {
            states.make_room(ctx);
        }
    }

    /// Sees to it that a snapshot has what is not in memory.
    pub(super) fn call_back(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        let (keys, mut leaving) = self.split();
        let of_keys = spilling::gather(keys, &mut leaving, ctx);
        let of_states = self.states.as_mut().map_or(Progress::Done, |states| states.gather(ctx));
        if of_keys == Progress::Done { of_states } else { of_keys }
    }

    /// What the key at `slot` has may have changed.
    #[inline]
    pub(super) fn note_change(&mut self, slot: Slot) {
        let contents = &self.contents;
        self.keys.note_change(slot, |of_key| of_key.heap_bytes(|kept| contents.heap_bytes(kept)));
    }

    /// How far timers have come, of each kind.
    pub(super) fn now(&self) -> [Moment; 2] {
        [self.event_timers.moment(), self.processing_timers.moment()]
    }

    /// The key at `slot` is about to change.
    #[inline]
    pub(super) fn keep(&mut self, slot: Slot) {
        if self.keys.is_saving() {
            let (keys, leaving) = self.split();
            keys.keep(slot, &leaving);
        }
    }

    #[inline]
    pub(super) fn split(&mut self) -> (&mut KeysOf<K, C, G>, Leaving<'_, C>) {
        // What is written while a cut is being written is as it was then.
        let moments = if self.keys.is_saving() { self.moments } else { self.now() };
        let leaving = Leaving {
            moments,
            contents: &self.contents,
            event_timers: &mut self.event_timers,
            processing_timers: &mut self.processing_timers,
            groups: self.groups,
        };
        (&mut self.keys, leaving)
    }
}
