//! `cargo xtask examples`: every example runs, prints its plan and is simulated.
//!
//! Examples are found, not listed: a new one is run from its first day. Each runs in a temporary
//! folder of its own, on few records where it takes a number of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::command::{cargo, run};

/// Arguments that keep an example small: to run it, and to simulate it.
const SMALL: [(&str, &str, &str); 1] =
    [("card_fraud", "--payments 60000 --rate 2000 --seconds 1", "--payments 2000")];

/// Examples that a simulation of would take minutes: a year of flights for every seed.
const NOT_SIMULATED: [&str; 1] = ["flights"];

/// Runs every example.
///
/// # Errors
/// If one does not end with exit code 0; the message has what it printed.
pub(crate) fn all(root: &Path) -> anyhow::Result<()> {
    run(&mut cargo("build --quiet --package millstream --examples"))?;
    let names = names(&root.join("core/examples"))?;
    ensure!(!names.is_empty(), "core/examples has no examples");
    for name in names {
        let folder = std::env::temp_dir().join(format!("xtask-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let outcome = check_all(root, &folder, &name);
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        outcome?;
        println!("example {name}: ok");
    }
    Ok(())
}

/// Runs, explains and simulates an example in `folder`.
fn check_all(root: &Path, folder: &Path, name: &str) -> anyhow::Result<()> {
    let (run_args, simulate_args) = small(name);
    check(root, folder, name, run_args)?;
    check(root, folder, name, "explain")?;
    if NOT_SIMULATED.contains(&name) {
        return Ok(());
    }
    check(root, folder, name, &format!("{simulate_args} simulate --seeds 5"))
}

fn small(name: &str) -> (&'static str, &'static str) {
    let found = SMALL.into_iter().find(|(example, ..)| *example == name);
    found.map_or(("", ""), |(_, run, simulate)| (run, simulate))
}

/// The names of all examples: files, and folders with a `main.rs`.
fn names(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path: PathBuf = entry?.path();
        let is_example =
            path.extension().is_some_and(|end| end == "rs") || path.join("main.rs").exists();
        if let Some(stem) = path.file_stem().filter(|_| is_example) {
            names.insert(stem.to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Runs an example that has been built, in `folder`.
fn check(root: &Path, folder: &Path, name: &str, arguments: &str) -> anyhow::Result<()> {
    let mut command: Command = cargo("run --quiet --package millstream --example");
    command.arg(name).arg("--manifest-path").arg(root.join("Cargo.toml"));
    command.arg("--").args(arguments.split_whitespace());
    let output = command.current_dir(folder).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("start example {name}"))?;
    ensure!(
        output.status.success(),
        "example {name} {arguments}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_with_a_main_are_examples() {
        let folder = std::env::temp_dir().join(format!("xtask-examples-{}", std::process::id()));
        for path in ["a.rs", "b/main.rs", "b/other.rs", "data/c.csv"] {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("in the folder")).expect("it is ours");
            fs::write(path, "").expect("it is ours");
        }
        let names = names(&folder);
        fs::remove_dir_all(&folder).expect("it is ours");
        assert_eq!(names.expect("it can be listed"), ["a", "b"].map(String::from).into());
    }

    #[test]
    fn arguments_are_for_examples_that_exist() {
        let names = names(&crate::repo::root().join("core/examples")).expect("they are there");
        for name in SMALL.map(|(name, ..)| name).into_iter().chain(NOT_SIMULATED) {
            assert!(names.contains(name), "there is no example {name}");
        }
    }

    #[test]
    fn an_example_that_fails_is_told_with_what_it_said() {
        let root = crate::repo::root();
        let error = check(&root, &root, "word_count", "no-such-command").expect_err("exit code 2");
        let text = error.to_string();
        assert!(text.contains("word_count") && text.contains("no-such-command"), "{text}");
    }
}
