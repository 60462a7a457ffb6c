//! Checksums of results that do not depend on the order of rows.
//!
//! A row is hashed field by field; the checksum is the wrapping sum of the row hashes, so results
//! of any parallelism compare equal, and a retracted row is a subtraction.

use std::fmt;

use super::draw::{GAMMA, mix64};

/// Folds one field into a row's hash.
#[inline]
pub const fn fold(hash: u64, field: u64) -> u64 {
    mix64((hash ^ field).wrapping_add(GAMMA))
}

/// Hash of a row: its fields folded in order, starting from 0.
#[inline]
pub fn hash<const N: usize>(fields: [u64; N]) -> u64 {
    fields.into_iter().fold(0, fold)
}

/// What a text counts for in a hash: its length in bytes and its first byte; 0 if it is empty.
#[inline]
pub fn tag(text: &str) -> u64 {
    text.bytes().next().map_or(0, |first| (text.len() as u64) << 8 | u64::from(first))
}

/// The order-independent checksum of a result. Printed as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum(pub u64);

impl Checksum {
    /// Adds a row.
    #[inline]
    pub const fn add(&mut self, row_hash: u64) {
        self.0 = self.0.wrapping_add(row_hash);
    }

    /// Takes a row back.
    #[inline]
    pub const fn retract(&mut self, row_hash: u64) {
        self.0 = self.0.wrapping_sub(row_hash);
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_text_has_tag_zero_and_others_their_length_and_first_byte() {
        assert_eq!([tag(""), tag("a"), tag("url")], [0, 0x161, 0x375]);
    }

    #[test]
    fn order_does_not_matter_and_a_retracted_row_leaves_no_trace() {
        let (mut left, mut right) = (Checksum::default(), Checksum::default());
        (1..=3).for_each(|field| left.add(hash([field])));
        (1..=4).rev().for_each(|field| right.add(hash([field])));
        right.retract(hash([4]));
        assert_eq!(left.to_string(), right.to_string());
    }
}
