//! What a snapshot needs of the keys that are not in memory.
//!
//! ```text
//! gather ─► scan … ─► all seen ─► those of keys that are still in the store ─► snapshot ─► on_cut
//! ```
//!
//! Until a checkpoint names the tables of a store, it has everything in one piece, and so what left
//! memory comes back for it. Nothing leaves while that is under way. What comes back meanwhile, for
//! a row or a timer, is in memory then, or was forgotten and is still going: so the newest there is
//! of each key is known in the end.

use std::task::Poll;

use millstream_storage::key::StoredKey;
use millstream_storage::store::Scan;

use super::{Belongings, Residents};
use crate::data::key::Key;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::state::packed::Damage;
use crate::state::shard_store::ShardStore;
use crate::state::snapshot::{Snapshot, SnapshotWriter};

/// How far it has come.
#[derive(Debug)]
pub(super) struct Gathering {
    /// Until everything was seen.
    scan: Option<Scan>,
    /// Stored keys and values.
    seen: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is in the store only, under no uid.
    states: Snapshot,
}

impl<K: Key, V> Residents<K, V> {
    /// Sees to it that [`Residents::save_cold`] has everything. Pending while something is being
    /// read: the operator will be told of a hash that it did not wait for. To be asked again until
    /// the snapshot is taken, and then [`Residents::cut`].
    ///
    /// # Errors
    /// If a table cannot be read or is damaged.
    pub fn gather(
        &mut self,
        belongings: &mut impl Belongings<K, V>,
        store: &ShardStore,
    ) -> Result<Poll<()>, Error> {
        let Some(spill) = self.spill.as_mut().filter(|it| it.has_evicted) else {
            return Ok(Poll::Ready(()));
        };
        let (space, waiter) = (spill.space, spill.waiter(0));
        let gathering = spill.gathering.get_or_insert_with(|| Gathering {
            scan: Some(store.scan(space)),
            seen: Vec::new(),
            states: Snapshot::default(),
        });
        if let Some(scan) = &mut gathering.scan {
            let see = |key: &[u8], value: &[u8]| gathering.seen.push((key.into(), value.into()));
            if store.scan_some(scan, waiter, see)?.is_pending() {
                return Ok(Poll::Pending);
            }
            gathering.scan = None;
        }
        self.take_over(belongings)?;
        Ok(Poll::Ready(()))
    }

    /// Writes what is in the store only. It was gathered before.
    pub fn save_cold(&self, writer: &mut SnapshotWriter<'_>) {
        if let Some(spill) = self.spill.as_ref().filter(|spill| spill.has_evicted) {
            let gathering = spill.gathering.as_ref();
            writer.absorb(&gathering.expect("what left memory was gathered").states);
        }
    }

    /// Makes states of what was seen and is in the store only.
    fn take_over(&mut self, belongings: &mut impl Belongings<K, V>) -> Result<(), Error> {
        let Self { table, spill, .. } = self;
        let spill = spill.as_mut().expect("there is something to gather");
        let gathering = spill.gathering.as_mut().expect("it was begun");
        let mut states = Snapshot::default();
        let mut writer = SnapshotWriter::new(&mut states, "");
        // No key has it, and none will before it is emptied again.
        let scratch = Slot(table.slot_count());
        let mut value = belongings.create();
        for (stored, bytes) in &gathering.seen {
            let place = StoredKey::decode(stored).ok_or(Damage("it has no stored key"));
            let place = place.map_err(damaged)?;
            let key = K::view(&aligned(place.key)).map(K::unarchive);
            let key: K = key.map_err(|_| damaged(Damage("a key is not an archive of its type")))?;
            let slot = table.find(place.hash64, &key);
            let is_in_memory = slot.is_some_and(|slot| !table.value(slot).residence.is_cold());
            if is_in_memory || spill.going.contains(&(place.hash64, stored[HASH_END..].into())) {
                continue;
            }
            belongings.unpack(scratch, &mut value, bytes).map_err(damaged)?;
            belongings.save(scratch, (place.hash64, &key), &value, &mut writer);
            belongings.clear(scratch, &mut value);
        }
        gathering.states = states;
        Ok(())
    }
}

/// Where the hash ends in a stored key.
const HASH_END: usize = 20;

fn aligned(bytes: &[u8]) -> rkyv::util::AlignedVec {
    let mut aligned = rkyv::util::AlignedVec::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    aligned
}

fn damaged(Damage(reason): Damage) -> Error {
    let what = "a record of the shard's store".to_string();
    Error::Corrupt { what, offset: 0, reason: reason.to_string() }
}
