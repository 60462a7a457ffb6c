//! Slow consumers: who has to wait for them, and who must not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream::prelude::*;

const FLOW_COUNT: u64 = 256;
const RECORD_COUNT: u64 = 2_000;

/// A task that gives one row for one stops when a batch waits for a credit; what it had begun to
/// fill may become one more.
const WAITING_BATCHES_MAX: u64 = 2;

/// Counts records; the one that is `blocked` takes none until all others have all of theirs.
#[derive(Clone)]
struct Gate {
    is_blocked: bool,
    others_taken: Arc<AtomicU64>,
    /// When the last of the others' records came, ns since the start.
    others_done_ns: Arc<AtomicU64>,
}

impl Operator for Gate {
    type In = u64;
    type Out = Nothing;

    fn on_row(&mut self, _: Row<u64>, ctx: &OperatorContext<'_>, _: &mut impl Output<Nothing>) {
        if !self.is_blocked {
            self.others_taken.fetch_add(1, Ordering::Relaxed);
            self.others_done_ns.fetch_max(ctx.now_ns(), Ordering::Relaxed);
        }
    }

    fn is_ready(&self) -> bool {
        let expected = (FLOW_COUNT - 1) * RECORD_COUNT;
        !self.is_blocked || self.others_taken.load(Ordering::Relaxed) == expected
    }

    fn next_time_ms(&self) -> Option<i64> {
        // Looks again every turn that time allows.
        (!self.is_ready()).then_some(0)
    }
}

/// Runs 256 flows from shard 0 to shard 1, the first blocked or not; simulated time until the
/// others are done.
fn others_done(seed: u64, is_blocked: bool) -> Duration {
    let job = Job::new("flows");
    let (others_taken, others_done_ns) = (Arc::default(), Arc::<AtomicU64>::default());
    for flow in 0..FLOW_COUNT {
        let gate = Gate {
            is_blocked: is_blocked && flow == 0,
            others_taken: Arc::clone(&others_taken),
            others_done_ns: Arc::clone(&others_done_ns),
        };
        job.source(format!("source {flow}"), GeneratorSource::new(RECORD_COUNT, |n| n))
            .parallelism(1)
            .partition_by(|_| 1)
            .sink(format!("sink {flow}"), gate);
    }
    // Without clogs: they would strike one flow or another, and that is not what is compared.
    let mut config = SimConfig::new(seed);
    config.network.clog_one_in = 0;
    config.stall_one_in = 0;
    let report = job.simulate(2, &config).expect("the job has no mistakes");
    report.outcome.expect("it ends well, the blocked flow too");
    for task in report.shards.iter().flat_map(|shard| &shard.tasks) {
        let waiting = task.status.waiting_batches_max;
        assert!(waiting <= WAITING_BATCHES_MAX, "{waiting} batches waited in {}", task.name);
        assert_eq!(task.status.output_bytes, 0, "left in {}", task.name);
    }
    Duration::from_nanos(others_done_ns.load(Ordering::Relaxed))
}

/// Within a few per cent of each other over some seeds, and the blocked channel never has more than
/// its credits under way (the simulated network checks that of every channel).
#[test]
fn one_blocked_channel_of_256_does_not_slow_the_others() {
    let total = |is_blocked| -> Duration { (0..4).map(|seed| others_done(seed, is_blocked)).sum() };
    let (free, blocked) = (total(false), total(true));
    let ratio = free.as_secs_f64() / blocked.as_secs_f64();
    assert!(0.95 <= ratio, "the others have {ratio:.3} of their throughput");
}

/// Between the two threads of a real process: its test job blocks one flow and watches all.
#[test]
fn one_blocked_channel_of_256_does_not_stop_the_others_of_a_process() {
    let directory = tempfile::tempdir().expect("a place for files");
    let output = super::process::run("flows", &["--shards", "2"], directory.path());
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "the others go on, and the blocked flow when it may", "{log}");
}
