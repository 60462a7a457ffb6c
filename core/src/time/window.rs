//! Windows, and the assigners that say which windows a time belongs to.
//!
//! ```text
//! Tumbling    |────|────|────|        every time in one window
//! Sliding     |────────|              in size / slide windows
//!                 |────────|
//! Cumulative  |──|                    in every window from its step to the period's end
//!             |─────|
//!             |────────|──|
//! Session     |─r─r──r──|   |─r──|    each record opens [t, t + gap); those that touch merge
//! Global      |───────────────────    one window, which a trigger has to fire
//! ```
//!
//! The time is the record's event time, or the processing time at which it is taken
//! ([`TimeDomain`]). Windows are aligned to 1970 plus an offset; a time before that is as good as
//! any other: divisions round down, not to zero.
//!
//! Not here: how windows that share records share work (`time/slices.rs`).

use std::time::Duration;

use crate::time::strategy::duration_ms;

/// A stretch of time: from `start_ms` up to, not including, `end_ms`. Ordered by start.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize
)]
pub struct Window {
    /// First millisecond in it.
    pub start_ms: i64,
    /// First millisecond after it.
    pub end_ms: i64,
}

impl Window {
    /// The one window of [`Global`]: it has no end that a watermark short of the end of the stream
    /// reaches.
    pub const GLOBAL: Self = Self { start_ms: i64::MIN, end_ms: i64::MAX };

    /// From `start_ms` up to, not including, `end_ms`.
    pub fn new(start_ms: i64, end_ms: i64) -> Self {
        Self { start_ms, end_ms }
    }

    /// Last millisecond in it: the watermark that completes it, and the event time of its results.
    pub fn max_timestamp(&self) -> i64 {
        match *self {
            Self::GLOBAL => i64::MAX,
            Self { end_ms, .. } => end_ms - 1,
        }
    }

    /// When its contents may go: no record that arrives at this watermark (ms) or later can change
    /// it. `None` for the global window, which stays.
    pub fn cleanup_ms(&self, allowed_lateness_ms: i64) -> Option<i64> {
        (*self != Self::GLOBAL).then(|| self.max_timestamp().saturating_add(allowed_lateness_ms))
    }

    /// Whether two windows share a time or one begins where the other ends.
    pub fn touches(&self, other: &Self) -> bool {
        self.start_ms <= other.end_ms && other.start_ms <= self.end_ms
    }

    /// The smallest window that covers both.
    pub fn cover(&self, other: &Self) -> Self {
        Self { start_ms: self.start_ms.min(other.start_ms), end_ms: self.end_ms.max(other.end_ms) }
    }
}

/// Which clock windows and their triggers go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeDomain {
    /// When it happened: record times and watermarks.
    #[default]
    Event,
    /// When it is taken: the clock of the turn.
    Processing,
}

/// Says which windows a record belongs to.
pub trait WindowAssigner<T>: Clone + Send + 'static {
    /// Appends the windows of a record taken at `time_ms`, ascending. None is possible: a sliding
    /// window whose slide is longer than its size leaves gaps.
    fn assign(&self, value: &T, time_ms: i64, windows: &mut Vec<Window>);

    /// Which clock `time_ms` is read from.
    fn domain(&self) -> TimeDomain;

    /// Whether windows of a key that touch become one.
    fn is_merging(&self) -> bool {
        false
    }

    /// Whether its windows have no end, so that only a trigger fires and nothing removes them.
    fn is_endless(&self) -> bool {
        false
    }

    /// For `explain`: `tumbling 5s`.
    fn describe(&self) -> String;

    /// Mistakes in how it is set up: one sentence each, saying what to do.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Windows of one size, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Tumbling {
    /// Length, ms.
    pub size_ms: i64,
    /// Windows begin at whole multiples of the size, plus this, ms.
    pub offset_ms: i64,
    /// Which clock.
    pub domain: TimeDomain,
}

/// Windows of one size that begin every `slide`.
#[derive(Debug, Clone, Copy)]
pub struct Sliding {
    /// Length, ms.
    pub size_ms: i64,
    /// From beginning to beginning, ms.
    pub slide_ms: i64,
    /// Windows begin at whole multiples of the slide, plus this, ms.
    pub offset_ms: i64,
    /// Which clock.
    pub domain: TimeDomain,
}

/// Windows that grow by a step until they have their full size, and begin anew.
#[derive(Debug, Clone, Copy)]
pub struct Cumulative {
    /// Length of the longest, ms.
    pub size_max_ms: i64,
    /// From end to end, ms.
    pub step_ms: i64,
    /// The longest begin at whole multiples of their size, plus this, ms.
    pub offset_ms: i64,
    /// Which clock.
    pub domain: TimeDomain,
}

/// Windows that last until nothing has happened for a gap.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// The silence that ends a session, ms.
    pub gap_ms: i64,
    /// Which clock.
    pub domain: TimeDomain,
}

/// Sessions whose gap depends on the record.
#[derive(Debug, Clone, Copy)]
pub struct DynamicSession<F> {
    gap_of: F,
    /// Which clock.
    pub domain: TimeDomain,
}

/// One window for everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Global;

/// Generates what assigners with a clock have in common.
macro_rules! refinements {
    ($name:ident $(<$param:ident>)? $(, $period:ident)?) => {
        impl$(<$param>)? $name$(<$param>)? {
            /// The same by processing time.
            pub fn processing_time(mut self) -> Self {
                self.domain = TimeDomain::Processing;
                self
            }

            $(
                /// The same, shifted: with an offset of 30 minutes, windows of an hour begin at
                /// half past. For local days west of Greenwich by `h` hours, shift by `h`; east of
                /// it, by `24 - h`.
                pub fn offset(mut self, offset: Duration) -> Self {
                    self.offset_ms = duration_ms(offset).rem_euclid(self.$period.max(1));
                    self
                }
            )?
        }
    };
}

refinements!(Tumbling, size_ms);
refinements!(Sliding, slide_ms);
refinements!(Cumulative, size_max_ms);
refinements!(Session);
refinements!(DynamicSession<F>);

impl Tumbling {
    /// Windows of `size`.
    pub fn new(size: Duration) -> Self {
        Self { size_ms: duration_ms(size), offset_ms: 0, domain: TimeDomain::Event }
    }
}

impl Sliding {
    /// Windows of `size`, one every `slide`.
    pub fn new(size: Duration, slide: Duration) -> Self {
        let (size_ms, slide_ms) = (duration_ms(size), duration_ms(slide));
        Self { size_ms, slide_ms, offset_ms: 0, domain: TimeDomain::Event }
    }
}

impl Cumulative {
    /// Windows that grow by `step` up to `size_max`.
    pub fn new(size_max: Duration, step: Duration) -> Self {
        let (size_max_ms, step_ms) = (duration_ms(size_max), duration_ms(step));
        Self { size_max_ms, step_ms, offset_ms: 0, domain: TimeDomain::Event }
    }
}

impl Session {
    /// Sessions that end after `gap` without a record.
    pub fn new(gap: Duration) -> Self {
        Self { gap_ms: duration_ms(gap), domain: TimeDomain::Event }
    }

    /// Sessions in which every record says how long a gap (ms, at least 1) may follow it.
    pub fn dynamic<T, F: Fn(&T) -> i64 + Clone + Send + 'static>(gap_of: F) -> DynamicSession<F> {
        DynamicSession { gap_of, domain: TimeDomain::Event }
    }
}

/// The start of the period of `period_ms` that `time_ms` is in.
#[inline]
pub fn period_start_ms(time_ms: i64, period_ms: i64, offset_ms: i64) -> i64 {
    time_ms - (time_ms - offset_ms).rem_euclid(period_ms)
}

impl<T> WindowAssigner<T> for Tumbling {
    fn assign(&self, _value: &T, time_ms: i64, windows: &mut Vec<Window>) {
        let start_ms = period_start_ms(time_ms, self.size_ms, self.offset_ms);
        windows.push(Window::new(start_ms, start_ms + self.size_ms));
    }

    fn domain(&self) -> TimeDomain {
        self.domain
    }

    fn describe(&self) -> String {
        format!("tumbling {}", show(self.size_ms)) + &show_offset(self.offset_ms, self.domain)
    }

    fn problems(&self) -> Vec<String> {
        not_positive(&[("size", self.size_ms)])
    }
}

impl<T> WindowAssigner<T> for Sliding {
    fn assign(&self, _value: &T, time_ms: i64, windows: &mut Vec<Window>) {
        let last_start_ms = period_start_ms(time_ms, self.slide_ms, self.offset_ms);
        let covering = (last_start_ms + self.size_ms - 1 - time_ms).div_euclid(self.slide_ms);
        for back in (0..=covering).rev() {
            let start_ms = last_start_ms - back * self.slide_ms;
            windows.push(Window::new(start_ms, start_ms + self.size_ms));
        }
    }

    fn domain(&self) -> TimeDomain {
        self.domain
    }

    fn describe(&self) -> String {
        let (size, slide) = (show(self.size_ms), show(self.slide_ms));
        format!("sliding {size} by {slide}") + &show_offset(self.offset_ms, self.domain)
    }

    fn problems(&self) -> Vec<String> {
        not_positive(&[("size", self.size_ms), ("slide", self.slide_ms)])
    }
}

impl<T> WindowAssigner<T> for Cumulative {
    fn assign(&self, _value: &T, time_ms: i64, windows: &mut Vec<Window>) {
        let start_ms = period_start_ms(time_ms, self.size_max_ms, self.offset_ms);
        let first_step = (time_ms - start_ms).div_euclid(self.step_ms) + 1;
        for step in first_step..=self.size_max_ms / self.step_ms {
            windows.push(Window::new(start_ms, start_ms + step * self.step_ms));
        }
    }

    fn domain(&self) -> TimeDomain {
        self.domain
    }

    fn describe(&self) -> String {
        let (size_max, step) = (show(self.size_max_ms), show(self.step_ms));
        format!("cumulative {size_max} by {step}") + &show_offset(self.offset_ms, self.domain)
    }

    fn problems(&self) -> Vec<String> {
        let mut problems =
            not_positive(&[("longest size", self.size_max_ms), ("step", self.step_ms)]);
        if problems.is_empty() && self.size_max_ms % self.step_ms != 0 {
            problems.push(format!(
                "the longest size of its cumulative window ({}) must be a whole number of steps \
                 of {}",
                show(self.size_max_ms),
                show(self.step_ms),
            ));
        }
        problems
    }
}

impl<T> WindowAssigner<T> for Session {
    fn assign(&self, _value: &T, time_ms: i64, windows: &mut Vec<Window>) {
        windows.push(Window::new(time_ms, time_ms + self.gap_ms));
    }

    fn domain(&self) -> TimeDomain {
        self.domain
    }

    fn is_merging(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("session with a gap of {}", show(self.gap_ms)) + &show_offset(0, self.domain)
    }

    fn problems(&self) -> Vec<String> {
        not_positive(&[("gap", self.gap_ms)])
    }
}

impl<T, F: Fn(&T) -> i64 + Clone + Send + 'static> WindowAssigner<T> for DynamicSession<F> {
    /// # Panics
    /// If the record's gap is not positive.
    fn assign(&self, value: &T, time_ms: i64, windows: &mut Vec<Window>) {
        let gap_ms = (self.gap_of)(value);
        assert!(gap_ms > 0, "a session's gap is at least 1 ms, and a record gave {gap_ms}");
        windows.push(Window::new(time_ms, time_ms.saturating_add(gap_ms)));
    }

    fn domain(&self) -> TimeDomain {
        self.domain
    }

    fn is_merging(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        "session with a gap of each record's own".to_string() + &show_offset(0, self.domain)
    }
}

impl<T> WindowAssigner<T> for Global {
    fn assign(&self, _value: &T, _time_ms: i64, windows: &mut Vec<Window>) {
        windows.push(Window::GLOBAL);
    }

    /// It depends on no time, so records need none.
    fn domain(&self) -> TimeDomain {
        TimeDomain::Processing
    }

    fn is_endless(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        "global".to_string()
    }
}

fn not_positive(parts: &[(&str, i64)]) -> Vec<String> {
    let bad = parts.iter().filter(|(_, ms)| *ms <= 0);
    bad.map(|(part, _)| format!("the {part} of its window must be at least 1 ms")).collect()
}

/// `90s` as people write it: the largest unit that divides it.
pub fn show(ms: i64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];
    let divides = units.iter().find(|(_, unit)| ms % unit == 0);
    let (name, unit) = divides.expect("everything is whole milliseconds");
    if ms == 0 { "0s".to_string() } else { format!("{}{name}", ms / unit) }
}

fn show_offset(offset_ms: i64, domain: TimeDomain) -> String {
    let offset = match offset_ms {
        0 => String::new(),
        _ => format!(", offset {}", show(offset_ms)),
    };
    match domain {
        TimeDomain::Event => offset,
        TimeDomain::Processing => offset + ", processing time",
    }
}

#[cfg(test)]
mod tests;
