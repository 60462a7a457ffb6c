//! 256 flows from shard 0 to shard 1, one of which is blocked for a while.
//!
//! A thread beside the job watches that the others go on meanwhile, says what it has seen, and ends
//! the job by SIGTERM, as a user would. How fast they are is the simulated test's to say.

#![expect(clippy::print_stdout, reason = "what it has seen is read by a test")]

use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use millstream::prelude::*;

const FLOW_COUNT: u64 = 256;

/// What all others together have to deliver while the first is blocked: far more than fits between
/// the shards.
const OTHERS_COUNT: u64 = 500_000;

/// Longer than that takes, on any machine.
const PATIENCE: Duration = Duration::from_mins(10);

static IS_BLOCKED: AtomicBool = AtomicBool::new(false);
static OTHERS_TAKEN: AtomicU64 = AtomicU64::new(0);
static BLOCKED_TAKEN: AtomicU64 = AtomicU64::new(0);

/// Counts. The first of them can be blocked.
#[derive(Clone)]
struct Gate {
    is_first: bool,
}

impl Operator for Gate {
    type In = [u64; 8];
    type Out = Nothing;

    fn on_row(&mut self, _: Row<[u64; 8]>, _: &OperatorContext<'_>, _: &mut impl Output<Nothing>) {
        let taken = if self.is_first { &BLOCKED_TAKEN } else { &OTHERS_TAKEN };
        taken.fetch_add(1, Relaxed);
    }

    fn is_ready(&self) -> bool {
        !(self.is_first && IS_BLOCKED.load(Relaxed))
    }

    fn next_time_ms(&self) -> Option<i64> {
        // Looks again every turn.
        (!self.is_ready()).then_some(0)
    }
}

/// Writes the job, and begins to watch.
pub(crate) fn write(job: &Job) {
    for flow in 0..FLOW_COUNT {
        job.source(format!("source {flow}"), GeneratorSource::new(u64::MAX, |n| [n; 8]))
            .parallelism(1)
            .partition_by(|_| 1)
            .sink(format!("sink {flow}"), Gate { is_first: flow == 0 });
    }
    std::thread::spawn(watch);
}

/// Whether `is_so` comes true.
fn comes(until: Instant, is_so: impl Fn() -> bool) -> bool {
    while !is_so() {
        if until <= Instant::now() {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// What the flows do while the first is blocked, and when it is not any more.
fn observe() -> &'static str {
    let until = Instant::now() + PATIENCE;
    let [others, blocked] = [&OTHERS_TAKEN, &BLOCKED_TAKEN].map(|n| move || n.load(Relaxed));
    if !comes(until, || FLOW_COUNT * 100 <= others() && 0 < blocked()) {
        return "the flows do not begin";
    }
    IS_BLOCKED.store(true, Relaxed);
    // Its shard sees it at some turn; from then on it takes nothing, and the others go on.
    loop {
        let (others_before, blocked_before) = (others(), blocked());
        if !comes(until, || others_before + OTHERS_COUNT <= others()) {
            return "the others stop";
        }
        if blocked() == blocked_before {
            break;
        }
    }
    IS_BLOCKED.store(false, Relaxed);
    let blocked_before = blocked();
    if !comes(until, || blocked_before + 1_000 <= blocked()) {
        return "the blocked flow stays blocked";
    }
    "the others go on, and the blocked flow when it may"
}

fn watch() {
    println!("{}", observe());
    IS_BLOCKED.store(false, Relaxed);
    let pid = std::process::id().to_string();
    let killed = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(killed.is_ok_and(|status| status.success()), "kill does not run: it cannot end");
}
