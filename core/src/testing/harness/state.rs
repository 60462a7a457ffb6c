//! What operators under test remember: their state and timers, and how they begin again from it.

use super::{OperatorHarness, Phase};
use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::record::Record;
use crate::error::Error;
use crate::limits::KEY_GROUP_COUNT_MAX;
use crate::operator::Chain;
use crate::operator::window::window_timers;
use crate::state::broadcast;
use crate::state::keyed::TimerKind;
use crate::state::operator_list;
use crate::state::snapshot::{Snapshot, SnapshotReader};
use crate::time::window::{TimeDomain, Window};

impl<C: Chain> OperatorHarness<C> {
    /// Everything the operators would write into a checkpoint.
    pub fn snapshot(&mut self) -> Snapshot {
        self.open_or_panic();
        self.gather();
        let mut snapshot = Snapshot::default();
        self.chain.snapshot(&mut snapshot);
        // Every one is of a checkpoint of its own.
        self.checkpoint = CheckpointId(self.checkpoint.0 + 1);
        self.chain.on_cut(self.checkpoint, &self.env);
        snapshot
    }

    /// Checkpoints are taken: sinks that can, show what they write when one is complete.
    pub fn with_checkpoints(self) -> Self {
        self.env.has_checkpoints.set(true);
        self
    }

    /// The checkpoint that the last [`OperatorHarness::snapshot`] was taken for is complete, and
    /// those before it. Without this call none is.
    pub fn complete(&mut self) {
        self.chain.on_completed(self.checkpoint, &self.env);
        self.check();
    }

    /// Begins with the state of a snapshot, of one task or several merged.
    ///
    /// # Errors
    /// The first operator's that cannot read it.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        assert!(self.phase == Phase::New, "a snapshot is restored before the first record");
        self.open()?;
        self.chain.restore(snapshot, &self.env)
    }

    /// Stops here and begins again, with the state of its own snapshot: `fresh` is another harness
    /// made in the same way. Time, budget and what came out but was not taken go on.
    ///
    /// # Panics
    /// If the operators cannot read what they have written.
    pub fn restart(&mut self, fresh: Self) {
        let snapshot = self.snapshot();
        let mut old = std::mem::replace(self, fresh);
        for side in &mut old.sides {
            (side.collect)(side, &old.env, old.stage_count);
        }
        self.env.processing_time_ms.set(old.env.processing_time_ms.get());
        self.env.late_records.set(old.env.late_records.get());
        self.may_fail = old.may_fail;
        self.budget = old.budget;
        self.is_time_pending = old.is_time_pending;
        self.rows = old.rows;
        self.watermark_ms = old.watermark_ms;
        self.sides = old.sides;
        self.checkpoint = old.checkpoint;
        self.looked_at = old.looked_at;
        self.stdout = old.stdout;
        self.restore_or_panic(&snapshot);
    }

    /// Which operator of a chain the test looks into from now on, by its uid. Not needed if there
    /// is only one.
    pub fn look_at(&mut self, uid: &str) {
        self.looked_at = Some(uid.to_string());
    }

    /// The stored names of all state that the operator keeps now. A state without entries is not
    /// stored and not among them; those of keys begin with `state/`, those of windows with
    /// `window-state/`.
    ///
    /// # Panics
    /// As [`OperatorHarness::keyed_state`] if the operator is not known.
    pub fn state_names(&mut self) -> Vec<String> {
        let snapshot = self.snapshot();
        let reader = SnapshotReader::new(&snapshot, self.uid_in(&snapshot));
        reader.state_names().map(str::to_string).collect()
    }

    /// The entries of the keyed state `name` (values, elements of lists, accumulators, values of
    /// maps), in the order of key hashes.
    ///
    /// # Panics
    /// If the operator has declared states, and none of that name: the message lists them. If keys
    /// are not of type `K`, or entries not of type `V`. If there are several operators and
    /// [`OperatorHarness::look_at`] was not called, or with a uid that none of them has.
    pub fn keyed_state<K: Key, V: Record>(&mut self, name: &str) -> Vec<(K, V)> {
        let entries = self.map_entries(name).into_iter();
        entries.map(|(key, _, value)| (key, value)).collect()
    }

    /// The entries of the keyed map `name`: key, map key and value, in the order of key hashes and
    /// of map keys.
    ///
    /// # Panics
    /// As [`OperatorHarness::keyed_state`], and if map keys are not of type `M`.
    pub fn map_state<K: Key, M: Key + Ord, V: Record>(&mut self, name: &str) -> Vec<(K, M, V)> {
        let snapshot = self.snapshot();
        let reader = SnapshotReader::new(&snapshot, self.uid_in(&snapshot));
        let map_key = |bytes: &[u8]| {
            let map_key: Result<M, _> = reader.unarchive(name, bytes);
            map_key.expect("map keys of the type that was asked for")
        };
        let entries = self.map_entries(name).into_iter();
        let mut entries: Vec<(K, M, V)> =
            entries.map(|(key, bytes, value)| (key, map_key(&bytes), value)).collect();
        // Stored entries of a key are in the order of archived map keys.
        let same_key = |a: &(K, M, V), b: &(K, M, V)| a.0 == b.0;
        for of_key in entries.chunk_by_mut(same_key) {
            of_key.sort_by(|(_, a, _), (_, b, _)| a.cmp(b));
        }
        entries
    }

    /// The entries of the broadcast map `name`, by map key.
    ///
    /// # Panics
    /// If there is none of that name (the message lists those that there are), or its entries are
    /// not of these types; as [`OperatorHarness::keyed_state`] if the operator is not known.
    pub fn broadcast_state<M: Key + Ord, V: Record>(&mut self, name: &str) -> Vec<(M, V)> {
        let snapshot = self.snapshot();
        let reader = SnapshotReader::new(&snapshot, self.uid_in(&snapshot));
        check_declared(&reader, "broadcast/", name);
        broadcast::entries(&reader, name).expect("entries of the types that were asked for")
    }

    /// The elements of the task's list `name`.
    ///
    /// # Panics
    /// If there is none of that name (the message lists those that there are), or its elements are
    /// not of type `V`; as [`OperatorHarness::keyed_state`] if the operator is not known.
    pub fn operator_list<V: Record>(&mut self, name: &str) -> Vec<V> {
        let snapshot = self.snapshot();
        let reader = SnapshotReader::new(&snapshot, self.uid_in(&snapshot));
        check_declared(&reader, "list/", name);
        operator_list::elements(&reader, name).expect("elements of the type that was asked for")
    }

    /// The state of no key whose stored names begin with `prefix`, by name: what an operator of
    /// your own has written by
    /// [`SnapshotWriter::operator_state`](crate::state::snapshot::SnapshotWriter::operator_state).
    ///
    /// # Panics
    /// If it is not of type `V`; as [`OperatorHarness::keyed_state`] if the operator is not known.
    pub fn operator_state<V: Record>(&mut self, prefix: &str) -> Vec<(String, V)> {
        let snapshot = self.snapshot();
        let reader = SnapshotReader::new(&snapshot, self.uid_in(&snapshot));
        let state = reader.operator_state(prefix).expect("state of the type that was asked for");
        state.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    /// The timers of all keys, by the keys' hashes, then by time (ms).
    ///
    /// # Panics
    /// If keys are not of type `K`.
    pub fn timers<K: Key>(&mut self, kind: TimerKind) -> Vec<(K, i64)> {
        let timers = self.stored::<K, (i64, bool)>(kind.stored_name());
        timers.into_iter().map(|(key, _, (time_ms, _))| (key, time_ms)).collect()
    }

    /// What the triggers of [`GeneralWindows`](crate::operator::window::GeneralWindows) wait for:
    /// key, window, kind of time and time (ms), by the keys' hashes, then by window. (Windows
    /// without a trigger have no timers: they fire with the watermark at their end.)
    ///
    /// # Panics
    /// If keys are not of type `K`; as [`OperatorHarness::keyed_state`] if the operator is not
    /// known.
    pub fn window_timers<K: Key>(&mut self) -> Vec<(K, Window, TimeDomain, i64)> {
        let snapshot = self.snapshot();
        let reader = SnapshotReader::new(&snapshot, self.uid_in(&snapshot));
        window_timers(&reader).expect("keys of the type that was asked for")
    }

    /// Key, archived map key and value.
    fn map_entries<K: Key, V: Record>(&mut self, name: &str) -> Vec<(K, Vec<u8>, V)> {
        let snapshot = self.snapshot();
        check_declared(&SnapshotReader::new(&snapshot, self.uid_in(&snapshot)), "state/", name);
        self.stored(&format!("state/{name}"))
    }

    fn stored<K: Key, V: Record>(&mut self, name: &str) -> Vec<(K, Vec<u8>, V)> {
        let snapshot = self.snapshot();
        let reader = SnapshotReader::new(&snapshot, self.uid_in(&snapshot));
        let entries = reader.keyed_state::<V>(name, 0..KEY_GROUP_COUNT_MAX);
        let entries = entries.expect("entries of the type that was asked for");
        let keys = entries.into_iter().map(|(place, value)| {
            let key = reader.unarchive(name, place.key);
            (key.expect("keys of the type that was asked for"), place.map_key.to_vec(), value)
        });
        keys.collect()
    }

    /// The uid of the operator that the test looks at.
    fn uid_in<'a>(&self, snapshot: &'a Snapshot) -> &'a str {
        let uids: Vec<&str> = snapshot.uids().collect();
        match (&self.looked_at, &uids[..]) {
            (None, [uid]) => uid,
            (None, _) => panic!("call `look_at` with the uid of one of the operators {uids:?}"),
            (Some(uid), _) => uids
                .iter()
                .find(|known| *known == uid)
                .unwrap_or_else(|| panic!("no operator has the uid {uid:?}; there are {uids:?}")),
        }
    }

    pub(in crate::testing) fn restore_or_panic(&mut self, snapshot: &Snapshot) {
        if let Err(error) = self.restore(snapshot) {
            panic!("the operator cannot read what it has written: {}", error.chain());
        }
    }
}

/// An operator that has declared states of a kind has no others of that kind. (One that does not
/// declare its keyed states writes them as it likes.)
fn check_declared(reader: &SnapshotReader<'_>, kind: &str, name: &str) {
    let names: Vec<&str> = reader.declared_names().filter_map(|n| n.strip_prefix(kind)).collect();
    let is_known = names.contains(&name) || kind == "state/" && names.is_empty();
    let kind = kind.trim_end_matches('/');
    assert!(is_known, "the operator has declared no {kind} {name:?}; there are {names:?}");
}
