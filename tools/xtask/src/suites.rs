//! The test suites: everything, and two that are also worth running alone.

use crate::command::{Tally, cargo, run, run_tests};

/// How many seeds of the simulator a run takes unless told otherwise.
pub(crate) const SEED_COUNT: u32 = 1000;

/// How many it takes among all other tests.
const SEED_COUNT_QUICK: u32 = 20;

/// Read by the tests whose names contain `simulation`.
const SEED_COUNT_VARIABLE: &str = "MILLSTREAM_SIM_SEEDS";

/// Unit tests, doctests, integration tests and examples of every package; the simulator with few
/// seeds.
pub(crate) fn all(tally: &mut Tally) -> anyhow::Result<()> {
    run(&mut cargo("test --quiet --workspace --no-run"))?;
    let mut command = cargo("test --workspace --no-fail-fast");
    run_tests(command.env(SEED_COUNT_VARIABLE, SEED_COUNT_QUICK.to_string()), tally)
}

/// The simulator, with many seeds.
pub(crate) fn simulation(
    seed_count: u32,
    is_release: bool,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let profile = if is_release { "--release" } else { "" };
    let target = format!("{profile} --package millstream-tests --test it");
    run(&mut cargo(&format!("test --quiet --no-run {target}")))?;
    let mut command = cargo(&format!("test {target} -- simulation"));
    run_tests(command.env(SEED_COUNT_VARIABLE, seed_count.to_string()), tally)
}

/// The models of the lock-free code, under every interleaving. Part of [`all`].
pub(crate) fn loom(tally: &mut Tally) -> anyhow::Result<()> {
    run_tests(&mut cargo("test --package millstream-loom"), tally)
}
