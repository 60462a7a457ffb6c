//! The coordinator: when checkpoints are triggered, complete, given up and removed.
//!
//! ```text
//!            interval, or somebody wants one
//!                     │
//!                     ▼       part of every shard        manifest is durable
//! Trigger ──────► Collecting ───────────────► Committing ───────────────────► completed
//!                     │ a shard fails, timeout,    │ it cannot be written        │ newer ones
//!                     ▼ a newer one is complete    ▼                             ▼
//!                 given up: what was written of it is removed                 removed
//! ```
//!
//! Several may be collected at a time. They are numbered upwards for ever; completing one gives up
//! those before it that are still collected, for nobody would go back to them.
//!
//! While a manifest is being written a checkpoint cannot be given up: its name may be durable
//! already. So that is waited for, whatever it takes.
//!
//! It is told the time and what happened, and answers with orders in their order; whoever carries
//! them out keeps it.
//!
//! Invariant: at most one manifest is being written; a manifest is removed before its parts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::manifest::{Kind, Manifest, PartRow};
use super::names::manifest_name;
use crate::data::element::CheckpointId;

/// What of it is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// From one trigger to the next.
    pub interval: Duration,
    /// From the end of one to the next trigger, at least.
    pub min_pause: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How many may be under way at a time.
    pub in_flight_max: usize,
    /// How many complete ones are kept.
    pub retained: usize,
    /// How long barriers wait for the rows before them; for ever without it.
    pub unaligned_after: Option<Duration>,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            min_pause: Duration::ZERO,
            timeout: Duration::from_mins(10),
            in_flight_max: 1,
            retained: 2,
            unaligned_after: None,
        }
    }
}

/// A shard's part of a checkpoint, written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenPart {
    /// Where it is.
    pub directory: PathBuf,
    /// Which file there.
    pub row: PartRow,
    /// Bytes that were written for it, in the file and in tables.
    pub added_bytes: u64,
    /// Bytes in it of rows that were in flight.
    pub in_flight_bytes: u64,
    /// How long a barrier waited for a cut at most, microseconds.
    pub alignment_us: u64,
}

/// Something that the coordinator wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// All shards: cut this checkpoint, and write your part into the directory. Barriers wait for
    /// rows for so long; for ever without it.
    Trigger(CheckpointId, PathBuf, Option<Duration>),
    /// One shard: write this manifest there, durably.
    Commit(CheckpointId, PathBuf, Vec<u8>),
    /// All shards: it is complete, and nothing before it will be gone back to.
    Completed(CheckpointId),
    /// All shards: nothing more is wanted of it, and why.
    GiveUp(CheckpointId, String),
    /// One shard: remove these files of a checkpoint, one after the other.
    Remove(CheckpointId, Vec<PathBuf>),
    /// All shards: no file names tables for the sake of this checkpoint any more.
    Release(CheckpointId),
}

/// A complete checkpoint that can be gone back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub checkpoint: CheckpointId,
    /// Its own files, the manifest first.
    pub files: Vec<PathBuf>,
    /// The tables that it names of earlier runs; those of this run are looked after by their
    /// shards.
    pub tables: BTreeSet<PathBuf>,
}

/// What became of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is under way.
    Pending,
    /// It is complete.
    Completed,
    /// Why not.
    Failed(String),
}

/// A checkpoint as people want to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckpointReport {
    /// Which.
    pub checkpoint: CheckpointId,
    /// Why it was taken.
    pub kind: Kind,
    /// When it was triggered, ms since 1970.
    pub triggered_ms: i64,
    /// From its trigger to its end, microseconds.
    pub took_us: Option<u64>,
    /// Bytes that were written for it so far: what it shares with others is not among them.
    pub bytes: u64,
    /// Bytes of them that are rows in flight: none, if no barrier overtook any.
    pub in_flight_bytes: u64,
    /// How long a barrier waited at a task for those of its other inputs, and for rows before them,
    /// at most; microseconds.
    pub alignment_us: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// How the checkpoints of a job stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckpointsStatus {
    /// How many were completed since the start.
    pub completed_count: u64,
    /// How many were given up.
    pub failed_count: u64,
    /// The last ones, in the order of their triggers, and those under way.
    pub history: Vec<CheckpointReport>,
}

/// How long barriers of the last checkpoint wait for rows before them, unless they wait for none:
/// what they overtake is taken once more by the next run.
const ENDING_PATIENCE: Duration = Duration::from_secs(10);

/// How long after a failure somebody's wish is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Reports of checkpoints that are kept.
const HISTORY_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Coordinator {
    settings: CheckpointSettings,
    job: String,
    shard_count: u32,
    key_group_count: u32,
    directory: PathBuf,
    next: CheckpointId,
    pending: BTreeMap<CheckpointId, Pending>,
    /// Complete ones that are kept, oldest first.
    kept: VecDeque<Kept>,
    last_triggered: Option<Duration>,
    last_ended: Option<Duration>,
    /// Somebody wants one that is triggered from now on.
    is_wanted: bool,
    /// The one that was triggered because somebody wants it.
    wanted: Option<CheckpointId>,
    /// Only what is wanted is triggered.
    is_ending: bool,
    /// What is wanted is not tried again before this.
    retry_at: Duration,
    savepoints: VecDeque<PathBuf>,
    history: VecDeque<CheckpointReport>,
    completed_count: u64,
    failed_count: u64,
}

#[derive(Debug)]
struct Pending {
    triggered: Duration,
    triggered_ms: i64,
    kind: Kind,
    directory: PathBuf,
    /// By shard.
    parts: BTreeMap<u32, WrittenPart>,
    /// Its manifest is being written.
    is_committing: bool,
}

impl Pending {
    fn files(&self, checkpoint: CheckpointId) -> Vec<PathBuf> {
        let manifest = std::iter::once(manifest_name(checkpoint));
        let parts = self.parts.values().map(|part| part.row.name.clone());
        let files = manifest.chain(parts).map(|name| self.directory.join(name));
        // A savepoint has names of its own for its tables.
        let parts = self.parts.values().filter(|_| self.kind == Kind::Savepoint);
        files.chain(parts.flat_map(|part| part.row.tables.paths(&self.directory))).collect()
    }

    fn bytes(&self) -> u64 {
        self.parts.values().map(|part| part.added_bytes).sum()
    }

    fn in_flight_bytes(&self) -> u64 {
        self.parts.values().map(|part| part.in_flight_bytes).sum()
    }

    fn alignment_us(&self) -> u64 {
        self.parts.values().map(|part| part.alignment_us).max().unwrap_or(0)
    }
}

impl Coordinator {
    /// For a job of so many shards and key groups, whose checkpoints are in `directory`. `last` is
    /// the highest number that was ever used there; `kept` the complete ones that are there, oldest
    /// first.
    pub fn new(
        settings: CheckpointSettings,
        job: String,
        (shard_count, key_group_count): (u32, u32),
        directory: PathBuf,
        last: CheckpointId,
        kept: VecDeque<Kept>,
    ) -> Self {
        Self {
            settings,
            job,
            shard_count,
            key_group_count,
            directory,
            next: CheckpointId(last.0 + 1),
            pending: BTreeMap::new(),
            kept,
            last_triggered: None,
            last_ended: None,
            is_wanted: false,
            wanted: None,
            is_ending: false,
            retry_at: Duration::ZERO,
            savepoints: VecDeque::new(),
            history: VecDeque::new(),
            completed_count: 0,
            failed_count: 0,
        }
    }

    /// Those under way and the last that ended, in the order of their triggers.
    pub fn history(&self) -> impl Iterator<Item = CheckpointReport> {
        let pending = self.pending.iter().map(|(checkpoint, pending)| CheckpointReport {
            checkpoint: *checkpoint,
            kind: pending.kind,
            triggered_ms: pending.triggered_ms,
            took_us: None,
            bytes: pending.bytes(),
            in_flight_bytes: pending.in_flight_bytes(),
            alignment_us: pending.alignment_us(),
            outcome: Outcome::Pending,
        });
        self.history.iter().cloned().chain(pending)
    }

    /// Begins with what is known of checkpoints of the same job `before` it has failed: those that
    /// were under way have failed with it, unless their manifest was written.
    pub fn remember(&mut self, before: CheckpointsStatus) {
        let CheckpointsStatus { completed_count, failed_count, history } = before;
        (self.completed_count, self.failed_count) = (completed_count, failed_count);
        self.history = history.into();
        for report in &mut self.history {
            if report.outcome != Outcome::Pending {
                continue;
            }
            if self.kept.iter().any(|kept| kept.checkpoint == report.checkpoint) {
                report.outcome = Outcome::Completed;
                self.completed_count += 1;
            } else {
                report.outcome = Outcome::Failed("the job failed before it was complete".into());
                self.failed_count += 1;
            }
        }
        let excess = self.history.len().saturating_sub(HISTORY_MAX);
        self.history.drain(..excess);
    }

    /// How it stands, for people.
    pub fn status(&self) -> CheckpointsStatus {
        CheckpointsStatus {
            completed_count: self.completed_count,
            failed_count: self.failed_count,
            history: self.history().collect(),
        }
    }

    /// The number of the next one.
    pub fn next(&self) -> CheckpointId {
        self.next
    }

    /// The newest complete checkpoint.
    pub fn last_completed(&self) -> Option<CheckpointId> {
        self.kept.back().map(|kept| kept.checkpoint)
    }

    /// Whether somebody waits for one that is to be triggered.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted || !self.savepoints.is_empty()
    }

    /// Triggers a checkpoint as soon as there may be another: it has everything that is there now.
    /// If it fails, another one. Answers the lowest number that it may have.
    pub fn want(&mut self) -> CheckpointId {
        self.is_wanted = true;
        CheckpointId(self.next.0 + self.savepoints.len() as u64)
    }

    /// As [`Coordinator::want`], and none that nobody wants is triggered from now on: the job ends
    /// with it.
    pub fn end_with(&mut self) -> CheckpointId {
        self.is_ending = true;
        self.want()
    }

    /// Triggers a savepoint into `directory` as soon as there may be another checkpoint. Answers
    /// its number. Sinks do not commit with it, for after a failure the job may have to go back to
    /// a checkpoint before it.
    pub fn want_savepoint(&mut self, directory: PathBuf) -> CheckpointId {
        self.savepoints.push_back(directory);
        CheckpointId(self.next.0 + self.savepoints.len() as u64 - 1)
    }

    /// When [`Coordinator::on_time`] has something to do, by the clock of its `now`.
    pub fn next_due(&self) -> Duration {
        let timeouts = self.pending.values().filter(|pending| !pending.is_committing);
        let timeout = timeouts.map(|pending| pending.triggered + self.settings.timeout).min();
        let trigger =
            (self.pending.len() < self.settings.in_flight_max).then(|| self.next_trigger());
        timeout.into_iter().chain(trigger).min().unwrap_or(Duration::MAX)
    }

    /// Time has come to `now`, counted from any start, and to `now_ms` since 1970.
    pub fn on_time(&mut self, now: Duration, now_ms: i64) -> Vec<Order> {
        let mut orders = Vec::new();
        let is_late =
            |it: &Pending| !it.is_committing && it.triggered + self.settings.timeout <= now;
        let late = self.pending.iter().filter(|(_, it)| is_late(it)).map(|(id, _)| *id);
        for checkpoint in late.collect::<Vec<_>>() {
            let missing = self.shard_count - self.pending[&checkpoint].parts.len() as u32;
            let reason = format!(
                "{missing} of {} shards had no part of it after {:?}",
                self.shard_count, self.settings.timeout
            );
            self.give_up(checkpoint, reason, now, &mut orders);
        }
        if self.pending.len() < self.settings.in_flight_max && self.next_trigger() <= now {
            self.trigger(now, now_ms, &mut orders);
        }
        orders
    }

    /// Shard `shard` has written its part.
    pub fn on_part(
        &mut self,
        shard: u32,
        checkpoint: CheckpointId,
        part: WrittenPart,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        let Some(pending) = self.pending.get_mut(&checkpoint) else {
            // It was given up before this was known.
            let tables = part.row.tables.paths(&part.directory);
            let tables = tables.filter(|_| part.directory != self.directory);
            let mut files: Vec<PathBuf> = tables.collect();
            files.push(part.directory.join(part.row.name));
            orders.push(Order::Remove(checkpoint, files));
            return orders;
        };
        let before = pending.parts.insert(shard, part);
        assert_eq!(before, None, "shard {shard} has one part of {checkpoint:?}");
        self.commit(&mut orders);
        orders
    }

    /// A shard cannot write its part, or the manifest.
    pub fn on_failed(
        &mut self,
        checkpoint: CheckpointId,
        reason: String,
        now: Duration,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        if self.pending.contains_key(&checkpoint) {
            self.give_up(checkpoint, reason, now, &mut orders);
            self.commit(&mut orders);
        }
        orders
    }

    /// The manifest is durable.
    pub fn on_committed(&mut self, checkpoint: CheckpointId, now: Duration) -> Vec<Order> {
        let pending = self.pending.remove(&checkpoint).expect("what is committed is pending");
        assert!(pending.is_committing, "a manifest is written when it is wanted");
        let mut orders = Vec::new();
        let commits = pending.kind == Kind::Checkpoint;
        if commits {
            self.wanted.take_if(|wanted| *wanted <= checkpoint);
            orders.push(Order::Completed(checkpoint));
        }
        let older = self.pending.range(..checkpoint);
        let older = older.filter(|(_, it)| commits && it.kind == Kind::Checkpoint);
        for older in older.map(|(id, _)| *id).collect::<Vec<_>>() {
            let reason = format!("checkpoint {} was complete before it", checkpoint.0);
            self.give_up(older, reason, now, &mut orders);
        }
        self.end(checkpoint, &pending, Outcome::Completed, now);
        if commits {
            let (files, tables) = (pending.files(checkpoint), BTreeSet::new());
            self.kept.push_back(Kept { checkpoint, files, tables });
        } else {
            // It has tables of its own.
            orders.push(Order::Release(checkpoint));
        }
        while self.settings.retained < self.kept.len() {
            orders.push(self.remove_oldest());
        }
        self.commit(&mut orders);
        orders
    }

    /// The files of a checkpoint are removed: its tables may go.
    pub fn on_removed(&mut self, checkpoint: CheckpointId) -> Vec<Order> {
        vec![Order::Release(checkpoint)]
    }

    fn remove_oldest(&mut self) -> Order {
        let Kept { checkpoint, mut files, tables } = self.kept.pop_front().expect("there are some");
        let is_named = |table: &PathBuf| self.kept.iter().any(|kept| kept.tables.contains(table));
        files.extend(tables.into_iter().filter(|table| !is_named(table)));
        Order::Remove(checkpoint, files)
    }

    fn next_trigger(&self) -> Duration {
        if self.is_wanted() {
            return self.retry_at;
        }
        if self.is_ending {
            return Duration::MAX;
        }
        let next = self.last_triggered.unwrap_or_default() + self.settings.interval;
        let pause = self.last_ended.map_or(Duration::ZERO, |end| end + self.settings.min_pause);
        next.max(pause)
    }

    fn trigger(&mut self, now: Duration, now_ms: i64, orders: &mut Vec<Order>) {
        let (kind, directory) = match self.savepoints.pop_front() {
            Some(directory) => (Kind::Savepoint, directory),
            None => {
                if std::mem::take(&mut self.is_wanted) {
                    self.wanted = Some(self.next);
                }
                self.last_triggered = Some(now);
                (Kind::Checkpoint, self.directory.clone())
            }
        };
        let checkpoint = self.next;
        self.next = CheckpointId(checkpoint.0 + 1);
        let patience = if self.is_ending { ENDING_PATIENCE } else { Duration::ZERO };
        let unaligned_after = self.settings.unaligned_after.map(|after| match after {
            Duration::ZERO => after,
            after => after.max(patience),
        });
        orders.push(Order::Trigger(checkpoint, directory.clone(), unaligned_after));
        let pending = Pending {
            triggered: now,
            triggered_ms: now_ms,
            kind,
            directory,
            parts: BTreeMap::new(),
            is_committing: false,
        };
        self.pending.insert(checkpoint, pending);
    }

    /// Has the manifest of the newest checkpoint written that has all its parts, unless one is
    /// being written.
    fn commit(&mut self, orders: &mut Vec<Order>) {
        if self.pending.values().any(|pending| pending.is_committing) {
            return;
        }
        let is_whole = |pending: &Pending| pending.parts.len() as u32 == self.shard_count;
        let mut newest_first = self.pending.iter_mut().rev();
        let Some((checkpoint, pending)) = newest_first.find(|(_, pending)| is_whole(pending))
        else {
            return;
        };
        pending.is_committing = true;
        let manifest = Manifest {
            checkpoint: *checkpoint,
            time_ms: pending.triggered_ms,
            kind: pending.kind,
            key_group_count: self.key_group_count,
            job: self.job.clone(),
            parts: pending.parts.values().map(|part| part.row.clone()).collect(),
        };
        let path = pending.directory.join(manifest_name(*checkpoint));
        orders.push(Order::Commit(*checkpoint, path, manifest.encode()));
    }

    fn give_up(
        &mut self,
        checkpoint: CheckpointId,
        reason: String,
        now: Duration,
        orders: &mut Vec<Order>,
    ) {
        let pending = self.pending.remove(&checkpoint).expect("the caller has looked");
        orders.push(Order::GiveUp(checkpoint, reason.clone()));
        // The manifest is among them: what failed may have left it.
        orders.push(Order::Remove(checkpoint, pending.files(checkpoint)));
        self.end(checkpoint, &pending, Outcome::Failed(reason), now);
        if self.wanted.take_if(|wanted| *wanted == checkpoint).is_some() {
            self.is_wanted = true;
            self.retry_at = now + RETRY_PAUSE;
        }
    }

    fn end(&mut self, checkpoint: CheckpointId, it: &Pending, outcome: Outcome, now: Duration) {
        self.last_ended = Some(now);
        match &outcome {
            Outcome::Completed => self.completed_count += 1,
            _ => self.failed_count += 1,
        }
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(CheckpointReport {
            checkpoint,
            kind: it.kind,
            triggered_ms: it.triggered_ms,
            took_us: Some(now.saturating_sub(it.triggered).as_micros() as u64),
            bytes: it.bytes(),
            in_flight_bytes: it.in_flight_bytes(),
            alignment_us: it.alignment_us(),
            outcome,
        });
    }
}

#[cfg(test)]
mod tests;
