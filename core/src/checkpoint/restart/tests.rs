//! Restart strategies: examples, and what holds for all failures.

use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::*;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn exponential(attempts: Option<u32>, jitter: u32) -> Strategy {
    Strategy::ExponentialDelay {
        attempts,
        initial: secs(1),
        max: secs(10),
        multiplier: Factor::thousandths(2_000),
        jitter: Factor::thousandths(jitter),
        reset_after: secs(60),
    }
}

/// Fails at these seconds, and tells the waits in milliseconds, or why it is given up.
fn check(strategy: Strategy, failures: &[u64], expected: &str) {
    let mut restarts = Restarts::new(strategy);
    let mut told = Vec::new();
    for at in failures {
        told.push(match restarts.on_failure(secs(*at), u64::MAX / 2) {
            Verdict::Restart { after } => after.as_millis().to_string(),
            Verdict::GiveUp { reason } => reason.unwrap_or_else(|| "never".to_string()),
        });
    }
    assert_eq!(told.join(", "), expected);
    let restarted = told.iter().filter(|it| it.parse::<u64>().is_ok()).count();
    assert_eq!(restarts.count(), restarted as u64);
}

#[test]
fn without_a_strategy_the_first_failure_ends_it() {
    check(Strategy::None, &[7], "never");
}

#[test]
fn a_fixed_delay_gives_up_after_so_many_restarts() {
    let fixed = |attempts| Strategy::FixedDelay { attempts, delay: secs(3) };
    check(fixed(Some(2)), &[0, 5_000, 90_000], "3000, 3000, it has begun again 2 times");
    check(fixed(Some(0)), &[9], "it has begun again 0 times");
    check(fixed(None), &[0, 0, 0, 0], "3000, 3000, 3000, 3000");
}

#[test]
fn waits_double_to_the_limit_and_begin_anew_after_a_long_run() {
    let failures = [0, 1, 2, 3, 4, 5, 75];
    check(exponential(None, 0), &failures, "1000, 2000, 4000, 8000, 10000, 10000, 1000");
    // The wait of the last restart is over at 15: until 75 it has not run for a minute.
    check(
        exponential(None, 0),
        &[0, 1, 2, 3, 4, 5, 74],
        "1000, 2000, 4000, 8000, 10000, 10000, 10000",
    );
}

#[test]
fn a_long_run_makes_earlier_restarts_forgotten() {
    let failures = [0, 3, 100, 103, 106];
    let expected = "1000, 2000, 1000, 2000, it has begun again 2 times";
    check(exponential(Some(2), 0), &failures, expected);
}

#[test]
fn a_rate_of_failures_gives_up_when_it_is_exceeded() {
    let rate = || Strategy::FailureRate { failures: 2, interval: secs(60), delay: secs(1) };
    check(rate(), &[0, 30, 59], "1000, 1000, 3 failures within 60s");
    check(rate(), &[0, 30, 60, 90, 120], "1000, 1000, 1000, 1000, 1000");
    check(rate(), &[0, 30, 61, 89], "1000, 1000, 1000, 3 failures within 60s");
}

#[test]
fn the_settings_say_which_and_checkpoints_if_they_do_not() {
    let of = |text: &str| Strategy::of(&Config::from_toml(text).expect("settings"));
    assert_eq!(of(""), Strategy::None);
    let default = of("checkpoint_directory = \"a\"");
    let expected = Strategy::ExponentialDelay {
        attempts: None,
        initial: secs(1),
        max: secs(60),
        multiplier: Factor::thousandths(1_500),
        jitter: Factor::thousandths(100),
        reset_after: secs(3_600),
    };
    assert_eq!(default, expected);
    assert_eq!(of("checkpoint_directory = \"a\"\nrestart_strategy = \"none\""), Strategy::None);
    assert_eq!(
        of("restart_strategy = \"fixed-delay\"\nrestart_attempts = 4\nrestart_delay = \"2s\""),
        Strategy::FixedDelay { attempts: Some(4), delay: secs(2) }
    );
    let rate = "restart_strategy = \"failure-rate\"\nrestart_failures_per_interval = 5\n\
                restart_interval = \"2m\"";
    assert_eq!(
        of(rate),
        Strategy::FailureRate { failures: 5, interval: secs(120), delay: secs(1) }
    );
}

proptest! {
    /// Waits are within the jitter of what they are without, never above the limit, and without
    /// jitter never shorter than the one before unless a long run lies between.
    #[test]
    fn waits_stay_within_their_bounds(
        pauses in prop::collection::vec((0_u64..200, any::<u64>()), 1..40),
        jitter in 0_u32..=1_000,
    ) {
        let mut plain = Restarts::new(exponential(None, 0));
        let mut differing = Restarts::new(exponential(None, jitter));
        let (mut now, mut before) = (Duration::ZERO, Duration::ZERO);
        for (pause, chance) in pauses {
            // Both have waited, however long each had to.
            now += secs(pause) + secs(10);
            let Verdict::Restart { after } = plain.on_failure(now, chance) else {
                panic!("there is no limit")
            };
            prop_assert!(secs(1) <= after && after <= secs(10));
            prop_assert!(before <= after || 60 <= pause + 10);
            before = after;
            let Verdict::Restart { after } = differing.on_failure(now, chance) else {
                panic!("there is no limit")
            };
            prop_assert!(after <= secs(10));
            prop_assert!(secs(1) <= after + Factor::thousandths(jitter).of(secs(1)));
        }
    }

    /// No more restarts than the rate within any time of its length, and none is refused that is
    /// within the rate.
    #[test]
    fn restarts_never_exceed_the_rate(
        pauses in prop::collection::vec(0_u64..90, 1..60),
        failures in 1_u32..5,
    ) {
        let interval = secs(60);
        let mut restarts =
            Restarts::new(Strategy::FailureRate { failures, interval, delay: secs(1) });
        let (mut now, mut granted) = (Duration::ZERO, Vec::<Duration>::new());
        for pause in pauses {
            now += secs(pause);
            let recent = granted.iter().filter(|at| now < **at + interval).count();
            match restarts.on_failure(now, 0) {
                Verdict::Restart { .. } => {
                    prop_assert!(recent < failures as usize);
                    granted.push(now);
                }
                Verdict::GiveUp { .. } => {
                    prop_assert_eq!(recent, failures as usize);
                    break;
                }
            }
        }
    }

    /// A chance of any size makes a wait that is `wait` on average, and reaches both ends.
    #[test]
    fn jitter_reaches_both_ends(wait_ms in 1_u64..100_000, jitter in 0_u32..=1_000) {
        let (wait, jitter) = (Duration::from_millis(wait_ms), Factor::thousandths(jitter));
        let most = jitter.of(wait);
        prop_assert_eq!(jittered(wait, jitter, 0) + most, wait);
        prop_assert_eq!(jittered(wait, jitter, u64::MAX), wait + most);
        let middle = jittered(wait, jitter, u64::MAX / 2);
        prop_assert!(middle.abs_diff(wait) <= Duration::from_nanos(1));
    }
}
