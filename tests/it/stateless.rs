//! Chains of operators without state, splits and unions, against iterators.

use millstream::operator::process::Process;
use millstream::operator::stateless::{Filter, FlatMap, Map};
use millstream::operator::{Stage, Then};
use millstream::prelude::*;
use millstream::testing::OperatorHarness;
use proptest::prelude::*;

const ODD: OutputTag<u64> = OutputTag::new("odd");

/// Odd numbers go their own way.
#[derive(Clone)]
struct Split;

impl ProcessFunction<u64> for Split {
    type Out = u64;

    fn process(&mut self, value: u64, ctx: &mut ProcessContext<'_>, out: &mut impl Output<u64>) {
        if value.is_multiple_of(2) { out.collect(value) } else { ctx.side_output(ODD, value) }
    }
}

fn changed(number: u64) -> u64 {
    number * 3 + 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a filter")]
fn is_kept(number: &u64) -> bool {
    !number.is_multiple_of(5)
}

fn copies(number: u64) -> Vec<u64> {
    vec![number; (number % 4) as usize]
}

fn stage<O: Operator>(operator: O, name: &str) -> Stage<O> {
    Stage::new(operator, name, name)
}

proptest! {
    /// Records keep their order and their times, however they are batched.
    #[test]
    fn a_chain_is_a_composition(
        batches in prop::collection::vec(
            prop::collection::vec((0_u64..1_000, -50_i64..50), 0..20), 0..10,
        ),
    ) {
        let second = stage(FlatMap::new(copies), "c");
        let second = Then { first: stage(Filter::new(is_kept), "b"), second };
        let second = Then { first: stage(Process::new(Split), "split"), second };
        let chain = Then { first: stage(Map::new(changed), "a"), second };
        let mut harness = OperatorHarness::of_chain(chain).reading(ODD);
        for batch in &batches {
            let timed = |&(number, time): &(u64, i64)| {
                Row { event_time_ms: time, ..Row::from(number) }
            };
            harness.push_rows(batch.iter().map(timed));
        }
        let rows = harness.take_rows().into_iter();
        let found: Vec<_> = rows.map(|row| (row.value, row.event_time_ms)).collect();
        let all = batches.iter().flatten().map(|(number, time)| (changed(*number), *time));
        let (even, odd): (Vec<_>, Vec<_>) = all.partition(|(number, _)| number.is_multiple_of(2));
        let kept = even.into_iter().filter(|(number, _)| is_kept(number));
        let copied = |(number, time)| copies(number).into_iter().map(move |copy| (copy, time));
        prop_assert_eq!(found, kept.flat_map(copied).collect::<Vec<_>>());
        let odd: Vec<u64> = odd.into_iter().map(|(number, _)| number).collect();
        prop_assert_eq!(harness.take_side_output(ODD), odd);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// What was split and comes together again is what there was, whatever the shards.
    #[test]
    fn a_union_of_parts_is_the_whole(
        seed: u64, count in 0_u64..2_000, shard_count in 1_u32..4,
    ) {
        let job = Job::new("parts");
        let collected = Collected::new();
        let even = job
            .source("numbers", GeneratorSource::new(count, |number| number))
            .process("split", Split);
        let odd = even.side_output(ODD).map(changed);
        let more = job.source("more", GeneratorSource::new(count / 2, |number| number));
        even.filter(is_kept)
            .flat_map(copies)
            .union(odd)
            .union(more)
            .rebalance()
            .sink("collect", collected.sink());
        let report = job.simulate(shard_count, &SimConfig::new(seed)).expect("no mistakes");
        report.outcome.expect("it ends well");
        let (even, odd): (Vec<u64>, Vec<u64>) =
            (0..count).partition(|number| number.is_multiple_of(2));
        let mut expected: Vec<u64> = even.into_iter().filter(is_kept).flat_map(copies).collect();
        expected.extend(odd.into_iter().map(changed).chain(0..count / 2));
        expected.sort_unstable();
        let mut found: Vec<u64> = collected.take_values();
        found.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}
