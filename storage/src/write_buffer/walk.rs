//! All keys of a section at one time, in the order of stored keys.

use std::ops::Range;

use super::index::Position;
use super::record::{self, Header, Kind};
use super::{Lookup, RecordKey, SpaceId, WriteBuffer};

/// Keys of records, in the order of their stored keys.
#[derive(Debug, Default)]
pub(crate) struct KeyList {
    rows: Vec<Row>,
    /// What follows the hash in each stored key, one after the other.
    bytes: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Row {
    hash64: u64,
    tag: u32,
    bytes: Range<usize>,
}

impl KeyList {
    /// The key at `index`.
    pub(crate) fn get(&self, index: usize) -> Option<RecordKey<'_>> {
        let row = self.rows.get(index)?;
        // Of the spread, what makes the tag is known.
        let spread = u64::from(row.tag ^ row.hash64 as u32);
        Some(RecordKey { hash64: row.hash64, spread, bytes: &self.bytes[row.bytes.clone()] })
    }
}

impl WriteBuffer {
    /// Whether a miss is an absence in the section of `key_group`.
    ///
    /// # Panics
    /// If the key group is not the shard's.
    pub(crate) fn is_complete(&self, space: SpaceId, key_group: u32) -> bool {
        self.section(space, self.number_of(key_group)).is_complete
    }

    /// The keys of all records in the section of `key_group`, of whatever kind, whose hash and
    /// bytes begin with `prefix`. It looks at every record of the section, at once.
    ///
    /// # Panics
    /// If the key group is not the shard's.
    pub(crate) fn keys(&mut self, space: SpaceId, key_group: u32, prefix: &[u8]) -> KeyList {
        let number = self.number_of(key_group);
        let (hash_prefix, key_prefix) = prefix.split_at(prefix.len().min(size_of::<u64>()));
        let (mut keys, mut position) = (KeyList::default(), Position::default());
        let index = &self.section(space, number).index;
        let mut steps = 0;
        while let Some((entries, next)) = index.line_at(&self.slots, position) {
            position = next;
            for (tag, slot) in entries.into_iter().filter(|(_, slot)| !slot.is_none()) {
                steps += 1;
                let header = Header::read(&self.slots, slot);
                let key = record::key_of(&self.slots, slot, &header);
                let hash = header.hash.to_be_bytes();
                if hash.starts_with(hash_prefix) && key.starts_with(key_prefix) {
                    let start = keys.bytes.len();
                    keys.bytes.extend_from_slice(key);
                    let bytes = start..keys.bytes.len();
                    keys.rows.push(Row { hash64: header.hash, tag, bytes });
                }
            }
        }
        let bytes = &keys.bytes;
        keys.rows.sort_unstable_by(|a, b| {
            let by_hash = a.hash64.cmp(&b.hash64);
            by_hash.then_with(|| bytes[a.bytes.clone()].cmp(&bytes[b.bytes.clone()]))
        });
        self.step_count += steps;
        keys
    }

    /// What is known of `key`, as [`WriteBuffer::get`] says it. It does not count as used.
    pub(crate) fn peek(&self, space: SpaceId, key: RecordKey<'_>) -> Lookup<&[u8]> {
        let Some(slot) = self.find(space, key) else { return self.miss(space, key) };
        let header = Header::read(&self.slots, slot);
        match header.kind() {
            Kind::Value => Lookup::Found(record::value_of(&self.slots, slot, &header)),
            Kind::Tombstone | Kind::Operands => self.unvalued(slot),
        }
    }

    fn number_of(&self, key_group: u32) -> usize {
        assert!(self.key_groups.contains(&key_group), "key group {key_group} is another shard's");
        (key_group - self.key_groups.start) as usize
    }
}
