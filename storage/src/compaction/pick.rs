//! Which tables are merged next.
//!
//! A shard's key groups are in *bands*, each with its own tables; a delta is in all bands. Within a
//! band:
//!
//! ```text
//! newest                                                  oldest
//! deltas    d d d d ─┐ four of a tier make one of the next
//! tier 1    t t t ◄──┘ (which may be one too many as well: all go at once)
//! tier 2    t
//! …
//! base      one table; takes in all others once they are as large as it is
//! ```
//!
//! So with deltas of about equal size:
//!
//! - a band has at most three tables per tier, and one tier more for four times the deltas;
//! - a byte is written once as a delta, at most once per tier, and about twice on its way into the
//!   base, whose rewriting is paid for by as many new bytes;
//! - the base has about half of the band's bytes or more, so what is hidden takes no more room than
//!   what is not.
//!
//! Only neighbours by age are merged, so an entry never overtakes another of its key.

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::merge::Beneath;

/// So many tables of a tier are merged into one of the next.
pub const FAN_IN: usize = 4;

/// How often the bytes of a table have been merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// So often: 0 for a delta.
    Merged(u8),
    /// With everything that is older.
    Base,
}

/// A table as a band sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BandTable {
    /// Bytes that it has of the band.
    pub bytes: u64,
    /// Its tier.
    pub tier: Tier,
}

/// What is to be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// In which band.
    pub band: usize,
    /// Which of its tables: neighbours by age.
    pub tables: Range<usize>,
    /// The tier of the table that takes their place.
    pub tier: Tier,
    /// Whether the band has older tables.
    pub beneath: Beneath,
}

/// The next merge for `bands`, each with its tables from the newest to the oldest; `None` if none
/// has too many. The band with most tables comes first.
///
/// # Panics
/// If a table is of an older tier than one behind it, or a band has two bases.
pub fn pick(bands: &[impl AsRef<[BandTable]>]) -> Option<Choice> {
    let choices = bands.iter().enumerate().filter_map(|(band, tables)| {
        let tables = tables.as_ref();
        let (range, tier) = pick_within(tables)?;
        let is_oldest = range.end == tables.len();
        let beneath = if is_oldest { Beneath::Nothing } else { Beneath::OlderTables };
        Some((tables.len(), Choice { band, tables: range, tier, beneath }))
    });
    // Of equal ones the first.
    choices.reduce(|best, next| if best.0 < next.0 { next } else { best }).map(|best| best.1)
}

/// The tables of one band to merge, and into which tier.
fn pick_within(tables: &[BandTable]) -> Option<(Range<usize>, Tier)> {
    assert!(tables.is_sorted_by_key(|table| table.tier), "tiers go with age");
    let newer = tables.split_last().map_or(tables, |(_, newer)| newer);
    assert!(newer.iter().all(|table| table.tier != Tier::Base), "there is one base at most");
    let mut tiers = tables.chunk_by(|a, b| a.tier == b.tier);
    let mut start = 0;
    let full = tiers.by_ref().find(|tier| {
        let is_full = FAN_IN <= tier.len() && tier[0].tier != Tier::Base;
        start += if is_full { 0 } else { tier.len() };
        is_full
    })?;
    let base_bytes = tables.last().filter(|last| last.tier == Tier::Base).map_or(0, |it| it.bytes);
    let newer_bytes = tables.iter().map(|table| table.bytes).sum::<u64>() - base_bytes;
    if base_bytes <= newer_bytes {
        return Some((0..tables.len(), Tier::Base));
    }
    let mut end = start + full.len();
    let mut into = next(full[0].tier);
    for tier in tiers {
        // One more would make it full.
        if tier[0].tier != into || into == Tier::Base || tier.len() + 1 < FAN_IN {
            break;
        }
        end += tier.len();
        into = next(into);
    }
    Some((start..end, into))
}

/// The tier after `tier`.
fn next(tier: Tier) -> Tier {
    match tier {
        Tier::Merged(count) => count.checked_add(1).map_or(Tier::Base, Tier::Merged),
        Tier::Base => Tier::Base,
    }
}
