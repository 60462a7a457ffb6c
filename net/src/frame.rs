//! Frames: what travels over a connection between two nodes, byte by byte.
//!
//! ```text
//! byte  0      2  3     4         8         12        16                  24     26   28     32
//!       │magic │v │kind │ length  │ channel │ credit  │     sequence      │flags │ 0  │ crc  │
//!       │ payload: length bytes                                    │ zeros to a multiple of 16 │
//! ```
//!
//! | field | |
//! |---|---|
//! | magic, v | `4D 53`, then the version of the format: a stranger is noticed at once |
//! | kind | rows, or a control element that overtakes them ([`FrameKind`]) |
//! | length | bytes of the payload, without the zeros behind it |
//! | channel | which of the connection's channels |
//! | credit | bytes for which the *sender* of this frame has room on that channel |
//! | sequence | frames of the connection before this one: a gap is noticed |
//! | flags | for later versions; a reader leaves those alone that it does not know |
//! | crc | crc32 of bytes 0..28 and of everything behind the header |
//!
//! All numbers are little endian. Every frame is a multiple of [`FRAME_ALIGN_BYTES`] long, so in a
//! stream of frames each begins aligned.
//!
//! Invariant: [`decode`] accepts exactly what [`encode`] makes. Bytes come over a trust boundary,
//! so it checks everything before anything is believed, and never asks for more than a frame with
//! [`FRAME_PAYLOAD_BYTES_MAX`].
//!
//! Not here: who sends what when (a connection's), what a payload means (the engine's), and frames
//! between two shards of a process, which are trusted and have no header.

/// Bytes of a header.
pub const FRAME_HEADER_BYTES: usize = 32;

/// Every frame is a multiple of this long.
pub const FRAME_ALIGN_BYTES: usize = 16;
const _: () = assert!(FRAME_HEADER_BYTES.is_multiple_of(FRAME_ALIGN_BYTES));

/// Longest payload: a batch with the largest row, and room for what is around it.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 4 << 20;
const _: () = assert!(FRAME_PAYLOAD_BYTES_MAX.is_multiple_of(FRAME_ALIGN_BYTES));

const MAGIC: [u8; 2] = *b"MS";
const VERSION: u8 = 1;
const CRC_AT: usize = 28;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A batch of rows.
    Rows = 1,
    /// A watermark.
    Watermark = 2,
    /// A barrier.
    Barrier = 3,
    /// The channel is idle.
    Idle = 4,
    /// Nothing comes on the channel any more.
    EndOfStream = 5,
    /// Credit alone: there was nothing to send it with.
    Credit = 6,
}

impl FrameKind {
    const ALL: [Self; 6] =
        [Self::Rows, Self::Watermark, Self::Barrier, Self::Idle, Self::EndOfStream, Self::Credit];
}

/// The header of a frame, without what is computed: magic, length and checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What it carries.
    pub kind: FrameKind,
    /// On which channel.
    pub channel: u32,
    /// Room of the frame's sender on that channel, bytes.
    pub credit: u32,
    /// Frames of the connection before this one.
    pub sequence: u64,
    /// For later versions.
    pub flags: u16,
}

/// What the bytes that have arrived are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// Not a whole frame yet: there must be at least so many bytes.
    Incomplete {
        /// Bytes from the frame's beginning.
        needed: usize,
    },
    /// A frame, and how many bytes it took.
    Frame {
        /// Its header.
        header: FrameHeader,
        /// Its payload.
        payload: &'a [u8],
        /// Where the next frame begins.
        size: usize,
    },
}

/// Bytes that are no frame of this format. The connection cannot be trusted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The other side speaks something else.
    #[error(
        "a frame begins with {found:02x?}, expected {MAGIC:02x?}: no node is on the other side"
    )]
    Magic {
        /// The first two bytes.
        found: [u8; 2],
    },
    /// The other side speaks another version.
    #[error("a frame of version {found}, expected {VERSION}: run the same release on all nodes")]
    Version {
        /// Its version.
        found: u8,
    },
    /// A kind that this version does not have.
    #[error("a frame of unknown kind {found}")]
    Kind {
        /// Its kind.
        found: u8,
    },
    /// A length beyond the limit.
    #[error("a frame with {found} bytes of payload, at most {FRAME_PAYLOAD_BYTES_MAX}")]
    Length {
        /// Its length.
        found: u32,
    },
    /// Bytes that must be zero are not.
    #[error("a frame with something else than zeros behind its payload or in its header")]
    Padding,
    /// Damaged on the way.
    #[error("a frame is corrupt: checksum {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// As computed.
        found: u32,
        /// As sent.
        expected: u32,
    },
}

/// Appends a frame to `out`.
///
/// # Panics
/// If the payload is longer than [`FRAME_PAYLOAD_BYTES_MAX`]: rows are measured before they get
/// here.
pub fn encode(header: FrameHeader, payload: &[u8], out: &mut Vec<u8>) {
    assert!(payload.len() <= FRAME_PAYLOAD_BYTES_MAX, "{} bytes of payload", payload.len());
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, header.kind as u8]);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&header.channel.to_le_bytes());
    out.extend_from_slice(&header.credit.to_le_bytes());
    out.extend_from_slice(&header.sequence.to_le_bytes());
    out.extend_from_slice(&header.flags.to_le_bytes());
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(payload);
    out.resize(start + size_of_frame(payload.len()), 0);
    let crc = checksum(&out[start..]);
    out[start + CRC_AT..start + FRAME_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// Looks at the frame that `bytes` begin with.
///
/// # Errors
/// [`FrameError`] as soon as the bytes cannot become a frame any more.
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, FrameError> {
    let Some(head) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(Decoded::Incomplete { needed: FRAME_HEADER_BYTES });
    };
    if head[..2] != MAGIC {
        return Err(FrameError::Magic { found: [head[0], head[1]] });
    }
    if head[2] != VERSION {
        return Err(FrameError::Version { found: head[2] });
    }
    let kind = FrameKind::ALL.into_iter().find(|kind| *kind as u8 == head[3]);
    let kind = kind.ok_or(FrameError::Kind { found: head[3] })?;
    let length = u32_at(head, 4);
    if FRAME_PAYLOAD_BYTES_MAX < length as usize {
        return Err(FrameError::Length { found: length });
    }
    let end = FRAME_HEADER_BYTES + length as usize;
    let size = size_of_frame(length as usize);
    let Some(frame) = bytes.get(..size) else {
        return Ok(Decoded::Incomplete { needed: size });
    };
    let (found, expected) = (checksum(frame), u32_at(head, CRC_AT));
    if found != expected {
        return Err(FrameError::Checksum { found, expected });
    }
    if frame[end..].iter().chain(&head[26..CRC_AT]).any(|byte| *byte != 0) {
        return Err(FrameError::Padding);
    }
    let header = FrameHeader {
        kind,
        channel: u32_at(head, 8),
        credit: u32_at(head, 12),
        sequence: u64::from(u32_at(head, 16)) | u64::from(u32_at(head, 20)) << 32,
        flags: u16::from_le_bytes([head[24], head[25]]),
    };
    Ok(Decoded::Frame { header, payload: &frame[FRAME_HEADER_BYTES..end], size })
}

/// Bytes of a frame with so much payload.
fn size_of_frame(payload_bytes: usize) -> usize {
    FRAME_HEADER_BYTES + payload_bytes.next_multiple_of(FRAME_ALIGN_BYTES)
}

/// Of everything but the checksum itself.
fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..CRC_AT]);
    hasher.update(&frame[FRAME_HEADER_BYTES..]);
    hasher.finalize()
}

fn u32_at(header: &[u8; FRAME_HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(*header[at..].first_chunk().expect("fields are within the header"))
}

#[cfg(test)]
mod tests;
