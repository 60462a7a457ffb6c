//! How a job stands over its attempts, for people.

use std::time::Duration;

use serde::Serialize;

use crate::error::Error;

/// What a job does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is about to run.
    Starting,
    /// It runs.
    Running,
    /// It has failed, and begins again when it has waited.
    Waiting,
}

/// How a job stands over its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestartsStatus {
    /// What it does now.
    pub phase: Phase,
    /// Since when, ms since 1970.
    pub since_ms: i64,
    /// How often it has begun again in this process, or is about to.
    pub restart_count: u64,
    /// The last failure.
    pub last_failure: Option<FailureReport>,
}

/// A failure that was not the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureReport {
    /// When, ms since 1970.
    pub failed_ms: i64,
    /// What it was, on one line.
    pub error: String,
    /// How long the job waits after it, ms.
    pub wait_ms: u64,
}

impl RestartsStatus {
    /// Of a job that is about to run at `now_ms`.
    pub(super) fn new(now_ms: i64) -> Self {
        let phase = Phase::Starting;
        Self { phase, since_ms: now_ms, restart_count: 0, last_failure: None }
    }

    /// It begins to do something else.
    pub(super) fn on_phase(&mut self, phase: Phase, now_ms: i64) {
        (self.phase, self.since_ms) = (phase, now_ms);
    }

    /// It has failed and is to begin again `after` a wait, the time `restart`.
    pub(super) fn on_failure(&mut self, error: &Error, restart: u64, after: Duration, now_ms: i64) {
        self.on_phase(Phase::Waiting, now_ms);
        self.restart_count = restart;
        self.last_failure = Some(FailureReport {
            failed_ms: now_ms,
            error: error.chain(),
            wait_ms: after.as_millis() as u64,
        });
    }

    /// In a few words: whether it runs.
    pub(super) fn summary(&self) -> String {
        match (self.phase, &self.last_failure) {
            (Phase::Running, _) => "ok\n".to_string(),
            (Phase::Starting | Phase::Waiting, Some(failure)) => {
                format!("about to begin again after a failure: {}\n", failure.error)
            }
            (Phase::Starting | Phase::Waiting, None) => "about to begin\n".to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_whether_it_runs_and_what_the_last_failure_was() {
        let mut status = RestartsStatus::new(5);
        assert_eq!(status.summary(), "about to begin\n");
        status.on_phase(Phase::Running, 6);
        assert_eq!((status.summary().as_str(), status.since_ms), ("ok\n", 6));
        let wait = Duration::from_millis(1_500);
        status.on_failure(&Error::bug("sum", "boom"), 3, wait, 7);
        let expected = "about to begin again after a failure: operator sum: boom (a bug in the \
                        engine)\n";
        assert_eq!(status.summary(), expected);
        let json = serde_json::to_value(&status).expect("plain values");
        let expected = serde_json::json!({
            "phase": "waiting",
            "since_ms": 7,
            "restart_count": 3,
            "last_failure": {
                "failed_ms": 7,
                "error": "operator sum: boom (a bug in the engine)",
                "wait_ms": 1_500,
            },
        });
        assert_eq!(json, expected);
        status.on_phase(Phase::Running, 9);
        assert_eq!(status.summary(), "ok\n");
        assert_eq!(status.last_failure.map(|it| it.failed_ms), Some(7));
    }
}
