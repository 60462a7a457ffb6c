//! How good the alerts were, compared with the thefts that were planted.
//!
//! An alert is *right* if what it saw overlaps a theft of that card. A theft is *found* if at least
//! one alert is right about it.
//!
//! ```text
//! precision = right alerts / alerts          recall = found thefts / thefts
//! ```

#![allow(clippy::disallowed_methods, reason = "it reads what the job wrote when the host is gone")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::job::WINDOW_MS;
use super::records::{Alert, Seen};
use super::world::{Theft, TheftKind, World};

/// Counts of alerts and thefts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Score {
    /// Alerts, and how many of them were right: by version of the rules.
    pub alerts: BTreeMap<u32, (u64, u64)>,
    /// Thefts, and how many of them were found: testing, then spree.
    pub thefts: [(u64, u64); 2],
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
            let (count, right_count) = score.alerts.entry(alert.rule).or_default();
            *count += 1;
            *right_count += u64::from(right.peek().is_some());
            right.for_each(|index| is_found[*index] = true);
        }
        for (theft, is_found) in thefts.iter().zip(is_found) {
            let (count, found_count) =
                &mut score.thefts[usize::from(theft.kind == TheftKind::Spree)];
            *count += 1;
            *found_count += u64::from(is_found);
        }
        score
    }

    /// Right alerts of all alerts, 0 to 1; 1 if there are none.
    pub fn precision(&self) -> f64 {
        ratio(self.alerts.values())
    }

    /// Found thefts of all thefts, 0 to 1; 1 if there are none.
    pub fn recall(&self) -> f64 {
        ratio(self.thefts.iter())
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

fn ratio<'a>(pairs: impl Iterator<Item = &'a (u64, u64)>) -> f64 {
    let (all, good) = pairs.fold((0, 0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
    if all == 0 { 1.0 } else { good as f64 / all as f64 }
}

/// All lines of the files in `folder` and below, sorted: what a job wrote there, however many tasks
/// did.
///
/// # Errors
/// If one cannot be read.
pub fn sorted_lines(folder: &Path) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            lines.extend(sorted_lines(&path)?);
        } else {
            lines.extend(fs::read_to_string(path)?.lines().map(str::to_string));
        }
    }
    lines.sort_unstable();
    Ok(lines)
}

/// The alerts in the files of `folder`.
///
/// # Errors
/// If one cannot be read, or is no alert.
pub fn read_alerts(folder: &Path) -> io::Result<Vec<Alert>> {
    let lines = sorted_lines(folder)?;
    lines.iter().map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
}
