//! Joins of two sources, and grouping them.

use millstream::prelude::*;
use millstream::sim::rng::Rng;
use millstream_tests::model::join::{From, Step, interval, temporal};

use super::input::{Event, Input, ms};
use super::ledger::Ledger;
use super::{Layout, assert_same, check};

/// Left and right record, 0 for none.
type Pair = (u32, u32);

#[derive(Debug)]
struct Drawn {
    left: Input,
    right: Input,
    /// Of an interval, or a window's size.
    lower_ms: i64,
    upper_ms: i64,
}

impl Drawn {
    fn draw(rng: &mut Rng, _: &mut SimConfig) -> Self {
        let lower_ms = rng.below(200) as i64 - 100;
        let upper_ms = lower_ms + rng.below(200) as i64;
        let (left, mut right) = (Input::draw(rng), Input::draw(rng));
        right.events.iter_mut().for_each(|event| event.2 += 1_000_000);
        Self { left, right, lower_ms, upper_ms }
    }

    /// Makes times of right records distinct: of two versions of one time, the last to come wins.
    fn with_distinct_times(mut self) -> Self {
        let mut known = std::collections::BTreeSet::new();
        self.right.events.retain(|event| known.insert((event.0, event.1)));
        self
    }

    fn script(&self) -> Vec<Step> {
        let step = |from| move |&(key, time, id): &Event| Step::Record { from, key, time, id };
        let left = self.left.events.iter().map(step(From::Left));
        left.chain(self.right.events.iter().map(step(From::Right)))
            .chain([Step::Watermark(i64::MAX)])
            .collect()
    }
}

fn bound(after_ms: i64) -> TimeBound {
    if after_ms < 0 { TimeBound::before(ms(after_ms)) } else { TimeBound::after(ms(after_ms)) }
}

#[test]
fn interval_joins() {
    let write = |drawn: &Drawn, job: &Job, layout: &Layout, ledger: Ledger<Pair>| {
        let left = drawn.left.source(job, "left", layout).key_by(|e| e.0);
        let right = drawn.right.source(job, "right", layout).key_by(|e| e.0);
        let pair = |left: &Event, right: &Event| (left.2, right.2);
        left.connect(right)
            .interval_join(bound(drawn.lower_ms), bound(drawn.upper_ms), pair)
            .sink("ledger", ledger);
    };
    check(4, Drawn::draw, write, |about, drawn, _, rows| {
        let pairs = interval(drawn.lower_ms, drawn.upper_ms, &drawn.script()).pairs;
        assert_same(about, rows, pairs.into_iter().map(|(left, right, _)| (left, right)).collect());
    });
}

#[test]
fn temporal_joins() {
    let write = |drawn: &Drawn, job: &Job, layout: &Layout, ledger: Ledger<Pair>| {
        let left = drawn.left.source(job, "left", layout).key_by(|e| e.0);
        let right = drawn.right.source(job, "right", layout).key_by(|e| e.0);
        left.connect(right)
            .temporal_left_join(|left, version: Option<&Event>| {
                (left.2, version.map_or(0, |version| version.2))
            })
            .sink("ledger", ledger);
    };
    let draw =
        |rng: &mut Rng, config: &mut SimConfig| Drawn::draw(rng, config).with_distinct_times();
    check(5, draw, write, |about, drawn, _, rows| {
        let pairs = temporal(&drawn.script()).pairs;
        assert_same(about, rows, pairs.into_iter().map(|(left, right, _)| (left, right)).collect());
    });
}

/// A window join gives pairs; grouping the same windows gives the numbers of both sides.
#[test]
fn window_joins_and_co_groups() {
    let write = |drawn: &Drawn, job: &Job, layout: &Layout, ledger: Ledger<Pair>| {
        let left = drawn.left.source(job, "left", layout).shared();
        let right = drawn.right.source(job, "right", layout).shared();
        let windows = Tumbling::new(ms(1 + drawn.upper_ms - drawn.lower_ms));
        let joined = left
            .key_by(|e| e.0)
            .connect(right.key_by(|e| e.0))
            .window_join(windows, |left: &Event, right: &Event| (left.2, right.2));
        let counts = |_: &u32, _: &Window, left: &[Event], right: &[Event]| {
            let alone = |e: &Event, is_alone: bool| is_alone.then_some((e.2, 0));
            let lefts = left.iter().filter_map(|e| alone(e, right.is_empty()));
            lefts.chain(right.iter().filter_map(|e| alone(e, left.is_empty()))).collect::<Vec<_>>()
        };
        let alone = left.key_by(|e| e.0).connect(right.key_by(|e| e.0)).co_group(windows, counts);
        joined.union(alone).sink("ledger", ledger);
    };
    check(6, Drawn::draw, write, |about, drawn, _, rows| {
        let size_ms = 1 + drawn.upper_ms - drawn.lower_ms;
        let place = |e: &Event| (e.0, e.1.div_euclid(size_ms));
        let mut expected = Vec::new();
        for left in &drawn.left.events {
            let partners = drawn.right.events.iter().filter(|right| place(left) == place(right));
            expected.extend(partners.map(|right| (left.2, right.2)));
        }
        let (lefts, rights) = (&drawn.left.events, &drawn.right.events);
        let alone = |of: &[Event], others: &[Event]| -> Vec<Pair> {
            let is_alone = |e: &&Event| others.iter().all(|other| place(e) != place(other));
            of.iter().filter(is_alone).map(|e| (e.2, 0)).collect()
        };
        expected.extend(alone(lefts, rights));
        expected.extend(alone(rights, lefts));
        assert_same(about, rows, expected);
    });
}
