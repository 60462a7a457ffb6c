//! How watermarks are made from the records of a split.
//!
//! A [`WatermarkGenerator`] watches one split and says how far event time has come there; a
//! [`WatermarkStrategy`] adds what concerns splits among each other.
//!
//! | strategy | the watermark is |
//! |---|---|
//! | [`BoundedOutOfOrderness`] | the largest event time so far, less the bound, less 1 ms |
//! | [`Monotonic`] | the largest event time so far, less 1 ms |
//! | [`Punctuated`] | what a closure reads from certain records |
//! | [`IngestionTime`] | processing time, less 1 ms |
//! | your own | anything that never takes a promise back |
//!
//! The 1 ms is there because a record with the same event time may still follow.
//!
//! Not here: combining splits (`time/watermark.rs`), the operator that feeds the generators
//! (`operator/watermark.rs`).

use std::time::Duration;

use crate::data::row::NO_EVENT_TIME;
use crate::limits::EVENT_TIME_MS_MIN;

/// Watches the records of one split. Every split has a clone of its own, made before the first
/// record.
///
/// After a restore a split begins with a fresh clone; the watermark it had reached is remembered
/// beside it and does not go back.
pub trait WatermarkGenerator<T>: Clone + Send + 'static {
    /// A record of the split, with its event time (ms).
    fn on_record(&mut self, record: &T, event_time_ms: i64);

    /// No record of the split at or before this event time (ms) is still expected;
    /// [`NO_EVENT_TIME`] while nothing can be said. Asked at the end of every batch. A smaller
    /// answer than before is ignored.
    fn watermark_ms(&self) -> i64;

    /// It is processing time `now_ms` (ms since 1970). Called before each
    /// [`WatermarkGenerator::watermark_ms`], and at the times that
    /// [`WatermarkGenerator::next_time_ms`] asks for unless the split is idle.
    fn on_time(&mut self, _now_ms: i64) {}

    /// The processing time (ms) at which the watermark may rise although no record comes.
    fn next_time_ms(&self) -> Option<i64> {
        None
    }
}

/// How an operator learns when a record happened: a closure that reads it from the record, or one
/// of the clocks below.
pub trait EventTimeOf<T>: 'static {
    /// The event time of `record` (ms); `source_ms` is what the source says of it
    /// ([`NO_EVENT_TIME`] if nothing), `now_ms` is processing time.
    fn event_time_ms(&mut self, record: &T, source_ms: i64, now_ms: i64) -> i64;
}

impl<T, F: FnMut(&T) -> i64 + 'static> EventTimeOf<T> for F {
    #[inline]
    fn event_time_ms(&mut self, record: &T, _source_ms: i64, _now_ms: i64) -> i64 {
        self(record)
    }
}

/// A record happened when its source says that it did.
#[derive(Debug, Clone, Copy)]
pub struct FromSource;

impl<T> EventTimeOf<T> for FromSource {
    #[inline]
    fn event_time_ms(&mut self, _record: &T, source_ms: i64, _now_ms: i64) -> i64 {
        source_ms
    }
}

/// A record happens when it is read: its event time is the processing time of that turn, nothing is
/// ever late, and event time goes on with the clock while the source has something to read. Once it
/// is idle, the last window waits for its next record.
#[derive(Debug, Clone)]
pub struct IngestionTime {
    now_ms: i64,
}

/// How often the clock is looked at while no record comes, ms.
const INGESTION_PERIOD_MS: i64 = 200;

impl IngestionTime {
    /// The strategy.
    pub fn new() -> Self {
        Self { now_ms: NO_EVENT_TIME }
    }
}

impl Default for IngestionTime {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> EventTimeOf<T> for IngestionTime {
    #[inline]
    fn event_time_ms(&mut self, _record: &T, _source_ms: i64, now_ms: i64) -> i64 {
        now_ms
    }
}

impl<T> WatermarkGenerator<T> for IngestionTime {
    fn on_record(&mut self, _record: &T, _event_time_ms: i64) {}

    fn watermark_ms(&self) -> i64 {
        self.now_ms.saturating_sub(1)
    }

    fn on_time(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    fn next_time_ms(&self) -> Option<i64> {
        Some(self.now_ms.saturating_add(INGESTION_PERIOD_MS))
    }
}

/// Records come at most this much later than one with a larger event time.
#[derive(Debug, Clone)]
pub struct BoundedOutOfOrderness {
    bound_ms: i64,
    max_ms: i64,
}

impl BoundedOutOfOrderness {
    /// Waits for records up to `bound` behind the latest; whole milliseconds.
    ///
    /// # Panics
    /// If `bound` is longer than the range of event times (see [`crate::limits`]).
    pub fn new(bound: Duration) -> Self {
        Self { bound_ms: duration_ms(bound), max_ms: NO_EVENT_TIME }
    }
}

impl<T> WatermarkGenerator<T> for BoundedOutOfOrderness {
    #[inline]
    fn on_record(&mut self, _record: &T, event_time_ms: i64) {
        self.max_ms = self.max_ms.max(event_time_ms);
    }

    fn watermark_ms(&self) -> i64 {
        self.max_ms.saturating_sub(self.bound_ms).saturating_sub(1)
    }
}

/// Event times never go back within a split.
#[derive(Debug, Clone)]
pub struct Monotonic {
    max_ms: i64,
}

impl Monotonic {
    /// The strategy.
    pub fn new() -> Self {
        Self { max_ms: NO_EVENT_TIME }
    }
}

impl Default for Monotonic {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> WatermarkGenerator<T> for Monotonic {
    #[inline]
    fn on_record(&mut self, _record: &T, event_time_ms: i64) {
        self.max_ms = self.max_ms.max(event_time_ms);
    }

    fn watermark_ms(&self) -> i64 {
        self.max_ms.saturating_sub(1)
    }
}

/// Certain records say how far event time has come.
#[derive(Debug, Clone)]
pub struct Punctuated<F> {
    watermark_of: F,
    watermark_ms: i64,
}

impl<F> Punctuated<F> {
    /// `watermark_of(record, event_time_ms)` is the watermark (ms) that the record carries, if it
    /// carries one.
    pub fn new(watermark_of: F) -> Self {
        Self { watermark_of, watermark_ms: NO_EVENT_TIME }
    }
}

impl<T, F> WatermarkGenerator<T> for Punctuated<F>
where
    F: Fn(&T, i64) -> Option<i64> + Clone + Send + 'static,
{
    #[inline]
    fn on_record(&mut self, record: &T, event_time_ms: i64) {
        if let Some(watermark_ms) = (self.watermark_of)(record, event_time_ms) {
            self.watermark_ms = self.watermark_ms.max(watermark_ms);
        }
    }

    fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }
}

/// A generator for each split, and how splits wait for each other.
#[derive(Debug, Clone)]
pub struct WatermarkStrategy<G> {
    /// Cloned for every split.
    pub generator: G,
    /// See [`WatermarkStrategy::with_idleness`].
    pub idleness_ms: Option<i64>,
    /// See [`WatermarkStrategy::with_alignment`].
    pub drift_max_ms: Option<i64>,
    /// See [`WatermarkStrategy::with_ahead_limit`].
    pub ahead_max_ms: Option<i64>,
    /// See [`WatermarkStrategy::skip_invalid_times`].
    pub skips_invalid_times: bool,
}

impl<G> WatermarkStrategy<G> {
    /// `generator` for every split, without idleness timeout or alignment.
    pub fn new(generator: G) -> Self {
        Self {
            generator,
            idleness_ms: None,
            drift_max_ms: None,
            ahead_max_ms: None,
            skips_invalid_times: false,
        }
    }

    /// A split that has delivered nothing for `timeout` of processing time holds the watermark back
    /// no longer, until it delivers again.
    ///
    /// A guess: a split that was merely slow delivers late records afterwards. Splits whose source
    /// knows that it has read everything (a directory, a log) are idle at once and need no timeout.
    pub fn with_idleness(mut self, timeout: Duration) -> Self {
        self.idleness_ms = Some(duration_ms(timeout).max(1));
        self
    }

    /// A split whose watermark is more than `drift_max` ahead of the slowest split of the source,
    /// on any shard, is not read until the others have caught up. Bounds what windows must hold
    /// when splits are read at different speeds.
    ///
    /// A split that has delivered nothing yet is the slowest of all: combine this with
    /// [`WatermarkStrategy::with_idleness`] if one may stay silent.
    pub fn with_alignment(mut self, drift_max: Duration) -> Self {
        self.drift_max_ms = Some(duration_ms(drift_max));
        self
    }

    /// Records more than `ahead_max` ahead of processing time go on with the event time they have,
    /// but move no watermark: one record from a wrong clock then does not make all others late.
    pub fn with_ahead_limit(mut self, ahead_max: Duration) -> Self {
        self.ahead_max_ms = Some(duration_ms(ahead_max));
        self
    }

    /// Records whose event time is not in the years 1 to 9999 are dropped and counted as late.
    /// Without this they stop the job with an error that names the record: nearly always the
    /// closure does not give milliseconds.
    pub fn skip_invalid_times(mut self) -> Self {
        self.skips_invalid_times = true;
        self
    }
}

/// What can be given where records of type `T` need watermarks: a built-in generator, or a
/// [`WatermarkStrategy`] of any.
pub trait IntoWatermarkStrategy<T> {
    /// What watches each split.
    type Generator: WatermarkGenerator<T>;

    /// The whole strategy.
    fn into_strategy(self) -> WatermarkStrategy<Self::Generator>;
}

impl<T, G: WatermarkGenerator<T>> IntoWatermarkStrategy<T> for WatermarkStrategy<G> {
    type Generator = G;

    fn into_strategy(self) -> Self {
        self
    }
}

/// Lets a built-in generator be given and refined without naming [`WatermarkStrategy`].
macro_rules! built_in {
    ($name:ident $(<$param:ident>)? $(where $bound:path)?) => {
        impl<T $(, $param)?> IntoWatermarkStrategy<T> for $name $(<$param>)?
        where
            Self: WatermarkGenerator<T>,
        {
            type Generator = Self;

            fn into_strategy(self) -> WatermarkStrategy<Self> {
                WatermarkStrategy::new(self)
            }
        }

        impl $(<$param>)? $name $(<$param>)? {
            /// See [`WatermarkStrategy::with_idleness`].
            pub fn with_idleness(self, timeout: Duration) -> WatermarkStrategy<Self> {
                WatermarkStrategy::new(self).with_idleness(timeout)
            }

            /// See [`WatermarkStrategy::with_alignment`].
            pub fn with_alignment(self, drift_max: Duration) -> WatermarkStrategy<Self> {
                WatermarkStrategy::new(self).with_alignment(drift_max)
            }

            /// See [`WatermarkStrategy::with_ahead_limit`].
            pub fn with_ahead_limit(self, ahead_max: Duration) -> WatermarkStrategy<Self> {
                WatermarkStrategy::new(self).with_ahead_limit(ahead_max)
            }

            /// See [`WatermarkStrategy::skip_invalid_times`].
            pub fn skip_invalid_times(self) -> WatermarkStrategy<Self> {
                WatermarkStrategy::new(self).skip_invalid_times()
            }
        }
    };
}

built_in!(BoundedOutOfOrderness);
built_in!(Monotonic);
built_in!(Punctuated<F>);
built_in!(IngestionTime);

/// Whole milliseconds of a duration that is added to or taken from event times: no more than those
/// from year 1 to 1970, so that no sum overflows.
pub fn duration_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).min(-EVENT_TIME_MS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mut generator: impl WatermarkGenerator<i64>, event_times_ms: &[i64], expected: i64) {
        for time_ms in event_times_ms {
            generator.on_record(time_ms, *time_ms);
        }
        assert_eq!(generator.watermark_ms(), expected);
    }

    #[test]
    fn bounded_out_of_orderness_stays_behind_the_latest() {
        let bound = BoundedOutOfOrderness::new(Duration::from_secs(5));
        check(bound.clone(), &[], NO_EVENT_TIME);
        check(bound.clone(), &[10_000, 12_000, 9_000], 6_999);
        check(bound, &[-10_000], -15_001);
    }

    #[test]
    fn monotonic_expects_more_of_the_same_time() {
        check(Monotonic::new(), &[1, 2, 2], 1);
    }

    #[test]
    fn ingestion_follows_the_clock_and_not_the_records() {
        let mut ingestion = IngestionTime::new();
        WatermarkGenerator::<i64>::on_time(&mut ingestion, 1_000);
        check(ingestion.clone(), &[5_000], 999);
        assert_eq!(WatermarkGenerator::<i64>::next_time_ms(&ingestion), Some(1_200));
        assert_eq!(EventTimeOf::<i64>::event_time_ms(&mut ingestion, &7, 3, 1_000), 1_000);
    }

    #[test]
    fn punctuation_speaks_for_itself() {
        let even = Punctuated::new(|record: &i64, _| (record % 2 == 0).then_some(record - 100));
        check(even.clone(), &[7, 9], NO_EVENT_TIME);
        check(even, &[7, 8, 9, 4], -92);
    }
}
