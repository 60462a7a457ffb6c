//! Asks of every piece of evidence what the rules of its time say.
//!
//! Every task has all rules: they come by broadcast, while the job runs. A rule says from when
//! until when it holds, so the answer depends on the time of the evidence and not on which came
//! first; evidence for whose time there is no rule yet waits for one.

use millstream::data::either::Either;
use millstream::graph::Facts;
use millstream::prelude::*;
use millstream::state::snapshot::{SnapshotReader, SnapshotWriter};

use super::records::{Evidence, Rule, Verdict};

/// Evidence on the left, rules on the right.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    rules: Vec<Rule>,
    /// Evidence from times for which there is no rule.
    waiting: Vec<Row<Evidence>>,
    task_index: u32,
}

impl Judge {
    fn rule_at(&self, at_ms: i64) -> Option<&Rule> {
        // The latest rules are asked for most.
        self.rules.iter().rev().find(|rule| rule.covers(at_ms))
    }

    fn on_evidence(&mut self, row: Row<Evidence>, out: &mut impl Output<Verdict>) {
        match self.rule_at(row.value.at_ms) {
            Some(rule) => out.emit(row.map(|evidence| rule.judge(evidence))),
            None => self.waiting.push(row),
        }
    }

    fn on_rule(&mut self, rule: Rule, out: &mut impl Output<Verdict>) {
        self.rules.push(rule);
        for row in std::mem::take(&mut self.waiting) {
            self.on_evidence(row, out);
        }
    }
}

impl Operator for Judge {
    type In = Either<Evidence, Rule>;
    type Out = Verdict;

    fn facts(&self) -> Facts {
        Facts { is_stateful: true, ..Facts::stateless() }
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<()> {
        self.task_index = ctx.env().task.task_index;
        Ok(())
    }

    fn on_row(
        &mut self,
        row: Row<Self::In>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<Verdict>,
    ) {
        let Row { hash64, event_time_ms, origin, value } = row;
        match value {
            Either::Left(value) => {
                self.on_evidence(Row { hash64, event_time_ms, origin, value }, out);
            }
            Either::Right(rule) => ctx.run(|| self.on_rule(rule, out)),
        }
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        writer.operator_state("rules", &self.rules);
        writer.operator_state(&format!("waiting/{}", self.task_index), &self.waiting);
    }

    /// Every task has the same rules; evidence goes to the task that owns its card.
    fn restore(&mut self, reader: &SnapshotReader<'_>, ctx: &OperatorContext<'_>) -> Result<()> {
        let rules = reader.operator_state::<Vec<Rule>>("rules")?;
        self.rules = rules.into_iter().next().map(|(_, rules)| rules).unwrap_or_default();
        let mine = ctx.env().task.hashes();
        let waiting = reader.operator_state::<Vec<Row<Evidence>>>("waiting/")?;
        let waiting = waiting.into_iter().flat_map(|(_, rows)| rows);
        self.waiting = waiting.filter(|row| mine.contains(row.hash64)).collect();
        Ok(())
    }
}
