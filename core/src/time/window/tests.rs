//! Which windows cover a time, by example and by definition.

use proptest::prelude::*;

use super::*;

/// Windows of `time_ms` as `start..end` words.
fn check(assigner: &impl WindowAssigner<i64>, time_ms: i64, expected: &str) {
    let mut windows = Vec::new();
    assigner.assign(&time_ms, time_ms, &mut windows);
    let shown: Vec<_> = windows.iter().map(|w| format!("{}..{}", w.start_ms, w.end_ms)).collect();
    assert_eq!(shown.join(" "), expected, "windows of {time_ms}");
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn tumbling_windows_hold_their_start_and_not_their_end() {
    check(&Tumbling::new(ms(10)), 0, "0..10");
    check(&Tumbling::new(ms(10)), 9, "0..10");
    check(&Tumbling::new(ms(10)), 10, "10..20");
    check(&Tumbling::new(ms(10)).offset(ms(3)), 2, "-7..3");
}

#[test]
fn times_before_1970_are_in_the_window_below() {
    check(&Tumbling::new(ms(10)), -1, "-10..0");
    check(&Tumbling::new(ms(10)), -10, "-10..0");
    check(&Sliding::new(ms(10), ms(5)), -1, "-10..0 -5..5");
    check(&Cumulative::new(ms(10), ms(5)), -6, "-10..-5 -10..0");
}

#[test]
fn sliding_windows_overlap_or_leave_gaps() {
    check(&Sliding::new(ms(10), ms(5)), 12, "5..15 10..20");
    check(&Sliding::new(ms(10), ms(4)), 9, "0..10 4..14 8..18");
    check(&Sliding::new(ms(3), ms(10)), 12, "10..13");
    check(&Sliding::new(ms(3), ms(10)), 13, "");
}

#[test]
fn cumulative_windows_share_their_start() {
    check(&Cumulative::new(ms(30), ms(10)), 35, "30..40 30..50 30..60");
    check(&Cumulative::new(ms(30), ms(10)), 59, "30..60");
}

#[test]
fn a_session_begins_with_every_record() {
    check(&Session::new(ms(10)), 5, "5..15");
    check(&Session::dynamic(|record: &i64| record * 2), 5, "5..15");
    assert!(Window::new(5, 15).touches(&Window::new(15, 20)));
    assert!(!Window::new(5, 15).touches(&Window::new(16, 20)));
    assert_eq!(Window::new(5, 15).cover(&Window::new(15, 20)), Window::new(5, 20));
}

#[test]
fn the_global_window_never_ends() {
    check(&Global, 5, &format!("{}..{}", i64::MIN, i64::MAX));
    assert_eq!(Window::GLOBAL.cleanup_ms(0), None);
    assert_eq!(Window::new(0, 10).cleanup_ms(5), Some(14));
}

#[test]
fn mistakes_are_sentences() {
    let problems = WindowAssigner::<()>::problems(&Cumulative::new(ms(25), ms(10)));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("25ms"), "{}", problems[0]);
    assert_eq!(WindowAssigner::<()>::problems(&Sliding::new(ms(0), ms(0))).len(), 2);
}

#[test]
fn descriptions_use_the_largest_unit() {
    let describe = |assigner: &dyn Fn() -> String| assigner();
    let sliding = Sliding::new(ms(86_400_000), ms(90_000)).offset(ms(500)).processing_time();
    assert_eq!(
        describe(&|| WindowAssigner::<()>::describe(&sliding)),
        "sliding 1d by 90s, offset 500ms, processing time"
    );
}

proptest! {
    /// A record is in exactly the windows, of all there are, that cover its time.
    #[test]
    fn sliding_windows_are_those_that_cover(
        size in 1_i64..40, slide in 1_i64..40, offset in 0_i64..40, time in -200_i64..200,
    ) {
        let domain = TimeDomain::Event;
        let sliding = Sliding { size_ms: size, slide_ms: slide, offset_ms: offset, domain };
        let mut windows = Vec::new();
        sliding.assign(&(), time, &mut windows);
        let starts = (-500..500).filter(|start| (start - offset).rem_euclid(slide) == 0);
        let covering: Vec<_> = starts
            .filter(|start| (*start..start + size).contains(&time))
            .map(|start| Window::new(start, start + size))
            .collect();
        prop_assert_eq!(windows, covering);
    }
}
