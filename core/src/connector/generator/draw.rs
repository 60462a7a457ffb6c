//! Numbers that look random: a counter-based generator.
//!
//! The draws of record `n` begin at a state computed from `n` alone, so any record can be made
//! without making those before it. All arithmetic wraps; there is no floating point.

/// The increment of the sequence: 2^64 divided by the golden ratio, odd.
pub const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// Mixes all bits of `z` into all bits of the result (a bijection).
#[inline]
pub const fn mix64(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Scales the upper half of `bits` to `0..bound`.
#[inline]
pub const fn scale(bits: u64, bound: u64) -> u64 {
    ((bits >> 32) * bound) >> 32
}

/// The draws of one record.
#[derive(Debug, Clone)]
pub struct Draw {
    state: u64,
}

impl Draw {
    /// The draws of record `n` of the stream `seed`.
    #[inline]
    pub const fn of_record(seed: u64, n: u64) -> Self {
        Self { state: mix64(seed.wrapping_add(n.wrapping_add(1).wrapping_mul(GAMMA))) }
    }

    /// 64 bits.
    #[inline]
    pub const fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix64(self.state)
    }

    /// Uniform in `0..bound`, with 1 <= `bound` < 2^31. One draw.
    #[inline]
    pub const fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(0 < bound && bound < 1 << 31);
        scale(self.bits(), bound)
    }

    /// An amount whose order of magnitude is uniform: `100 * 10^i` for `i` in `0..magnitudes`, and
    /// up to ten times that. Two draws.
    #[inline]
    pub const fn amount(&mut self, magnitudes: u64) -> u64 {
        let least = 100 * 10_u64.pow(self.below(magnitudes) as u32);
        least + self.below(9 * least)
    }
}
