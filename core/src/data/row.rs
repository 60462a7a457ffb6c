//! One record with everything the engine knows about it.
//!
//! Inside a chain rows are plain values handed from operator to operator; between tasks a whole
//! batch of them is one archive (see [`crate::data::frame`]).

use std::fmt;

/// A record on its way through the dataflow. The order of the fields is that of its archive (see
/// [`crate::data::archived_row`]).
#[derive(Debug, Clone, PartialEq)]
#[repr(C)]
pub struct Row<T> {
    /// xxh3-64 of the archived key; 0 until the first `key_by`.
    pub hash64: u64,
    /// When it happened, milliseconds since 1970; [`NO_EVENT_TIME`] until one is assigned.
    pub event_time_ms: i64,
    /// Which record of which source it is, or was caused by.
    pub origin: Origin,
    /// The record itself.
    pub value: T,
}

/// The event time of a row to which none was assigned: before every watermark.
pub const NO_EVENT_TIME: i64 = i64::MIN;

/// The watermark that ends a bounded input: nothing is expected any more.
pub const MAX_WATERMARK: i64 = i64::MAX;

impl<T> Row<T> {
    /// A row straight from a source.
    pub fn new(value: T, event_time_ms: i64, origin: Origin) -> Self {
        Self { hash64: 0, event_time_ms, origin, value }
    }

    /// The same row with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Row<U> {
        let Self { hash64, event_time_ms, origin, value } = self;
        Row { hash64, event_time_ms, origin, value: f(value) }
    }

    /// Another value caused by this row, at the same time and under the same key.
    pub fn with<U>(&self, value: U) -> Row<U> {
        Row { hash64: self.hash64, event_time_ms: self.event_time_ms, origin: self.origin, value }
    }
}

/// Where a row came from: source, split and position in the split, in 64 bits.
///
/// ```text
/// 63      55 54              38 37                                     0
/// ┌─────────┬──────────────────┬────────────────────────────────────────┐
/// │ source  │ split            │ position: byte offset or record number │
/// └─────────┴──────────────────┴────────────────────────────────────────┘
/// ```
///
/// It travels with the row so that a failure far downstream can name the record that caused it.
/// Positions from 2^38 - 1 on are shown as "unknown"; what a source itself needs in order to
/// continue is kept by the source, not here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Clone, Copy))]
pub struct Origin(u64);

impl Origin {
    const POSITION_BITS: u32 = 38;
    const SPLIT_BITS: u32 = 17;
    const POSITION_UNKNOWN: u64 = (1 << Self::POSITION_BITS) - 1;

    /// Of a row that no single record caused (a timer, a window's result at the end).
    pub const NONE: Self = Self(u64::MAX);
    /// Most sources of a job.
    pub const SOURCE_COUNT_MAX: u32 = (1 << (64 - Self::POSITION_BITS - Self::SPLIT_BITS)) - 1;
    /// Splits that can be told apart by their rows; later ones share the last number here, and the
    /// source's own task knows better.
    pub const SPLIT_COUNT_MAX: u32 = 1 << Self::SPLIT_BITS;

    /// Record `position` of split `split` of source `source`.
    ///
    /// # Panics
    /// If `source` is not below [`Origin::SOURCE_COUNT_MAX`]; the plan is checked before.
    pub fn new(source: u32, split: u32, position: u64) -> Self {
        assert!(source < Self::SOURCE_COUNT_MAX, "source {source} beyond the limit");
        let split = u64::from(split.min(Self::SPLIT_COUNT_MAX - 1));
        let position = position.min(Self::POSITION_UNKNOWN);
        Self(
            u64::from(source) << (Self::POSITION_BITS + Self::SPLIT_BITS)
                | split << Self::POSITION_BITS
                | position,
        )
    }

    /// The source's number in the plan.
    pub fn source(self) -> u32 {
        (self.0 >> (Self::POSITION_BITS + Self::SPLIT_BITS)) as u32
    }

    /// The split's number within the source.
    pub fn split(self) -> u32 {
        (self.0 >> Self::POSITION_BITS) as u32 & (Self::SPLIT_COUNT_MAX - 1)
    }

    /// Byte offset or record number within the split, if it fits.
    pub fn position(self) -> Option<u64> {
        let position = self.0 & Self::POSITION_UNKNOWN;
        (position != Self::POSITION_UNKNOWN).then_some(position)
    }
}

impl Origin {
    /// The record as people call it: `source payments, a.csv, byte 17`. `split_name` knows the
    /// splits' names, if they have been given.
    pub fn describe(
        self,
        source_names: &[String],
        split_name: impl FnOnce(u32, u32) -> Option<String>,
    ) -> String {
        if self == Self::NONE {
            return "no single record (a timer, a window or the end of the input)".to_string();
        }
        let source = match source_names.get(self.source() as usize) {
            Some(name) => name.clone(),
            None => self.source().to_string(),
        };
        let split = split_name(self.source(), self.split())
            .unwrap_or_else(|| format!("split {}, position", self.split()));
        match self.position() {
            Some(position) => format!("source {source}, {split} {position}"),
            None => format!("source {source}, {split} unknown"),
        }
    }
}

impl From<ArchivedOrigin> for Origin {
    fn from(archived: ArchivedOrigin) -> Self {
        Self(archived.0.to_native())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("none");
        }
        write!(f, "{}/{}/", self.source(), self.split())?;
        match self.position() {
            Some(position) => write!(f, "{position}"),
            None => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_keeps_its_parts() {
        let origin = Origin::new(5, 131_071, 135_056_262_347);
        assert_eq!(origin.source(), 5);
        assert_eq!(origin.split(), 131_071);
        assert_eq!(origin.position(), Some(135_056_262_347));
    }

    #[test]
    fn a_record_is_called_by_its_split() {
        let names = ["payments".to_string()];
        let call = |_, _| Some("a.csv, byte".to_string());
        let text = Origin::new(0, 3, 17).describe(&names, call);
        assert_eq!(text, "source payments, a.csv, byte 17");
        let text = Origin::new(0, 3, 17).describe(&names, |_, _| None);
        assert_eq!(text, "source payments, split 3, position 17");
        assert_eq!(Origin::new(7, 3, 1).describe(&[], call), "source 7, a.csv, byte 1");
    }

    #[test]
    fn position_beyond_the_field_is_unknown() {
        assert_eq!(Origin::new(0, 0, 1 << 50).position(), None);
    }
}
