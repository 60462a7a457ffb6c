//! The shard's part in checkpoints: what its tasks had becomes a file, and the node's wishes for
//! files are carried out.
//!
//! ```text
//! tasks ─snapshots─► collected, one of every task ─► part file ─► Report::Part
//!       ─records───► durable store: frozen ─► image ─────┘ which names the tables of it
//! time ─► tasks: barriers wait for rows no longer
//! Command::Commit ─► manifest, replaced as a whole ─► Report::ManifestWritten
//! Command::Remove ─► one file after the other, until one cannot be removed ─► Report::Removed
//! Command::Release ─► tables that no checkpoint names any more go
//! Command::Completed ─► tasks commit ─► when none of them owes anything: Report::Settled
//! ```
//!
//! All of it is off the data path: a part is written piece by piece by the storage service, and a
//! shard whose tasks have ended goes on with it. The tables of a savepoint get names in its
//! directory before its part is written.
//!
//! Not here: what is in a snapshot (`task/`), which checkpoint is complete
//! ([`crate::checkpoint::coordinator`]).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use millstream_storage::atomic_file::{AtomicFile, Progress};
use millstream_storage::io::{FileDone, FileId, FileOp, OpId};

use super::{Scheduled, Shard};
use crate::checkpoint::names::part_name;
use crate::checkpoint::part::Part;
use crate::checkpoint::{PartRow, Tables, WrittenPart};
use crate::data::element::CheckpointId;
use crate::shard::event::{Effect, Report};
use crate::state::durable::{DurableStore, Image};
use crate::state::shard_store::{CHECKPOINT_ID_BIT, STORE_ID_BIT, ShardStore, id_prefix};
use crate::state::snapshot::Snapshot;
use crate::task::TaskPart;

/// Checkpoints that are collected, and files that are written and removed.
pub(super) struct Checkpointing {
    shard: u32,
    task_count: usize,
    next_id: u64,
    /// The last one that was triggered.
    last_begun: CheckpointId,
    /// When barriers of checkpoints wait for rows no longer, in order.
    unaligned_at: VecDeque<(Duration, CheckpointId)>,
    collected: BTreeMap<CheckpointId, Collected>,
    /// What the keys had, if the shard keeps that apart.
    store: Option<Rc<ShardStore>>,
    /// What all tasks had, while the image of what their keys had is made.
    freezing: BTreeMap<CheckpointId, Collected>,
    writing: BTreeMap<OpId, Writing>,
    /// Files of a checkpoint that go one after the other; what cannot go keeps those behind it.
    removing: VecDeque<(CheckpointId, Vec<PathBuf>)>,
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
    alignment_ns: u64,
}

/// A file that is being written.
struct Writing {
    /// Tables that are to have other names before, each with the new one.
    links: VecDeque<(PathBuf, PathBuf)>,
    file: AtomicFile,
    what: What,
}

enum What {
    Part(CheckpointId, WrittenPart),
    Manifest(CheckpointId),
}

impl Checkpointing {
    pub(super) fn new(shard: u32, task_count: usize) -> Self {
        Self {
            shard,
            task_count,
            next_id: 0,
            last_begun: CheckpointId::default(),
            unaligned_at: VecDeque::new(),
            collected: BTreeMap::new(),
            store: None,
            freezing: BTreeMap::new(),
            writing: BTreeMap::new(),
            removing: VecDeque::new(),
            remove_op: None,
            settling: None,
        }
    }

    /// What keys of the tasks have is in the durable part of a store.
    pub(super) fn set_store(&mut self, store: &Rc<ShardStore>) {
        self.store = Some(Rc::clone(store));
    }

    fn durable(&self) -> Option<&DurableStore> {
        self.store.as_ref()?.durable()
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
        unaligned_at: Option<Duration>,
        effects: &mut Vec<Effect>,
    ) {
        assert!(self.last_begun < checkpoint, "checkpoints are triggered once, in their order");
        self.last_begun = checkpoint;
        self.durable().into_iter().for_each(|durable| durable.begin(checkpoint));
        self.unaligned_at.extend(unaligned_at.map(|at| (at, checkpoint)));
        self.collected.entry(checkpoint).or_default().directory = Some(directory);
        // A shard may have no task, and all tasks of one may have been faster than the command.
        self.write_part(checkpoint, effects);
    }

    /// Nothing more is wanted of `checkpoint`. What is being written of it goes on, and will be
    /// removed by whoever hears of it.
    pub(super) fn give_up(&mut self, checkpoint: CheckpointId) {
        self.collected.remove(&checkpoint);
        self.freezing.remove(&checkpoint);
        self.durable().into_iter().for_each(|durable| durable.give_up(checkpoint));
    }

    /// No file names tables for the sake of `checkpoint` any more.
    pub(super) fn release(&self, checkpoint: CheckpointId) {
        self.durable().into_iter().for_each(|durable| durable.release(checkpoint));
    }

    /// When barriers of a checkpoint wait for rows no longer.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let is_open =
            |(_, checkpoint): &&(Duration, CheckpointId)| self.collected.contains_key(checkpoint);
        self.unaligned_at.iter().find(is_open).map(|(at, _)| *at)
    }

    /// The last checkpoint whose barriers wait for rows no longer since `now`.
    fn pop_unaligned(&mut self, now: Duration) -> Option<CheckpointId> {
        let mut last = None;
        while let Some((_, checkpoint)) = self.unaligned_at.pop_front_if(|(at, _)| *at <= now) {
            last = Some(checkpoint);
        }
        last
    }

    /// A task's part of a checkpoint.
    pub(super) fn collect(&mut self, chain: u16, part: TaskPart, effects: &mut Vec<Effect>) {
        let TaskPart { checkpoint, snapshot, alignment_ns } = part;
        // One that was triggered and is not here was given up.
        if checkpoint <= self.last_begun && !self.collected.contains_key(&checkpoint) {
            return;
        }
        let collected = self.collected.entry(checkpoint).or_default();
        collected.chains.push((chain, snapshot));
        collected.alignment_ns = collected.alignment_ns.max(alignment_ns);
        self.write_part(checkpoint, effects);
    }

    /// Writes the part, if it is complete, or has the image made that it is to name.
    fn write_part(&mut self, checkpoint: CheckpointId, effects: &mut Vec<Effect>) {
        let task_count = self.task_count;
        let is_whole = |it: &Collected| it.directory.is_some() && it.chains.len() == task_count;
        if !self.collected.get(&checkpoint).is_some_and(is_whole) {
            return;
        }
        let collected = self.collected.remove(&checkpoint).expect("it was there");
        match self.durable() {
            Some(durable) => {
                durable.freeze(checkpoint);
                self.freezing.insert(checkpoint, collected);
            }
            None => self.encode(checkpoint, collected, None, effects),
        }
    }

    /// Writes the parts whose images are made.
    pub(super) fn turn(&mut self, effects: &mut Vec<Effect>) {
        while let Some((checkpoint, image)) = self.durable().and_then(DurableStore::take_image) {
            match self.freezing.remove(&checkpoint) {
                Some(collected) => self.encode(checkpoint, collected, Some(image), effects),
                None => self.release(checkpoint),
            }
        }
    }

    fn encode(
        &mut self,
        checkpoint: CheckpointId,
        Collected { directory, mut chains, alignment_ns }: Collected,
        image: Option<(Image, u64)>,
        effects: &mut Vec<Effect>,
    ) {
        let directory = directory.expect("it was triggered");
        chains.sort_unstable_by_key(|(chain, _)| *chain);
        let (image, table_bytes) = image.unzip();
        let tables = image.as_ref().map_or_else(Tables::default, |image| Tables {
            directory: image.directory.clone(),
            ids: image.ids(),
        });
        let links = self.links(&directory, &tables);
        let in_flight_bytes = chains.iter().map(|(_, chain)| chain.in_flight_bytes()).sum();
        let bytes = Part { checkpoint, shard: self.shard, chains, image }.encode();
        let added_bytes = bytes.len() as u64 + table_bytes.unwrap_or(0);
        let name = part_name(checkpoint, self.shard);
        let (path, row) = (directory.join(&name), PartRow::of(name, &bytes, tables));
        let alignment_us = alignment_ns / 1_000;
        let part = WrittenPart { directory, row, added_bytes, in_flight_bytes, alignment_us };
        let what = What::Part(checkpoint, part);
        let file = AtomicFile::new(path, FileId(self.id()), bytes);
        self.go_on(Writing { links, file, what }, effects);
    }

    /// The names that tables are to have for a savepoint in `directory`, each behind one of today.
    fn links(&self, directory: &Path, tables: &Tables) -> VecDeque<(PathBuf, PathBuf)> {
        let own = self.durable().and_then(|durable| durable.path().parent());
        match own {
            Some(own) if own != directory => {
                tables.paths(own).zip(tables.paths(directory)).collect()
            }
            _ => VecDeque::new(),
        }
    }

    /// Writes a manifest.
    pub(super) fn commit(
        &mut self,
        checkpoint: CheckpointId,
        path: PathBuf,
        bytes: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) {
        let file = AtomicFile::new(path, FileId(self.id()), bytes);
        let (links, what) = (VecDeque::new(), What::Manifest(checkpoint));
        self.go_on(Writing { links, file, what }, effects);
    }

    /// Removes files of a checkpoint, after those that are to be removed already.
    pub(super) fn remove(
        &mut self,
        checkpoint: CheckpointId,
        paths: Vec<PathBuf>,
        effects: &mut Vec<Effect>,
    ) {
        self.removing.push_back((checkpoint, paths));
        self.remove_next(effects);
    }

    fn go_on(&mut self, mut writing: Writing, effects: &mut Vec<Effect>) {
        let op = OpId(self.id());
        let wanted = match writing.links.front().cloned() {
            Some((from, to)) => FileOp::Link { op, from, to },
            None => writing.file.next_op(op).expect("nothing of it is being carried out"),
        };
        effects.push(Effect::File(wanted));
        self.writing.insert(op, writing);
    }

    fn remove_next(&mut self, effects: &mut Vec<Effect>) {
        while self.remove_op.is_none()
            && let Some((checkpoint, paths)) = self.removing.front_mut()
        {
            if paths.is_empty() {
                effects.push(Effect::report(Report::Removed(*checkpoint)));
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
        let progress = match writing.links.pop_front() {
            Some(_) => done.result.map(|_| Progress::Op),
            None => writing.file.on_done(done.result),
        };
        match progress {
            Ok(Progress::Op) => self.go_on(writing, effects),
            Ok(Progress::Done) => effects.push(Effect::report(match writing.what {
                What::Part(checkpoint, part) => Report::Part { checkpoint, part },
                What::Manifest(checkpoint) => Report::ManifestWritten(checkpoint),
            })),
            // Closed and removed are still to come, and then the same answer.
            Err(fault) => {
                let checkpoint = match writing.what {
                    What::Part(checkpoint, _) => {
                        self.release(checkpoint);
                        checkpoint
                    }
                    What::Manifest(checkpoint) => checkpoint,
                };
                let reason = format!("could not {}: {}", fault.action, fault.source);
                effects.push(Effect::report(Report::CheckpointFailed { checkpoint, reason }));
            }
        }
    }
}

impl Shard {
    /// Barriers that have waited long enough for rows overtake them.
    pub(super) fn unalign(&mut self) {
        if let Some(checkpoint) = self.checkpointing.pop_unaligned(self.now) {
            for Scheduled { task, is_woken, .. } in &mut self.tasks {
                task.unalign(checkpoint);
                *is_woken = true;
            }
        }
    }

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
