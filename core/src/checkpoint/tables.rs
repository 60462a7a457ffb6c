//! From the tables that a part of a checkpoint names to the state that they have.
//!
//! ```text
//! band: table, table, … newest first ─► records by key, the newest of each ─► entries of a
//! snapshot ```
//!
//! A table may be named for one band and not for another: what it has of the other was merged
//! since, and is not looked at. Nothing is believed of a table before its checksums: that of the
//! whole file, which the part has, and those of the blocks.
//!
//! Not here: who makes tables ([`crate::state::durable`]), what a record is
//! ([`crate::state::snapshot::record`]).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use millstream_storage::io::FileId;
use millstream_storage::key::StoredKey;
use millstream_storage::manifest::TableRow;
use millstream_storage::table::{
    self, Change, Cursor, Filters, HashRange, KeyRange, Opening, Table, View, Want,
};

use super::directory::{Files, corrupt_at, unreadable};
use super::manifest::Tables;
use crate::error::Error;
use crate::state::durable::{Image, table_name};
use crate::state::snapshot::Snapshot;
use crate::state::snapshot::record::RecordStates;

/// Bytes that are read of a table at once.
const READ_BYTES: usize = 1 << 20;

/// Puts what the tables of `image` have into `snapshot`; their directory is in `directory`.
///
/// # Errors
/// If a table cannot be read, or is not the one that was written.
pub fn read(
    files: &impl Files,
    directory: &Path,
    image: &Image,
    snapshot: &mut Snapshot,
) -> Result<(), Error> {
    let own = directory.join(&image.directory);
    let mut states = BTreeMap::new();
    for row in &image.manifest.states {
        let table = RecordStates::decode(&row.schema).ok();
        let known = Image::uid_of(row).zip(table);
        let known = known.ok_or_else(|| corrupt_at(&own, 0, "states that are not named"))?;
        states.insert(row.id, known);
    }
    for (band, hashes) in image.manifest.bands.iter().enumerate() {
        let rows = image.manifest.tables.iter().filter(|row| row.band == band);
        let mut records = BTreeMap::new();
        for row in rows.rev() {
            read_table(files, &own, row, *hashes, &mut records)?;
        }
        put(records, &states, &own, snapshot)?;
    }
    Ok(())
}

/// Puts the changes of a table into `records`: they are newer than those.
fn read_table(
    files: &impl Files,
    own: &Path,
    row: &TableRow,
    hashes: HashRange,
    records: &mut BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<(), Error> {
    let path = own.join(table_name(row.id.0));
    let bytes = files.read(&path).map_err(|source| unreadable("read", &path, source))?;
    let damaged = |error: table::Error| match error {
        table::Error::Corrupt { offset, what, .. } => corrupt_at(&path, offset, what),
        error => Error::Plan { problems: vec![format!("{}: {error}", path.display())] },
    };
    let table = open(&bytes).map_err(damaged)?;
    let meta = table.meta();
    if (meta.id, meta.length, meta.checksum) != (row.id, row.length, row.checksum) {
        return Err(corrupt_at(&path, 0, "it is another table than the checkpoint says"));
    }
    let view = View::new(Arc::new(table), hashes);
    let mut cursor = Cursor::new(view, KeyRange::all(), READ_BYTES).map_err(damaged)?;
    loop {
        if let Some(want) = cursor.want() {
            cursor.on_read(slice(&bytes, want).to_vec()).map_err(damaged)?;
            continue;
        }
        let Some(entry) = cursor.entry() else { return Ok(()) };
        match entry.change {
            Change::Value(value) => _ = records.insert(entry.key.to_vec(), value.to_vec()),
            Change::Tombstone => _ = records.remove(entry.key),
            Change::Operand(_) => {
                return Err(corrupt_at(&path, 0, "something that was appended"));
            }
        }
        cursor.advance().map_err(damaged)?;
    }
}

/// The table that `bytes` are.
fn open(bytes: &[u8]) -> Result<Table, table::Error> {
    let mut opening = Opening::new(FileId(0), bytes.len() as u64, Filters::Leave)?;
    while let Some(want) = opening.want() {
        opening.on_read(slice(bytes, want))?;
    }
    Ok(opening.into_table())
}

/// What is at `want`; fewer bytes if the file ends there.
fn slice(bytes: &[u8], want: Want) -> &[u8] {
    let from = bytes.len().min(want.offset as usize);
    &bytes[from..bytes.len().min(from + want.len)]
}

/// Puts the records of a band into `snapshot`: the pieces of one come one after the other.
fn put(
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    states: &BTreeMap<u16, (&str, RecordStates)>,
    own: &Path,
    snapshot: &mut Snapshot,
) -> Result<(), Error> {
    let bad = |what| corrupt_at(own, 0, what);
    let mut records = records.into_iter().peekable();
    while let Some((stored, mut record)) = records.next() {
        let of = StoredKey::decode(&stored).ok_or_else(|| bad("a key that is none"))?;
        if !of.map_key.is_empty() {
            return Err(bad("a piece of a record without those before it"));
        }
        while let Some((_, piece)) = records.next_if(|(next, _)| next.starts_with(&stored)) {
            record.extend_from_slice(&piece);
        }
        let (uid, states) =
            states.get(&of.state_id).ok_or_else(|| bad("a record of no operator"))?;
        snapshot.put_record(uid, &of, states, &record).map_err(|error| bad(error.what))?;
    }
    Ok(())
}

/// Checks that the tables that an image names are those that a manifest names for its part.
pub(super) fn agree(image: Option<&Image>, tables: &Tables) -> bool {
    match image {
        None => tables.ids.is_empty(),
        Some(image) => image.directory == tables.directory && image.ids() == tables.ids,
    }
}

#[cfg(test)]
mod tests;
