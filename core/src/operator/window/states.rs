//! What the function of a window keeps besides the window's records.
//!
//! ```text
//! key          ──► states of the key       `global_state`: of all its windows, and beyond them
//! key, window  ──► states of the window    `window_state`: forgotten with the window
//! ```
//!
//! The function declares its states once; a handle is the number of a column, and both have the
//! same columns. So it is the scope that says whose value a handle gets.

use crate::data::key::Key;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::OperatorContext;
use crate::operator::process::OpenContext;
use crate::operator::process::open::{Declarable, Declared};
use crate::operator::window::function::{ProcessWindowContext, WindowContext};
use crate::operator::window::stored;
use crate::state::keyed::KeyedState;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::spec::StateTime;
use crate::time::timer::TimerQueue;
use crate::time::window::Window;

const DECLARABLE: Declarable = Declarable { keyed: true, broadcast: false };

/// What names of states of windows begin with in a snapshot.
const OF_WINDOWS: &str = "window-";

/// See the module.
#[derive(Debug)]
pub(super) struct WindowStates<K> {
    of_keys: KeyedState<K>,
    /// By the bytes of the key and of the window: whatever type a key is, it is stored alone. All
    /// windows of a key have its hash, and so are where it is.
    of_windows: KeyedState<Vec<u8>>,
}

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turn<'a, K> {
    pub(super) key: &'a K,
    pub(super) hash64: u64,
    pub(super) now: StateTime,
    /// Windows that merge have no states of their own.
    pub(super) merges: bool,
}

/// What the plan should know of what `open` declares.
pub(super) fn facts(open: impl FnOnce(&mut OpenContext<'_>)) -> Facts {
    Declared::collect(DECLARABLE, open).into_facts(DECLARABLE)
}

impl<K: Key> WindowStates<K> {
    /// What `open` declares, called twice; `None` if that is nothing.
    pub(super) fn open(
        mut open: impl FnMut(&mut OpenContext<'_>),
        ctx: &OperatorContext<'_>,
    ) -> Result<Option<Self>, Error> {
        let of_keys = Declared::collect(DECLARABLE, &mut open).check(ctx)?.columns;
        let of_windows = Declared::collect_of(OF_WINDOWS, DECLARABLE, open).check(ctx)?.columns;
        let task = ctx.env().task;
        let (count, groups) = (task.key_group_count, task.key_groups());
        Ok((!of_keys.declarations().is_empty()).then(|| Self {
            of_keys: KeyedState::new(of_keys, count, groups.clone()),
            of_windows: KeyedState::new(of_windows, count, groups),
        }))
    }

    /// Runs user code for a window of a key, with its states if there are any.
    pub(super) fn run(
        states: &mut Option<Self>,
        turn: &Turn<'_, K>,
        ctx: WindowContext<'_>,
        user_code: impl FnOnce(&mut ProcessWindowContext<'_>),
    ) {
        let Some(states) = states else {
            return user_code(&mut ProcessWindowContext::without_states(ctx));
        };
        states.enter(turn, ctx.window());
        let (of_keys, of_windows) = (states.of_keys.columns_mut(), states.of_windows.columns_mut());
        let of_windows = (!turn.merges).then_some(of_windows);
        user_code(&mut ProcessWindowContext::new(ctx, of_keys, of_windows));
        states.leave();
    }

    /// The window is gone, and with it its states.
    pub(super) fn forget(states: &mut Option<Self>, turn: &Turn<'_, K>, window: Window) {
        if let Some(states) = states {
            states.enter(turn, window);
            states.of_windows.forget_states();
            states.leave();
        }
    }

    fn enter(&mut self, turn: &Turn<'_, K>, window: Window) {
        self.of_keys.enter(turn.hash64, turn.key.clone(), turn.now);
        let mut of_window = turn.key.archive().to_vec();
        of_window.extend(stored::namespace_of(window));
        self.of_windows.enter(turn.hash64, of_window, turn.now);
    }

    fn leave(&mut self) {
        self.of_keys.leave();
        self.of_windows.leave();
    }

    /// Gives some memory of expired entries back, unless event-time timers of windows are due that
    /// may still see them.
    pub(super) fn sweep(&mut self, event_timers: &TimerQueue, processing_ms: i64) {
        if !event_timers.has_due() {
            let now = StateTime::between_records(event_timers.horizon_ms(), processing_ms);
            self.of_keys.sweep(now);
            self.of_windows.sweep(now);
        }
    }

    /// The earliest processing time (ms) at which there is something to sweep.
    pub(super) fn next_time_ms(&self) -> Option<i64> {
        let next_ms = [self.of_keys.next_time_ms(), self.of_windows.next_time_ms()];
        next_ms.into_iter().flatten().min()
    }

    pub(super) fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        self.of_keys.snapshot(writer);
        self.of_windows.snapshot(writer);
    }

    pub(super) fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        self.of_keys.restore(reader, ctx.watermark_ms(), ctx.processing_time_ms())?;
        self.of_windows.restore(reader, ctx.watermark_ms(), ctx.processing_time_ms())
    }
}

#[cfg(test)]
mod tests {
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

    fn harness<W, G>(
        windows: W,
        trigger: G,
    ) -> OperatorHarness<Stage<impl Operator<In = Record, Out = Counted>>>
    where
        W: WindowAssigner<Record>,
        G: Trigger<Record>,
    {
        let contents = Listed::new(KeepAll, Counts::default());
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
        let mut counts = harness(Tumbling::new(ms(10)), EventTime);
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
            conformance(|| harness(Tumbling::new(ms(10)), EventTime), steps(seed));
            conformance(|| harness(Sliding::new(ms(20), ms(7)), EventTime), steps(seed));
            let by_clock = Tumbling::new(ms(10)).processing_time();
            conformance(|| harness(by_clock, ProcessingTime), steps(seed));
            conformance(|| harness(Global, Purging::of(Count::of(3))), steps(seed));
        }
    }

    #[test]
    #[should_panic(expected = "windows that merge have no state of their own")]
    fn windows_that_merge_have_no_state_of_their_own() {
        let mut counts = harness(Session::new(ms(10)), EventTime);
        counts.push((1, 1), 3);
        counts.watermark(100);
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
}
