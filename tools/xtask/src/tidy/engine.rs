//! Rules `unsafe-code` and `async-code`: where the two words may stand.
//!
//! `unsafe` is one idea per file, in the host and in the files of [`UNSAFE_PLACES`]; a further file
//! is argued for in `docs/decisions/`. `async` stays on the threads that bring their own runtime:
//! below the host, an operation is a value and its completion is an event.

use crate::finding::Finding;
use crate::house::House;

/// Files and folders in which `unsafe` is allowed.
const UNSAFE_PLACES: [&str; 7] = [
    "bench/src/rocksdb.rs",
    "core/src/runtime/",
    "core/src/data/archived_row.rs",
    "core/src/data/frame.rs",
    "storage/src/arena.rs",
    "storage/src/huge_vec.rs",
    "storage/src/prefetch.rs",
];

/// The libraries in which nothing waits, and the one folder of them that may.
const SYNCHRONOUS_FOLDERS: [&str; 3] = ["core/src/", "storage/src/", "net/src/"];
const ASYNC_FOLDER: &str = "core/src/runtime/";

/// Finds `unsafe` outside its places.
pub(super) fn unsafe_code(house: &House) -> Vec<Finding> {
    let message = format!("`unsafe` is confined to {}", UNSAFE_PLACES.join(", "));
    keyword(house, "unsafe", "unsafe-code", &message, |path| {
        !UNSAFE_PLACES.iter().any(|place| path.starts_with(place))
    })
}

/// Finds `async` and `.await` in the engine.
pub(super) fn async_code(house: &House) -> Vec<Finding> {
    let message = format!("nothing waits below {ASYNC_FOLDER}: return an effect, take an event");
    let is_engine = |path: &str| {
        SYNCHRONOUS_FOLDERS.iter().any(|folder| path.starts_with(folder))
            && !path.starts_with(ASYNC_FOLDER)
    };
    let mut findings = keyword(house, "async", "async-code", &message, is_engine);
    findings.extend(keyword(house, "await", "async-code", &message, is_engine));
    findings
}

fn keyword(
    house: &House,
    word: &str,
    rule: &'static str,
    message: &str,
    is_banned_in: impl Fn(&str) -> bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in house.sources().filter(|source| is_banned_in(&source.path)) {
        for token in source.code().iter().filter(|token| source.text_of(**token) == word) {
            findings.push(Finding::fail(rule, &source.path, token.line, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn unsafe_outside_its_places_is_found() {
        let text = "// unsafe\nfn a() { unsafe { b() } }\nconst C: &str = \"unsafe\";\n";
        check(unsafe_code, &[("core/src/task/mod.rs", text)], &["core/src/task/mod.rs:2"]);
        check(unsafe_code, &[("tests/it/a.rs", text)], &["tests/it/a.rs:2"]);
        check(unsafe_code, &[("core/src/runtime/ring.rs", text)], &[]);
        check(unsafe_code, &[("storage/src/arena.rs", text)], &[]);
    }

    #[test]
    fn async_in_the_engine_is_found() {
        let text = "async fn a() {\n    b().await;\n}\n";
        let path = "core/src/shard/mod.rs";
        check(async_code, &[(path, text)], &[&format!("{path}:1"), &format!("{path}:2")]);
        check(async_code, &[("core/src/runtime/control_thread.rs", text)], &[]);
        check(async_code, &[("tools/src/command/top.rs", text)], &[]);
    }
}
