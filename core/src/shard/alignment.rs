//! Watermark alignment across shards: how far every source has come elsewhere.
//!
//! A source whose strategy bounds the drift between its splits must know the slowest of *all* its
//! splits. Each shard tells the others how far its own have come, at most every [`PERIOD`], and the
//! operator that makes the watermarks pauses what is too far ahead. That nobody needs to wait for
//! a source any more is said at once: a source that has ended has no later turn to say it in.
//!
//! Not here: which splits are paused (`time/splits.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

/// Time between two descriptors about one source. Bounds what piles up for a shard that stalls;
/// long against a hop, short against any drift that makes sense.
const PERIOD: Duration = Duration::from_millis(1);

/// What one shard knows and has said about its sources. The largest time means that nobody needs to
/// wait, and is what everybody assumes at first.
#[derive(Debug, Default)]
pub(super) struct SourceAlignment {
    own: BTreeMap<u32, Own>,
    /// By source, then by shard.
    others: BTreeMap<u32, BTreeMap<u32, i64>>,
}

#[derive(Debug)]
struct Own {
    watermark_ms: i64,
    said_ms: i64,
    said_at: Duration,
}

impl SourceAlignment {
    /// `source` has come to `watermark_ms` on this shard. Answers whether the others should be told
    /// now.
    pub(super) fn on_own(&mut self, source: u32, watermark_ms: i64, now: Duration) -> bool {
        let own = self.own.entry(source).or_insert(Own {
            watermark_ms: i64::MAX,
            said_ms: i64::MAX,
            said_at: Duration::ZERO,
        });
        own.watermark_ms = watermark_ms;
        let is_free = watermark_ms == i64::MAX || own.said_at + PERIOD <= now;
        let is_due = own.said_ms != watermark_ms && is_free;
        if is_due {
            own.said_ms = watermark_ms;
            own.said_at = now;
        }
        is_due
    }

    /// When the others are to be told something that they have not been told yet.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let unsaid = self.own.values().filter(|own| own.said_ms != own.watermark_ms);
        unsaid.map(|own| own.said_at + PERIOD).min()
    }

    /// Shard `shard` has come to `watermark_ms`. Answers how far all others have come at least.
    pub(super) fn on_other(&mut self, source: u32, shard: u32, watermark_ms: i64) -> i64 {
        let others = self.others.entry(source).or_default();
        others.insert(shard, watermark_ms);
        others.values().copied().min().unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_change_is_said_once_and_not_too_often() {
        let mut alignment = SourceAlignment::default();
        assert!(alignment.on_own(0, 10, MS));
        assert!(!alignment.on_own(0, 10, 2 * MS), "nothing new");
        assert!(alignment.on_own(0, 20, 2 * MS));
        assert!(!alignment.on_own(0, 30, 2 * MS), "too soon");
        assert_eq!(alignment.next_due(), Some(3 * MS));
        assert!(alignment.on_own(0, 30, 3 * MS));
        assert_eq!(alignment.next_due(), None);
    }

    #[test]
    fn an_end_is_said_at_once() {
        let mut alignment = SourceAlignment::default();
        assert!(alignment.on_own(0, 10, MS));
        assert!(alignment.on_own(0, i64::MAX, MS));
        assert_eq!(alignment.next_due(), None, "nothing is owed");
        assert!(!alignment.on_own(0, 20, MS), "too soon after that");
    }

    #[test]
    fn the_slowest_of_the_others_counts() {
        let mut alignment = SourceAlignment::default();
        assert_eq!(alignment.on_other(0, 1, 50), 50);
        assert_eq!(alignment.on_other(0, 2, 20), 20);
        assert_eq!(alignment.on_other(0, 2, 90), 50);
    }
}
