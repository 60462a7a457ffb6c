//! `cargo xtask ci`: everything that must pass before a change lands, quick checks first.
//!
//! ```text
//! format tidy layers clippy docs ──► test suites, examples ──► one line of durations, one of tests
//! ```
//!
//! The first check that fails ends the run. Every step can be run alone by the command of its name.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;

use crate::command::Tally;
use crate::house::House;
use crate::{check, docs, examples, layers, suites, tidy};

/// One step: its name and what it does; test suites add to the tally.
type Step<'a> = (&'static str, &'a dyn Fn(&mut Tally) -> anyhow::Result<()>);

/// Runs every step.
///
/// # Errors
/// If a step fails; the message names it.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let house = House::load(root)?;
    run_steps(&[
        ("format", &|_| check::format()),
        ("tidy", &|_| tidy::run(&house)),
        ("layers", &|_| layers::run(&house)),
        ("clippy", &|_| check::clippy()),
        ("docs", &|_| docs::rustdoc()),
        ("test", &suites::all),
        ("examples", &|_| examples::all(root)),
        ("sim", &suites::simulation_in_time),
    ])
}

fn run_steps(steps: &[Step<'_>]) -> anyhow::Result<()> {
    let mut tally = Tally::default();
    let mut durations = Vec::new();
    let mut outcome = Ok(());
    for (name, step) in steps {
        println!("── {name}");
        let start = Instant::now();
        outcome = step(&mut tally).with_context(|| format!("{name} failed"));
        durations.push(format!("{name} {} s", start.elapsed().as_secs()));
        if outcome.is_err() {
            break;
        }
    }
    println!("ci: {}", durations.join(" · "));
    if tally != Tally::default() {
        println!("tests: {} passed, {} failed", tally.passed, tally.failed);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn the_first_failure_ends_the_run_and_names_its_step() {
        let ran = RefCell::new(Vec::new());
        let step = |name: &'static str, is_good: bool| {
            ran.borrow_mut().push(name);
            anyhow::ensure!(is_good, "broken");
            Ok(())
        };
        let outcome = run_steps(&[
            ("a", &|_| step("a", true)),
            ("b", &|_| step("b", false)),
            ("c", &|_| step("c", true)),
        ]);
        assert_eq!(*ran.borrow(), ["a", "b"]);
        assert_eq!(outcome.expect_err("b fails").to_string(), "b failed");
    }
}
