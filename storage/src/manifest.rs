//! The manifest of a store: which tables make it, and what they are about, as bytes of a file.
//!
//! ```text
//! Store::version ─► TableRow::all_of ─► Manifest ─► encode ─► a file
//! Store::new     ◄────────────────────  Manifest ◄─ decode ◄─┘
//! ```
//!
//! Numbers are little endian; nothing is padded. `docs/formats/manifest.md` reads the golden file
//! with this drawing.
//!
//! ```text
//! byte 0       8         12    16       24              32           36      40       44       48
//!      │ magic │ version │ crc │ length │ next table id │ key groups │ bands │ tables │ states │ …
//!
//! band   │ first hash │ last hash │
//!        │ 8          │ 8         │
//!
//! table  │ id │ length │ checksum │ band │ tier │
//!        │ 8  │ 8      │ 4        │ 2    │ 2    │
//!
//! state  │ id │ name length │ schema length │ name │ schema │
//!        │ 2  │ 2           │ 4             │      │        │
//! ```
//!
//! - magic: `89 4D 53 4D 41 4E 0D 0A`; the ends of lines notice who takes it for a text.
//! - version: 1.
//! - crc: crc32 of all other bytes, those before it and those behind.
//! - length: bytes of all of it.
//! - key groups: how many the job has.
//! - bands, tables, states: how many of each follow.
//! - tier: how often the bytes of the table were merged, 0 to 255; 256, with everything older.
//!
//! Bands are in the order of their hashes and do not overlap; tables in the order of their bands,
//! each band's the newest first; states in the order of their ids. No two tables of a band are the
//! same, all ids are below the next one, and no two states have the same name.
//!
//! Magic, version and crc stay where they are in all versions.
//!
//! # What is believed
//!
//! Nothing before the checksum is right, and then nothing that contradicts itself. Damage is an
//! [`Error`] with its place. No more memory is taken than the bytes have.
//!
//! Not here: how the file is replaced ([`crate::atomic_file`]), the rest of a checkpoint.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::compaction::Tier;
use crate::table::{HashRange, TableId, TableMeta};
use crate::version::{PlacedTable, Version};

const MAGIC: [u8; 8] = *b"\x89MSMAN\r\n";

/// The version of the format: what is written, and the last that is read.
pub const VERSION: u32 = 1;

/// Longest name of a state, in bytes.
pub const NAME_BYTES_MAX: usize = 4096;

/// Longest schema of a state, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 65_536;

/// Longest manifest, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 64 << 20;

const CRC_AT: usize = 12;
const CRC_BYTES: usize = 4;
const HEADER_BYTES: usize = 48;
const TIER_BASE: u16 = 256;

/// What a store consists of at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// As [`Store::next_table_id`](crate::store::Store::next_table_id) says it.
    pub next_table_id: u64,
    /// Key groups of the job.
    pub key_group_count: u32,
    /// The ranges of hashes of the bands.
    pub bands: Vec<HashRange>,
    /// The tables, in the order of their bands, each band's the newest first.
    pub tables: Vec<TableRow>,
    /// The states that the tables are about, in the order of their ids.
    pub states: Vec<StateRow>,
}

/// A table as a manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableRow {
    /// In which band.
    pub band: usize,
    /// Which table.
    pub id: TableId,
    /// Its tier there.
    pub tier: Tier,
    /// Bytes of its file.
    pub length: u64,
    /// The checksum of its footer, which has those of the blocks and of all sections: it depends on
    /// every byte of the file.
    pub checksum: u32,
}

impl TableRow {
    /// The tables of `version`, each band's the newest first: what a manifest says of it, and a
    /// store is restored from.
    pub fn all_of(version: &Version) -> Vec<Self> {
        let bands = version.bands().iter().enumerate();
        bands
            .flat_map(|(band, tables)| tables.tables.iter().map(move |it| Self::new(band, it)))
            .collect()
    }

    fn new(band: usize, table: &PlacedTable) -> Self {
        let TableMeta { id, length, checksum, .. } = *table.view.table().meta();
        Self { band, id, tier: table.tier, length, checksum }
    }

    /// Why a table is not the one that this was made of.
    pub(crate) fn objection(&self, meta: &TableMeta) -> Option<&'static str> {
        if meta.length != self.length {
            Some("it is not as long as the manifest says")
        } else if meta.checksum != self.checksum {
            Some("its checksum is not the one that the manifest says")
        } else {
            None
        }
    }
}

/// A state by the number that it has in stored keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRow {
    /// Its number.
    pub id: u16,
    /// What it is called, for ever and by all releases: at most [`NAME_BYTES_MAX`] bytes.
    pub name: Vec<u8>,
    /// What its values are made of, in the words of whoever reads them; at most
    /// [`SCHEMA_BYTES_MAX`] bytes.
    pub schema: Vec<u8>,
}

/// Why bytes are not a manifest, or a manifest cannot be bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// They are not those that were written. Read them again or from another copy; if that does not
    /// help, restore from an earlier checkpoint.
    #[error("the manifest is corrupt at byte {offset}: {what}")]
    Corrupt {
        /// Where the part begins that cannot be believed.
        offset: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A later release has written it.
    #[error("the manifest is of version {found}, this release reads up to {newest}")]
    Version {
        /// Its version.
        found: u32,
        /// The last version that is known here.
        newest: u32,
    },
    /// It has more than there is room for.
    #[error("the manifest has {what} of {bytes} bytes, at most {bytes_max} can be written")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        bytes: usize,
        /// How many there may be.
        bytes_max: usize,
    },
}

impl Manifest {
    /// The bytes.
    ///
    /// # Errors
    /// If a name, a schema, or all of it is too long.
    ///
    /// # Panics
    /// If it contradicts itself: its rows are not in order, say.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = MAGIC.to_vec();
        push(&mut bytes, [VERSION, 0]);
        bytes.extend_from_slice(&[0; size_of::<u64>()]);
        bytes.extend_from_slice(&self.next_table_id.to_le_bytes());
        let counts = [self.bands.len(), self.tables.len(), self.states.len()];
        let [bands, tables, states] = counts.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        push(&mut bytes, [self.key_group_count, bands, tables, states]);
        for band in &self.bands {
            bytes.extend_from_slice(&band.first.to_le_bytes());
            bytes.extend_from_slice(&band.last.to_le_bytes());
        }
        for row in &self.tables {
            bytes.extend_from_slice(&row.id.0.to_le_bytes());
            bytes.extend_from_slice(&row.length.to_le_bytes());
            bytes.extend_from_slice(&row.checksum.to_le_bytes());
            let band = u16::try_from(row.band).expect("bands are fewer than key groups may be");
            bytes.extend_from_slice(&band.to_le_bytes());
            let tier = match row.tier {
                Tier::Merged(count) => u16::from(count),
                Tier::Base => TIER_BASE,
            };
            bytes.extend_from_slice(&tier.to_le_bytes());
        }
        for state in &self.states {
            check_len("the name of a state", state.name.len(), NAME_BYTES_MAX)?;
            check_len("the schema of a state", state.schema.len(), SCHEMA_BYTES_MAX)?;
            bytes.extend_from_slice(&state.id.to_le_bytes());
            bytes.extend_from_slice(&(state.name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(&(state.schema.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&state.name);
            bytes.extend_from_slice(&state.schema);
        }
        check_len("rows", bytes.len(), MANIFEST_BYTES_MAX)?;
        let length = bytes.len() as u64;
        bytes[LENGTH_AT..LENGTH_AT + size_of::<u64>()].copy_from_slice(&length.to_le_bytes());
        let crc = checksum(&bytes);
        bytes[CRC_AT..CRC_AT + CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Self::decode(&bytes).as_ref(), Ok(self), "what is written can be read");
        Ok(bytes)
    }

    /// The manifest whose bytes these are.
    ///
    /// # Errors
    /// If they are not those of a manifest of a version that is known here.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.array()? != MAGIC {
            return corrupt(0, "it does not begin as a manifest does");
        }
        let version = u32::from_le_bytes(reader.array()?);
        let crc = u32::from_le_bytes(reader.array()?);
        if crc != checksum(bytes) {
            return corrupt(CRC_AT, "the checksum is wrong");
        }
        if VERSION < version {
            return Err(Error::Version { found: version, newest: VERSION });
        }
        if version != VERSION {
            return corrupt(MAGIC.len(), "there is no such version");
        }
        if u64::from_le_bytes(reader.array()?) != bytes.len() as u64 {
            return corrupt(LENGTH_AT, "it is not as long as it says");
        }
        let next_table_id = u64::from_le_bytes(reader.array()?);
        let key_group_count = u32::from_le_bytes(reader.array()?);
        if !(1..=1 << 16).contains(&key_group_count) {
            return corrupt(reader.at - 4, "there is no such number of key groups");
        }
        let [bands, tables, states] = [reader.array()?, reader.array()?, reader.array()?];
        debug_assert_eq!(reader.at, HEADER_BYTES);
        let bands = reader.bands(u32::from_le_bytes(bands))?;
        let tables = reader.tables(u32::from_le_bytes(tables), bands.len(), next_table_id)?;
        let states = reader.states(u32::from_le_bytes(states))?;
        if reader.at != bytes.len() {
            return corrupt(reader.at, "there is something behind the last state");
        }
        Ok(Self { next_table_id, key_group_count, bands, tables, states })
    }
}

/// Takes bytes from the front.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(len);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let Some(taken) = taken else { return corrupt(self.bytes.len(), "it ends too early") };
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    fn bands(&mut self, count: u32) -> Result<Vec<HashRange>, Error> {
        let mut bands: Vec<HashRange> = Vec::new();
        for _ in 0..count {
            let at = self.at;
            let [first, last] = [self.array()?, self.array()?].map(u64::from_le_bytes);
            if last < first || bands.last().is_some_and(|before| first <= before.last) {
                return corrupt(at, "bands are not in the order of their hashes");
            }
            bands.push(HashRange { first, last });
        }
        Ok(bands)
    }

    fn tables(
        &mut self,
        count: u32,
        band_count: usize,
        next_table_id: u64,
    ) -> Result<Vec<TableRow>, Error> {
        let mut rows: Vec<TableRow> = Vec::new();
        let mut of_band = BTreeSet::new();
        for _ in 0..count {
            let at = self.at;
            let [id, length] = [self.array()?, self.array()?].map(u64::from_le_bytes);
            let checksum = u32::from_le_bytes(self.array()?);
            let [band, tier] = [self.array()?, self.array()?].map(u16::from_le_bytes);
            let tier = match u8::try_from(tier) {
                Ok(count) => Tier::Merged(count),
                Err(_) if tier == TIER_BASE => Tier::Base,
                Err(_) => return corrupt(at, "there is no such tier"),
            };
            let row = TableRow { band: band.into(), id: TableId(id), tier, length, checksum };
            if next_table_id <= id {
                return corrupt(at, "a table has the id of one to come");
            }
            if band_count <= row.band {
                return corrupt(at, "a table is in no band");
            }
            if let Some(before) = rows.last() {
                if row.band < before.band {
                    return corrupt(at, "tables are not in the order of their bands");
                }
                let is_out_of_order = tier < before.tier || before.tier == Tier::Base;
                if row.band == before.band && is_out_of_order {
                    return corrupt(at, "a table is of another tier than its age says");
                }
                if row.band != before.band {
                    of_band.clear();
                }
            }
            if !of_band.insert(id) {
                return corrupt(at, "a band has a table twice");
            }
            rows.push(row);
        }
        Ok(rows)
    }

    fn states(&mut self, count: u32) -> Result<Vec<StateRow>, Error> {
        let mut states: Vec<StateRow> = Vec::new();
        let mut names = BTreeSet::new();
        for _ in 0..count {
            let at = self.at;
            let [id, name_len] = [self.array()?, self.array()?].map(u16::from_le_bytes);
            let schema_len = u32::from_le_bytes(self.array()?) as usize;
            if NAME_BYTES_MAX < name_len.into() || SCHEMA_BYTES_MAX < schema_len {
                return corrupt(at, "a state has a longer name or schema than there may be");
            }
            if states.last().is_some_and(|before| id <= before.id) {
                return corrupt(at, "states are not in the order of their ids");
            }
            let (name, schema) = (self.take(name_len.into())?, self.take(schema_len)?);
            if !names.insert(name) {
                return corrupt(at, "two states have one name");
            }
            states.push(StateRow { id, name: name.to_vec(), schema: schema.to_vec() });
        }
        Ok(states)
    }
}

const LENGTH_AT: usize = 16;

fn push<const N: usize>(bytes: &mut Vec<u8>, numbers: [u32; N]) {
    for number in numbers {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
}

fn check_len(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), Error> {
    if bytes <= bytes_max { Ok(()) } else { Err(Error::TooLarge { what, bytes, bytes_max }) }
}

/// Of all but itself.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..CRC_AT]);
    hasher.update(&bytes[CRC_AT + CRC_BYTES..]);
    hasher.finalize()
}

fn corrupt<T>(offset: usize, what: &'static str) -> Result<T, Error> {
    Err(Error::Corrupt { offset, what })
}
