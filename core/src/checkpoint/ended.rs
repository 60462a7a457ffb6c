//! The word that a job has ended, as bytes of a file: whoever starts it again begins nothing anew.
//!
//! ```text
//! byte 0       8         12    16       24     32
//!      │ magic │ version │ crc │ length │ time │ job: length, name │
//! ```
//!
//! - magic: `89 4D 53 45 4E 44 0D 0A`; version: 1; crc: crc32 of all other bytes; length: of all.
//! - time: when the job ended, ms since 1970.
//!
//! Written when all results are shown, before any checkpoint goes:
//!
//! ```text
//! results shown ──► ended, durable ──► checkpoints go ──► the process exits
//!       └ killed here: it goes on       └ killed here: it has ended
//!         from the last checkpoint,
//!         and has nothing left to do
//! ```
//!
//! Not here: who writes it (a host), what its file is called (`names.rs`).

use crate::checkpoint::manifest::{Damaged, head, seal, unsealed};
use crate::data::bytes::{BadBytes, ByteReader, put_bytes};

const MAGIC: [u8; 8] = *b"\x89MSEND\r\n";

/// The version of the format: what is written, and the last that is read.
const VERSION: u32 = 1;

/// That a job has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// When, ms since 1970.
    pub time_ms: i64,
    /// Name of the job.
    pub job: String,
}

impl Ended {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = head(MAGIC, VERSION);
        out.extend_from_slice(&self.time_ms.to_le_bytes());
        put_bytes(self.job.as_bytes(), &mut out);
        seal(&mut out);
        out
    }

    /// The word whose bytes these are.
    ///
    /// # Errors
    /// If they are not those of one of a version that is known here.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut reader = unsealed(bytes, MAGIC, VERSION)?;
        Ok(Self::read(&mut reader)?)
    }

    fn read(reader: &mut ByteReader<'_>) -> Result<Self, BadBytes> {
        let (time_ms, job) = (reader.i64()?, reader.text()?.to_string());
        if !reader.is_empty() {
            return Err(reader.bad("something behind the name"));
        }
        Ok(Self { time_ms, job })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended() -> Ended {
        Ended { time_ms: 1_700_000_000_123, job: "card-fraud".to_string() }
    }

    /// What version 1 is, for ever.
    #[test]
    fn the_golden_file_is_what_is_written_and_read() {
        let golden = include_bytes!("../../golden/checkpoint_ended_v1.bin");
        assert_eq!(ended().encode(), golden);
        assert_eq!(Ended::decode(golden), Ok(ended()));
    }

    #[test]
    fn every_bit_and_every_end_is_noticed() {
        let bytes = ended().encode();
        for at in 0..bytes.len() {
            assert!(Ended::decode(&bytes[..at]).is_err(), "{at} bytes of it");
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                assert!(Ended::decode(&bytes).is_err(), "byte {at}, bit {bit}");
            }
        }
        assert!(Ended::decode(&[&bytes[..], &[0]].concat()).is_err(), "one byte more");
    }

    #[test]
    fn sealed_nonsense_is_refused_without_a_panic() {
        let bytes = ended().encode();
        for at in 24..bytes.len() {
            for value in [0, 1, 127, 255] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                seal(&mut bytes);
                if let Ok(ended) = Ended::decode(&bytes) {
                    assert_eq!(ended.encode(), bytes, "byte {at} is {value}");
                }
            }
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let mut bytes = ended().encode();
        bytes[8] = 2;
        seal(&mut bytes);
        assert_eq!(Ended::decode(&bytes), Err(Damaged::Version { found: 2, newest: 1 }));
    }
}
