//! What the benchmarks share: a stopwatch inside the job, contests, and what the system says.
//!
//! Not here: the benchmarks (`bin/`), what they have shown (`RESULTS.md`).

pub mod contest;
pub mod process;
#[cfg(feature = "peers")]
pub mod rocksdb;
pub mod stopwatch;
pub mod table;
pub mod watch;
pub mod zipf;

/// The splitmix64 generator's `i`th number.
#[inline]
pub fn mix(i: u64) -> u64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
