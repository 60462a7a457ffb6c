//! Running cargo: with its output shown, or with a test runner's output condensed and counted.
//!
//! A test run that ran nothing has checked nothing, so it is an error.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::repo;

/// How many tests passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
}

/// `cargo arguments..`, at the repository's root. `arguments` are separated by spaces.
pub(crate) fn cargo(arguments: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments.split_whitespace()).current_dir(repo::root());
    command
}

/// Runs `command` to its end.
///
/// # Errors
/// If it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("start {shown}"))?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(())
}

/// Runs a `cargo test` command, shows what is worth reading of its output, and adds its tests to
/// `tally`.
///
/// # Errors
/// If it cannot be started, if a test fails, or if no test ran.
pub(crate) fn run_tests(command: &mut Command, tally: &mut Tally) -> anyhow::Result<()> {
    let shown = show(command);
    let mut child = command.stdout(Stdio::piped()).spawn().context(shown.clone())?;
    let output = child.stdout.take().expect("the output is piped");
    let mut own = Tally::default();
    for line in BufReader::new(output).lines() {
        let line = line.with_context(|| format!("read the output of {shown}"))?;
        own.add(&line);
        if is_worth_reading(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().with_context(|| format!("wait for {shown}"))?;
    tally.passed += own.passed;
    tally.failed += own.failed;
    ensure!(status.success(), "{shown}: {status}");
    ensure!(0 < own.passed, "{shown}: ran no test");
    Ok(())
}

impl Tally {
    /// Counts a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; ..`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result: ") else { return };
        let count = |what: &str| {
            let before = result.split(';').find_map(|part| part.strip_suffix(what))?;
            before.split_whitespace().last()?.parse::<u64>().ok()
        };
        self.passed += count(" passed").unwrap_or(0);
        self.failed += count(" failed").unwrap_or(0);
    }
}

/// Everything but the tests that passed.
fn is_worth_reading(line: &str) -> bool {
    let is_passed = line.starts_with("test ") && line.ends_with(" ... ok");
    let is_frame = line.starts_with("running ") && line.ends_with([' ', 's', 't']);
    let is_empty_run = line.starts_with("test result: ok. 0 passed; 0 failed");
    !(line.trim().is_empty() || is_passed || is_frame || is_empty_run)
}

/// The command as one would type it, without its environment.
fn show(command: &Command) -> String {
    let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
    format!("cargo {}", arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let mut tally = Tally::default();
        for line in [
            "running 4 tests",
            "test a::b ... ok",
            "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "test result: ok. 20 passed; 0 failed; 0 ignored; 0 measured; finished in 0.01s",
        ] {
            tally.add(line);
        }
        assert_eq!(tally, Tally { passed: 23, failed: 1 });
    }

    #[test]
    fn failures_are_shown_and_passed_tests_are_not() {
        assert!(is_worth_reading("test a::b ... FAILED"));
        assert!(is_worth_reading("test result: ok. 20 passed; 0 failed; 0 ignored"));
        assert!(is_worth_reading("thread 'a' panicked at core/src/a.rs:1:1:"));
        for line in ["", "running 1 test", "running 7 tests", "test a::b ... ok"] {
            assert!(!is_worth_reading(line), "{line}");
        }
    }

    #[test]
    fn a_run_without_tests_is_an_error() {
        let mut command = cargo("--version");
        let error = run_tests(&mut command, &mut Tally::default()).expect_err("no test ran");
        assert_eq!(error.to_string(), "cargo --version: ran no test");
    }

    #[test]
    fn a_command_that_fails_is_an_error() {
        let mut command = cargo("no-such-command");
        command.stderr(Stdio::null());
        assert!(run(&mut command).is_err());
    }
}
