//! Which keys may have entries that expire, and when: the work list of the sweep.
//!
//! ```text
//! entries that expire until  12:00  12:02  12:04 …        a bucket each 1/32 of the time to live
//! slots                      3 9 1  4 4    7
//! ```
//!
//! A slot is on the list once, at a time not later than its first expiry, however often its entries
//! are written. When its bucket is due the sweep looks: what has expired is removed, what was
//! refreshed since is put on the list again. So an entry costs the list once per 1/32 of its life
//! at most, and nothing is ever scanned that cannot have expired.

use std::collections::BTreeMap;

use crate::data::slot::{Pages, Slot};
use crate::state::spec::{StateTime, Ttl};

/// Buckets within a time to live.
const BUCKETS_PER_LIFE: i64 = 32;

/// The expiry of one state.
#[derive(Debug, Clone)]
pub(super) struct Expiry {
    pub(super) ttl: Ttl,
    /// By the time (ms) after which all of a bucket's slots are looked at.
    buckets: BTreeMap<i64, Vec<Slot>>,
    is_listed: Pages<bool>,
}

impl Expiry {
    pub(super) fn new(ttl: Ttl) -> Self {
        Self { ttl, buckets: BTreeMap::new(), is_listed: Pages::default() }
    }

    /// `slot` has an entry with this stamp.
    #[inline]
    pub(super) fn list(&mut self, slot: Slot, stamp_ms: i64) {
        let is_listed = self.is_listed.get_mut(slot);
        if !*is_listed {
            *is_listed = true;
            self.enlist(slot, stamp_ms);
        }
    }

    fn enlist(&mut self, slot: Slot, stamp_ms: i64) {
        let width_ms = (self.ttl.duration_ms() / BUCKETS_PER_LIFE).max(1);
        let expires_ms = self.ttl.expires_ms(stamp_ms);
        let end_ms = expires_ms.saturating_sub(1).div_euclid(width_ms).saturating_add(1);
        self.buckets.entry(end_ms.saturating_mul(width_ms)).or_default().push(slot);
    }

    /// The next slot to look at, which is then not on the list any more.
    pub(super) fn pop_due(&mut self, now: &StateTime) -> Option<Slot> {
        let mut bucket = self.buckets.first_entry()?;
        if self.ttl.clock_ms(now) < *bucket.key() {
            return None;
        }
        let slot = bucket.get_mut().pop().expect("no bucket is empty");
        if bucket.get().is_empty() {
            bucket.remove();
        }
        *self.is_listed.get_mut(slot) = false;
        Some(slot)
    }

    /// Puts back a slot of which not everything could be looked at.
    pub(super) fn put_back(&mut self, slot: Slot) {
        *self.is_listed.get_mut(slot) = true;
        self.buckets.entry(i64::MIN).or_default().push(slot);
    }

    /// Slots that have expired entries, or had until these were refreshed.
    pub(super) fn due_count(&self, now: &StateTime) -> usize {
        self.buckets.range(..=self.ttl.clock_ms(now)).map(|(_, slots)| slots.len()).sum()
    }

    /// When the first bucket is due, ms.
    pub(super) fn next_ms(&self) -> Option<i64> {
        self.buckets.first_key_value().map(|(end_ms, _)| *end_ms)
    }
}
