//! State that leaves memory whenever it is not in use, and comes back late.

use std::rc::Rc;
use std::time::Duration;

use millstream_storage::io::FileDone;

use super::{Collect, OperatorHarness};
use crate::operator::{Chain, Progress};
use crate::state::durable::DURABLE_ID_BIT;
use crate::state::shard_store::{STORE_CHUNKS_MIN, ShardStore, ShardStoreConfig, StoreStatus};
use crate::testing::MemoryDisk;

/// The shard's store, and the disk behind it.
#[derive(Debug)]
pub(super) struct Spill {
    store: Rc<ShardStore>,
    pub(super) disk: MemoryDisk,
    /// Whether calls end before all reads are answered.
    is_slow: bool,
    /// Answers that a slow disk may still give, reads among them.
    left_answers: u32,
}

/// Keys that a step of [`OperatorHarness::settle`] looks at.
const STEPS: u32 = 64;

/// Rounds after which something goes in circles.
const ROUNDS_MAX: u32 = 10_000;

/// Answers that a slow disk gives in a call of [`OperatorHarness::resume`].
const SLOW_ANSWERS: u32 = 2;

impl Spill {
    pub(super) fn new(store: Rc<ShardStore>, disk: MemoryDisk) -> Self {
        Self { store, disk, is_slow: false, left_answers: 0 }
    }

    /// A turn of the store. Whether it wants another.
    fn turn(&mut self) -> bool {
        let mut ops = Vec::new();
        let turned = self.store.turn(Duration::ZERO, &mut ops);
        let mut wants_turn = turned.expect("a memory disk does not fail").is_some();
        if let Some(durable) = self.store.durable() {
            let turned = durable.turn(Duration::ZERO, &mut ops);
            wants_turn |= turned.expect("a memory disk does not fail").is_some();
        }
        self.disk.accept_ops(ops);
        wants_turn
    }

    fn on_done(&mut self, done: FileDone) {
        let durable = self.store.durable().filter(|_| done.op.0 & DURABLE_ID_BIT != 0);
        let taken = match durable {
            Some(durable) => durable.on_done(done),
            None => self.store.on_done(done),
        };
        taken.expect("a memory disk does not fail");
    }
}

impl<C: Chain> OperatorHarness<C> {
    /// Keyed state has no room in memory: it goes to the shard's store, and to the files of a disk,
    /// whenever it is not in use, and is read back when a record or a timer of its key comes.
    /// Every call goes on until nothing is left to do.
    ///
    /// # Panics
    /// If the operators have been opened.
    pub fn spilling(self, seed: u64) -> Self {
        self.with_spill(seed, false, 0)
    }

    /// As [`OperatorHarness::spilling`], on a disk that answers reads only in
    /// [`OperatorHarness::resume`], and few of them: records come while others wait.
    ///
    /// # Panics
    /// If the operators have been opened.
    pub fn spilling_slowly(self, seed: u64) -> Self {
        self.with_spill(seed, true, 0)
    }

    /// How the store stands that state goes to, if the harness is spilling.
    pub fn store_status(&self) -> Option<StoreStatus> {
        self.spill.as_ref().map(|spill| spill.store.status())
    }

    /// As [`OperatorHarness::spilling`] or [`OperatorHarness::spilling_slowly`], with memory for so
    /// many bytes.
    pub(crate) fn with_spill(mut self, seed: u64, is_slow: bool, working_bytes: usize) -> Self {
        let task = self.env.task;
        let mut config = ShardStoreConfig::new(
            "spill".into(),
            task.key_groups(),
            task.key_group_count,
            STORE_CHUNKS_MIN << 21,
        );
        config.working_bytes = working_bytes;
        let store = Rc::new(ShardStore::new(config));
        self.env.store.set(Rc::clone(&store)).expect("the operators have not been opened");
        self.spill = Some(Spill { is_slow, ..Spill::new(store, MemoryDisk::new(seed)) });
        self
    }

    /// Whether the operators have state that leaves memory.
    pub(in crate::testing) fn has_spill(mut self) -> bool {
        self.open_or_panic();
        self.spill.is_some_and(|spill| spill.store.has_states())
    }

    /// Whether state is being read.
    pub(super) fn is_unsettled(&self) -> bool {
        self.spill.as_ref().is_some_and(|spill| spill.store.is_waited_for())
    }

    /// A slow disk answers some reads now.
    pub(super) fn answer_some(&mut self) {
        if let Some(spill) = &mut self.spill {
            spill.left_answers = SLOW_ANSWERS;
        }
    }

    /// Lets state leave, and come back where it is waited for.
    pub(super) fn settle(&mut self) {
        if self.spill.is_none() {
            return;
        }
        let mut is_squeezed = false;
        for _ in 0..ROUNDS_MAX {
            self.chain.evict(STEPS, &self.env);
            let spill = self.spill.as_mut().expect("it is spilling");
            if !std::mem::replace(&mut is_squeezed, true) {
                spill.store.squeeze();
            }
            let wants_turn = spill.turn();
            let may_read = !spill.is_slow || 0 < spill.left_answers;
            let done = if may_read { spill.disk.answer() } else { spill.disk.answer_but_reads() };
            let is_answered = done.is_some();
            if let Some(done) = done {
                spill.left_answers = spill.left_answers.saturating_sub(1);
                spill.on_done(done);
                is_squeezed = false;
            }
            let read = spill.store.take_read(self.env.task.chain_index);
            let is_read = !read.is_empty();
            if is_read {
                self.on_read(read);
            }
            if !wants_turn && !is_answered && !is_read {
                if let Some(spill) = &mut self.spill {
                    spill.left_answers = 0;
                }
                return;
            }
        }
        panic!("state goes to the store and comes back without an end");
    }

    /// Lets state that left memory come back for a snapshot.
    ///
    /// # Panics
    /// If records wait for something else.
    pub(super) fn gather(&mut self) {
        if let Some(spill) = &mut self.spill {
            spill.is_slow = false;
        }
        for _ in 0..ROUNDS_MAX {
            if self.chain.gather(&self.env) == Progress::Done {
                return;
            }
            if self.take_prints() {
                continue;
            }
            assert!(self.spill.is_some(), "an operator that is not ready is not cut");
            self.settle();
            if self.chain.has_waiting_rows() {
                // They may wait for what is due before them, or for a call.
                self.ready();
                self.env.set_budget(u32::MAX);
                let mut out = Collect { env: &self.env, rows: &mut self.rows };
                let released = self.chain.resume(&self.env, &mut out);
                self.release(released);
                self.fire_time();
            }
        }
        panic!("state does not come back from the store");
    }

    /// Goes on with rows whose state was read, and what waited for them.
    fn on_read(&mut self, read: Vec<(u16, u64)>) {
        self.ready();
        let mut out = Collect { env: &self.env, rows: &mut self.rows };
        for (stage_index, hash64) in read {
            self.chain.on_state_read(stage_index, hash64, &self.env, &mut out);
        }
        let released = self.chain.resume(&self.env, &mut out);
        self.release(released);
        if self.is_time_pending {
            self.fire_time();
        }
    }
}
