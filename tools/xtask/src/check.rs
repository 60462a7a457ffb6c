//! `cargo xtask check`: what rustfmt and clippy have to say, and cargo-deny if asked.
//!
//! The bans of `clippy.toml` are tested here too: a misspelt path in it bans nothing, silently.

use std::process::Stdio;

use anyhow::bail;

use crate::command::{cargo, run};

/// The format is rustfmt's.
pub(crate) fn format() -> anyhow::Result<()> {
    run(&mut cargo("fmt --all --check"))
}

/// No lint fires anywhere, tests, examples and benches included.
pub(crate) fn clippy() -> anyhow::Result<()> {
    run(&mut cargo("clippy --quiet --workspace --all-targets -- --deny warnings"))
}

/// Licences, advisories, duplicates and sources of the dependencies are those of `deny.toml`.
///
/// # Errors
/// If one is not, or if cargo-deny is not installed: who asked for the check must not believe that
/// it passed.
pub(crate) fn deny() -> anyhow::Result<()> {
    let mut version = cargo("deny --version");
    let probe = version.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        bail!("cargo-deny is not installed: cargo install --locked cargo-deny");
    }
    run(&mut cargo("deny --workspace check"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::repo::root;

    /// One expression or type for every line of the root's `clippy.toml`.
    const BANNED: [(&str, &str); 31] = [
        ("std::time::Instant::now", "drop(std::time::Instant::now())"),
        ("std::time::Instant::elapsed", "drop(std::time::Instant::elapsed)"),
        ("std::time::SystemTime::now", "drop(std::time::SystemTime::now())"),
        ("std::time::SystemTime::elapsed", "drop(std::time::SystemTime::elapsed)"),
        ("std::thread::spawn", "drop(std::thread::spawn(|| ()))"),
        ("std::thread::scope", "std::thread::scope(|_| ())"),
        ("std::thread::Builder::spawn", "drop(std::thread::Builder::new().spawn(|| ()))"),
        ("std::thread::sleep", "std::thread::sleep(std::time::Duration::ZERO)"),
        ("std::thread::park", "std::thread::park()"),
        ("std::thread::park_timeout", "std::thread::park_timeout(std::time::Duration::ZERO)"),
        ("std::thread::yield_now", "std::thread::yield_now()"),
        ("std::hash::RandomState::new", "drop(std::hash::RandomState::new())"),
        ("std::fs::File::open", "drop(std::fs::File::open(\"a\"))"),
        ("std::fs::File::create", "drop(std::fs::File::create(\"a\"))"),
        ("std::fs::File::create_new", "drop(std::fs::File::create_new(\"a\"))"),
        ("std::fs::OpenOptions::open", "drop(std::fs::OpenOptions::new().open(\"a\"))"),
        ("std::fs::read", "drop(std::fs::read(\"a\"))"),
        ("std::fs::read_to_string", "drop(std::fs::read_to_string(\"a\"))"),
        ("std::fs::read_dir", "drop(std::fs::read_dir(\"a\"))"),
        ("std::fs::metadata", "drop(std::fs::metadata(\"a\"))"),
        ("std::fs::write", "drop(std::fs::write(\"a\", \"b\"))"),
        ("std::fs::rename", "drop(std::fs::rename(\"a\", \"b\"))"),
        ("std::fs::remove_file", "drop(std::fs::remove_file(\"a\"))"),
        ("std::fs::create_dir", "drop(std::fs::create_dir(\"a\"))"),
        ("std::fs::create_dir_all", "drop(std::fs::create_dir_all(\"a\"))"),
        ("std::net::TcpStream::connect", "drop(std::net::TcpStream::connect(\"a\"))"),
        ("std::net::TcpListener::bind", "drop(std::net::TcpListener::bind(\"a\"))"),
        ("std::process::exit", "std::process::exit(1)"),
        ("std::process::abort", "std::process::abort()"),
        ("std::collections::HashMap", "drop(std::collections::HashMap::<u8, u8>::new())"),
        ("std::collections::HashSet", "drop(std::collections::HashSet::<u8>::new())"),
    ];

    /// What clippy says of a crate with one function for every banned thing, under the
    /// configuration in `folder`.
    fn clippy_says(folder: &str) -> String {
        let package: PathBuf =
            std::env::temp_dir().join(format!("xtask-bans-{}-{folder}", std::process::id()));
        let functions =
            BANNED.iter().enumerate().map(|(i, (_, body))| format!("fn f{i}() {{ {body}; }}\n"));
        let library = format!("#![allow(dead_code)]\n{}", functions.collect::<String>());
        let manifest = "[package]\nname = \"bans\"\nedition = \"2024\"\n[workspace]\n";
        fs::create_dir_all(package.join("src")).expect("a folder for the crate");
        fs::write(package.join("Cargo.toml"), manifest).expect("its manifest");
        fs::write(package.join("src/lib.rs"), library).expect("its code");
        let output = cargo("clippy --offline")
            .current_dir(&package)
            .env("CARGO_TARGET_DIR", package.join("target"))
            .env("CLIPPY_CONF_DIR", root().join(folder))
            .output()
            .expect("clippy runs");
        fs::remove_dir_all(&package).expect("the folder is ours");
        let output = String::from_utf8(output.stderr).expect("clippy speaks UTF-8");
        assert!(output.contains("Finished"), "clippy did not get to the end:\n{output}");
        output
    }

    fn is_banned(output: &str, path: &str) -> bool {
        output.contains(&format!("disallowed method `{path}`"))
            || output.contains(&format!("disallowed type `{path}`"))
    }

    #[test]
    fn every_ban_of_the_engine_bites() {
        let output = clippy_says("");
        for (path, _) in BANNED {
            assert!(is_banned(&output, path), "clippy.toml does not ban {path}:\n{output}");
        }
        let configuration = include_str!("../../../clippy.toml");
        let banned_count = configuration.matches("path = ").count();
        // `RandomState` is banned twice: as a method and as a type.
        assert_eq!(banned_count, BANNED.len() + 1, "a ban of clippy.toml has no line in `BANNED`");
    }

    #[test]
    fn tests_may_read_clocks_but_not_iterate_at_random() {
        let output = clippy_says("tests");
        assert!(!is_banned(&output, "std::time::Instant::now"));
        assert!(is_banned(&output, "std::collections::HashMap"));
        let output = clippy_says("tools");
        assert!(!is_banned(&output, "std::collections::HashMap"));
    }
}
