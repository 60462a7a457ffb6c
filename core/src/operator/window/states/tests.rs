//! What functions of windows keep per window and per key, restarts included.

use std::time::Duration;

use crate::operator::Stage;
use crate::operator::window::{GeneralWindows, Lateness, Listed};
use crate::prelude::*;
use crate::sim::rng::Rng;
use crate::testing::{OperatorHarness, Step, conformance};
use crate::time::evictor::KeepAll;

type Record = (u32, u64);
/// Key, firings of the window, firings of the key, and how many records each had of late.
type Counted = (u32, u64, u64, Vec<u64>);

const CLEARED: OutputTag<(u32, u64)> = OutputTag::new("cleared");

/// Counts what it sees in each window, and of each key.
#[derive(Clone, Default)]
struct Counts {
    count: ValueState<u64>,
    recent: ListState<u64>,
}

impl ProcessWindowFunction<u32, Record> for Counts {
    type Out = Counted;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.count = ctx.value("count", StateSpec::kept_until_cleared());
        self.recent = ctx.list("recent", Ttl::event_time(Duration::from_millis(30)));
    }

    fn process(
        &mut self,
        key: &u32,
        records: &[Record],
        ctx: &mut ProcessWindowContext<'_>,
        out: &mut impl Output<Self::Out>,
    ) {
        let count = |count: &mut u64| {
            *count += 1;
            *count
        };
        let of_window = self.count.update(ctx.window_state(), count);
        let of_key = self.count.update(ctx.global_state(), count);
        self.recent.append(ctx.global_state(), records.len() as u64);
        let recent = self.recent.iter(ctx.global_state()).copied().collect();
        out.collect((*key, of_window, of_key, recent));
    }

    fn clear(&mut self, key: &u32, ctx: &mut ProcessWindowContext<'_>) {
        let count = self.count.get(ctx.window_state()).copied().unwrap_or_default();
        ctx.side_output(CLEARED, (*key, count));
        if self.count.get(ctx.global_state()).is_some_and(|count| 4 < *count) {
            self.count.clear(ctx.global_state());
        }
    }
}

/// Counts firings of each key within a while of the clock.
#[derive(Clone, Default)]
struct OfKeys {
    count: ValueState<u64>,
}

impl ProcessWindowFunction<u32, Record> for OfKeys {
    type Out = Counted;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.count = ctx.value("count", Ttl::processing_time(ms(50)));
    }

    fn process(
        &mut self,
        key: &u32,
        records: &[Record],
        ctx: &mut ProcessWindowContext<'_>,
        out: &mut impl Output<Self::Out>,
    ) {
        let of_key = self.count.update(ctx.global_state(), |count| {
            *count += 1;
            *count
        });
        out.collect((*key, 0, of_key, vec![records.len() as u64]));
    }

    fn clear(&mut self, key: &u32, ctx: &mut ProcessWindowContext<'_>) {
        let count = self.count.get(ctx.global_state()).copied().unwrap_or_default();
        ctx.side_output(CLEARED, (*key, count));
    }
}

fn harness<W, G, F>(
    windows: W,
    trigger: G,
    function: F,
) -> OperatorHarness<Stage<impl Operator<In = Record, Out = Counted>>>
where
    W: WindowAssigner<Record>,
    G: Trigger<Record>,
    F: ProcessWindowFunction<u32, Record, Out = Counted>,
{
    let contents = Listed::new(KeepAll, function);
    let lateness = Lateness::default().allow(Duration::from_millis(10));
    let key_of = |record: &Record| record.0;
    let operator = GeneralWindows::new(windows, trigger, key_of, contents, lateness);
    OperatorHarness::new(operator).reading(CLEARED).keyed_by(key_of).keys_in_any_order()
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn a_window_has_its_own_state_and_a_key_has_one_beyond_its_windows() {
    let mut counts = harness(Tumbling::new(ms(10)), EventTime, Counts::default());
    counts.push((1, 1), 3);
    counts.push((2, 1), 4);
    counts.watermark(9);
    let mut fired = counts.take_output();
    fired.sort_unstable();
    assert_eq!(fired, [(1, 1, 1, vec![1]), (2, 1, 1, vec![1])]);
    counts.push((1, 1), 4);
    counts.push((1, 1), 13);
    assert_eq!(counts.take_output(), [(1, 2, 2, vec![1, 2])], "late, and fires again");
    assert!(counts.take_side_output(CLEARED).is_empty());
    counts.watermark(19);
    assert_eq!(counts.take_output(), [(1, 1, 3, vec![1, 2, 1])], "another window");
    let mut cleared = counts.take_side_output(CLEARED);
    cleared.sort_unstable();
    assert_eq!(cleared, [(1, 2), (2, 1)], "the first window is over");
    assert!(counts.state_names().contains(&"window-state/count".to_string()));
    counts.watermark(100);
    assert_eq!(counts.take_side_output(CLEARED), [(1, 1)]);
    assert!(!counts.state_names().contains(&"window-state/count".to_string()));
    assert_eq!(counts.keyed_state::<u32, u64>("count").len(), 2, "of the keys");
}

fn steps(seed: u64) -> Vec<Step<Record>> {
    let mut rng = Rng::new(seed);
    let (mut now_ms, mut watermark_ms, mut clock_ms) = (1_000, 0, 0);
    let step = |number| {
        now_ms += rng.below(6) as i64;
        match rng.below(8) {
            0 => {
                watermark_ms = watermark_ms.max(now_ms - rng.below(20) as i64);
                Step::Watermark(watermark_ms)
            }
            1 => {
                clock_ms += rng.below(15) as i64;
                Step::ProcessingTime(clock_ms)
            }
            _ => {
                let key = rng.below(4) as u32;
                Step::record((key, number), now_ms - rng.below(25) as i64)
            }
        }
    };
    (0..70).map(step).chain([Step::End]).collect()
}

#[test]
fn functions_with_state_may_be_cut_and_rescaled_anywhere() {
    for seed in 0..6 {
        conformance(|| harness(Tumbling::new(ms(10)), EventTime, Counts::default()), steps(seed));
        conformance(
            || harness(Sliding::new(ms(20), ms(7)), EventTime, Counts::default()),
            steps(seed),
        );
        let by_clock = Tumbling::new(ms(10)).processing_time();
        conformance(|| harness(by_clock, ProcessingTime, Counts::default()), steps(seed));
        conformance(|| harness(Session::new(ms(12)), EventTime, OfKeys::default()), steps(seed));
        conformance(|| harness(Global, Purging::of(Count::of(3)), Counts::default()), steps(seed));
    }
}

#[test]
#[should_panic(expected = "windows that merge have no state of their own")]
fn windows_that_merge_have_no_state_of_their_own() {
    let mut counts = harness(Session::new(ms(10)), EventTime, Counts::default());
    counts.push((1, 1), 3);
    counts.watermark(100);
}

#[test]
fn sessions_have_states_of_their_keys_that_expire() {
    let mut counts = harness(Session::new(ms(10)), EventTime, OfKeys::default());
    counts.push((1, 1), 3);
    counts.push((1, 2), 9);
    counts.watermark(18);
    assert_eq!(counts.take_output(), [(1, 0, 1, vec![2])]);
    counts.push((1, 3), 17);
    counts.watermark(26);
    assert_eq!(counts.take_output(), [(1, 0, 2, vec![3])], "longer, and fires again");
    assert!(counts.take_side_output(CLEARED).is_empty());
    counts.watermark(36);
    assert_eq!(counts.take_side_output(CLEARED), [(1, 2)], "one window is over");
    assert_eq!(counts.keyed_state::<u32, u64>("count"), [(1, 2)]);
    let expiry_ms = counts.next_time_ms().expect("there is something to sweep");
    counts.processing_time(expiry_ms);
    assert_eq!(counts.keyed_state::<u32, u64>("count"), []);
    assert_eq!(counts.next_time_ms(), None);
}

#[test]
fn a_state_that_nobody_removes_is_named() {
    #[derive(Clone)]
    struct Forever;

    impl ProcessWindowFunction<u32, Record> for Forever {
        type Out = u32;

        fn open(&mut self, ctx: &mut OpenContext<'_>) {
            ctx.value::<u32>("forever", StateSpec::default());
            ctx.operator_list::<u32>("of the task");
        }

        fn process(
            &mut self,
            _key: &u32,
            _records: &[Record],
            _ctx: &mut ProcessWindowContext<'_>,
            _out: &mut impl Output<u32>,
        ) {
        }
    }

    let contents = Listed::new(KeepAll, Forever);
    let (windows, key_of) = (Tumbling::new(ms(10)), |record: &Record| record.0);
    let facts =
        GeneralWindows::new(windows, EventTime, key_of, contents, Lateness::default()).facts();
    assert_eq!(facts.unbounded_states, ["forever"]);
    assert_eq!(facts.problems.len(), 1, "{:?}", facts.problems);
}
