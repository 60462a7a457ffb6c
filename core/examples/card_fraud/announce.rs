//! Says when thresholds change: at the first verdict by a newer rule, on whichever task that is.

#![allow(clippy::print_stderr, reason = "a program for people")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::records::{Rule, Verdict};

/// Shared by all tasks that have verdicts.
#[derive(Debug, Clone)]
pub struct Announcer {
    rules: Arc<[Rule]>,
    newest: Arc<AtomicU32>,
}

impl Announcer {
    /// Will announce `rules`.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules: rules.into(), newest: Arc::default() }
    }

    /// Takes notice of a verdict.
    pub fn see(&self, verdict: &Verdict) {
        // Most verdicts are by a rule that was announced before: only look at the number.
        if verdict.rule <= self.newest.load(Ordering::Relaxed) {
            return;
        }
        let before = self.newest.fetch_max(verdict.rule, Ordering::Relaxed);
        for rule in self.rules.iter().filter(|rule| rule.version == verdict.rule) {
            if before < rule.version {
                eprintln!("     thresholds have changed: {rule}");
            }
        }
    }
}
