//! The triggers that come with the engine.
//!
//! | trigger | fires |
//! |---|---|
//! | [`EventTime`] | when the watermark completes the window, and again for every later record |
//! | [`ProcessingTime`] | when the clock is past the window's end |
//! | [`Count`] | at every n-th record |
//! | [`ContinuousEventTime`] | at every multiple of an interval, and when the window is complete |
//! | [`Never`] | never: for windows that only gather |
//! | [`Purging`] | whenever another does, and empties the window |

use std::time::Duration;

use crate::data::row::{MAX_WATERMARK, NO_EVENT_TIME};
use crate::time::strategy::duration_ms;
use crate::time::trigger::{Trigger, TriggerContext, TriggerResult};
use crate::time::window::{Window, period_start_ms, show};

use TriggerResult::{Continue, Fire, FireAndPurge};

/// Fires when the watermark completes the window, and again at once for every record that comes
/// later and is not too late. The default of event-time windows.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventTime;

impl<T> Trigger<T> for EventTime {
    type State = ();

    fn on_element(
        &self,
        _value: &T,
        _time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        if window.max_timestamp() <= ctx.watermark_ms() {
            return Fire;
        }
        ctx.register_event_time(window.max_timestamp());
        Continue
    }

    fn on_event_time(
        &self,
        time_ms: i64,
        window: &Window,
        _ctx: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        if time_ms == window.max_timestamp() { Fire } else { Continue }
    }

    fn needs_watermarks(&self) -> bool {
        true
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&self, window: &Window, _merged: Vec<()>, ctx: &mut TriggerContext<'_, ()>) {
        if window.max_timestamp() > ctx.watermark_ms() {
            ctx.register_event_time(window.max_timestamp());
        }
    }

    fn describe(&self) -> String {
        "when the watermark passes the window".to_string()
    }
}

/// Fires when the clock is past the window's end. The default of processing-time windows.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessingTime;

impl<T> Trigger<T> for ProcessingTime {
    type State = ();

    fn on_element(
        &self,
        _value: &T,
        _time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        ctx.register_processing_time(window.max_timestamp());
        Continue
    }

    fn on_processing_time(
        &self,
        time_ms: i64,
        window: &Window,
        _ctx: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        if time_ms == window.max_timestamp() { Fire } else { Continue }
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&self, window: &Window, _merged: Vec<()>, ctx: &mut TriggerContext<'_, ()>) {
        ctx.register_processing_time(window.max_timestamp());
    }

    fn describe(&self) -> String {
        "when the clock passes the window".to_string()
    }
}

/// Fires at every `count`-th record of a window.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    count: u64,
}

impl Count {
    /// Fires when `count` records have come since it last fired.
    pub fn of(count: u64) -> Self {
        Self { count }
    }
}

/// Records since a window last fired.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize
)]
pub struct CountState(u64);

impl<T> Trigger<T> for Count {
    type State = CountState;

    fn on_element(
        &self,
        _value: &T,
        _time_ms: i64,
        _window: &Window,
        ctx: &mut TriggerContext<'_, CountState>,
    ) -> TriggerResult {
        ctx.state.0 += 1;
        if ctx.state.0 < self.count {
            return Continue;
        }
        ctx.state.0 = 0;
        Fire
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(
        &self,
        _window: &Window,
        merged: Vec<CountState>,
        ctx: &mut TriggerContext<'_, CountState>,
    ) {
        ctx.state.0 += merged.iter().map(|state| state.0).sum::<u64>();
    }

    fn describe(&self) -> String {
        format!("every {} records", self.count)
    }

    fn problems(&self) -> Vec<String> {
        let problem = "its trigger cannot fire at every 0th record: use 1 or more".to_string();
        (self.count == 0).then_some(problem).into_iter().collect()
    }
}

/// Fires whenever the watermark passes a multiple of an interval, and when it completes the window.
#[derive(Debug, Clone, Copy)]
pub struct ContinuousEventTime {
    interval_ms: i64,
}

impl ContinuousEventTime {
    /// Fires at multiples of `interval`.
    pub fn of(interval: Duration) -> Self {
        Self { interval_ms: duration_ms(interval) }
    }

    /// Registers the multiple after `from_ms`, or the window's end if that is earlier. Event time
    /// that ends takes a window without an end to its end at once.
    fn register_next(self, from_ms: i64, window: &Window, ctx: &mut TriggerContext<'_, NextFire>) {
        let next_ms = match *window {
            Window::GLOBAL if ctx.watermark_ms() == MAX_WATERMARK => window.max_timestamp(),
            _ => from_ms.saturating_add(self.interval_ms).min(window.max_timestamp()),
        };
        *ctx.state = NextFire(next_ms);
        ctx.register_event_time(next_ms);
    }
}

/// The time (ms) of the next early firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct NextFire(pub(super) i64);

impl Default for NextFire {
    fn default() -> Self {
        Self(NO_EVENT_TIME)
    }
}

impl<T> Trigger<T> for ContinuousEventTime {
    type State = NextFire;

    fn on_element(
        &self,
        _value: &T,
        time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, NextFire>,
    ) -> TriggerResult {
        if window.max_timestamp() <= ctx.watermark_ms() {
            return Fire;
        }
        ctx.register_event_time(window.max_timestamp());
        if *ctx.state == NextFire::default() {
            self.register_next(period_start_ms(time_ms, self.interval_ms, 0), window, ctx);
        }
        Continue
    }

    fn on_event_time(
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
        self.register_next(time_ms, window, ctx);
        Fire
    }

    fn needs_watermarks(&self) -> bool {
        true
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
            ctx.register_event_time(next.0);
        }
        if window.max_timestamp() > ctx.watermark_ms() {
            ctx.register_event_time(window.max_timestamp());
        }
    }

    fn describe(&self) -> String {
        format!("every {} of event time", show(self.interval_ms))
    }

    fn problems(&self) -> Vec<String> {
        no_interval(self.interval_ms)
    }
}

/// Never fires.
#[derive(Debug, Clone, Copy, Default)]
pub struct Never;

impl<T> Trigger<T> for Never {
    type State = ();

    fn on_element(
        &self,
        _value: &T,
        _time_ms: i64,
        _window: &Window,
        _ctx: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        Continue
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn fires_without_end(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        "never".to_string()
    }
}

/// Fires whenever `inner` does, and empties the window then.
#[derive(Debug, Clone, Copy)]
pub struct Purging<G> {
    inner: G,
}

impl<G> Purging<G> {
    /// `inner`, and an empty window after it.
    pub fn of(inner: G) -> Self {
        Self { inner }
    }
}

impl<T, G: Trigger<T>> Trigger<T> for Purging<G> {
    type State = G::State;

    fn on_element(
        &self,
        value: &T,
        time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, G::State>,
    ) -> TriggerResult {
        purge(self.inner.on_element(value, time_ms, window, ctx))
    }

    fn on_event_time(
        &self,
        time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, G::State>,
    ) -> TriggerResult {
        purge(self.inner.on_event_time(time_ms, window, ctx))
    }

    fn on_processing_time(
        &self,
        time_ms: i64,
        window: &Window,
        ctx: &mut TriggerContext<'_, G::State>,
    ) -> TriggerResult {
        purge(self.inner.on_processing_time(time_ms, window, ctx))
    }

    fn needs_watermarks(&self) -> bool {
        self.inner.needs_watermarks()
    }

    fn can_merge(&self) -> bool {
        self.inner.can_merge()
    }

    fn on_merge(
        &self,
        window: &Window,
        merged: Vec<G::State>,
        ctx: &mut TriggerContext<'_, G::State>,
    ) {
        self.inner.on_merge(window, merged, ctx);
    }

    fn describe(&self) -> String {
        format!("{}, emptying the window", self.inner.describe())
    }

    fn fires_without_end(&self) -> bool {
        self.inner.fires_without_end()
    }

    fn leaves_nothing(&self) -> bool {
        self.inner.leaves_nothing()
    }

    fn problems(&self) -> Vec<String> {
        self.inner.problems()
    }
}

/// What is wrong with an interval between firings, if something is.
pub(super) fn no_interval(interval_ms: i64) -> Vec<String> {
    let problem = "the interval of its trigger must be at least 1 ms".to_string();
    (interval_ms < 1).then_some(problem).into_iter().collect()
}

fn purge(result: TriggerResult) -> TriggerResult {
    if result.is_fire() { FireAndPurge } else { result }
}
