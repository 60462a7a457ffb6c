//! The filter of a block: Bloom filters of one cache line each.
//!
//! A key's bits are all in one line, so that asking costs one miss. With ten bits a key and seven
//! probes, about one absent key in a hundred passes. Keys are hashes already; they are only mixed,
//! since the upper bits of all keys of a key group are equal.

/// One cache line.
pub(super) const LINE_BYTES: usize = 64;

const LINE_BITS: usize = LINE_BYTES * 8;
const BITS_PER_KEY: usize = 10;
const PROBE_COUNT: u32 = 7;
const PROBE_BITS: u32 = LINE_BITS.ilog2();
const _: () = assert!(PROBE_COUNT * PROBE_BITS <= u64::BITS);

/// Appends the lines for `hashes` to `lines`: as many as they need if all are different.
pub(super) fn append(hashes: &[u64], lines: &mut Vec<u8>) {
    let begin = lines.len();
    let line_count = (hashes.len() * BITS_PER_KEY).div_ceil(LINE_BITS);
    lines.resize(begin + line_count * LINE_BYTES, 0);
    for hash in hashes {
        let (line, bits) = place(*hash, line_count);
        let at = begin + line * LINE_BYTES;
        for bit in bits {
            lines[at + bit / 8] |= 1 << (bit % 8);
        }
    }
}

/// Whether `hash` may be among those of `lines`. Without lines nothing is known.
pub(super) fn may_contain(lines: &[u8], hash: u64) -> bool {
    if lines.is_empty() {
        return true;
    }
    let (line, mut bits) = place(hash, lines.len() / LINE_BYTES);
    let at = line * LINE_BYTES;
    bits.all(|bit| lines[at + bit / 8] & (1 << (bit % 8)) != 0)
}

/// The line of `hash` and its bits in there.
fn place(hash: u64, line_count: usize) -> (usize, impl Iterator<Item = usize>) {
    let mixed = mix(hash);
    let line = ((mixed >> 32) * line_count as u64) >> 32;
    let probes = mix(mixed);
    let bits = (0..PROBE_COUNT)
        .map(move |probe| (probes >> (probe * PROBE_BITS)) as usize & (LINE_BITS - 1));
    (line as usize, bits)
}

/// The finalizer of `SplitMix64`.
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(|number| mix(number) >> 7)
    }

    #[test]
    fn what_was_put_in_is_found_and_little_else() {
        for count in [1_usize, 31, 52, 100, 1000] {
            let mut lines = vec![7; 3];
            let inside: Vec<u64> = hashes(count as u64).collect();
            append(&inside, &mut lines);
            let lines = &lines[3..];
            assert_eq!(lines.len(), (count * BITS_PER_KEY).div_ceil(LINE_BITS) * LINE_BYTES);
            assert!(inside.iter().all(|hash| may_contain(lines, *hash)));
            let outside = hashes(11_000).skip(1000).filter(|hash| may_contain(lines, *hash));
            let passed = outside.count();
            assert!(passed < 250, "{passed} of 10,000 absent keys pass with {count} keys");
        }
    }

    #[test]
    fn without_lines_everything_may_be_there() {
        assert!(may_contain(&[], 1));
    }
}
