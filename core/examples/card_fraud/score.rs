//! How good the alerts were, compared with the thefts that were planted.
//!
//! An alert is *right* if what it saw overlaps a theft of that card. A theft is *found* if at least
//! one alert is right about it.
//!
//! ```text
//! precision = right alerts / alerts          recall = found thefts / thefts
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use millstream::testing::written_lines;

use super::job::WINDOW_MS;
use super::records::{Alert, Seen};
use super::world::{Theft, TheftKind, World};

/// So many, and how many of them were good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// All.
    pub count: u64,
    /// The good ones.
    pub good_count: u64,
}

impl Share {
    fn add(&mut self, is_good: bool) {
        self.count += 1;
        self.good_count += u64::from(is_good);
    }

    /// The good ones of all, 0 to 1; 1 if there are none.
    pub fn ratio(self) -> f64 {
        if self.count == 0 { 1.0 } else { self.good_count as f64 / self.count as f64 }
    }
}

impl FromIterator<Share> for Share {
    fn from_iter<I: IntoIterator<Item = Share>>(shares: I) -> Self {
        shares.into_iter().fold(Self::default(), |sum, share| Self {
            count: sum.count + share.count,
            good_count: sum.good_count + share.good_count,
        })
    }
}

/// Counts of alerts and thefts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Score {
    /// Alerts, and how many of them were right: by version of the rules.
    pub alerts: BTreeMap<u32, Share>,
    /// Thefts, and how many of them were found: by kind.
    pub thefts: BTreeMap<TheftKind, Share>,
}

impl Score {
    /// Compares `alerts` with what happened in `world`.
    pub fn of(world: &World, alerts: &[Alert]) -> Self {
        let thefts: Vec<Theft> = world.thefts().collect();
        let mut by_card: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (index, theft) in thefts.iter().enumerate() {
            by_card.entry(theft.card).or_default().push(index);
        }
        let mut score = Self::default();
        let mut is_found = vec![false; thefts.len()];
        for alert in alerts {
            let of_card = by_card.get(&alert.card).map_or(&[][..], Vec::as_slice);
            let mut right = of_card.iter().filter(|index| saw(alert, &thefts[**index])).peekable();
            score.alerts.entry(alert.rule).or_default().add(right.peek().is_some());
            right.for_each(|index| is_found[*index] = true);
        }
        for (theft, is_found) in thefts.iter().zip(is_found) {
            score.thefts.entry(theft.kind).or_default().add(is_found);
        }
        score
    }

    /// All alerts, and the right ones.
    pub fn precision(&self) -> Share {
        self.alerts.values().copied().collect()
    }

    /// All thefts, and those that were found.
    pub fn recall(&self) -> Share {
        self.thefts.values().copied().collect()
    }
}

/// Whether what `alert` is about overlaps `theft`, which is of the same card.
fn saw(alert: &Alert, theft: &Theft) -> bool {
    let (from_ms, to_ms) = match &alert.seen {
        Seen::Amount(_) => (alert.at_ms, alert.at_ms),
        Seen::Velocity(velocity) => (velocity.from_ms, velocity.from_ms + WINDOW_MS - 1),
    };
    from_ms <= theft.last_ms && theft.first_ms <= to_ms
}

/// The alerts in the files of `folder`.
///
/// # Errors
/// If one cannot be read, or is no alert.
pub fn read_alerts(folder: &Path) -> io::Result<Vec<Alert>> {
    let lines = written_lines(folder)?;
    lines.iter().map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
}
