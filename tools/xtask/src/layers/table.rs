//! The layers of the house: which module and which package may use which.
//!
//! ```text
//! error limits metrics            a module may use the rows above its own,
//! data config                     not its own row's other modules,
//! time graph                      not the rows below
//!   ..
//! api
//! ```

/// The modules of `core/src`, top row first.
const ROWS: [&[&str]; 11] = [
    &["error", "limits", "metrics"],
    &["data", "config"],
    &["time", "graph"],
    &["state"],
    &["operator", "checkpoint"],
    &["exchange", "connector"],
    &["task"],
    &["shard"],
    &["runtime", "sim"],
    &["api", "testing"],
    // Names everything for users; nobody inside uses it.
    &["prelude"],
];

/// Which top-level folder's packages may depend on which others'.
const HOUSES: [(&str, &[&str]); 6] = [
    ("storage", &[]),
    ("net", &[]),
    ("core", &["storage", "net"]),
    ("bench", &["core", "storage", "net"]),
    ("tests", &["core", "storage", "net"]),
    ("tools", &["core", "storage", "net"]),
];

/// Crates that talk to the machine: only the host names them.
pub(super) const HOST_CRATES: [&str; 7] =
    ["axum", "core_affinity", "glommio", "io_uring", "libc", "loom", "tokio"];

/// The host.
pub(super) const HOST_FOLDER: &str = "core/src/runtime/";

/// The row of a module of `core/src`, counted from the top.
pub(super) fn row_index(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// The modules that `module` may use, as a sentence's end.
pub(super) fn allowed_modules(module: &str) -> String {
    let above = ROWS.iter().take(row_index(module).unwrap_or(0)).copied().flatten();
    let above: Vec<&str> = above.copied().collect();
    if above.is_empty() { "nothing of the crate".to_owned() } else { above.join(", ") }
}

/// Whether a package in the folder `from` may depend on one in the folder `to`.
pub(super) fn may_depend(from: &str, to: &str) -> bool {
    let allowed = HOUSES.iter().find(|(house, _)| *house == from).map(|(_, allowed)| *allowed);
    from == to || allowed.is_some_and(|allowed| allowed.contains(&to))
}
