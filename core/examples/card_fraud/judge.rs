//! Asks of every piece of evidence what the rules of its time say.
//!
//! Rules come by broadcast, while payments are judged: every task has all of them. A rule says from
//! when until when it holds, so the answer depends on the time of the evidence and not on which
//! came first. Evidence for whose time there is no rule yet waits until the watermark of the rules
//! says that none will come.

use millstream::prelude::*;

use super::records::{Evidence, Rule, Verdict};

/// Evidence of a card, and rules for all of them.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    /// By version.
    rules: BroadcastState<u32, Rule>,
    /// Evidence of the card from times for which there is no rule yet.
    waiting: ListState<Evidence>,
}

impl Judge {
    fn verdict(&self, evidence: &Evidence, ctx: &KeyedContext<'_, u64>) -> Option<Verdict> {
        let mut rules = self.rules.iter(ctx).map(|(_, rule)| rule);
        rules.find(|rule| rule.covers(evidence.at_ms)).map(|rule| rule.judge(evidence))
    }
}

impl KeyedBroadcastProcessFunction<u64, Evidence, Rule> for Judge {
    type Out = Verdict;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.rules = ctx.broadcast("rules");
        self.waiting = ctx.list("waiting", StateSpec::kept_until_cleared());
    }

    fn process(
        &mut self,
        evidence: Evidence,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut impl Output<Verdict>,
    ) {
        match self.verdict(&evidence, ctx) {
            Some(verdict) => out.collect(verdict),
            None => {
                ctx.register_event_timer(evidence.at_ms);
                self.waiting.append(ctx, evidence);
            }
        }
    }

    fn process_broadcast(
        &mut self,
        rule: Rule,
        ctx: &mut KeyedBroadcastContext<'_>,
        _out: &mut impl Output<Verdict>,
    ) {
        self.rules.put(ctx, rule.version, rule);
    }

    /// All rules up to here have come.
    fn on_timer(
        &mut self,
        timer: FiredTimer,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut impl Output<Verdict>,
    ) {
        for evidence in self.waiting.take(ctx) {
            match self.verdict(&evidence, ctx) {
                Some(verdict) => out.collect(verdict),
                None if timer.time_ms < evidence.at_ms => self.waiting.append(ctx, evidence),
                // There never was a rule for its time.
                None => {}
            }
        }
    }
}
