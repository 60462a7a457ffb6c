//! `cargo xtask docs`: the documentation builds without a warning, and documents point at things
//! that exist.

use crate::command::{self, cargo};
use crate::finding;
use crate::house::House;
use crate::tidy;

/// Builds the documentation of every package and follows the links of every document.
pub(crate) fn run(house: &House) -> anyhow::Result<()> {
    rustdoc()?;
    finding::report("docs", tidy::links(house))
}

/// The documentation builds; links between items lead somewhere.
pub(crate) fn rustdoc() -> anyhow::Result<()> {
    let mut command = cargo("doc --quiet --workspace --no-deps --document-private-items");
    command::run(command.env("RUSTDOCFLAGS", "--deny warnings"))
}
