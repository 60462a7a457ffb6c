//! One `io_uring`, safe to use: operations own what the kernel touches.
//!
//! ```text
//!  start(tag, op) ──► slot table ──► submission queue ──enter──► kernel
//!                     owns the op's                                │
//!                     buffer, address, descriptor                  ▼
//!  Completion { tag, op, result } ◄── slot freed ◄──── completion queue
//! ```
//!
//! The only unsafe idea in this file: **what an operation names belongs to the slot table until the
//! kernel has answered for the last time**. Operations come in by value, with their buffer, address
//! and a share of the descriptor; nothing in a slot is touched before the answer, and the heap
//! memory behind it does not move when the table grows. A ring that is dropped cancels what is in
//! flight and waits for the answers; what the kernel does not give back in time is leaked, not
//! freed.
//!
//! The ring belongs to the thread that made it (`SINGLE_ISSUER`). The kernel does its part of the
//! work only when that thread enters it (`DEFER_TASKRUN`), and says by a flag in shared memory
//! when entering is worth it (`TASKRUN_FLAG`): a loop that finds nothing makes no system call. Older
//! kernels get a ring with fewer of these flags.
//!
//! Invariant: a slot's number carries a generation, so a cancellation that comes late never hits
//! the slot's next operation.
//! Not here: what operations mean (`ring.rs` for sockets, `storage_service/ring.rs` for files).

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use millstream_storage::arena::Buffer;
use socket2::SockAddr;

/// One operation, with all that the kernel needs for it.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "sockets are next"))]
pub(crate) enum Op {
    /// Reads at most `len` bytes from `offset` into the space behind the bytes in use, and counts
    /// what came as used.
    Read { file: Rc<OwnedFd>, offset: u64, len: usize, bytes: Bytes },
    /// Writes the bytes in use from `written` on, at `offset`.
    Write { file: Rc<OwnedFd>, offset: u64, bytes: Bytes, written: usize },
    /// Makes a file durable; with `data_only` without metadata that reading it does not need.
    Sync { file: Rc<OwnedFd>, data_only: bool },
    /// Takes one connection.
    Accept { listener: Rc<OwnedFd>, accepted: Option<OwnedFd> },
    /// Connects.
    Connect { socket: Rc<OwnedFd>, address: Box<SockAddr> },
    /// Receives into the space behind the bytes in use, and counts what came as used.
    Receive { socket: Rc<OwnedFd>, bytes: Bytes },
    /// Sends the bytes in use from `sent` on.
    Send { socket: Rc<OwnedFd>, bytes: Bytes, sent: usize },
    /// Completes, again and again, when the eventfd is written to.
    Bell { eventfd: Rc<OwnedFd> },
}

/// Memory for an operation: a plain vector, or an aligned buffer for direct I/O.
#[derive(Debug)]
pub(crate) enum Bytes {
    Vec(Vec<u8>),
    Aligned(Buffer),
}

/// Names an operation in flight, to cancel it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpNumber(u64);

/// An operation is answered.
#[derive(Debug)]
pub(crate) struct Completion<T> {
    /// What the operation was started under.
    pub(crate) tag: T,
    /// The operation and all it owns; `None` if it goes on and will be answered again.
    pub(crate) op: Option<Op>,
    /// Bytes moved, where that makes sense.
    pub(crate) result: io::Result<u32>,
}

/// A ring whose operations are told apart by tags of type `T`.
pub(crate) struct Uring<T> {
    ring: IoUring,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// Entries that did not fit into the submission queue.
    backlog: VecDeque<squeue::Entry>,
    flags: &'static str,
}

struct Slot<T> {
    /// How often the slot was used.
    generation: u32,
    lent: Option<(T, Op)>,
}

/// The name under which cancellations are answered; nobody listens.
const CANCELLATION: u64 = u64::MAX;

/// One operation moves at most this much; callers go on from there.
const MOVED_BYTES_MAX: usize = 1 << 30;

/// How long a dropped ring waits for its answers.
const FAREWELL: Duration = Duration::from_secs(2);

impl<T: Copy> Uring<T> {
    /// A ring for about `entries` operations per entry into the kernel. To be used by the calling
    /// thread alone.
    ///
    /// # Errors
    /// The operating system's, with what it lacks.
    pub(crate) fn new(entries: u32) -> io::Result<Self> {
        let (ring, flags) = build(entries).map_err(explain)?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            let missing = "io_uring of this kernel is too old: Linux 5.13 or newer is needed";
            return Err(io::Error::new(io::ErrorKind::Unsupported, missing));
        }
        let (slots, free, backlog) = (Vec::new(), Vec::new(), VecDeque::new());
        Ok(Self { ring, slots, free, backlog, flags })
    }

    /// The set-up flags that the kernel agreed to, for the log.
    pub(crate) fn flags(&self) -> &'static str {
        self.flags
    }

    /// Takes `op` over. The kernel sees it when it is entered next.
    pub(crate) fn start(&mut self, tag: T, op: Op) -> OpNumber {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, lent: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        assert!(slot.lent.is_none(), "a free slot is empty");
        slot.generation = slot.generation.wrapping_add(1) & (u32::MAX >> 1);
        let number = u64::from(slot.generation) << 32 | u64::from(index);
        let (_, op) = slot.lent.insert((tag, op));
        let entry = op.entry().user_data(number);
        self.backlog.push_back(entry);
        OpNumber(number)
    }

    /// Asks the kernel to give up on an operation. It is answered as ever: with an error of kind
    /// `ECANCELED`, or with success if that was quicker.
    #[cfg_attr(not(test), expect(dead_code, reason = "sockets are next"))]
    pub(crate) fn cancel(&mut self, number: OpNumber) {
        let entry = opcode::AsyncCancel::new(number.0).build().user_data(CANCELLATION);
        self.backlog.push_back(entry);
    }

    /// Appends every answer that is there to `completions`. Enters the kernel only if there is
    /// something to tell it or it asks for it.
    ///
    /// # Errors
    /// The operating system's; the ring is unusable then.
    pub(crate) fn poll(&mut self, completions: &mut Vec<Completion<T>>) -> io::Result<()> {
        loop {
            let is_flushed = self.fill();
            let wants_entry = {
                let queue = self.ring.submission();
                !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
            };
            if wants_entry {
                tolerate(self.ring.submit())?;
            }
            self.reap(completions);
            if is_flushed {
                return Ok(());
            }
        }
    }

    /// Waits until something is answered or `timeout` is over, then does as [`Uring::poll`].
    ///
    /// # Errors
    /// The operating system's; the ring is unusable then.
    pub(crate) fn wait(
        &mut self,
        timeout: Duration,
        completions: &mut Vec<Completion<T>>,
    ) -> io::Result<()> {
        if self.fill() && self.ring.completion().is_empty() {
            let timeout = types::Timespec::from(timeout);
            let arguments = types::SubmitArgs::new().timespec(&timeout);
            tolerate(self.ring.submitter().submit_with_args(1, &arguments))?;
        }
        self.poll(completions)
    }

    fn reap(&mut self, completions: &mut Vec<Completion<T>>) {
        for entry in self.ring.completion() {
            if entry.user_data() == CANCELLATION {
                continue;
            }
            let index = (entry.user_data() & u64::from(u32::MAX)) as usize;
            let slot = &mut self.slots[index];
            assert_eq!(u64::from(slot.generation), entry.user_data() >> 32, "an answer came twice");
            let result = u32::try_from(entry.result())
                .map_err(|_| io::Error::from_raw_os_error(-entry.result()));
            if cqueue::more(entry.flags()) {
                let (tag, _) = slot.lent.as_ref().expect("an operation that goes on is in flight");
                completions.push(Completion { tag: *tag, op: None, result });
                continue;
            }
            let (tag, mut op) = slot.lent.take().expect("an answered operation was in flight");
            self.free.push(index as u32);
            if let Ok(result) = result {
                op.arrived(result);
            }
            completions.push(Completion { tag, op: Some(op), result });
        }
    }
}

impl<T> Uring<T> {
    /// Operations not answered yet.
    pub(crate) fn in_flight_count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Moves entries to the submission queue while they fit. Returns whether all did.
    fn fill(&mut self) -> bool {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: what the entry points to belongs to its slot, which holds it until the
            // kernel has answered (see the header); a cancellation points to nothing.
            if unsafe { queue.push(entry) }.is_err() {
                return false;
            }
            self.backlog.pop_front();
        }
        true
    }
}

impl<T> Drop for Uring<T> {
    fn drop(&mut self) {
        let round = Duration::from_millis(10);
        let mut rounds = FAREWELL.as_millis() / round.as_millis();
        for (index, slot) in (0_u64..).zip(&self.slots) {
            if slot.lent.is_some() {
                let number = u64::from(slot.generation) << 32 | index;
                let entry = opcode::AsyncCancel::new(number).build().user_data(CANCELLATION);
                self.backlog.push_back(entry);
            }
        }
        let timeout = types::Timespec::from(round);
        let arguments = types::SubmitArgs::new().timespec(&timeout);
        let mut remaining = self.in_flight_count();
        while remaining > 0 && rounds > 0 {
            rounds -= 1;
            self.fill();
            if tolerate(self.ring.submitter().submit_with_args(1, &arguments)).is_err() {
                break;
            }
            let answered = |entry: &cqueue::Entry| {
                entry.user_data() != CANCELLATION && !cqueue::more(entry.flags())
            };
            remaining -= self.ring.completion().filter(answered).count();
        }
        if remaining > 0 {
            tracing::warn!(
                remaining,
                "operations did not end with their ring; leaking their memory"
            );
            mem::forget(mem::take(&mut self.slots));
        }
    }
}

impl<T> fmt::Debug for Uring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring")
            .field("flags", &self.flags)
            .field("in_flight", &self.in_flight_count())
            .finish_non_exhaustive()
    }
}

impl Op {
    /// The kernel's form. Points into what the operation owns.
    fn entry(&mut self) -> squeue::Entry {
        match self {
            Self::Read { file, offset, len, bytes } => {
                let (start, spare) = bytes.spare();
                let len = spare.min((*len).min(MOVED_BYTES_MAX) as u32);
                opcode::Read::new(fd(file), start, len).offset(*offset).build()
            }
            Self::Write { file, offset, bytes, written } => {
                let (start, len) = bytes.used(*written);
                opcode::Write::new(fd(file), start, len).offset(*offset).build()
            }
            Self::Sync { file, data_only } => {
                let flags = if *data_only {
                    types::FsyncFlags::DATASYNC
                } else {
                    types::FsyncFlags::empty()
                };
                opcode::Fsync::new(fd(file)).flags(flags).build()
            }
            Self::Accept { listener, .. } => {
                let (nobody, no_len) = (std::ptr::null_mut(), std::ptr::null_mut());
                opcode::Accept::new(fd(listener), nobody, no_len).flags(libc::SOCK_CLOEXEC).build()
            }
            Self::Connect { socket, address } => {
                opcode::Connect::new(fd(socket), address.as_ptr().cast(), address.len()).build()
            }
            Self::Receive { socket, bytes } => {
                let (start, len) = bytes.spare();
                opcode::Recv::new(fd(socket), start, len).build()
            }
            Self::Send { socket, bytes, sent } => {
                let (start, len) = bytes.used(*sent);
                let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
                opcode::Send::new(fd(socket), start, len).flags(flags).build()
            }
            Self::Bell { eventfd } => {
                opcode::PollAdd::new(fd(eventfd), libc::POLLIN as u32).multi(true).build()
            }
        }
    }

    /// Takes note of what the kernel answered: bytes that it has written, a descriptor made.
    fn arrived(&mut self, result: u32) {
        match self {
            Self::Read { bytes, .. } | Self::Receive { bytes, .. } => bytes.grow(result as usize),
            Self::Accept { accepted, .. } => {
                // SAFETY: the kernel made this descriptor for this operation and told nobody else.
                *accepted = Some(unsafe { OwnedFd::from_raw_fd(result as RawFd) });
            }
            _ => {}
        }
    }
}

fn fd(owned: &OwnedFd) -> types::Fd {
    types::Fd(owned.as_raw_fd())
}

impl Bytes {
    /// Bytes in use.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Vec(bytes) => bytes.len(),
            Self::Aligned(buffer) => buffer.len(),
        }
    }

    /// Bytes that still fit.
    pub(crate) fn spare_bytes(&self) -> usize {
        match self {
            Self::Vec(bytes) => bytes.capacity() - bytes.len(),
            Self::Aligned(buffer) => buffer.spare_bytes(),
        }
    }

    /// The bytes in use.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Vec(bytes) => bytes,
            Self::Aligned(buffer) => buffer.as_slice(),
        }
    }

    /// Where the kernel may write, and how much.
    fn spare(&mut self) -> (*mut u8, u32) {
        let (start, len) = match self {
            Self::Vec(bytes) => {
                let spare = bytes.spare_capacity_mut();
                (spare.as_mut_ptr().cast(), spare.len())
            }
            Self::Aligned(buffer) => {
                let spare = buffer.spare_mut();
                (spare.as_mut_ptr(), spare.len())
            }
        };
        (start, len.min(MOVED_BYTES_MAX) as u32)
    }

    /// Where the kernel may read, and how much.
    fn used(&self, from: usize) -> (*const u8, u32) {
        let bytes = &self.as_slice()[from..];
        (bytes.as_ptr(), bytes.len().min(MOVED_BYTES_MAX) as u32)
    }

    /// Counts `count` bytes behind those in use, which the kernel has written, as used.
    fn grow(&mut self, count: usize) {
        assert!(count <= self.spare_bytes(), "the kernel wrote more than it was given room for");
        match self {
            // SAFETY: the kernel was given this vector's spare capacity and has answered that it
            // wrote `count` bytes of it.
            Self::Vec(bytes) => unsafe { bytes.set_len(bytes.len() + count) },
            Self::Aligned(buffer) => buffer.set_len(buffer.len() + count),
        }
    }
}

/// A ring with as many of the wanted flags as the kernel knows.
fn build(entries: u32) -> io::Result<(IoUring, &'static str)> {
    let best = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_clamp()
        .build(entries);
    match best {
        Ok(ring) => return Ok((ring, "single issuer, deferred task work")),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
        Err(error) => return Err(error),
    }
    let good =
        IoUring::builder().setup_coop_taskrun().setup_taskrun_flag().setup_clamp().build(entries);
    match good {
        Ok(ring) => Ok((ring, "cooperative task work")),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Ok((IoUring::builder().setup_clamp().build(entries)?, "none"))
        }
        Err(error) => Err(error),
    }
}

/// Says what to do where the operating system's answer does not.
fn explain(error: io::Error) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring",
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is forbidden here: set sysctl kernel.io_uring_disabled to 0 and let the \
             container's seccomp profile allow io_uring_setup"
        }
        Some(libc::ENOMEM) => {
            "io_uring found no memory: raise the limit of locked memory (memlock)"
        }
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{advice} ({error})"))
}

/// Interruptions, time-outs and a full completion queue are not errors: the caller looks again.
fn tolerate(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests;
