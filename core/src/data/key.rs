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

    #[test]
    fn a_long_key_hashes_its_archive() {
        let key = "x".repeat(1000);
        assert_eq!(key.hash64(), xxhash_rust::xxh3::xxh3_64(&key.archive()));
    }
}
