//! Evictors: which records of a window its function does not get to see.
//!
//! An evictor looks at the records of a window, in the order of their arrival, when the window
//! fires: before its function, after it, or both. What it evicts is gone for good. A window with an
//! evictor keeps all its records, whatever its function makes of them.

use std::time::Duration;

use crate::data::row::NO_EVENT_TIME;
use crate::time::strategy::duration_ms;
use crate::time::window::{Window, show};

/// Removes records of a window. See the module.
pub trait Evictor<T>: Clone + Send + 'static {
    /// Before the function: whatever [`Rows::retain`] and [`Rows::keep_last`] do not keep is gone.
    fn evict_before(&self, _rows: &mut Rows<T>, _window: &Window) {}

    /// After the function.
    fn evict_after(&self, _rows: &mut Rows<T>, _window: &Window) {}

    /// For `explain`: `the last 100 records`.
    fn describe(&self) -> String;

    /// Mistakes in how it is set up: one sentence each, saying what to do.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The records of a window in the order of their arrival, each with its event time.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Rows<T> {
    values: Vec<T>,
    event_times_ms: Vec<i64>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { values: Vec::new(), event_times_ms: Vec::new() }
    }
}

impl<T> Rows<T> {
    /// Adds one at the end.
    pub fn push(&mut self, value: T, event_time_ms: i64) {
        self.values.push(value);
        self.event_times_ms.push(event_time_ms);
    }

    /// Adds all of `other` at the end.
    pub fn append(&mut self, mut other: Self) {
        self.values.append(&mut other.values);
        self.event_times_ms.append(&mut other.event_times_ms);
    }

    /// The values.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The event times (ms), one for each value.
    pub fn event_times_ms(&self) -> &[i64] {
        &self.event_times_ms
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Keeps those for which `keep(value, event_time_ms)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&T, i64) -> bool) {
        let kept: Vec<bool> =
            self.values.iter().zip(&self.event_times_ms).map(|(v, t)| keep(v, *t)).collect();
        for_kept(&mut self.values, &kept);
        for_kept(&mut self.event_times_ms, &kept);
    }

    /// Keeps the last `count`.
    pub fn keep_last(&mut self, count: usize) {
        let gone = self.len().saturating_sub(count);
        self.values.drain(..gone);
        self.event_times_ms.drain(..gone);
    }
}

fn for_kept<V>(values: &mut Vec<V>, kept: &[bool]) {
    let mut kept = kept.iter();
    values.retain(|_| *kept.next().expect("as many answers as values"));
}

/// Evicts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeepAll;

impl<T> Evictor<T> for KeepAll {
    fn describe(&self) -> String {
        "nothing".to_string()
    }
}

/// Keeps the records that came last.
#[derive(Debug, Clone, Copy)]
pub struct KeepCount {
    count: usize,
    is_after: bool,
}

impl KeepCount {
    /// Keeps the last `count`, before the function.
    pub fn of(count: usize) -> Self {
        Self { count, is_after: false }
    }

    /// Evicts after the function instead.
    pub fn after(mut self) -> Self {
        self.is_after = true;
        self
    }
}

impl<T> Evictor<T> for KeepCount {
    fn evict_before(&self, rows: &mut Rows<T>, _window: &Window) {
        if !self.is_after {
            rows.keep_last(self.count);
        }
    }

    fn evict_after(&self, rows: &mut Rows<T>, _window: &Window) {
        if self.is_after {
            rows.keep_last(self.count);
        }
    }

    fn describe(&self) -> String {
        format!("all but the last {} records", self.count)
    }

    fn problems(&self) -> Vec<String> {
        let problem = "its evictor keeps no record: let it keep 1 or more".to_string();
        (self.count == 0).then_some(problem).into_iter().collect()
    }
}

/// Keeps the records whose event times are near the latest in the window, and those without one.
#[derive(Debug, Clone, Copy)]
pub struct KeepRecent {
    size_ms: i64,
    is_after: bool,
}

impl KeepRecent {
    /// Keeps those less than `size` before the latest, before the function.
    pub fn of(size: Duration) -> Self {
        Self { size_ms: duration_ms(size), is_after: false }
    }

    /// Evicts after the function instead.
    pub fn after(mut self) -> Self {
        self.is_after = true;
        self
    }

    fn evict<T>(self, rows: &mut Rows<T>) {
        if let Some(latest_ms) = rows.event_times_ms().iter().copied().max() {
            rows.retain(|_, event_time_ms| {
                event_time_ms == NO_EVENT_TIME
                    || latest_ms.saturating_sub(self.size_ms) < event_time_ms
            });
        }
    }
}

impl<T> Evictor<T> for KeepRecent {
    fn evict_before(&self, rows: &mut Rows<T>, _window: &Window) {
        if !self.is_after {
            self.evict(rows);
        }
    }

    fn evict_after(&self, rows: &mut Rows<T>, _window: &Window) {
        if self.is_after {
            self.evict(rows);
        }
    }

    fn describe(&self) -> String {
        format!("records {} or more before the latest", show(self.size_ms))
    }

    fn problems(&self) -> Vec<String> {
        let problem = "its evictor keeps nothing: let it keep 1 ms or more".to_string();
        (self.size_ms == 0).then_some(problem).into_iter().collect()
    }
}

/// Keeps the records whose measure is near that of the record that came last.
#[derive(Debug, Clone, Copy)]
pub struct KeepNear<F> {
    threshold: f64,
    measure: F,
    is_after: bool,
}

impl<F> KeepNear<F> {
    /// Keeps those whose `measure(record)` differs by less than `threshold` from the last one's,
    /// before the function.
    pub fn of<T>(threshold: f64, measure: F) -> Self
    where
        F: Fn(&T) -> f64,
    {
        Self { threshold, measure, is_after: false }
    }

    /// Evicts after the function instead.
    pub fn after(mut self) -> Self {
        self.is_after = true;
        self
    }

    fn evict<T>(&self, rows: &mut Rows<T>)
    where
        F: Fn(&T) -> f64,
    {
        if let Some(last) = rows.values().last().map(&self.measure) {
            rows.retain(|value, _| ((self.measure)(value) - last).abs() < self.threshold);
        }
    }
}

impl<T, F: Fn(&T) -> f64 + Clone + Send + 'static> Evictor<T> for KeepNear<F> {
    fn evict_before(&self, rows: &mut Rows<T>, _window: &Window) {
        if !self.is_after {
            self.evict(rows);
        }
    }

    fn evict_after(&self, rows: &mut Rows<T>, _window: &Window) {
        if self.is_after {
            self.evict(rows);
        }
    }

    fn describe(&self) -> String {
        format!("records whose measure is {} or more from the last one's", self.threshold)
    }

    fn problems(&self) -> Vec<String> {
        let is_threshold = self.threshold > 0.0;
        let problem = "the threshold of its evictor must be more than 0".to_string();
        (!is_threshold).then_some(problem).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(evictor: &impl Evictor<i64>, event_times_ms: &[i64], expected: &[i64]) {
        let mut rows = Rows::default();
        for time_ms in event_times_ms {
            rows.push(*time_ms, *time_ms);
        }
        evictor.evict_before(&mut rows, &Window::GLOBAL);
        assert_eq!(rows.values(), expected);
        assert_eq!(rows.event_times_ms(), expected);
    }

    #[test]
    fn the_last_records_stay() {
        check(&KeepCount::of(2), &[3, 9, 1], &[9, 1]);
        check(&KeepCount::of(5), &[3, 9, 1], &[3, 9, 1]);
        check(&KeepCount::of(2).after(), &[3, 9, 1], &[3, 9, 1]);
    }

    #[test]
    fn the_most_recent_stay_whatever_their_order() {
        check(&KeepRecent::of(Duration::from_millis(5)), &[3, 9, 1, 5, 4], &[9, 5]);
        check(&KeepRecent::of(Duration::from_millis(5)), &[], &[]);
    }

    #[test]
    fn records_without_event_time_are_not_old() {
        let none = NO_EVENT_TIME;
        check(&KeepRecent::of(Duration::from_millis(5)), &[none, none], &[none, none]);
        check(&KeepRecent::of(Duration::from_millis(5)), &[3, none, 9], &[none, 9]);
    }

    #[test]
    fn those_near_the_last_one_stay() {
        let measure = |value: &i64| *value as f64;
        check(&KeepNear::of(3.0, measure), &[3, 9, 1, 8, 6], &[8, 6]);
        check(&KeepNear::of(3.0, measure), &[], &[]);
        check(&KeepNear::of(3.0, measure).after(), &[3, 9], &[3, 9]);
    }
}
