//! An operator of one's own: state per key, a side output, a snapshot.
//!
//! `Deduplicate` hands on the first record of every id and puts the others aside. It keeps the ids
//! that it has seen, so its input must be keyed by id: then all records of an id meet in one task.
//!
//! ```text
//! cargo run --release --example custom_operator
//! ```

use std::collections::BTreeSet;
use std::process::ExitCode;

use millstream::graph::Facts;
use millstream::prelude::*;
use millstream::state::snapshot::{SnapshotReader, SnapshotWriter};

/// A payment that may be delivered more than once.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Payment {
    id: u64,
    amount_cents: u64,
}

/// Payments whose id has been seen before.
const REPEATED: OutputTag<Payment> = OutputTag::new("repeated");

/// Hands on the first payment of every id.
#[derive(Debug, Clone, Default)]
struct Deduplicate {
    seen: BTreeSet<u64>,
}

impl Operator for Deduplicate {
    type In = Payment;
    type Out = Payment;

    /// What the plan checks and `explain` shows.
    fn facts(&self) -> Facts {
        Facts {
            detail: "first of every id".to_string(),
            is_keyed: true,
            is_stateful: true,
            unbounded_states: vec!["seen".to_string()],
            ..Facts::default()
        }
    }

    fn on_row(
        &mut self,
        row: Row<Payment>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<Payment>,
    ) {
        if self.seen.insert(row.value.id) {
            out.emit(row);
        } else {
            ctx.side_output_row(REPEATED, row);
        }
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        let seen: Vec<u64> = self.seen.iter().copied().collect();
        writer.operator_state("seen", &seen);
    }

    fn restore(&mut self, reader: &SnapshotReader<'_>, _: &OperatorContext<'_>) -> Result<()> {
        for (_, seen) in reader.operator_state::<Vec<u64>>("seen")? {
            self.seen.extend(seen);
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    // Every id from 0 to 99 three times.
    let payment = |n: u64| Payment { id: n % 100, amount_cents: 100 + n % 7 };
    let (first, repeated) = (Collected::new(), Collected::new());

    let job = Job::new("deduplicate");
    let unique = job
        .source("payments", GeneratorSource::new(300, payment))
        .key_by(|payment| payment.id)
        .operator("deduplicate", Deduplicate::default());
    unique.side_output(REPEATED).sink("repeated", repeated.sink());
    unique.sink("first", first.sink());
    let exit_code = job.main();

    let (first, repeated) = (first.values(), repeated.values());
    if !first.is_empty() {
        assert_eq!(repeated.len(), 2 * first.len());
        let ids: BTreeSet<u64> = first.iter().map(|payment| payment.id).collect();
        assert_eq!(ids.len(), 100, "every id");
        eprintln!("{} payments, {} of them repeated", 3 * first.len(), repeated.len());
    }
    exit_code
}
