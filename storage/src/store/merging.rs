//! Merges of tables: when one is due, and what comes of it.
//!
//! ```text
//! compaction() ─► somebody merges ─┬─► on_compacted ─► open ─┬─► installed
//!                                  └─► on_compaction_failed  └─► cannot be read
//!                                        └──────────────────────┴─► removed, and the band waits
//! ```
//!
//! A merge that was given up, or whose table cannot be opened, leaves its inputs as they were, and
//! would be the next that is due. So its band is left alone until more deltas were installed: 1
//! after the first failure, 2 after the second in a row, then 4, up to 64. Other bands go on. What
//! makes a merge urgent is deltas: while none come, nothing gets worse without it.
//!
//! Not here: which tables are merged ([`crate::compaction`]), who does it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::flush::Purpose;
use super::{Awaited, Error, Store};
use crate::compaction::Choice;
use crate::io::FileOp;
use crate::merge::Retention;
use crate::table::{TableId, View};

/// A merge that somebody is to carry out.
#[derive(Debug)]
pub struct Compaction {
    /// What is merged into what.
    pub choice: Choice,
    /// The inputs, the newest first.
    pub views: Vec<View>,
    /// The id of the merged table.
    pub id: TableId,
    /// Where it is to be.
    pub path: PathBuf,
    /// What of which state is dropped on the way. Windows that have passed may be added.
    pub retentions: BTreeMap<u16, Retention>,
}

/// What there is to know of merges.
#[derive(Debug, Default)]
pub(super) struct Merging {
    is_under_way: bool,
    /// The bands whose last merge failed.
    pub(super) backoffs: BTreeMap<usize, Backoff>,
    /// Why the last merged table was not opened, until it was said.
    error: Option<Error>,
}

/// A band whose merges fail.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// In a row.
    failed_count: u32,
    /// Nothing is merged before so many deltas are installed.
    until_count: u64,
}

/// Most deltas that have to be installed before a merge that failed is tried again.
const BACKOFF_DELTAS_MAX: u64 = 64;

impl Store {
    /// A merge that is due. The next one is when this one was [done](Store::on_compacted) or
    /// [given up](Store::on_compaction_failed). Where some have failed in a row, 1, 2, 4 … 64
    /// deltas are installed before the next.
    pub fn compaction(&mut self) -> Option<Compaction> {
        if self.merging.is_under_way || !self.is_open {
            return None;
        }
        let version = self.versions.newest();
        let is_ready = |band| {
            let backoff = self.merging.backoffs.get(&band);
            backoff.is_none_or(|backoff| backoff.until_count <= self.installed_count)
        };
        let choice = version.pick(is_ready)?;
        let tables = &version.bands()[choice.band].tables[choice.tables.clone()];
        let views = tables.iter().map(|table| table.view.clone()).collect();
        self.merging.is_under_way = true;
        let id = self.next_table_id();
        let retention =
            |from: &i64| Retention { alive_from_ms: Some(*from), windows_from_ms: None };
        let retentions = self.alive_from_ms.iter().map(|(id, from)| (*id, retention(from)));
        let retentions = retentions.collect();
        Some(Compaction { choice, views, id, path: self.config.path(id), retentions })
    }

    /// The merged table is durable.
    pub fn on_compacted(&mut self, done: Compaction) {
        let Compaction { choice: Choice { band, tier, .. }, views, id, .. } = done;
        let inputs = views.into_iter().map(|view| view.table().meta().id).collect();
        self.open_table(id, Purpose::Replace { band, inputs, tier });
    }

    /// The merge was given up: its file is removed.
    pub fn on_compaction_failed(&mut self, given_up: Compaction) {
        self.on_no_merge(given_up.choice.band, given_up.path);
    }

    /// Why the last merged table that was done could not be opened. Says it once, to be logged.
    pub fn take_compaction_error(&mut self) -> Option<Error> {
        self.merging.error.take()
    }

    /// The merged table of a band is installed.
    pub(super) fn on_merged(&mut self, band: usize) {
        self.merging.is_under_way = false;
        self.merging.backoffs.remove(&band);
    }

    /// The merged table of a band cannot be opened. Its inputs are still there.
    pub(super) fn on_merged_unread(&mut self, band: usize, table: TableId, error: Error) {
        self.merging.error = Some(error);
        self.on_no_merge(band, self.config.path(table));
    }

    /// Nothing has come of a merge but a file.
    fn on_no_merge(&mut self, band: usize, path: PathBuf) {
        self.merging.is_under_way = false;
        let backoff = self.merging.backoffs.entry(band).or_default();
        let delta_count = 1_u64.checked_shl(backoff.failed_count).unwrap_or(BACKOFF_DELTAS_MAX);
        backoff.until_count = self.installed_count + delta_count.min(BACKOFF_DELTAS_MAX);
        backoff.failed_count += 1;
        self.ask(Awaited::Nothing, |op| FileOp::Remove { op, path });
    }
}
