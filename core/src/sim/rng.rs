//! Randomness with a seed: the only source of chance in a simulated run.
//!
//! xoshiro256** (Blackman and Vigna), its state filled by `SplitMix64` from a seed of 64 bits. Each
//! part of the world takes a [`Rng::fork`] of its own. A fork depends on the seed and the label
//! only, so a part that draws one number more does not change what the other parts draw.
//!
//! Not here: anything that must not be guessed; this is for repeatable tests.

use std::ops::Range;
use std::time::Duration;

/// A stream of random numbers. Equal seeds give equal streams, on every machine.
#[derive(Debug, Clone)]
pub struct Rng {
    /// What the stream was made from; forks are made from it as well.
    seed: u64,
    state: [u64; 4],
}

/// How probable something is: `numerator` times out of `denominator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance {
    /// How often it happens.
    pub numerator: u64,
    /// Out of how many times. Greater than zero.
    pub denominator: u64,
}

impl Chance {
    /// It does not happen.
    pub const NEVER: Self = Self { numerator: 0, denominator: 1 };
    /// It happens each time.
    pub const ALWAYS: Self = Self { numerator: 1, denominator: 1 };

    /// It happens once in `count` times, on average.
    pub const fn one_in(count: u64) -> Self {
        Self { numerator: 1, denominator: count }
    }
}

impl Default for Chance {
    fn default() -> Self {
        Self::NEVER
    }
}

impl Rng {
    /// The stream that `seed` names.
    pub fn new(seed: u64) -> Self {
        let mut mix = seed;
        Self { seed, state: std::array::from_fn(|_| split_mix(&mut mix)) }
    }

    /// A stream of its own for the part of the world that `label` names.
    ///
    /// Depends on the seed and the label, not on what was drawn so far; different labels give
    /// different seeds.
    pub fn fork(&self, label: u64) -> Self {
        let mut seed = self.seed;
        let mut mixed = split_mix(&mut seed) ^ label;
        Self::new(split_mix(&mut mixed))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let state = &mut self.state;
        let result = state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        result
    }

    /// A number in `0..n`. Consumes one draw; off from uniform by less than `n / 2^64`.
    ///
    /// # Panics
    /// If `n` is zero: there is no such number.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(0 < n, "no number is below zero");
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A number of `range`.
    ///
    /// # Panics
    /// If `range` is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "no number is in {range:?}");
        range.start + self.below(range.end - range.start)
    }

    /// Whether something happens that happens `numerator` times out of `denominator`.
    ///
    /// # Panics
    /// If `denominator` is zero.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// Whether it happens this time.
    pub fn draw(&mut self, chance: Chance) -> bool {
        self.chance(chance.numerator, chance.denominator)
    }

    /// A duration of `range`, to the nanosecond; the start of a range that is empty.
    pub fn duration(&mut self, range: &Range<Duration>) -> Duration {
        let span = range.end.saturating_sub(range.start);
        let span_ns = u64::try_from(span.as_nanos()).expect("a duration under 584 years");
        range.start + Duration::from_nanos(self.below(span_ns.max(1)))
    }
}

/// One step of `SplitMix64` (Steele, Lea and Flood).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that the authors of the two algorithms publish.
    #[test]
    fn published_vectors_hold() {
        let mut mix = 1_234_567;
        let mixed: Vec<u64> = (0..3).map(|_| split_mix(&mut mix)).collect();
        assert_eq!(
            mixed,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );

        let mut rng = Rng { seed: 0, state: [1, 2, 3, 4] };
        let drawn: Vec<u64> = (0..6).map(|_| rng.next_u64()).collect();
        assert_eq!(
            drawn,
            [
                11_520,
                0,
                1_509_978_240,
                1_215_971_899_390_074_240,
                1_216_172_134_540_287_360,
                607_988_272_756_665_600
            ]
        );
    }

    /// A scenario that was kept with its seed must stay the same scenario.
    #[test]
    fn a_seed_names_the_same_numbers_forever() {
        let mut rng = Rng::new(7);
        let mut fork = rng.fork(1);
        assert_eq!(
            [rng.next_u64(), rng.next_u64()],
            [12_923_355_070_828_475_994, 5_142_052_590_334_782_674]
        );
        assert_eq!(
            [fork.next_u64(), fork.next_u64()],
            [18_113_427_462_276_862_724, 16_502_764_883_647_158_253]
        );
    }

    #[test]
    fn a_fork_does_not_depend_on_what_was_drawn() {
        let mut rng = Rng::new(3);
        let mut before = rng.fork(9);
        rng.next_u64();
        assert_eq!(before.next_u64(), rng.fork(9).next_u64());
        assert_ne!(rng.fork(9).next_u64(), rng.fork(10).next_u64());
        assert_ne!(rng.fork(1).fork(2).next_u64(), rng.fork(2).fork(1).next_u64());
    }

    #[test]
    fn draws_stay_in_their_range_and_reach_all_of_it() {
        let mut rng = Rng::new(1);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[(rng.range(10..15) - 10) as usize] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert!((0..100).all(|_| rng.draw(Chance::ALWAYS) && !rng.draw(Chance::NEVER)));
        let hits = (0..10_000).filter(|_| rng.draw(Chance::one_in(4))).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
    }

    #[test]
    fn an_empty_range_of_durations_is_its_start() {
        let at = Duration::from_millis(3);
        assert_eq!(Rng::new(1).duration(&(at..at)), at);
        let drawn = Rng::new(1).duration(&(at..2 * at));
        assert!(at <= drawn && drawn < 2 * at);
    }
}
