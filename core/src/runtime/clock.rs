//! Time as the host gives it to shards: the processor's counter, scaled once.
//!
//! A shard's loop reads the time once per turn. `rdtsc` costs 10 ns where the system's clock costs
//! 23, and needs no call. It may be trusted if the processor says that it counts at one rate in
//! every state of sleep (*invariant*), and if the kernel has not found it wanting; otherwise the
//! system's monotonic clock takes its place.
//!
//! ```text
//! start:  (nanoseconds, ticks) ── 20 ms ── (nanoseconds, ticks)   →  nanoseconds per tick × 2³²
//! now:    (ticks − ticks at start) × that >> 32
//! ```
//!
//! Each reading at the start is taken between two readings of the system's clock that are close
//! together, which leaves an error of some parts in a million: good for durations, bad for dates.
//! Processing time is to be a date, though: what a shard reads, [`Steady`], is compared with the
//! system's date every second, and kept with it (`slew.rs`).
//!
//! The only unsafe idea in this file: reading the counter is an instruction without operands.
//! Invariant: on one thread [`Steady::now`] never goes back.

use std::time::{Duration, Instant, SystemTime};

use super::slew::{JUMP_NS, Slew};

/// How long the counter is compared with the system's clock.
const CALIBRATION: Duration = Duration::from_millis(20);

/// A clock that counts from its own start. All shards of a node hold copies of one clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    source: Source,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    /// The processor's counter.
    Counter { start_ticks: u64, scale: Scale },
    /// The system's monotonic clock.
    System { start: Instant },
}

/// Nanoseconds per tick × 2³².
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scale(u64);

impl Clock {
    /// A clock that counts from now. Takes 20 ms to learn the counter's rate.
    pub fn start() -> Self {
        if !counter::is_trustworthy() {
            return Self { source: Source::System { start: Instant::now() } };
        }
        let begin = Reading::take();
        std::thread::sleep(CALIBRATION);
        let end = Reading::take();
        match Scale::between(&begin, &end) {
            Some(scale) => {
                Self { source: Source::Counter { start_ticks: counter::ticks(), scale } }
            }
            None => Self { source: Source::System { start: Instant::now() } },
        }
    }

    /// Time since the start.
    #[inline]
    pub fn now(&self) -> Duration {
        match self.source {
            // Another core's counter may be some ticks behind the one that took the start.
            Source::Counter { start_ticks, scale } => {
                scale.duration(counter::ticks().saturating_sub(start_ticks))
            }
            Source::System { start } => start.elapsed(),
        }
    }

    /// Whether the processor's counter is used.
    pub fn is_counter(&self) -> bool {
        matches!(self.source, Source::Counter { .. })
    }
}

/// Longest time between reading the counter and reading the date, if they are to be compared; it
/// is under a microsecond as a rule.
const COMPARISON_MAX_NS: i64 = 20_000;

/// A clock as one thread reads it: it keeps with the system's date and never goes back, whatever
/// the counter and the date do.
#[derive(Debug)]
pub struct Steady {
    clock: Clock,
    slew: Slew,
    /// The system's date when the clock started, ms since 1970.
    start_ms: i64,
    last: Duration,
    has_gone_back: bool,
    has_told_jump: bool,
}

impl Steady {
    /// `clock`, which started at `start_ms`, read by one thread from now on.
    pub fn new(clock: Clock, start_ms: i64) -> Self {
        Self {
            clock,
            slew: Slew::new(),
            start_ms,
            last: Duration::ZERO,
            has_gone_back: false,
            has_told_jump: false,
        }
    }

    /// Time since the start of the clock, by the system's date.
    #[inline]
    pub fn now(&mut self) -> Duration {
        let raw_ns = self.clock.now().as_nanos() as i64;
        if self.slew.is_due(raw_ns) {
            self.compare(raw_ns);
        }
        self.steady(Duration::from_nanos(self.slew.time_ns(raw_ns).max(0) as u64))
    }

    #[cold]
    fn compare(&mut self, raw_ns: i64) {
        let date_ns = wall_ns() - self.start_ms * 1_000_000;
        if COMPARISON_MAX_NS < self.clock.now().as_nanos() as i64 - raw_ns {
            // The core was with somebody else in between: the two do not belong together.
            return;
        }
        let ahead_ns = self.slew.compare(raw_ns, date_ns);
        let is_jump = JUMP_NS <= ahead_ns.abs();
        if is_jump && !std::mem::replace(&mut self.has_told_jump, true) {
            tracing::warn!(
                ahead_ms = ahead_ns / 1_000_000,
                "the system's date was changed; processing time follows: forward at once, back \
                 slowly, by a twentieth"
            );
        }
    }

    /// `now`, or what was read before if that is later: some virtual machines that are moved, and
    /// threads that change to a core whose counter is behind, see less than before.
    #[inline]
    fn steady(&mut self, now: Duration) -> Duration {
        if now < self.last {
            self.on_back(now);
        }
        self.last = self.last.max(now);
        self.last
    }

    #[cold]
    fn on_back(&mut self, now: Duration) {
        if !std::mem::replace(&mut self.has_gone_back, true) {
            let back_us = self.last.saturating_sub(now).as_micros();
            tracing::warn!(
                back_us,
                "the processor's counter went back; time stands still meanwhile"
            );
        }
    }
}

/// Milliseconds since 1970 by the system's date. May jump, also back.
pub fn wall_ms() -> i64 {
    wall_ns().div_euclid(1_000_000)
}

fn wall_ns() -> i64 {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i64,
        Err(before) => -(before.duration().as_nanos() as i64),
    }
}

/// The same instant by both clocks.
struct Reading {
    at: Instant,
    ticks: u64,
}

impl Reading {
    /// Of some attempts, the one that was interrupted least.
    fn take() -> Self {
        let attempt = || {
            let before = Instant::now();
            let ticks = counter::ticks();
            (before.elapsed(), Self { at: before, ticks })
        };
        let attempts = (0..32).map(|_| attempt());
        let (_, best) = attempts.min_by_key(|(took, _)| *took).expect("32 are more than none");
        best
    }
}

impl Scale {
    /// `None` if the counter stood still, went back, or runs at an absurd rate.
    fn between(begin: &Reading, end: &Reading) -> Option<Self> {
        let ticks = u128::from(end.ticks.checked_sub(begin.ticks).filter(|ticks| *ticks > 0)?);
        let nanos = end.at.duration_since(begin.at).as_nanos();
        let scaled = u64::try_from((nanos << 32) / ticks).ok()?;
        // From 100 MHz to 20 GHz.
        ((1 << 32) / 20..=10 << 32).contains(&scaled).then_some(Self(scaled))
    }

    fn duration(self, ticks: u64) -> Duration {
        Duration::from_nanos(((u128::from(ticks) * u128::from(self.0)) >> 32) as u64)
    }
}

#[cfg(target_arch = "x86_64")]
mod counter {
    use std::arch::x86_64::{__cpuid, _rdtsc};
    use std::fs;

    /// Where the kernel says which clock it keeps time with.
    const KERNEL_CLOCK: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

    /// Clocks that a kernel falls back to after it has seen the counter run unevenly.
    const KERNEL_FALLBACKS: [&str; 4] = ["hpet", "acpi_pm", "jiffies", "refined-jiffies"];

    pub(super) fn ticks() -> u64 {
        // SAFETY: no operands, no memory; every x86-64 processor has the instruction.
        unsafe { _rdtsc() }
    }

    pub(super) fn is_trustworthy() -> bool {
        let is_rejected = fs::read_to_string(KERNEL_CLOCK)
            .is_ok_and(|clock| KERNEL_FALLBACKS.contains(&clock.trim()));
        is_invariant() && !is_rejected
    }

    /// Counts at one rate, whatever the core's frequency and sleep.
    fn is_invariant() -> bool {
        const LEAF: u32 = 0x8000_0007;
        __cpuid(0x8000_0000).eax >= LEAF && __cpuid(LEAF).edx & (1 << 8) != 0
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod counter {
    pub(super) fn ticks() -> u64 {
        0
    }

    pub(super) fn is_trustworthy() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_follows_the_system(clock: Clock) {
        let (before_start, start, after_start) = (Instant::now(), clock.now(), Instant::now());
        let mut last = start;
        while after_start.elapsed() < Duration::from_millis(50) {
            let now = clock.now();
            assert!(last <= now, "{now:?} after {last:?}");
            last = now;
        }
        let (before_end, end, after_end) = (Instant::now(), clock.now(), Instant::now());
        // However long the test was interrupted between readings, the truth is in between.
        let by_clock = end.checked_sub(start).expect("never goes back");
        let tolerance = by_clock / 1_000;
        assert!(before_end - after_start <= by_clock + tolerance, "slow: {by_clock:?}");
        assert!(by_clock <= after_end - before_start + tolerance, "fast: {by_clock:?}");
    }

    #[test]
    fn the_clock_follows_the_system() {
        check_follows_the_system(Clock::start());
    }

    #[test]
    fn the_fallback_follows_the_system() {
        check_follows_the_system(Clock { source: Source::System { start: Instant::now() } });
    }

    #[test]
    fn scale_of_a_three_gigahertz_counter() {
        let at = Instant::now();
        let begin = Reading { at, ticks: 1_000 };
        let end = Reading { at: at + Duration::from_millis(20), ticks: 1_000 + 60_000_000 };
        let scale = Scale::between(&begin, &end).expect("a plausible rate");
        let hour = scale.duration(3_600 * 3_000_000_000);
        assert!(hour.abs_diff(Duration::from_hours(1)) < Duration::from_micros(2), "{hour:?}");
        // Ten years of ticks do not overflow.
        assert!(scale.duration(3_000_000_000 * 315_360_000) > Duration::from_secs(315_359_999));
    }

    #[test]
    fn a_counter_that_stands_still_or_goes_back_is_refused() {
        let at = Instant::now();
        let later = at + Duration::from_millis(20);
        for ticks in [1_000, 999, 1_001] {
            let begin = Reading { at, ticks: 1_000 };
            assert_eq!(Scale::between(&begin, &Reading { at: later, ticks }), None);
        }
    }

    #[test]
    fn a_counter_that_goes_back_makes_time_stand_still() {
        let mut clock = Steady::new(Clock { source: Source::System { start: Instant::now() } }, 0);
        let [first, back, later] = [500, 300, 501].map(Duration::from_secs);
        assert_eq!(clock.steady(first), first);
        assert_eq!(clock.steady(back), first);
        assert!(clock.has_gone_back);
        assert_eq!(clock.steady(later), later);
        assert_eq!(clock.now(), later, "the truth is far behind");
    }

    #[test]
    fn a_steady_clock_follows_the_date() {
        let start = Instant::now().checked_sub(Duration::from_secs(2)).expect("up for so long");
        let source = Source::System { start };
        let start_ms = wall_ms() - 2_000 - 2_000;
        let mut clock = Steady::new(Clock { source }, start_ms);
        // A comparison that somebody interrupts does not count.
        while !clock.has_told_jump {
            clock.now();
        }
        assert!(Duration::from_secs(4) <= clock.now(), "two seconds that the counter missed");
    }

    #[test]
    fn wall_time_is_after_this_was_written() {
        assert!(wall_ms() > 1_700_000_000_000);
    }
}
