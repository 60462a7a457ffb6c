//! How far an amount is from what its card usually pays.
//!
//! Mean and variance are kept as three sums of whole numbers a card, however many payments. Whole
//! numbers add up to the same in any order, so two runs agree to the last digit. A payment is
//! compared with those before it, then counted among them.

use std::time::Duration;

use millstream::prelude::*;

use super::records::{Amount, Evidence, Payment, Seen};

/// Before so many payments, nothing is usual.
const PAYMENTS_MIN: u64 = 5;

/// No card is so regular that less than this part of its mean would be a deviation.
const DEVIATION_MIN: f64 = 0.05;

/// A card that has not been used for so long begins anew.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(90 * 24);

/// Compares each payment of a card with those before it.
#[derive(Debug, Clone, Default)]
pub struct UsualAmount {
    sums: ValueState<Sums>,
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

impl KeyedProcessFunction<u64, Payment> for UsualAmount {
    type Out = Evidence;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.sums = ctx.value("sums", Ttl::event_time(FORGOTTEN_AFTER));
    }

    fn process(
        &mut self,
        payment: Payment,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut impl Output<Evidence>,
    ) {
        let Payment { id, card, amount_cents, at_ms, due_ns, .. } = payment;
        let seen = self.sums.update(ctx, |sums| {
            let usual_cents = sums.mean() as u64;
            let deviation = sums.deviation(amount_cents);
            sums.add(amount_cents);
            Amount { payment: id, amount_cents, usual_cents, deviation }
        });
        out.collect(Evidence { card, at_ms, due_ns, seen: Seen::Amount(seen) });
    }
}
