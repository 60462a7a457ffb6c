//! What may be carried out now, and what may be answered now: order per file, as a pure machine.
//!
//! ```text
//! on_op ──► queue of the file   R R R W W S R        answered from the front, in order
//!                               └─┬─┘ └┬┘ │ │
//!                            at once   at once, if their ranges are disjoint
//!                                         alone ...
//! next_job ──► a worker ──► on_done ──► next_answer
//! ```
//!
//! The two implementations of the service are workers: they take jobs, in any number at once, and
//! report what came of them. All rules of `millstream_storage::io` that are not about the operating
//! system are here: order, ids that are not open, alignment, the words of an error.
//!
//! Invariant: for every file, operations start in the order in which they were asked for, and a job
//! never runs beside one that it conflicts with.
//! Not here: names. `Rename`, `Link`, `Remove` and listings become jobs at once, in order; a worker
//! carries out opens, changes of names and listings one at a time.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use millstream_storage::io::{
    FileAnswer, FileDone, FileFault, FileId, FileOp, OpId, OpenMode, Together,
};

/// Operations of one file that run at once at most.
const RUN_COUNT_MAX: usize = 32;

/// Files of all requesters; `F` is a worker's handle to an open one.
#[derive(Debug)]
pub(super) struct Files<F> {
    by_key: BTreeMap<FileKey, File<F>>,
    jobs: VecDeque<Job<F>>,
    answers: VecDeque<Answer>,
    /// Operations accepted and not answered.
    pending_count: usize,
}

/// Requesters choose their ids independently of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct FileKey {
    requester: usize,
    file: FileId,
}

/// Something to carry out.
#[derive(Debug)]
pub(super) struct Job<F> {
    pub(super) ticket: Ticket,
    pub(super) work: Work<F>,
}

/// What is to be done, with handles instead of ids.
#[derive(Debug)]
pub(super) enum Work<F> {
    Open { path: PathBuf, mode: OpenMode },
    Read { file: F, offset: u64, len: usize },
    Write { file: F, offset: u64, bytes: Vec<u8> },
    Sync { file: F },
    Close { file: F },
    Rename { from: PathBuf, to: PathBuf },
    Link { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    List { pattern: String, together: Option<Together> },
    ListDirectory { path: PathBuf },
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome<F> {
    Opened { file: F, size_bytes: u64 },
    Answer(FileAnswer),
}

/// Says which operation a job belongs to.
#[derive(Debug)]
pub(super) struct Ticket {
    requester: usize,
    op: OpId,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// In the queue of a file.
    File { file: FileId, number: u64 },
    /// In none; what is being done.
    Names { action: String },
}

/// An answer and who waits for it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) requester: usize,
    pub(super) done: FileDone,
}

#[derive(Debug)]
struct File<F> {
    /// The file, while it is open.
    open: Option<F>,
    /// How it is, or was to be, opened.
    mode: OpenMode,
    /// Where it is, once it was to be opened.
    path: Option<PathBuf>,
    /// Operations not answered: first those that have started, then those that wait.
    queue: VecDeque<Entry>,
    started_count: usize,
    /// The number of the first in the queue.
    first_number: u64,
    running: Running,
}

#[derive(Debug)]
struct Entry {
    op: OpId,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting(FileOp),
    Running { kind: Kind, action: String },
    Done(Result<FileAnswer, FileFault>),
}

/// How a running operation conflicts with others.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Read,
    Write(Range<u64>),
    Alone,
}

/// What runs on a file: reads, writes of disjoint ranges, or one other operation.
#[derive(Debug, Default)]
struct Running {
    kinds: Vec<Kind>,
}

impl Running {
    fn allows(&self, kind: &Kind) -> bool {
        let is_beside = |other: &Kind| match (kind, other) {
            (Kind::Read, Kind::Read) => true,
            (Kind::Write(a), Kind::Write(b)) => a.end <= b.start || b.end <= a.start,
            _ => false,
        };
        self.kinds.len() < RUN_COUNT_MAX && self.kinds.iter().all(is_beside)
    }

    fn remove(&mut self, kind: &Kind) {
        let index = self.kinds.iter().position(|running| running == kind);
        self.kinds.swap_remove(index.expect("what ends was running"));
    }
}

impl<F: Clone> Files<F> {
    pub(super) fn new() -> Self {
        Self {
            by_key: BTreeMap::new(),
            jobs: VecDeque::new(),
            answers: VecDeque::new(),
            pending_count: 0,
        }
    }

    /// Operations accepted and not answered.
    pub(super) fn pending_count(&self) -> usize {
        self.pending_count
    }

    /// The next job, in the order in which jobs became possible.
    pub(super) fn next_job(&mut self) -> Option<Job<F>> {
        self.jobs.pop_front()
    }

    /// The next answer.
    pub(super) fn next_answer(&mut self) -> Option<Answer> {
        let answer = self.answers.pop_front()?;
        self.pending_count -= 1;
        Some(answer)
    }

    /// Accepts an operation.
    pub(super) fn on_op(&mut self, requester: usize, op: FileOp) {
        self.pending_count += 1;
        let id = op.id();
        let action = op.action(None);
        let work = match op {
            FileOp::Rename { from, to, .. } => Work::Rename { from, to },
            FileOp::Link { from, to, .. } => Work::Link { from, to },
            FileOp::Remove { path, .. } => Work::Remove { path },
            FileOp::List { pattern, together, .. } => Work::List { pattern, together },
            FileOp::ListDirectory { path, .. } => Work::ListDirectory { path },
            FileOp::Open { file, .. }
            | FileOp::Read { file, .. }
            | FileOp::Write { file, .. }
            | FileOp::Sync { file, .. }
            | FileOp::Close { file, .. } => {
                let key = FileKey { requester, file };
                let entry = Entry { op: id, state: State::Waiting(op) };
                self.by_key.entry(key).or_insert_with(File::new).queue.push_back(entry);
                return self.advance(key);
            }
        };
        let ticket = Ticket { requester, op: id, place: Place::Names { action } };
        self.jobs.push_back(Job { ticket, work });
    }

    /// Takes note of what came of a job.
    pub(super) fn on_done(&mut self, ticket: Ticket, result: io::Result<Outcome<F>>) {
        let Ticket { requester, op, place } = ticket;
        let (file, number) = match place {
            Place::File { file, number } => (file, number),
            Place::Names { action } => {
                let result = result
                    .map(|outcome| match outcome {
                        Outcome::Answer(answer) => answer,
                        Outcome::Opened { .. } => panic!("no file was to be opened"),
                    })
                    .map_err(|source| FileFault { action, source });
                self.answers.push_back(Answer { requester, done: FileDone { op, result } });
                return;
            }
        };
        let key = FileKey { requester, file };
        let file = self.by_key.get_mut(&key).expect("a file with a running operation is known");
        file.on_done(op, number, result);
        self.advance(key);
    }

    /// Starts what may start on a file, and answers what may be answered.
    fn advance(&mut self, key: FileKey) {
        let requester = key.requester;
        let file = self.by_key.get_mut(&key).expect("the caller has just used it");
        while let Some((op, number, work)) = file.start_next() {
            let place = Place::File { file: key.file, number };
            self.jobs.push_back(Job { ticket: Ticket { requester, op, place }, work });
        }
        while let Some(done) = file.pop_done() {
            self.answers.push_back(Answer { requester, done });
        }
        if file.open.is_none() && file.queue.is_empty() {
            self.by_key.remove(&key);
        }
    }
}

impl<F: Clone> File<F> {
    fn new() -> Self {
        Self {
            open: None,
            mode: OpenMode::Read,
            path: None,
            queue: VecDeque::new(),
            started_count: 0,
            first_number: 0,
            running: Running::default(),
        }
    }

    /// Starts the next waiting operation if what runs allows it. Operations that fail without
    /// being carried out are done at once.
    fn start_next(&mut self) -> Option<(OpId, u64, Work<F>)> {
        loop {
            let entry = self.queue.get_mut(self.started_count)?;
            let State::Waiting(op) = &entry.state else {
                panic!("operations that have started are in front");
            };
            let kind = kind_of(op);
            if !self.running.allows(&kind) {
                return None;
            }
            let action = op.action(self.path.as_deref());
            let placeholder = State::Running { kind: kind.clone(), action };
            let State::Waiting(op) = std::mem::replace(&mut entry.state, placeholder) else {
                unreachable!("it was waiting a moment ago");
            };
            let number = self.first_number + self.started_count as u64;
            let id = entry.op;
            self.started_count += 1;
            self.running.kinds.push(kind);
            match self.work(op) {
                Ok(work) => return Some((id, number, work)),
                Err(source) => self.on_done(id, number, Err(source)),
            }
        }
    }

    /// What a worker has to do for `op`, or why it cannot be done.
    fn work(&mut self, op: FileOp) -> io::Result<Work<F>> {
        match op {
            FileOp::Open { path, mode, .. } => {
                if self.open.is_some() {
                    let message = "the requester's id names an open file";
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
                }
                self.path = Some(path.clone());
                self.mode = mode;
                Ok(Work::Open { path, mode })
            }
            FileOp::Read { offset, len, .. } => {
                let file = self.usable(false, offset, len)?;
                Ok(Work::Read { file, offset, len })
            }
            FileOp::Write { offset, bytes, .. } => {
                let file = self.usable(true, offset, bytes.len())?;
                Ok(Work::Write { file, offset, bytes })
            }
            FileOp::Sync { .. } => {
                let file = self.open.clone().ok_or_else(not_open)?;
                Ok(Work::Sync { file })
            }
            FileOp::Close { .. } => {
                // The worker gets the last handle; the file is closed whatever comes of it.
                let file = self.open.take().ok_or_else(not_open)?;
                Ok(Work::Close { file })
            }
            FileOp::Rename { .. }
            | FileOp::Link { .. }
            | FileOp::Remove { .. }
            | FileOp::List { .. }
            | FileOp::ListDirectory { .. } => {
                unreachable!("names are in no file's queue")
            }
        }
    }

    /// The open file, if it may be read (written) at this place.
    fn usable(&self, writes: bool, offset: u64, len: usize) -> io::Result<F> {
        let file = self.open.clone().filter(|_| self.mode.creates() == writes);
        let file = file.ok_or_else(not_open)?;
        if !self.mode.accepts(offset, len) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(file)
    }

    fn on_done(&mut self, op: OpId, number: u64, result: io::Result<Outcome<F>>) {
        let index = (number - self.first_number) as usize;
        assert!(index < self.started_count, "an operation is done before it has started");
        assert_eq!(self.queue[index].op, op);
        let State::Running { kind, action } = &self.queue[index].state else {
            panic!("operation {op:?} is done twice");
        };
        self.running.remove(kind);
        let result = match result {
            Ok(Outcome::Answer(answer)) => Ok(answer),
            Ok(Outcome::Opened { file, size_bytes }) => {
                self.open = Some(file);
                Ok(FileAnswer::Opened { size_bytes })
            }
            Err(source) => Err(FileFault { action: action.clone(), source }),
        };
        self.queue[index].state = State::Done(result);
    }

    fn pop_done(&mut self) -> Option<FileDone> {
        if !matches!(self.queue.front()?.state, State::Done(_)) {
            return None;
        }
        let entry = self.queue.pop_front().expect("there is a front");
        self.first_number += 1;
        self.started_count -= 1;
        let State::Done(result) = entry.state else { unreachable!("it is done") };
        Some(FileDone { op: entry.op, result })
    }
}

fn kind_of(op: &FileOp) -> Kind {
    match op {
        FileOp::Read { .. } => Kind::Read,
        FileOp::Write { offset, bytes, .. } => {
            Kind::Write(*offset..offset.saturating_add(bytes.len() as u64))
        }
        _ => Kind::Alone,
    }
}

/// The operating system's answer for a descriptor that is not one, or not for this.
fn not_open() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

#[cfg(test)]
mod tests;
