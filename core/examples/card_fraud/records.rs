//! What flows through the job: payments, rules, evidence, alerts.
//!
//! ```text
//! Payment ─┬─► Evidence: this amount, against the card's usual ones ─┐
//!          └─► Evidence: this card's velocity in a window ───────────┴─► Rule ──► Alert
//! ```

use std::fmt;

use rkyv::{Archive, Deserialize as Unarchive, Serialize as ToArchive};
use serde::{Deserialize, Serialize};

/// A payment that is received within this time after it happened is not late, ms.
pub const LATE_AFTER_MS: i64 = 5_000;

/// A card pays a merchant: one line of the input.
#[derive(Debug, Clone, PartialEq, Eq, Archive, ToArchive, Unarchive, Serialize, Deserialize)]
pub struct Payment {
    /// Its number.
    pub id: u64,
    /// Who pays.
    pub card: u64,
    /// Who is paid.
    pub merchant: u32,
    /// How much.
    pub amount_cents: u64,
    /// When it happened, ms since 1970: event time.
    pub at_ms: i64,
    /// When the bank was told. A terminal without a network tells it later.
    pub received_ms: i64,
    /// When it was due, ns since the run's beginning, if payments come at their times. Latency
    /// counts from here, whatever delayed the payment.
    #[serde(skip)]
    pub due_ns: Option<u64>,
}

/// What is suspicious from `from_ms` up to, not including, `until_ms`.
#[derive(Debug, Clone, PartialEq, Archive, ToArchive, Unarchive, Serialize, Deserialize)]
pub struct Rule {
    /// Its number, from 1.
    pub version: u32,
    /// First event time that it judges: its own event time.
    pub from_ms: i64,
    /// First event time that the next rule judges.
    pub until_ms: i64,
    /// An amount so many standard deviations above the card's usual one.
    pub deviation_min: f64,
    /// So many payments of a card in a window.
    pub count_min: u32,
    /// So much money in a window.
    pub sum_cents_min: u64,
    /// So many different merchants in a window.
    pub merchants_min: u32,
}

/// Something that a rule has to look at.
#[derive(Debug, Clone, PartialEq, Archive, ToArchive, Unarchive)]
pub struct Evidence {
    /// Whose card.
    pub card: u64,
    /// The event time that says which rule applies.
    pub at_ms: i64,
    /// See [`Payment::due_ns`]; none if it was not caused by one payment.
    pub due_ns: Option<u64>,
    /// What was seen.
    pub seen: Seen,
}

/// What was seen of a card.
#[derive(Debug, Clone, PartialEq, Archive, ToArchive, Unarchive, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Seen {
    /// One payment.
    Amount(Amount),
    /// All payments of a window.
    Velocity(Velocity),
}

/// A payment beside what its card usually pays.
#[derive(Debug, Clone, PartialEq, Archive, ToArchive, Unarchive, Serialize, Deserialize)]
pub struct Amount {
    /// The payment's number.
    pub payment: u64,
    /// How much.
    pub amount_cents: u64,
    /// The mean of the card's payments before it.
    pub usual_cents: u64,
    /// By how many standard deviations it is above that, to two digits.
    pub deviation: f64,
}

/// How much a card does in a window.
#[derive(Debug, Clone, PartialEq, Archive, ToArchive, Unarchive, Serialize, Deserialize)]
pub struct Velocity {
    /// The window's first millisecond.
    pub from_ms: i64,
    /// How many payments.
    pub count: u32,
    /// How much money.
    pub sum_cents: u64,
    /// How many different merchants.
    pub merchants: u32,
}

/// What a rule said of a piece of evidence.
#[derive(Debug, Clone, PartialEq, Archive, ToArchive, Unarchive)]
pub struct Verdict {
    /// The version of the rule.
    pub rule: u32,
    /// See [`Evidence::due_ns`].
    pub due_ns: Option<u64>,
    /// Whether somebody should look at the card.
    pub alert: Option<Alert>,
}

/// Somebody should look at this card: one line of the output.
#[derive(Debug, Clone, PartialEq, Archive, ToArchive, Unarchive, Serialize, Deserialize)]
pub struct Alert {
    /// Whose card.
    pub card: u64,
    /// When it became suspicious, ms since 1970.
    pub at_ms: i64,
    /// The rule that said so.
    pub rule: u32,
    /// What was seen.
    #[serde(flatten)]
    pub seen: Seen,
}

impl Payment {
    /// Whether the bank was told too late: what it knows of the card's velocity then is already
    /// history. A property of the payment itself, so it does not depend on how fast the files are
    /// read.
    pub fn is_late(&self) -> bool {
        LATE_AFTER_MS < self.received_ms - self.at_ms
    }
}

impl Evidence {
    /// Whether it is the velocity of a single payment: there is nothing to see.
    pub fn is_single(&self) -> bool {
        matches!(self.seen, Seen::Velocity(Velocity { count: 1, .. }))
    }
}

impl Rule {
    /// Whether it applies to what happened at `at_ms`.
    pub fn covers(&self, at_ms: i64) -> bool {
        (self.from_ms..self.until_ms).contains(&at_ms)
    }

    /// What it says of a piece of evidence that it covers.
    pub fn judge(&self, evidence: &Evidence) -> Verdict {
        let is_suspicious = match &evidence.seen {
            Seen::Amount(amount) => self.deviation_min <= amount.deviation,
            Seen::Velocity(velocity) => {
                self.count_min <= velocity.count
                    || self.sum_cents_min <= velocity.sum_cents
                    || self.merchants_min <= velocity.merchants
            }
        };
        let Evidence { card, at_ms, due_ns, ref seen } = *evidence;
        let rule = self.version;
        let alert = is_suspicious.then(|| Alert { card, at_ms, rule, seen: seen.clone() });
        Verdict { rule, due_ns, alert }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, deviation_min, count_min, sum_cents_min, merchants_min, .. } = self;
        let sum = sum_cents_min / 100;
        write!(
            f,
            "rule {version} finds {deviation_min} deviations from the usual amount suspicious, or \
             {count_min} payments, {merchants_min} merchants or {sum} euros in 5 minutes"
        )
    }
}
