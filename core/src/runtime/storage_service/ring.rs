//! The storage service on a raw `io_uring`.
//!
//! ```text
//! loop: take in operations → start jobs → enter the kernel → take in completions → answer
//!       nothing to do: sleep in the kernel until a completion or the bell
//! ```
//!
//! A job is one operation of the kernel or several: a transfer goes on until all bytes have moved,
//! a change of names is followed by syncing the directories. Direct transfers go through aligned
//! buffers of a slab and are copied, since requesters own plain vectors. Names are for another
//! thread; here nothing waits but for the bell.
//!
//! Not here: order (`queue.rs`), names (`names.rs`), ownership of what the kernel touches
//! (`op_ring.rs`).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use millstream_storage::arena::{Buffer, Slab};
use millstream_storage::io::{DIRECT_ALIGNMENT_BYTES, FileAnswer, OpenMode};

use super::Shift;
use super::blocking::{self, Lock, Opened};
use super::desk::Desk;
use super::names::{Named, Names};
use super::queue::{Files, Job, Outcome, Ticket, Work};
use crate::runtime::op_ring::{Bytes, Completion, Op, OpRing};
use crate::runtime::parking::Parker;

/// Operations in the kernel at once.
const DEPTH: usize = 128;

/// The direct transfers of a node go through buffers of these sizes, so many of each (12 MiB in
/// all). What is larger, or finds none left, gets a buffer of its own.
const DIRECT_POOLS: [(usize, usize); 2] = [(64 << 10, 64), (1 << 20, 8)];

/// The longest sleep without being called.
const NAP: Duration = Duration::from_secs(1);

/// An open file.
type Handle = Rc<OpenFile>;

#[derive(Debug)]
struct OpenFile {
    fd: Rc<OwnedFd>,
    is_direct: bool,
    /// It is a lock file.
    lock: Option<Arc<Lock>>,
}

/// Names an operation in the kernel: the bell, or a job by its place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Bell,
    Job(usize),
}

/// A job on its way.
#[derive(Debug)]
struct Running {
    ticket: Ticket,
    step: Step,
}

/// What the kernel does for it now.
#[derive(Debug)]
enum Step {
    /// Reading until `end` or the end of the file.
    Reading { file: Handle, start: u64, len: usize },
    /// Writing at `start`. `original` is the requester's vector, if a copy is being written.
    Writing { file: Handle, start: u64, original: Option<Vec<u8>> },
    /// Syncing the file itself.
    Syncing,
    /// Syncing a directory, then those in `next`; then the answer is `answer`.
    SyncingNames { next: Vec<File>, answer: FileAnswer },
}

/// The thread of the service.
struct RingService {
    uring: OpRing<Tag>,
    files: Files<Handle>,
    names: Names,
    running: Vec<Option<Running>>,
    free: Vec<usize>,
    /// Buffers for direct transfers, small ones first.
    pools: [Slab; 2],
}

/// Runs one shift after the other; tells `ends` of the end of each.
pub(super) fn run(shifts: &Receiver<Shift>, ends: &Sender<()>) {
    for Shift { desk, parker, ready, mourner } in shifts {
        serve(desk, &parker, &ready);
        drop(mourner);
        // Nobody listening means that nobody minds.
        let _ = ends.send(());
    }
}

/// Serves until it is told to stop. Tells `ready` whether it could start.
fn serve(mut desk: Desk, parker: &Parker, ready: &Sender<io::Result<()>>) {
    let mut service = match RingService::new(parker) {
        Ok(service) => service,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    tracing::debug!(features = ?service.uring.features(), "storage service on a raw ring");
    // Nobody listening means that the starter has given up.
    let _ = ready.send(Ok(()));
    let mut completions = Vec::new();
    loop {
        let mut is_busy = desk.receive(&mut service.files);
        is_busy |= service.take_names();
        service.start_jobs();
        service.uring.poll(&mut completions).expect("the kernel keeps the ring working");
        is_busy |= service.finish(parker, &mut completions);
        is_busy |= desk.answer(&mut service.files);
        if is_busy {
            continue;
        }
        let pending_count = service.files.pending_count();
        if desk.has_ended(pending_count) {
            return;
        }
        parker.park(
            || desk.is_idle(pending_count),
            || {
                service
                    .uring
                    .wait(NAP, &mut completions)
                    .expect("the kernel keeps the ring working");
            },
        );
        service.finish(parker, &mut completions);
    }
}

impl RingService {
    fn new(parker: &Parker) -> io::Result<Self> {
        let mut uring = OpRing::new(DEPTH as u32)?;
        let eventfd = Rc::new(parker.eventfd().try_clone_to_owned()?);
        uring.start(Tag::Bell, Op::Bell { eventfd });
        Ok(Self {
            uring,
            files: Files::new(),
            names: Names::start(parker.waker())?,
            running: Vec::new(),
            free: Vec::new(),
            pools: DIRECT_POOLS.map(|(bytes, count_max)| Slab::new(bytes, count_max)),
        })
    }

    /// Starts jobs while the kernel has room for their operations.
    fn start_jobs(&mut self) {
        while self.uring.in_flight_count() < DEPTH
            && let Some(job) = self.files.next_job()
        {
            self.start(job);
        }
    }

    fn start(&mut self, job: Job<Handle>) {
        let Job { ticket, work } = job;
        let result = match work {
            Work::Open { path, mode: OpenMode::Lock } => {
                return self.names.run(ticket, move |kept| kept.lock(&path).map(Named::Locked));
            }
            Work::Open { path, mode } => {
                let open = move |_: &mut _| blocking::open(&path, mode).map(Named::Opened);
                return self.names.run(ticket, open);
            }
            Work::Read { len: 0, .. } => {
                Ok(Outcome::Answer(FileAnswer::Read { bytes: Vec::new() }))
            }
            Work::Read { file, offset, len } => return self.start_read(ticket, file, offset, len),
            Work::Write { bytes, .. } if bytes.is_empty() => {
                Ok(Outcome::Answer(FileAnswer::Written { bytes }))
            }
            Work::Write { file, offset, bytes } => {
                return self.start_write(ticket, file, offset, bytes);
            }
            Work::Sync { file } => {
                let op = Op::Sync { file: Rc::clone(&file.fd), data_only: true };
                return self.run(Running { ticket, step: Step::Syncing }, op);
            }
            Work::Close { file } => {
                let file =
                    Rc::into_inner(file).expect("nothing else runs on a file that is closed");
                if let Some(lock) = file.lock {
                    let answer = Named::Answer(FileAnswer::Closed);
                    return self.names.run(ticket, move |kept| kept.release(lock).map(|()| answer));
                }
                Ok(Outcome::Answer(FileAnswer::Closed))
            }
            Work::Rename { from, to } => {
                return self.names.run(ticket, move |_| {
                    let unsynced = blocking::rename(&from, &to)?;
                    Ok(Named::Changed { unsynced, answer: FileAnswer::Renamed })
                });
            }
            Work::Link { from, to } => {
                return self.names.run(ticket, move |_| {
                    let unsynced = blocking::link(&from, &to)?;
                    Ok(Named::Changed { unsynced, answer: FileAnswer::Linked })
                });
            }
            Work::Remove { path } => {
                return self.names.run(ticket, move |_| {
                    let unsynced = blocking::remove(&path)?;
                    Ok(Named::Changed { unsynced, answer: FileAnswer::Removed })
                });
            }
            Work::List { pattern, together } => {
                return self.names.run(ticket, move |kept| {
                    let files = kept.listings.get_or(together, || blocking::list(&pattern))?;
                    Ok(Named::Answer(FileAnswer::Listed { files }))
                });
            }
            Work::ListDirectory { path } => {
                return self.names.run(ticket, move |_| {
                    let files = blocking::list_directory(&path)?;
                    Ok(Named::Answer(FileAnswer::Listed { files }))
                });
            }
        };
        self.files.on_done(ticket, result);
    }

    fn start_read(&mut self, ticket: Ticket, file: Handle, offset: u64, len: usize) {
        let bytes = if file.is_direct {
            Bytes::Aligned(self.direct_buffer(len))
        } else {
            Bytes::Vec(Vec::with_capacity(len))
        };
        let op = Op::Read { file: Rc::clone(&file.fd), offset, len, bytes };
        self.run(Running { ticket, step: Step::Reading { file, start: offset, len } }, op);
    }

    fn start_write(&mut self, ticket: Ticket, file: Handle, offset: u64, bytes: Vec<u8>) {
        let (bytes, original) = if file.is_direct {
            let mut buffer = self.direct_buffer(bytes.len());
            buffer.extend_from_slice(&bytes);
            (Bytes::Aligned(buffer), Some(bytes))
        } else {
            (Bytes::Vec(bytes), None)
        };
        let op = Op::Write { file: Rc::clone(&file.fd), offset, bytes, written: 0 };
        self.run(Running { ticket, step: Step::Writing { file, start: offset, original } }, op);
    }

    /// Goes on with what has become of names. Returns whether anything has.
    fn take_names(&mut self) -> bool {
        let mut has_taken = false;
        while let Some((ticket, result)) = self.names.next_result() {
            has_taken = true;
            let result = match result {
                Ok(Named::Changed { unsynced, answer }) => {
                    self.sync_names(ticket, unsynced, answer);
                    continue;
                }
                Ok(Named::Opened(Opened { file, size_bytes, is_direct })) => {
                    let fd = Rc::new(file.into());
                    let file = Rc::new(OpenFile { fd, is_direct, lock: None });
                    Ok(Outcome::Opened { file, size_bytes })
                }
                Ok(Named::Locked(lock)) => locked(lock),
                Ok(Named::Answer(answer)) => Ok(Outcome::Answer(answer)),
                Err(error) => Err(error),
            };
            self.files.on_done(ticket, result);
        }
        has_taken
    }

    /// Syncs the last directory of `next`, or is done if there is none.
    fn sync_names(&mut self, ticket: Ticket, mut next: Vec<File>, answer: FileAnswer) {
        let Some(directory) = next.pop() else {
            return self.files.on_done(ticket, Ok(Outcome::Answer(answer)));
        };
        let op = Op::Sync { file: Rc::new(directory.into()), data_only: false };
        self.run(Running { ticket, step: Step::SyncingNames { next, answer } }, op);
    }

    fn run(&mut self, running: Running, op: Op) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.running.push(None);
            self.running.len() - 1
        });
        assert!(self.running[index].is_none(), "a free place is empty");
        self.running[index] = Some(running);
        self.uring.start(Tag::Job(index), op);
    }

    /// Goes on with what has completed. Returns whether anything has.
    fn finish(&mut self, parker: &Parker, completions: &mut Vec<Completion<Tag>>) -> bool {
        let has_finished = !completions.is_empty();
        for Completion { tag, op, result, .. } in completions.drain(..) {
            let op = op.expect("neither files nor the bell go on");
            match tag {
                Tag::Bell => {
                    parker.drain();
                    self.uring.start(Tag::Bell, op);
                }
                Tag::Job(index) => {
                    let running = self.running[index].take().expect("the job is on its way");
                    self.free.push(index);
                    self.advance(running, op, result);
                }
            }
        }
        has_finished
    }

    fn advance(&mut self, running: Running, op: Op, result: io::Result<u32>) {
        let Running { ticket, step } = running;
        let is_interrupted = result.as_ref().is_err_and(is_temporary);
        match (step, op, result) {
            (step, op, Err(_)) if is_interrupted => self.run(Running { ticket, step }, op),
            (Step::Reading { file, start, len }, Op::Read { bytes, .. }, Ok(count)) => {
                // Direct reads end on a block, but for the last one of the file.
                let is_cut = file.is_direct && !bytes.len().is_multiple_of(DIRECT_ALIGNMENT_BYTES);
                if count == 0 || is_cut || bytes.len() >= len {
                    let bytes = self.vec_from(bytes);
                    let answer = Outcome::Answer(FileAnswer::Read { bytes });
                    return self.files.on_done(ticket, Ok(answer));
                }
                let (offset, rest) = (start + bytes.len() as u64, len - bytes.len());
                let op = Op::Read { file: Rc::clone(&file.fd), offset, len: rest, bytes };
                self.run(Running { ticket, step: Step::Reading { file, start, len } }, op);
            }
            (
                Step::Writing { file, start, original },
                Op::Write { bytes, written, .. },
                Ok(count),
            ) if count > 0 => {
                let written = written + count as usize;
                if written == bytes.len() {
                    let bytes = self.original_or(bytes, original);
                    let answer = Outcome::Answer(FileAnswer::Written { bytes });
                    return self.files.on_done(ticket, Ok(answer));
                }
                let (fd, offset) = (Rc::clone(&file.fd), start + written as u64);
                let op = Op::Write { file: fd, offset, bytes, written };
                self.run(Running { ticket, step: Step::Writing { file, start, original } }, op);
            }
            (Step::Syncing, _, Ok(_)) => {
                self.files.on_done(ticket, Ok(Outcome::Answer(FileAnswer::Synced)));
            }
            (Step::SyncingNames { next, answer }, _, Ok(_)) => {
                self.sync_names(ticket, next, answer);
            }
            (_, op, result) => {
                if let Op::Read { bytes, .. } | Op::Write { bytes, .. } = op {
                    self.give_back(bytes);
                }
                // Writing nothing of something is no success.
                let error = result.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into());
                self.files.on_done(ticket, Err(error));
            }
        }
    }

    /// A buffer of at least `len` bytes for direct I/O.
    fn direct_buffer(&mut self, len: usize) -> Buffer {
        let fitting = self.pools.iter_mut().find(|pool| len <= pool.buffer_bytes());
        fitting
            .and_then(Slab::take)
            .unwrap_or_else(|| Buffer::heap(len.max(DIRECT_ALIGNMENT_BYTES)))
    }

    fn give_back(&mut self, bytes: Bytes) {
        if let Bytes::Aligned(buffer) = bytes
            && !buffer.is_heap()
        {
            let pool = self.pools.iter_mut().find(|pool| pool.buffer_bytes() == buffer.capacity());
            pool.expect("it came from a pool").put(buffer);
        }
    }

    fn vec_from(&mut self, bytes: Bytes) -> Vec<u8> {
        match bytes {
            Bytes::Vec(bytes) => bytes,
            Bytes::Aligned(_) => {
                let copy = bytes.as_slice().to_vec();
                self.give_back(bytes);
                copy
            }
        }
    }

    fn original_or(&mut self, bytes: Bytes, original: Option<Vec<u8>>) -> Vec<u8> {
        match original {
            Some(original) => {
                self.give_back(bytes);
                original
            }
            None => self.vec_from(bytes),
        }
    }
}

fn locked(lock: Arc<Lock>) -> io::Result<Outcome<Handle>> {
    let fd = Rc::new(lock.descriptor()?);
    let file = Rc::new(OpenFile { fd, is_direct: false, lock: Some(lock) });
    Ok(Outcome::Opened { file, size_bytes: 0 })
}

/// Worth trying again.
fn is_temporary(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}
