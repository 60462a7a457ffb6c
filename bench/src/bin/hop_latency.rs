//! How long a record takes from the instant at which it is due to the sink behind a keyed hop.
//!
//! ```text
//! shard 0:  source ──key_by──┐ ┌── hash ──► count per key ──► sink
//!                            ├─┤
//! shard 1:  source ──key_by──┘ └── hash ──► count per key ──► sink
//! ```
//!
//! The loop is open: a record is due at its number times the interval, whether anybody is ready or
//! not, and latency counts from there. Only rows that crossed to the other shard are reported. Both
//! shards spin. Beside it stand the gaps in which nothing ran: of a bare loop on the same cores
//! just before and just after, and between two polls of the sources in the measured run itself. A
//! gap of the bare loop also counts as the delays of all records that would have been due in it: so
//! late an engine would be that takes no time at all. A bare hop is what is left of the job if all
//! of the engine is taken away: two threads that spin on the same cores, and hand numbers to each
//! other on the same schedule, each through one word of memory. The same is said second by second:
//! gaps spoil some seconds, not all of them.
//!
//! `cargo run --release -p millstream-bench --bin hop_latency [-- --rate 100000 --seconds 10]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use millstream::data::row::NO_EVENT_TIME;
use millstream::operator::SplitEvent;
use millstream::operator::aggregate::KeyedAggregate;
use millstream::operator::source::{Source, SourceOutput, SourceReader, SourceStatus};
use millstream::prelude::*;
use millstream_bench::{mix, process, stopwatch};

/// Measures the latency of a keyed hop.
#[derive(Debug, Clone, Copy, Parser)]
struct Options {
    /// Records per second, both sources together.
    #[arg(long, default_value_t = 100_000)]
    rate: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Seconds before that.
    #[arg(long, default_value_t = 1)]
    warm_up: u64,
    /// Keys.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
}

/// Between building the job and the first record: time for threads to start.
const LEAD: Duration = Duration::from_millis(300);

/// What all tasks of a run write into at their end.
#[derive(Debug, Clone)]
struct Findings(Arc<Mutex<Vec<Histogram<u64>>>>);

/// Indexes into [`Findings`]; behind them what crossed, one histogram for each second.
const STAYED: usize = 0;
const POLL_GAPS: usize = 1;
const CROSSED: usize = 2;

impl Findings {
    fn new(seconds: u64) -> Self {
        Self(Arc::new(Mutex::new(histograms(CROSSED + seconds as usize))))
    }

    fn add(&self, index: usize, histogram: &Histogram<u64>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all[index].add(histogram).expect("histograms of one kind");
    }
}

fn histograms(count: usize) -> Vec<Histogram<u64>> {
    std::iter::repeat_with(histogram).take(count).collect()
}

fn sum<'a>(parts: impl IntoIterator<Item = &'a Histogram<u64>>) -> Histogram<u64> {
    let mut all = histogram();
    parts.into_iter().for_each(|part| all.add(part).expect("histograms of one kind"));
    all
}

/// Nanoseconds, up to ten seconds.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("bounds are in order")
}

#[derive(Debug, Clone, Copy, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Ping {
    key: u64,
    /// Since the run's beginning.
    due_ns: u64,
    from_task: u32,
}

/// Makes every ping when it is due.
#[derive(Clone)]
struct Pings {
    options: Options,
    begin: Instant,
    findings: Findings,
}

struct PingReader {
    pings: Pings,
    next: u64,
    step: u64,
    has_begun: bool,
    polled_at: Option<Instant>,
    gaps: Histogram<u64>,
}

impl Pings {
    fn count(&self) -> u64 {
        (self.options.warm_up + self.options.seconds) * self.options.rate
    }

    fn due_ns(&self, n: u64) -> u64 {
        n * 1_000_000_000 / self.options.rate
    }
}

impl Source for Pings {
    type Out = Ping;
    type Reader = PingReader;

    fn describe(&self) -> String {
        format!("{} pings per second", self.options.rate)
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn open(&self, ctx: &OperatorContext<'_>) -> Result<PingReader> {
        let task = ctx.env().task;
        Ok(PingReader {
            pings: self.clone(),
            next: u64::from(task.task_index),
            step: u64::from(task.parallelism),
            has_begun: false,
            polled_at: None,
            gaps: histogram(),
        })
    }
}

impl SourceReader for PingReader {
    type Out = Ping;

    fn poll(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<Ping>,
    ) -> SourceStatus {
        let from_task = ctx.env().task.task_index;
        if !self.has_begun {
            self.has_begun = true;
            out.on_split(SplitEvent::Active(from_task));
        }
        let now = Instant::now();
        if let Some(polled_at) = self.polled_at.replace(now) {
            self.gaps.saturating_record((now - polled_at).as_nanos() as u64);
        }
        let Some(now_ns) = now.checked_duration_since(self.pings.begin) else {
            return SourceStatus::Ready;
        };
        let now_ns = now_ns.as_nanos() as u64;
        while self.next < self.pings.count() {
            let due_ns = self.pings.due_ns(self.next);
            if now_ns < due_ns || !ctx.env().spend() {
                return SourceStatus::Ready;
            }
            let ping = Ping { key: mix(self.next) % self.pings.options.keys, due_ns, from_task };
            out.emit(from_task, self.next, NO_EVENT_TIME, ping);
            self.next += self.step;
        }
        self.pings.findings.add(POLL_GAPS, &self.gaps);
        SourceStatus::Ended
    }
}

/// Counts, and remembers the last ping.
#[derive(Clone)]
struct CountPings;

impl AggregateFunction for CountPings {
    type In = Ping;
    type Accumulator = (u64, Option<Ping>);
    type Out = (u64, Option<Ping>);

    fn create(&self) -> Self::Accumulator {
        (0, None)
    }

    fn add(&self, (count, last): &mut Self::Accumulator, ping: Ping) {
        *count += 1;
        *last = Some(ping);
    }

    fn merge(&self, (count, last): &mut Self::Accumulator, other: Self::Accumulator) {
        *count += other.0;
        *last = last.or(other.1);
    }

    fn result(&self, accumulator: &Self::Accumulator) -> Self::Out {
        *accumulator
    }
}

/// Reads the clock for every ping.
#[derive(Clone)]
struct LatencySink {
    begin: Instant,
    warm_up_ns: u64,
    /// By the second in which a ping was due.
    crossed: Vec<Histogram<u64>>,
    stayed: Histogram<u64>,
    findings: Findings,
}

impl Operator for LatencySink {
    type In = (u64, Option<Ping>);
    type Out = Nothing;

    fn on_row(
        &mut self,
        row: Row<(u64, Option<Ping>)>,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) {
        let now_ns = self.begin.elapsed().as_nanos() as u64;
        let Some(ping) = row.value.1 else { return };
        let Some(measured_ns) = ping.due_ns.checked_sub(self.warm_up_ns) else { return };
        let latency_ns = now_ns.saturating_sub(ping.due_ns);
        if ping.from_task == ctx.env().task.task_index {
            self.stayed.saturating_record(latency_ns);
        } else {
            let second = (measured_ns / 1_000_000_000) as usize;
            self.crossed[second].saturating_record(latency_ns);
        }
    }

    fn on_end(&mut self, _ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) -> Progress {
        for (second, crossed) in self.crossed.iter().enumerate() {
            self.findings.add(CROSSED + second, crossed);
        }
        self.findings.add(STAYED, &self.stayed);
        Progress::Done
    }
}

/// Pins the thread: a gap of another core would say nothing.
fn pin(id: usize) {
    let is_pinned = core_affinity::set_for_current(core_affinity::CoreId { id });
    assert!(is_pinned, "core {id} is not for this process; it needs the first two");
}

/// What bare loops on the first two cores miss.
struct Hiccups {
    gaps: Histogram<u64>,
    /// Of records that would have been due.
    delays: Histogram<u64>,
    /// Since the last record was due.
    passed_ns: u64,
}

impl Hiccups {
    fn new() -> Self {
        Self { gaps: histogram(), delays: histogram(), passed_ns: 0 }
    }

    /// Looks for `seconds`; each core would have had a record every `interval_ns`.
    fn measure(&mut self, seconds: u64, interval_ns: u64) {
        let on_core = |id| {
            pin(id);
            let mut found = Self::new();
            let begin = Instant::now();
            let mut last = begin;
            while last - begin < Duration::from_secs(seconds) {
                let now = Instant::now();
                found.add((now - last).as_nanos() as u64, interval_ns);
                last = now;
            }
            found
        };
        std::thread::scope(|scope| {
            let threads = [0, 1].map(|id| scope.spawn(move || on_core(id)));
            for thread in threads {
                let found = thread.join().expect("it only counts");
                self.gaps.add(found.gaps).expect("histograms of one kind");
                self.delays.add(found.delays).expect("histograms of one kind");
            }
        });
    }

    /// Nothing happened for `gap_ns`. A record that was due meanwhile is late by what was left.
    fn add(&mut self, gap_ns: u64, interval_ns: u64) {
        self.gaps.saturating_record(gap_ns);
        self.passed_ns += gap_ns;
        while interval_ns <= self.passed_ns {
            self.passed_ns -= interval_ns;
            self.delays.saturating_record(self.passed_ns);
        }
    }
}

/// Two threads on the first two cores, each of which says every other number when it is due, `rate`
/// of them a second together, and reads what the other one says. Answers how late each was read.
fn bare_hop(seconds: u64, rate: u64) -> Histogram<u64> {
    /// A cache line of its own; 0 until the first word.
    #[repr(align(128))]
    struct Word(AtomicU64);

    let words = [const { Word(AtomicU64::new(0)) }; 2];
    let begin = Instant::now() + LEAD;
    let count = seconds * rate;
    let due_ns = |number: u64| number * 1_000_000_000 / rate;
    let on_core = |id: usize| {
        pin(id);
        let mut delays = histogram();
        let now_ns = || Instant::now().saturating_duration_since(begin).as_nanos() as u64;
        let (mut next, mut expected) = (2 + id as u64, 3 - id as u64);
        while next <= count || expected <= count {
            if next <= count && due_ns(next) <= now_ns() {
                words[id].0.store(next, Ordering::Release);
                next += 2;
            }
            // One that was overwritten before it was read is as late as its successor finds it.
            let said = words[1 - id].0.load(Ordering::Acquire);
            while expected <= said {
                delays.saturating_record(now_ns().saturating_sub(due_ns(expected)));
                expected += 2;
            }
        }
        delays
    };
    std::thread::scope(|scope| {
        let threads = [0, 1].map(|id| scope.spawn(move || on_core(id)));
        sum(&threads.map(|thread| thread.join().expect("it only counts")))
    })
}

fn print(name: &str, histogram: &Histogram<u64>) {
    let us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "{name:28} {:9} values   p50 {:8.2}  p90 {:8.2}  p99 {:8.2}  p99.9 {:8.1}  \
         p99.99 {:8.1}  max {:8.1} µs",
        histogram.len(),
        us(0.5),
        us(0.9),
        us(0.99),
        us(0.999),
        us(0.9999),
        us(1.0),
    );
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut hiccups = Hiccups::new();
    let interval_ns = 2_000_000_000 / options.rate;
    hiccups.measure(options.seconds.div_ceil(2), interval_ns);

    let job = Job::new("hop-latency");
    let findings = Findings::new(options.seconds);
    let config = stopwatch::spinning();
    let begin = Instant::now() + LEAD;
    let sink = LatencySink {
        begin,
        warm_up_ns: options.warm_up * 1_000_000_000,
        crossed: histograms(options.seconds as usize),
        stayed: histogram(),
        findings: findings.clone(),
    };
    job.source("pings", Pings { options, begin, findings: findings.clone() })
        .key_by(|ping| ping.key)
        .operator("count", KeyedAggregate::new(|ping: &Ping| ping.key, CountPings))
        .sink("latency", sink);
    let cpu_before = process::cpu_time();
    let plan = job.plan(2, config.key_group_count)?;
    let report = millstream::runtime::node::run(&plan.program, &config, false)?;
    let cpu = process::cpu_time().saturating_sub(cpu_before);

    hiccups.measure(options.seconds.div_ceil(2), interval_ns);

    let bare = bare_hop(options.seconds, options.rate);

    let findings = findings.0.lock().unwrap_or_else(PoisonError::into_inner);
    let seconds = &findings[CROSSED..];
    let crossed = sum(seconds);
    print("hop, crossed", &crossed);
    print("hop, stayed", &findings[STAYED]);
    print("gaps between polls", &findings[POLL_GAPS]);
    print("gaps of a bare loop", &hiccups.gaps);
    print("delays of a bare loop", &hiccups.delays);
    print("bare hop", &bare);
    let us = |of: &Histogram<u64>, quantile| of.value_at_quantile(quantile) as f64 / 1e3;
    let mut p99s: Vec<f64> = seconds.iter().map(|second| us(second, 0.99)).collect();
    p99s.sort_by(f64::total_cmp);
    let median = p99s[p99s.len() / 2];
    println!(
        "p99 of a second: median {median:.2} µs, best {:.2}, worst {:.2}",
        p99s[0],
        p99s[p99s.len() - 1],
    );
    println!(
        "{} records/s, both shards spinning; {:.1} s of processor time in {:.1} s, \
         {:.0} MiB resident",
        options.rate,
        cpu.as_secs_f64(),
        report.took.as_secs_f64(),
        process::resident_mib(),
    );
    let met = |is_met| if is_met { "met" } else { "NOT MET" };
    println!(
        "gate p50 at most 2 µs: {}; p99 at most 20 µs: {}, in the median second {}",
        met(us(&crossed, 0.5) <= 2.0),
        met(us(&crossed, 0.99) <= 20.0),
        met(median <= 20.0),
    );
    Ok(())
}
