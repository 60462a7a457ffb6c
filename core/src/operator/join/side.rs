//! The records of one key and one input, by event time.

use std::collections::VecDeque;

use crate::data::key::Key;
use crate::data::record::Record;
use crate::error::Error;
use crate::operator::OperatorContext;
use crate::operator::window::stored::{self, Entry, KeyWriter, Place, StateName};
use crate::state::packed::{Damage, Packer, Part, heap_bytes};
use crate::state::snapshot::SnapshotReader;

/// Ascending by event time; of equal times, in the order of arrival.
#[derive(Debug, Clone)]
pub(super) struct Side<T> {
    pub(super) records: VecDeque<(i64, T)>,
}

impl<T> Default for Side<T> {
    fn default() -> Self {
        Self { records: VecDeque::new() }
    }
}

impl<T> Side<T> {
    /// Adds a record behind those that are not later.
    pub(super) fn add(&mut self, time_ms: i64, value: T) {
        // Nearly always it is the latest.
        let is_last = self.records.back().is_none_or(|(last_ms, _)| *last_ms <= time_ms);
        let index = if is_last { self.records.len() } else { self.index_after(time_ms) };
        self.records.insert(index, (time_ms, value));
    }

    /// How many records are at or before a time.
    pub(super) fn index_after(&self, time_ms: i64) -> usize {
        self.records.partition_point(|(at_ms, _)| *at_ms <= time_ms)
    }

    /// The records from `first_ms` to `last_ms`, both included.
    pub(super) fn between(&self, first_ms: i64, last_ms: i64) -> impl Iterator<Item = &(i64, T)> {
        let first = self.records.partition_point(|(at_ms, _)| *at_ms < first_ms);
        self.records.range(first..).take_while(move |(at_ms, _)| *at_ms <= last_ms)
    }

    /// The time of the latest record.
    pub(super) fn last_ms(&self) -> Option<i64> {
        self.records.back().map(|(at_ms, _)| *at_ms)
    }

    /// The time of the earliest record.
    pub(super) fn first_ms(&self) -> Option<i64> {
        self.records.front().map(|(at_ms, _)| *at_ms)
    }

    /// Drops all records at or before a time.
    pub(super) fn drop_until(&mut self, time_ms: i64) {
        while self.first_ms().is_some_and(|at_ms| at_ms <= time_ms) {
            self.records.pop_front();
        }
    }
}

impl<T: Record> Side<T> {
    /// Packs all records as part `number` of a key.
    pub(super) fn pack(&self, number: u16, packer: &mut Packer) {
        packer.begin_part(number);
        for (time_ms, value) in &self.records {
            packer.stamp(*time_ms);
            packer.value(value);
        }
        packer.end_part();
    }

    /// Takes in what was packed.
    pub(super) fn unpack(&mut self, mut part: Part<'_, '_>) -> Result<(), Damage> {
        while !part.is_empty() {
            self.records.push_back((part.stamp()?, part.value()?));
        }
        Ok(())
    }

    /// Bytes on the heap, about.
    pub(super) fn heap_bytes(&self) -> usize {
        let each = self.records.back().map_or(0, |(_, value)| heap_bytes(value));
        self.records.capacity() * size_of::<(i64, T)>() + self.records.len() * each
    }

    /// Writes one entry per record; its map key is its time and its place.
    pub(super) fn save(&self, state: StateName, writer: &mut KeyWriter<'_, '_>) {
        for (index, (time_ms, value)) in self.records.iter().enumerate() {
            let mut map_key = [0; 16];
            map_key[..8].copy_from_slice(&stored::ordered(*time_ms));
            map_key[8..].copy_from_slice(&(index as u64).to_be_bytes());
            writer.put(state, Place { map_key: &map_key, ..Place::default() }, value);
        }
    }
}

/// A record that [`Side::save`] wrote.
pub(super) struct Saved<K, T> {
    pub(super) hash64: u64,
    pub(super) key: K,
    pub(super) time_ms: i64,
    pub(super) value: T,
}

/// What [`Side::save`] wrote, in an order in which it can be added again.
pub(super) fn load<K: Key, T: Record>(
    state: StateName,
    reader: &SnapshotReader<'_>,
    ctx: &OperatorContext<'_>,
) -> Result<Vec<Saved<K, T>>, Error> {
    let entries = stored::read::<K, T>(reader, state, ctx)?.into_iter();
    let saved = |entry: Entry<'_, K, T>| {
        let time_ms = entry.map_key.get(..8).and_then(stored::from_ordered);
        let time_ms =
            time_ms.ok_or_else(|| stored::damaged(state, ctx, &"a record without a time"))?;
        Ok(Saved { hash64: entry.hash64, key: entry.key, time_ms, value: entry.value })
    };
    entries.map(saved).collect()
}
