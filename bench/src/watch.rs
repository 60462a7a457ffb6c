//! Time in which the calling thread had its core.

use std::time::{Duration, Instant};

use crate::process;

/// Counts from its start on.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    begun: Instant,
    waited: Duration,
}

impl Watch {
    /// Starts.
    pub fn start() -> Self {
        let waited = process::waited();
        Self { begun: Instant::now(), waited }
    }

    /// Nanoseconds since the start, without the time in which others had the core.
    pub fn ns(&self) -> f64 {
        let took = self.begun.elapsed();
        took.saturating_sub(process::waited().saturating_sub(self.waited)).as_nanos() as f64
    }
}
