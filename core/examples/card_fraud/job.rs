//! The dataflow.
//!
//! ```text
//! payments ─► watermark ─► punctual ─┬─► by card ─► usual amounts ────────┐
//!    │                        │      └─► by card ─► windows of 5 minutes ─┴─► by card ─┐
//!    ▼                        ▼                                                        ▼
//! dead letters              late                     rules ─► watermark ─► to all ─► judge
//!                                                                                      │
//!                                                                       alerts ◄───────┘
//! ```
//!
//! The alerts do not depend on the number of shards, nor on which of them is faster: a card's
//! payments come from one file in one order, lateness is a property of a payment, and rules say
//! from when until when they hold.

use std::path::Path;
use std::time::Duration;

use millstream::prelude::*;

use super::announce::Announcer;
use super::judge::Judge;
use super::punctual::{LATE, Punctual};
use super::records::{Evidence, LATE_AFTER_MS, Payment, Rule, Verdict};
use super::usual::UsualAmount;
use super::velocity::{CardVelocity, Totals};

/// Velocity is measured over so much time, ms.
pub const WINDOW_MS: i64 = 300_000;

/// A window begins every so often, ms.
const SLIDE_MS: i64 = 60_000;

/// Lines of the payments that cannot be read.
const DEAD_LETTERS: OutputTag<DeadLetter> = OutputTag::new("dead-letters");

/// Judges the payments in `folder` (see `input.rs`). The results go to folders beside them:
/// `alerts`, `late`, `dead-letters`.
pub fn from_files(job: &Job, folder: &Path, announcer: Announcer) {
    let path = |name: &str| folder.join(name).display().to_string();
    // The files cover the same time, so they are read side by side.
    let source = FileSource::csv::<Payment>(path("payments/*.csv"))
        .side_by_side(8)
        .on_error(skip_to(DEAD_LETTERS.name()));
    let payments = job.source("payments", source);
    let dead_letters = payments.side_output(DEAD_LETTERS);
    dead_letters.sink("dead-letters", FileSink::jsonl(path("dead-letters")));

    let rules = job.source("rules", FileSource::jsonl::<Rule>(path("rules.jsonl")));
    let (verdicts, late) = judged(payments, rules);
    late.sink("late", FileSink::jsonl(path("late")));
    verdicts
        .inspect(move |verdict| announcer.see(verdict))
        .flat_map(|verdict| verdict.alert)
        .sink("alerts", FileSink::jsonl(path("alerts")));
}

/// What `rules` say of `payments`, and the payments that come too late to be judged.
pub fn judged<'j>(
    payments: impl AnyStream<'j, Out = Payment>,
    rules: impl AnyStream<'j, Out = Rule>,
) -> (impl AnyStream<'j, Out = Verdict>, SharedStream<'j, Payment>) {
    let (evidence, late) = evidence(payments);
    let rules = rules.watermark(Monotonic::new(), |rule| rule.from_ms);
    let verdicts = evidence
        .key_by(|evidence: &Evidence| evidence.card)
        .connect_broadcast(rules)
        .process("judge", Judge::default());
    (verdicts, late)
}

/// What there is to say about each card, and the payments that come too late.
pub fn evidence<'j>(
    payments: impl AnyStream<'j, Out = Payment>,
) -> (impl AnyStream<'j, Out = Evidence>, SharedStream<'j, Payment>) {
    let bound = Duration::from_millis(LATE_AFTER_MS as u64);
    let punctual = payments
        .watermark(BoundedOutOfOrderness::new(bound), |payment| payment.at_ms)
        .operator("punctual", Punctual);
    let late = punctual.side_output(LATE);
    let punctual = punctual.shared();

    let by_card = punctual.key_by(|payment| payment.card);
    let amounts = by_card.process("usual", UsualAmount::default());
    let windows = Sliding::new(
        Duration::from_millis(WINDOW_MS as u64),
        Duration::from_millis(SLIDE_MS as u64),
    );
    let velocities = punctual
        .key_by(|payment| payment.card)
        .window(windows)
        .aggregate_with(CardVelocity, |card: &u64, window: &Window, totals: Totals| {
            totals.evidence(*card, window)
        })
        .name("velocity")
        .filter(|evidence| !evidence.is_single());

    (amounts.union(velocities), late)
}
