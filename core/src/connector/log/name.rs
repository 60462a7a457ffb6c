//! Names of segments: whose they are, where they begin, and how far they have come.
//!
//! ```text
//! p00003-00000000000000012345-00002.log           partition 3, from record 12345 on, by run 2:
//! │      │                    │                   everything before its first record is committed
//! │      base                 generation
//! p00003-...-00002.log.pending                    a checkpoint may speak of it
//! p00003-...-00002.log.new                        nobody speaks of it
//! ```
//!
//! Names in their order are segments in the order of their records. A run that writes to a
//! partition has a generation above all that were there, so two runs never use one name.

use std::fmt;
use std::path::Path;

/// Names a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SegmentId {
    /// Of which partition.
    pub partition: u32,
    /// Number of its first record.
    pub base: u64,
    /// Which run has written it.
    pub generation: u32,
}

/// How far a segment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Being made.
    New,
    /// Durable under this name; a checkpoint may speak of it.
    Pending,
    /// Part of the log: all records before its first are committed.
    Committed,
}

const PENDING: &str = ".pending";
const NEW: &str = ".new";

impl SegmentId {
    /// The name of its file at `stage`.
    pub fn name(self, stage: Stage) -> String {
        let suffix = match stage {
            Stage::New => NEW,
            Stage::Pending => PENDING,
            Stage::Committed => "",
        };
        format!("{self}{suffix}")
    }

    /// What a file's name says; none for a name that no log gives.
    pub fn of(path: &Path) -> Option<(Self, Stage)> {
        let name = path.file_name()?.to_str()?;
        let (whole, stage) = match name.strip_suffix(PENDING) {
            Some(whole) => (whole, Stage::Pending),
            None => match name.strip_suffix(NEW) {
                Some(whole) => (whole, Stage::New),
                None => (name, Stage::Committed),
            },
        };
        let mut numbers = whole.strip_prefix('p')?.strip_suffix(".log")?.splitn(3, '-');
        let partition = numbers.next()?.parse().ok()?;
        let base = numbers.next()?.parse().ok()?;
        let generation = numbers.next()?.parse().ok()?;
        let id = Self { partition, base, generation };
        (id.to_string() == whole).then_some((id, stage))
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, base, generation } = self;
        write!(f, "p{partition:05}-{base:020}-{generation:05}.log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are_of_and_sort_as_their_records_do() {
        let id = |base, generation| SegmentId { partition: 3, base, generation };
        for stage in [Stage::New, Stage::Pending, Stage::Committed] {
            let path = Path::new("log").join(id(12_345, 2).name(stage));
            assert_eq!(SegmentId::of(&path), Some((id(12_345, 2), stage)));
        }
        for other in [".lock", "p1-2-3.log", "p00001-00000000000000000002.log", "notes.txt"] {
            assert_eq!(SegmentId::of(Path::new(other)), None, "{other}");
        }
        let mut names = [id(10, 1), id(9, 7), id(10, 0)].map(|id| id.to_string());
        names.sort();
        assert_eq!(names, [id(9, 7), id(10, 0), id(10, 1)].map(|id| id.to_string()));
    }
}
