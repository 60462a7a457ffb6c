//! The storage service: one thread per node that carries out the file operations of its shards.
//!
//! ```text
//! shard 0 ──StorageHandle──┐            ┌── glommio.rs   an executor of glommio
//! shard 1 ──StorageHandle──┼─► desk ──► │
//! shard n ──StorageHandle──┘   queue    └── ring.rs      our own loop on a raw io_uring
//! ```
//!
//! Two drivers under one conformance test, so that replacing glommio is a setting. What they share
//! are the rings to the shards (`desk.rs`), the rules of order (`queue.rs`), and names
//! (`blocking.rs`); no type of either crosses this module.
//!
//! Why not from the shard itself: submitting a direct write costs 20–50 µs inline.
//!
//! A job that begins again after a failure has other shards, and the service another *shift*, on
//! the same thread.
//!
//! Invariant: every operation accepted is answered, also while the service stops.

mod desk;
mod queue;

mod blocking;
mod glommio;
mod names;
mod ring;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use self::desk::{Desk, Health};
use super::cpu::{self, Core};
use super::parking::{Parker, Waker};

pub(super) use self::blocking::{Lock, link_durably, lock};
pub use self::desk::StorageHandle;

/// Who talks to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StorageDriver {
    /// A glommio executor. Where the limit of locked memory forbids one (below 512 KiB, as in
    /// many containers), the raw ring takes its place, with a warning.
    #[default]
    Glommio,
    /// Our own loop on a raw `io_uring`.
    Ring,
}

impl StorageDriver {
    /// This driver, or the raw ring if this process cannot have it.
    fn or_possible(self) -> Self {
        match self {
            Self::Glommio => match glommio::impediment() {
                Some(reason) => {
                    tracing::warn!(reason, "the raw ring carries out file operations instead");
                    Self::Ring
                }
                None => Self::Glommio,
            },
            Self::Ring => Self::Ring,
        }
    }
}

/// The running service.
#[derive(Debug)]
pub struct StorageService {
    thread: Option<JoinHandle<()>>,
    driver: StorageDriver,
    /// Where the thread gets its shifts from; it ends when there can be no more.
    shifts: Option<Sender<Shift>>,
    /// Tells that a shift is over.
    over: Receiver<()>,
    health: Arc<Health>,
    waker: Waker,
}

/// The requesters that the service has at a time. Shifts follow each other on one thread, and on
/// one executor of glommio's, which keeps a file descriptor for itself each time one is run.
#[derive(Debug)]
struct Shift {
    desk: Desk,
    parker: Parker,
    /// Told when the shift has begun, or why it cannot.
    ready: Sender<io::Result<()>>,
    mourner: Mourner,
}

/// A shift about to begin, as whoever hands it over sees it.
struct Handover {
    shift: Shift,
    handles: Vec<StorageHandle>,
    is_ready: Receiver<io::Result<()>>,
    health: Arc<Health>,
    waker: Waker,
}

impl Handover {
    fn of(driver: StorageDriver, wakers: Vec<Waker>) -> io::Result<Self> {
        let health = Arc::new(Health::default());
        let parker = match driver {
            StorageDriver::Glommio => Parker::with_task(),
            StorageDriver::Ring => Parker::with_eventfd()?,
        };
        let waker = parker.waker();
        let mourner = Mourner { health: Arc::clone(&health), wakers: wakers.clone() };
        let (desk, handles) = desk::desk(wakers, &waker, &health);
        let (ready, is_ready) = mpsc::channel();
        let shift = Shift { desk, parker, ready, mourner };
        Ok(Self { shift, handles, is_ready, health, waker })
    }
}

impl StorageService {
    /// Starts the service on a thread of its own, on `core` if there is one to be had. Returns a
    /// handle per element of `wakers`: each is rung when there are answers for its handle.
    ///
    /// # Errors
    /// The operating system's, if the driver cannot have what it needs.
    pub fn start(
        driver: StorageDriver,
        core: Option<Core>,
        wakers: Vec<Waker>,
    ) -> io::Result<(Self, Vec<StorageHandle>)> {
        let driver = driver.or_possible();
        let ((shifts, inbox), (ends, over)) = (mpsc::channel(), mpsc::channel());
        let thread = thread::Builder::new().name("storage".to_owned()).spawn(move || {
            cpu::pin_if_any(core, "storage");
            match driver {
                StorageDriver::Glommio => glommio::run(&inbox, &ends),
                StorageDriver::Ring => ring::run(&inbox, &ends),
            }
        })?;
        let handover = Handover::of(driver, wakers)?;
        let mut service = Self {
            thread: Some(thread),
            driver,
            shifts: Some(shifts),
            over,
            health: Arc::clone(&handover.health),
            waker: handover.waker.clone(),
        };
        let handles = service.hand_over(handover)?;
        Ok((service, handles))
    }

    /// Begins anew after [`StorageService::rest`], with a handle per element of `wakers`.
    ///
    /// # Errors
    /// As [`StorageService::start`]. Then the service is of no use any more.
    pub(super) fn begin(&mut self, wakers: Vec<Waker>) -> io::Result<Vec<StorageHandle>> {
        self.hand_over(Handover::of(self.driver, wakers)?)
    }

    fn hand_over(&mut self, handover: Handover) -> io::Result<Vec<StorageHandle>> {
        let Handover { shift, handles, is_ready, health, waker } = handover;
        (self.health, self.waker) = (health, waker);
        let died = || io::Error::other("the storage service died while starting");
        let shifts = self.shifts.as_ref().expect("it has not been told to end");
        shifts.send(shift).map_err(|_| died())?;
        is_ready.recv().map_err(|_| died())??;
        Ok(handles)
    }

    /// Answers everything accepted so far, lets go of all files, and waits for its next
    /// [beginning](StorageService::begin). Whether it came to that within `patience`, or has ended.
    pub(super) fn rest(&mut self, patience: Duration) -> bool {
        self.tell();
        self.over.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }

    /// Who talks to the disk: not who was asked for, if this process cannot have him.
    pub fn driver(&self) -> StorageDriver {
        self.driver
    }

    /// Answers everything accepted so far, then ends the thread.
    ///
    /// # Panics
    /// If the service has panicked.
    pub fn stop(mut self) {
        let ended = self.end();
        assert!(ended.is_ok(), "the storage service died");
    }

    /// Leaves the service behind: its disk does not answer.
    pub(super) fn leave(mut self) {
        tracing::warn!("the storage service does not end and is left behind");
        drop(self.thread.take());
    }

    fn end(&mut self) -> thread::Result<()> {
        drop(self.shifts.take());
        self.tell();
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }

    fn tell(&self) {
        self.health.stops.store(true, Ordering::Release);
        self.waker.kick();
    }
}

impl Drop for StorageService {
    fn drop(&mut self) {
        // Whoever needs to know whether it ended well calls `stop`.
        let _ = self.end();
    }
}

/// Tells the requesters if the service's thread panics.
#[derive(Debug)]
struct Mourner {
    health: Arc<Health>,
    wakers: Vec<Waker>,
}

impl Drop for Mourner {
    fn drop(&mut self) {
        if thread::panicking() {
            self.health.has_failed.store(true, Ordering::Release);
            self.wakers.iter().for_each(Waker::kick);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;
    use std::time::Instant;

    use millstream_storage::io::{FileAnswer, FileDone, FileId, FileOp, OpId, OpenMode};

    use super::*;

    /// Longer than anything here takes, on any machine.
    const PATIENCE: Duration = Duration::from_mins(1);

    /// The next answer; none if it does not come.
    fn answer(handle: &mut StorageHandle, start: Instant) -> Option<FileDone> {
        let (until, mut dones) = (Instant::now() + PATIENCE, Vec::new());
        while dones.is_empty() && Instant::now() < until {
            handle.poll(start.elapsed(), &mut dones);
            thread::yield_now();
        }
        dones.pop()
    }

    /// What the disk answers to the reading of a file's four bytes.
    fn read(handle: &mut StorageHandle, start: Instant, path: &Path) -> FileDone {
        let file = FileId(1);
        let path = path.to_path_buf();
        handle.submit(FileOp::Open { op: OpId(0), file, path, mode: OpenMode::Read });
        answer(handle, start).expect("it opens");
        handle.submit(FileOp::Read { op: OpId(1), file, offset: 0, len: 4 });
        answer(handle, start).expect("it reads")
    }

    #[test]
    fn shifts_follow_each_other_and_leave_no_file_open() {
        let directory = tempfile::tempdir().expect("a place for files");
        let data = directory.path().join("data");
        fs::write(&data, "here").expect("it is writable");
        let is_open = || {
            let open = fs::read_dir("/proc/self/fd").expect("the process is there").flatten();
            open.filter_map(|it| fs::read_link(it.path()).ok()).any(|it| it == data)
        };
        for driver in [StorageDriver::Glommio, StorageDriver::Ring] {
            let waker = || Parker::with_eventfd().expect("descriptors are left").waker();
            let started = StorageService::start(driver, None, vec![waker()]);
            let (mut service, mut handles) = started.expect("it starts");
            for shift in 0..3 {
                let start = Instant::now();
                for handle in &mut handles {
                    let done = read(handle, start, &data);
                    let answered =
                        matches!(done.result, Ok(FileAnswer::Read { bytes }) if bytes == b"here");
                    assert!(answered, "{driver:?}, shift {shift}");
                }
                assert!(service.rest(PATIENCE), "{driver:?}, shift {shift}");
                // What the service has dropped may be closed a little later.
                let until = Instant::now() + PATIENCE;
                while is_open() && Instant::now() < until {
                    thread::yield_now();
                }
                assert!(!is_open(), "{driver:?}, shift {shift}");
                // Now more of them, now fewer.
                let wakers = (0..=(shift + 1) % 3).map(|_| waker()).collect();
                handles = service.begin(wakers).expect("it begins");
            }
            service.stop();
        }
    }

    /// Not so with glommio: a kernel's ring opens a pipe without waiting.
    #[test]
    fn a_name_that_takes_long_holds_up_no_transfer() {
        let directory = tempfile::tempdir().expect("a place for files");
        let (pipe, data) = (directory.path().join("pipe"), directory.path().join("data"));
        let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
        assert!(made.success());
        fs::write(&data, "here").expect("it is writable");
        let waker = Parker::with_eventfd().expect("descriptors are left").waker();
        let (_service, mut handles) =
            StorageService::start(StorageDriver::Ring, None, vec![waker]).expect("it starts");
        let (handle, start) = (&mut handles[0], Instant::now());
        let open = |op, file, path| FileOp::Open { op, file, path, mode: OpenMode::Read };
        handle.submit(open(OpId(0), FileId(1), data));
        assert_eq!(answer(handle, start).map(|done| done.op), Some(OpId(0)));
        // Opening a pipe waits until somebody writes to it.
        handle.submit(open(OpId(1), FileId(2), pipe.clone()));
        handle.submit(FileOp::Read { op: OpId(2), file: FileId(1), offset: 0, len: 4 });
        let transfer = answer(handle, start);
        // Both sides at once: this does not wait.
        let writer = fs::OpenOptions::new().read(true).write(true).open(&pipe);
        assert_eq!(transfer.map(|done| done.op), Some(OpId(2)), "it waits for a name");
        let opened = answer(handle, start).expect("there is a writer");
        assert_eq!((opened.op, opened.result.is_ok()), (OpId(1), true));
        drop(writer);
    }
}
