//! A line that says how a running job gets on.
//!
//! ```text
//! 3 s: 1,240,000 records read, 412,345 a second; watermark 2026-01-01 03:21:07; late 12
//! ```
//!
//! What is read is what left the sources. The watermark is that of the task which is furthest
//! behind: every result up to there has been given.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use crate::limits::{EVENT_TIME_MS_MAX, EVENT_TIME_MS_MIN};
use crate::shard::metrics::ShardStatus;
use crate::shard::program::Program;
use crate::task::TaskStatus;

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Numbers of the chains that begin with a source.
    source_chains: Vec<u16>,
    line_count: u64,
    read_count: u64,
}

impl Progress {
    pub(super) fn new(program: &Program) -> Self {
        let tasks = program.plans.iter().flatten().filter(|task| task.source_index.is_some());
        let mut source_chains: Vec<u16> = tasks.map(|task| task.chain_index).collect();
        source_chains.sort_unstable();
        source_chains.dedup();
        Self { source_chains, ..Self::default() }
    }

    /// The line for how the shards stand, one second after the last.
    pub(super) fn line(&mut self, shards: &[ShardStatus]) -> String {
        let tasks = || shards.iter().flat_map(|shard| &shard.tasks);
        let sources = tasks().filter(|task| self.source_chains.contains(&task.chain_index));
        let read_count: u64 = sources.map(|task| task.status.records_in).sum();
        let sum = |of: fn(&TaskStatus) -> u64| tasks().map(|task| of(&task.status)).sum::<u64>();
        let running = tasks().filter(|task| !task.status.is_finished);
        let watermark_ms = running.map(|task| task.status.watermark_ms).min();

        self.line_count += 1;
        let rate = read_count.saturating_sub(std::mem::replace(&mut self.read_count, read_count));
        let mut line = format!(
            "{} s: {} records read, {} a second",
            self.line_count,
            grouped(read_count),
            grouped(rate)
        );
        if let Some(time) = watermark_ms.and_then(utc) {
            // Writing to a string does not fail.
            let _ = write!(line, "; watermark {time}");
        }
        for (name, count) in
            [("late", sum(|task| task.late_records)), ("unreadable", sum(|task| task.dead_letters))]
        {
            if count > 0 {
                let _ = write!(line, "; {name} {}", grouped(count));
            }
        }
        line
    }
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An event time in UTC, to the second; none for one before 1970, or without bound.
fn utc(time_ms: i64) -> Option<String> {
    let is_time = (EVENT_TIME_MS_MIN..=EVENT_TIME_MS_MAX).contains(&time_ms);
    let since = Duration::from_millis(u64::try_from(time_ms).ok().filter(|_| is_time)?);
    let text = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).to_string();
    Some(text.replace('T', " ").trim_end_matches('Z').to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::metrics::{TaskReport, TurnMetrics};

    fn task(chain_index: u16, records_in: u64, watermark_ms: i64, late: u64) -> TaskReport {
        let status = TaskStatus {
            records_in,
            records_out: 0,
            late_records: late,
            dead_letters: 0,
            watermark_ms,
            queued_elements: 0,
            output_bytes: 0,
            waiting_batches_max: 0,
            is_finished: watermark_ms == i64::MAX,
        };
        let name = String::new();
        TaskReport { chain_index, task_index: 0, name, status, backpressured_ms: 0 }
    }

    fn shard(tasks: Vec<TaskReport>) -> ShardStatus {
        let turns = TurnMetrics::default();
        ShardStatus { shard: 0, turns, tasks, frame_bytes: 0, frames_outstanding: 0, store: None }
    }

    #[test]
    fn a_line_has_rate_watermark_and_what_went_wrong() {
        let mut progress = Progress { source_chains: vec![0], ..Progress::default() };
        let first = [shard(vec![task(0, 1_000, i64::MIN, 0), task(1, 700, i64::MIN, 0)])];
        assert_eq!(progress.line(&first), "1 s: 1,000 records read, 1,000 a second");
        let tasks = vec![task(0, 1_234_567, i64::MAX, 0), task(1, 9, 1_767_225_667_000, 12)];
        assert_eq!(
            progress.line(&[shard(tasks)]),
            "2 s: 1,234,567 records read, 1,233,567 a second; watermark 2026-01-01 00:01:07; \
             late 12"
        );
    }
}
