//! What the control thread knows and decides: pure, without a thread or a socket.
//!
//! ```text
//! Running ──signal──► Draining ──all shards finished──────► Over(Ok)
//!    │  │                │  └────second signal───────────► Over(Interrupted)
//!    │  └─────signal──► Stopping ──checkpoint committed──► Over(Ok)
//!    └──────failure──────┴───────────────────────────────► Over(Err)
//! ```
//!
//! A signal drains a job without checkpoints, and HTTP any job: what is under way is processed, and
//! windows that are open give their results. Where there are checkpoints a signal stops it with
//! one: another run goes on as if nothing had happened.

use std::path::PathBuf;
use std::time::Duration;

use crate::checkpoint::coordinator::{CheckpointReport, CheckpointsStatus};
use crate::checkpoint::{Coordinator, Order};
use crate::data::element::CheckpointId;
use crate::data::row::Origin;
use crate::error::Error;
use crate::operator::split_names::SplitNames;
use crate::runtime::node::JobEnd;
use crate::shard::event::{Addressed, Command, Report};
use crate::shard::metrics::ShardStatus;
use crate::shard::panic::LastWords;

/// Something a shard's host tells the control thread.
#[derive(Debug)]
pub enum HostReport {
    /// The shard's own report.
    Shard(Box<Report>),
    /// A task panicked.
    Panicked {
        /// Whose code, and on which record.
        last: LastWords,
        /// What the panic said, and where.
        message: String,
    },
    /// The engine panicked outside a task, or the host could not go on.
    Died(Error),
}

/// What is to be done now.
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// Nothing.
    Nothing,
    /// Tell the shards.
    Tell(Vec<Addressed>),
    /// End the process's part in the job: every shard's host exits.
    End,
}

/// The node as its control thread sees it.
#[derive(Debug)]
pub struct Node {
    source_names: Vec<String>,
    shards: Vec<Option<ShardStatus>>,
    finished: Vec<bool>,
    split_names: SplitNames,
    /// The user has asked for an end by a signal.
    is_signalled: bool,
    is_draining: bool,
    /// Where there are checkpoints.
    coordinator: Option<Coordinator>,
    stopping: Option<Stopping>,
    outcome: Option<Result<JobEnd, Error>>,
}

/// The job ends when this checkpoint, or a later one, has been committed by all shards.
#[derive(Debug)]
struct Stopping {
    checkpoint: CheckpointId,
    /// Where a savepoint is to be made of it.
    savepoint: Option<PathBuf>,
    settled: Vec<bool>,
}

impl Node {
    /// A node of `shard_count` shards that have just begun, with a `coordinator` if checkpoints are
    /// taken.
    pub fn new(
        shard_count: u32,
        source_names: Vec<String>,
        coordinator: Option<Coordinator>,
    ) -> Self {
        let shard_count = shard_count as usize;
        Self {
            source_names,
            shards: vec![None; shard_count],
            finished: vec![false; shard_count],
            split_names: SplitNames::default(),
            is_signalled: false,
            is_draining: false,
            coordinator,
            stopping: None,
            outcome: None,
        }
    }

    /// The same, of a job that has begun again: what is known of checkpoints `before` stays known.
    #[must_use]
    pub fn after(mut self, before: Option<CheckpointsStatus>) -> Self {
        if let Some((coordinator, before)) = self.coordinator.as_mut().zip(before) {
            coordinator.remember(before);
        }
        self
    }

    /// A shard's host says something, at `now` by the clock of [`Node::on_time`].
    pub fn on_report(&mut self, shard: u32, report: HostReport, now: Duration) -> Decision {
        match report {
            HostReport::Shard(report) => self.on_shard_report(shard, *report, now),
            HostReport::Died(error) => self.fail(error),
            HostReport::Panicked { mut last, message } => {
                for (source, split) in last.named.drain(..) {
                    self.split_names.insert(source, &split);
                }
                let record = self.describe(last.origin);
                self.fail(last.into_error(message, record))
            }
        }
    }

    /// When [`Node::on_time`] has something to do.
    pub fn next_due(&self) -> Option<Duration> {
        self.coordinator.as_ref().map(Coordinator::next_due).filter(|due| *due != Duration::MAX)
    }

    /// Time has come to `now`, counted from the start, and to `now_ms` since 1970.
    pub fn on_time(&mut self, now: Duration, now_ms: i64) -> Decision {
        self.coordinate(|coordinator| coordinator.on_time(now, now_ms))
    }

    /// The user asks for an end: with a checkpoint, or by draining; at once the second time.
    pub fn on_signal(&mut self) -> Decision {
        if std::mem::replace(&mut self.is_signalled, true) {
            return self.fail(Error::Interrupted);
        }
        if self.stopping.is_some() {
            return Decision::Nothing;
        }
        if let Some((_, decision)) = self.stop(None) {
            return decision;
        }
        self.drain().unwrap_or(Decision::Nothing)
    }

    /// Drains: sources end, what is under way is processed, and the job comes to its end. None if
    /// it is about to end already.
    pub fn drain(&mut self) -> Option<Decision> {
        if self.is_draining || self.stopping.is_some() {
            return None;
        }
        self.is_draining = true;
        tracing::info!("draining: sources end, what is under way is processed");
        Some(Decision::Tell(vec![Addressed::All(Command::Drain)]))
    }

    /// Stops with a checkpoint, of which a `savepoint` is made if it is to be somewhere; sources
    /// take nothing in any more. Answers the lowest number that it may have; none if none are
    /// taken, or if it stops already.
    pub fn stop(&mut self, savepoint: Option<PathBuf>) -> Option<(CheckpointId, Decision)> {
        let coordinator = self.coordinator.as_mut().filter(|_| self.stopping.is_none())?;
        let checkpoint = coordinator.end_with();
        tracing::info!("stopping with a checkpoint");
        let settled = vec![false; self.finished.len()];
        self.stopping = Some(Stopping { checkpoint, savepoint, settled });
        Some((checkpoint, Decision::Tell(vec![Addressed::All(Command::Halt)])))
    }

    /// Has a checkpoint taken, or a savepoint if it is to be somewhere. Answers its number, or the
    /// lowest that it may have; none if none are taken.
    pub fn want_checkpoint(&mut self, savepoint: Option<PathBuf>) -> Option<CheckpointId> {
        let coordinator = self.coordinator.as_mut()?;
        Some(match savepoint {
            Some(directory) => coordinator.want_savepoint(directory),
            None => coordinator.want(),
        })
    }

    /// How checkpoints stand; none if none are taken.
    pub fn checkpoints(&self) -> Option<CheckpointsStatus> {
        self.coordinator.as_ref().map(Coordinator::status)
    }

    fn coordinate(&mut self, on: impl FnOnce(&mut Coordinator) -> Vec<Order>) -> Decision {
        let Some(coordinator) = self.coordinator.as_mut().filter(|_| self.outcome.is_none()) else {
            return Decision::Nothing;
        };
        let orders = on(coordinator);
        for order in &orders {
            if let Order::GiveUp(checkpoint, reason) = order {
                tracing::warn!(checkpoint = checkpoint.0, reason, "a checkpoint is given up");
            }
        }
        let commands = orders.into_iter().map(Command::of);
        Decision::Tell(commands.collect())
    }

    /// All that was written before `checkpoint` is committed on a shard.
    fn on_settled(&mut self, shard: u32, checkpoint: CheckpointId) -> Decision {
        let Some(stopping) = self.stopping.as_mut().filter(|it| it.checkpoint <= checkpoint) else {
            return Decision::Nothing;
        };
        stopping.settled[shard as usize] = true;
        if stopping.settled.iter().all(|settled| *settled) && self.outcome.is_none() {
            let savepoint = stopping.savepoint.take();
            self.outcome = Some(Ok(JobEnd::Stopped { checkpoint, savepoint }));
            return Decision::End;
        }
        Decision::Nothing
    }

    /// How it ended, once it has.
    pub fn take_outcome(&mut self) -> Option<Result<JobEnd, Error>> {
        self.outcome.take()
    }

    /// Whether somebody has asked for an end.
    pub fn is_ending(&self) -> bool {
        self.is_signalled || self.is_draining || self.stopping.is_some()
    }

    /// The newest checkpoint that is complete.
    pub fn newest_checkpoint(&self) -> Option<CheckpointId> {
        self.coordinator.as_ref().and_then(Coordinator::last_completed)
    }

    /// Whether it goes on.
    pub fn is_running(&self) -> bool {
        self.outcome.is_none()
    }

    /// What the shards said last about how they stand.
    pub fn statuses(&self) -> impl Iterator<Item = &ShardStatus> {
        self.shards.iter().flatten()
    }

    fn on_shard_report(&mut self, shard: u32, report: Report, now: Duration) -> Decision {
        match report {
            Report::Finished => {
                self.finished[shard as usize] = true;
                if self.outcome.is_none() && self.finished.iter().all(|finished| *finished) {
                    if let Some(savepoint) = self.stopping.take().and_then(|it| it.savepoint) {
                        let path = savepoint.display();
                        tracing::warn!(%path, "no savepoint: the input ended before it was made");
                    }
                    let end = if self.is_draining { JobEnd::Drained } else { JobEnd::InputEnded };
                    self.outcome = Some(Ok(end));
                    return Decision::End;
                }
            }
            Report::Failed { error, origin } => {
                let place = self.describe(origin);
                return self.fail(error.at(place));
            }
            Report::Stalled { turn_ns, task, stall_count } => {
                let turn_us = turn_ns / 1_000;
                match task {
                    Some(task) => {
                        tracing::warn!(shard, turn_us, stall_count, task, "task blocks its shard");
                    }
                    None => tracing::warn!(
                        shard,
                        turn_us,
                        stall_count,
                        "turn was interrupted: the core is shared with other threads"
                    ),
                }
            }
            Report::SplitNamed { source, split } => {
                self.split_names.insert(source, &split);
            }
            Report::Removed(checkpoint) => {
                return self.coordinate(|it| it.on_removed(checkpoint));
            }
            Report::Part { checkpoint, part } => {
                return self.coordinate(|it| it.on_part(shard, checkpoint, part));
            }
            Report::ManifestWritten(checkpoint) => {
                self.log_completed(checkpoint);
                return self.coordinate(|it| it.on_committed(checkpoint, now));
            }
            Report::CheckpointFailed { checkpoint, reason } => {
                return self.coordinate(|it| it.on_failed(checkpoint, reason, now));
            }
            Report::Settled(checkpoint) => return self.on_settled(shard, checkpoint),
            Report::CheckpointWanted => {
                self.coordinator.as_mut().map(Coordinator::want);
            }
            Report::Status(status) => self.shards[shard as usize] = Some(status),
        }
        Decision::Nothing
    }

    fn log_completed(&self, checkpoint: CheckpointId) {
        let mut history = self.coordinator.iter().flat_map(Coordinator::history);
        if let Some(report) = history.find(|report| report.checkpoint == checkpoint) {
            let CheckpointReport { bytes, in_flight_bytes, alignment_us, .. } = report;
            let checkpoint = checkpoint.0;
            tracing::debug!(
                checkpoint,
                bytes,
                in_flight_bytes,
                alignment_us,
                "checkpoint is complete"
            );
        }
    }

    /// The record at `origin`, as people call it.
    fn describe(&self, origin: Origin) -> String {
        let name = |source, split| self.split_names.get(source, split).map(ToString::to_string);
        origin.describe(&self.source_names, name)
    }

    fn fail(&mut self, error: Error) -> Decision {
        if self.outcome.is_some() {
            return Decision::Nothing;
        }
        self.outcome = Some(Err(error));
        Decision::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::env::SplitName;
    use crate::shard::panic::Culprit;

    const NOW: Duration = Duration::ZERO;

    fn node(shard_count: u32) -> Node {
        Node::new(shard_count, Vec::new(), None)
    }

    fn shard(report: Report) -> HostReport {
        HostReport::Shard(Box::new(report))
    }

    #[test]
    fn it_ends_when_the_last_shard_has_finished() {
        let mut node = node(2);
        assert!(matches!(node.on_report(1, shard(Report::Finished), NOW), Decision::Nothing));
        assert!(matches!(node.on_report(0, shard(Report::Finished), NOW), Decision::End));
        assert!(matches!(node.take_outcome(), Some(Ok(JobEnd::InputEnded))));
    }

    #[test]
    fn the_first_signal_drains_and_the_second_ends() {
        let mut node = node(1);
        assert!(matches!(node.on_signal(), Decision::Tell(_)));
        assert!(node.is_running());
        assert!(matches!(node.on_signal(), Decision::End));
        assert!(matches!(node.take_outcome(), Some(Err(Error::Interrupted))));
    }

    #[test]
    fn a_drained_job_says_that_it_was() {
        let mut node = node(1);
        assert!(matches!(node.drain(), Some(Decision::Tell(_))));
        assert!(node.drain().is_none() && node.is_ending());
        assert!(matches!(node.on_signal(), Decision::Nothing), "it ends already");
        let finished = HostReport::Shard(Box::new(Report::Finished));
        assert!(matches!(node.on_report(0, finished, NOW), Decision::End));
        assert!(matches!(node.take_outcome(), Some(Ok(JobEnd::Drained))));
    }

    #[test]
    fn the_first_failure_counts() {
        let mut node = node(2);
        let failed = |what: &str| {
            shard(Report::Failed { error: Error::bug("sum", what), origin: Origin::NONE })
        };
        assert!(matches!(node.on_report(0, failed("first"), NOW), Decision::End));
        assert!(matches!(node.on_report(1, failed("second"), NOW), Decision::Nothing));
        let outcome = node.take_outcome().expect("it has ended");
        assert!(outcome.expect_err("it failed").to_string().contains("first"));
    }

    fn panicked(origin: Origin, named: Vec<(u32, SplitName)>) -> HostReport {
        let last = LastWords { culprit: Culprit::Operator("score".to_string()), origin, named };
        HostReport::Panicked { last, message: "index out of bounds".to_string() }
    }

    #[test]
    fn a_panic_in_the_first_turn_brings_the_splits_name_with_it() {
        let mut node = Node::new(1, vec!["payments".to_string()], None);
        let split = SplitName { split: 4, name: "a.csv".to_string(), unit: "byte" };
        let report = panicked(Origin::new(0, 4, 0), vec![(0, split)]);
        assert!(matches!(node.on_report(0, report, NOW), Decision::End));
        let error = node.take_outcome().expect("it has ended").expect_err("it failed").to_string();
        assert!(error.contains("source payments, a.csv, byte 0"), "{error}");
    }

    #[test]
    fn a_panic_names_the_record_even_of_another_shards_source() {
        let mut node = Node::new(2, vec!["payments".to_string()], None);
        let split = SplitName { split: 4, name: "a.csv".to_string(), unit: "byte" };
        let named = shard(Report::SplitNamed { source: 0, split });
        assert!(matches!(node.on_report(0, named, NOW), Decision::Nothing));
        assert!(matches!(
            node.on_report(1, panicked(Origin::new(0, 4, 99), Vec::new()), NOW),
            Decision::End
        ));
        let error = node.take_outcome().expect("it has ended").expect_err("it failed").to_string();
        assert_eq!(
            error,
            "operator score panicked at source payments, a.csv, byte 99: index out of bounds"
        );
    }
}
