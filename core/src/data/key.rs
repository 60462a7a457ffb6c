//! Keys and the one hash that serves routing, key group, index and filter.
//!
//! `hash64` is xxh3-64 of the archived key. It is stable for ever: files name hash ranges, so a
//! change would orphan them. The golden vectors below pin both the hash and the archives.
//!
//! Not here: which shard owns a hash (`key_group.rs`).

use rkyv::Serialize;
use rkyv::api::low::LowSerializer;
use rkyv::api::serialize_using;
use rkyv::rancor::Failure;
use rkyv::ser::Serializer;
use rkyv::ser::allocator::SubAllocator;
use rkyv::ser::writer::Buffer as SliceWriter;
use rkyv::util::Align;
use std::fmt::Debug;
use std::mem::MaybeUninit;

use crate::data::record::Record;

/// A type that records can be keyed by: a [`Record`] with equality.
///
/// Equality must be that of the archives: values that are equal give equal bytes.
pub trait Key: Record + Eq + Debug {
    /// xxh3-64 of the archived key.
    fn hash64(&self) -> u64;
}

type KeyEncoder<'a> = LowSerializer<SliceWriter<'a>, SubAllocator<'a>, Failure>;

/// A key whose archive is at most this long is hashed without touching the heap.
const INLINE_BYTES: usize = 128;

impl<K> Key for K
where
    K: Record + Eq + Debug,
    K: for<'a> Serialize<KeyEncoder<'a>>,
{
    #[inline]
    fn hash64(&self) -> u64 {
        let mut bytes = Align([0_u8; INLINE_BYTES]);
        let mut scratch = [MaybeUninit::<u8>::uninit(); INLINE_BYTES];
        let writer = SliceWriter::from(bytes.0.as_mut_slice());
        let mut encoder = Serializer::new(writer, SubAllocator::new(&mut scratch), ());
        match serialize_using::<_, Failure>(self, &mut encoder) {
            Ok(_) => {
                let len = encoder.into_writer().len();
                xxhash_rust::xxh3::xxh3_64(&bytes.0[..len])
            }
            Err(Failure) => xxhash_rust::xxh3::xxh3_64(&self.archive()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with the reference implementation's Python binding (`xxhash` 3) over the bytes
    /// given; never to be changed.
    fn check(key: &impl Key, archived: &[u8], hash64: u64) {
        assert_eq!(key.archive().as_slice(), archived, "archive of {key:?}");
        assert_eq!(key.hash64(), hash64, "hash of {key:?}");
    }

    #[test]
    fn golden_vectors() {
        check(&0_u64, &[0, 0, 0, 0, 0, 0, 0, 0], 0xc77b_3abb_6f87_acd9);
        check(&1_u64, &[1, 0, 0, 0, 0, 0, 0, 0], 0x2fbc_5935_64db_792e);
        check(&u64::MAX, &[255, 255, 255, 255, 255, 255, 255, 255], 0x5111_c7e4_7d78_4413);
        check(&42_u32, &[42, 0, 0, 0], 0x2132_b648_14a1_ad5d);
        check(&-7_i64, &[249, 255, 255, 255, 255, 255, 255, 255], 0xcded_dd5c_0859_7fb4);
        check(
            &(1_u32, 2_u64),
            &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
            0x07ee_86c2_8144_6bef,
        );
        check(&"EWR".to_string(), &[69, 87, 82, 255, 255, 255, 255, 255], 0x2dbd_dcf6_c643_d6c1);
    }

    #[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    enum Device {
        Unknown,
        Phone(u32),
        Named { name: String },
    }

    #[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct Card {
        bank: u16,
        number: u64,
        holder: String,
    }

    /// Text that is not inline: the text, filled up to 4, its length (the lowest 6 bits, a mark,
    /// the others), and how far back it begins.
    fn out_of_line(text: &str, len: u32, offset: i32) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(text.len().next_multiple_of(4), 0);
        bytes.extend(len.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes
    }

    #[test]
    fn golden_vectors_of_texts() {
        check(&String::new(), &[255; 8], 0x5111_c7e4_7d78_4413);
        let merchant = "a merchant in Newark".to_string();
        check(&merchant, &out_of_line(&merchant, 0x94, -20), 0x77a2_6219_42f6_7fe4);
        let long = "x".repeat(300);
        check(&long, &out_of_line(&long, 0x4ac, -300), 0x24b0_8446_e14c_363b);
        check(
            &(1_u64, "EWR".to_string()),
            &[1, 0, 0, 0, 0, 0, 0, 0, 69, 87, 82, 255, 255, 255, 255, 255],
            0xe16c_11de_9671_73e7,
        );
    }

    #[test]
    fn golden_vectors_of_enums_and_structs() {
        check(&None::<u32>, &[0; 8], 0xc77b_3abb_6f87_acd9);
        check(&Some(7_u32), &[1, 0, 0, 0, 7, 0, 0, 0], 0x81a8_a993_914e_196a);
        check(&Device::Unknown, &[0; 12], 0xc499_8f91_69c2_a4f0);
        check(&Device::Phone(9), &[1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0], 0x308b_d485_def8_c2a4);
        check(
            &Device::Named { name: "EWR".to_string() },
            &[2, 0, 0, 0, 69, 87, 82, 255, 255, 255, 255, 255],
            0x506b_0e09_23bc_db97,
        );
        let card = Card { bank: 3, number: 5, holder: "a long holder".to_string() };
        let mut archived = out_of_line(&card.holder, 0, 0);
        archived[16..].copy_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0]);
        archived.extend([5, 0, 0, 0, 0, 0, 0, 0, 0x8d, 0, 0, 0]);
        archived.extend((-32_i32).to_le_bytes());
        check(&card, &archived, 0x780a_0572_cc0f_6ad2);
    }

    /// The hash treats 1-3, 4-8, 9-16, 17-128, 129-240 and more bytes each in a way of its own; the
    /// second and third are those of the first test.
    #[test]
    fn golden_vectors_of_every_length_class() {
        check(&7_u8, &[7], 0x4c5c_ca45_d0f4_811f);
        check(&0x0201_u16, &[1, 2], 0x0813_0b77_ddef_5807);
        check(&[1_u8, 2, 3], &[1, 2, 3], 0xebce_9b76_32ae_733b);
        let ones = |count: usize| [1, 0, 0, 0, 0, 0, 0, 0].repeat(count);
        check(&[1_u64; 8], &ones(8), 0xb7e5_7a96_3aba_baa8);
        check(&[1_u64; 20], &ones(20), 0x0578_21fa_2540_e934);
        check(&[1_u64; 40], &ones(40), 0x7dc1_b079_2439_b867);
    }

    #[test]
    fn a_long_key_hashes_its_archive() {
        let key = "x".repeat(1000);
        assert_eq!(key.hash64(), xxhash_rust::xxh3::xxh3_64(&key.archive()));
    }
}
