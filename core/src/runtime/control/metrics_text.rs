//! Metrics as Prometheus text (exposition format 0.0.4).

use std::fmt::Write as _;

use crate::checkpoint::coordinator::{CheckpointReport, CheckpointsStatus, Outcome};
use crate::data::row::NO_EVENT_TIME;
use crate::runtime::control::restarts::{Phase, RestartsStatus};
use crate::shard::metrics::{ShardStatus, TaskReport};
use crate::state::shard_store::StoreStatus;

/// One metric of a task: its name, kind, the question it answers, and where its value is.
struct TaskMetric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&TaskReport) -> Option<i64>,
}

/// One metric of a shard.
struct ShardMetric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&ShardStatus) -> u64,
}

/// One metric of a shard's store.
struct StoreMetric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&StoreStatus) -> u64,
}

/// One metric of checkpoints.
struct CheckpointMetric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&CheckpointsStatus) -> Option<f64>,
}

const TASK_METRICS: [TaskMetric; 9] = [
    TaskMetric {
        name: "millstream_task_records_in_total",
        kind: "counter",
        help: "Records that the task has taken",
        value: |task| Some(task.status.records_in as i64),
    },
    TaskMetric {
        name: "millstream_task_records_out_total",
        kind: "counter",
        help: "Records that the task has given, on all outputs",
        value: |task| Some(task.status.records_out as i64),
    },
    TaskMetric {
        name: "millstream_task_late_records_total",
        kind: "counter",
        help: "Records that came after their time",
        value: |task| Some(task.status.late_records as i64),
    },
    TaskMetric {
        name: "millstream_task_dead_letters_total",
        kind: "counter",
        help: "Records that could not be read",
        value: |task| Some(task.status.dead_letters as i64),
    },
    TaskMetric {
        name: "millstream_task_watermark_ms",
        kind: "gauge",
        help: "Event time that the task has come to, ms since 1970",
        value: |task| Some(task.status.watermark_ms).filter(|ms| *ms != NO_EVENT_TIME),
    },
    TaskMetric {
        name: "millstream_task_queued_elements",
        kind: "gauge",
        help: "Elements that have arrived and were not taken",
        value: |task| Some(task.status.queued_elements as i64),
    },
    TaskMetric {
        name: "millstream_task_output_bytes",
        kind: "gauge",
        help: "Bytes, as frames, of rows given that have not left or were not read",
        value: |task| Some(task.status.output_bytes as i64),
    },
    TaskMetric {
        name: "millstream_task_waiting_batches_max",
        kind: "gauge",
        help: "Most batches that have waited for a credit in one channel",
        value: |task| Some(task.status.waiting_batches_max as i64),
    },
    TaskMetric {
        name: "millstream_task_backpressured_ms_total",
        kind: "counter",
        help: "Time that the task had input and could not go on",
        value: |task| Some(task.backpressured_ms as i64),
    },
];

const SHARD_METRICS: [ShardMetric; 6] = [
    ShardMetric {
        name: "millstream_shard_busy_turns_total",
        kind: "counter",
        help: "Turns in which something was done",
        value: |shard| shard.turns.busy_turns,
    },
    ShardMetric {
        name: "millstream_shard_idle_turns_total",
        kind: "counter",
        help: "Turns in which nothing was there",
        value: |shard| shard.turns.idle_turns,
    },
    ShardMetric {
        name: "millstream_shard_stalls_total",
        kind: "counter",
        help: "Turns that took longer than they may",
        value: |shard| shard.turns.stalls,
    },
    ShardMetric {
        name: "millstream_shard_turn_ns_max",
        kind: "gauge",
        help: "Longest turn so far, nanoseconds",
        value: |shard| shard.turns.turn_ns_max,
    },
    ShardMetric {
        name: "millstream_shard_frame_bytes",
        kind: "gauge",
        help: "Bytes of the frame buffers that exist",
        value: |shard| shard.frame_bytes,
    },
    ShardMetric {
        name: "millstream_shard_frames_outstanding",
        kind: "gauge",
        help: "Frame buffers that are filled, on their way or unread",
        value: |shard| shard.frames_outstanding,
    },
];

const STORE_METRICS: [StoreMetric; 11] = [
    StoreMetric {
        name: "millstream_store_working_bytes",
        kind: "gauge",
        help: "Bytes of keyed state that operators keep ready",
        value: |store| store.working_bytes,
    },
    StoreMetric {
        name: "millstream_store_excess_bytes",
        kind: "gauge",
        help: "Bytes of it that have to leave memory",
        value: |store| store.excess_bytes,
    },
    StoreMetric {
        name: "millstream_store_memory_bytes",
        kind: "gauge",
        help: "Bytes of memory for records and blocks on their way to disk and back",
        value: |store| store.memory_bytes,
    },
    StoreMetric {
        name: "millstream_store_index_bytes",
        kind: "gauge",
        help: "Bytes of memory for indexes and filters of tables of state",
        value: |store| store.index_bytes,
    },
    StoreMetric {
        name: "millstream_store_dirty_bytes",
        kind: "gauge",
        help: "Bytes of records that are not written yet",
        value: |store| store.dirty_bytes,
    },
    StoreMetric {
        name: "millstream_store_pressure",
        kind: "gauge",
        help: "0: there is room, 1: records are being written, 2: nothing has room before",
        value: |store| store.pressure,
    },
    StoreMetric {
        name: "millstream_store_tables",
        kind: "gauge",
        help: "Tables of state on disk",
        value: |store| store.table_count,
    },
    StoreMetric {
        name: "millstream_store_table_bytes",
        kind: "gauge",
        help: "Bytes of the tables, about",
        value: |store| store.table_bytes,
    },
    StoreMetric {
        name: "millstream_store_reads_total",
        kind: "counter",
        help: "Blocks read for records that waited for their state",
        value: |store| store.read_count,
    },
    StoreMetric {
        name: "millstream_store_flushes_total",
        kind: "counter",
        help: "Tables written with what had changed",
        value: |store| store.flush_count,
    },
    StoreMetric {
        name: "millstream_store_merges_total",
        kind: "counter",
        help: "Merges of tables",
        value: |store| store.merge_count,
    },
];

const CHECKPOINT_METRICS: [CheckpointMetric; 7] = [
    CheckpointMetric {
        name: "millstream_checkpoints_completed_total",
        kind: "counter",
        help: "Checkpoints and savepoints that were completed",
        value: |status| Some(status.completed_count as f64),
    },
    CheckpointMetric {
        name: "millstream_checkpoints_failed_total",
        kind: "counter",
        help: "Checkpoints and savepoints that were given up",
        value: |status| Some(status.failed_count as f64),
    },
    CheckpointMetric {
        name: "millstream_checkpoints_in_flight",
        kind: "gauge",
        help: "Checkpoints and savepoints that are under way",
        value: |status| {
            let is_pending = |report: &&CheckpointReport| report.outcome == Outcome::Pending;
            Some(status.history.iter().filter(is_pending).count() as f64)
        },
    },
    CheckpointMetric {
        name: "millstream_checkpoint_last_seconds",
        kind: "gauge",
        help: "How long the last completed one took",
        value: |status| last(status)?.took_us.map(|took_us| took_us as f64 / 1e6),
    },
    CheckpointMetric {
        name: "millstream_checkpoint_last_bytes",
        kind: "gauge",
        help: "Bytes of the last completed one",
        value: |status| Some(last(status)?.bytes as f64),
    },
    CheckpointMetric {
        name: "millstream_checkpoint_last_in_flight_bytes",
        kind: "gauge",
        help: "Bytes of the last completed one that are records in flight",
        value: |status| Some(last(status)?.in_flight_bytes as f64),
    },
    CheckpointMetric {
        name: "millstream_checkpoint_last_alignment_seconds",
        kind: "gauge",
        help: "How long a barrier of the last completed one waited at a task at most",
        value: |status| Some(last(status)?.alignment_us as f64 / 1e6),
    },
];

/// One metric of a job over its attempts.
struct RestartsMetric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&RestartsStatus) -> Option<i64>,
}

const RESTARTS_METRICS: [RestartsMetric; 3] = [
    RestartsMetric {
        name: "millstream_restarts_total",
        kind: "counter",
        help: "How often the job has begun again after a failure, in this process",
        value: |status| Some(status.restart_count as i64),
    },
    RestartsMetric {
        name: "millstream_running_since_ms",
        kind: "gauge",
        help: "Since when the job runs, ms since 1970; none while it does not",
        value: |status| (status.phase == Phase::Running).then_some(status.since_ms),
    },
    RestartsMetric {
        name: "millstream_last_failure_ms",
        kind: "gauge",
        help: "When the job has failed last, ms since 1970",
        value: |status| status.last_failure.as_ref().map(|failure| failure.failed_ms),
    },
];

/// The last one that was completed.
fn last(status: &CheckpointsStatus) -> Option<&CheckpointReport> {
    status.history.iter().rfind(|report| report.outcome == Outcome::Completed)
}

/// The numbers of `shards`, of checkpoints, if any are taken, and of the job over its attempts, as
/// text.
pub(super) fn render(
    shards: &[ShardStatus],
    checkpoints: Option<&CheckpointsStatus>,
    restarts: Option<&RestartsStatus>,
) -> String {
    let mut text = String::new();
    for metric in &RESTARTS_METRICS {
        head(&mut text, metric.name, metric.kind, metric.help);
        if let Some(value) = restarts.and_then(metric.value) {
            line(&mut text, format_args!("{} {value}", metric.name));
        }
    }
    for metric in &CHECKPOINT_METRICS {
        head(&mut text, metric.name, metric.kind, metric.help);
        if let Some(value) = checkpoints.and_then(metric.value) {
            line(&mut text, format_args!("{} {value}", metric.name));
        }
    }
    for metric in &SHARD_METRICS {
        head(&mut text, metric.name, metric.kind, metric.help);
        for shard in shards {
            let value = (metric.value)(shard);
            line(&mut text, format_args!("{}{{shard=\"{}\"}} {value}", metric.name, shard.shard));
        }
    }
    turn_histogram(&mut text, shards);
    for metric in &STORE_METRICS {
        head(&mut text, metric.name, metric.kind, metric.help);
        for ShardStatus { shard, store, .. } in shards {
            let Some(value) = store.as_ref().map(metric.value) else { continue };
            line(&mut text, format_args!("{}{{shard=\"{shard}\"}} {value}", metric.name));
        }
    }
    for metric in &TASK_METRICS {
        head(&mut text, metric.name, metric.kind, metric.help);
        for shard in shards {
            for task in &shard.tasks {
                let Some(value) = (metric.value)(task) else { continue };
                let (shard, name) = (shard.shard, escape(&task.name));
                let labels = format_args!("shard=\"{shard}\",task=\"{name}\"");
                line(&mut text, format_args!("{}{{{labels}}} {value}", metric.name));
            }
        }
    }
    text
}

fn turn_histogram(text: &mut String, shards: &[ShardStatus]) {
    let name = "millstream_shard_turn_ns";
    head(text, name, "histogram", "How long busy turns take, nanoseconds");
    for ShardStatus { shard, turns, .. } in shards {
        let mut count = 0;
        // The last entry has no upper limit: it is in the bucket of infinity alone.
        let (last, bounded) = turns.turn_ns_log2.split_last().expect("it has entries");
        for (log2, in_bucket) in bounded.iter().enumerate() {
            count += in_bucket;
            let limit_ns = 1_u64 << (log2 + 1);
            line(
                text,
                format_args!("{name}_bucket{{shard=\"{shard}\",le=\"{limit_ns}\"}} {count}"),
            );
        }
        count += last;
        line(text, format_args!("{name}_bucket{{shard=\"{shard}\",le=\"+Inf\"}} {count}"));
        line(text, format_args!("{name}_sum{{shard=\"{shard}\"}} {}", turns.turn_ns_sum));
        line(text, format_args!("{name}_count{{shard=\"{shard}\"}} {count}"));
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}"));
    line(text, format_args!("# TYPE {name} {kind}"));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes everything");
}

/// A label's value: backslash, quote and line feed are escaped.
fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::shard::metrics::TurnMetrics;
    use crate::task::TaskStatus;

    #[test]
    fn a_task_is_a_line_per_metric() {
        let status = TaskStatus {
            records_in: 7,
            records_out: 5,
            late_records: 0,
            dead_letters: 0,
            watermark_ms: NO_EVENT_TIME,
            queued_elements: 0,
            output_bytes: 0,
            waiting_batches_max: 0,
            is_finished: false,
        };
        let task = TaskReport {
            chain_index: 0,
            task_index: 1,
            name: "read \"all\"".to_string(),
            status,
            backpressured_ms: 3,
        };
        let shard = ShardStatus {
            shard: 1,
            turns: TurnMetrics::default(),
            tasks: vec![task],
            frame_bytes: 0,
            frames_outstanding: 0,
            store: None,
        };
        let text = render(&[shard], None, None);
        let expected = r#"millstream_task_records_in_total{shard="1",task="read \"all\""} 7"#;
        assert!(text.lines().any(|line| line == expected.replace(r"\\", r"\")), "{text}");
        assert!(!text.contains("millstream_task_watermark_ms{"), "no watermark, no line");
    }

    #[test]
    fn a_store_is_a_line_per_metric_where_there_is_one() {
        let shard = |shard, store| ShardStatus {
            shard,
            turns: TurnMetrics::default(),
            tasks: Vec::new(),
            frame_bytes: 0,
            frames_outstanding: 0,
            store,
        };
        let store = StoreStatus { read_count: 9, pressure: 2, ..StoreStatus::default() };
        let text = render(&[shard(0, None), shard(1, Some(store))], None, None);
        let lines: Vec<_> = text.lines().filter(|l| l.starts_with("millstream_store_")).collect();
        assert_eq!(lines.len(), STORE_METRICS.len(), "{text}");
        assert!(lines.contains(&"millstream_store_reads_total{shard=\"1\"} 9"), "{text}");
        assert!(lines.contains(&"millstream_store_pressure{shard=\"1\"} 2"), "{text}");
    }

    #[test]
    fn a_turn_longer_than_every_bucket_is_in_the_last() {
        let mut turns = TurnMetrics::default();
        turns.on_turn(std::time::Duration::from_hours(1));
        turns.on_turn(std::time::Duration::from_nanos(1));
        let shard = ShardStatus {
            shard: 0,
            turns,
            tasks: Vec::new(),
            frame_bytes: 0,
            frames_outstanding: 0,
            store: None,
        };
        let text = render(&[shard], None, None);
        let bucket = |le: &str, count: u32| {
            text.contains(&format!(
                "millstream_shard_turn_ns_bucket{{shard=\"0\",le=\"{le}\"}} {count}\n"
            ))
        };
        assert!(bucket("2", 1) && bucket(&(1_u64 << 31).to_string(), 1), "{text}");
        assert!(bucket("+Inf", 2) && !text.contains("4294967296"), "{text}");
    }

    #[test]
    fn the_page_of_metrics_lists_those_there_are() {
        let page = include_str!("../../../../docs/operations/metrics.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `millstream_"));
        let listed: BTreeSet<(&str, &str)> = rows
            .map(|row| {
                let (name, rest) = row.split_once("` | ").expect("a name");
                (name, rest.split_once(" | ").expect("a kind and a question").0)
            })
            .collect();
        let text = render(&[], None, None);
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE millstream_"));
        let rendered = types.map(|line| line.split_once(' ').expect("a name and a kind"));
        assert_eq!(listed, rendered.collect());
    }
}
