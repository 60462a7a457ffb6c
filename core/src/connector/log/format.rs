//! The bytes of a segment: a head, two slots that say how much of it is committed, and batches.
//!
//! ```text
//! byte 0        4096     8192     12288
//!      │ head … │ slot … │ slot … │ batch │ batch │ …
//!
//! head   │ magic │ version │ crc │ length │ partition │ partitions │ generation │ base │ …
//!        │ 8     │ 4       │ 4   │ 4      │ 4         │ 4          │ 4          │ 8    │
//!      … │ base of the previous │ generation of the previous │ format        │
//!        │ 8                    │ 4                          │ 4 + its bytes │
//!
//! slot   │ crc │ sequence │ end │ bytes │ last event time │ committed │
//!        │ 4   │ 8        │ 8   │ 8     │ 8               │ 8         │
//!
//! batch  │ length │ crc │ base │ records │ flags │ first time │ last time │ record … │
//!        │ 4      │ 4   │ 8    │ 4       │ 4     │ 8          │ 8         │          │
//!
//! record │ length │ event time │ bytes │
//!        │ 4      │ 8          │       │
//! ```
//!
//! Numbers are little endian; nothing is padded but head and slots, to their pages. Records are
//! numbered within a partition, from 0; *base* is the number of the first one, *end* the number
//! behind the last. Times are ms since 1970; the smallest number stands for none.
//!
//! A commit overwrites the slot with the smaller sequence, so whatever becomes of it, the other
//! says what was committed before. *Bytes* is how long the segment is up to *end*.
//!
//! # What is believed
//!
//! Nothing before the checksum is right, and then nothing that contradicts itself; no more memory
//! is taken than the bytes have. `docs/formats/log.md` reads a golden file with this drawing.
//!
//! Not here: what a log is made of (`name.rs`), who reads and writes (`sink.rs`, `source.rs`).

#[cfg(test)]
mod tests;

use crate::connector::log::name::SegmentId;
use crate::data::bytes::{BadBytes, ByteReader, put_bytes};
use crate::data::row::NO_EVENT_TIME;

const MAGIC: [u8; 8] = *b"\x89MSLOG\r\n";

/// The version of the format: what is written, and the last that is read.
pub const VERSION: u32 = 1;

/// A head or a slot, with what pads it. What is written at once is torn at once.
pub const PAGE_BYTES: usize = 4096;

/// Where batches begin.
pub const DATA_AT: u64 = 3 * PAGE_BYTES as u64;

/// What a batch has before its records.
pub const BATCH_HEAD_BYTES: usize = 40;

/// Most bytes of a batch: of one with a single record of the longest kind.
pub const BATCH_BYTES_MAX: usize = BATCH_HEAD_BYTES + RECORD_HEAD_BYTES + (64 << 20);

const RECORD_HEAD_BYTES: usize = 12;
const VERSION_AT: usize = 8;
const CRC_AT: usize = 12;
const LENGTH_AT: usize = 16;
const SLOT_BYTES: usize = 44;
const NO_PREVIOUS: u64 = u64::MAX;

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Which one it is.
    pub id: SegmentId,
    /// How many partitions the log has.
    pub partition_count: u32,
    /// The segment before it, if there was one when it was made.
    pub previous: Option<SegmentId>,
    /// What its records are: `jsonl`, `txt`.
    pub format: String,
}

/// How much of a segment is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The larger one counts.
    pub sequence: u64,
    /// Number behind the last committed record.
    pub end: u64,
    /// Bytes of the segment up to there.
    pub bytes: u64,
    /// The largest event time in it, ms.
    pub last_time_ms: i64,
    /// When it was committed, processing time, ms since 1970.
    pub committed_ms: i64,
}

impl Head {
    /// The first page, and the slots of a segment without records.
    pub fn encode(&self, committed_ms: i64) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        let SegmentId { partition, base, generation } = self.id;
        for number in [partition, self.partition_count, generation] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&base.to_le_bytes());
        let (before, by) = match self.previous {
            Some(previous) => (previous.base, previous.generation),
            None => (NO_PREVIOUS, 0),
        };
        out.extend_from_slice(&before.to_le_bytes());
        out.extend_from_slice(&by.to_le_bytes());
        put_bytes(self.format.as_bytes(), &mut out);
        assert!(out.len() <= PAGE_BYTES, "names of formats are short");
        let length = out.len() as u32;
        out[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_le_bytes());
        let crc = crc_around(&out, CRC_AT);
        out[CRC_AT..LENGTH_AT].copy_from_slice(&crc.to_le_bytes());
        out.resize(PAGE_BYTES, 0);
        out.extend_from_slice(&Slot::first(base, committed_ms).encode());
        out.resize(DATA_AT as usize, 0);
        out
    }

    /// What the first page of `bytes` says.
    ///
    /// # Errors
    /// If it is damaged, or of a later release.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadBytes> {
        let mut reader = ByteReader::new(bytes, 0);
        if reader.array()? != MAGIC {
            return Err(BadBytes { at: 0, what: "it does not begin as a segment of a log does" });
        }
        if reader.u32()? != VERSION {
            return Err(BadBytes { at: VERSION_AT, what: "it is of a version not known here" });
        }
        let (crc, length) = (reader.u32()?, reader.u32()? as usize);
        let page = bytes.get(..length.min(PAGE_BYTES)).unwrap_or_default();
        if page.len() <= LENGTH_AT || crc_around(page, CRC_AT) != crc {
            return Err(BadBytes { at: CRC_AT, what: "a wrong checksum" });
        }
        let mut reader = ByteReader::new(page, reader.at());
        let (partition, partition_count) = (reader.u32()?, reader.u32()?);
        let (generation, base) = (reader.u32()?, reader.u64()?);
        let (before, by) = (reader.u64()?, reader.u32()?);
        let previous = (before != NO_PREVIOUS).then_some(SegmentId {
            partition,
            base: before,
            generation: by,
        });
        let format = reader.text()?.to_string();
        let id = SegmentId { partition, base, generation };
        if partition_count <= partition || previous.is_some_and(|previous| id <= previous) {
            return Err(BadBytes { at: LENGTH_AT, what: "its fields contradict each other" });
        }
        Ok(Self { id, partition_count, previous, format })
    }
}

impl Slot {
    /// Of a segment that begins at `base`, without records.
    fn first(base: u64, committed_ms: i64) -> Self {
        let last_time_ms = NO_EVENT_TIME;
        Self { sequence: 1, end: base, bytes: DATA_AT, last_time_ms, committed_ms }
    }

    /// Where it is written.
    pub fn at(&self) -> u64 {
        PAGE_BYTES as u64 * if self.sequence.is_multiple_of(2) { 2 } else { 1 }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        for number in [self.sequence, self.end, self.bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.last_time_ms.to_le_bytes());
        out.extend_from_slice(&self.committed_ms.to_le_bytes());
        let crc = crc_around(&out, 0);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = ByteReader::new(bytes.get(..SLOT_BYTES)?, 0);
        let crc = reader.u32().ok()?;
        let slot = Self {
            sequence: reader.u64().ok()?,
            end: reader.u64().ok()?,
            bytes: reader.u64().ok()?,
            last_time_ms: reader.i64().ok()?,
            committed_ms: reader.i64().ok()?,
        };
        (crc_around(&bytes[..SLOT_BYTES], 0) == crc && 0 < slot.sequence).then_some(slot)
    }

    /// The one that counts of those in `bytes`, which are the first [`DATA_AT`] of a segment.
    ///
    /// # Errors
    /// If neither can be believed.
    pub fn newest(bytes: &[u8]) -> Result<Self, BadBytes> {
        let slots = [1, 2].map(|page| Self::decode(bytes.get(page * PAGE_BYTES..)?));
        let newest = slots.into_iter().flatten().max_by_key(|slot| slot.sequence);
        newest.ok_or(BadBytes { at: PAGE_BYTES, what: "neither slot has a right checksum" })
    }
}

/// Records that are written together.
#[derive(Debug, Default)]
pub struct BatchWriter {
    /// The head's place is kept free at the front.
    bytes: Vec<u8>,
    record_count: u32,
    times: Option<(i64, i64)>,
}

impl BatchWriter {
    /// Appends a record.
    pub fn push(&mut self, event_time_ms: i64, record: &[u8]) {
        if self.bytes.is_empty() {
            self.bytes.resize(BATCH_HEAD_BYTES, 0);
        }
        let length = u32::try_from(record.len()).expect("a record is below the limit");
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&event_time_ms.to_le_bytes());
        self.bytes.extend_from_slice(record);
        self.record_count += 1;
        let (first, last) = self.times.unwrap_or((event_time_ms, event_time_ms));
        self.times = Some((first.min(event_time_ms), last.max(event_time_ms)));
    }

    /// Bytes of it so far.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Records in it.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// The batch, whose first record has the number `base`, and its largest event time; then it is
    /// empty again. `spare` is memory for the next one.
    ///
    /// # Panics
    /// If it has no records.
    pub fn take(&mut self, base: u64, mut spare: Vec<u8>) -> (Vec<u8>, i64) {
        let (first, last) = self.times.take().expect("a batch has records");
        spare.clear();
        let mut bytes = std::mem::replace(&mut self.bytes, spare);
        let length = (bytes.len() - 4) as u32;
        let mut head = Vec::with_capacity(BATCH_HEAD_BYTES);
        head.extend_from_slice(&length.to_le_bytes());
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&base.to_le_bytes());
        head.extend_from_slice(&self.record_count.to_le_bytes());
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&first.to_le_bytes());
        head.extend_from_slice(&last.to_le_bytes());
        bytes[..BATCH_HEAD_BYTES].copy_from_slice(&head);
        let crc = crc_around(&bytes, 4);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        self.record_count = 0;
        (bytes, last)
    }
}

/// What a batch says of itself. Only [`BatchHead::check`] makes it worth believing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHead {
    /// Bytes of the whole batch.
    pub bytes: usize,
    crc: u32,
    /// Number of its first record.
    pub base: u64,
    /// How many records it has.
    pub record_count: u32,
    /// The smallest event time in it, ms.
    pub first_time_ms: i64,
    /// The largest event time in it, ms.
    pub last_time_ms: i64,
}

impl BatchHead {
    /// The head that `bytes` begin with.
    ///
    /// # Errors
    /// If it cannot be one.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadBytes> {
        let mut reader = ByteReader::new(bytes, 0);
        let (length, crc) = (reader.u32()? as usize, reader.u32()?);
        let (base, record_count, flags) = (reader.u64()?, reader.u32()?, reader.u32()?);
        let (first_time_ms, last_time_ms) = (reader.i64()?, reader.i64()?);
        let bytes = length.saturating_add(4);
        if !(BATCH_HEAD_BYTES..=BATCH_BYTES_MAX).contains(&bytes) {
            return Err(BadBytes { at: 0, what: "no batch is of that length" });
        }
        if flags != 0 {
            return Err(BadBytes { at: 20, what: "its flags are not known here" });
        }
        Ok(Self { bytes, crc, base, record_count, first_time_ms, last_time_ms })
    }

    /// Number behind its last record.
    pub fn end(&self) -> u64 {
        self.base.saturating_add(u64::from(self.record_count))
    }

    /// Whether `bytes`, which are as many as it says, are those that were written.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self, bytes: &[u8]) -> Result<(), BadBytes> {
        if crc_around(bytes, 4) != self.crc {
            return Err(BadBytes { at: 4, what: "a wrong checksum" });
        }
        Ok(())
    }
}

/// The record of a batch at byte `at`: its event time and its bytes, and where the next one is.
///
/// # Errors
/// If there is none, which a right checksum makes a bug.
pub fn record_at(batch: &[u8], at: usize) -> Result<(i64, &[u8], usize), BadBytes> {
    let mut reader = ByteReader::new(batch, at);
    let (length, event_time_ms) = (reader.u32()?, reader.i64()?);
    let record = reader.take(length as usize)?;
    Ok((event_time_ms, record, reader.at()))
}

/// The checksum of `bytes` but for the four at `at`, where it is itself.
fn crc_around(bytes: &[u8], at: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..at]);
    hasher.update(&bytes[at + 4..]);
    hasher.finalize()
}
