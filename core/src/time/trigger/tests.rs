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
