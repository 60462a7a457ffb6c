//! Whether a job that has failed begins again in its process, and when.
//!
//! ```text
//! running ──failure──► on_failure ──► Restart { after } ──wait──► running, from a checkpoint
//!                          └────────► GiveUp { reason } ────────► the process ends
//! ```
//!
//! | strategy | begins again | gives up |
//! |---|---|---|
//! | none | | at once |
//! | fixed delay | after the same wait | when it has begun again so many times |
//! | exponential delay | after waits that grow, anew when it has run for long | as fixed delay |
//! | failure rate | after the same wait | at the failure that is one too many within a time |
//!
//! Pure: time is an argument, and so is the chance by which waits differ, so that jobs that have
//! failed of one cause do not all come back at one instant.
//!
//! Not here: which failures a new beginning can help against (`error.rs`), who waits (a host).

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::{Config, Factor, RestartKind};

/// When a job begins again, and when it is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    /// Every failure ends it.
    None,
    /// After `delay`, at most `attempts` times if there is a limit.
    FixedDelay {
        /// How often; without a limit if there is none.
        attempts: Option<u32>,
        /// After which wait.
        delay: Duration,
    },
    /// After a wait that grows with every failure.
    ExponentialDelay {
        /// How often before the wait is the first again; without a limit if there is none.
        attempts: Option<u32>,
        /// The first wait.
        initial: Duration,
        /// The longest.
        max: Duration,
        /// What a wait is multiplied with after it.
        multiplier: Factor,
        /// The part of a wait by which it may be shorter or longer.
        jitter: Factor,
        /// The wait is the first again when the job has run for this long.
        reset_after: Duration,
    },
    /// After `delay`, unless there were more than `failures` within `interval`.
    FailureRate {
        /// How many there may be.
        failures: u32,
        /// Within which time.
        interval: Duration,
        /// After which wait.
        delay: Duration,
    },
}

impl Strategy {
    /// What the settings say: unless it is set, a job begins again if it has checkpoints.
    pub fn of(config: &Config) -> Self {
        let delay = config.restart_delay.0;
        let attempts = config.restart_attempts;
        match config.restart_kind() {
            RestartKind::None => Self::None,
            RestartKind::FixedDelay => Self::FixedDelay { attempts, delay },
            RestartKind::ExponentialDelay => Self::ExponentialDelay {
                attempts,
                initial: config.restart_initial_backoff.0,
                max: config.restart_max_backoff.0,
                multiplier: config.restart_backoff_multiplier,
                jitter: config.restart_jitter,
                reset_after: config.restart_backoff_reset.0,
            },
            RestartKind::FailureRate => Self::FailureRate {
                failures: config.restart_failures_per_interval,
                interval: config.restart_interval.0,
                delay,
            },
        }
    }
}

/// What becomes of a job that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It begins again.
    Restart {
        /// After this wait.
        after: Duration,
    },
    /// It ends.
    GiveUp {
        /// Why it does not begin again; none if it never was to.
        reason: Option<String>,
    },
}

/// A job's failures so far.
#[derive(Debug)]
pub struct Restarts {
    strategy: Strategy,
    count: u64,
    /// Restarts that count against the limit.
    in_row: u32,
    /// The wait before the last restart, without its jitter, and when that wait was over.
    last: Option<(Duration, Duration)>,
    /// When it has failed, as far as that matters.
    failures: VecDeque<Duration>,
}

impl Restarts {
    /// A job that has not failed yet.
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, count: 0, in_row: 0, last: None, failures: VecDeque::new() }
    }

    /// How often it has begun again, or is about to.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// It has failed at `now`, counted from any start: while it ran, or when it was to begin again.
    /// `chance` is any number, all equally likely.
    pub fn on_failure(&mut self, now: Duration, chance: u64) -> Verdict {
        let verdict = match self.strategy.clone() {
            Strategy::None => Verdict::GiveUp { reason: None },
            Strategy::FixedDelay { attempts, delay } => self.within(attempts, delay),
            Strategy::ExponentialDelay {
                attempts,
                initial,
                max,
                multiplier,
                jitter,
                reset_after,
            } => {
                let before = self.last.take_if(|(_, ready)| now < *ready + reset_after);
                if before.is_none() {
                    self.in_row = 0;
                }
                let backoff = before.map_or(initial, |(backoff, _)| multiplier.of(backoff));
                let backoff = backoff.min(max);
                let after = jittered(backoff, jitter, chance).min(max);
                self.last = Some((backoff, now + after));
                self.within(attempts, after)
            }
            Strategy::FailureRate { failures, interval, delay } => {
                self.failures.push_back(now);
                let is_old = |at: &mut Duration| *at + interval <= now;
                while self.failures.pop_front_if(is_old).is_some() {}
                if self.failures.len() <= failures as usize {
                    Verdict::Restart { after: delay }
                } else {
                    let reason = format!("{} failures within {interval:?}", self.failures.len());
                    Verdict::GiveUp { reason: Some(reason) }
                }
            }
        };
        self.count += u64::from(matches!(verdict, Verdict::Restart { .. }));
        verdict
    }

    /// Another restart `after` a wait, if there may be one.
    fn within(&mut self, attempts: Option<u32>, after: Duration) -> Verdict {
        if attempts.is_some_and(|attempts| attempts <= self.in_row) {
            let reason = format!("it has begun again {} times", self.in_row);
            return Verdict::GiveUp { reason: Some(reason) };
        }
        self.in_row = self.in_row.saturating_add(1);
        Verdict::Restart { after }
    }
}

/// `wait`, shorter or longer by up to the part `jitter` of it.
fn jittered(wait: Duration, jitter: Factor, chance: u64) -> Duration {
    let most = jitter.of(wait);
    let span_ns = 2 * most.as_nanos() + 1;
    // The high half of the product is below the span, and every value of it as likely.
    let at_ns = (span_ns.min(u128::from(u64::MAX)) * u128::from(chance)) >> 64;
    (wait + Duration::from_nanos(at_ns as u64)).saturating_sub(most)
}

#[cfg(test)]
mod tests;
