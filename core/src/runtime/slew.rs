//! Keeping a clock of our own with the system's date: a pure machine.
//!
//! ```text
//! ours ──────────╮        every PERIOD: how far is the date ahead (or behind)?
//!                 ╲       the next PERIOD is longer (shorter) by that much,
//! date ────────────╰────  but never by more than a part in MOST_PART
//! ```
//!
//! So it follows a date that is slewed, and a counter whose rate is known to some parts in a
//! million, to within microseconds. A date that was set forward (or a machine that slept) it
//! follows at once, and what is due by then happens; one that was set back it approaches slowly.
//!
//! Invariant: a later instant never has an earlier time, as a period is corrected by less than its
//! length.
//! Not here: reading clocks (`clock.rs`).

use std::time::Duration;

/// From one comparison to the next.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// A second is not made longer or shorter by more than a twentieth of it.
const MOST_PART: i64 = 20;

const PERIOD_NS: i64 = PERIOD.as_nanos() as i64;

/// A date that is so far ahead was set.
pub(super) const JUMP_NS: i64 = PERIOD_NS;
const _: () = assert!(1 < MOST_PART, "time would go back");

/// What raw time is corrected to. Both count from one start; all fields are in nanoseconds.
#[derive(Debug)]
pub(super) struct Slew {
    /// Raw time of the last comparison.
    raw: i64,
    /// What it was corrected to.
    time: i64,
    /// By how much the period that follows is longer.
    correction: i64,
}

impl Slew {
    /// No correction yet.
    pub(super) fn new() -> Self {
        Self { raw: 0, time: 0, correction: 0 }
    }

    /// The corrected time at `raw_ns`.
    #[inline]
    pub(super) fn time_ns(&self, raw_ns: i64) -> i64 {
        // Another core's counter may be some ticks behind.
        let since_ns = (raw_ns - self.raw).max(0);
        // Who was not asked for long is not corrected for longer than the period.
        let corrected_ns = since_ns.min(PERIOD_NS);
        self.time + since_ns + self.correction * corrected_ns / PERIOD_NS
    }

    /// Whether it is time to compare.
    #[inline]
    pub(super) fn is_due(&self, raw_ns: i64) -> bool {
        PERIOD_NS <= raw_ns - self.raw
    }

    /// At `raw_ns` the date says `date_ns` since the start. Answers how far it is ahead.
    pub(super) fn compare(&mut self, raw_ns: i64, date_ns: i64) -> i64 {
        self.time = self.time_ns(raw_ns);
        self.raw = self.raw.max(raw_ns);
        let ahead_ns = date_ns.saturating_sub(self.time);
        if JUMP_NS <= ahead_ns {
            self.time = date_ns;
            self.correction = 0;
            return ahead_ns;
        }
        let most_ns = PERIOD_NS / MOST_PART;
        self.correction = ahead_ns.clamp(-most_ns, most_ns);
        ahead_ns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// Compares every second for `seconds` with a date that is what `date` says.
    fn follow(slew: &mut Slew, from: i64, seconds: i64, date: impl Fn(i64) -> i64) -> i64 {
        for second in from..from + seconds {
            let raw = second * SECOND;
            assert!(slew.is_due(raw));
            slew.compare(raw, date(raw));
        }
        let end = (from + seconds) * SECOND;
        slew.time_ns(end) - date(end)
    }

    #[test]
    fn a_counter_of_a_wrong_rate_keeps_the_date() {
        for parts_in_a_million in [-300, 50, 300] {
            let date = |raw: i64| raw + raw / 1_000_000 * parts_in_a_million;
            let mut slew = Slew::new();
            let off = follow(&mut slew, 1, 86_400, date);
            // A day would be up to 26 seconds off; what is left is the drift of a second.
            assert!(off.abs() <= 300_001, "{parts_in_a_million}: {off} ns off");
        }
    }

    #[test]
    fn a_date_that_was_set_back_is_approached_slowly() {
        let mut slew = Slew::new();
        let off = follow(&mut slew, 1, 100, |raw| raw - 10 * SECOND);
        assert_eq!(off, 5 * SECOND, "a twentieth in 100 seconds are five");
        assert_eq!(follow(&mut slew, 101, 101, |raw| raw - 10 * SECOND), 0);
    }

    #[test]
    fn a_date_that_was_set_forward_is_followed_at_once() {
        let mut slew = Slew::new();
        assert_eq!(slew.compare(SECOND, 3_601 * SECOND), 3_600 * SECOND);
        assert_eq!(slew.time_ns(SECOND), 3_601 * SECOND);
        assert_eq!(slew.time_ns(2 * SECOND), 3_602 * SECOND);
    }

    #[test]
    fn who_was_not_asked_for_long_is_not_corrected_too_much() {
        let mut slew = Slew::new();
        assert_eq!(slew.compare(SECOND, SECOND + 1_000), 1_000);
        assert_eq!(slew.time_ns(2 * SECOND), 2 * SECOND + 1_000);
        assert_eq!(slew.time_ns(3_600 * SECOND), 3_600 * SECOND + 1_000);
    }

    proptest! {
        /// Whatever the date does, time does not go back.
        #[test]
        fn time_never_goes_back(
            steps in prop::collection::vec((0..3 * SECOND, -1_000..9_000_000_000_i64), 1..50),
        ) {
            let mut slew = Slew::new();
            let (mut raw, mut last) = (0, 0);
            for (step, date) in steps {
                let date = date * SECOND;
                raw += step;
                let before = slew.time_ns(raw);
                prop_assert!(last <= before);
                if slew.is_due(raw) {
                    slew.compare(raw, date);
                    prop_assert!(before <= slew.time_ns(raw));
                }
                last = before;
            }
        }
    }
}
