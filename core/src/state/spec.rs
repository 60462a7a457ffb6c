//! How a state is declared: its time to live, and what the plan should know about it.

use std::time::Duration;

use crate::data::record::Record;
use crate::data::row::NO_EVENT_TIME;
use crate::state::schema::{Describe, MigrateFrom, StateSchema};
use crate::time::window::show;

/// How one state behaves, given when it is declared in `open`.
///
/// ```
/// use std::time::Duration;
/// use millstream::prelude::*;
///
/// let spec = StateSpec::from(Ttl::processing_time(Duration::from_secs(3600)).refresh_on_read());
/// assert!(spec.is_bounded());
/// assert!(!StateSpec::default().is_bounded(), "the plan warns: who removes it?");
/// assert!(StateSpec::kept_until_cleared().is_bounded(), "the function does");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateSpec {
    ttl: Option<Ttl>,
    is_cleared_by_code: bool,
    schema: Option<StateSchema>,
}

impl StateSpec {
    /// A state that nothing but the function removes, and that the function does remove (by a
    /// timer, say), or that has few keys: the plan does not warn about it.
    pub fn kept_until_cleared() -> Self {
        Self { is_cleared_by_code: true, ..Self::default() }
    }

    /// A state whose values are of type `V`, which says what they are made of: the schema is part
    /// of every snapshot, and a later release of the job whose `V` has other fields finds its
    /// values again, or is told by name why not. The rules are those of `docs/formats/schema.md`.
    ///
    /// `V` is what the state keeps: of an aggregating state its accumulator.
    pub fn described<V: Describe + Record>(self) -> Self {
        Self { schema: Some(StateSchema::of::<V>()), ..self }
    }

    /// As [`StateSpec::described`], and values that were of type `Old`, or became it by the rules,
    /// become `V` by [`MigrateFrom`].
    pub fn migrated_from<Old, V>(self) -> Self
    where
        Old: Describe,
        V: Describe + Record + MigrateFrom<Old>,
    {
        Self { schema: Some(StateSchema::migrated::<Old, V>()), ..self }
    }

    /// What its values are made of, if it says so.
    pub fn schema(&self) -> Option<StateSchema> {
        self.schema
    }

    /// When its entries expire, if they do.
    pub fn ttl(&self) -> Option<Ttl> {
        self.ttl
    }

    /// Whether something limits how long an entry stays.
    pub fn is_bounded(&self) -> bool {
        self.ttl.is_some() || self.is_cleared_by_code
    }
}

impl From<Ttl> for StateSpec {
    fn from(ttl: Ttl) -> Self {
        Self { ttl: Some(ttl), ..Self::default() }
    }
}

/// How long an entry of a state lives after it was last written. An expired entry is never seen
/// again; its memory is given back soon after.
///
/// An entry is a value, an element of a list, or an entry of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    duration_ms: i64,
    time: TtlTime,
    is_refreshed_on_read: bool,
}

/// By which time entries expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TtlTime {
    /// Written at the event time of the record, but never before the watermark; expired once the
    /// watermark has passed that by the time to live. When an event-time timer fires, the timer's
    /// time is taken for the watermark, however far that has jumped; but never does time go back
    /// for a key.
    Event,
    /// Processing time.
    Processing,
}

impl Ttl {
    /// Entries live for `duration`, at least 1 ms, of event time.
    pub fn event_time(duration: Duration) -> Self {
        Self::new(duration, TtlTime::Event)
    }

    /// Entries live for `duration`, at least 1 ms, of processing time.
    pub fn processing_time(duration: Duration) -> Self {
        Self::new(duration, TtlTime::Processing)
    }

    fn new(duration: Duration, time: TtlTime) -> Self {
        let duration_ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).max(1);
        Self { duration_ms, time, is_refreshed_on_read: false }
    }

    /// Reading an entry counts as writing it, too.
    pub fn refresh_on_read(mut self) -> Self {
        self.is_refreshed_on_read = true;
        self
    }

    /// By which time entries expire.
    pub fn time(&self) -> TtlTime {
        self.time
    }

    /// Milliseconds from the last write to the end.
    pub fn duration_ms(&self) -> i64 {
        self.duration_ms
    }

    /// For `explain`: `forgotten after 1h of event time`.
    pub fn describe(&self) -> String {
        let time = match self.time {
            TtlTime::Event => "event time",
            TtlTime::Processing => "processing time",
        };
        format!("forgotten after {} of {time}", show(self.duration_ms))
    }

    pub(super) fn is_refreshed_on_read(&self) -> bool {
        self.is_refreshed_on_read
    }

    /// The stamp of an entry written now.
    #[inline]
    pub(super) fn stamp_ms(&self, now: &StateTime) -> i64 {
        match self.time {
            TtlTime::Event => now.event_stamp_ms,
            TtlTime::Processing => now.processing_ms,
        }
    }

    /// The time that stamps are compared with.
    #[inline]
    pub(super) fn clock_ms(&self, now: &StateTime) -> i64 {
        match self.time {
            TtlTime::Event => now.event_clock_ms,
            TtlTime::Processing => now.processing_ms,
        }
    }

    /// When an entry with this stamp expires.
    #[inline]
    pub(super) fn expires_ms(&self, stamp_ms: i64) -> i64 {
        stamp_ms.saturating_add(self.duration_ms)
    }

    #[inline]
    pub(super) fn is_expired(&self, stamp_ms: i64, now: &StateTime) -> bool {
        self.expires_ms(stamp_ms) <= self.clock_ms(now)
    }
}

/// What time it is for the state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateTime {
    /// What entries with a time to live in event time are stamped with, ms.
    pub event_stamp_ms: i64,
    /// How far event time has come for them, ms.
    pub event_clock_ms: i64,
    /// Processing time, ms.
    pub processing_ms: i64,
}

impl StateTime {
    /// While a record is processed.
    #[inline]
    pub fn of_record(event_time_ms: i64, watermark_ms: i64, processing_ms: i64) -> Self {
        let event_stamp_ms = event_time_ms.max(watermark_ms);
        Self { event_stamp_ms, event_clock_ms: watermark_ms, processing_ms }
    }

    /// While an event-time timer fires. What happens does not depend on how far beyond the timer
    /// the watermark has jumped.
    pub fn of_event_timer(time_ms: i64, processing_ms: i64) -> Self {
        Self { event_stamp_ms: time_ms, event_clock_ms: time_ms, processing_ms }
    }

    /// While nothing in particular is processed.
    pub fn between_records(watermark_ms: i64, processing_ms: i64) -> Self {
        Self::of_record(NO_EVENT_TIME, watermark_ms, processing_ms)
    }
}

/// A state as a function declared it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDeclaration {
    /// Its name, unique within the operator.
    pub name: String,
    /// `value`, `list`, `map`, `reducing` or `aggregating`.
    pub kind: &'static str,
    /// How it behaves.
    pub spec: StateSpec,
}
