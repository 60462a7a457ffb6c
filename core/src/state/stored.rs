//! How states are named and stamped in a snapshot.
//!
//! ```text
//! state/<name>   stored key ──► value            an entry each: value, element, map entry;
//!                                                its schema beside, if the state is described
//! stamp/<name>   the same stored key ──► i64     when it was last written, with a time to live
//! ```
//!
//! The names of what belongs to a window of a key begin with `window-`.
//!
//! Stamps are beside the entries and say when, not until when: a state may gain or lose its time to
//! live, or get another one, between a snapshot and a restore. Entries without a stamp count as
//! written at the moment of the restore.

use std::collections::BTreeMap;

use millstream_storage::key::StoredKey;

use crate::data::record::Record;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::state::columns::Restoring;
use crate::state::schema::{Rewriting, StateSchema};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// What a state is called in a snapshot.
#[derive(Debug, Clone)]
pub(super) struct StateName {
    pub(super) entries: String,
    stamps: String,
    schema: Option<StateSchema>,
}

impl StateName {
    /// `owner` is empty for states of keys.
    pub(super) fn new(owner: &str, name: &str, schema: Option<StateSchema>) -> Self {
        let [entries, stamps] = ["state", "stamp"].map(|kind| format!("{owner}{kind}/{name}"));
        Self { entries, stamps, schema }
    }

    /// Writes what the values are made of, if the state says so.
    pub(super) fn put_schema(&self, writer: &mut SnapshotWriter<'_>) {
        if let Some(schema) = &self.schema {
            writer.schema(&self.entries, &schema.schema());
        }
    }

    /// What has to be done with the archives of a snapshot before they are those of the state.
    fn rewriting<V: Record>(
        &self,
        reader: &SnapshotReader<'_>,
    ) -> Result<Option<Rewriting>, Error> {
        let name = &self.entries;
        match (&self.schema, reader.schema(name)?) {
            (_, None) => reader.check_layout::<V>(name).map(|()| None),
            (None, Some(_)) => Err(reader.undescribed(name)),
            (Some(schema), Some(stored)) => {
                schema.rewriting(&stored).map_err(|diff| reader.incompatible(name, &diff))
            }
        }
    }

    pub(super) fn put_stamp(
        &self,
        place: &StoredKey<'_>,
        stamp_ms: i64,
        writer: &mut SnapshotWriter<'_>,
    ) {
        writer.keyed_state(&self.stamps, place, &stamp_ms);
    }
}

/// An entry of a snapshot.
pub(super) struct StoredEntry<'a, V> {
    pub(super) slot: Slot,
    pub(super) map_key: &'a [u8],
    pub(super) value: V,
    pub(super) stamp_ms: i64,
}

/// The entries of a state that belong to the task, in stored order.
pub(super) fn read_entries<'a, V: Record>(
    reader: &SnapshotReader<'a>,
    name: &StateName,
    restoring: &mut Restoring<'_>,
    unstamped_ms: Option<i64>,
) -> Result<Vec<StoredEntry<'a, V>>, Error> {
    let mut stamps = BTreeMap::new();
    if unstamped_ms.is_some() {
        let stored = reader.keyed_state::<i64>(&name.stamps, restoring.key_groups.clone())?;
        stamps.extend(stored.into_iter().map(|(place, ms)| (order(&place), ms)));
    }
    let rewriting = name.rewriting::<V>(reader)?;
    let mut found = Vec::new();
    for (place, bytes) in reader.keyed_entries(&name.entries)? {
        if !restoring.key_groups.contains(&u32::from(place.key_group)) {
            continue;
        }
        let value: V = match &rewriting {
            None => reader.unarchive(&name.entries, bytes)?,
            Some(rewriting) => {
                let rewritten = rewriting.archive(bytes);
                let rewritten =
                    rewritten.map_err(|damage| reader.damaged(&name.entries, damage))?;
                reader.unarchive(&name.entries, &rewritten)?
            }
        };
        let stamp_ms = stamps.get(&order(&place)).copied().or(unstamped_ms).unwrap_or(0);
        let slot = (restoring.slot_of)(&place)?;
        found.push(StoredEntry { slot, map_key: place.map_key, value, stamp_ms });
    }
    Ok(found)
}

/// What makes an entry of one state unique.
fn order<'a>(place: &StoredKey<'a>) -> (u64, &'a [u8], &'a [u8]) {
    (place.hash64, place.key, place.map_key)
}
