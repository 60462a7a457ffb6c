//! What a function sees while it processes a record or a timer.

use crate::data::key::Key;
use crate::data::row::Row;
use crate::operator::OperatorContext;
use crate::operator::side_output::OutputTag;
use crate::state::broadcast::{BroadcastScope, BroadcastStates};
use crate::state::columns::{StateColumns, StateScope};
use crate::state::keyed::{KeyedState, TimerKind};
use crate::state::operator_list::{OperatorListScope, OperatorLists};
use crate::time::timer::Registrant;

/// A timer of a key that has come due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FiredTimer {
    /// The time it was registered for, ms.
    pub time_ms: i64,
    /// Which time that is.
    pub kind: TimerKind,
}

/// The cause without its value, and the value.
#[inline]
pub(super) fn split<T>(row: Row<T>) -> (Row<()>, T) {
    let cause = row.with(());
    (cause, row.value)
}

/// Generates what every context tells about the world.
macro_rules! world {
    () => {
        /// When the record happened, or the time of the event-time timer that fires, ms since 1970;
        /// [`NO_EVENT_TIME`](crate::data::row::NO_EVENT_TIME) for neither.
        pub fn event_time_ms(&self) -> i64 {
            self.operator.env().event_time_ms()
        }

        /// No record at or before this event time (ms) is still expected.
        pub fn watermark_ms(&self) -> i64 {
            self.operator.watermark_ms()
        }

        /// Processing time of this turn, ms since 1970.
        pub fn processing_time_ms(&self) -> i64 {
            self.operator.processing_time_ms()
        }

        /// Which task of the operator this is, from 0.
        pub fn task_index(&self) -> u32 {
            self.operator.env().task.task_index
        }

        /// Puts a value into a side output; it has the time and key of what is being processed.
        pub fn side_output<T: 'static>(&self, tag: OutputTag<T>, value: T) {
            self.operator.side_output(tag, value);
        }

        /// Stops the job with `error`.
        pub fn fail(&self, error: crate::error::Error) {
            self.operator.fail(error);
        }
    };
}
pub(super) use world;

/// What a function with keys sees. State handles take it as their scope:
/// `self.count.get(ctx)`.
#[derive(Debug)]
pub struct KeyedContext<'a, K> {
    pub(super) operator: OperatorContext<'a>,
    pub(super) keyed: &'a mut KeyedState<K>,
    pub(super) broadcast: &'a BroadcastStates,
    /// The kind of the timer that is firing.
    pub(super) firing: Option<TimerKind>,
}

impl<K: Key> KeyedContext<'_, K> {
    world!();

    /// The key of the record or timer.
    pub fn key(&self) -> &K {
        self.keyed.key()
    }

    /// Registers a timer for when the watermark reaches `time_ms`; if it has already, for when it
    /// rises next (in a timer's call: for right after it). `false` if the key has that timer.
    ///
    /// Stops the job if there may never be a watermark.
    pub fn register_event_timer(&mut self, time_ms: i64) -> bool {
        self.operator.waits_for_watermarks("an event-time timer");
        self.register(TimerKind::Event, time_ms)
    }

    /// Registers a timer for when processing time reaches `time_ms`, or for the end of the input if
    /// that comes first: then all timers fire, and none is registered any more. `false` if it is
    /// not registered, or the key has that timer already.
    pub fn register_processing_timer(&mut self, time_ms: i64) -> bool {
        self.register(TimerKind::Processing, time_ms)
    }

    /// Deletes a timer. `false` if the key has none at that time.
    pub fn delete_event_timer(&mut self, time_ms: i64) -> bool {
        self.keyed.delete(TimerKind::Event, time_ms)
    }

    /// Deletes a timer. `false` if the key has none at that time.
    pub fn delete_processing_timer(&mut self, time_ms: i64) -> bool {
        self.keyed.delete(TimerKind::Processing, time_ms)
    }

    fn register(&mut self, kind: TimerKind, time_ms: i64) -> bool {
        // A row that was parked may come after a watermark that it was before: what it registers is
        // due in the same go.
        let is_behind = kind == TimerKind::Event
            && self.operator.watermark_ms() < self.keyed.timers(kind).horizon_ms();
        let is_timer = self.firing == Some(kind) || is_behind;
        let by = if is_timer { Registrant::Timer } else { Registrant::Record };
        self.keyed.register(kind, time_ms, by)
    }
}

impl<K: Key> StateScope for KeyedContext<'_, K> {
    #[inline]
    fn states(&self) -> &StateColumns {
        self.keyed.columns()
    }

    #[inline]
    fn states_mut(&mut self) -> &mut StateColumns {
        self.keyed.columns_mut()
    }
}

impl<K> BroadcastScope for KeyedContext<'_, K> {
    fn broadcast(&self) -> &BroadcastStates {
        self.broadcast
    }
}

/// What a function without keys sees.
#[derive(Debug)]
pub struct ProcessContext<'a> {
    pub(super) operator: OperatorContext<'a>,
    pub(super) broadcast: &'a BroadcastStates,
    pub(super) lists: &'a mut OperatorLists,
}

impl ProcessContext<'_> {
    world!();
}

impl OperatorListScope for ProcessContext<'_> {
    fn lists(&self) -> &OperatorLists {
        self.lists
    }

    fn lists_mut(&mut self) -> &mut OperatorLists {
        self.lists
    }
}

impl BroadcastScope for ProcessContext<'_> {
    fn broadcast(&self) -> &BroadcastStates {
        self.broadcast
    }
}
