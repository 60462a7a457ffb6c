//! How much a card does in a window.

use millstream::prelude::*;

use super::records::{Evidence, Payment, Seen, Velocity};

/// Adds up the payments of a card.
#[derive(Debug, Clone)]
pub struct CardVelocity;

/// The payments of a card in a window.
#[derive(Debug, Clone, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Payments {
    /// How many.
    pub count: u32,
    /// How much money.
    pub sum_cents: u64,
    /// To whom, ascending. Few, so a vector is the smallest set.
    pub merchants: Vec<u32>,
}

impl Payments {
    fn add_merchant(&mut self, merchant: u32) {
        if let Err(place) = self.merchants.binary_search(&merchant) {
            self.merchants.insert(place, merchant);
        }
    }
}

/// What a window says of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// How many payments.
    pub count: u32,
    /// How much money.
    pub sum_cents: u64,
    /// How many different merchants.
    pub merchants: u32,
}

impl Totals {
    /// The velocity of `card` as evidence, at the last millisecond of the window.
    pub fn evidence(self, card: u64, window: &Window) -> Evidence {
        let Self { count, sum_cents, merchants } = self;
        let velocity = Velocity { from_ms: window.start_ms, count, sum_cents, merchants };
        let at_ms = window.max_timestamp();
        Evidence { card, at_ms, due_ns: None, seen: Seen::Velocity(velocity) }
    }
}

impl AggregateFunction for CardVelocity {
    type In = Payment;
    type Accumulator = Payments;
    type Out = Totals;

    fn create(&self) -> Payments {
        Payments::default()
    }

    fn add(&self, payments: &mut Payments, payment: Payment) {
        payments.count += 1;
        payments.sum_cents += payment.amount_cents;
        payments.add_merchant(payment.merchant);
    }

    fn merge(&self, payments: &mut Payments, other: Payments) {
        payments.count += other.count;
        payments.sum_cents += other.sum_cents;
        other.merchants.into_iter().for_each(|merchant| payments.add_merchant(merchant));
    }

    fn result(&self, payments: &Payments) -> Totals {
        let Payments { count, sum_cents, merchants } = payments;
        Totals { count: *count, sum_cents: *sum_cents, merchants: merchants.len() as u32 }
    }
}
