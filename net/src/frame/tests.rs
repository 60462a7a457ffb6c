//! Tests of frames: golden bytes, and whatever may arrive instead of a frame.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const HEADER: FrameHeader = FrameHeader {
    kind: FrameKind::Rows,
    channel: 0x0102_0304,
    credit: 0x0506_0708,
    sequence: 0x1112_1314_1516_1718,
    flags: 0x2122,
};

fn frame_of(header: FrameHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(header, payload, &mut bytes);
    bytes
}

#[test]
fn the_bytes_of_a_frame_are_as_drawn() {
    let bytes = frame_of(HEADER, b"row");
    assert_eq!(bytes[..4], [0x4D, 0x53, 1, 1]);
    assert_eq!(bytes[4..8], [3, 0, 0, 0]);
    assert_eq!(bytes[8..16], [4, 3, 2, 1, 8, 7, 6, 5]);
    assert_eq!(bytes[16..24], [0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]);
    assert_eq!(bytes[24..28], [0x22, 0x21, 0, 0]);
    let crc = crc32fast::hash(&[&bytes[..28], &bytes[32..]].concat());
    assert_eq!(bytes[28..32], crc.to_le_bytes());
    assert_eq!(bytes[32..], *b"row\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn a_stranger_is_told_from_a_node() {
    let check = |at: usize, byte: u8, expected: FrameError| {
        let mut bytes = frame_of(HEADER, b"row");
        bytes[at] = byte;
        assert_eq!(decode(&bytes), Err(expected));
    };
    check(0, b'G', FrameError::Magic { found: *b"GS" });
    check(2, 2, FrameError::Version { found: 2 });
    check(3, 7, FrameError::Kind { found: 7 });
    check(7, 1, FrameError::Length { found: 0x0100_0003 });
}

#[test]
fn a_frame_with_a_right_checksum_and_wrong_zeros_is_refused() {
    for at in [26, 27, 35, 47] {
        let mut bytes = frame_of(HEADER, b"row");
        bytes[at] = 1;
        let crc = checksum(&bytes);
        bytes[CRC_AT..FRAME_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode(&bytes), Err(FrameError::Padding), "byte {at}");
    }
}

fn headers() -> impl Strategy<Value = FrameHeader> {
    let kinds = proptest::sample::select(FrameKind::ALL.to_vec());
    let fields = (kinds, any::<u32>(), any::<u32>(), any::<u64>(), any::<u16>());
    fields.prop_map(|(kind, channel, credit, sequence, flags)| FrameHeader {
        kind,
        channel,
        credit,
        sequence,
        flags,
    })
}

fn frames() -> impl Strategy<Value = Vec<(FrameHeader, Vec<u8>)>> {
    vec((headers(), vec(any::<u8>(), 0..100)), 1..8)
}

proptest! {
    /// Frames that were written one behind the other are read as they were, wherever the stream is
    /// cut meanwhile, and each begins aligned.
    #[test]
    fn a_stream_of_frames_is_read_as_it_was_written(frames in frames(), cut in 1_usize..200) {
        let mut stream = Vec::new();
        for (header, payload) in &frames {
            encode(*header, payload, &mut stream);
        }
        let (mut read, mut at, mut arrived) = (Vec::new(), 0, 0);
        while at < stream.len() {
            prop_assert!(at.is_multiple_of(FRAME_ALIGN_BYTES));
            match decode(&stream[at..arrived]).expect("nothing is damaged") {
                Decoded::Incomplete { needed } => {
                    prop_assert!(arrived - at < needed, "what is there was asked for");
                    prop_assert!(at + needed <= stream.len(), "more was asked for than there is");
                    arrived = (arrived + cut).min(stream.len());
                }
                Decoded::Frame { header, payload, size } => {
                    read.push((header, payload.to_vec()));
                    at += size;
                }
            }
        }
        prop_assert_eq!(read, frames);
    }

    /// No flipped bit goes unnoticed: the frame is refused, or it is longer now and not yet whole.
    #[test]
    fn a_flipped_bit_never_passes(
        header in headers(),
        payload in vec(any::<u8>(), 0..100),
        at in any::<prop::sample::Index>(),
        bit in 0_u32..8,
    ) {
        let mut bytes = frame_of(header, &payload);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        let passes = matches!(decode(&bytes), Ok(Decoded::Frame { .. }));
        prop_assert!(!passes, "bit {} of byte {}", bit, at);
    }

    /// Any bytes at all: no panic, no request for more than a frame may have, and whatever passes
    /// is what would be written.
    #[test]
    fn any_bytes_are_refused_or_are_a_frame(mut bytes in vec(any::<u8>(), 0..200), is_ours: bool) {
        if is_ours && bytes.len() >= 3 {
            bytes[..3].copy_from_slice(&[MAGIC[0], MAGIC[1], VERSION]);
        }
        match decode(&bytes) {
            Ok(Decoded::Incomplete { needed }) => {
                prop_assert!(bytes.len() < needed);
                prop_assert!(needed <= size_of_frame(FRAME_PAYLOAD_BYTES_MAX));
            }
            Ok(Decoded::Frame { header, payload, size }) => {
                prop_assert_eq!(frame_of(header, payload), &bytes[..size]);
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
