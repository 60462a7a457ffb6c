//! How far an amount is from what its card usually pays.
//!
//! Mean and variance are kept as three sums of whole numbers a card, however many payments. Whole
//! numbers add up to the same in any order, so two runs agree to the last digit. A payment is
//! compared with those before it, then counted among them.

use millstream::prelude::*;

use super::records::{Amount, Evidence, Payment, Seen};

/// Before so many payments, nothing is usual.
const PAYMENTS_MIN: u64 = 5;

/// No card is so regular that less than this part of its mean would be a deviation.
const DEVIATION_MIN: f64 = 0.05;

/// Compares each payment of a card with those before it.
#[derive(Debug, Clone)]
pub struct UsualAmount;

/// The payments of a card so far.
#[derive(Debug, Clone, Default, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Usual {
    sums: Sums,
    /// The last payment, compared with those before it.
    last: Option<Evidence>,
}

/// What mean and variance are made of.
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
pub struct Sums {
    count: u64,
    cents: u64,
    squares: u128,
}

impl Sums {
    /// Counts an amount.
    pub fn add(&mut self, amount_cents: u64) {
        self.count += 1;
        self.cents += amount_cents;
        self.squares += u128::from(amount_cents).pow(2);
    }

    /// The mean, in cents; 0 before the first payment.
    pub fn mean(&self) -> f64 {
        self.cents as f64 / self.count.max(1) as f64
    }

    /// By how many standard deviations `amount_cents` is above the mean, to two digits.
    pub fn deviation(&self, amount_cents: u64) -> f64 {
        if self.count < PAYMENTS_MIN {
            return 0.0;
        }
        let count = self.count as f64;
        let scaled = u128::from(self.count) * self.squares - u128::from(self.cents).pow(2);
        let deviation = ((scaled as f64).sqrt() / count).max(self.mean() * DEVIATION_MIN);
        ((amount_cents as f64 - self.mean()) / deviation * 100.0).round() / 100.0
    }
}

impl AggregateFunction for UsualAmount {
    type In = Payment;
    type Accumulator = Usual;
    type Out = Evidence;

    fn create(&self) -> Usual {
        Usual::default()
    }

    fn add(&self, usual: &mut Usual, payment: Payment) {
        let Payment { id, card, amount_cents, at_ms, due_ns, .. } = payment;
        let usual_cents = usual.sums.mean() as u64;
        let deviation = usual.sums.deviation(amount_cents);
        let seen = Amount { payment: id, amount_cents, usual_cents, deviation };
        usual.last = Some(Evidence { card, at_ms, due_ns, seen: Seen::Amount(seen) });
        usual.sums.add(amount_cents);
    }

    fn merge(&self, usual: &mut Usual, other: Usual) {
        usual.sums.count += other.sums.count;
        usual.sums.cents += other.sums.cents;
        usual.sums.squares += other.sums.squares;
        usual.last = other.last.or(usual.last.take());
    }

    fn result(&self, usual: &Usual) -> Evidence {
        usual.last.clone().expect("there is a result for every payment")
    }
}
