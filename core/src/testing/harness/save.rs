//! Checkpoints as a shard takes them: what keys had at a cut is written while records go on.

use std::path::Path;
use std::rc::Rc;

use super::OperatorHarness;
use super::spill::Spill;
use crate::checkpoint::names::state_name;
use crate::checkpoint::tables;
use crate::data::element::CheckpointId;
use crate::operator::{Chain, Progress};
use crate::state::durable::{CHUNKS_MIN, DurableConfig, Save};
use crate::state::shard_store::{STORE_CHUNKS_MIN, ShardStore, ShardStoreConfig};
use crate::state::snapshot::Snapshot;
use crate::testing::MemoryDisk;

const CHECKPOINTS: &str = "checkpoints";

/// Bytes that operators may keep decoded: some of the keys of a test.
const WORKING_BYTES: usize = 2_000;

/// A cut of which not everything is written.
#[derive(Debug)]
pub(super) struct Saving {
    checkpoint: CheckpointId,
    /// What belongs to no key.
    rest: Snapshot,
}

impl<C: Chain> OperatorHarness<C> {
    /// As [`OperatorHarness::spilling`], with some memory, and with checkpoints by
    /// [`OperatorHarness::cut`].
    pub(in crate::testing) fn saving(mut self, seed: u64) -> Self {
        let task = self.env.task;
        let (groups, count) = (task.key_groups(), task.key_group_count);
        let mut config =
            ShardStoreConfig::new("spill".into(), groups, count, STORE_CHUNKS_MIN << 21);
        config.working_bytes = WORKING_BYTES;
        config.durable = Some(DurableConfig {
            directory: CHECKPOINTS.into(),
            name: state_name(CheckpointId(1), 0),
            store_bytes: CHUNKS_MIN << 21,
            table_bytes: 0,
        });
        let store = Rc::new(ShardStore::new(config));
        self.env.store.set(Rc::clone(&store)).expect("the operators have not been opened");
        self.spill = Some(Spill::new(store, MemoryDisk::new(seed)));
        self
    }

    /// What there is now is what [`OperatorHarness::save_some`] will have saved.
    pub(in crate::testing) fn cut(&mut self) {
        assert!(self.saving.is_none(), "the last cut is saved");
        self.open_or_panic();
        self.gather();
        let mut rest = Snapshot::default();
        self.chain.snapshot(&mut rest);
        self.checkpoint = CheckpointId(self.checkpoint.0 + 1);
        let checkpoint = self.checkpoint;
        self.env.store.get().and_then(|it| it.durable()).expect("it is saving").begin(checkpoint);
        self.chain.on_cut(checkpoint, &self.env);
        self.saving = Some(Saving { checkpoint, rest });
    }

    /// Saves one key of each operator. What there was at the last cut, once that is saved.
    pub(in crate::testing) fn save_some(&mut self) -> Option<Snapshot> {
        let Saving { checkpoint, mut rest } = self.saving.take()?;
        let saved = self.chain.save(Save { steps: 1, is_last: false }, &self.env);
        assert_eq!(saved == Progress::Done, self.chain.is_settled(checkpoint));
        if saved == Progress::Pending {
            self.settle();
            self.saving = Some(Saving { checkpoint, rest });
            return None;
        }
        let store = Rc::clone(self.env.store.get().expect("it is saving"));
        let durable = store.durable().expect("it is saving");
        durable.freeze(checkpoint);
        self.settle();
        let (made, (image, _)) = durable.take_image().expect("the disk has answered everything");
        assert_eq!(made, checkpoint);
        let disk = &self.spill.as_ref().expect("it is saving").disk;
        tables::read(disk, Path::new(CHECKPOINTS), &image, &mut rest).expect("it is sound");
        durable.release(checkpoint);
        Some(rest)
    }
}
