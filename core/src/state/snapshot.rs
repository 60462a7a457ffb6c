//! One task's state as bytes: its part of a checkpoint.
//!
//! ```text
//! operator uid ──► watermark
//!              ├─► declared:        kind/name, of states with entries or without
//!              ├─► schemas:         state name ──► what its values are made of, if it says so
//!              ├─► layouts:         state name ──► size and alignment of its archived values
//!              ├─► operator state:  name                ──► bytes
//!              └─► keyed state:     state name ──► stored key ──► archived value
//! rows in flight ──► to which operator and input ──► in which order ──► frames
//! ```
//!
//! Stored keys have the layout of [`millstream_storage::key`]: they begin with the key group, so a
//! task that owns other key groups than the writer takes just its own part. Everything is in
//! ordered maps: equal states give equal snapshots, byte for byte.
//!
//! Not here: rows in flight (`snapshot/in_flight.rs`), the bytes of all of it
//! (`snapshot/encoding.rs`).

mod encoding;
mod in_flight;
pub mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use millstream_storage::key::StoredKey;
use xxhash_rust::xxh3::Xxh3;

use crate::data::record::Record;
use crate::data::row::NO_EVENT_TIME;
use crate::error::Error;
use crate::state::schema::{Damage, Schema, SchemaDiff, SchemaError};
use record::RecordWriter;

pub use in_flight::{Place, Run, RunTo};

/// The state of one task's operators, or of several tasks' after [`Snapshot::merge`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    operators: BTreeMap<String, OperatorSnapshot>,
    in_flight: BTreeMap<(RunTo, Place), Run>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OperatorSnapshot {
    watermark_ms: Option<i64>,
    declared: BTreeSet<String>,
    schemas: BTreeMap<String, Vec<u8>>,
    layouts: BTreeMap<String, ValueLayout>,
    operator_state: BTreeMap<String, Vec<u8>>,
    keyed_state: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// What a snapshot has of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorSummary<'a> {
    /// Its uid.
    pub uid: &'a str,
    /// How far event time had come, ms, if that is known.
    pub watermark_ms: Option<i64>,
    /// Its states: those of no key, then those of keys, each by name.
    pub states: Vec<StateSummary<'a>>,
}

/// A state of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSummary<'a> {
    /// What it is called.
    pub name: &'a str,
    /// How many entries it has.
    pub entries: usize,
    /// Bytes of its keys and values.
    pub bytes: usize,
}

/// What is known of values whose state does not describe them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueLayout {
    size: u32,
    align: u32,
}

impl ValueLayout {
    /// Of values of type `V`.
    pub fn of<V: Record>() -> Self {
        let (size, align) = (size_of::<V::Archived>(), align_of::<V::Archived>());
        Self { size: size as u32, align: align as u32 }
    }
}

impl Snapshot {
    /// Joins the snapshots of two tasks of the same chain. Watermarks combine by minimum; names of
    /// operator state must differ between tasks (a split belongs to one task).
    pub fn merge(&mut self, other: Self) {
        for (uid, theirs) in other.operators {
            let ours = self.operators.entry(uid).or_default();
            ours.watermark_ms = ours.watermark_ms.into_iter().chain(theirs.watermark_ms).min();
            ours.declared.extend(theirs.declared);
            ours.schemas.extend(theirs.schemas);
            ours.layouts.extend(theirs.layouts);
            ours.operator_state.extend(theirs.operator_state);
            for (state, entries) in theirs.keyed_state {
                ours.keyed_state.entry(state).or_default().extend(entries);
            }
        }
        self.in_flight.extend(other.in_flight);
    }

    /// A hash of everything in it: equal for equal snapshots.
    pub fn hash64(&self) -> u64 {
        let mut hash = Xxh3::new();
        let mut add = |bytes: &[u8]| {
            hash.update(&bytes.len().to_le_bytes());
            hash.update(bytes);
        };
        for (uid, operator) in &self.operators {
            add(uid.as_bytes());
            add(&operator.watermark_ms.unwrap_or(NO_EVENT_TIME).to_le_bytes());
            operator.declared.iter().for_each(|name| add(name.as_bytes()));
            for (name, bytes) in operator.schemas.iter().chain(&operator.operator_state) {
                add(name.as_bytes());
                add(bytes);
            }
            for (name, layout) in &operator.layouts {
                add(name.as_bytes());
                add(&[layout.size, layout.align].map(u32::to_le_bytes).concat());
            }
            for (name, entries) in &operator.keyed_state {
                add(name.as_bytes());
                for (key, bytes) in entries {
                    add(key);
                    add(bytes);
                }
            }
        }
        let mut in_flight = Vec::new();
        in_flight::encode(&self.in_flight, &mut in_flight);
        add(&in_flight);
        hash.digest()
    }

    /// The uids of the operators that wrote into it, in order.
    pub fn uids(&self) -> impl Iterator<Item = &str> {
        self.operators.keys().map(String::as_str)
    }

    /// What it has of each operator, in the order of their uids.
    pub fn operators(&self) -> impl Iterator<Item = OperatorSummary<'_>> {
        self.operators.iter().map(|(uid, operator)| {
            let single = operator.operator_state.iter();
            let single =
                single.map(|(name, it)| StateSummary { name, entries: 1, bytes: it.len() });
            let keyed = operator.keyed_state.iter().map(|(name, entries)| {
                let bytes = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
                StateSummary { name, entries: entries.len(), bytes }
            });
            let states = single.chain(keyed).collect();
            OperatorSummary { uid, watermark_ms: operator.watermark_ms, states }
        })
    }

    /// The uids of the operators that have state in it, in order.
    pub fn uids_with_state(&self) -> impl Iterator<Item = &str> {
        let has_state = |operator: &OperatorSnapshot| {
            !operator.operator_state.is_empty() || !operator.keyed_state.is_empty()
        };
        self.operators.iter().filter(move |(_, it)| has_state(it)).map(|(uid, _)| uid.as_str())
    }

    /// How many keyed entries it holds, over all operators.
    pub fn keyed_entry_count(&self) -> usize {
        self.operators.values().flat_map(|op| op.keyed_state.values()).map(BTreeMap::len).sum()
    }
}

/// Where one operator writes its state.
#[derive(Debug)]
pub struct SnapshotWriter<'a> {
    into: Into<'a>,
}

#[derive(Debug)]
enum Into<'a> {
    Operator(&'a mut OperatorSnapshot),
    /// What one key has.
    Record(&'a mut RecordWriter),
}

impl<'a> SnapshotWriter<'a> {
    /// Writes the state of operator `uid`.
    pub fn new(snapshot: &'a mut Snapshot, uid: &str) -> Self {
        let operator = snapshot.operators.entry(uid.to_string()).or_default();
        Self { into: Into::Operator(operator) }
    }

    /// Writes what one key has: only entries of keyed state.
    pub fn of_record(record: &'a mut RecordWriter) -> Self {
        Self { into: Into::Record(record) }
    }

    fn operator(&mut self) -> &mut OperatorSnapshot {
        match &mut self.into {
            Into::Operator(operator) => operator,
            Into::Record(_) => unreachable!("a record has what belongs to one key"),
        }
    }

    /// Notes how far event time had come.
    pub fn watermark_ms(&mut self, watermark_ms: i64) {
        self.operator().watermark_ms = Some(watermark_ms);
    }

    /// Notes that the operator has a state `name` of a kind (`state` for one of keys, `broadcast`,
    /// `list`), whether there is an entry now or not.
    pub fn declare(&mut self, kind: &str, name: &str) {
        self.operator().declared.insert(format!("{kind}/{name}"));
    }

    /// Notes what the values of keyed state `state` are made of.
    pub fn schema(&mut self, state: &str, schema: &Schema) {
        self.operator().schemas.insert(state.to_string(), schema.encode().to_vec());
    }

    /// Writes a piece of state that belongs to no key, under a name unique among all tasks of the
    /// operator (`split/payments.csv`).
    pub fn operator_state<V: Record>(&mut self, name: &str, value: &V) {
        self.operator().operator_state.insert(name.to_string(), value.archive().to_vec());
    }

    /// Takes over all keyed state in `part`, whatever the uid.
    pub(crate) fn absorb(&mut self, part: &Snapshot) {
        let ours = self.operator();
        for operator in part.operators.values() {
            for (state, entries) in &operator.keyed_state {
                let ours = ours.keyed_state.entry(state.clone()).or_default();
                ours.extend(entries.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            ours.layouts.extend(operator.layouts.clone());
        }
    }

    /// Writes one entry of keyed state.
    pub fn keyed_state<V: Record>(&mut self, state: &str, key: &StoredKey<'_>, value: &V) {
        let operator = match &mut self.into {
            Into::Operator(operator) => operator,
            Into::Record(record) => return record.entry(state, key, value),
        };
        let entries = operator.keyed_state.entry(state.to_string()).or_default();
        if entries.is_empty() {
            operator.layouts.insert(state.to_string(), ValueLayout::of::<V>());
        }
        entries.insert(key.encode(), value.archive().to_vec());
    }
}

/// Where one operator finds its state.
#[derive(Debug)]
pub struct SnapshotReader<'a> {
    uid: &'a str,
    operator: Option<&'a OperatorSnapshot>,
}

impl<'a> SnapshotReader<'a> {
    /// Reads the state of operator `uid`; an operator without any finds nothing.
    pub fn new(snapshot: &'a Snapshot, uid: &'a str) -> Self {
        Self { uid, operator: snapshot.operators.get(uid) }
    }

    /// The names of all state that is not empty: of no key, then keyed, each in order.
    pub fn state_names(&self) -> impl Iterator<Item = &'a str> {
        let operator = self.operator.into_iter();
        operator
            .flat_map(|op| op.operator_state.keys().chain(op.keyed_state.keys()))
            .map(String::as_str)
    }

    /// The states that the operator has declared, each with its kind before it (`state/last`), in
    /// order.
    pub fn declared_names(&self) -> impl Iterator<Item = &'a str> {
        self.operator.into_iter().flat_map(|op| &op.declared).map(String::as_str)
    }

    /// What the values of keyed state `state` are made of, if that was noted.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is damaged, [`Error::Plan`] if a later release has written it.
    pub fn schema(&self, state: &str) -> Result<Option<Schema>, Error> {
        let bytes = self.operator.and_then(|operator| operator.schemas.get(state));
        let decode = |bytes: &Vec<u8>| {
            Schema::decode(bytes).map_err(|error| {
                let what = format!("the schema of state {state} of operator {}", self.uid);
                match error {
                    SchemaError::Corrupt { offset, what: reason } => {
                        let (offset, reason) = (offset as u64, reason.to_string());
                        Error::Corrupt { what, offset, reason }
                    }
                    newer => Error::Plan { problems: vec![format!("{what}: {newer}")] },
                }
            })
        };
        bytes.map(decode).transpose()
    }

    /// How far event time had come.
    ///
    /// # Errors
    /// None today; damaged snapshots once they come from disk.
    pub fn watermark_ms(&self) -> Result<i64, Error> {
        Ok(self.operator.and_then(|op| op.watermark_ms).unwrap_or(NO_EVENT_TIME))
    }

    /// All operator state whose name begins with `prefix`, by name.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a value is not the archive of a `V`.
    pub fn operator_state<V: Record>(&self, prefix: &str) -> Result<Vec<(&'a str, V)>, Error> {
        let Some(operator) = self.operator else { return Ok(Vec::new()) };
        let entries = operator.operator_state.range(prefix.to_string()..);
        entries
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(name, bytes)| Ok((name.as_str(), self.unarchive(name, bytes)?)))
            .collect()
    }

    /// The entries of keyed state `state` in the given key groups, in stored order.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a stored key is malformed or a value is not the archive of a `V`,
    /// [`Error::Plan`] if values have another size than `V`.
    pub fn keyed_state<V: Record>(
        &self,
        state: &str,
        key_groups: Range<u32>,
    ) -> Result<Vec<(StoredKey<'a>, V)>, Error> {
        self.check_layout::<V>(state)?;
        let mut found = Vec::new();
        for (key, bytes) in self.keyed_entries(state)? {
            if key_groups.contains(&u32::from(key.key_group)) {
                found.push((key, self.unarchive(state, bytes)?));
            }
        }
        Ok(found)
    }

    /// The entries of keyed state `state` as they are, in stored order.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a stored key is malformed.
    pub fn keyed_entries(&self, state: &str) -> Result<Vec<(StoredKey<'a>, &'a [u8])>, Error> {
        let entries = self.operator.and_then(|op| op.keyed_state.get(state));
        let decode = |(key, bytes): (&'a Vec<u8>, &'a Vec<u8>)| {
            let key = StoredKey::decode(key).ok_or_else(|| Error::Corrupt {
                what: format!("state {state} of operator {}", self.uid),
                offset: 0,
                reason: "a stored key is too short for its fields".to_string(),
            })?;
            Ok((key, bytes.as_slice()))
        };
        entries.into_iter().flatten().map(decode).collect()
    }

    /// The values of state `name` cannot become those of the job.
    pub(super) fn incompatible(&self, name: &str, diff: &SchemaDiff) -> Error {
        let lines = diff.to_string();
        Error::Plan { problems: lines.lines().map(|line| self.problem(name, line)).collect() }
    }

    /// State `name` says no more what its values are made of.
    pub(super) fn undescribed(&self, name: &str) -> Error {
        let what = "it was declared with `StateSpec::described`, and without that its values would \
                    be taken for what they may not be; describe it, or choose another uid";
        Error::Plan { problems: vec![self.problem(name, what)] }
    }

    /// Refuses values of state `name` that cannot be of type `V`, as far as their size says so.
    pub(super) fn check_layout<V: Record>(&self, name: &str) -> Result<(), Error> {
        let stored = self.operator.and_then(|operator| operator.layouts.get(name));
        let now = ValueLayout::of::<V>();
        match stored {
            Some(stored) if *stored != now => {
                let values = std::any::type_name::<V>();
                let what = format!(
                    "its values had {} bytes, and {values} has {}; values whose type changes have \
                     to be described before (`StateSpec::described`); choose another uid",
                    stored.size, now.size
                );
                Err(Error::Plan { problems: vec![self.problem(name, &what)] })
            }
            _ => Ok(()),
        }
    }

    fn problem(&self, state: &str, what: &str) -> String {
        format!("{}: state {}, {what}", self.uid, state.trim_start_matches("state/"))
    }

    /// An archived value of state `name` is not what its schema says.
    pub(super) fn damaged(&self, name: &str, damage: Damage) -> Error {
        let what = format!("state {name} of operator {}", self.uid);
        Error::Corrupt { what, offset: damage.offset as u64, reason: damage.what.to_string() }
    }

    /// The value archived in `bytes`, which belong to state `name`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if they are not the archive of a `V`.
    pub fn unarchive<V: Record>(&self, name: &str, bytes: &[u8]) -> Result<V, Error> {
        let mut aligned: rkyv::util::AlignedVec = rkyv::util::AlignedVec::new();
        aligned.extend_from_slice(bytes);
        V::view(&aligned).map(V::unarchive).map_err(|reason| Error::Corrupt {
            what: format!("state {name} of operator {}", self.uid),
            offset: 0,
            reason: reason.to_string(),
        })
    }
}
