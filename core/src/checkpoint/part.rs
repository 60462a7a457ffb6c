//! A part of a checkpoint: what the tasks of one shard had, as bytes of a file.
//!
//! ```text
//! byte 0       8         12    16       24           32      36       40
//!      │ magic │ version │ crc │ length │ checkpoint │ shard │ chains │ …
//!
//! chain  │ index │ snapshot …  │
//!        │ 2     │             │
//!
//! behind the chains
//!        │ length │ directory │ length │ manifest of a store │
//!        │ 4      │           │ 4      │                     │
//! ```
//!
//! - magic: `89 4D 53 50 52 54 0D 0A`; the ends of lines notice who takes it for a text.
//! - version: 1.
//! - crc: crc32 of all other bytes, those before it and those behind.
//! - length: bytes of all of it.
//! - chains: how many follow, in the order of their indexes.
//! - directory: where the tables are that have what the keys had, empty if there are none; then the
//!   [manifest](millstream_storage::manifest) of the store that they are, which is empty as well.
//!
//! Numbers are little endian, nothing is padded. Magic, version and crc stay where they are in all
//! versions. `docs/formats/checkpoint.md` reads the golden file with this drawing.

use super::manifest::{Damaged, head, seal};
use crate::checkpoint::names::is_state_name;
use crate::data::bytes::{BadBytes, ByteReader, put_bytes, put_count};
use crate::data::element::CheckpointId;
use crate::state::durable::Image;
use crate::state::snapshot::Snapshot;
use millstream_storage::manifest::Manifest;

/// What a part begins with.
pub(super) const MAGIC: [u8; 8] = *b"\x89MSPRT\r\n";

/// The version of the format: what is written, and the last that is read.
pub const VERSION: u32 = 1;

/// What the tasks of a shard had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Of which checkpoint.
    pub checkpoint: CheckpointId,
    /// Of which shard.
    pub shard: u32,
    /// By the numbers of their chains, in order.
    pub chains: Vec<(u16, Snapshot)>,
    /// The tables of what has changed.
    pub image: Option<Image>,
}

impl Part {
    /// The bytes.
    ///
    /// # Panics
    /// If something in it has 4 GiB or more.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = head(MAGIC, VERSION);
        out.extend_from_slice(&self.checkpoint.0.to_le_bytes());
        out.extend_from_slice(&self.shard.to_le_bytes());
        put_count(self.chains.len(), &mut out);
        for (index, snapshot) in &self.chains {
            out.extend_from_slice(&index.to_le_bytes());
            snapshot.encode(&mut out);
        }
        match &self.image {
            None => [0, 0].into_iter().for_each(|count| put_count(count, &mut out)),
            Some(Image { directory, manifest }) => {
                put_bytes(directory.as_bytes(), &mut out);
                put_bytes(&manifest.encode().expect("a store has few states"), &mut out);
            }
        }
        seal(&mut out);
        out
    }

    /// The part whose bytes these are.
    ///
    /// # Errors
    /// If they are not those of a part of a version that is known here.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut reader = super::manifest::unsealed(bytes, MAGIC, VERSION)?;
        Ok(Self::read(&mut reader)?)
    }

    fn read(reader: &mut ByteReader<'_>) -> Result<Self, BadBytes> {
        let (checkpoint, shard) = (CheckpointId(reader.u64()?), reader.u32()?);
        let count = reader.u32()?;
        let mut chains: Vec<(u16, Snapshot)> = Vec::new();
        for _ in 0..count {
            let before = reader.clone();
            let index = reader.u16()?;
            if chains.last().is_some_and(|(last, _)| index <= *last) {
                return Err(before.bad("a chain that is out of order"));
            }
            chains.push((index, Snapshot::decode(reader)?));
        }
        let image = read_image(reader)?;
        if !reader.is_empty() {
            return Err(reader.bad("something behind the last chain"));
        }
        Ok(Self { checkpoint, shard, chains, image })
    }
}

fn read_image(reader: &mut ByteReader<'_>) -> Result<Option<Image>, BadBytes> {
    let directory = reader.text()?.to_string();
    let before = reader.clone();
    let bytes = reader.bytes()?;
    if directory.is_empty() && bytes.is_empty() {
        return Ok(None);
    }
    let manifest = Manifest::decode(bytes).ok().filter(|_| is_state_name(&directory));
    let manifest = manifest.ok_or_else(|| before.bad("tables that are not named"))?;
    Ok(Some(Image { directory, manifest }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::names::state_name;
    use crate::data::frame::Frame;
    use crate::data::row::Row;
    use crate::graph::plan::{ChannelId, Deal};
    use crate::state::snapshot::{Place, Run, RunTo, SnapshotWriter, ValueLayout};
    use millstream_storage::compaction::Tier;
    use millstream_storage::manifest::{StateRow, TableRow};
    use millstream_storage::table::{HashRange, TableId};

    pub(crate) fn part() -> Part {
        let mut snapshot = Snapshot::default();
        let mut writer = SnapshotWriter::new(&mut snapshot, "numbers");
        writer.watermark_ms(1_700_000_000_000);
        writer.declare("list", "splits");
        writer.operator_state("split/0", &7_u64);
        let to = RunTo { uid: "sum".to_string(), input: 1 };
        let place = Place::Channel { channel: ChannelId(5), is_queued: true };
        let frame = Frame::of(&[Row::from(7_u64)]).as_bytes().to_vec();
        let (deal, layout) = (Deal::Task(2), ValueLayout::of::<u64>());
        snapshot.put_in_flight(to, place, Run { deal, layout, frames: vec![frame] });
        let chains = vec![(0, snapshot), (3, Snapshot::default())];
        let bands = vec![HashRange { first: 0, last: u64::MAX }];
        let table = TableRow {
            band: 0,
            id: TableId(5),
            tier: Tier::Merged(0),
            length: 8192,
            checksum: 0xDEAD_BEEF,
        };
        let states = vec![StateRow { id: 0, name: b"numbers#0".to_vec(), schema: vec![0, 0] }];
        let (next_table_id, key_group_count, tables) = (6, 128, vec![table]);
        let manifest = Manifest { next_table_id, key_group_count, bands, tables, states };
        let image = Some(Image { directory: state_name(CheckpointId(7), 1), manifest });
        Part { checkpoint: CheckpointId(42), shard: 1, chains, image }
    }

    /// What version 1 is, for ever.
    #[test]
    fn the_golden_file_is_what_is_written_and_read() {
        let golden = include_bytes!("../../golden/checkpoint_part_v1.bin");
        assert_eq!(part().encode(), golden);
        assert_eq!(Part::decode(golden), Ok(part()));
    }

    #[test]
    fn every_bit_and_every_end_is_noticed() {
        let bytes = part().encode();
        for at in 0..bytes.len() {
            assert!(Part::decode(&bytes[..at]).is_err(), "{at} bytes of it");
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                assert!(Part::decode(&bytes).is_err(), "byte {at}, bit {bit}");
            }
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Part::decode(&longer).is_err(), "one byte more");
    }

    /// Damage that a checksum does not find, because whoever made it made that as well.
    #[test]
    fn sealed_nonsense_is_refused_without_a_panic() {
        let bytes = part().encode();
        for at in 24..bytes.len() {
            for value in [0, 1, 127, 255] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                seal(&mut bytes);
                if let Ok(part) = Part::decode(&bytes) {
                    assert_eq!(part.encode(), bytes, "byte {at} is {value}");
                }
            }
        }
    }
}
