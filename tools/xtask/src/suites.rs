//! The test suites that want to be run in a way of their own: everything, simulation, loom.

use crate::command::{Tally, cargo, run_tests};

/// Unit tests, doctests, integration tests and examples of every package.
pub(crate) fn all(tally: &mut Tally) -> anyhow::Result<()> {
    run_tests(&mut cargo("test --quiet --workspace --no-fail-fast"), tally)
}
