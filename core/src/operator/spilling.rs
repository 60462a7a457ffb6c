//! The keys of an operator that leave memory when it is short: what is the same for all operators
//! that keep a value per key.
//!
//! ```text
//! Operator::evict, gather, on_batch_end ──► Residents (state/residents.rs) ──► the shard's store
//! ```
//!
//! If the store fails, so does the job.
//!
//! Not here: rows that wait for their key (`operator/waiting.rs`).

use std::task::Poll;

use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::operator::{OperatorContext, Progress};
use crate::state::durable::Save;
use crate::state::keyed::KeyedState;
use crate::state::residents::{Belongings, Residents};
use crate::state::shard_store::ShardStore;

/// Keys that are looked at for each record while memory is short: enough that more leave than come,
/// although each is spared once.
pub(in crate::operator) const EVICT_STEPS: u32 = 8;

/// How many keys ahead of one that is due it is seen to that they are in memory: so many reads a
/// disk does in about the time of one.
pub(in crate::operator) const READ_AHEAD: usize = 32;

/// No keys yet; if the shard has a store, they may leave memory.
pub(in crate::operator) fn open<K: Key, V>(ctx: &OperatorContext<'_>) -> Residents<K, V> {
    let task = ctx.env().task;
    let keys = Residents::new(task.hashes());
    match ctx.env().store.get() {
        Some(store) => keys
            .with_store(store, task.chain_index, ctx.stage_index())
            .with_durable(store, &ctx.env().opened_uid()),
        None => keys,
    }
}

/// The same states; if the shard has a store, they may leave memory.
pub(in crate::operator) fn open_states<K: Key>(
    keyed: KeyedState<K>,
    ctx: &OperatorContext<'_>,
) -> KeyedState<K> {
    match ctx.env().store.get() {
        Some(store) => {
            let place = (ctx.env().task.chain_index, ctx.stage_index());
            keyed.with_store(store, place, &ctx.env().opened_uid())
        }
        None => keyed,
    }
}

/// Whether it is in memory; if that cannot be had, the job stops.
pub(in crate::operator) fn or_fail(
    admitted: Result<bool, Error>,
    ctx: &OperatorContext<'_>,
) -> bool {
    admitted.unwrap_or_else(|error| {
        ctx.fail(error);
        false
    })
}

/// Sees to it that what `key` has is in memory; `false` while it is being read.
#[inline]
pub(in crate::operator) fn admit<K: Key, V>(
    keys: &mut Residents<K, V>,
    (hash64, key): (u64, &K),
    belongings: &mut impl Belongings<K, V>,
    ctx: &OperatorContext<'_>,
) -> bool {
    let Some(store) = ctx.env().store.get() else { return true };
    or_fail(keys.admit(hash64, key, belongings, store), ctx)
}

/// As [`admit`], of the key at `slot`, whose turn it is. If it has to be read, so are those of
/// `next`, whose turn comes then.
#[inline]
pub(in crate::operator) fn admit_slot<K: Key, V>(
    keys: &mut Residents<K, V>,
    slot: Slot,
    next: impl Iterator<Item = Slot>,
    belongings: &mut impl Belongings<K, V>,
    ctx: &OperatorContext<'_>,
) -> bool {
    if !keys.has_evicted() || !keys.is_cold(slot) {
        return true;
    }
    let Some(store) = ctx.env().store.get() else { return true };
    if or_fail(keys.admit_slot(slot, belongings, store), ctx) {
        return true;
    }
    for slot in next {
        or_fail(keys.admit_slot(slot, belongings, store), ctx);
    }
    false
}

/// Tells the shard's store how much is in memory.
pub(in crate::operator) fn recharge<K: Key, V>(
    keys: &mut Residents<K, V>,
    belongings: &impl Belongings<K, V>,
    ctx: &OperatorContext<'_>,
) {
    if let Some(store) = ctx.env().store.get()
        && let Err(error) = keys.recharge(belongings, store)
    {
        ctx.fail(error);
    }
}

/// Lets up to `steps` keys leave. Whether nothing could be taken in for want of room, and can now.
pub(in crate::operator) fn evict<K: Key, V>(
    keys: &mut Residents<K, V>,
    steps: u32,
    belongings: &mut impl Belongings<K, V>,
    ctx: &OperatorContext<'_>,
) -> bool {
    let Some(store) = ctx.env().store.get() else { return false };
    let was_full = keys.is_full();
    if let Err(error) = keys.evict(steps, belongings, store) {
        ctx.fail(error);
    }
    was_full && !keys.is_full()
}

/// A record was taken: while memory is short, some keys leave for it.
#[inline]
pub(in crate::operator) fn make_room<K: Key, V>(
    keys: &mut Residents<K, V>,
    belongings: &mut impl Belongings<K, V>,
    ctx: &OperatorContext<'_>,
) {
    if keys.is_short() {
        evict(keys, EVICT_STEPS, belongings, ctx);
    }
}

/// Sees to it that the snapshot has what is not in memory.
pub(in crate::operator) fn gather<K: Key, V>(
    keys: &mut Residents<K, V>,
    belongings: &mut impl Belongings<K, V>,
    ctx: &OperatorContext<'_>,
) -> Progress {
    match ctx.env().store.get() {
        Some(store) if keys.is_durable() => can_cut(keys, store),
        Some(store) => gathered(keys.gather(belongings, store), ctx),
        None => Progress::Done,
    }
}

fn can_cut<K: Key, V>(keys: &Residents<K, V>, store: &ShardStore) -> Progress {
    if keys.can_cut(store) { Progress::Done } else { Progress::Pending }
}

/// The snapshot of `checkpoint` has been taken.
pub(in crate::operator) fn cut<K: Key, V>(
    keys: &mut Residents<K, V>,
    checkpoint: CheckpointId,
    ctx: &OperatorContext<'_>,
) {
    if let Some(store) = ctx.env().store.get() {
        keys.cut(checkpoint, store);
    }
}

/// Writes some of what has changed.
pub(in crate::operator) fn save<K: Key, V>(
    keys: &mut Residents<K, V>,
    save: Save,
    belongings: &impl Belongings<K, V>,
    ctx: &OperatorContext<'_>,
) -> Progress {
    match ctx.env().store.get() {
        Some(store) => saved(keys.save_some(save, belongings, store), ctx),
        None => Progress::Done,
    }
}

/// Whether all is written; if it cannot be, the job stops.
fn saved(has_more: Result<bool, Error>, ctx: &OperatorContext<'_>) -> Progress {
    match has_more {
        Ok(false) => Progress::Done,
        Ok(true) => Progress::Pending,
        Err(error) => {
            ctx.fail(error);
            Progress::Pending
        }
    }
}

/// As [`admit`], of states.
#[inline]
pub(in crate::operator) fn admit_states<K: Key>(
    keyed: &mut KeyedState<K>,
    (hash64, key): (u64, &K),
    ctx: &OperatorContext<'_>,
) -> bool {
    let Some(store) = ctx.env().store.get() else { return true };
    or_fail(keyed.admit(hash64, key, store), ctx)
}

/// As [`recharge`], of states.
pub(in crate::operator) fn recharge_states<K: Key>(
    keyed: &mut KeyedState<K>,
    ctx: &OperatorContext<'_>,
) {
    if let Some(store) = ctx.env().store.get()
        && let Err(error) = keyed.recharge(store)
    {
        ctx.fail(error);
    }
}

/// As [`evict`], of states.
pub(in crate::operator) fn evict_states<K: Key>(
    keyed: &mut KeyedState<K>,
    steps: u32,
    ctx: &OperatorContext<'_>,
) -> bool {
    let Some(store) = ctx.env().store.get() else { return false };
    let was_full = keyed.keys().is_full();
    if let Err(error) = keyed.evict(steps, store) {
        ctx.fail(error);
    }
    was_full && !keyed.keys().is_full()
}

/// As [`gather`], of states.
pub(in crate::operator) fn gather_states<K: Key>(
    keyed: &mut KeyedState<K>,
    ctx: &OperatorContext<'_>,
) -> Progress {
    match ctx.env().store.get() {
        Some(store) if keyed.keys().is_durable() => can_cut(keyed.keys(), store),
        Some(store) => gathered(keyed.gather(store), ctx),
        None => Progress::Done,
    }
}

/// As [`cut`], of states.
pub(in crate::operator) fn cut_states<K: Key>(
    keyed: &mut KeyedState<K>,
    checkpoint: CheckpointId,
    ctx: &OperatorContext<'_>,
) {
    if let Some(store) = ctx.env().store.get() {
        keyed.cut(checkpoint, store);
    }
}

/// As [`save`], of states.
pub(in crate::operator) fn save_states<K: Key>(
    keyed: &mut KeyedState<K>,
    save: Save,
    ctx: &OperatorContext<'_>,
) -> Progress {
    match ctx.env().store.get() {
        Some(store) => saved(keyed.save_some(save, store), ctx),
        None => Progress::Done,
    }
}

/// Whether everything is there for the snapshot; if it cannot be had, the job stops.
fn gathered(polled: Result<Poll<()>, Error>, ctx: &OperatorContext<'_>) -> Progress {
    match polled {
        Ok(Poll::Ready(())) => Progress::Done,
        Ok(Poll::Pending) => Progress::Pending,
        Err(error) => {
            ctx.fail(error);
            Progress::Pending
        }
    }
}
