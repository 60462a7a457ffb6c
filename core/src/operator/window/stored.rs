//! Entries of keyed state that belong to windows, as snapshots hold them.
//!
//! Keys and values are stored each by itself, never as parts of a larger archive: whatever type a
//! user's record or accumulator is, its archive stands alone and can be read alone.

use crate::data::key::Key;
use crate::data::key_group::KeyGroupCount;
use crate::data::record::Record;
use crate::error::Error;
use crate::operator::OperatorContext;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::time::window::Window;
use millstream_storage::key::StoredKey;

/// A state of an operator: its name in snapshots and its number in stored keys.
#[derive(Debug, Clone, Copy)]
pub struct StateName(
    /// The name.
    pub &'static str,
    /// The number.
    pub u16,
);

/// Where an entry is, apart from its state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place<'a> {
    /// See [`StoredKey::window_bucket`].
    pub window_bucket: i64,
    /// See [`StoredKey::namespace`].
    pub namespace: &'a [u8],
    /// See [`StoredKey::map_key`].
    pub map_key: &'a [u8],
}

/// One entry, read back.
#[derive(Debug)]
pub struct Entry<'a, K, V> {
    /// Hash of the key.
    pub hash64: u64,
    /// The key.
    pub key: K,
    /// See [`StoredKey::window_bucket`].
    pub window_bucket: i64,
    /// See [`StoredKey::namespace`].
    pub namespace: &'a [u8],
    /// See [`StoredKey::map_key`].
    pub map_key: &'a [u8],
    /// The value.
    pub value: V,
}

/// Writes the state of one key after the other.
pub struct KeyWriter<'a, 'b> {
    writer: &'a mut SnapshotWriter<'b>,
    groups: KeyGroupCount,
    hash64: u64,
    key: rkyv::util::AlignedVec,
}

impl<'a, V, K> Entry<'a, K, V> {
    /// The same entry with another value.
    pub fn map<U>(self, f: impl FnOnce(V) -> U) -> Entry<'a, K, U> {
        let Self { hash64, key, window_bucket, namespace, map_key, value } = self;
        Entry { hash64, key, window_bucket, namespace, map_key, value: f(value) }
    }
}

impl<'a, 'b> KeyWriter<'a, 'b> {
    /// Writes entries of `key`, whose hash is `hash64`.
    pub fn new<K: Key>(
        writer: &'a mut SnapshotWriter<'b>,
        groups: KeyGroupCount,
        hash64: u64,
        key: &K,
    ) -> Self {
        Self { writer, groups, hash64, key: key.archive() }
    }

    /// Writes one entry.
    pub fn put<V: Record>(&mut self, state: StateName, place: Place<'_>, value: &V) {
        let StateName(name, state_id) = state;
        let stored = StoredKey {
            key_group: self.groups.of(self.hash64).0,
            state_id,
            window_bucket: place.window_bucket,
            hash64: self.hash64,
            key: &self.key,
            namespace: place.namespace,
            map_key: place.map_key,
        };
        self.writer.keyed_state(name, &stored, value);
    }
}

/// The entries of `state` whose keys the task owns now, in stored order.
///
/// # Errors
/// [`Error::Corrupt`] if a key or a value cannot be read.
pub fn read<'a, K: Key, V: Record>(
    reader: &SnapshotReader<'a>,
    state: StateName,
    ctx: &OperatorContext<'_>,
) -> Result<Vec<Entry<'a, K, V>>, Error> {
    let entries = reader.keyed_state::<V>(state.0, ctx.env().task.key_groups())?;
    let mut read = Vec::with_capacity(entries.len());
    for (stored, value) in entries {
        let mut bytes: rkyv::util::AlignedVec = rkyv::util::AlignedVec::new();
        bytes.extend_from_slice(stored.key);
        let key = K::view(&bytes).map(K::unarchive).map_err(|e| damaged(state, ctx, &e))?;
        let StoredKey { hash64, window_bucket, namespace, map_key, .. } = stored;
        read.push(Entry { hash64, key, window_bucket, namespace, map_key, value });
    }
    Ok(read)
}

/// Bytes of `state` that are not what they should be.
pub fn damaged(
    state: StateName,
    ctx: &OperatorContext<'_>,
    reason: &dyn std::fmt::Display,
) -> Error {
    Error::Corrupt {
        what: format!("state {} of operator {}", state.0, ctx.name()),
        offset: 0,
        reason: reason.to_string(),
    }
}

/// A number as bytes that order as numbers do.
pub fn ordered(number: i64) -> [u8; 8] {
    (number as u64 ^ 1 << 63).to_be_bytes()
}

/// The number that [`ordered`] wrote, if these are its bytes.
pub fn from_ordered(bytes: &[u8]) -> Option<i64> {
    let bytes = <[u8; 8]>::try_from(bytes).ok()?;
    Some((u64::from_be_bytes(bytes) ^ 1 << 63) as i64)
}

/// A window as a namespace.
pub fn namespace_of(window: Window) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&ordered(window.start_ms));
    bytes[8..].copy_from_slice(&ordered(window.end_ms));
    bytes
}

/// The window of a namespace, if it is one.
pub fn window_of(namespace: &[u8]) -> Option<Window> {
    let (start, end) = namespace.split_at_checked(8)?;
    Some(Window::new(from_ordered(start)?, from_ordered(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_order_as_their_bytes_do() {
        let numbers = [i64::MIN, -5, -1, 0, 1, 7, i64::MAX];
        for pair in numbers.windows(2) {
            assert!(ordered(pair[0]) < ordered(pair[1]));
        }
        assert!(numbers.iter().all(|number| from_ordered(&ordered(*number)) == Some(*number)));
        assert_eq!(from_ordered(&[1, 2]), None);
    }
}
