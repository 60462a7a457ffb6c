//! The storage service on a glommio executor.
//!
//! ```text
//! desk task ──jobs──► names lane   1   opens, locks, renames, removes, lists: one after the other
//!    ▲                data lanes  32   reads, writes, syncs, closes
//!    └─ answers ──────┘
//! heartbeat: a timer every 10 ms
//! ```
//!
//! The tasks are made once; a job wakes a lane, nothing is spawned or cancelled per job.
//!
//! Containment: glommio 0.9 goes to sleep with work at hand if its preemption timer fires between
//! being armed and being looked at first (stopping the process for a moment is enough), and nothing
//! would wake it. So the timer is set to an hour; a heartbeat bounds every sleep; a requester that
//! waits longer than 10 ms calls again (`desk.rs`). And what makes it likelier is not used: no
//! latency-sensitive task queues, no glommio queues between threads.
//!
//! Invariant: no type of glommio leaves this file.
//! Not here: order (`queue.rs`), what names mean (`blocking.rs`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::task::{self, Poll};
use std::time::Duration;

use glommio::io::{BufferedFile, DmaFile, OpenOptions};
use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, executor};
use millstream_storage::io::{DIRECT_ALIGNMENT_BYTES, FileAnswer, FileEntry, OpenMode, Together};
use millstream_storage::listing::SharedListings;

use super::Shift;
use super::blocking;
use super::desk::Desk;
use super::queue::{Files, Job, Outcome, Ticket, Work};
use crate::runtime::parking::Parker;
use crate::runtime::process_limits::memlock_bytes;

/// Reads, writes and syncs under way at once.
const DATA_LANE_COUNT: usize = 32;

/// No sleep of the executor is longer.
const HEARTBEAT: Duration = Duration::from_millis(10);

/// From one look for the next shift to another: there is none only while a job that has failed is
/// about to begin again.
const REST: Duration = Duration::from_millis(1);

/// Long enough never to fire; see the header.
const PREEMPT_TIMER: Duration = Duration::from_hours(1);

/// glommio refuses to start below this limit of locked memory.
const MEMLOCK_MIN_BYTES: u64 = 512 << 10;

/// Memory registered with the kernel for direct I/O. What is larger goes unregistered.
const IO_MEMORY_MAX_BYTES: u64 = 4 << 20;

/// An open file.
#[derive(Debug, Clone)]
enum Handle {
    Direct(Rc<DmaFile>),
    Buffered(Rc<BufferedFile>),
    Lock(Arc<blocking::Lock>),
}

type Carried = io::Result<Outcome<Handle>>;

/// What the tasks share.
struct Shared {
    desk: Desk,
    files: Files<Handle>,
    names: Lane,
    data: Lane,
    listings: SharedListings,
    locks: blocking::Locks,
    /// Everything is answered and the lanes may end.
    has_ended: bool,
    /// Wakes the desk's task.
    desk_task: Option<task::Waker>,
}

/// Jobs for one kind of lane, and the lanes that have none.
#[derive(Default)]
struct Lane {
    jobs: VecDeque<Job<Handle>>,
    idle: Vec<task::Waker>,
}

/// Runs one shift after the other; tells `ends` of the end of each.
pub(super) fn run(shifts: &Receiver<Shift>, ends: &Sender<()>) {
    let executor = match make_executor() {
        Ok(executor) => executor,
        Err(error) => {
            if let Ok(shift) = shifts.recv() {
                let _ = shift.ready.send(Err(error));
            }
            return;
        }
    };
    executor.run(async {
        loop {
            match shifts.try_recv() {
                Ok(Shift { desk, parker, ready, mourner }) => {
                    // Nobody listening means that the starter has given up.
                    let _ = ready.send(Ok(()));
                    serve(desk, parker).await;
                    drop(mourner);
                    let _ = ends.send(());
                }
                Err(TryRecvError::Empty) => glommio::timer::sleep(REST).await,
                Err(TryRecvError::Disconnected) => return,
            }
        }
    });
}

/// Why this process cannot have a glommio executor, if so: a limit that glommio insists on, and
/// that containers often have.
pub(super) fn impediment() -> Option<String> {
    let limit_bytes = memlock_bytes().filter(|bytes| *bytes < MEMLOCK_MIN_BYTES)?;
    Some(format!("the limit of locked memory is {limit_bytes} bytes, glommio wants 512 KiB"))
}

fn make_executor() -> io::Result<LocalExecutor> {
    LocalExecutorBuilder::new(Placement::Unbound)
        .name("storage")
        .preempt_timer(PREEMPT_TIMER)
        .io_memory(io_memory_bytes(memlock_bytes()))
        .make()
        .map_err(io_error)
}

/// How much memory may be registered under a limit. glommio registers it with three rings, each of
/// which counts; and other rings of this user want some too.
fn io_memory_bytes(memlock_bytes: Option<u64>) -> usize {
    memlock_bytes.map_or(IO_MEMORY_MAX_BYTES, |bytes| (bytes / 16).min(IO_MEMORY_MAX_BYTES))
        as usize
}

async fn serve(desk: Desk, parker: Parker) {
    let shared = Rc::new(RefCell::new(Shared {
        desk,
        files: Files::new(),
        names: Lane::default(),
        data: Lane::default(),
        listings: SharedListings::default(),
        locks: blocking::Locks::default(),
        has_ended: false,
        desk_task: None,
    }));
    let names = glommio::spawn_local(run_lane(Rc::clone(&shared), |shared| &mut shared.names));
    let data: Vec<_> = (0..DATA_LANE_COUNT)
        .map(|_| glommio::spawn_local(run_lane(Rc::clone(&shared), |shared| &mut shared.data)))
        .collect();
    let heartbeat = glommio::spawn_local(beat(Rc::clone(&shared)));

    poll_fn(|context| poll_desk(&shared, &parker, context)).await;
    parker.clear_task();
    shared.borrow_mut().end();
    names.await;
    for lane in data {
        lane.await;
    }
    heartbeat.await;
}

/// Takes in operations until the service has ended.
fn poll_desk(
    shared: &RefCell<Shared>,
    parker: &Parker,
    context: &mut task::Context<'_>,
) -> Poll<()> {
    parker.retract();
    parker.set_task(context.waker());
    let mut shared = shared.borrow_mut();
    loop {
        shared.receive();
        let pending_count = shared.files.pending_count();
        if shared.desk.has_ended(pending_count) {
            return Poll::Ready(());
        }
        if parker.announce(|| shared.desk.is_idle(pending_count)) {
            shared.desk_task = Some(context.waker().clone());
            return Poll::Pending;
        }
    }
}

async fn beat(shared: Rc<RefCell<Shared>>) {
    while !shared.borrow().has_ended {
        glommio::timer::sleep(HEARTBEAT).await;
    }
}

/// Carries out one job after the other.
async fn run_lane(shared: Rc<RefCell<Shared>>, lane: fn(&mut Shared) -> &mut Lane) {
    loop {
        let job = poll_fn(|context| {
            let mut shared = shared.borrow_mut();
            let has_ended = shared.has_ended;
            let lane = lane(&mut shared);
            match lane.jobs.pop_front() {
                Some(job) => Poll::Ready(Some(job)),
                None if has_ended => Poll::Ready(None),
                None => {
                    lane.idle.push(context.waker().clone());
                    Poll::Pending
                }
            }
        });
        let Some(Job { ticket, work }) = job.await else { return };
        let result = carry_out(&shared, work).await;
        shared.borrow_mut().on_done(ticket, result);
    }
}

impl Shared {
    fn receive(&mut self) {
        self.desk.receive(&mut self.files);
        self.go_on();
    }

    fn on_done(&mut self, ticket: Ticket, result: Carried) {
        self.files.on_done(ticket, result);
        self.go_on();
        if self.desk.has_ended(self.files.pending_count())
            && let Some(task) = self.desk_task.take()
        {
            task.wake();
        }
    }

    /// Hands jobs to lanes and answers to requesters.
    fn go_on(&mut self) {
        while let Some(job) = self.files.next_job() {
            let lane = match job.work {
                Work::Open { .. }
                | Work::Rename { .. }
                | Work::Link { .. }
                | Work::Remove { .. }
                | Work::List { .. }
                | Work::ListDirectory { .. }
                | Work::Close { file: Handle::Lock(_) } => &mut self.names,
                Work::Read { .. } | Work::Write { .. } | Work::Sync { .. } | Work::Close { .. } => {
                    &mut self.data
                }
            };
            lane.jobs.push_back(job);
            if let Some(idle) = lane.idle.pop() {
                idle.wake();
            }
        }
        self.desk.answer(&mut self.files);
    }

    fn end(&mut self) {
        self.has_ended = true;
        for idle in self.names.idle.drain(..).chain(self.data.idle.drain(..)) {
            idle.wake();
        }
    }
}

async fn carry_out(shared: &RefCell<Shared>, work: Work<Handle>) -> Carried {
    let answer = match work {
        Work::Open { path, mode: OpenMode::Lock } => return lock(shared, path).await,
        Work::Open { path, mode } => return open(&path, mode).await,
        Work::Read { file, offset, len } => {
            FileAnswer::Read { bytes: read(&file, offset, len).await? }
        }
        Work::Write { file, offset, bytes } => {
            write(&file, offset, &bytes).await?;
            FileAnswer::Written { bytes }
        }
        Work::Sync { file } => {
            match file {
                Handle::Direct(file) => file.fdatasync().await,
                Handle::Buffered(file) => file.fdatasync().await,
                Handle::Lock(_) => return Err(no_content()),
            }
            .map_err(io_error)?;
            FileAnswer::Synced
        }
        Work::Close { file } => {
            close(shared, file).await?;
            FileAnswer::Closed
        }
        Work::Rename { from, to } => {
            change_names(move || blocking::rename(&from, &to)).await?;
            FileAnswer::Renamed
        }
        Work::Link { from, to } => {
            change_names(move || blocking::link(&from, &to)).await?;
            FileAnswer::Linked
        }
        Work::Remove { path } => {
            change_names(move || blocking::remove(&path)).await?;
            FileAnswer::Removed
        }
        Work::List { pattern, together } => {
            FileAnswer::Listed { files: list(shared, pattern, together).await? }
        }
        Work::ListDirectory { path } => {
            let files = executor().spawn_blocking(move || blocking::list_directory(&path)).await?;
            FileAnswer::Listed { files }
        }
    };
    Ok(Outcome::Answer(answer))
}

/// There is one lane for names, so nobody of a group asks while another's listing is under way.
async fn list(
    shared: &RefCell<Shared>,
    pattern: String,
    together: Option<Together>,
) -> io::Result<Vec<FileEntry>> {
    let kept = together.and_then(|together| shared.borrow_mut().listings.take(together));
    if let Some(files) = kept {
        return Ok(files);
    }
    let files = executor().spawn_blocking(move || blocking::list(&pattern)).await?;
    if let Some(together) = together {
        shared.borrow_mut().listings.keep(together, &files);
    }
    Ok(files)
}

/// There is one lane for names, so nobody takes a lock while another takes or releases it.
async fn lock(shared: &RefCell<Shared>, path: PathBuf) -> Carried {
    let held = shared.borrow().locks.held(&path);
    let lock = match held {
        Some(lock) => lock,
        None => {
            let lock = executor().spawn_blocking(move || blocking::lock(&path)).await?;
            shared.borrow_mut().locks.keep(lock)
        }
    };
    Ok(Outcome::Opened { file: Handle::Lock(lock), size_bytes: 0 })
}

async fn open(path: &Path, mode: OpenMode) -> Carried {
    let owned = path.to_owned();
    executor().spawn_blocking(move || blocking::prepare(&owned, mode)).await?;
    let creates = mode.creates();
    let mut options = OpenOptions::new();
    options.read(!creates).write(creates).create(creates).truncate(creates);
    if mode.is_direct() {
        match options.dma_open(path).await.map_err(io_error) {
            Ok(file) => {
                let size_bytes = file.file_size().await.map_err(io_error)?;
                return Ok(Outcome::Opened { file: Handle::Direct(Rc::new(file)), size_bytes });
            }
            Err(error) if !blocking::lacks_direct_io(&error) => return Err(error),
            Err(_) => {}
        }
    }
    let file = options.buffered_open(path).await.map_err(io_error)?;
    let size_bytes = file.file_size().await.map_err(io_error)?;
    Ok(Outcome::Opened { file: Handle::Buffered(Rc::new(file)), size_bytes })
}

async fn read(file: &Handle, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let (at, rest) = (offset + bytes.len() as u64, len - bytes.len());
        let piece = match file {
            Handle::Direct(file) => file.read_at_aligned(at, rest).await,
            Handle::Buffered(file) => file.read_at(at, rest).await,
            Handle::Lock(_) => return Err(no_content()),
        };
        let piece = match piece.map_err(io_error) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            piece => piece?,
        };
        bytes.extend_from_slice(&piece);
        // Direct reads end on a block, but for the last one of the file.
        let is_cut = matches!(file, Handle::Direct(_))
            && !bytes.len().is_multiple_of(DIRECT_ALIGNMENT_BYTES);
        if piece.is_empty() || is_cut {
            break;
        }
    }
    Ok(bytes)
}

async fn write(file: &Handle, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        let (at, rest) = (offset + written as u64, &bytes[written..]);
        // glommio keeps what it is given: what is written is a copy.
        let count = match file {
            Handle::Direct(file) => {
                let mut buffer = file.alloc_dma_buffer(rest.len());
                buffer.as_bytes_mut()[..rest.len()].copy_from_slice(rest);
                file.write_at(buffer, at).await
            }
            Handle::Buffered(file) => file.write_at(rest.to_vec(), at).await,
            Handle::Lock(_) => return Err(no_content()),
        };
        match count.map_err(io_error) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn close(shared: &RefCell<Shared>, file: Handle) -> io::Result<()> {
    match file {
        Handle::Direct(file) => {
            let file = Rc::into_inner(file).expect("nothing else runs on a file that is closed");
            file.close().await.map_err(io_error)
        }
        Handle::Buffered(file) => {
            let file = Rc::into_inner(file).expect("nothing else runs on a file that is closed");
            file.close().await.map_err(io_error)
        }
        Handle::Lock(lock) => {
            let last = shared.borrow_mut().locks.last(lock);
            match last {
                Some(lock) => executor().spawn_blocking(move || lock.release()).await,
                None => Ok(()),
            }
        }
    }
}

/// A lock file is neither read nor written.
fn no_content() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

/// Carries out `change` and makes it durable, away from the executor's thread.
async fn change_names(
    change: impl FnOnce() -> io::Result<Vec<File>> + Send + 'static,
) -> io::Result<()> {
    let durably = move || change()?.iter().try_for_each(File::sync_all);
    executor().spawn_blocking(durably).await
}

/// The operating system's answer without glommio's words around it.
fn io_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_memory_keeps_within_the_limit() {
        assert_eq!(io_memory_bytes(None), 4 << 20);
        assert_eq!(io_memory_bytes(Some(8 << 20)), 512 << 10);
        assert_eq!(io_memory_bytes(Some(1 << 40)), 4 << 20);
    }
}
