//! The stored key: one byte string that orders the keyed state of an operator.
//!
//! ```text
//! │ key group │ state id │ window bucket │ hash64  │
//! │  2 bytes  │ 2 bytes  │    8 bytes    │ 8 bytes │
//!
//!       │ key length │ key │ namespace length │ namespace │ map key │
//!       │   4 bytes  │     │      4 bytes     │           │  rest   │
//! ```
//!
//! All numbers big endian; the window bucket is a signed time with its sign bit flipped, so that
//! bytes order as times do. A range of key groups, a state, and a window of a state are each one
//! contiguous range of bytes. Within that, entries are in hash order. Only map keys are meant to
//! order by their bytes; equality always compares everything.
//!
//! State ids count from 0 within an operator, and snapshots keep the entries of each operator
//! apart. A store that holds those of several operators needs numbers that are unique in the job:
//! it has to give them, and to keep them, with the operators' uids.

/// The parts of a stored key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredKey<'a> {
    /// Key group of the hash.
    pub key_group: u16,
    /// Which state of the operator.
    pub state_id: u16,
    /// End of the window (ms) for state that dies with a window; 0 otherwise.
    pub window_bucket: i64,
    /// Hash of the archived key.
    pub hash64: u64,
    /// The archived key.
    pub key: &'a [u8],
    /// A name within the key: a session's window, a timer's time; often empty.
    pub namespace: &'a [u8],
    /// The key of a map's entry, the position of a list's; empty otherwise.
    pub map_key: &'a [u8],
}

const FIXED_BYTES: usize = 2 + 2 + 8 + 8;
const SIGN: u64 = 1 << 63;

impl<'a> StoredKey<'a> {
    /// The bytes.
    ///
    /// # Panics
    /// If key or namespace are 4 GiB or longer; rows are limited to far less.
    pub fn encode(&self) -> Vec<u8> {
        let len = FIXED_BYTES + 8 + self.key.len() + self.namespace.len() + self.map_key.len();
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&self.key_group.to_be_bytes());
        bytes.extend_from_slice(&self.state_id.to_be_bytes());
        bytes.extend_from_slice(&(self.window_bucket as u64 ^ SIGN).to_be_bytes());
        bytes.extend_from_slice(&self.hash64.to_be_bytes());
        for part in [self.key, self.namespace] {
            let len = u32::try_from(part.len()).expect("a row is far smaller than 4 GiB");
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(self.map_key);
        bytes
    }

    /// The parts of `bytes`, or `None` if they are too short for their own lengths.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (key_group, rest) = bytes.split_first_chunk()?;
        let (state_id, rest) = rest.split_first_chunk()?;
        let (window_bucket, rest) = rest.split_first_chunk()?;
        let (hash64, rest) = rest.split_first_chunk()?;
        let (key, rest) = split_part(rest)?;
        let (namespace, map_key) = split_part(rest)?;
        Some(Self {
            key_group: u16::from_be_bytes(*key_group),
            state_id: u16::from_be_bytes(*state_id),
            window_bucket: (u64::from_be_bytes(*window_bucket) ^ SIGN) as i64,
            hash64: u64::from_be_bytes(*hash64),
            key,
            namespace,
            map_key,
        })
    }
}

/// Whether `bytes` are what follows the hash in a stored key.
pub(crate) fn is_behind_hash(bytes: &[u8]) -> bool {
    split_part(bytes).is_some_and(|(_, rest)| split_part(rest).is_some())
}

fn split_part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_survives_its_bytes(
            (key_group, state_id, window_bucket, hash64) in any::<(u16, u16, i64, u64)>(),
            key: Vec<u8>, namespace: Vec<u8>, map_key: Vec<u8>,
        ) {
            let stored = StoredKey {
                key_group, state_id, window_bucket, hash64,
                key: &key, namespace: &namespace, map_key: &map_key,
            };
            let bytes = stored.encode();
            prop_assert_eq!(StoredKey::decode(&bytes), Some(stored));
        }

        /// Bytes order by key group, then state, then window, then hash.
        #[test]
        fn bytes_order_as_the_fixed_parts_do(
            a in any::<(u16, u16, i64, u64)>(), b in any::<(u16, u16, i64, u64)>(),
        ) {
            let encode = |(key_group, state_id, window_bucket, hash64)| StoredKey {
                key_group, state_id, window_bucket, hash64, key: &[], namespace: &[], map_key: &[],
            }.encode();
            prop_assert_eq!(encode(a).cmp(&encode(b)), a.cmp(&b));
        }

        #[test]
        fn a_cut_key_is_refused(cut in 0_usize..28) {
            let stored = StoredKey {
                key_group: 1, state_id: 2, window_bucket: 3, hash64: 4,
                key: &[], namespace: &[], map_key: &[],
            };
            let bytes = stored.encode();
            prop_assert_eq!(StoredKey::decode(&bytes[..cut]), None);
        }
    }
}
