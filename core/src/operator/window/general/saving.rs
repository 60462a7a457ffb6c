//! The state of the general operator in snapshots.

use crate::data::key::Key;
use crate::error::Error;
use crate::operator::OperatorContext;
use crate::operator::window::contents::WindowContents;
use crate::operator::window::general::GeneralWindows;
use crate::operator::window::held::{self, Held, KeyWindows, TIMERS, WINDOWS};
use crate::operator::window::stored::{self, KeyWriter};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::time::trigger::Trigger;
use crate::time::window::{TimeDomain, WindowAssigner};

impl<K, S, W, G, C> GeneralWindows<K, S, W, G, C>
where
    K: Key,
    S: FnMut(&C::In) -> K + 'static,
    W: WindowAssigner<C::In>,
    G: Trigger<C::In>,
    C: WindowContents<K>,
{
    /// Writes every window, every timer and the states of the function.
    pub(super) fn save_all(&self, writer: &mut SnapshotWriter<'_>) {
        if let Some(states) = &self.states {
            states.snapshot(writer);
        }
        if self.keys.is_durable() {
            return;
        }
        self.keys.save_cold(writer);
        for slot in self.keys.slots() {
            let (hash64, key) = (self.keys.hash64(slot), self.keys.key(slot));
            let mut writer = KeyWriter::new(writer, self.groups, hash64, key);
            for held in &self.keys.value(slot).windows {
                held.save(&mut writer);
                if let Some(kept) = &held.contents {
                    self.contents.save(kept, held.window, &mut writer);
                }
            }
            let event = self.event_timers.timers_of(slot);
            let processing = self.processing_timers.timers_of(slot);
            let event = event.map(|(time_ms, is_late)| (TimeDomain::Event, time_ms, is_late));
            let processing =
                processing.map(|(time_ms, is_late)| (TimeDomain::Processing, time_ms, is_late));
            for timer in event.chain(processing) {
                held::save_timer(timer, &mut writer);
            }
        }
    }

    /// Puts back what [`GeneralWindows::save_all`] wrote.
    pub(super) fn load(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        if let Some(states) = &mut self.states {
            states.restore(reader, ctx)?;
        }
        self.event_timers.restore_horizon(ctx.watermark_ms());
        self.processing_timers.restore_horizon(self.clock.turn(ctx));
        for entry in stored::read::<K, G::State>(reader, WINDOWS, ctx)? {
            let held = Held::load(entry.namespace, entry.map_key, entry.value)
                .ok_or_else(|| stored::damaged(WINDOWS, ctx, &"no window in the key"))?;
            let slot = self.keys.find_or_insert_with(entry.hash64, entry.key, KeyWindows::default);
            self.keys.value_mut(slot).windows.push(held);
        }
        for entry in self.contents.load(reader, ctx)? {
            let held = self.keys.find(entry.hash64, &entry.key).and_then(|slot| {
                let window = stored::window_of(entry.namespace)?;
                let index = self.keys.value(slot).find(window).ok()?;
                Some(&mut self.keys.value_mut(slot).windows[index])
            });
            let held =
                held.ok_or_else(|| stored::damaged(WINDOWS, ctx, &"contents without a window"))?;
            let kept = held.contents.get_or_insert_with(|| self.contents.create());
            self.contents.put_back(kept, entry.value);
        }
        for entry in stored::read::<K, u8>(reader, TIMERS, ctx)? {
            let timer = held::load_timer(entry.map_key, entry.value);
            let slot = self.keys.find(entry.hash64, &entry.key);
            let ((domain, time_ms, is_late), slot) = timer
                .zip(slot)
                .ok_or_else(|| stored::damaged(TIMERS, ctx, &"a timer without a window"))?;
            self.timers(domain).restore(slot, entry.hash64, time_ms, is_late);
        }
        let slots: Vec<_> = self.keys.slots().collect();
        for slot in slots {
            self.note_change(slot);
        }
        Ok(())
    }
}
