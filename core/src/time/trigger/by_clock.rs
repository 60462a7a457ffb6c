//! Triggers that fire by processing time or by value.
//!
//! | trigger | fires |
//! |---|---|
//! | [`ContinuousProcessingTime`] | at every multiple of an interval of the clock, and at the end |
//! | [`ProcessingTimeout`] | whenever another does, and a given time after a record in any case |
//! | [`Delta`] | when a measure of the records has moved far enough since it last fired |

use std::time::Duration;

use crate::data::record::Record;
use crate::data::row::NO_EVENT_TIME;
use crate::time::strategy::duration_ms;
use crate::time::trigger::built_in::{NextFire, no_interval};
use crate::time::trigger::{Trigger, TriggerContext, TriggerResult};
use crate::time::window::{Window, period_start_ms, show};

use TriggerResult::{Continue, Fire, FireAndPurge};

/// Fires whenever the clock passes a multiple of an interval, and when it passes the window's end.
#[derive(Debug, Clone, Copy)]
pub struct ContinuousProcessingTime {
    interval_ms: i64,
}

impl ContinuousProcessingTime {
    /// Fires at multiples of `interval`.
    pub fn of(interval: Duration) -> Self {
        Self { interval_ms: duration_ms(interval) }
    }

    fn register_next(self, from_ms: i64, ctx: &mut TriggerContext<'_, NextFire>) {
        *ctx.state = NextFire(from_ms.saturating_add(self.interval_ms));
        ctx.register_processing_time(ctx.state.0);
    }
}

impl<T> Trigger<T> for ContinuousProcessingTime {
    type State = NextFire;

    fn on_element(
        &self,
        _value: &T,
        _time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, NextFire>,
    ) -> TriggerResult {
        let now_ms = ctx.processing_time_ms();
        if *ctx.state == NextFire::default() {
            self.register_next(period_start_ms(now_ms, self.interval_ms, 0), ctx);
            // Windows of event time may have been over for long, by this clock.
            if now_ms <= window.max_timestamp() {
                ctx.register_processing_time(window.max_timestamp());
            }
        }
        Continue
    }

    fn on_processing_time(
        &self,
        time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, NextFire>,
    ) -> TriggerResult {
        if time_ms == window.max_timestamp() {
            return Fire;
        }
        if *ctx.state != NextFire(time_ms) {
            return Continue;
        }
        // The next record begins anew: without one there is nothing to say.
        *ctx.state = NextFire::default();
        Fire
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(
        &self,
        window: &Window,
        merged: Vec<NextFire>,
        ctx: &mut TriggerContext<'_, NextFire>,
    ) {
        let known = merged.into_iter().chain([*ctx.state]).filter(|s| *s != NextFire::default());
        if let Some(next) = known.min_by_key(|next| next.0) {
            *ctx.state = next;
            ctx.register_processing_time(next.0);
        }
        if ctx.processing_time_ms() <= window.max_timestamp() {
            ctx.register_processing_time(window.max_timestamp());
        }
    }

    fn describe(&self) -> String {
        format!("every {} of processing time", show(self.interval_ms))
    }

    fn problems(&self) -> Vec<String> {
        no_interval(self.interval_ms)
    }
}

/// Fires whenever `inner` does; and if it does not, a given time after the first record since then,
/// and empties the window. So no window waits for ever for a record that does not come.
#[derive(Debug, Clone, Copy)]
pub struct ProcessingTimeout<G> {
    inner: G,
    timeout_ms: i64,
    is_restarted: bool,
}

impl<G> ProcessingTimeout<G> {
    /// `inner`, or `timeout` after the first record since the window last fired.
    pub fn of(inner: G, timeout: Duration) -> Self {
        Self { inner, timeout_ms: duration_ms(timeout), is_restarted: false }
    }

    /// Every record starts the timeout anew.
    pub fn since_last_record(mut self) -> Self {
        self.is_restarted = true;
        self
    }

    /// After what `inner` said: the timeout ends when the window fires.
    fn after<S>(
        result: TriggerResult,
        ctx: &mut TriggerContext<'_, TimeoutState<S>>,
    ) -> TriggerResult {
        if result.is_fire() && ctx.state.due_ms != NO_EVENT_TIME {
            ctx.delete_processing_time(ctx.state.due_ms);
            ctx.state.due_ms = NO_EVENT_TIME;
        }
        result
    }
}

/// What the inner trigger remembers, and when the timeout ends.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TimeoutState<S> {
    inner: S,
    /// [`NO_EVENT_TIME`] while there is no record since the window last fired, ms.
    due_ms: i64,
}

impl<S: Default> Default for TimeoutState<S> {
    fn default() -> Self {
        Self { inner: S::default(), due_ms: NO_EVENT_TIME }
    }
}

impl<T, G> Trigger<T> for ProcessingTimeout<G>
where
    G: Trigger<T>,
    TimeoutState<G::State>: Record,
{
    type State = TimeoutState<G::State>;

    fn on_element(
        &self,
        value: &T,
        time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult {
        let mut inner = ctx.inner(|state| &mut state.inner);
        let result = self.inner.on_element(value, time_ms, window, &mut inner);
        if !result.is_fire() && (self.is_restarted || ctx.state.due_ms == NO_EVENT_TIME) {
            let due_ms = ctx.processing_time_ms().saturating_add(self.timeout_ms);
            if due_ms != ctx.state.due_ms {
                if ctx.state.due_ms != NO_EVENT_TIME {
                    ctx.delete_processing_time(ctx.state.due_ms);
                }
                ctx.state.due_ms = due_ms;
                ctx.register_processing_time(due_ms);
            }
        }
        Self::after(result, ctx)
    }

    fn on_event_time(
        &self,
        time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult {
        let mut inner = ctx.inner(|state| &mut state.inner);
        let result = self.inner.on_event_time(time_ms, window, &mut inner);
        Self::after(result, ctx)
    }

    fn on_processing_time(
        &self,
        time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult {
        if time_ms == ctx.state.due_ms {
            *ctx.state = TimeoutState::default();
            return FireAndPurge;
        }
        let mut inner = ctx.inner(|state| &mut state.inner);
        let result = self.inner.on_processing_time(time_ms, window, &mut inner);
        Self::after(result, ctx)
    }

    fn needs_watermarks(&self) -> bool {
        self.inner.needs_watermarks()
    }

    fn leaves_nothing(&self) -> bool {
        true
    }

    fn can_merge(&self) -> bool {
        self.inner.can_merge()
    }

    fn on_merge(
        &self,
        window: &Window,
        merged: Vec<Self::State>,
        ctx: &mut TriggerContext<'_, Self::State>,
    ) {
        let dues = merged.iter().map(|state| state.due_ms).chain([ctx.state.due_ms]);
        let due_ms = dues.filter(|due_ms| *due_ms != NO_EVENT_TIME).min();
        if let Some(due_ms) = due_ms {
            ctx.state.due_ms = due_ms;
            ctx.register_processing_time(due_ms);
        }
        let merged = merged.into_iter().map(|state| state.inner).collect();
        self.inner.on_merge(window, merged, &mut ctx.inner(|state| &mut state.inner));
    }

    fn describe(&self) -> String {
        let since = if self.is_restarted { "last" } else { "first" };
        let timeout = show(self.timeout_ms);
        format!("{}, or {timeout} after the {since} record", self.inner.describe())
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = self.inner.problems();
        if self.timeout_ms < 1 {
            problems.push("the timeout of its trigger must be at least 1 ms".to_string());
        }
        problems
    }
}

/// Fires at a record whose measure differs by more than a threshold from that of the record at
/// which the window last fired, or from its first record's.
#[derive(Debug, Clone, Copy)]
pub struct Delta<F> {
    threshold: f64,
    measure: F,
}

impl<F> Delta<F> {
    /// Fires when `measure(record)` has moved by more than `threshold`.
    pub fn of<T>(threshold: f64, measure: F) -> Self
    where
        F: Fn(&T) -> f64,
    {
        Self { threshold, measure }
    }
}

/// The measure of the record that others are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Measured(Option<f64>);

impl<T, F: Fn(&T) -> f64 + Clone + Send + 'static> Trigger<T> for Delta<F> {
    type State = Measured;

    fn on_element(
        &self,
        value: &T,
        _time_ms: i64,
        _window: &Window,
        ctx: &mut TriggerContext<'_, Measured>,
    ) -> TriggerResult {
        let measured = (self.measure)(value);
        let last = *ctx.state.0.get_or_insert(measured);
        if (measured - last).abs() > self.threshold {
            ctx.state.0 = Some(measured);
            return Fire;
        }
        Continue
    }

    fn describe(&self) -> String {
        format!("when a measure has moved by more than {}", self.threshold)
    }

    fn problems(&self) -> Vec<String> {
        let is_threshold = self.threshold >= 0.0;
        let problem = "the threshold of its trigger must be 0 or more".to_string();
        (!is_threshold).then_some(problem).into_iter().collect()
    }
}
