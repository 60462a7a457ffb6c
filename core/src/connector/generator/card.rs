//! Card transactions: which account pays how much to which merchant.
//!
//! Accounts are drawn log-uniformly by octaves of rank (a Zipf distribution with exponent 1, made
//! of steps) or uniformly. A *sweep* first touches every account in turn, so that a measurement can
//! begin with all state in place.
//!
//! Not here: splits and pacing (`source.rs`).

use super::checksum::hash;
use super::draw::{Draw, GAMMA, mix64};
use super::source::{Generate, GeneratorSource};

/// Seed of the stream.
pub const SEED: u64 = 0x4652_4155_445F_5631;

/// Merchants of the stream.
pub const MERCHANT_COUNT: u64 = 1000;

/// One payment.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize
)]
pub struct CardTransaction {
    /// Number in the stream.
    pub n: u64,
    /// Whose card; below 2^63.
    pub account: u64,
    /// Who is paid: `0..1000`.
    pub merchant: u64,
    /// Cents.
    pub amount: u64,
    /// When the record was due, ns since the host's start; 0 without pacing. Latency is measured
    /// from here, whatever delayed the record.
    pub due_ns: u64,
}

impl CardTransaction {
    /// A hash of what was drawn, to compare two generators.
    pub fn content_hash(&self) -> u64 {
        hash([self.n, self.account, self.merchant, self.amount])
    }
}

/// How accounts are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Each octave of ranks equally likely.
    Zipf,
    /// Each account equally likely.
    Uniform,
}

/// Makes the records of the stream.
#[derive(Debug, Clone, Copy)]
pub struct CardGenerator {
    account_count: u64,
    distribution: Distribution,
    sweep_count: u64,
}

impl CardGenerator {
    /// `account_count` accounts; the first `sweep_count` records take them in turn.
    ///
    /// # Panics
    /// If `account_count` is not in `2..2^31`.
    pub const fn new(account_count: u64, distribution: Distribution, sweep_count: u64) -> Self {
        assert!(1 < account_count && account_count < 1 << 31, "2 to 2^31 - 1 accounts");
        Self { account_count, distribution, sweep_count }
    }

    /// Record `n`, without a due time.
    #[inline]
    pub const fn record(&self, n: u64) -> CardTransaction {
        let mut draw = Draw::of_record(SEED, n);
        let rank = self.rank(n, &mut draw);
        let account = mix64(rank.wrapping_add(GAMMA)) >> 1;
        let merchant = draw.below(MERCHANT_COUNT);
        let amount = draw.amount(4);
        CardTransaction { n, account, merchant, amount, due_ns: 0 }
    }

    const fn rank(&self, n: u64, draw: &mut Draw) -> u64 {
        let count = self.account_count;
        if n < self.sweep_count {
            draw.bits();
            return n % count;
        }
        match self.distribution {
            Distribution::Uniform => draw.below(count),
            Distribution::Zipf => {
                let octave_count = (u64::BITS - (count - 1).leading_zeros()) as u64;
                let octave = 1 << draw.below(octave_count);
                let rank = octave + draw.below(octave) - 1;
                // The last octave may reach beyond the last account.
                if rank < count { rank } else { rank - count }
            }
        }
    }
}

impl Generate for CardGenerator {
    type Out = CardTransaction;

    #[inline]
    fn make(&mut self, n: u64, due_ns: u64) -> (i64, CardTransaction) {
        (crate::data::row::NO_EVENT_TIME, CardTransaction { due_ns, ..self.record(n) })
    }

    fn describe(&self) -> String {
        let distribution = match self.distribution {
            Distribution::Zipf => "zipf",
            Distribution::Uniform => "uniform",
        };
        format!("card transactions, {} accounts, {distribution}", self.account_count)
    }
}

/// The stream as a source.
pub type CardSource = GeneratorSource<CardGenerator>;

impl CardSource {
    /// The first `count` records (`u64::MAX`: without end) of `generator`.
    pub fn first(count: u64, generator: CardGenerator) -> Self {
        Self::of(count, generator)
    }
}

/// What the fraud job keeps of an account: 100 bytes, zero at first.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize
)]
pub struct AccountState {
    /// Transactions seen.
    pub count: u64,
    /// Sum of their amounts, cents.
    pub sum: u64,
    /// Greatest amount, cents.
    pub max_amount: u64,
    /// Number of the last transaction.
    pub last_n: u64,
    /// Where the next amount goes in [`AccountState::last`].
    pub next: u32,
    /// The last eight amounts, cents.
    pub last: [u64; 8],
}

impl AccountState {
    /// How unusual `amount` is for the account, per mille; then counts it in.
    pub fn score(&mut self, n: u64, amount: u64) -> u64 {
        let recent_count = self.count.min(8);
        let mean = self.sum.checked_div(self.count).unwrap_or(amount);
        let recent_sum = self.last.iter().sum::<u64>();
        let recent_mean = recent_sum.checked_div(recent_count).unwrap_or(amount);
        let against_all = amount * 1000 / mean.max(1);
        let against_recent = amount * 1000 / recent_mean.max(1);
        let record = if amount > self.max_amount { 500 } else { 0 };

        self.count += 1;
        self.sum += amount;
        self.max_amount = self.max_amount.max(amount);
        self.last_n = n;
        self.last[self.next as usize] = amount;
        self.next = (self.next + 1) & 7;
        against_all + against_recent + record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::generator::Checksum;

    const ZIPF: CardGenerator = CardGenerator::new(100_000, Distribution::Zipf, 0);

    /// A million accounts, drawn uniformly after half of the records have swept over them.
    fn uniform(count: u64) -> CardGenerator {
        CardGenerator::new(1_000_000, Distribution::Uniform, count / 2)
    }

    fn check(n: u64, account: u64, merchant: u64, amount: u64) {
        assert_eq!(ZIPF.record(n), CardTransaction { n, account, merchant, amount, due_ns: 0 });
    }

    fn checksum(generator: CardGenerator, count: u64) -> String {
        let mut sum = Checksum::default();
        (0..count).for_each(|n| sum.add(generator.record(n).content_hash()));
        sum.to_string()
    }

    #[test]
    fn single_records_are_as_specified() {
        check(0, 3_567_305_580_077_179_309, 581, 729_965);
        check(1, 8_932_038_822_890_317_163, 209, 695);
        check(2, 307_240_241_866_741_733, 863, 68_444);
        check(12_345_678, 6_823_607_562_592_055_296, 646, 2752);
    }

    #[test]
    fn the_first_twenty_thousand_are_as_specified() {
        assert_eq!(checksum(ZIPF, 20_000), "74b92844c4653000");
        assert_eq!(checksum(uniform(20_000), 20_000), "00dd591ce7b6f79d");
    }

    #[test]
    fn the_first_million_is_as_specified() {
        assert_eq!(checksum(ZIPF, 1_000_000), "caeb68ac5766bd2c");
        assert_eq!(checksum(uniform(1_000_000), 1_000_000), "1ff77ff7dcd9e22a");
    }

    #[test]
    fn a_first_amount_is_its_own_mean_and_a_record() {
        let mut state = AccountState::default();
        assert_eq!(state.score(0, 100), 1000 + 1000 + 500);
        assert_eq!(state.score(1, 50), 500 + 500);
        assert_eq!((state.count, state.sum, state.max_amount, state.next), (2, 150, 100, 2));
    }

    #[test]
    fn only_eight_amounts_are_recent() {
        let mut state = AccountState::default();
        for n in 0..9 {
            state.score(n, 100 * (n + 1));
        }
        assert_eq!(state.last, [900, 200, 300, 400, 500, 600, 700, 800]);
        let (all, recent) = (500, 550);
        assert_eq!(state.score(9, 900), 900 * 1000 / all + 900 * 1000 / recent);
    }
}
