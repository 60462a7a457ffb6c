//! What a key has, as one record: the unit in which checkpoints take what has changed.
//!
//! ```text
//! record  │ entry │ entry │ …            all entries of a key, of all states of its operator
//! entry   │ head  │ bucket  │ length, namespace │ length, map key │ length │ value │
//!         │ 2     │ 8, if … │ 4, if …           │ 4, if …         │ 4      │       │
//! head    bits 0 to 12: number of the state │ 13: bucket │ 14: namespace │ 15: map key
//! states  │ count (2) │ name, state id (2), size (4), alignment (4) │ …     by their numbers
//! ```
//!
//! Numbers are little endian. Key group, hash and key are those that the record is kept under, so
//! an entry has what is its own: written back it is the entry of a [`Snapshot`] that it was. States
//! get their numbers when they are met first, and keep them; the table of them is kept beside all
//! records that were written with it.
//!
//! Not here: who keeps records ([`crate::state::durable`]).

use millstream_storage::key::StoredKey;
use rkyv::util::AlignedVec;

use super::{OperatorSnapshot, Snapshot, ValueLayout};
use crate::data::bytes::{BadBytes, ByteReader, put_bytes};
use crate::data::record::Record;

const NUMBER_MAX: usize = (1 << 13) - 1;
const HAS_BUCKET: u16 = 1 << 13;
const HAS_NAMESPACE: u16 = 1 << 14;
const HAS_MAP_KEY: u16 = 1 << 15;

/// A state, as the entries of a record mean it by its number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    name: String,
    id: u16,
    layout: ValueLayout,
}

/// Makes records, and the table of their states.
#[derive(Debug, Default)]
pub struct RecordWriter {
    states: Vec<State>,
    bytes: Vec<u8>,
    /// Where values are archived, which takes an aligned place.
    archive: AlignedVec,
}

impl RecordWriter {
    /// Begins with a key that has nothing.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// The record; empty if the key has nothing.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many states were met so far.
    pub fn state_count(&self) -> usize {
        self.states.len()
    }

    /// The table of states.
    pub fn encode_states(&self) -> Vec<u8> {
        let mut out = (self.states.len() as u16).to_le_bytes().to_vec();
        for State { name, id, layout } in &self.states {
            put_bytes(name.as_bytes(), &mut out);
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&layout.size.to_le_bytes());
            out.extend_from_slice(&layout.align.to_le_bytes());
        }
        out
    }

    pub(super) fn entry<V: Record>(&mut self, state: &str, place: &StoredKey<'_>, value: &V) {
        let is_it = |it: &State| it.id == place.state_id && it.name == state;
        let number = self.states.iter().position(is_it).unwrap_or_else(|| {
            let (name, id) = (state.to_string(), place.state_id);
            self.states.push(State { name, id, layout: ValueLayout::of::<V>() });
            self.states.len() - 1
        });
        assert!(number <= NUMBER_MAX, "an operator has fewer states");
        let flag = |bit: u16, is_set: bool| if is_set { bit } else { 0 };
        let head = number as u16
            | flag(HAS_BUCKET, place.window_bucket != 0)
            | flag(HAS_NAMESPACE, !place.namespace.is_empty())
            | flag(HAS_MAP_KEY, !place.map_key.is_empty());
        self.bytes.extend_from_slice(&head.to_le_bytes());
        if place.window_bucket != 0 {
            self.bytes.extend_from_slice(&place.window_bucket.to_le_bytes());
        }
        for part in [place.namespace, place.map_key] {
            if !part.is_empty() {
                put_bytes(part, &mut self.bytes);
            }
        }
        put_bytes(value.archive_in(&mut self.archive), &mut self.bytes);
    }
}

/// The table of states that records were written with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordStates(Vec<State>);

impl RecordStates {
    /// The table whose bytes these are.
    ///
    /// # Errors
    /// If they are not those of one.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadBytes> {
        let mut reader = ByteReader::new(bytes, 0);
        let count = reader.u16()?;
        let mut states = Vec::new();
        for _ in 0..count {
            let (name, id) = (reader.text()?.to_string(), reader.u16()?);
            let layout = ValueLayout { size: reader.u32()?, align: reader.u32()? };
            states.push(State { name, id, layout });
        }
        if !reader.is_empty() {
            return Err(reader.bad("something behind the last state"));
        }
        Ok(Self(states))
    }
}

impl Snapshot {
    /// Takes over what a record has of the key that it is kept under, as state of operator `uid`.
    ///
    /// # Errors
    /// If the bytes are not those of a record.
    pub fn put_record(
        &mut self,
        uid: &str,
        of: &StoredKey<'_>,
        states: &RecordStates,
        record: &[u8],
    ) -> Result<(), BadBytes> {
        let operator = match self.operators.get_mut(uid) {
            Some(operator) => operator,
            None => self.operators.entry(uid.to_string()).or_default(),
        };
        let mut reader = ByteReader::new(record, 0);
        while !reader.is_empty() {
            operator.put_entry(of, states, &mut reader)?;
        }
        Ok(())
    }
}

impl OperatorSnapshot {
    fn put_entry(
        &mut self,
        of: &StoredKey<'_>,
        states: &RecordStates,
        reader: &mut ByteReader<'_>,
    ) -> Result<(), BadBytes> {
        let before = reader.clone();
        let head = reader.u16()?;
        let state = states.0.get(usize::from(head) & NUMBER_MAX);
        let state = state.ok_or_else(|| before.bad("an entry of a state that is not named"))?;
        let window_bucket = if head & HAS_BUCKET == 0 { 0 } else { reader.i64()? };
        let mut part = |bit: u16| if head & bit == 0 { Ok(&[][..]) } else { reader.bytes() };
        let (namespace, map_key) = (part(HAS_NAMESPACE)?, part(HAS_MAP_KEY)?);
        let value = reader.bytes()?.to_vec();
        let key = StoredKey { state_id: state.id, window_bucket, namespace, map_key, ..*of };
        if !self.keyed_state.contains_key(&state.name) {
            self.layouts.insert(state.name.clone(), state.layout);
            self.keyed_state.insert(state.name.clone(), std::collections::BTreeMap::new());
        }
        let entries = self.keyed_state.get_mut(&state.name).expect("it was put there");
        entries.insert(key.encode(), value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SnapshotReader, SnapshotWriter};
    use super::*;

    fn place<'a>(key: &'a [u8], map_key: &'a [u8], window_bucket: i64) -> StoredKey<'a> {
        let (key_group, state_id, hash64) = (3, 1, 42);
        StoredKey { key_group, state_id, window_bucket, hash64, key, namespace: &[], map_key }
    }

    fn write(writer: &mut SnapshotWriter<'_>) {
        writer.keyed_state("state/last", &place(b"k", b"", 0), &7_u64);
        writer.keyed_state("state/map", &place(b"k", b"a", 0), &"one".to_string());
        writer.keyed_state("state/map", &place(b"k", b"b", 0), &"two".to_string());
        writer.keyed_state("open", &place(b"k", b"", -5), &1_u32);
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let mut whole = Snapshot::default();
        write(&mut SnapshotWriter::new(&mut whole, "op"));
        let mut record = RecordWriter::default();
        record.clear();
        write(&mut SnapshotWriter::of_record(&mut record));
        assert_eq!(record.state_count(), 3);
        let states = RecordStates::decode(&record.encode_states()).expect("it was encoded");
        let mut back = Snapshot::default();
        let of = StoredKey { state_id: 9, ..place(b"k", b"", 0) };
        back.put_record("op", &of, &states, record.bytes()).expect("it was encoded");
        assert_eq!(back, whole);
        let reader = SnapshotReader::new(&back, "op");
        assert!(reader.keyed_state::<u32>("state/last", 0..8).is_err(), "layouts come along");
    }

    #[test]
    fn damaged_bytes_are_refused_without_a_panic() {
        let mut record = RecordWriter::default();
        write(&mut SnapshotWriter::of_record(&mut record));
        let states = record.encode_states();
        for end in 0..states.len() {
            assert!(RecordStates::decode(&states[..end]).is_err(), "{end} bytes of it");
        }
        let states = RecordStates::decode(&states).expect("it was encoded");
        let of = place(b"k", b"", 0);
        let whole = record.bytes();
        let mut refused = 0;
        for at in 0..whole.len() {
            for value in [0, 1, 127, 255] {
                let mut bytes = whole.to_vec();
                bytes[at] = value;
                let put = Snapshot::default().put_record("op", &of, &states, &bytes);
                refused += u32::from(put.is_err());
            }
        }
        assert!(0 < refused);
        let cut = Snapshot::default().put_record("op", &of, &states, &whole[..whole.len() - 1]);
        assert!(cut.is_err());
    }
}
