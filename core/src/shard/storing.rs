//! The part of a turn that is about state: what goes to disk, what comes back, who makes room.
//!
//! ```text
//! tasks ─too much in memory─► relieve ─records─► store ─FileOp─► effects
//!   ▲                                              ▲
//!   └── woken: a key was read, or there is room ───┴── Event::File
//! ```
//!
//! Giving back has turns of its own, so that what a turn takes is a task's doing (`pace.rs`). While
//! the tasks have little too much, they have every other turn; while they have much too much, none
//! until they have given back, or cannot.
//!
//! Not here: which state a task gives back (`operator/`), how it is kept
//! ([`crate::state::shard_store`]).

use std::rc::Rc;
use std::time::Duration;

use millstream_storage::io::{FileDone, FileOp, OpId};

use super::{Scheduled, Shard};
use crate::data::row::Origin;
use crate::shard::event::Effect;
use crate::state::durable::DURABLE_ID_BIT;
use crate::state::shard_store::{
    CHECKPOINT_ID_BIT, STORE_ID_BIT, ShardStore, ShardStoreConfig, StoreStatus,
};

/// Steps in which a task gives back: about 50 µs if each of them does.
const EVICT_STEPS: u32 = 64;

/// With more than this part of what it may have, a shard gives back before it takes in.
const EXCESS_DIVISOR: usize = 32;

/// Whether an operation is one of the durable part of a store.
pub(super) fn is_durable(op: OpId) -> bool {
    let bits = STORE_ID_BIT | CHECKPOINT_ID_BIT | DURABLE_ID_BIT;
    op.0 & bits == STORE_ID_BIT | DURABLE_ID_BIT
}

/// The store of a shard, and how it takes part in turns.
pub(super) struct Storing {
    store: Rc<ShardStore>,
    /// When it has something to do, whatever happens.
    due: Option<Duration>,
    /// The same of its durable part.
    durable_due: Option<Duration>,
    /// Whether asking the tasks to give back may be of use: something has happened since they all
    /// were asked in vain.
    can_relieve: bool,
    /// Whether the last turn was one of giving back.
    has_relieved: bool,
    /// Whether too much was in memory after the last turn.
    was_short: bool,
    /// The task that is asked first.
    next_task: usize,
    ops: Vec<FileOp>,
}

impl Storing {
    fn new(store: Rc<ShardStore>) -> Self {
        let (due, ops) = (Some(Duration::ZERO), Vec::new());
        Self {
            store,
            due,
            durable_due: Some(Duration::ZERO),
            can_relieve: false,
            has_relieved: false,
            was_short: false,
            next_task: 0,
            ops,
        }
    }

    /// When it has something to do.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        if self.wants_relief() {
            return Some(now);
        }
        let durable = self.durable_due.filter(|_| self.store.durable().is_some());
        self.due.into_iter().chain(durable).min()
    }

    /// How the store stands.
    pub(super) fn status(&self) -> StoreStatus {
        self.store.status()
    }

    fn wants_relief(&self) -> bool {
        self.can_relieve && 0 < self.store.excess_bytes()
    }

    /// Whether this turn is one of giving back.
    fn begin_turn(&mut self) -> bool {
        let limit = self.store.working_bytes_max() / EXCESS_DIVISOR;
        let is_pressing = limit < self.store.excess_bytes();
        self.has_relieved = self.wants_relief() && (is_pressing || !self.has_relieved);
        self.has_relieved
    }
}

impl Shard {
    /// The same shard, whose tasks put state that they have no room for into a store. Before it is
    /// opened.
    pub fn with_store(mut self, config: ShardStoreConfig) -> Self {
        let store = Rc::new(ShardStore::new(config).with_ids_of(self.index));
        for Scheduled { task, .. } in self.tasks.iter().filter(|s| s.task.plan().is_keyed) {
            let given = task.env().store.set(Rc::clone(&store));
            assert!(given.is_ok(), "a shard has one store");
        }
        self.checkpointing.set_store(&store);
        self.storing = Some(Storing::new(store));
        self
    }

    /// Lets the durable part of the store do its part of a turn, and checkpoints have what came of
    /// it. A shard whose tasks have ended has no turns of its own any more: all that can be done
    /// is.
    pub(super) fn turn_durable(&mut self, effects: &mut Vec<Effect>) {
        loop {
            let (is_busy, now, is_over) = (self.is_busy, self.now, self.is_over);
            let Some(storing) = self.storing.as_mut() else { return };
            let Some(durable) = storing.store.durable() else { return };
            if !is_busy && !is_over && storing.durable_due.is_none_or(|due| now < due) {
                return;
            }
            let was_refused = !durable.has_room();
            match durable.turn(now, &mut storing.ops) {
                Ok(due) => storing.durable_due = due,
                Err(error) if is_over => return tracing::warn!(%error, "no more checkpoints"),
                Err(error) => return self.fail(error, Origin::NONE, effects),
            }
            effects.extend(storing.ops.drain(..).map(Effect::File));
            if durable.take_news() || was_refused && durable.has_room() {
                // Who waited for a cut, or for room, may go on.
                self.tasks.iter_mut().for_each(|scheduled| scheduled.is_woken = true);
            }
            let is_due = storing.durable_due.is_some_and(|due| due <= now);
            self.checkpointing.turn(effects);
            if !(is_over && is_due) {
                return;
            }
        }
    }

    /// Lets the tasks give back, if it is time for that. `false` if they have their turn instead.
    pub(super) fn relieve(&mut self, effects: &mut Vec<Effect>) -> bool {
        if !self.storing.as_mut().is_some_and(Storing::begin_turn) {
            return false;
        }
        self.is_busy = true;
        self.pace.rest();
        for _ in 0..self.tasks.len() {
            let Some(storing) = &mut self.storing else { break };
            let (number, before) = (storing.next_task, storing.store.excess_bytes());
            storing.next_task = (number + 1) % self.tasks.len();
            self.running = Some(number);
            let scheduled = &mut self.tasks[number];
            scheduled.is_woken |= scheduled.task.relieve(EVICT_STEPS);
            self.running = None;
            self.carry_requests(number, effects);
            if self.is_over {
                return true;
            }
            let gave = |storing: &Storing| storing.store.excess_bytes() < before;
            if self.storing.as_ref().is_some_and(gave) {
                // Who waited for room may go on.
                self.tasks.iter_mut().for_each(|scheduled| scheduled.is_woken = true);
                return true;
            }
        }
        self.storing.as_mut().expect("it was there").can_relieve = false;
        true
    }

    /// The disk has answered the store.
    pub(super) fn on_store_done(&mut self, done: FileDone, effects: &mut Vec<Effect>) {
        let storing = self.storing.as_mut().expect("a store has asked for it");
        let result = match storing.store.durable().filter(|_| is_durable(done.op)) {
            Some(durable) => durable.on_done(done),
            None => {
                storing.can_relieve = true;
                storing.store.on_done(done)
            }
        };
        match result {
            Ok(()) => {}
            Err(error) if self.is_over => tracing::warn!(%error, "no more checkpoints"),
            Err(error) => self.fail(error, Origin::NONE, effects),
        }
    }

    /// Lets the store do its part of a turn.
    pub(super) fn turn_store(&mut self, effects: &mut Vec<Effect>) {
        let (is_busy, now) = (self.is_busy, self.now);
        let Some(storing) = self.storing.as_mut().filter(|_| !self.is_over) else { return };
        if !is_busy && storing.due.is_none_or(|due| now < due) {
            return;
        }
        self.is_busy = true;
        match storing.store.turn(now, &mut storing.ops) {
            Ok(due) => storing.due = due,
            Err(error) => return self.fail(error, Origin::NONE, effects),
        }
        effects.extend(storing.ops.drain(..).map(Effect::File));
        let is_short = 0 < storing.store.excess_bytes();
        if std::mem::replace(&mut storing.was_short, is_short) && !is_short {
            // Who waited for room may go on.
            self.tasks.iter_mut().for_each(|scheduled| scheduled.is_woken = true);
        }
        for chain in storing.store.take_woken() {
            self.tasks[self.routes.chain(chain)].is_woken = true;
        }
    }

    /// Lets all state that went to the store go to disk, and be read from there: for simulations.
    pub(crate) fn squeeze(&mut self) {
        if let Some(storing) = &mut self.storing {
            storing.store.squeeze();
            storing.due = Some(Duration::ZERO);
        }
    }

    /// A task has run.
    pub(super) fn on_ran(&mut self) {
        if let Some(storing) = &mut self.storing {
            storing.can_relieve = true;
        }
    }
}

#[cfg(test)]
mod tests;
