//! What each trigger says to elements and due timers.

use std::time::Duration;

use super::*;

const WINDOW: Window = Window { start_ms: 0, end_ms: 100 };

/// Feeds elements (`e<time>`) and due timers (`t<time>`) at a watermark (`w<time>` sets it) and
/// shows what the trigger said and which timers it set.
fn check<G: Trigger<()>>(trigger: &G, script: &str, expected: &str) {
    let mut state = G::State::default();
    let mut watermark_ms = i64::MIN;
    let mut seen = Vec::new();
    for word in script.split_whitespace() {
        let (kind, time) = word.split_at(1);
        let time_ms = time.parse().expect("a time");
        let mut timers = Vec::new();
        let mut ctx = TriggerContext::new(&mut state, watermark_ms, 0, &mut timers);
        let result = match kind {
            "w" => {
                watermark_ms = time_ms;
                continue;
            }
            "e" => trigger.on_element(&(), time_ms, &WINDOW, &mut ctx),
            _ => trigger.on_event_time(time_ms, &WINDOW, &mut ctx),
        };
        let timers: Vec<_> = timers.iter().map(|timer| format!("@{}", timer.time_ms)).collect();
        let shown = match result {
            TriggerResult::Continue => "-",
            TriggerResult::Fire => "fire",
            TriggerResult::Purge => "purge",
            TriggerResult::FireAndPurge => "fire+purge",
        };
        seen.push(shown.to_string() + &timers.concat());
    }
    assert_eq!(seen.join(" "), expected, "of {script}");
}

#[test]
fn event_time_fires_at_the_end_and_for_later_records() {
    check(&EventTime, "e5 t50 t99 w99 e7", "-@99 - fire fire");
}

#[test]
fn count_begins_anew_when_it_fires() {
    check(&Count::of(3), "e1 e2 e3 e4", "- - fire -");
    check(&Purging::of(Count::of(2)), "e1 e2 e3", "- fire+purge -");
}

#[test]
fn counts_add_up_when_windows_merge() {
    let (mut state, mut timers) = (CountState::default(), Vec::new());
    let mut ctx = TriggerContext::new(&mut state, 0, 0, &mut timers);
    let count = Count::of(3);
    let _ = Trigger::on_element(&count, &(), 0, &WINDOW, &mut ctx);
    let one = *ctx.state;
    Trigger::<()>::on_merge(&count, &WINDOW, vec![one], &mut ctx);
    assert_eq!(Trigger::on_element(&count, &(), 0, &WINDOW, &mut ctx), TriggerResult::Fire);
}

#[test]
fn continuous_fires_at_multiples_and_at_the_end() {
    let trigger = ContinuousEventTime::of(Duration::from_millis(40));
    check(&trigger, "e5 e50 t40 t80 t99", "-@99@40 -@99 fire@80 fire@99 fire");
    check(&trigger, "e-5", "-@99@0");
}

#[test]
fn never_never_does() {
    check(&Never, "e1 t99 w99 e2", "- - -");
}

/// Feeds numbers (`e<n>`) and due processing-time timers (`t<time>`) at a clock (`c<time>` sets
/// it), in the global window.
fn check_clock<G: Trigger<i64>>(trigger: &G, script: &str, expected: &str) {
    let mut state = G::State::default();
    let mut now_ms = 0;
    let mut seen = Vec::new();
    for word in script.split_whitespace() {
        let (kind, number) = word.split_at(1);
        let number = number.parse().expect("a number");
        let mut timers = Vec::new();
        let mut ctx = TriggerContext::new(&mut state, i64::MIN, now_ms, &mut timers);
        let result = match kind {
            "c" => {
                now_ms = number;
                continue;
            }
            "e" => trigger.on_element(&number, 0, &Window::GLOBAL, &mut ctx),
            _ => trigger.on_processing_time(number, &Window::GLOBAL, &mut ctx),
        };
        let shown = match result {
            TriggerResult::Continue => "-",
            TriggerResult::Fire => "fire",
            TriggerResult::Purge => "purge",
            TriggerResult::FireAndPurge => "fire+purge",
        };
        let set = timers.iter().filter(|timer| timer.time_ms.unsigned_abs() < 1 << 40);
        let set =
            set.map(|t| format!("{}{}", if t.is_registration { '@' } else { '!' }, t.time_ms));
        seen.push(shown.to_string() + &set.collect::<String>());
    }
    assert_eq!(seen.join(" "), expected, "of {script}");
}

#[test]
fn continuous_processing_time_fires_at_every_interval_with_records() {
    let trigger = ContinuousProcessingTime::of(Duration::from_millis(10));
    check_clock(&trigger, "c13 e1 c15 e2 t20 c25 e3 t30", "-@20 - fire -@30 fire");
}

#[test]
fn a_timeout_begins_with_the_first_record_since_the_last_firing() {
    let trigger = ProcessingTimeout::of(Count::of(3), Duration::from_millis(10));
    check_clock(&trigger, "c1 e1 c3 e2 c5 e3 e4 t15", "-@11 - fire!11 -@15 fire+purge");
    check_clock(&trigger, "c1 e1 t11 e2 e3 e4", "-@11 fire+purge -@11 - fire!11");
    let trigger = trigger.since_last_record();
    check_clock(&trigger, "c1 e1 c3 e2 t13", "-@11 -!11@13 fire+purge");
}

#[test]
fn delta_fires_when_a_measure_has_moved() {
    let trigger = Delta::of(5.0, |number: &i64| *number as f64);
    check_clock(&trigger, "e10 e15 e16 e12 e11 e10", "- - fire - - fire");
    assert!(Trigger::<i64>::problems(&trigger).is_empty());
    let trigger = Delta::of(f64::NAN, |number: &i64| *number as f64);
    assert_eq!(Trigger::<i64>::problems(&trigger).len(), 1);
}
