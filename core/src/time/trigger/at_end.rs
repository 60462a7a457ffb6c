//! The default trigger: fires when a window is over, by whichever clock the windows go by.

use crate::time::trigger::built_in::{EventTime, ProcessingTime};
use crate::time::trigger::{Trigger, TriggerContext, TriggerResult};
use crate::time::window::{TimeDomain, Window};

/// [`EventTime`] for windows of event time, [`ProcessingTime`] for the others.
#[derive(Debug, Clone, Copy)]
pub struct AtEnd(pub TimeDomain);

/// Asks the trigger of the clock.
macro_rules! by_clock {
    ($trigger:expr, $clock:ident => $call:expr) => {
        match $trigger.0 {
            TimeDomain::Event => {
                let $clock = EventTime;
                $call
            }
            TimeDomain::Processing => {
                let $clock = ProcessingTime;
                $call
            }
        }
    };
}

impl<T> Trigger<T> for AtEnd {
    type State = ();

    fn on_element(
        &self,
        value: &T,
        time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        by_clock!(self, clock => clock.on_element(value, time_ms, window, ctx))
    }

    fn on_event_time(
        &self,
        time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        by_clock!(self, clock => Trigger::<T>::on_event_time(&clock, time_ms, window, ctx))
    }

    fn on_processing_time(
        &self,
        time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        by_clock!(self, clock => Trigger::<T>::on_processing_time(&clock, time_ms, window, ctx))
    }

    fn fires_without_end(&self) -> bool {
        false
    }

    fn needs_watermarks(&self) -> bool {
        by_clock!(self, clock => Trigger::<T>::needs_watermarks(&clock))
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&self, window: &Window, merged: Vec<()>, ctx: &mut TriggerContext<'_, ()>) {
        by_clock!(self, clock => Trigger::<T>::on_merge(&clock, window, merged, ctx));
    }

    fn describe(&self) -> String {
        by_clock!(self, clock => Trigger::<T>::describe(&clock))
    }
}
