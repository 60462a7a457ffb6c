//! Keys, values and the order in which they are used: the same for all stores.

use millstream_bench::mix;
use millstream_bench::zipf::Zipf;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;

/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 96;

/// A value: twelve numbers, of which three change; the others do not compress.
pub(crate) type Value = [u64; VALUE_BYTES / 8];

/// Which numbers of a value change.
pub(crate) const CHANGING: [usize; 3] = [0, 5, 11];

pub(crate) const KEY_GROUP_COUNT: u32 = 128;

/// A key with its hash, which comes with the record for all stores.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keyed {
    pub(crate) hash64: u64,
    pub(crate) key: [u8; KEY_BYTES],
}

impl Keyed {
    pub(crate) fn new(number: u64) -> Self {
        let mut key = [0; KEY_BYTES];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key[8..].copy_from_slice(&mix(!number).to_le_bytes());
        Self { hash64: hash_of(&key), key }
    }

    /// The value that it begins with.
    pub(crate) fn value(&self) -> Value {
        let mut value: Value = std::array::from_fn(|i| mix(self.hash64 ^ i as u64));
        for i in CHANGING {
            value[i] = 0;
        }
        value
    }
}

/// The hash of a key, for a table that grows.
pub(crate) fn hash_of(key: &[u8; KEY_BYTES]) -> u64 {
    mix(u64::from_le_bytes(key[..8].try_into().expect("eight bytes")))
}

/// What an update does.
#[inline]
pub(crate) fn change(value: &mut Value) {
    for i in CHANGING {
        value[i] = value[i].wrapping_add(1);
    }
}

/// What an update does to the value's bytes.
#[inline]
pub(crate) fn change_bytes(value: &mut [u8]) {
    let (numbers, _) = value.as_chunks_mut::<8>();
    let numbers: &mut [_; VALUE_BYTES / 8] = numbers.try_into().expect("a value's length");
    for i in CHANGING {
        numbers[i] = u64::from_le_bytes(numbers[i]).wrapping_add(1).to_le_bytes();
    }
}

/// A value as bytes.
pub(crate) fn bytes_of(value: &Value) -> [u8; VALUE_BYTES] {
    let mut bytes = [0; VALUE_BYTES];
    for (bytes, number) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(value) {
        *bytes = number.to_le_bytes();
    }
    bytes
}

/// The first number of a value's bytes.
pub(crate) fn first_number(value: &[u8]) -> u64 {
    u64::from_le_bytes(value[..8].try_into().expect("a value begins with a number"))
}

/// Which keys come how often.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pick {
    Uniform(u64),
    Zipf(Zipf, u64),
}

impl Pick {
    pub(crate) fn both(key_count: u64) -> [Self; 2] {
        [Self::Uniform(key_count), Self::Zipf(Zipf::new(key_count), key_count)]
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Uniform(_) => "uniform",
            Self::Zipf(..) => "zipf 0.99",
        }
    }

    /// The `i`th key's number.
    pub(crate) fn number(&self, i: u64) -> u64 {
        match self {
            Self::Uniform(count) => mix(i) % count,
            // Frequent keys are not beside each other.
            Self::Zipf(zipf, count) => mix(!zipf.rank(i)) % count,
        }
    }
}
