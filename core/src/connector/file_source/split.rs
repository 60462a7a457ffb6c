//! Splits of a file source: which there are, whose they are, and how far each has been read.
//!
//! ```text
//! files by path        a.csv          b.jsonl (3 ranges)                 c.gz
//! splits             ( a.csv 0.. )  ( 0..8Mi )( 8Mi..16Mi )( 16Mi.. )  ( c.gz 0.. )
//! ordinal, 2 tasks     0: task 0      1: task 1  2: task 0   3: task 1   4: task 0
//! ```
//!
//! A range owns the records that *begin* in it. Ranges of one file alternate between tasks, so the
//! tasks move through it side by side.
//!
//! A fixed set of files is listed once for all tasks, so each finds the same splits in the same
//! order, and they are dealt out by ordinal. A watched directory changes between the listings of
//! two tasks, so there a split belongs to the task that its path's hash and its range pick,
//! whatever else is there.

use std::path::Path;

use millstream_storage::io::FileEntry;
use xxhash_rust::xxh3::xxh3_128;

use super::content::Compression;

/// A file, or a byte range of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Split {
    /// Where the file is.
    pub(super) path: String,
    /// Which of the file's ranges, from 0.
    pub(super) range: u32,
    /// First byte at which one of its records may begin.
    pub(super) start: u64,
    /// First byte of the next range; `u64::MAX` in the last.
    pub(super) end: u64,
    /// Bytes of the file when it was listed. It must have as many when it is read, or the ranges
    /// are not those of all tasks.
    pub(super) size_bytes: u64,
}

/// A split and how far it has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct SplitState {
    pub(super) split: Split,
    /// Its number within the source, the same over restores.
    pub(super) number: u32,
    pub(super) progress: Progress,
}

/// How far a split has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) enum Progress {
    /// It has not begun.
    Waiting,
    /// It has been announced, and nothing has been handed on.
    Begun,
    /// The next record is there.
    At(Position),
}

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Position {
    /// Byte in the file's content, after decompression.
    pub(super) offset: u64,
    /// Number of the line that begins there, from 1; 0 if it is not known.
    pub(super) line: u64,
    /// It lies within a line that is too long, the rest of which is passed over.
    pub(super) is_skipping: bool,
}

impl SplitState {
    /// Under which name its state is kept.
    pub(super) fn state_name(&self) -> String {
        format!("split/{}#{}", self.split.path, self.split.range)
    }
}

/// Names a split in few bytes, so that millions can be remembered: the hash of its path, and its
/// range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct SplitKey {
    path_hash: [u64; 2],
    range: u32,
}

impl SplitKey {
    /// The task of a split of a watched directory. Ranges of a file alternate.
    pub(super) fn task_index(&self, parallelism: u32) -> u32 {
        (self.path_hash[0].wrapping_add(u64::from(self.range)) % u64::from(parallelism)) as u32
    }
}

impl Split {
    /// Its name in few bytes.
    pub(super) fn key(&self) -> SplitKey {
        let hash = xxh3_128(self.path.as_bytes());
        SplitKey { path_hash: [hash as u64, (hash >> 64) as u64], range: self.range }
    }
}

/// A split that has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct FinishedSplit {
    pub(super) key: SplitKey,
    /// Bytes of its file.
    pub(super) size_bytes: u64,
}

/// The splits of `file`, in order. Plain text is cut into ranges of about `range_bytes`, if there
/// is such a number.
pub(super) fn splits_of(file: &FileEntry, range_bytes: Option<u64>) -> Result<Vec<Split>, Unfit> {
    let Some(path) = file.path.to_str() else {
        return Err(Unfit { path: file.path.display().to_string() });
    };
    let is_plain = Compression::of(path) == Compression::None;
    let range_bytes = range_bytes.filter(|_| is_plain).unwrap_or(u64::MAX).max(1);
    let range_count = file.size_bytes.div_ceil(range_bytes).max(1);
    let split = |range: u64| Split {
        path: path.to_string(),
        range: u32::try_from(range).expect("a file has fewer than 2^32 ranges"),
        start: range * range_bytes,
        end: if range + 1 == range_count { u64::MAX } else { (range + 1) * range_bytes },
        size_bytes: file.size_bytes,
    };
    Ok((0..range_count).map(split).collect())
}

/// A file whose name is not text.
#[derive(Debug)]
pub(super) struct Unfit {
    pub(super) path: String,
}

/// Whether a file that a glob or a directory listing found is meant: names that begin with `.` or
/// `_`, and files that a sink has not finished, are not.
pub(super) fn is_visible(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    !name.starts_with(['.', '_']) && !name.ends_with(super::IN_PROGRESS_SUFFIX)
}

/// Whether `pattern` names `path` itself: no glob and no directory.
pub(super) fn is_named_by(path: &Path, pattern: &str) -> bool {
    let pattern = Path::new(pattern);
    path.ends_with(pattern.strip_prefix(".").unwrap_or(pattern))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn file(path: &str, size_bytes: u64) -> FileEntry {
        FileEntry { path: path.into(), size_bytes, modified: SystemTime::UNIX_EPOCH }
    }

    fn check(files: &[FileEntry], range_bytes: Option<u64>, expected: &str) {
        let splits = files.iter().flat_map(|f| splits_of(f, range_bytes).expect("names are text"));
        let words = splits.map(|split| match split.end {
            u64::MAX => format!("{}:{}..", split.path, split.start),
            end => format!("{}:{}..{end}", split.path, split.start),
        });
        assert_eq!(words.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn plain_files_are_cut_and_compressed_ones_are_not() {
        let files = [file("a.gz", 99), file("b.csv", 25), file("c.csv", 0), file("d.csv", 20)];
        let cut = "a.gz:0.. b.csv:0..10 b.csv:10..20 b.csv:20.. c.csv:0.. d.csv:0..10 d.csv:10..";
        check(&files, Some(10), cut);
        check(&files, None, "a.gz:0.. b.csv:0.. c.csv:0.. d.csv:0..");
    }

    #[test]
    fn ranges_of_a_watched_file_alternate_between_tasks() {
        let splits = splits_of(&file("a", 40), Some(10)).expect("text");
        let tasks: Vec<_> = splits.iter().map(|split| split.key().task_index(2)).collect();
        assert!(tasks == [0, 1, 0, 1] || tasks == [1, 0, 1, 0], "{tasks:?}");
    }

    #[test]
    fn hidden_and_unfinished_files_are_not_meant_unless_named() {
        for name in ["a/.b.csv", "a/_SUCCESS", "a/part-0.csv.inprogress"] {
            assert!(!is_visible(Path::new(name)), "{name}");
        }
        assert!(is_visible(Path::new("_a/b.csv")));
        assert!(is_named_by(Path::new("in/_b.csv"), "./in/_b.csv"));
        assert!(!is_named_by(Path::new("in/_b.csv"), "in"));
        assert!(!is_named_by(Path::new("in/_b.csv"), "in/*.csv"));
    }
}
