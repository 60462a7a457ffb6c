//! A [`Snapshot`] as bytes: a piece of a part file; `docs/formats/checkpoint.md` has the whole.
//!
//! ```text
//! snapshot  │ operators: count │ operator … │ rows in flight │
//! operator  │ uid │ has watermark (1) │ watermark ms (8) │ declared │ schemas │ layouts │
//!           │ operator state │ keyed state │
//! declared  │ count │ name …
//! schemas   │ count │ state, schema …
//! layouts   │ count │ state, size (4), alignment (4) …
//! operator  │ count │ name, value …
//! keyed     │ count │ state, entries: count │ stored key, value … …
//! in flight │ count │ uid, input (1), place (9), deal (5), size (4), alignment (4), frames … …
//! frames    │ count │ frame …
//! ```
//!
//! Counts and lengths have four bytes. Everything is in the order of its names and keys, and
//! nothing twice, so that equal snapshots have equal bytes; what is out of order is damage.

use std::collections::BTreeMap;

use super::{OperatorSnapshot, Snapshot, ValueLayout, in_flight};
use crate::data::bytes::{BadBytes, ByteReader, put_bytes, put_count};

impl Snapshot {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_count(self.operators.len(), out);
        for (uid, operator) in &self.operators {
            put_bytes(uid.as_bytes(), out);
            operator.encode(out);
        }
        in_flight::encode(&self.in_flight, out);
    }

    /// The snapshot whose bytes come next.
    ///
    /// # Errors
    /// If they are not those of a snapshot.
    pub fn decode(reader: &mut ByteReader<'_>) -> Result<Self, BadBytes> {
        let operators = ordered(reader, |reader| {
            let uid = reader.text()?.to_string();
            Ok((uid, OperatorSnapshot::decode(reader)?))
        })?;
        Ok(Self { operators, in_flight: in_flight::decode(reader)? })
    }
}

impl OperatorSnapshot {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.watermark_ms.is_some()));
        out.extend_from_slice(&self.watermark_ms.unwrap_or(0).to_le_bytes());
        put_count(self.declared.len(), out);
        self.declared.iter().for_each(|name| put_bytes(name.as_bytes(), out));
        put_named(&self.schemas, out);
        put_count(self.layouts.len(), out);
        for (name, layout) in &self.layouts {
            put_bytes(name.as_bytes(), out);
            out.extend_from_slice(&layout.size.to_le_bytes());
            out.extend_from_slice(&layout.align.to_le_bytes());
        }
        put_named(&self.operator_state, out);
        put_count(self.keyed_state.len(), out);
        for (name, entries) in &self.keyed_state {
            put_bytes(name.as_bytes(), out);
            put_count(entries.len(), out);
            for (key, value) in entries {
                put_bytes(key, out);
                put_bytes(value, out);
            }
        }
    }

    fn decode(reader: &mut ByteReader<'_>) -> Result<Self, BadBytes> {
        let at = reader.at();
        let [has_watermark] = reader.array()?;
        let watermark_ms = reader.i64()?;
        let watermark_ms = match (has_watermark, watermark_ms) {
            (0, 0) => None,
            (1, watermark_ms) => Some(watermark_ms),
            _ => return Err(BadBytes { at, what: "a watermark that is there and is not" }),
        };
        let name = |reader: &mut ByteReader<'_>| reader.text().map(str::to_string);
        let declared = ordered(reader, |reader| Ok((name(reader)?, ())))?.into_keys().collect();
        let named = |reader: &mut ByteReader<'_>| Ok((name(reader)?, reader.bytes()?.to_vec()));
        let schemas = ordered(reader, named)?;
        let layouts = ordered(reader, |reader| {
            let name = name(reader)?;
            Ok((name, ValueLayout { size: reader.u32()?, align: reader.u32()? }))
        })?;
        let operator_state = ordered(reader, named)?;
        let keyed_state = ordered(reader, |reader| {
            let name = name(reader)?;
            let entry = |reader: &mut ByteReader<'_>| {
                Ok((reader.bytes()?.to_vec(), reader.bytes()?.to_vec()))
            };
            Ok((name, ordered(reader, entry)?))
        })?;
        Ok(Self { watermark_ms, declared, schemas, layouts, operator_state, keyed_state })
    }
}

fn put_named(named: &BTreeMap<String, Vec<u8>>, out: &mut Vec<u8>) {
    put_count(named.len(), out);
    for (name, bytes) in named {
        put_bytes(name.as_bytes(), out);
        put_bytes(bytes, out);
    }
}

/// As many entries as the count before them says, in ascending order.
pub(super) fn ordered<'a, K: Ord, V>(
    reader: &mut ByteReader<'a>,
    entry: impl Fn(&mut ByteReader<'a>) -> Result<(K, V), BadBytes>,
) -> Result<BTreeMap<K, V>, BadBytes> {
    let count = reader.u32()?;
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let at = reader.at();
        let (key, value) = entry(reader)?;
        if entries.last_key_value().is_some_and(|(last, _)| key <= *last) {
            return Err(BadBytes { at, what: "an entry that is out of order" });
        }
        entries.insert(key, value);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use millstream_storage::key::StoredKey;

    use super::super::SnapshotWriter;
    use super::*;

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (uid, hashes) in [("count", 0..3), ("sum", 0..0), ("ä", 7..9)] {
            let mut writer = SnapshotWriter::new(&mut snapshot, uid);
            writer.declare("state", "last");
            writer.operator_state("split/1", &42_u64);
            for hash64 in hashes {
                writer.watermark_ms(-3);
                let key = StoredKey {
                    key_group: 1,
                    state_id: 0,
                    window_bucket: 0,
                    hash64,
                    key: b"key",
                    namespace: &[],
                    map_key: &[],
                };
                writer.keyed_state("state/last", &key, &hash64);
                writer.keyed_state("state/map", &key, &"text".to_string());
            }
        }
        in_flight::tests::put_some(&mut snapshot);
        snapshot
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        for snapshot in [Snapshot::default(), snapshot()] {
            let mut bytes = vec![9; 3];
            snapshot.encode(&mut bytes);
            let mut reader = ByteReader::new(&bytes, 3);
            assert_eq!(Snapshot::decode(&mut reader), Ok(snapshot));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn a_part_of_the_bytes_is_no_snapshot() {
        let mut bytes = Vec::new();
        snapshot().encode(&mut bytes);
        for len in 0..bytes.len() {
            let decoded = Snapshot::decode(&mut ByteReader::new(&bytes[..len], 0));
            assert!(decoded.is_err(), "{len} of {} bytes", bytes.len());
        }
    }

    /// Whoever keeps it checks a checksum first; without one it must not panic either, and whatever
    /// is decoded has just these bytes.
    #[test]
    fn other_bytes_are_another_snapshot_or_none() {
        let mut bytes = Vec::new();
        snapshot().encode(&mut bytes);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let mut reader = ByteReader::new(&bytes, 0);
                let Ok(decoded) = Snapshot::decode(&mut reader) else { continue };
                let mut again = Vec::new();
                decoded.encode(&mut again);
                assert_eq!(again, bytes[..reader.at()], "byte {at}, bit {bit}");
            }
        }
    }
}
