//! Every check and chore of the repository, as one program: `cargo xtask <command>`.
//!
//! ```text
//! check   rustfmt, clippy; cargo-deny with --deny          check.rs
//! tidy    rules of the house that no compiler checks        tidy/
//! layers  which module and package may use which            layers/
//! docs    rustdoc without warnings, links in documents      docs.rs
//! test    every package's tests                             suites.rs
//! sim     the simulator with many seeds                     suites.rs
//! loom    the models of the lock-free code alone            suites.rs
//! examples every example runs, and is simulated          examples.rs
//! ci      all of it, in order                               ci.rs
//! ```
//!
//! Rules work on the repository in memory (`repo.rs`, `house.rs`), on tokens (`source/`), and each
//! has a test that shows it failing.

#![expect(clippy::print_stdout, reason = "a program's report goes to its output")]

mod check;
mod ci;
mod command;
mod docs;
mod examples;
mod finding;
mod house;
mod layers;
mod manifest;
mod modules;
mod repo;
mod source;
mod suites;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use command::Tally;
use house::House;

/// Checks and chores of the repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run rustfmt and clippy on everything.
    Check {
        /// Check licences, advisories and sources of the dependencies too (needs cargo-deny).
        #[arg(long)]
        deny: bool,
    },
    /// Check the rules of the house that no compiler checks.
    Tidy,
    /// Check which module and package uses which.
    Layers,
    /// Build the documentation without warnings and check the links of all documents.
    Docs,
    /// Run every package's tests.
    Test,
    /// Run whole jobs in the simulator, under many seeds.
    Sim {
        /// How many seeds.
        #[arg(long, default_value_t = suites::SEED_COUNT)]
        seeds: u32,
        /// Optimise; worth the build from some ten thousand seeds on.
        #[arg(long)]
        release: bool,
    },
    /// Run the models of the lock-free code under every interleaving.
    Loom,
    /// Run every example, print its plan and simulate it.
    Examples,
    /// Run everything that must pass before a change lands.
    Ci,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> anyhow::Result<()> {
    let root = repo::root();
    match task {
        Task::Check { deny } => {
            check::format()?;
            check::clippy()?;
            if *deny { check::deny() } else { Ok(()) }
        }
        Task::Tidy => tidy::run(&House::load(&root)?),
        Task::Layers => layers::run(&House::load(&root)?),
        Task::Docs => docs::run(&House::load(&root)?),
        Task::Test => suites::all(&mut Tally::default()),
        Task::Sim { seeds, release } => suites::simulation(*seeds, *release, &mut Tally::default()),
        Task::Loom => suites::loom(&mut Tally::default()),
        Task::Examples => examples::all(&root),
        Task::Ci => ci::run(&root),
    }
}
