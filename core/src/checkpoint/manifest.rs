//! The manifest of a checkpoint: what makes it, as bytes of a file. Its name is the commit.
//!
//! ```text
//! byte 0       8         12    16       24           32       40      44           48       52
//!      │ magic │ version │ crc │ length │ checkpoint │ time   │ kind  │ key groups │ shards │ …
//!
//! job    │ length │ name │
//!        │ 4      │      │
//!
//! part   │ length │ name │ bytes │ crc │ length │ directory │ tables: count │ id │ …
//!        │ 4      │      │ 8     │ 4   │ 4      │           │ 4             │ 8  │
//! ```
//!
//! As many parts as there are shards, in their order.
//!
//! - magic: `89 4D 53 43 48 4B 0D 0A`; version: 1; crc: crc32 of all other bytes; length: of all.
//! - time: when it was triggered, ms since 1970.
//! - kind: 0 a checkpoint, 1 a savepoint.
//! - key groups, shards: how many the job had.
//! - bytes and crc of a part: of its whole file, the crc is the one in its head.
//! - directory and tables of a part: where the tables are that it names, and which; the part has
//!   their lengths and checksums.
//!
//! Numbers are little endian, nothing is padded. Magic, version and crc stay where they are in all
//! versions. `docs/formats/checkpoint.md` reads the golden file with this drawing.

use std::path::{Path, PathBuf};

use crate::data::bytes::{BadBytes, ByteReader, put_bytes, put_count};
use crate::data::element::CheckpointId;
use crate::limits::{KEY_GROUP_COUNT_MAX, SHARD_COUNT_MAX};
use crate::state::durable::table_name;

pub(super) const MAGIC: [u8; 8] = *b"\x89MSCHK\r\n";

/// The version of the format: what is written, and the last that is read.
pub const VERSION: u32 = 1;

const VERSION_AT: usize = 8;
const CRC_AT: usize = 12;
const LENGTH_AT: usize = 16;
const HEAD_BYTES: usize = 24;

/// Why a checkpoint was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// To go on from after a failure; goes when there are enough newer ones.
    Checkpoint,
    /// Because somebody asked for it; stays until somebody removes it.
    Savepoint,
}

/// What makes a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// When it was triggered, ms since 1970.
    pub time_ms: i64,
    /// Why.
    pub kind: Kind,
    /// Key groups of the job.
    pub key_group_count: u32,
    /// Name of the job.
    pub job: String,
    /// What each shard had, in their order.
    pub parts: Vec<PartRow>,
}

/// A file with what the tasks of a shard had, in the directory of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRow {
    /// Its name.
    pub name: String,
    /// Bytes of it.
    pub bytes: u64,
    /// Checksum of all of it, as it has it itself.
    pub crc: u32,
    /// The tables that it names.
    pub tables: Tables,
}

/// Tables that have what the keys of a shard had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// The directory that they are in, in that of the manifest; empty if there are none.
    pub directory: String,
    /// Their ids, in order.
    pub ids: Vec<u64>,
}

impl Tables {
    /// Where they are, if the manifest is in `directory`.
    pub fn paths(&self, directory: &Path) -> impl Iterator<Item = PathBuf> {
        let directory = directory.join(&self.directory);
        self.ids.iter().map(move |id| directory.join(table_name(*id)))
    }
}

/// Why bytes are not what a file of a checkpoint has to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damaged {
    /// They are not those that were written.
    #[error("{0}")]
    Corrupt(#[from] BadBytes),
    /// A later release has written them.
    #[error("it is of version {found}, this release reads up to {newest}")]
    Version {
        /// Their version.
        found: u32,
        /// The last version that is known here.
        newest: u32,
    },
}

impl Damaged {
    /// Where they cannot be believed.
    pub fn offset(&self) -> u64 {
        match self {
            Self::Corrupt(bad) => bad.at as u64,
            Self::Version { .. } => VERSION_AT as u64,
        }
    }
}

impl PartRow {
    /// The row of a part with these `bytes`, which names these `tables`.
    ///
    /// # Panics
    /// If they are not those of a part.
    pub fn of(name: String, bytes: &[u8], tables: Tables) -> Self {
        let crc = bytes[CRC_AT..LENGTH_AT].try_into().expect("a part has a head");
        Self { name, bytes: bytes.len() as u64, crc: u32::from_le_bytes(crc), tables }
    }

    /// Why `bytes` are not those of the part.
    pub fn objection(&self, bytes: &[u8]) -> Option<&'static str> {
        if bytes.len() as u64 != self.bytes {
            return Some("it is not as long as the manifest says");
        }
        let crc = bytes.get(CRC_AT..LENGTH_AT);
        let is_same = crc == Some(&self.crc.to_le_bytes());
        (!is_same).then_some("its checksum is not the one that the manifest says")
    }
}

impl Manifest {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = head(MAGIC, VERSION);
        out.extend_from_slice(&self.checkpoint.0.to_le_bytes());
        out.extend_from_slice(&self.time_ms.to_le_bytes());
        let kind: u32 = match self.kind {
            Kind::Checkpoint => 0,
            Kind::Savepoint => 1,
        };
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&self.key_group_count.to_le_bytes());
        put_count(self.parts.len(), &mut out);
        put_bytes(self.job.as_bytes(), &mut out);
        for part in &self.parts {
            put_bytes(part.name.as_bytes(), &mut out);
            out.extend_from_slice(&part.bytes.to_le_bytes());
            out.extend_from_slice(&part.crc.to_le_bytes());
            put_bytes(part.tables.directory.as_bytes(), &mut out);
            put_count(part.tables.ids.len(), &mut out);
            part.tables.ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
        }
        seal(&mut out);
        out
    }

    /// The manifest whose bytes these are.
    ///
    /// # Errors
    /// If they are not those of a manifest of a version that is known here.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut reader = unsealed(bytes, MAGIC, VERSION)?;
        Ok(Self::read(&mut reader)?)
    }

    fn read(reader: &mut ByteReader<'_>) -> Result<Self, BadBytes> {
        let (checkpoint, time_ms) = (CheckpointId(reader.u64()?), reader.i64()?);
        let before = reader.clone();
        let kind = match reader.u32()? {
            0 => Kind::Checkpoint,
            1 => Kind::Savepoint,
            _ => return Err(before.bad("an unknown kind")),
        };
        let before = reader.clone();
        let (key_group_count, shard_count) = (reader.u32()?, reader.u32()?);
        if !(1..=KEY_GROUP_COUNT_MAX).contains(&key_group_count) {
            return Err(before.bad("no such number of key groups"));
        }
        if !(1..=SHARD_COUNT_MAX).contains(&shard_count) {
            return Err(before.bad("no such number of shards"));
        }
        let job = reader.text()?.to_string();
        let mut parts = Vec::new();
        for _ in 0..shard_count {
            let before = reader.clone();
            let name = reader.text()?.to_string();
            if name.is_empty() || name.contains('/') {
                return Err(before.bad("a part that is in another directory"));
            }
            let (bytes, crc) = (reader.u64()?, reader.u32()?);
            parts.push(PartRow { name, bytes, crc, tables: Tables::read(reader)? });
        }
        if !reader.is_empty() {
            return Err(reader.bad("something behind the last part"));
        }
        Ok(Self { checkpoint, time_ms, kind, key_group_count, job, parts })
    }
}

impl Tables {
    fn read(reader: &mut ByteReader<'_>) -> Result<Self, BadBytes> {
        let before = reader.clone();
        let directory = reader.text()?.to_string();
        if directory.contains('/') || directory == ".." {
            return Err(before.bad("tables that are somewhere else"));
        }
        let before = reader.clone();
        let mut ids = Vec::new();
        for _ in 0..reader.u32()? {
            ids.push(reader.u64()?);
        }
        if !ids.is_sorted_by(|a, b| a < b) || directory.is_empty() && !ids.is_empty() {
            return Err(before.bad("tables that are out of order"));
        }
        Ok(Self { directory, ids })
    }
}

/// The head of a file that is to be [sealed](seal).
pub(super) fn head(magic: [u8; 8], version: u32) -> Vec<u8> {
    let mut out = magic.to_vec();
    out.extend_from_slice(&version.to_le_bytes());
    out.resize(HEAD_BYTES, 0);
    out
}

/// Puts length and checksum into the head.
pub(super) fn seal(bytes: &mut [u8]) {
    let length = bytes.len() as u64;
    bytes[LENGTH_AT..HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(bytes);
    bytes[CRC_AT..LENGTH_AT].copy_from_slice(&crc.to_le_bytes());
}

/// What is behind the head, if that is right.
pub(super) fn unsealed(
    bytes: &[u8],
    magic: [u8; 8],
    newest: u32,
) -> Result<ByteReader<'_>, Damaged> {
    let mut reader = ByteReader::new(bytes, 0);
    if reader.array()? != magic {
        return Err(BadBytes { at: 0, what: "another beginning" }.into());
    }
    let (version, crc, length) = (reader.u32()?, reader.u32()?, reader.u64()?);
    if crc != checksum(bytes) {
        return Err(BadBytes { at: CRC_AT, what: "a wrong checksum" }.into());
    }
    if newest < version {
        return Err(Damaged::Version { found: version, newest });
    }
    if version == 0 {
        return Err(BadBytes { at: VERSION_AT, what: "a version that there is not" }.into());
    }
    if length != bytes.len() as u64 {
        return Err(BadBytes { at: LENGTH_AT, what: "another length" }.into());
    }
    Ok(reader)
}

/// Of all bytes but those of the checksum.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..CRC_AT]);
    hasher.update(&bytes[LENGTH_AT..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let part = |shard: u32| PartRow {
            name: super::super::names::part_name(CheckpointId(42), shard),
            bytes: 1_000 + u64::from(shard),
            crc: 0xDEAD_BEEF,
            tables: Tables {
                directory: super::super::names::state_name(CheckpointId(7), shard),
                ids: vec![1, 3 + u64::from(shard)],
            },
        };
        Manifest {
            checkpoint: CheckpointId(42),
            time_ms: 1_700_000_000_123,
            kind: Kind::Savepoint,
            key_group_count: 1024,
            job: "card-fraud".to_string(),
            parts: vec![part(0), part(1)],
        }
    }

    /// What version 1 is, for ever.
    #[test]
    fn the_golden_file_is_what_is_written_and_read() {
        let golden = include_bytes!("../../golden/checkpoint_manifest_v1.bin");
        assert_eq!(manifest().encode(), golden);
        assert_eq!(Manifest::decode(golden), Ok(manifest()));
    }

    #[test]
    fn every_bit_and_every_end_is_noticed() {
        let bytes = manifest().encode();
        for at in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..at]).is_err(), "{at} bytes of it");
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                assert!(Manifest::decode(&bytes).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn sealed_nonsense_is_refused_without_a_panic() {
        let bytes = manifest().encode();
        for at in HEAD_BYTES..bytes.len() {
            for value in [0, 1, 47, 127, 255] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                seal(&mut bytes);
                if let Ok(manifest) = Manifest::decode(&bytes) {
                    assert_eq!(manifest.encode(), bytes, "byte {at} is {value}");
                }
            }
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let mut bytes = manifest().encode();
        bytes[VERSION_AT] = 2;
        seal(&mut bytes);
        assert_eq!(Manifest::decode(&bytes), Err(Damaged::Version { found: 2, newest: 1 }));
    }

    #[test]
    fn a_part_is_known_by_its_length_and_checksum() {
        let bytes = manifest().encode();
        let row = PartRow::of("a".to_string(), &bytes, Tables::default());
        assert_eq!(row.objection(&bytes), None);
        assert!(row.objection(&bytes[1..]).is_some());
        let mut other = bytes.clone();
        other[CRC_AT] ^= 1;
        assert!(row.objection(&other).is_some());
    }
}
