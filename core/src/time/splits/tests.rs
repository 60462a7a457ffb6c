//! What the splits of one source make of their watermarks: minimum, idleness, alignment.

use std::time::Duration;

use super::*;
use crate::time::strategy::{IngestionTime, Monotonic};

type Splits = SplitWatermarks<Monotonic>;

fn splits(
    configure: impl FnOnce(WatermarkStrategy<Monotonic>) -> WatermarkStrategy<Monotonic>,
) -> Splits {
    SplitWatermarks::new(configure(WatermarkStrategy::new(Monotonic::new())))
}

/// Runs words and shows what each end of a batch gave:
/// `7r100` record at 100 in split 7, `7a 7i 7f` active, idle, finished, `.50` end of the batch at
/// processing time 50. Answers watermarks, `idle`, or `-` for nothing new.
fn check(splits: &mut Splits, script: &str, expected: &str) {
    let mut now_ms = 0;
    let mut seen = Vec::new();
    for word in script.split_whitespace() {
        if let Some(ms) = word.strip_prefix('.') {
            now_ms = ms.parse().expect("a time");
            let risen = splits.on_batch_end::<()>(now_ms);
            let shown = risen.map_or("-".to_string(), |ms| ms.to_string());
            seen.push(if splits.is_idle() { format!("{shown}idle") } else { shown });
            continue;
        }
        let (split, rest) = word.split_at(1);
        let split = split.parse().expect("a digit");
        match rest.split_at(1) {
            ("r", ms) => splits.on_record(split, &(), ms.parse().expect("a time"), now_ms),
            ("a", _) => splits.on_active(split, now_ms),
            ("i", _) => splits.on_idle::<()>(split, now_ms),
            _ => splits.on_finished::<()>(split, now_ms),
        }
    }
    assert_eq!(seen.join(" "), expected, "of {script}");
}

#[test]
fn the_slowest_split_decides() {
    check(&mut splits(|s| s), "1a 2a 1r100 .0 2r50 .0 2r200 1r90 .0 1r300 .0", "- 49 99 199");
}

#[test]
fn splits_are_learnt_from_their_records() {
    check(&mut splits(|s| s), "1r100 .0 2r50 .0 2r120 1r130 .0", "99 - 119");
}

#[test]
fn evidence_makes_idle_at_once_and_a_record_ends_it() {
    check(&mut splits(|s| s), "1a 2a 1r100 2r50 2i .0 1r200 .0 2r60 1r300 .0", "99 199 -");
}

#[test]
fn nothing_to_read_is_idle_and_nothing_known_is_not() {
    check(&mut splits(|s| s), ".0 0i .0", "- -idle");
}

#[test]
fn records_before_the_evidence_count() {
    check(&mut splits(|s| s), "1r100 1i .0 1r150 1f .0", "99idle 149idle");
}

#[test]
fn splits_read_one_after_the_other_do_not_let_time_run_ahead() {
    check(&mut splits(|s| s), "1a 1r100 .0 2a 1f .0 2r40 .0 2r140 .0 2f .0", "99 - - 139 -idle");
}

#[test]
fn numbers_of_finished_splits_are_used_again() {
    let mut splits = splits(|s| s);
    for _ in 0..100 {
        check(&mut splits, "1a 2a 1f 2f", "");
    }
    assert_eq!(splits.splits.len(), 3);
}

#[test]
fn silence_makes_idle_after_the_timeout() {
    let mut splits = splits(|s| s.with_idleness(Duration::from_millis(10)));
    check(
        &mut splits,
        "1a 2a 1r100 .0 1r110 .9 1r120 .10 1r130 2r40 .11 .20 .21",
        "- - 119 - - 129idle",
    );
    assert_eq!(splits.next_deadline_ms(), None, "nobody is left to fall idle");
}

#[test]
fn a_restored_watermark_counts_when_its_split_is_announced() {
    let mut splits = splits(|s| s);
    splits.restore_sent(50);
    splits.restore_split(1, 99);
    splits.restore_split(2, 70);
    check(&mut splits, ".0 1a .0 1r80 .0 2r60 .0 2r150 .0", "- 99 - - -");
    assert_eq!(splits.reached().collect::<Vec<_>>(), [(2, 149)]);
}

#[test]
fn splits_too_far_ahead_wait_for_the_slowest() {
    let mut splits = splits(|s| s.with_alignment(Duration::from_millis(10)));
    let mut paused = Vec::new();
    check(&mut splits, "1r100 2r110 3r111 .0", "99");
    splits.align(MAX_WATERMARK, 0, &mut paused);
    assert_eq!(paused, [3], "3 is 11 ahead of 1");
    splits.align(95, 0, &mut paused);
    assert_eq!(paused, [2, 3], "another shard is at 95");
    check(&mut splits, "1i .0", "109");
    splits.align(MAX_WATERMARK, 0, &mut paused);
    assert_eq!(paused, [0_u32; 0], "an idle split is nobody's measure");
}

#[test]
fn a_paused_split_is_not_idle() {
    let align = |s: WatermarkStrategy<Monotonic>| s.with_alignment(Duration::from_millis(10));
    let mut splits = splits(|s| align(s).with_idleness(Duration::from_millis(10)));
    let mut paused = Vec::new();
    check(&mut splits, "1r100 2r200 .0", "99");
    splits.align(MAX_WATERMARK, 0, &mut paused);
    check(&mut splits, "1r110 .15 1r120 .30", "109 119");
    check(&mut splits, "1r195 .35", "194");
    splits.align(MAX_WATERMARK, 35, &mut paused);
    assert_eq!(paused, [0_u32; 0]);
    check(&mut splits, "1r300 .44 .45", "199 299");
}

#[test]
fn one_wrong_clock_does_not_make_all_others_late() {
    let mut splits = splits(|s| s.with_ahead_limit(Duration::from_millis(100)));
    check(&mut splits, ".1000 1r1000 1r999999 .1000 1r1100 .1000", "- 999 1099");
}

#[test]
fn a_generator_that_waits_for_processing_time_is_asked_without_a_record() {
    let mut splits = SplitWatermarks::new(WatermarkStrategy::new(IngestionTime::new()));
    splits.on_active(1, 0);
    assert_eq!(splits.on_batch_end::<()>(100), Some(99));
    assert_eq!(splits.next_deadline_ms(), Some(300));
    splits.expire::<()>(200);
    assert_eq!(splits.on_batch_end::<()>(200), None, "not before its time");
    splits.expire::<()>(300);
    assert_eq!(splits.on_batch_end::<()>(300), Some(299));
    splits.on_idle::<()>(1, 300);
    splits.expire::<()>(900);
    assert_eq!(splits.on_batch_end::<()>(900), None, "an idle split does not go on");
    splits.on_active(1, 950);
    assert_eq!(splits.on_batch_end::<()>(950), Some(949));
}
