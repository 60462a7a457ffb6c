//! 256 flows from shard 0 to shard 1, one of which is blocked every other moment.
//!
//! A thread beside the job measures what the others deliver while it is free and while it is
//! blocked, in windows that take turns, so that the machine's moods meet both. It prints the median
//! of the ratios and ends the job by SIGTERM, as a user would.

#![expect(clippy::print_stdout, reason = "what it has measured is read by a test")]

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream::prelude::*;

const FLOW_COUNT: u64 = 256;

/// Pairs of windows.
const PAIR_COUNT: u32 = 31;

/// Long beside a turn of either shard.
const WINDOW: Duration = Duration::from_millis(30);

/// How long the flows get used to a change before a window begins.
const SETTLE: Duration = Duration::from_millis(10);

/// Windows that may be lost because a shard did not come to see in time that a flow is blocked.
const LOST_MAX: u32 = 100;

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
        taken.fetch_add(1, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        !(self.is_first && IS_BLOCKED.load(Ordering::Relaxed))
    }

    fn next_time_ms(&self) -> Option<i64> {
        // Looks again every turn.
        (!self.is_ready()).then_some(0)
    }
}

/// Writes the job, and begins to measure.
pub(crate) fn write(job: &Job) {
    for flow in 0..FLOW_COUNT {
        job.source(format!("source {flow}"), GeneratorSource::new(u64::MAX, |n| [n; 8]))
            .parallelism(1)
            .partition_by(|_| 1)
            .sink(format!("sink {flow}"), Gate { is_first: flow == 0 });
    }
    std::thread::spawn(measure);
}

/// What the others deliver a second in a window; `None` if the blocked flow was not.
fn rate(is_blocked: bool) -> Option<f64> {
    IS_BLOCKED.store(is_blocked, Ordering::Relaxed);
    std::thread::sleep(SETTLE);
    let [others, blocked] = [&OTHERS_TAKEN, &BLOCKED_TAKEN].map(|n| n.load(Ordering::Relaxed));
    let begun = Instant::now();
    std::thread::sleep(WINDOW);
    let others = OTHERS_TAKEN.load(Ordering::Relaxed) - others;
    let blocked = BLOCKED_TAKEN.load(Ordering::Relaxed) - blocked;
    (!is_blocked || blocked == 0).then(|| others as f64 / begun.elapsed().as_secs_f64())
}

/// What part of their throughput the others keep, in one pair of windows; either may come first.
fn ratio(is_blocked_first: bool) -> Option<f64> {
    let (first, second) = (rate(is_blocked_first)?, rate(!is_blocked_first)?);
    Some(if is_blocked_first { first / second } else { second / first })
}

fn measure() {
    while OTHERS_TAKEN.load(Ordering::Relaxed) < FLOW_COUNT * 1_000 {
        std::thread::yield_now();
    }
    let pairs = (0..PAIR_COUNT + LOST_MAX).filter_map(|pair| ratio(pair % 2 == 1));
    let mut ratios: Vec<f64> = pairs.take(PAIR_COUNT as usize).collect();
    ratios.sort_by(f64::total_cmp);
    IS_BLOCKED.store(false, Ordering::Relaxed);
    match ratios.get(PAIR_COUNT as usize / 2) {
        Some(median) => println!("the others keep {median:.3}"),
        None => println!("the blocked flow was not blocked"),
    }
    let pid = std::process::id().to_string();
    let killed = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(killed.is_ok_and(|status| status.success()), "kill does not run: it cannot end");
}
