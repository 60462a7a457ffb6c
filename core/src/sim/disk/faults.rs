//! What a simulated disk may do wrong, and how often.
//!
//! Not here: what a crash takes with it; that is not a matter of settings (`stored.rs`).

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use crate::sim::rng::Chance;

/// The faults of a disk. The default is a healthy disk with a life of its own: everything takes its
/// time, answers overtake each other, some syncs are slow, and nothing fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFaults {
    /// How long an operation takes. A range that is not empty lets operations on different files
    /// overtake each other.
    pub latency: Range<Duration>,
    /// How probable it is that a sync, rename or remove is slow.
    pub slow_sync: Chance,
    /// What a slow one takes in addition.
    pub slow_sync_latency: Range<Duration>,
    /// How probable it is that a read fails with `EIO`.
    pub read_error: Chance,
    /// How probable it is that a write fails with `EIO`. A part of it may have been written.
    pub write_error: Chance,
    /// How probable it is that a sync fails with `EIO`.
    ///
    /// What was written since the last good sync is then gone, and later syncs of the file either
    /// fail too or claim a success that they did not have, until the file is created anew.
    pub sync_error: Chance,
    /// Operations that fail with `EIO` whatever they are, counted from 0 as they are submitted.
    pub failing_ops: BTreeSet<u64>,
    /// Bytes that fit on the disk, or no limit. Inputs that were read through do not count. What
    /// still fits of a write is written before it fails with `ENOSPC`.
    pub capacity_bytes: Option<u64>,
}

impl DiskFaults {
    /// None: every operation succeeds at once.
    pub const NONE: Self = Self {
        latency: Duration::ZERO..Duration::ZERO,
        slow_sync: Chance::NEVER,
        slow_sync_latency: Duration::ZERO..Duration::ZERO,
        read_error: Chance::NEVER,
        write_error: Chance::NEVER,
        sync_error: Chance::NEVER,
        failing_ops: BTreeSet::new(),
        capacity_bytes: None,
    };
}

impl Default for DiskFaults {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(50)..Duration::from_millis(5),
            slow_sync: Chance::one_in(10),
            slow_sync_latency: Duration::from_millis(5)..Duration::from_millis(100),
            ..Self::NONE
        }
    }
}
