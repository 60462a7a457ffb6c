//! The job on payments that come at their times: how long does a verdict take?
//!
//! Latency is from the instant at which a payment was due to its verdict. Beside it stands what a
//! loop that does nothing but wait for the same instants sees on the same cores: what the machine
//! withheld from everybody.

#![allow(clippy::disallowed_methods, reason = "what is measured is what a clock on the wall says")]

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use millstream::prelude::*;

use super::announce::Announcer;
use super::job;
use super::paced::Paced;
use super::records::Payment;
use super::world::World;

/// From building the job to its first payment: threads are started.
const LEAD: Duration = Duration::from_millis(300);

/// A rule is sent so long before payments come that it judges.
const NOTICE: Duration = Duration::from_millis(200);

/// How long the machine is watched.
const WATCHED: Duration = Duration::from_secs(1);

/// What was measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Payments per second.
    pub rate: u64,
    /// From due to verdict.
    pub verdicts: Latency,
    /// The same of a loop that does nothing.
    pub hiccups: Latency,
}

/// Durations in nanoseconds, up to a minute.
#[derive(Debug, Clone)]
pub struct Latency(Arc<Mutex<Histogram<u64>>>);

impl Latency {
    fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3);
        Self(Arc::new(Mutex::new(histogram.expect("bounds are in order"))))
    }

    fn record(&self, latency: Duration) {
        let mut histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.saturating_record(latency.as_nanos() as u64);
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names =
            [("p50", 0.5), ("  p90", 0.9), ("  p99", 0.99), ("  p99.9", 0.999), ("  max", 1.0)];
        for (name, quantile) in names {
            let us = histogram.value_at_quantile(quantile) as f64 / 1e3;
            let duration = match us {
                ..1_000.0 => format!("{us:.0} µs"),
                _ => format!("{:.1} ms", us / 1e3),
            };
            write!(f, "{name} {duration:>7}")?;
        }
        Ok(())
    }
}

/// Judges `rate` payments a second for `seconds`.
///
/// # Errors
/// What kept the job from starting, or ended it.
pub fn run(rate: u64, seconds: u64, args: &JobArgs) -> Result<Measured> {
    let hiccups = hiccups(rate, args.run.config()?.shards);
    let world = World::new(rate * seconds);
    let verdicts = Latency::new();
    let job = Job::new("card-fraud-live");
    build(&job, world, rate, &verdicts);
    job.execute(args)?;
    Ok(Measured { rate, verdicts, hiccups })
}

fn build(job: &Job, world: World, rate: u64, latency: &Latency) {
    let start = Instant::now();
    let begin = start + LEAD;
    let due = move |n: u64| Duration::from_nanos(n * 1_000_000_000 / rate);
    let payments = Paced::new(begin, world.payment_count, move |n| {
        let payment = Payment { due_ns: Some(due(n).as_nanos() as u64), ..world.payment(n) };
        (due(n), payment)
    });
    let rules = world.rules();
    let announcer = Announcer::new(rules.clone());
    // The first rule is there before the first payment.
    let rules = Paced::new(start, rules.len() as u64, move |n| {
        let rule = rules[n as usize].clone();
        ((due(world.received_before(rule.from_ms)) + LEAD).saturating_sub(NOTICE), rule)
    });
    let (verdicts, late) =
        job::judged(job.source("payments", payments), job.source("rules", rules));
    late.discard();
    let latency = latency.clone();
    let record = ForEachSink::new(move |due_ns| {
        latency.record((begin + Duration::from_nanos(due_ns)).elapsed());
    });
    verdicts
        .inspect(move |verdict| announcer.see(verdict))
        .flat_map(|verdict| verdict.due_ns)
        .sink("latency", record);
}

/// How late a loop is that does nothing but wait for `rate` instants a second, on each of the cores
/// that shards run on.
fn hiccups(rate: u64, shards: Option<u32>) -> Latency {
    let latency = Latency::new();
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let watch = |core| {
        core_affinity::set_for_current(core);
        let begin = Instant::now();
        for n in 0..rate * WATCHED.as_secs() {
            let due = begin + Duration::from_nanos(n * 1_000_000_000 / rate);
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            latency.record(due.elapsed());
        }
    };
    std::thread::scope(|scope| {
        let core_count = shards.map_or(cores.len(), |count| count as usize);
        for core in cores.iter().take(core_count) {
            scope.spawn(|| watch(*core));
        }
    });
    latency
}
