//! The repository with its packages and module trees: what a rule looks at.

use std::collections::BTreeMap;
use std::path::Path;

use crate::manifest::{self, Package};
use crate::modules::{self, Module};
use crate::repo::Repo;
use crate::source::Source;

/// Everything the rules look at. Built once.
#[derive(Debug)]
pub(crate) struct House {
    /// Paths and texts.
    pub(crate) repo: Repo,
    /// The packages, by folder.
    pub(crate) packages: Vec<Package>,
    /// The files that some crate root reaches, by path.
    pub(crate) modules: BTreeMap<String, Module>,
}

impl House {
    /// Reads the repository at `root`.
    pub(crate) fn load(root: &Path) -> anyhow::Result<Self> {
        Ok(Self::new(Repo::load(root)?))
    }

    /// A repository made of `(path, text)` pairs.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self::new(Repo::of(files))
    }

    fn new(repo: Repo) -> Self {
        let packages = manifest::packages(&repo);
        let modules = modules::tree(&repo, &packages);
        Self { repo, packages, modules }
    }

    /// All Rust files.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.repo.sources.values()
    }

    /// Whether the file exists for tests only: declared so, or an integration test.
    pub(crate) fn is_test_file(&self, path: &str) -> bool {
        let is_declared = self.modules.get(path).is_some_and(|module| module.is_test);
        is_declared || path.starts_with("tests/it/")
    }

    /// All Rust files that are compiled without tests.
    pub(crate) fn production_sources(&self) -> impl Iterator<Item = &Source> {
        self.sources().filter(|source| !self.is_test_file(&source.path))
    }
}
