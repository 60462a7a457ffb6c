//! `cargo xtask layers`: the arrows of the house point one way.
//!
//! Three rules: modules of `core/src` use only the rows above their own (`layer`), only the host
//! names crates that talk to the machine (`host-crate`), and packages depend along the arrows
//! between the top-level folders (`package-arrow`). `table.rs` is the whole policy.
//!
//! A name that `core/src/lib.rs` re-exports belongs to the module that it comes from.

mod table;
mod uses;

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::{self, Finding};
use crate::house::House;
use crate::source::matches_at;
use uses::Use;

const ENGINE_FOLDER: &str = "core/src/";
const ENGINE_ROOT: &str = "core/src/lib.rs";

/// Checks the repository and prints what it finds.
///
/// # Errors
/// If an arrow points the wrong way.
pub(crate) fn run(house: &House) -> anyhow::Result<()> {
    let rules = [module_layers, host_crates, package_arrows];
    finding::report("layers", rules.iter().flat_map(|rule| rule(house)).collect())
}

/// Finds modules of the engine that use a row that is not above their own.
fn module_layers(house: &House) -> Vec<Finding> {
    let rule = "layer";
    let mut findings = Vec::new();
    let reexports: BTreeMap<String, String> = house
        .repo
        .sources
        .get(ENGINE_ROOT)
        .into_iter()
        .flat_map(uses::reexports)
        .map(|reexport| (reexport.name, reexport.path[0].clone()))
        .collect();
    let mut without_row = BTreeSet::new();
    for source in house.production_sources().filter(|s| s.path.starts_with(ENGINE_FOLDER)) {
        let Some(module) = house.modules.get(&source.path) else { continue };
        let Some(own) = module.path.first() else { continue };
        if table::row_index(own).is_none() {
            if without_row.insert(own.clone()) {
                let message = format!("`{own}` has no row in tools/xtask/src/layers/table.rs");
                findings.push(Finding::fail(rule, &source.path, 0, message));
            }
            continue;
        }
        for used in uses::uses(source, &module.path) {
            findings.extend(
                layer_problem(own, &used, &reexports)
                    .map(|message| Finding::fail(rule, &source.path, used.line, message)),
            );
        }
    }
    findings
}

/// What is wrong with the module `own` naming `used`, if anything.
fn layer_problem(own: &str, used: &Use, reexports: &BTreeMap<String, String>) -> Option<String> {
    let first = &used.path[0];
    let target = reexports.get(first).unwrap_or(first);
    let is_exported_macro = used.is_macro && used.path.len() == 1;
    if target == own || is_exported_macro {
        return None;
    }
    let Some(target_row) = table::row_index(target) else {
        let path = used.path.join("::");
        return Some(format!("`crate::{path}`: name the module that it comes from"));
    };
    let is_above = table::row_index(own).is_some_and(|row| target_row < row);
    let allowed = table::allowed_modules(own);
    (!is_above).then(|| format!("`{own}` must not use `{target}`; it may use {allowed}"))
}

/// Finds the engine naming crates that are the host's business.
fn host_crates(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_engine = |path: &str| {
        ["core/src/", "storage/", "net/"].iter().any(|folder| path.starts_with(folder))
            && !path.starts_with(table::HOST_FOLDER)
    };
    for source in house.production_sources().filter(|source| is_engine(&source.path)) {
        for code in source.production_code() {
            for (at, token) in code.iter().enumerate() {
                let name = source.text_of(*token);
                let is_path = matches_at(&source.text, code, at + 1, &[":", ":"])
                    && !(2 <= at && matches_at(&source.text, code, at - 2, &[":", ":"]));
                if is_path && table::HOST_CRATES.contains(&name) {
                    let folder = table::HOST_FOLDER;
                    let message = format!("`{name}` is named in {folder} only");
                    findings.push(Finding::fail("host-crate", &source.path, token.line, message));
                }
            }
        }
    }
    findings
}

/// Finds packages that depend against the arrows.
fn package_arrows(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &house.packages {
        for (name, line) in &package.dependencies {
            let Some(target) = house.packages.iter().find(|target| target.name == *name) else {
                continue;
            };
            if !table::may_depend(package.house(), target.house()) {
                let (from, to) = (package.house(), target.house());
                let message = format!("{from}/ must not depend on {to}/ (`{name}`)");
                findings.push(Finding::fail("package-arrow", &package.manifest(), *line, message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: &str = "[package]\nname = \"millstream\"\n";
    const ROOT: &str = "pub use error::Error; pub use shard::Shard;
        mod error; mod state; mod operator; mod task; mod shard; mod runtime; mod sim; mod odd;";

    /// Checks `text` as the file of `module`.
    fn check_module(module: &str, text: &str, expected: &[&str]) {
        let path = format!("core/src/{module}.rs");
        let house =
            House::of(&[("core/Cargo.toml", CORE), (ENGINE_ROOT, ROOT), (path.as_str(), text)]);
        let found: Vec<String> = [module_layers(&house), host_crates(&house)]
            .concat()
            .into_iter()
            .map(|finding| format!("{} {}", finding.line, finding.message))
            .collect();
        assert_eq!(found.len(), expected.len(), "found {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "found {found}, expected {expected}");
        }
    }

    #[test]
    fn rows_above_may_be_used() {
        check_module(
            "operator",
            "use crate::{error::Error, state::Handle}; crate::Error::x()",
            &[],
        );
        check_module("task", "use crate::operator::Operator; use self::input::Input;", &[]);
    }

    #[test]
    fn rows_below_may_not() {
        let expected =
            ["2 `operator` must not use `task`; it may use error, limits, metrics, data"];
        check_module("operator", "\nuse crate::task::Task;", &expected);
        check_module("operator", "use crate::{error::Error,\n shard::Shard};", &["2 `operator`"]);
        check_module("state", "fn a() { super::operator::b() }", &["1 `state` must not"]);
        let expected = ["1 `error` must not use `state`; it may use nothing of the crate"];
        check_module("error", "use crate::state::Handle;", &expected);
    }

    #[test]
    fn neighbours_of_one_row_may_not() {
        check_module("sim", "use crate::runtime::clock;", &["1 `sim` must not use `runtime`"]);
        check_module("runtime", "use crate::sim::World;", &["1 `runtime` must not use `sim`"]);
    }

    #[test]
    fn a_reexport_is_no_way_around() {
        check_module("operator", "use crate::Shard;", &["1 `operator` must not use `shard`"]);
        check_module("task", "use crate::prelude::Shard;", &["1 `task` must not use `prelude`"]);
        check_module("task", "use crate::Unknown;", &["1 `crate::Unknown`: name the module"]);
        check_module("task", "crate::exported!(x)", &[]);
    }

    #[test]
    fn a_module_without_a_row_is_found() {
        check_module("odd", "use crate::shard::Shard;", &["0 `odd` has no row"]);
    }

    #[test]
    fn only_the_host_names_crates_of_the_machine() {
        check_module("shard", "use tokio::net;", &["1 `tokio` is named in core/src/runtime/ only"]);
        check_module("shard", "fn a() { io_uring::IoUring::new(8) }", &["1 `io_uring` is named"]);
        check_module("runtime/ring", "use io_uring::IoUring;", &[]);
        check_module("shard", "crate::error::libc::x(); // tokio::net", &[]);
    }

    #[test]
    fn packages_depend_along_the_arrows() {
        let storage = "[package]\nname = \"millstream-storage\"\n[dependencies]\n";
        let check = |storage_dependency: &str, expected: &[&str]| {
            let storage = format!("{storage}{storage_dependency}.workspace = true\n");
            let core = format!("{CORE}[dependencies]\nmillstream-storage.workspace = true\n");
            let house = House::of(&[
                ("core/Cargo.toml", &core),
                ("storage/Cargo.toml", &storage),
                ("net/Cargo.toml", "[package]\nname = \"millstream-net\"\n"),
                ("storage/remote/Cargo.toml", "[package]\nname = \"millstream-remote\"\n"),
            ]);
            let found: Vec<String> =
                package_arrows(&house).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected);
        };
        let error = |to: &str, name: &str| {
            let place = "storage/Cargo.toml:4: error: storage/ must not depend on";
            format!("{place} {to}/ (`{name}`) [package-arrow]")
        };
        check("thiserror", &[]);
        check("millstream-remote", &[]);
        check("millstream-net", &[&error("net", "millstream-net")]);
        check("millstream", &[&error("core", "millstream")]);
    }
}
