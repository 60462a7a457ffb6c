//! What the main job should say: the input files read line by line, everything kept in vectors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::input;
use super::job::WINDOW_MS;
use super::records::{Alert, Amount, Evidence, Payment, Rule, Seen, Velocity};

/// From the beginning of a window to that of the next.
const SLIDE_MS: i64 = 60_000;

/// The results, as sorted lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) alerts: Vec<String>,
    pub(super) late: Vec<String>,
    pub(super) broken_count: u64,
}

impl Expected {
    /// What the input in `folder` should give.
    pub(super) fn of(folder: &Path) -> Self {
        let mut expected = Self { alerts: Vec::new(), late: Vec::new(), broken_count: 0 };
        let mut rules: Vec<Rule> = Vec::new();
        let mut cards: BTreeMap<u64, Vec<Payment>> = BTreeMap::new();
        for path in input::paths(folder) {
            let text = fs::read_to_string(&path).expect("the input was written");
            if path.ends_with("rules.jsonl") {
                let rule = |line| serde_json::from_str(line).expect("rules are never broken");
                rules.extend(text.lines().map(rule));
                continue;
            }
            for line in text.lines().skip(1) {
                match payment(line) {
                    None => expected.broken_count += 1,
                    Some(late) if late.received_ms - late.at_ms > 5_000 => {
                        expected.late.push(json(&late));
                    }
                    Some(payment) => cards.entry(payment.card).or_default().push(payment),
                }
            }
        }
        let evidence = cards.values().flat_map(|payments| {
            let amounts = (0..payments.len()).map(|i| amount(&payments[..i], &payments[i]));
            amounts.chain(velocities(payments)).collect::<Vec<_>>()
        });
        let alerts = evidence.filter_map(|evidence| alert(&rules, evidence));
        expected.alerts = alerts.map(|alert| json(&alert)).collect();
        expected.alerts.sort_unstable();
        expected.late.sort_unstable();
        expected
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain values can be written")
}

fn payment(line: &str) -> Option<Payment> {
    let fields: Vec<&str> = line.split(',').collect();
    let [id, card, merchant, amount_cents, at_ms, received_ms] = fields[..] else { return None };
    Some(Payment {
        id: id.parse().ok()?,
        card: card.parse().ok()?,
        merchant: merchant.parse().ok()?,
        amount_cents: amount_cents.parse().ok()?,
        at_ms: at_ms.parse().ok()?,
        received_ms: received_ms.parse().ok()?,
        due_ns: None,
    })
}

/// `payment` beside those that came `before` it.
fn amount(before: &[Payment], payment: &Payment) -> Evidence {
    let Payment { id, card, amount_cents, at_ms, .. } = *payment;
    let count = before.len() as u128;
    let sum: u128 = before.iter().map(|other| u128::from(other.amount_cents)).sum();
    let squares: u128 = before.iter().map(|other| u128::from(other.amount_cents).pow(2)).sum();
    let mean = if count == 0 { 0.0 } else { sum as f64 / count as f64 };
    let deviation = ((count * squares - sum * sum) as f64).sqrt() / count as f64;
    let distance = (amount_cents as f64 - mean) / deviation.max(mean * 0.05);
    let deviation = if count < 5 { 0.0 } else { (distance * 100.0).round() / 100.0 };
    let seen = Amount { payment: id, amount_cents, usual_cents: mean as u64, deviation };
    Evidence { card, at_ms, due_ns: None, seen: Seen::Amount(seen) }
}

/// The velocity of a card in every window with more than one payment.
fn velocities(payments: &[Payment]) -> Vec<Evidence> {
    let mut windows: BTreeMap<i64, Vec<&Payment>> = BTreeMap::new();
    for payment in payments {
        let last = payment.at_ms.div_euclid(SLIDE_MS) * SLIDE_MS;
        for i in 0..WINDOW_MS / SLIDE_MS {
            windows.entry(last - i * SLIDE_MS).or_default().push(payment);
        }
    }
    let evidence = |(from_ms, payments): (i64, Vec<&Payment>)| {
        let merchants: BTreeSet<u32> = payments.iter().map(|payment| payment.merchant).collect();
        let velocity = Velocity {
            from_ms,
            count: payments.len() as u32,
            sum_cents: payments.iter().map(|payment| payment.amount_cents).sum(),
            merchants: merchants.len() as u32,
        };
        let (card, at_ms) = (payments[0].card, from_ms + WINDOW_MS - 1);
        Evidence { card, at_ms, due_ns: None, seen: Seen::Velocity(velocity) }
    };
    let shared = windows.into_iter().filter(|(_, payments)| payments.len() > 1);
    shared.map(evidence).collect()
}

fn alert(rules: &[Rule], evidence: Evidence) -> Option<Alert> {
    let Evidence { card, at_ms, seen, .. } = evidence;
    let rule = rules.iter().find(|rule| rule.from_ms <= at_ms && at_ms < rule.until_ms)?;
    let is_suspicious = match &seen {
        Seen::Amount(amount) => amount.deviation >= rule.deviation_min,
        Seen::Velocity(velocity) => {
            velocity.count >= rule.count_min
                || velocity.sum_cents >= rule.sum_cents_min
                || velocity.merchants >= rule.merchants_min
        }
    };
    is_suspicious.then_some(Alert { card, at_ms, rule: rule.version, seen })
}
