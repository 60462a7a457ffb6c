//! The test suites: everything, and two that are also worth running alone.

use std::time::{Duration, Instant};

use anyhow::ensure;

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

/// How long the simulator may take for [`SEED_COUNT`] seeds, built and on two cores: a check that
/// takes longer is not run before every change.
const SIMULATION_MAX: Duration = Duration::from_mins(5);

/// The simulator, with as many seeds as every change must pass, in the time that it may take.
pub(crate) fn simulation_in_time(tally: &mut Tally) -> anyhow::Result<()> {
    build_simulation("")?;
    let start = Instant::now();
    simulation(SEED_COUNT, false, tally)?;
    check_duration(start.elapsed())
}

fn check_duration(took: Duration) -> anyhow::Result<()> {
    ensure!(
        took <= SIMULATION_MAX,
        "{SEED_COUNT} seeds took {} s, and may take {} s: make the simulated jobs smaller",
        took.as_secs(),
        SIMULATION_MAX.as_secs()
    );
    Ok(())
}

/// The simulator, with many seeds.
pub(crate) fn simulation(
    seed_count: u32,
    is_release: bool,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let target = build_simulation(if is_release { "--release" } else { "" })?;
    let mut command = cargo(&format!("test {target} -- simulation"));
    run_tests(command.env(SEED_COUNT_VARIABLE, seed_count.to_string()), tally)
}

/// Builds the tests that simulate; the arguments that name them.
fn build_simulation(profile: &str) -> anyhow::Result<String> {
    let target = format!("{profile} --package millstream-tests --test it --test checkpoints");
    run(&mut cargo(&format!("test --quiet --no-run {target}")))?;
    Ok(target)
}

/// The models of the lock-free code, under every interleaving. Part of [`all`].
pub(crate) fn loom(tally: &mut Tally) -> anyhow::Result<()> {
    run_tests(&mut cargo("test --package millstream-loom"), tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_that_takes_too_long_fails() {
        assert!(check_duration(Duration::from_mins(5)).is_ok());
        let error = check_duration(Duration::from_secs(301)).expect_err("too long").to_string();
        assert!(error.starts_with("1000 seeds took 301 s"), "{error}");
    }
}
