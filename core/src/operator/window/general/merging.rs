//! Windows of a key that touch become one.

use crate::data::key::Key;
use crate::data::slot::Slot;
use crate::operator::window::contents::WindowContents;
use crate::operator::window::general::GeneralWindows;
use crate::operator::window::held::Held;
use crate::time::timer::Registrant;
use crate::time::trigger::{TimerChange, Trigger, TriggerContext};
use crate::time::window::{Window, WindowAssigner};

impl<K, S, W, G, C> GeneralWindows<K, S, W, G, C>
where
    K: Key,
    S: FnMut(&C::In) -> K + 'static,
    W: WindowAssigner<C::In>,
    G: Trigger<C::In>,
    C: WindowContents<K>,
{
    /// Joins `window` with those of the key that it touches; answers the whole.
    pub(super) fn merge(&mut self, slot: Slot, window: Window) -> Window {
        let windows = &mut self.keys.value_mut(slot).windows;
        let touching = |held: &&Held<C::Kept, G::State>| held.window.touches(&window);
        let whole = windows.iter().filter(touching).fold(window, |w, held| w.cover(&held.window));
        let is_known = windows.iter().any(|held| held.window == whole);
        let count = windows.iter().filter(touching).count();
        if count == usize::from(is_known) {
            return whole;
        }
        let merged: Vec<_> = windows.extract_if(.., |held| held.window.touches(&window)).collect();
        let mut into = Held::new(whole);
        let mut kept_timers = Vec::new();
        let mut states = Vec::with_capacity(merged.len());
        for gone in merged {
            self.forget_timers(slot, &gone);
            match (&mut into.contents, gone.contents) {
                (Some(kept), Some(other)) => self.contents.merge(kept, other),
                (none, other) => *none = none.take().or(other),
            }
            if gone.window == whole {
                into.trigger = gone.trigger;
                kept_timers = gone.timers;
            } else {
                states.push(gone.trigger);
            }
        }
        let index = self.hold(slot, whole);
        for (domain, time_ms) in kept_timers {
            self.changes.push(TimerChange { domain, time_ms, is_registration: true });
        }
        let mut trigger_ctx = TriggerContext::new(
            &mut into.trigger,
            self.event_timers.horizon_ms(),
            self.clock.now_ms,
            &mut self.changes,
        );
        self.trigger.on_merge(&whole, states, &mut trigger_ctx);
        self.keys.value_mut(slot).windows[index] = into;
        self.change_timers(slot, index, |_| Registrant::Record);
        whole
    }
}
