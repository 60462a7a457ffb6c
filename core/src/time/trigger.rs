//! Triggers: when a window's contents are handed to its function.
//!
//! ```text
//! record added ────────────► on_element ──────────┐
//! event-time timer due ────► on_event_time ───────┼──► Continue | Fire | Purge | FireAndPurge
//! processing-time timer ───► on_processing_time ──┘
//! windows became one ──────► on_merge
//! ```
//!
//! A trigger is one value for all windows; what it remembers of one window of one key is its
//! `State`, and its timers belong to that window: both are gone when the window is. The operator
//! itself registers the timer at which a window is cleaned up, so a trigger never has to.
//!
//! Not here: the operator (`operator/window/general.rs`); the triggers that come with the engine
//! (`time/trigger/`).

mod at_end;
mod built_in;
mod by_clock;

use crate::data::record::Record;
use crate::time::window::{TimeDomain, Window};

pub use at_end::AtEnd;
pub use built_in::{
    ContinuousEventTime, Count, CountState, EventTime, Never, NextFire, ProcessingTime, Purging,
};
pub use by_clock::{ContinuousProcessingTime, Delta, Measured, ProcessingTimeout, TimeoutState};

/// What to do with a window's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum TriggerResult {
    /// Nothing.
    Continue,
    /// Hand them to the function, and keep them.
    Fire,
    /// Throw them away.
    Purge,
    /// Hand them to the function, and throw them away.
    FireAndPurge,
}

impl TriggerResult {
    /// Whether the function gets the contents.
    pub fn is_fire(self) -> bool {
        matches!(self, Self::Fire | Self::FireAndPurge)
    }

    /// Whether the contents go.
    pub fn is_purge(self) -> bool {
        matches!(self, Self::Purge | Self::FireAndPurge)
    }
}

/// Decides when windows fire. See the module.
pub trait Trigger<T>: Clone + Send + 'static {
    /// What is remembered of one window of one key. A window whose contents and state are both
    /// empty (the default) need not be kept.
    type State: Record + Default + PartialEq;

    /// `value`, whose event time is `time_ms`, was added to the window.
    fn on_element(
        &self,
        value: &T,
        time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult;

    /// The event-time timer at `time_ms` is due.
    fn on_event_time(
        &self,
        _time_ms: i64,
        _window: &Window,
        _ctx: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }

    /// The processing-time timer at `time_ms` is due.
    fn on_processing_time(
        &self,
        _time_ms: i64,
        _window: &Window,
        _ctx: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }

    /// Whether it waits for event time: records must have one, and there must be watermarks.
    fn needs_watermarks(&self) -> bool {
        false
    }

    /// Whether it may fire a window that has no end.
    fn fires_without_end(&self) -> bool {
        true
    }

    /// Whether every window is empty some time after its last record, whatever comes: then a window
    /// without an end is no burden.
    fn leaves_nothing(&self) -> bool {
        false
    }

    /// Whether it can be used with windows that merge.
    fn can_merge(&self) -> bool {
        false
    }

    /// Other windows became part of `window`; their timers are gone, their states are `merged`. A
    /// record is added to the window right after this.
    fn on_merge(
        &self,
        _window: &Window,
        _merged: Vec<Self::State>,
        _ctx: &mut TriggerContext<'_, Self::State>,
    ) {
    }

    /// For `explain`: `every 100 records`.
    fn describe(&self) -> String;

    /// Mistakes in how it is set up: one sentence each, saying what to do.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What a trigger sees of the window it decides about.
#[derive(Debug)]
pub struct TriggerContext<'a, S> {
    /// What it remembers of this window.
    pub state: &'a mut S,
    watermark_ms: i64,
    processing_time_ms: i64,
    timers: &'a mut Vec<TimerChange>,
}

/// What a trigger wants done to the window's timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerChange {
    /// Which clock.
    pub domain: TimeDomain,
    /// When, ms.
    pub time_ms: i64,
    /// Register, or delete.
    pub is_registration: bool,
}

impl<'a, S> TriggerContext<'a, S> {
    /// A context; changes to timers are appended to `timers`, to be carried out in order.
    pub fn new(
        state: &'a mut S,
        watermark_ms: i64,
        processing_time_ms: i64,
        timers: &'a mut Vec<TimerChange>,
    ) -> Self {
        Self { state, watermark_ms, processing_time_ms, timers }
    }

    /// How far event time has come (ms).
    pub fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// Processing time of this turn (ms since 1970).
    pub fn processing_time_ms(&self) -> i64 {
        self.processing_time_ms
    }

    /// Calls [`Trigger::on_event_time`] once the watermark has reached `time_ms`: a time that it
    /// has reached already, when it rises next. Registering twice is registering once.
    pub fn register_event_time(&mut self, time_ms: i64) {
        self.change(TimeDomain::Event, time_ms, true);
    }

    /// Calls [`Trigger::on_processing_time`] once the clock is past `time_ms`.
    pub fn register_processing_time(&mut self, time_ms: i64) {
        self.change(TimeDomain::Processing, time_ms, true);
    }

    /// Forgets a timer, if there is one.
    pub fn delete_event_time(&mut self, time_ms: i64) {
        self.change(TimeDomain::Event, time_ms, false);
    }

    /// Forgets a timer, if there is one.
    pub fn delete_processing_time(&mut self, time_ms: i64) {
        self.change(TimeDomain::Processing, time_ms, false);
    }

    /// The same window seen by a trigger inside another, with a state of its own.
    pub fn inner<'b, U>(
        &'b mut self,
        state: impl FnOnce(&'b mut S) -> &'b mut U,
    ) -> TriggerContext<'b, U> {
        TriggerContext {
            state: state(self.state),
            watermark_ms: self.watermark_ms,
            processing_time_ms: self.processing_time_ms,
            timers: self.timers,
        }
    }

    fn change(&mut self, domain: TimeDomain, time_ms: i64, is_registration: bool) {
        self.timers.push(TimerChange { domain, time_ms, is_registration });
    }
}

#[cfg(test)]
mod tests;
