//! Texts of records: slices of one fixed pool of letters.

use std::sync::LazyLock;

use super::draw::{Draw, mix64, scale};

/// Bytes in the pool.
const POOL_BYTES: usize = 1 << 16;

/// A drawn text begins at least this far before the pool's end.
const TAIL_BYTES: usize = 1024;

/// Lower-case letters; the same for all streams. Made once a process, in some 100 µs.
static POOL: LazyLock<String> = LazyLock::new(|| {
    let letter = |i: u64| char::from(b'a' + scale(mix64(i + 1), 26) as u8);
    (0..POOL_BYTES as u64).map(letter).collect()
});

/// `len` letters of the pool from `offset` on.
pub(super) fn letters(offset: usize, len: usize) -> &'static str {
    &POOL[offset..offset + len]
}

/// `len` letters from anywhere. One draw.
pub(super) fn text(draw: &mut Draw, len: usize) -> &'static str {
    assert!(len <= TAIL_BYTES, "a text of {len} bytes may reach beyond the pool");
    let offset = draw.below((POOL_BYTES - TAIL_BYTES) as u64) as usize;
    letters(offset, len)
}

/// At least three and fewer than `max_len` letters. Two draws.
pub(super) fn short_text(draw: &mut Draw, max_len: u64) -> &'static str {
    let len = 3 + draw.below(max_len - 3);
    text(draw, len as usize)
}

/// Letters that bring a record of `current_bytes` to about `target_bytes`: within a fifth of what
/// is missing. No draw if nothing is missing.
pub(super) fn padding(draw: &mut Draw, current_bytes: usize, target_bytes: usize) -> &'static str {
    let missing = target_bytes.saturating_sub(current_bytes) as u64;
    if missing == 0 {
        return "";
    }
    let slack = missing / 5;
    let spread = if slack == 0 { 0 } else { draw.below(2 * slack) };
    text(draw, (missing - slack + spread) as usize)
}

/// Appends `value` in decimal, with at least `width` digits.
pub(super) fn push_decimal(text: &mut String, value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut rest = value;
    let mut start = digits.len();
    while rest > 0 {
        start -= 1;
        digits[start] += (rest % 10) as u8;
        rest /= 10;
    }
    let start = start.min(digits.len() - width);
    text.extend(digits[start..].iter().map(|digit| char::from(*digit)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_begins_as_specified() {
        assert_eq!(letters(0, 32), "iwdssvbvnaffwdawezxbvzfvvxfwiair");
    }

    #[test]
    fn decimals_are_padded_with_zeros() {
        let decimal = |value, width| {
            let mut text = String::new();
            push_decimal(&mut text, value, width);
            text
        };
        assert_eq!([decimal(0, 1), decimal(7, 4), decimal(12345, 4)], ["0", "0007", "12345"]);
        assert_eq!(decimal(u64::MAX, 1), u64::MAX.to_string());
    }
}
