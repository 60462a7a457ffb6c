//! The repository as the checks see it: paths and texts in memory.
//!
//! Every rule is a function of this value, so its tests build a repository from a few strings.
//!
//! ```text
//! git ls-files (or a walk) ──► Repo { paths, texts, sources } ──► rules ──► findings
//! ```
//!
//! Not here: how modules and packages hang together (`modules.rs`, `manifest.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::source::Source;

/// Larger files are data; their text is not read.
const TEXT_SIZE_BYTES_MAX: u64 = 1 << 20;

/// What the repository holds, build products and ignored files left out.
#[derive(Debug, Default)]
pub(crate) struct Repo {
    /// Every file, from the root, with `/`.
    pub(crate) paths: BTreeSet<String>,
    /// The text of every file that is UTF-8 and small enough to have been written by hand.
    pub(crate) texts: BTreeMap<String, String>,
    /// The Rust files among them, by path.
    pub(crate) sources: BTreeMap<String, Source>,
}

impl Repo {
    /// Reads the repository at `root`.
    pub(crate) fn load(root: &Path) -> anyhow::Result<Self> {
        let mut repo = Self::default();
        for path in git_files(root).unwrap_or_else(|| walk(root)) {
            let Ok(metadata) = fs::symlink_metadata(root.join(&path)) else { continue };
            if !metadata.is_file() {
                continue;
            }
            if metadata.len() <= TEXT_SIZE_BYTES_MAX {
                let bytes = fs::read(root.join(&path)).with_context(|| format!("read {path}"))?;
                if let Ok(text) = String::from_utf8(bytes) {
                    repo.add(&path, &text);
                }
            }
            repo.paths.insert(path);
        }
        Ok(repo)
    }

    /// A repository made of `(path, text)` pairs.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut repo = Self::default();
        for (path, text) in files {
            repo.add(path, text);
        }
        repo
    }

    fn add(&mut self, path: &str, text: &str) {
        self.paths.insert(path.to_owned());
        self.texts.insert(path.to_owned(), text.to_owned());
        if has_extension(path, "rs") {
            self.sources.insert(path.to_owned(), Source::new(path, text));
        }
    }

    /// Whether `path` is a file or a folder (with or without a `/` at the end).
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let folder = format!("{path}/");
        self.paths.contains(path)
            || self.paths.range(folder.clone()..).next().is_some_and(|p| p.starts_with(&folder))
    }

    /// The texts of all files with this extension.
    pub(crate) fn texts_of(&self, extension: &str) -> impl Iterator<Item = (&str, &str)> {
        let texts = self.texts.iter().filter(move |(path, _)| has_extension(path, extension));
        texts.map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

/// Whether the file name ends in `.extension`.
pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// The folder of `path`.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// `relative` seen from `folder`, without `.` and `..`; `None` if it leaves the repository.
pub(crate) fn join(folder: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The root of the repository that this program was built from.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).expect("this package is tools/xtask").to_owned()
}

/// Tracked and new files, without what `.gitignore` names; `None` outside a git checkout.
fn git_files(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()?;
    let files = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| files.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

/// Every file below `root`, for a copy of the repository without its history.
fn walk(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_product = matches!(entry.file_name().to_str(), Some("target" | ".git"));
            if path.is_dir() && !is_product {
                folders.push(path);
            } else if let Some(path) = path.strip_prefix(root).ok().and_then(Path::to_str)
                && !is_product
            {
                files.push(path.replace('\\', "/"));
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_loads_the_same_with_and_without_git() {
        let root = root();
        let repo = Repo::load(&root).expect("the repository is readable");
        assert!(repo.sources.contains_key("tools/xtask/src/repo.rs"));
        assert!(repo.has("tools/xtask") && repo.has("tools/xtask/") && !repo.has("tools/xtas"));
        assert!(walk(&root).contains(&"tools/xtask/src/repo.rs".to_owned()));
    }
}
