//! Functions against their models, cut in every way.

mod apply;
mod functions;
mod model;
mod schema;
mod script;
mod spill;

use proptest::prelude::*;

use crate::operator::process::KeyedProcess;
use crate::testing::{OperatorHarness, Step, conformance};
use model::Model;
use script::{Interpreter, Order, TtlChoice, orders, ttl_choice};

fn harness(
    ttl: TtlChoice,
) -> OperatorHarness<impl crate::operator::Chain<In = Order, Out = String>> {
    let operator = KeyedProcess::new(|order: &Order| order.key, Interpreter::new(ttl));
    OperatorHarness::new(operator).keyed_by(|order: &Order| order.key).starting_at(1_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a function does with its states and timers, it sees what a naive model says.
    #[test]
    fn states_and_timers_are_as_in_the_model(ttl in ttl_choice(), steps in orders()) {
        let mut harness = harness(ttl);
        let mut model = Model::new(ttl, 1_000);
        for (index, step) in steps.iter().enumerate() {
            match step.clone() {
                Step::Record { value, event_time_ms } => harness.push(value, event_time_ms),
                Step::Watermark(watermark_ms) => harness.watermark(watermark_ms),
                Step::ProcessingTime(time_ms) => harness.processing_time(time_ms),
                Step::End => harness.end(),
            }
            let expected = model.step(step);
            prop_assert_eq!(harness.take_output(), expected, "step {} ({:?})", index, step);
        }
    }

    /// Nothing depends on where the function is cut.
    #[test]
    fn cuts_do_not_show(ttl in ttl_choice(), steps in orders()) {
        conformance(|| harness(ttl), steps);
    }
}
