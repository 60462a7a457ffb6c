//! The few facts the checks need of a `Cargo.toml`: name, dependencies, paths of targets.
//!
//! A line reader, not a TOML parser: sections, `key = "value"` and `key.workspace = true` as this
//! repository writes them. What it cannot read it does not report, so the rule `manifest` in
//! `tidy/` also insists on the shape that it can.

use crate::repo::Repo;

/// One package of the workspace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Package {
    /// The folder of its `Cargo.toml`, from the root, without a `/` at the end.
    pub(crate) folder: String,
    /// Its name.
    pub(crate) name: String,
    /// Names of everything it depends on, of whatever kind, with the line.
    pub(crate) dependencies: Vec<(String, usize)>,
    /// `path = ".."` of its targets, from the root.
    pub(crate) target_paths: Vec<String>,
    /// Whether it inherits the workspace's lints.
    pub(crate) inherits_lints: bool,
}

impl Package {
    /// The path of the manifest.
    pub(crate) fn manifest(&self) -> String {
        format!("{}/Cargo.toml", self.folder)
    }

    /// The top-level folder that it lives in.
    pub(crate) fn house(&self) -> &str {
        self.folder.split('/').next().unwrap_or_default()
    }
}

/// All packages of `repo`, by folder.
pub(crate) fn packages(repo: &Repo) -> Vec<Package> {
    let manifests = repo.texts.iter().filter_map(|(path, text)| {
        let folder = path.strip_suffix("/Cargo.toml")?;
        text.contains("[package]").then(|| parse(folder, text))
    });
    manifests.collect()
}

fn parse(folder: &str, text: &str) -> Package {
    let mut package = Package { folder: folder.to_owned(), ..Package::default() };
    let mut section = "";
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
            // `[dependencies.name]`, the long form.
            if let Some((kind, name)) = section.rsplit_once('.')
                && kind.ends_with("dependencies")
            {
                package.dependencies.push((name.to_owned(), index + 1));
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        let (first_key, is_workspace) = match key.split_once('.') {
            Some((first_key, rest)) => (first_key, rest == "workspace" && value == "true"),
            None => (key, key == "workspace" && value == "true"),
        };
        match section {
            "package" if key == "name" => value.trim_matches('"').clone_into(&mut package.name),
            "lints" => package.inherits_lints |= is_workspace,
            "lib" | "bin" | "test" | "bench" | "example" if key == "path" => {
                package.target_paths.push(format!("{folder}/{}", value.trim_matches('"')));
            }
            _ if section.ends_with("dependencies") => {
                package.dependencies.push((first_key.to_owned(), index + 1));
            }
            _ => {}
        }
    }
    package
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_dependencies_targets_and_lints_are_read() {
        let text = r#"
[package]
name = "millstream-tests"
[dependencies]
millstream.workspace = true
rkyv = { workspace = true }
[target.'cfg(loom)'.dependencies]
loom.workspace = true
[dev-dependencies.proptest]
workspace = true
[[test]]
name = "it"
path = "it/main.rs"
[lints]
workspace = true
"#;
        let repo = Repo::of(&[("tests/Cargo.toml", text), ("Cargo.toml", "[workspace]")]);
        let [package] = &packages(&repo)[..] else { panic!("one package") };
        let names: Vec<&str> = package.dependencies.iter().map(|(name, _)| &**name).collect();
        assert_eq!(package.name, "millstream-tests");
        assert_eq!(names, ["millstream", "rkyv", "loom", "proptest"]);
        assert_eq!(package.dependencies[0].1, 5);
        assert_eq!(package.target_paths, ["tests/it/main.rs"]);
        assert!(package.inherits_lints);
        assert_eq!((package.house(), &*package.manifest()), ("tests", "tests/Cargo.toml"));
    }
}
