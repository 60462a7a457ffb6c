//! One file of a file sink, from its opening to its final name.
//!
//! ```text
//! Writing ──finish──► Finishing ──written, synced, closed──► Written ──rename──► Renaming ─► done
//!   Open, Write...      Sync, Close                            │                   ▲ Rename
//!                                                              └─keep─► Keeping ─► Whole
//! ```
//!
//! Where there are checkpoints, a file that is written is kept under a name of its own, which the
//! renaming makes durable, until one is complete that speaks of it; else it is renamed at once.
//!
//! Invariant: the file gets its final name only when everything in it is durable, so whoever sees
//! the name sees the whole content, whenever the machine fails.
//!
//! It says what to ask for and is told what came of it; who carries that out is not its business.

use std::path::{Path, PathBuf};

use millstream_storage::io::{FileId, FileOp, OpId, OpenMode};

use crate::connector::file_source::IN_PROGRESS_SUFFIX;

/// One file being written.
#[derive(Debug)]
pub(super) struct Part {
    /// Its name when it is complete.
    path: PathBuf,
    file: FileId,
    written_bytes: u64,
    phase: Phase,
    /// Operations that have not been answered.
    waiting: Vec<OpId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Writing,
    Finishing,
    /// Everything in it is durable, but not its name.
    Written,
    Keeping,
    /// Durable, under the name of what is kept.
    Whole,
    Renaming,
}

/// What an answer means for a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is to be done yet.
    Wait,
    /// Everything in it is durable: [`Part::keep`] is next, or [`Part::rename`].
    Written,
    /// It is kept, durably: [`Part::rename`] is next.
    Whole,
    /// The file has its final name.
    Complete,
}

impl Part {
    /// A file that will be called `path`, being opened as `op`.
    pub(super) fn opening(path: PathBuf, file: FileId, op: OpId) -> Self {
        Self { path, file, written_bytes: 0, phase: Phase::Writing, waiting: vec![op] }
    }

    /// How a file is opened that will be called `path`.
    pub(super) fn open_as(path: &Path) -> (PathBuf, OpenMode) {
        (in_progress(path), OpenMode::Create)
    }

    /// Bytes that it has been given.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Operations that have not been answered.
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Whether an answer to `op` is for this file.
    pub(super) fn is_waiting_for(&self, op: OpId) -> bool {
        self.waiting.contains(&op)
    }

    /// Appends `bytes`. `ask` hands the operation to the host under a number of its choice.
    pub(super) fn write(&mut self, bytes: Vec<u8>, ask: impl FnOnce(Make<'_>) -> OpId) {
        assert_eq!(self.phase, Phase::Writing, "a finished file is not written to");
        let (file, offset) = (self.file, self.written_bytes);
        self.written_bytes += bytes.len() as u64;
        self.waiting.push(ask(Box::new(move |op| FileOp::Write { op, file, offset, bytes })));
    }

    /// Nothing more will be written.
    pub(super) fn finish(&mut self, mut ask: impl FnMut(Make<'_>) -> OpId) {
        assert_eq!(self.phase, Phase::Writing, "a file is finished once");
        self.phase = Phase::Finishing;
        let file = self.file;
        self.waiting.push(ask(Box::new(move |op| FileOp::Sync { op, file })));
        self.waiting.push(ask(Box::new(move |op| FileOp::Close { op, file })));
    }

    /// `op` has succeeded.
    pub(super) fn on_done(&mut self, op: OpId) -> Step {
        let index = self.waiting.iter().position(|waiting| *waiting == op);
        self.waiting.swap_remove(index.expect("the answer to an operation of this file"));
        match self.phase {
            _ if !self.waiting.is_empty() => Step::Wait,
            Phase::Writing => Step::Wait,
            Phase::Finishing => {
                self.phase = Phase::Written;
                Step::Written
            }
            Phase::Keeping => {
                self.phase = Phase::Whole;
                Step::Whole
            }
            Phase::Written | Phase::Whole => unreachable!("nothing is asked of it"),
            Phase::Renaming => Step::Complete,
        }
    }

    /// A file of so many bytes that an earlier run left whole, and has to be renamed.
    pub(super) fn left(path: PathBuf, written_bytes: u64) -> Self {
        Self { path, file: FileId(0), written_bytes, phase: Phase::Whole, waiting: Vec::new() }
    }

    /// Its name when it is complete.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether everything in it is durable, and its name if it is to be kept.
    pub(super) fn is_whole(&self, has_checkpoints: bool) -> bool {
        self.phase >= if has_checkpoints { Phase::Whole } else { Phase::Written }
    }

    /// Whether it is to be kept next.
    pub(super) fn is_written(&self) -> bool {
        self.phase == Phase::Written
    }

    /// Whether it is being renamed.
    pub(super) fn is_renaming(&self) -> bool {
        self.phase == Phase::Renaming
    }

    /// Gives the file the name under which it is found again if a checkpoint speaks of it.
    pub(super) fn keep(&mut self, ask: impl FnOnce(Make<'_>) -> OpId) {
        assert_eq!(self.phase, Phase::Written, "it is durable first");
        self.phase = Phase::Keeping;
        let (from, to) = (in_progress(&self.path), kept(&self.path));
        self.waiting.push(ask(Box::new(move |op| FileOp::Rename { op, from, to })));
    }

    /// Gives the file its final name.
    pub(super) fn rename(&mut self, ask: impl FnOnce(Make<'_>) -> OpId) {
        let from = match self.phase {
            Phase::Written => in_progress(&self.path),
            Phase::Whole => kept(&self.path),
            phase => panic!("it is durable first, and not {phase:?}"),
        };
        self.phase = Phase::Renaming;
        let to = self.path.clone();
        self.waiting.push(ask(Box::new(move |op| FileOp::Rename { op, from, to })));
    }
}

/// Makes an operation once its number is known.
pub(super) type Make<'a> = Box<dyn FnOnce(OpId) -> FileOp + 'a>;

/// What a whole file is called until a checkpoint is complete that speaks of it.
pub(super) fn kept(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".whole");
    in_progress(Path::new(&name))
}

fn in_progress(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(IN_PROGRESS_SUFFIX);
    name.into()
}
