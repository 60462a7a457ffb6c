//! What other keys notice when millions of timers come due at once.
//!
//! ```text
//! source:  a record for each of N keys ─► each registers a timer for the same time
//!          probes of one more key, on schedule                       calm
//!          a record far ahead ─► its watermark makes all N timers due
//!          probes of that key, on schedule, until the last has fired stormy
//! ```
//!
//! The loop is open: a probe is due at its number times the interval, whether anybody is ready or
//! not, and its delay counts from there. Timers fire in slices with the probes in between, so a
//! probe should wait for one turn at most, however many timers there are. The gaps between two
//! polls of the source show what a turn took, and what the machine did.
//!
//! `cargo run --release -p millstream-bench --bin due_timers [-- --timers 10000000]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use millstream::limits::TURN_STALL_NS;
use millstream::operator::SplitEvent;
use millstream::operator::source::{Source, SourceOutput, SourceReader, SourceStatus};
use millstream::prelude::*;
use millstream_bench::{process, stopwatch};

/// Measures what other keys notice when many timers come due at once.
#[derive(Debug, Clone, Copy, Parser)]
struct Options {
    /// Timers, one for each key.
    #[arg(long, default_value_t = 10_000_000)]
    timers: u64,
    /// Probes per second.
    #[arg(long, default_value_t = 100_000)]
    rate: u64,
    /// Milliseconds of probes before the timers come due.
    #[arg(long, default_value_t = 1_000)]
    calm_ms: u64,
}

/// The key of the probes.
const PROBE: u64 = 0;

/// When all timers are due, event time in ms, and when the record comes that says so.
const DUE_MS: i64 = 10_000;
const FAR_MS: i64 = 2 * DUE_MS;

/// Indexes of histograms.
const CALM: usize = 0;
const STORMY: usize = 1;
const GAPS: usize = 2;

/// What source and function share: both are on one shard.
#[derive(Debug, Clone)]
struct Findings {
    fired: Arc<AtomicU64>,
    took: Arc<Mutex<Duration>>,
    histograms: Arc<Mutex<[Histogram<u64>; 3]>>,
}

impl Findings {
    fn new() -> Self {
        let histograms = std::array::from_fn(|_| histogram());
        Self {
            fired: Arc::default(),
            took: Arc::default(),
            histograms: Arc::new(Mutex::new(histograms)),
        }
    }

    fn record(&self, index: usize, ns: u64) {
        let mut histograms = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        histograms[index].saturating_record(ns);
    }
}

/// Nanoseconds, up to ten seconds.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("bounds are in order")
}

#[derive(Debug, Clone, Copy, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Ping {
    key: u64,
    /// For a probe: since the run's beginning.
    due_ns: u64,
    event_time_ms: i64,
}

#[derive(Clone)]
struct Pings {
    options: Options,
    begin: Instant,
    findings: Findings,
}

/// What the source does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Registers timers; so many keys had their record.
    Setting(u64),
    Calm,
    Stormy,
}

struct PingReader {
    pings: Pings,
    phase: Phase,
    /// When the phase began, and how many probes it has had.
    since: Instant,
    sent: u64,
    polled_at: Option<Instant>,
}

impl Source for Pings {
    type Out = Ping;
    type Reader = PingReader;

    fn describe(&self) -> String {
        format!("{} timers, {} probes per second", self.options.timers, self.options.rate)
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn open(&self, _ctx: &OperatorContext<'_>) -> Result<PingReader> {
        let now = Instant::now();
        let phase = Phase::Setting(0);
        Ok(PingReader { pings: self.clone(), phase, since: now, sent: 0, polled_at: None })
    }
}

impl PingReader {
    fn emit(&mut self, ping: Ping, out: &mut impl SourceOutput<Ping>) {
        out.emit(0, self.sent, ping.event_time_ms, ping);
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        (self.phase, self.since, self.sent) = (phase, now, 0);
    }

    /// The probes that are due.
    fn probe(
        &mut self,
        event_time_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<Ping>,
    ) {
        let since_ns = (self.since - self.pings.begin).as_nanos() as u64;
        let now_ns = self.pings.begin.elapsed().as_nanos() as u64;
        loop {
            let due_ns = since_ns + self.sent * 1_000_000_000 / self.pings.options.rate;
            if now_ns < due_ns || !ctx.env().spend() {
                return;
            }
            self.emit(Ping { key: PROBE, due_ns, event_time_ms }, out);
            self.sent += 1;
        }
    }
}

impl SourceReader for PingReader {
    type Out = Ping;

    fn poll(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<Ping>,
    ) -> SourceStatus {
        let now = Instant::now();
        let polled_at = self.polled_at.replace(now);
        let Options { timers, calm_ms, .. } = self.pings.options;
        match self.phase {
            Phase::Setting(0) if polled_at.is_none() => out.on_split(SplitEvent::Active(0)),
            Phase::Setting(count) if count < timers => {
                let mut key = count;
                while key < timers && ctx.env().spend() {
                    key += 1;
                    self.emit(Ping { key, due_ns: 0, event_time_ms: 0 }, out);
                }
                self.phase = Phase::Setting(key);
            }
            Phase::Setting(_) => self.enter(Phase::Calm, now),
            Phase::Calm if now - self.since < Duration::from_millis(calm_ms) => {
                self.probe(0, ctx, out);
            }
            Phase::Calm => {
                self.enter(Phase::Stormy, now);
                self.probe(FAR_MS, ctx, out);
            }
            Phase::Stormy => {
                if let Some(polled_at) = polled_at {
                    self.pings.findings.record(GAPS, (now - polled_at).as_nanos() as u64);
                }
                if self.pings.findings.fired.load(Ordering::Relaxed) == timers {
                    let mut took =
                        self.pings.findings.took.lock().unwrap_or_else(PoisonError::into_inner);
                    *took = now - self.since;
                    return SourceStatus::Ended;
                }
                self.probe(FAR_MS, ctx, out);
            }
        }
        SourceStatus::Ready
    }
}

/// Registers a timer for each key, and looks at the clock for each probe.
#[derive(Clone)]
struct Remind {
    begin: Instant,
    findings: Findings,
}

impl KeyedProcessFunction<u64, Ping> for Remind {
    type Out = u64;

    fn process(
        &mut self,
        ping: Ping,
        ctx: &mut KeyedContext<'_, u64>,
        _out: &mut impl Output<u64>,
    ) {
        if ping.key != PROBE {
            ctx.register_event_timer(DUE_MS);
            return;
        }
        let delay_ns = (self.begin.elapsed().as_nanos() as u64).saturating_sub(ping.due_ns);
        let index = if ping.event_time_ms == FAR_MS { STORMY } else { CALM };
        self.findings.record(index, delay_ns);
    }

    fn on_timer(
        &mut self,
        _timer: FiredTimer,
        _ctx: &mut KeyedContext<'_, u64>,
        _out: &mut impl Output<u64>,
    ) {
        self.findings.fired.fetch_add(1, Ordering::Relaxed);
    }
}

fn print(name: &str, histogram: &Histogram<u64>) {
    let us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "{name:32} {:8} values   p50 {:7.2}  p90 {:7.2}  p99 {:7.2}  p99.9 {:8.1}  max {:8.1} µs",
        histogram.len(),
        us(0.5),
        us(0.9),
        us(0.99),
        us(0.999),
        us(1.0),
    );
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let findings = Findings::new();
    let begin = Instant::now();
    let job = Job::new("due-timers");
    job.source("pings", Pings { options, begin, findings: findings.clone() })
        .watermark(Monotonic::new(), |ping| ping.event_time_ms)
        .key_by(|ping| ping.key)
        .process("remind", Remind { begin, findings: findings.clone() })
        .sink("nothing", DiscardSink::new());
    let config = stopwatch::spinning();
    let plan = job.plan(1, config.key_group_count)?;
    millstream::runtime::node::run(&plan.program, &config, false)?;

    let took = *findings.took.lock().unwrap_or_else(PoisonError::into_inner);
    let histograms = findings.histograms.lock().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} timers due at once, fired in {:.2} s, {:.0} ns each; {:.0} MiB resident",
        options.timers,
        took.as_secs_f64(),
        took.as_nanos() as f64 / options.timers as f64,
        process::resident_mib(),
    );
    print("delay of another key, before", &histograms[CALM]);
    print("delay of another key, meanwhile", &histograms[STORMY]);
    print("turns, meanwhile", &histograms[GAPS]);
    let p99_ns = histograms[STORMY].value_at_quantile(0.99);
    let is_met = p99_ns <= TURN_STALL_NS;
    println!(
        "gate p99 at most one turn, {} µs: {}",
        TURN_STALL_NS / 1_000,
        if is_met { "met" } else { "NOT MET" }
    );
    Ok(())
}
