//! Rule `type-name`: words that name no idea, or name one by another word than the table in
//! `CONTRIBUTING.md` does, are not part of a type's or a file's name.
//!
//! `CheckpointManager` says that checkpoints are managed and leaves open how. `Context` is for what
//! an operator is handed: `OperatorContext`, `TriggerContext`.

use crate::finding::Finding;
use crate::house::House;
use crate::source::Kind;

const BANNED: [&str; 10] =
    ["Manager", "Handler", "Helper", "Helpers", "Util", "Utils", "Impl", "Base", "Data", "Info"];

/// Words that the table has others for, and those.
const FOREIGN: [(&str, &str); 14] = [
    ("Actor", "Task"),
    ("Distributor", "Partitioner"),
    ("Executor", "Operator"),
    ("Frontier", "Watermark"),
    ("Marker", "Barrier"),
    ("Message", "Element or Mail"),
    ("Permit", "Credit"),
    ("Processor", "Operator"),
    ("Reactor", "Shard"),
    ("Router", "Partitioner"),
    ("Sstable", "Table"),
    ("Subtask", "Task"),
    ("Vnode", "KeyGroup"),
    ("Worker", "Shard"),
];

/// Where the words of the table are those of everything.
const ENGINE_FOLDERS: [&str; 3] = ["core/src/", "storage/src/", "net/src/"];

/// Modules whose types may end in `Context`: what an operator, or a trigger, is handed.
const CONTEXT_FOLDERS: [&str; 3] = ["core/src/operator", "core/src/time", "core/src/api"];

/// Finds types with empty names.
pub(super) fn type_names(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in house.production_sources() {
        let may_be_context = CONTEXT_FOLDERS.iter().any(|folder| source.path.starts_with(folder));
        for pair in source.production_code().flat_map(|code| code.windows(2)) {
            let [keyword, name] = [source.text_of(pair[0]), source.text_of(pair[1])];
            let is_type = matches!(keyword, "struct" | "enum" | "trait" | "union" | "type");
            if !is_type || pair[1].kind != Kind::Ident {
                continue;
            }
            let word = words(name).find(|word| match *word {
                "Context" => !(may_be_context && name.ends_with(word) && name != *word),
                word => BANNED.contains(&word),
            });
            if let Some(word) = word {
                let message = format!("`{name}`: `{word}` names no idea; say what it is or does");
                findings.push(Finding::fail("type-name", &source.path, pair[1].line, message));
            }
            findings.extend(foreign(&source.path, pair[1].line, name, words(name)));
        }
        let stem = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        findings.extend(foreign(&source.path, 0, stem, stem.split('_')));
    }
    findings
}

/// A finding if a name of the engine has a word that the table has another for.
fn foreign<'a>(
    path: &str,
    line: usize,
    name: &str,
    mut words: impl Iterator<Item = &'a str>,
) -> Option<Finding> {
    if !ENGINE_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
        return None;
    }
    let (foreign, ours) = words.find_map(|word| {
        FOREIGN.into_iter().find(|(foreign, _)| word.eq_ignore_ascii_case(foreign))
    })?;
    let message = format!("`{name}`: `{foreign}` is called {ours} here (Words in CONTRIBUTING.md)");
    Some(Finding::fail("type-name", path, line, message))
}

/// The words of a name in camel case.
fn words(name: &str) -> impl Iterator<Item = &str> {
    let starts = name.match_indices(char::is_uppercase).map(|(at, _)| at);
    let ends = starts.clone().skip(1).chain([name.len()]);
    starts.zip(ends).map(|(start, end)| &name[start..end])
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn empty_words_are_found() {
        for word in BANNED {
            let text = format!("\npub(crate) struct Checkpoint{word}<T> {{}}\n");
            check(type_names, &[("a.rs", &text)], &[&format!("a.rs:2 `Checkpoint{word}`")]);
        }
        check(type_names, &[("a.rs", "trait BaseTask {}\nenum Info {}\n")], &["a.rs:1", "a.rs:2"]);
    }

    #[test]
    fn longer_words_are_their_own() {
        let text = "struct Metadata; struct Database; enum Informed {} fn make_data() {}";
        check(type_names, &[("a.rs", text)], &[]);
    }

    #[test]
    fn words_that_the_table_has_others_for_are_found() {
        for (foreign, _) in FOREIGN {
            let text = format!("struct Row{foreign};");
            let path = "core/src/a.rs";
            check(type_names, &[(path, &text)], &[&format!("{path}:1 `Row{foreign}`")]);
            check(type_names, &[("tools/a.rs", &text)], &[]);
            let path = format!("net/src/row_{}.rs", foreign.to_lowercase());
            check(type_names, &[(&path, "")], &[&format!("{path}:0 `row_")]);
        }
        let table = include_str!("../../../../CONTRIBUTING.md").to_lowercase();
        for (foreign, _) in FOREIGN {
            assert!(table.contains(&foreign.to_lowercase()), "{foreign} is not in the table");
        }
    }

    #[test]
    fn contexts_belong_to_operators() {
        let text = "pub struct OperatorContext;";
        check(type_names, &[("core/src/operator/mod.rs", text)], &[]);
        check(type_names, &[("core/src/task/mod.rs", text)], &["core/src/task/mod.rs:1"]);
        let text = "pub struct Context; pub struct ContextMap;";
        let path = "core/src/operator/mod.rs";
        check(type_names, &[(path, text)], &[&format!("{path}:1"), &format!("{path}:1")]);
    }
}
