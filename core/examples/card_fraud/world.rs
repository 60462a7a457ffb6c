//! A made-up city: who pays what to whom, and who steals.
//!
//! Payment `n` is a function of `n` alone, so the same city can be written to files, paced by a
//! clock, or asked afterwards which alerts were right.
//!
//! ```text
//! payments   0 ........ 5000 ........ 10000 ...     one theft in every 5,000 payments,
//!            │ t  t  t  t │ t   t       │           of 48 seconds at most, by turns:
//!            └ testing ───┴ spree ──────┴           many small payments to many merchants,
//!                                                   a few that are far above the usual
//! ```
//!
//! Cards pay once in about 1,000 seconds, most often to the merchants they know, mostly about what
//! they always pay. A few honest payments are large, so no rule can be right every time.

use millstream::connector::generator::draw::Draw;

use super::records::{LATE_AFTER_MS, Payment, Rule};

/// The city's first payment is received at this time, ms since 1970.
pub const START_MS: i64 = 1_767_225_600_000;

const DAY_MS: i64 = 24 * 3_600_000;

/// Payments with one theft among them.
const THEFT_EVERY: u64 = 5_000;
/// Most payments of a theft.
const THEFT_COUNT_MAX: u64 = 14;
/// A theft lasts at most this long, ms.
const THEFT_MS_MAX: u64 = 48_000;
/// One honest payment in this many comes from a terminal without a network.
const LATE_ONE_IN: u64 = 1_000;
/// One honest payment in this many is large.
const LARGE_ONE_IN: u64 = 4_000;
/// Merchants of the city.
const MERCHANT_COUNT: u64 = 5_000;
/// Merchants that a card knows.
const KNOWN_COUNT: u64 = 6;

/// Streams of draws that do not depend on each other.
const PAYMENT_SEED: u64 = 0x5041_594D;
const CARD_SEED: u64 = 0x4341_5244;
const THEFT_SEED: u64 = 0x5448_4546;

/// The city.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// Payments.
    pub payment_count: u64,
    card_count: u64,
    /// From one payment to the next, ms.
    interval_ms: u64,
}

/// A planted theft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theft {
    /// Whose card was stolen.
    pub card: u64,
    /// How it is used.
    pub kind: TheftKind,
    /// The numbers of its payments.
    pub payments: Vec<u64>,
    /// Event time of its first payment, ms.
    pub first_ms: i64,
    /// Event time of its last payment, ms.
    pub last_ms: i64,
}

/// What a thief does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TheftKind {
    /// Tries whether the card works: many small payments to many merchants.
    Testing,
    /// Buys expensive things while it does.
    Spree,
}

impl World {
    /// A city with so many payments, at least 1.
    pub fn new(payment_count: u64) -> Self {
        let card_count = (payment_count / 20).clamp(1_000, 100_000);
        Self { payment_count, card_count, interval_ms: 1_000_000 / card_count }
    }

    /// Payment `n`.
    pub fn payment(&self, n: u64) -> Payment {
        let received_ms = START_MS + (n * self.interval_ms) as i64;
        let draw = &mut Draw::of_record(PAYMENT_SEED, n);
        if n / THEFT_EVERY < self.theft_count() {
            let plan = self.theft_plan(n / THEFT_EVERY);
            if plan.includes(n) {
                return stolen(n, &plan, received_ms, draw);
            }
        }
        let card = draw.below(self.card_count);
        let merchant = match draw.below(10) {
            0 | 1 => draw.below(MERCHANT_COUNT),
            _ => known_merchant(card, draw.below(KNOWN_COUNT)),
        };
        let percent = match draw.below(LARGE_ONE_IN) {
            0 => 200 + draw.below(400),
            _ => 50 + draw.below(51) + draw.below(51),
        };
        let delay_ms = match draw.below(LATE_ONE_IN) {
            0 => 30_000 + draw.below(1_800_000),
            _ => draw.below(LATE_AFTER_MS as u64),
        };
        let amount_cents = usual_cents(card) * percent / 100;
        let at_ms = received_ms - delay_ms as i64;
        Payment {
            id: n,
            card: number(card),
            merchant: merchant as u32,
            amount_cents,
            at_ms,
            received_ms,
            due_ns: None,
        }
    }

    /// All payments, as they are received.
    pub fn payments(&self) -> impl Iterator<Item = Payment> {
        let world = *self;
        (0..self.payment_count).map(move |n| world.payment(n))
    }

    /// All thefts.
    pub fn thefts(&self) -> impl Iterator<Item = Theft> {
        let world = *self;
        (0..self.theft_count()).map(move |index| world.theft(index))
    }

    fn theft_count(&self) -> u64 {
        self.payment_count / THEFT_EVERY
    }

    fn theft(&self, index: u64) -> Theft {
        let plan = self.theft_plan(index);
        let payments: Vec<u64> = (0..plan.count).map(|i| plan.first + i * plan.stride).collect();
        let times = || payments.iter().map(|n| self.payment(*n).at_ms);
        Theft {
            card: number(plan.card),
            kind: plan.kind,
            first_ms: times().min().unwrap_or_default(),
            last_ms: times().max().unwrap_or_default(),
            payments,
        }
    }

    fn theft_plan(&self, index: u64) -> TheftPlan {
        let draw = &mut Draw::of_record(THEFT_SEED, index);
        let stride = (THEFT_MS_MAX / self.interval_ms / THEFT_COUNT_MAX).max(1);
        let (kind, count) = match index % 2 {
            0 => (TheftKind::Testing, 6 + draw.below(THEFT_COUNT_MAX - 5)),
            _ => (TheftKind::Spree, 2 + draw.below(3)),
        };
        let free = THEFT_EVERY - THEFT_COUNT_MAX * stride;
        let first = index * THEFT_EVERY + draw.below(free);
        TheftPlan { kind, card: draw.below(self.card_count), first, stride, count }
    }

    /// How many payments are received before `time_ms`.
    pub fn received_before(&self, time_ms: i64) -> u64 {
        let passed_ms = u64::try_from(time_ms - START_MS).unwrap_or(0);
        passed_ms.div_ceil(self.interval_ms)
    }

    /// The rules of the city: stricter ones with every quarter of its time.
    pub fn rules(&self) -> Vec<Rule> {
        let length_ms = (self.payment_count * self.interval_ms) as i64;
        let from = |quarter: i64| match quarter {
            // Payments may have happened before the first was received, and windows end after the
            // last.
            0 => START_MS - DAY_MS,
            4 => START_MS + length_ms + DAY_MS,
            _ => START_MS + length_ms * quarter / 4,
        };
        let thresholds = [
            (25.0, 12, 9, 400_000),
            (20.0, 10, 8, 300_000),
            (15.0, 8, 6, 200_000),
            (10.0, 6, 5, 150_000),
        ];
        let rule = |(quarter, thresholds): (i64, (f64, u32, u32, u64))| {
            let (deviation_min, count_min, merchants_min, sum_cents_min) = thresholds;
            let (from_ms, until_ms) = (from(quarter), from(quarter + 1));
            let version = quarter as u32 + 1;
            Rule {
                version,
                from_ms,
                until_ms,
                deviation_min,
                count_min,
                sum_cents_min,
                merchants_min,
            }
        };
        (0..).zip(thresholds).map(rule).collect()
    }
}

/// Which payments of a block are stolen.
struct TheftPlan {
    kind: TheftKind,
    card: u64,
    first: u64,
    stride: u64,
    count: u64,
}

impl TheftPlan {
    fn includes(&self, n: u64) -> bool {
        let Some(offset) = n.checked_sub(self.first) else { return false };
        offset % self.stride == 0 && offset / self.stride < self.count
    }
}

/// Payment `n` if it is one of a theft's.
fn stolen(n: u64, plan: &TheftPlan, received_ms: i64, draw: &mut Draw) -> Payment {
    let merchant = draw.below(MERCHANT_COUNT) as u32;
    let amount_cents = match plan.kind {
        TheftKind::Testing => 100 + draw.below(900),
        TheftKind::Spree => usual_cents(plan.card) * (4 + draw.below(20)),
    };
    let at_ms = received_ms - draw.below(LATE_AFTER_MS as u64) as i64;
    let card = number(plan.card);
    Payment { id: n, card, merchant, amount_cents, at_ms, received_ms, due_ns: None }
}

/// The number on a card.
fn number(card: u64) -> u64 {
    4_000_000_000_000_000 + card
}

/// What a card usually pays: 3 to 400 euros.
fn usual_cents(card: u64) -> u64 {
    let draw = &mut Draw::of_record(CARD_SEED, card);
    let magnitude = 300 << draw.below(7);
    magnitude + draw.below(magnitude)
}

fn known_merchant(card: u64, index: u64) -> u64 {
    Draw::of_record(CARD_SEED ^ (index + 1), card).below(MERCHANT_COUNT)
}
