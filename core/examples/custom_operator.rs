//! An operator of one's own: state per key, a side output, and a test.
//!
//! `Deduplicate` hands on the first record of every id and puts the others aside. The stream is
//! keyed by id, so all records of an id meet in one task; what is kept of an id is state per key,
//! so it is in every snapshot and moves with its key when the job is restarted on more shards.
//!
//! ```text
//! cargo run --release --example custom_operator
//! cargo run --release --example custom_operator -- explain
//! cargo run --release --example custom_operator -- simulate --seeds 20
//! cargo test --example custom_operator
//! ```

use std::process::ExitCode;
use std::time::Duration;

use millstream::prelude::*;

/// A payment that may be delivered more than once.
#[derive(
    Debug,
    Clone,
    PartialEq,
    serde::Serialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize
)]
struct Payment {
    id: u64,
    amount_cents: u64,
}

/// Payments whose id has been seen before.
const REPEATED: OutputTag<Payment> = OutputTag::new("repeated");

/// Nobody delivers a payment again after so long.
const REPEATED_WITHIN: Duration = Duration::from_hours(24);

/// Hands on the first payment of every id.
#[derive(Debug, Clone, Default)]
struct Deduplicate {
    is_known: ValueState<bool>,
}

impl KeyedProcessFunction<u64, Payment> for Deduplicate {
    type Out = Payment;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.is_known = ctx.value("known", Ttl::processing_time(REPEATED_WITHIN));
    }

    fn process(
        &mut self,
        payment: Payment,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut impl Output<Payment>,
    ) {
        if self.is_known.get(ctx).is_some() {
            ctx.side_output(REPEATED, payment);
        } else {
            self.is_known.set(ctx, true);
            out.collect(payment);
        }
    }
}

fn main() -> ExitCode {
    // Every id from 0 to 4 three times.
    let payment = |n: u64| Payment { id: n % 5, amount_cents: 100 + n % 5 };
    let job = Job::new("deduplicate");
    let unique = job
        .source("payments", GeneratorSource::new(15, payment))
        .key_by(|payment| payment.id)
        .process("deduplicate", Deduplicate::default());
    let repeated = unique.side_output(REPEATED);
    repeated.map(|payment| format!("again  {payment:?}")).sink("repeated", StdoutSink::text());
    unique.map(|payment| format!("first  {payment:?}")).sink("first", StdoutSink::text());
    job.main()
}

#[cfg(test)]
mod tests {
    use millstream::operator::Stage;
    use millstream::operator::process::KeyedProcess;
    use millstream::testing::{OperatorHarness, Step, conformance};

    use super::*;

    type Operator = KeyedProcess<u64, Payment, fn(&Payment) -> u64, Deduplicate>;

    fn harness() -> OperatorHarness<Stage<Operator>> {
        let id: fn(&Payment) -> u64 = |payment| payment.id;
        let operator = KeyedProcess::new(id, Deduplicate::default());
        OperatorHarness::new(operator).keyed_by(id).reading(REPEATED)
    }

    fn payment(id: u64) -> Payment {
        Payment { id, amount_cents: 100 }
    }

    #[test]
    fn the_first_of_an_id_goes_on_and_the_others_aside() {
        let mut deduplicate = harness();
        for id in [1, 2, 1] {
            deduplicate.push(payment(id), 0);
        }
        assert_eq!(deduplicate.take_output(), [payment(1), payment(2)]);
        assert_eq!(deduplicate.take_side_output(REPEATED), [payment(1)]);
        let mut known = deduplicate.keyed_state::<u64, bool>("known");
        known.sort_unstable();
        assert_eq!(known, [(1, true), (2, true)]);
    }

    #[test]
    fn an_id_is_forgotten_after_a_day() {
        let mut deduplicate = harness();
        deduplicate.push(payment(1), 0);
        deduplicate.processing_time(REPEATED_WITHIN.as_millis() as i64 + 1);
        deduplicate.push(payment(1), 0);
        assert_eq!(deduplicate.take_output().len(), 2);
    }

    #[test]
    fn no_id_is_lost_in_a_restart_on_any_number_of_tasks() {
        let record = |id| Step::record(payment(id), 0);
        conformance(
            harness,
            [1, 2, 3, 1, 4, 3, 2, 2, 1].map(record).into_iter().chain([Step::End]),
        );
    }
}
