//! What people call the splits of a job's sources, for errors far downstream.
//!
//! A source of a watched directory has no end, and its splits are numbered on and on: only the
//! names of the latest are kept, and a record of an older one is named by its number.

use std::collections::BTreeMap;

use crate::operator::env::SplitName;

/// Names that are kept, over all sources: some 10 MB of paths.
const NAME_COUNT_MAX: usize = 100_000;

/// The names of splits, as far as they are remembered.
#[derive(Debug, Default)]
pub struct SplitNames {
    /// By source and number.
    names: BTreeMap<(u32, u32), String>,
}

impl SplitNames {
    /// A split of `source` has been begun.
    pub fn insert(&mut self, source: u32, split: &SplitName) {
        if self.names.len() >= NAME_COUNT_MAX {
            // The smallest number is about the oldest.
            let oldest = self.names.range((source, 0)..).next().or(self.names.iter().next());
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.names.remove(&key);
            }
        }
        self.names.insert((source, split.split), split.to_string());
    }

    /// What split `split` of `source` is called.
    pub fn get(&self, source: u32, split: u32) -> Option<&str> {
        self.names.get(&(source, split)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_latest_splits_are_kept() {
        let mut names = SplitNames::default();
        let count = NAME_COUNT_MAX as u32 + 10;
        for split in 0..count {
            names.insert(3, &SplitName { split, name: format!("in/{split}"), unit: "byte" });
        }
        assert_eq!(names.names.len(), NAME_COUNT_MAX);
        assert_eq!(names.get(3, 9), None);
        assert!(names.get(3, count - 1).is_some_and(|name| name.starts_with("in/")));
    }
}
