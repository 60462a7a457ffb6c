//! What the files of checkpoints are called.

use crate::data::element::CheckpointId;

/// What a name in a directory of checkpoints says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    /// A manifest.
    Manifest(CheckpointId),
    /// What the tasks of a shard had.
    Part(CheckpointId, u32),
    /// Something that was not finished, of this checkpoint.
    Unfinished(CheckpointId),
}

/// Highest number that is believed: a job that takes a thousand checkpoints a second comes to it
/// after 285,000 years.
const ID_MAX: u64 = 1 << 53;

/// The name of the file that says that the job has ended.
pub const ENDED: &str = "ended";

const PREFIX: &str = "chk-";
const STATE: &str = "state-";
const MANIFEST: &str = "manifest";
const SHARD: &str = "shard-";
/// As `AtomicFile` of the storage library calls it.
const UNFINISHED: &str = ".part";

/// What a file is called that is to become `name` when it is finished.
pub fn unfinished_name(name: &str) -> String {
    format!("{name}{UNFINISHED}")
}

/// The name of a manifest.
pub fn manifest_name(checkpoint: CheckpointId) -> String {
    format!("{PREFIX}{:010}.{MANIFEST}", checkpoint.0)
}

/// The name of the directory with the tables of shard `shard`, of a run whose first checkpoint is
/// `first`.
pub fn state_name(first: CheckpointId, shard: u32) -> String {
    format!("{STATE}{:010}.{SHARD}{shard:05}", first.0)
}

/// The first checkpoint of the run that a directory with tables is of; none if this is not the name
/// of one.
pub fn first_of_state(name: &str) -> Option<CheckpointId> {
    let (first, shard) = name.strip_prefix(STATE)?.split_once('.')?;
    shard.strip_prefix(SHARD)?.parse::<u32>().ok()?;
    Some(CheckpointId(first.parse().ok().filter(|id| *id <= ID_MAX)?))
}

/// Whether this is the name of a directory with tables.
pub fn is_state_name(name: &str) -> bool {
    first_of_state(name).is_some()
}

/// The name of the file with the part of shard `shard`.
pub fn part_name(checkpoint: CheckpointId, shard: u32) -> String {
    format!("{PREFIX}{:010}.{SHARD}{shard:05}", checkpoint.0)
}

impl FileName {
    /// What `name` says; none if it is not the name of a checkpoint's file.
    pub fn of(name: &str) -> Option<Self> {
        let finished = name.strip_suffix(UNFINISHED);
        let (number, kind) = finished.unwrap_or(name).strip_prefix(PREFIX)?.split_once('.')?;
        let checkpoint = CheckpointId(number.parse().ok().filter(|id| *id <= ID_MAX)?);
        let found = match kind.strip_prefix(SHARD) {
            Some(shard) => Self::Part(checkpoint, shard.parse().ok()?),
            None if kind == MANIFEST => Self::Manifest(checkpoint),
            None => return None,
        };
        Some(if finished.is_some() { Self::Unfinished(checkpoint) } else { found })
    }

    /// Of which checkpoint it is.
    pub fn checkpoint(self) -> CheckpointId {
        match self {
            Self::Manifest(checkpoint)
            | Self::Part(checkpoint, _)
            | Self::Unfinished(checkpoint) => checkpoint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for id in [0, 7, ID_MAX] {
            let checkpoint = CheckpointId(id);
            let (manifest, part) = (manifest_name(checkpoint), part_name(checkpoint, 3));
            assert_eq!(FileName::of(&manifest), Some(FileName::Manifest(checkpoint)));
            assert_eq!(FileName::of(&part), Some(FileName::Part(checkpoint, 3)));
            for name in [manifest, part] {
                let unfinished = FileName::of(&format!("{name}.part"));
                assert_eq!(unfinished, Some(FileName::Unfinished(checkpoint)), "{name}");
            }
        }
        assert!(is_state_name(&state_name(CheckpointId(ID_MAX), 12)));
        assert!(!is_state_name("state-1") && !is_state_name("state-x.shard-1"));
        for other in [
            "chk-1",
            "chk-x.manifest",
            "chk-1.shard-",
            "chk-1.table",
            "chk-18446744073709551615.manifest",
            ".lock",
            "x.part",
        ] {
            assert_eq!(FileName::of(other), None, "{other}");
        }
    }
}
