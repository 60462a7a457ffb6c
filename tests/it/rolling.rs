//! Rolling aggregations against their model: with a time to live or without, cut anywhere.

use std::time::Duration;

use millstream::data::key::Key;
use millstream::operator::aggregate::{KeyedAggregate, KeyedReduce};
use millstream::prelude::*;
use millstream::testing::OperatorHarness;
use millstream_tests::model::rolling::{Life, Step, run};
use proptest::prelude::*;

use super::scripts::{Move, Timed, drive, moves};

/// A key, and the numbers of its records.
type Record = (u32, Vec<u32>);

/// Gathers numbers in the order in which they come.
#[derive(Debug, Clone)]
struct Gather;

impl AggregateFunction for Gather {
    type In = Record;
    type Accumulator = Vec<u32>;
    type Out = Record;

    fn create(&self) -> Vec<u32> {
        Vec::new()
    }

    fn add(&self, ids: &mut Vec<u32>, (_, other): Record) {
        ids.extend(other);
    }

    fn merge(&self, ids: &mut Vec<u32>, other: Vec<u32>) {
        ids.extend(other);
    }

    fn result(&self, ids: &Vec<u32>) -> Record {
        (0, ids.clone())
    }
}

fn key_of(record: &Record) -> u32 {
    record.0
}

fn check<O>(operator: &O, life: Life, moves: &[Move])
where
    O: Operator<In = Record, Out = Record> + Clone,
{
    let steps = moves.iter().filter_map(|step| match *step {
        Move::Record(Timed { key, time, id, .. }) => Some(Step::Record { key, time, id }),
        Move::Watermark(watermark) => Some(Step::Watermark(watermark)),
        Move::Clock(now) => Some(Step::Clock(now)),
        Move::Budget(_) | Move::Resume | Move::Restart => None,
    });
    let expected: Vec<_> = run(life, &steps.collect::<Vec<_>>())
        .into_iter()
        .map(|(key, time, ids)| (key.hash64(), time, ids))
        .collect();
    for cuts in [false, true] {
        let make = || OperatorHarness::new(operator.clone()).keyed_by(key_of);
        let mut found = Vec::new();
        let record = |timed: Timed| (timed.key, vec![timed.id]);
        drive(make, moves, cuts, record, |harness| {
            let rows = harness.take_rows().into_iter();
            found.extend(rows.map(|row| (row.hash64, row.event_time_ms, row.value.1)));
        });
        assert_eq!(found, expected, "with cuts: {cuts}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_record_gives_what_came_so_far(ttl in 1_i64..60, moves in moves()) {
        let join = |a: Record, b: Record| (a.0, [a.1, b.1].concat());
        let reduce = KeyedReduce::new(key_of, join);
        let aggregate = KeyedAggregate::new(key_of, Gather);
        check(&reduce, Life::Endless, &moves);
        check(&aggregate, Life::Endless, &moves);
        let duration = Duration::from_millis(ttl as u64);
        let by_event = Ttl::event_time(duration);
        check(&reduce.clone().with_ttl(by_event), Life::Event(ttl), &moves);
        check(&aggregate.clone().with_ttl(by_event), Life::Event(ttl), &moves);
        let by_clock = Ttl::processing_time(duration);
        check(&reduce.with_ttl(by_clock), Life::Processing(ttl), &moves);
        check(&aggregate.with_ttl(by_clock), Life::Processing(ttl), &moves);
    }
}
