//! What the function of a window keeps besides the window's records.
//!
//! ```text
//! key          ──► states of the key       `global_state`: of all its windows, and beyond them
//! key, window  ──► states of the window    `window_state`: forgotten with the window
//! ```
//!
//! The function declares its states once; a handle is the number of a column, and both have the
//! same columns. So it is the scope that says whose value a handle gets.

#[cfg(test)]
mod tests;

use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::process::OpenContext;
use crate::operator::process::open::{Declarable, Declared};
use crate::operator::spilling::{self, EVICT_STEPS};
use crate::operator::window::function::{ProcessWindowContext, WindowContext};
use crate::operator::window::stored;
use crate::operator::{OperatorContext, Progress};
use crate::state::durable::Save;
use crate::state::keyed::KeyedState;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::spec::StateTime;
use crate::time::timer::TimerQueue;
use crate::time::window::Window;

const DECLARABLE: Declarable = Declarable { keyed: true, broadcast: false };

/// What names of states of windows begin with in a snapshot.
const OF_WINDOWS: &str = "window-";

/// See the module.
#[derive(Debug)]
pub(super) struct WindowStates<K> {
    of_keys: KeyedState<K>,
    /// By the bytes of the key and of the window: whatever type a key is, it is stored alone. All
    /// windows of a key have its hash, and so are where it is.
    of_windows: KeyedState<Vec<u8>>,
}

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turn<'a, K> {
    pub(super) key: &'a K,
    pub(super) hash64: u64,
    pub(super) now: StateTime,
    /// Windows that merge have no states of their own.
    pub(super) merges: bool,
}

/// What the plan should know of what `open` declares.
pub(super) fn facts(open: impl FnOnce(&mut OpenContext<'_>)) -> Facts {
    Declared::collect(DECLARABLE, open).into_facts(DECLARABLE)
}

/// What the states of a window are found by.
fn window_key(key: &impl Key, window: Window) -> Vec<u8> {
    let mut of_window = key.archive().to_vec();
    of_window.extend(stored::namespace_of(window));
    of_window
}

impl<K: Key> WindowStates<K> {
    /// What `open` declares, called twice; `None` if that is nothing.
    pub(super) fn open(
        mut open: impl FnMut(&mut OpenContext<'_>),
        ctx: &OperatorContext<'_>,
    ) -> Result<Option<Self>, Error> {
        let of_keys = Declared::collect(DECLARABLE, &mut open).check(ctx)?.columns;
        let of_windows = Declared::collect_of(OF_WINDOWS, DECLARABLE, open).check(ctx)?.columns;
        let task = ctx.env().task;
        let (count, groups) = (task.key_group_count, task.key_groups());
        Ok((!of_keys.declarations().is_empty()).then(|| Self {
            of_keys: spilling::open_states(KeyedState::new(of_keys, count, groups.clone()), ctx),
            of_windows: spilling::open_states(KeyedState::new(of_windows, count, groups), ctx),
        }))
    }

    /// Whether states have left memory: until then, there is nothing to admit.
    pub(super) fn has_evicted(&self) -> bool {
        self.of_keys.keys().has_evicted() || self.of_windows.keys().has_evicted()
    }

    /// Whether what is to leave memory finds no room.
    pub(super) fn is_full(&self) -> bool {
        self.of_keys.keys().is_full() || self.of_windows.keys().is_full()
    }

    /// Sees to it that the states of a key and of its `windows` are in memory; `false` while some
    /// are being read.
    pub(super) fn admit(
        &mut self,
        (hash64, key): (u64, &K),
        windows: impl Iterator<Item = Window>,
        ctx: &OperatorContext<'_>,
    ) -> bool {
        let mut is_there = spilling::admit_states(&mut self.of_keys, (hash64, key), ctx);
        if self.of_windows.keys().has_evicted() {
            for window in windows {
                let of_window = window_key(key, window);
                let states = &mut self.of_windows;
                is_there &= spilling::admit_states(states, (hash64, &of_window), ctx);
            }
        }
        is_there
    }

    /// Tells the shard's store how much is in memory.
    pub(super) fn recharge(&mut self, ctx: &OperatorContext<'_>) {
        spilling::recharge_states(&mut self.of_keys, ctx);
        spilling::recharge_states(&mut self.of_windows, ctx);
    }

    /// Lets states of up to `steps` keys, and of so many windows, leave memory. Whether some found
    /// no room before and all do now.
    pub(super) fn evict(&mut self, steps: u32, ctx: &OperatorContext<'_>) -> bool {
        let of_keys = spilling::evict_states(&mut self.of_keys, steps, ctx);
        let of_windows = spilling::evict_states(&mut self.of_windows, steps, ctx);
        of_keys || of_windows
    }

    /// While memory is short, some states leave for a record.
    pub(super) fn make_room(&mut self, ctx: &OperatorContext<'_>) {
        if self.of_keys.keys().is_short() {
            self.evict(EVICT_STEPS, ctx);
        }
    }

    /// Sees to it that a snapshot has what is not in memory.
    pub(super) fn gather(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        let of_keys = spilling::gather_states(&mut self.of_keys, ctx);
        let of_windows = spilling::gather_states(&mut self.of_windows, ctx);
        if of_keys == Progress::Done { of_windows } else { of_keys }
    }

    pub(super) fn on_cut(&mut self, checkpoint: CheckpointId, ctx: &OperatorContext<'_>) {
        spilling::cut_states(&mut self.of_keys, checkpoint, ctx);
        spilling::cut_states(&mut self.of_windows, checkpoint, ctx);
    }

    /// Writes some of what has changed.
    pub(super) fn save(&mut self, save: Save, ctx: &OperatorContext<'_>) -> Progress {
        let of_keys = spilling::save_states(&mut self.of_keys, save, ctx);
        let of_windows = spilling::save_states(&mut self.of_windows, save, ctx);
        if of_keys == Progress::Done { of_windows } else { of_keys }
    }

    /// Whether all is written that `checkpoint` gets.
    pub(super) fn is_saved(&self, checkpoint: CheckpointId) -> bool {
        self.of_keys.keys().is_saved(checkpoint) && self.of_windows.keys().is_saved(checkpoint)
    }

    /// How many keys and windows have had states that left memory.
    #[cfg(test)]
    pub(super) fn evicted_count(&self) -> u64 {
        self.of_keys.keys().evicted_count() + self.of_windows.keys().evicted_count()
    }

    /// Runs user code for a window of a key, with its states if there are any.
    pub(super) fn run(
        states: &mut Option<Self>,
        turn: &Turn<'_, K>,
        ctx: WindowContext<'_>,
        user_code: impl FnOnce(&mut ProcessWindowContext<'_>),
    ) {
        let Some(states) = states else {
            return user_code(&mut ProcessWindowContext::without_states(ctx));
        };
        states.enter(turn, ctx.window());
        let (of_keys, of_windows) = (states.of_keys.columns_mut(), states.of_windows.columns_mut());
        let of_windows = (!turn.merges).then_some(of_windows);
        user_code(&mut ProcessWindowContext::new(ctx, of_keys, of_windows));
        states.leave();
    }

    /// The window is gone, and with it its states.
    pub(super) fn forget(states: &mut Option<Self>, turn: &Turn<'_, K>, window: Window) {
        if let Some(states) = states {
            states.enter(turn, window);
            states.of_windows.forget_states();
            states.leave();
        }
    }

    fn enter(&mut self, turn: &Turn<'_, K>, window: Window) {
        self.of_keys.enter(turn.hash64, turn.key.clone(), turn.now);
        self.of_windows.enter(turn.hash64, window_key(turn.key, window), turn.now);
    }

    fn leave(&mut self) {
        self.of_keys.leave();
        self.of_windows.leave();
    }

    /// Gives some memory of expired entries back, unless event-time timers of windows are due that
    /// may still see them.
    pub(super) fn sweep(&mut self, event_timers: &TimerQueue, processing_ms: i64) {
        if !event_timers.has_due() {
            let now = StateTime::between_records(event_timers.horizon_ms(), processing_ms);
            self.of_keys.sweep(now);
            self.of_windows.sweep(now);
        }
    }

    /// The earliest processing time (ms) at which there is something to sweep.
    pub(super) fn next_time_ms(&self) -> Option<i64> {
        let next_ms = [self.of_keys.next_time_ms(), self.of_windows.next_time_ms()];
        next_ms.into_iter().flatten().min()
    }

    pub(super) fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        self.of_keys.snapshot(writer);
        self.of_windows.snapshot(writer);
    }

    pub(super) fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        self.of_keys.restore(reader, ctx.watermark_ms(), ctx.processing_time_ms())?;
        self.of_windows.restore(reader, ctx.watermark_ms(), ctx.processing_time_ms())
    }
}
