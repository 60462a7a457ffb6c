//! Windows of every kind, and late records.

use millstream::prelude::*;
use millstream::sim::rng::Rng;
use millstream_tests::model::window::Kind;

use super::input::{Event, Fired, Gather, Input, fired, ms};
use super::ledger::Ledger;
use super::{Layout, assert_same, check};

/// An input, and windows over it.
type Drawn = (Input, Kind);

fn verify(about: &str, (input, kind): &Drawn, _: &[&Layout], rows: Vec<Fired>) {
    assert_same(about, rows, input.fired(*kind));
}

#[test]
fn tumbling_windows() {
    let draw = |rng: &mut Rng, _: &mut SimConfig| {
        let size = 1 + rng.below(400) as i64;
        (Input::draw(rng), Kind::Sliding { size, slide: size, offset: 0 })
    };
    let write = |(input, kind): &Drawn, job: &Job, layout: &Layout, ledger: Ledger<Fired>| {
        let Kind::Sliding { size, .. } = *kind else { unreachable!("drawn above") };
        let windows =
            input.source(job, "events", layout).key_by(|e| e.0).window(Tumbling::new(ms(size)));
        windows.aggregate_with(Gather, fired).sink("ledger", ledger);
    };
    check(0, draw, write, verify);
}

#[test]
fn sliding_windows() {
    let draw = |rng: &mut Rng, _: &mut SimConfig| {
        let (slide, size) = (20 + rng.below(100) as i64, 1 + rng.below(400) as i64);
        (Input::draw(rng), Kind::Sliding { size, slide, offset: 0 })
    };
    let write = |(input, kind): &Drawn, job: &Job, layout: &Layout, ledger: Ledger<Fired>| {
        let Kind::Sliding { size, slide, .. } = *kind else { unreachable!("drawn above") };
        let events = input.source(job, "events", layout).rebalance().key_by(|e| e.0);
        let windows = events.window(Sliding::new(ms(size), ms(slide)));
        windows.aggregate_with(Gather, fired).sink("ledger", ledger);
    };
    check(1, draw, write, verify);
}

#[test]
fn sessions_and_cumulative_windows() {
    let draw = |rng: &mut Rng, _: &mut SimConfig| {
        let input = Input::draw(rng);
        let step = 20 + rng.below(50) as i64;
        let kind = match rng.below(2) {
            0 => Kind::Session { gap: 1 + rng.below(200) as i64 },
            _ => Kind::Cumulative { size: step * (1 + rng.below(6) as i64), step, offset: 0 },
        };
        (input, kind)
    };
    let write = |(input, kind): &Drawn, job: &Job, layout: &Layout, ledger: Ledger<Fired>| {
        let events = input.source(job, "events", layout).key_by(|e| e.0);
        match *kind {
            Kind::Session { gap } => {
                let windows = events.window(Session::new(ms(gap)));
                windows.aggregate_with(Gather, fired).sink("ledger", ledger);
            }
            Kind::Cumulative { size, step, .. } => {
                let windows = events.window(Cumulative::new(ms(size), ms(step)));
                windows.aggregate_with(Gather, fired).sink("ledger", ledger);
            }
            Kind::Sliding { .. } => unreachable!("drawn above"),
        }
    };
    check(2, draw, write, verify);
}

const LATE: OutputTag<Event> = OutputTag::new("late");

/// How watermarks are made in a run where they may come too early.
#[derive(Debug)]
struct Hasty {
    input: Input,
    size_ms: i64,
    /// Smaller than the disorder there is, or not.
    bound_ms: i64,
    drift_max_ms: Option<i64>,
    idleness_ms: Option<i64>,
}

/// Which records are late depends on what happens when; that each of them is either in one window
/// or in the late output, once, does not.
#[test]
fn late_output_alignment_and_idleness() {
    let draw = |rng: &mut Rng, _: &mut SimConfig| {
        let input = Input::draw(rng);
        let bound_ms = rng.below(2 * input.disorder_ms as u64 + 1) as i64;
        Hasty {
            size_ms: 1 + rng.below(300) as i64,
            bound_ms,
            drift_max_ms: rng.chance(1, 2).then(|| rng.below(500) as i64),
            idleness_ms: rng.chance(1, 3).then(|| 1 + rng.below(3) as i64),
            input,
        }
    };
    let write = |hasty: &Hasty, job: &Job, layout: &Layout, ledger: Ledger<Fired>| {
        let mut strategy = WatermarkStrategy::new(BoundedOutOfOrderness::new(ms(hasty.bound_ms)));
        if let Some(drift_max_ms) = hasty.drift_max_ms {
            strategy = strategy.with_alignment(ms(drift_max_ms));
        }
        if let Some(idleness_ms) = hasty.idleness_ms {
            strategy = strategy.with_idleness(ms(idleness_ms));
        }
        let events = job
            .source("events", hasty.input.vector(layout))
            .parallelism(layout.parallelism)
            .watermark(strategy, |event| event.1);
        let windows = events.key_by(|e| e.0).window(Tumbling::new(ms(hasty.size_ms)));
        let results = windows.late_output(LATE).aggregate_with(Gather, fired);
        let late = results.side_output(LATE).map(|(key, at_ms, id)| (key, at_ms, 0, vec![id]));
        results.union(late).sink("ledger", ledger);
    };
    check(3, draw, write, |about, hasty, layouts, rows| {
        let is_on_time = hasty.input.disorder_ms <= hasty.bound_ms && hasty.idleness_ms.is_none();
        let late_count = rows.iter().filter(|row| row.2 == 0).count();
        assert!(
            !is_on_time || late_count == 0,
            "{about}: {late_count} late, {} runs",
            layouts.len()
        );
        let mut windows: Vec<_> =
            rows.iter().filter(|row| row.2 != 0).map(|row| (row.0, row.1)).collect();
        windows.sort_unstable();
        assert!(windows.windows(2).all(|two| two[0] != two[1]), "{about}: a window fired twice");
        let ids =
            rows.into_iter().flat_map(|(key, .., ids)| ids.into_iter().map(move |id| (key, id)));
        let expected = hasty.input.events.iter().map(|(key, _, id)| (*key, *id));
        assert_same(about, ids.collect(), expected.collect());
    });
}

/// Numbers the windows of each key, and says of each which it is.
#[derive(Clone, Default)]
struct Numbered {
    count: ValueState<i64>,
}

impl ProcessWindowFunction<u32, Event> for Numbered {
    type Out = Fired;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.count = ctx.value("count", StateSpec::kept_until_cleared());
    }

    fn process(
        &mut self,
        key: &u32,
        events: &[Event],
        ctx: &mut ProcessWindowContext<'_>,
        out: &mut impl Output<Fired>,
    ) {
        let count = |count: &mut i64| {
            *count += 1;
            *count
        };
        assert_eq!(self.count.update(ctx.window_state(), count), 1, "a window fires once");
        let number = self.count.update(ctx.global_state(), count);
        let mut ids: Vec<u32> = events.iter().map(|event| event.2).collect();
        ids.sort_unstable();
        out.collect((*key, ctx.window().start_ms, number, ids));
    }
}

#[test]
fn state_of_windows_and_keys() {
    let draw = |rng: &mut Rng, _: &mut SimConfig| {
        let size = 1 + rng.below(400) as i64;
        (Input::draw(rng), Kind::Sliding { size, slide: size, offset: 0 })
    };
    let write = |(input, kind): &Drawn, job: &Job, layout: &Layout, ledger: Ledger<Fired>| {
        let Kind::Sliding { size, .. } = *kind else { unreachable!("drawn above") };
        let events = input.source(job, "events", layout).key_by(|e| e.0);
        events.window(Tumbling::new(ms(size))).process(Numbered::default()).sink("ledger", ledger);
    };
    check(17, draw, write, |about, (input, kind), _, rows| {
        let mut expected = input.fired(*kind);
        expected.sort_unstable();
        let mut last = (0, 0);
        for (key, _, number, _) in &mut expected {
            last = if last.0 == *key { (*key, last.1 + 1) } else { (*key, 1) };
            *number = last.1;
        }
        assert_same(about, rows, expected);
    });
}
