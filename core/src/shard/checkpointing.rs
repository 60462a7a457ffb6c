//! The shard's part in checkpoints: what its tasks had becomes a file, and the node's wishes for
//! files are carried out.
//!
//! ```text
//! tasks ─snapshots─► collected, one of every task ─► part file ─► Report::Part
//! Command::Commit ─► manifest, replaced as a whole ─► Report::ManifestWritten
//! Command::Remove ─► one file after the other, until one cannot be removed
//! Command::Completed ─► tasks commit ─► when none of them owes anything: Report::Settled
//! ```
//!
//! All of it is off the data path: a part is written piece by piece by the storage service, and a
//! shard whose tasks have ended goes on with it.
//!
//! Not here: what is in a snapshot (`task/`), which checkpoint is complete
//! ([`crate::checkpoint::coordinator`]).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;

use millstream_storage::atomic_file::{AtomicFile, Progress};
use millstream_storage::io::{FileDone, FileId, FileOp, OpId};

use super::{Scheduled, Shard};
use crate::checkpoint::PartRow;
use crate::checkpoint::names::part_name;
use crate::checkpoint::part::Part;
use crate::data::element::CheckpointId;
use crate::shard::event::{Effect, Report};
use crate::state::shard_store::{CHECKPOINT_ID_BIT, STORE_ID_BIT, id_prefix};
use crate::state::snapshot::Snapshot;

/// Checkpoints that are collected, and files that are written and removed.
pub(super) struct Checkpointing {
    shard: u32,
    task_count: usize,
    next_id: u64,
    /// The last one that was triggered.
    last_begun: CheckpointId,
    collected: BTreeMap<CheckpointId, Collected>,
    writing: BTreeMap<OpId, Writing>,
    /// Files that go one after the other; what cannot go keeps those behind it.
    removing: VecDeque<Vec<PathBuf>>,
    remove_op: Option<OpId>,
    /// The last one that is complete, until no task owes a commit.
    settling: Option<CheckpointId>,
}

/// What the tasks had so far.
#[derive(Default)]
struct Collected {
    /// None if a barrier was here before the command.
    directory: Option<PathBuf>,
    chains: Vec<(u16, Snapshot)>,
}

/// A file that is being written.
struct Writing {
    file: AtomicFile,
    what: What,
}

enum What {
    Part(CheckpointId, PathBuf, PartRow),
    Manifest(CheckpointId),
}

impl Checkpointing {
    pub(super) fn new(shard: u32, task_count: usize) -> Self {
        Self {
            shard,
            task_count,
            next_id: 0,
            last_begun: CheckpointId::default(),
            collected: BTreeMap::new(),
            writing: BTreeMap::new(),
            removing: VecDeque::new(),
            remove_op: None,
            settling: None,
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        id_prefix(self.shard) | CHECKPOINT_ID_BIT | self.next_id
    }

    /// Whether an operation is one of these.
    pub(super) fn owns(op: OpId) -> bool {
        let bits = STORE_ID_BIT | CHECKPOINT_ID_BIT;
        op.0 & bits == bits
    }

    /// `checkpoint` has been triggered.
    pub(super) fn begin(
        &mut self,
        checkpoint: CheckpointId,
        directory: PathBuf,
        effects: &mut Vec<Effect>,
    ) {
        assert!(self.last_begun < checkpoint, "checkpoints are triggered once, in their order");
        self.last_begun = checkpoint;
        self.collected.entry(checkpoint).or_default().directory = Some(directory);
        // A shard may have no task, and all tasks of one may have been faster than the command.
        self.write_part(checkpoint, effects);
    }

    /// Nothing more is wanted of `checkpoint`. What is being written of it goes on, and will be
    /// removed by whoever hears of it.
    pub(super) fn give_up(&mut self, checkpoint: CheckpointId) {
        self.collected.remove(&checkpoint);
    }

    /// A task's part of a checkpoint.
    pub(super) fn collect(
        &mut self,
        checkpoint: CheckpointId,
        chain: u16,
        snapshot: Snapshot,
        effects: &mut Vec<Effect>,
    ) {
        // One that was triggered and is not here was given up.
        if checkpoint <= self.last_begun && !self.collected.contains_key(&checkpoint) {
            return;
        }
        self.collected.entry(checkpoint).or_default().chains.push((chain, snapshot));
        self.write_part(checkpoint, effects);
    }

    /// Writes the part, if it is complete.
    fn write_part(&mut self, checkpoint: CheckpointId, effects: &mut Vec<Effect>) {
        let task_count = self.task_count;
        let is_whole = |it: &Collected| it.directory.is_some() && it.chains.len() == task_count;
        if !self.collected.get(&checkpoint).is_some_and(is_whole) {
            return;
        }
        let collected = self.collected.remove(&checkpoint).expect("it was there");
        let Collected { directory, mut chains } = collected;
        let directory = directory.expect("it was triggered");
        chains.sort_unstable_by_key(|(chain, _)| *chain);
        let bytes = Part { checkpoint, shard: self.shard, chains }.encode();
        let name = part_name(checkpoint, self.shard);
        let (path, row) = (directory.join(&name), PartRow::of(name, &bytes));
        self.write(path, bytes, What::Part(checkpoint, directory, row), effects);
    }

    /// Writes a manifest.
    pub(super) fn commit(
        &mut self,
        checkpoint: CheckpointId,
        path: PathBuf,
        bytes: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) {
        self.write(path, bytes, What::Manifest(checkpoint), effects);
    }

    /// Removes files, after those that are to be removed already.
    pub(super) fn remove(&mut self, paths: Vec<PathBuf>, effects: &mut Vec<Effect>) {
        self.removing.push_back(paths);
        self.remove_next(effects);
    }

    fn write(&mut self, path: PathBuf, bytes: Vec<u8>, what: What, effects: &mut Vec<Effect>) {
        let file = AtomicFile::new(path, FileId(self.id()), bytes);
        self.go_on(Writing { file, what }, effects);
    }

    fn go_on(&mut self, mut writing: Writing, effects: &mut Vec<Effect>) {
        let op = OpId(self.id());
        let wanted = writing.file.next_op(op).expect("nothing of it is being carried out");
        effects.push(Effect::File(wanted));
        self.writing.insert(op, writing);
    }

    fn remove_next(&mut self, effects: &mut Vec<Effect>) {
        while self.remove_op.is_none()
            && let Some(paths) = self.removing.front_mut()
        {
            if paths.is_empty() {
                self.removing.pop_front();
                continue;
            }
            let path = paths.remove(0);
            let op = OpId(self.id());
            self.remove_op = Some(op);
            effects.push(Effect::File(FileOp::Remove { op, path }));
        }
    }

    /// One of its operations was answered.
    pub(super) fn on_done(&mut self, done: FileDone, effects: &mut Vec<Effect>) {
        if self.remove_op == Some(done.op) {
            self.remove_op = None;
            let is_left = |fault: &io::Error| fault.kind() != io::ErrorKind::NotFound;
            if let Err(fault) = done.result
                && is_left(&fault.source)
            {
                // The next start finds it. What it may name stays as well.
                let (action, error) = (fault.action, fault.source);
                tracing::warn!(action, %error, "a checkpoint's file is left behind");
                self.removing.pop_front();
            }
            return self.remove_next(effects);
        }
        let mut writing = self.writing.remove(&done.op).expect("an operation that was asked for");
        match writing.file.on_done(done.result) {
            Ok(Progress::Op) => self.go_on(writing, effects),
            Ok(Progress::Done) => effects.push(Effect::report(match writing.what {
                What::Part(checkpoint, directory, row) => {
                    Report::Part { checkpoint, directory, row }
                }
                What::Manifest(checkpoint) => Report::ManifestWritten(checkpoint),
            })),
            // Closed and removed are still to come, and then the same answer.
            Err(fault) => {
                let (What::Part(checkpoint, ..) | What::Manifest(checkpoint)) = writing.what;
                let reason = format!("could not {}: {}", fault.action, fault.source);
                effects.push(Effect::report(Report::CheckpointFailed { checkpoint, reason }));
            }
        }
    }
}

impl Shard {
    /// All of `checkpoint` is durable: tasks commit what they wrote before it.
    pub(super) fn complete(&mut self, checkpoint: CheckpointId, effects: &mut Vec<Effect>) {
        for Scheduled { task, is_woken, .. } in &mut self.tasks {
            task.on_completed(checkpoint);
            *is_woken = true;
        }
        self.checkpointing.settling = Some(checkpoint);
        if self.is_over {
            self.settle(effects);
        }
    }

    /// Tells the node once no task owes a commit.
    pub(super) fn settle(&mut self, effects: &mut Vec<Effect>) {
        let owes = |scheduled: &Scheduled| scheduled.task.owes_commit();
        if let Some(checkpoint) = self.checkpointing.settling
            && !self.tasks.iter().any(owes)
        {
            self.checkpointing.settling = None;
            effects.push(Effect::report(Report::Settled(checkpoint)));
        }
    }
}

#[cfg(test)]
mod tests;
