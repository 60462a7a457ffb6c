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
//! work only when that thread enters it (`DEFER_TASKRUN`), and says by a flag in shared memory when
//! entering is worth it (`TASKRUN_FLAG`): a loop that finds nothing makes no system call. An older
//! kernel gets a ring with fewer of these flags.
//!
//! Invariant: a slot's number carries a generation, so a cancellation that comes late never hits
//! the slot's next operation.
//! Not here: what operations mean (`uring.rs` for sockets, `storage_service/ring.rs` for files).

mod op;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

pub(crate) use self::op::{Bytes, Op};

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
    /// The connection, if the operation was to accept one and did.
    pub(crate) accepted: Option<OwnedFd>,
}

/// When answers are posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Features {
    /// When the thread asks for them; a flag says that it should. No interrupts. Linux 6.1.
    Deferred,
    /// At the next system call; a flag says that there ought to be one. Linux 5.19.
    Cooperative,
    /// When they are there: the thread is interrupted.
    Plain,
}

/// A ring whose operations are told apart by tags of type `T`.
pub(crate) struct OpRing<T> {
    ring: IoUring,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// Entries that did not fit into the submission queue.
    backlog: VecDeque<squeue::Entry>,
    features: Features,
}

struct Slot<T> {
    /// How often the slot was used.
    generation: u32,
    lent: Option<(T, Op)>,
}

/// The name under which cancellations are answered; nobody listens.
const CANCELLATION: u64 = u64::MAX;

/// How long a dropped ring waits for its answers.
const FAREWELL: Duration = Duration::from_secs(2);

impl<T: Copy> OpRing<T> {
    /// A ring for about `entries` operations per entry into the kernel, with the best features
    /// that the kernel has. To be used by the calling thread alone.
    ///
    /// # Errors
    /// The operating system's, with what it lacks.
    pub(crate) fn new(entries: u32) -> io::Result<Self> {
        let mut ring = Self::with(entries, Features::Deferred);
        for features in [Features::Cooperative, Features::Plain] {
            match ring {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    ring = Self::with(entries, features);
                }
                _ => break,
            }
        }
        ring.map_err(explain)
    }

    /// A ring with these features.
    pub(crate) fn with(entries: u32, features: Features) -> io::Result<Self> {
        let ring = build(entries, features)?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            let missing = "this kernel's io_uring cannot wait with a timeout: Linux 5.11 can";
            return Err(io::Error::new(io::ErrorKind::Unsupported, missing));
        }
        let (slots, free, backlog) = (Vec::new(), Vec::new(), VecDeque::new());
        Ok(Self { ring, slots, free, backlog, features })
    }

    /// What the kernel agreed to, for the log.
    pub(crate) fn features(&self) -> Features {
        self.features
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

    /// Waits until something is answered or `timeout` is over, then does as [`OpRing::poll`].
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
            let (tag, op) = slot.lent.as_mut().expect("an answered operation was in flight");
            let accepted = result.as_ref().ok().and_then(|result| op.on_result(*result));
            let tag = *tag;
            let op = if cqueue::more(entry.flags()) {
                None
            } else {
                self.free.push(index as u32);
                slot.lent.take().map(|(_, op)| op)
            };
            completions.push(Completion { tag, op, result, accepted });
        }
    }
}

impl<T> OpRing<T> {
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

impl<T> Drop for OpRing<T> {
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
            for entry in self.ring.completion() {
                if entry.user_data() == CANCELLATION {
                    continue;
                }
                let slot = &mut self.slots[(entry.user_data() & u64::from(u32::MAX)) as usize];
                if let (Some((_, op)), Ok(result)) = (&mut slot.lent, u32::try_from(entry.result()))
                {
                    // A connection that nobody will hear of is closed.
                    drop(op.on_result(result));
                }
                remaining -= usize::from(!cqueue::more(entry.flags()));
            }
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

impl<T> fmt::Debug for OpRing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpRing")
            .field("features", &self.features)
            .field("in_flight", &self.in_flight_count())
            .finish_non_exhaustive()
    }
}

fn build(entries: u32, features: Features) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    // Beyond the completion queue the kernel keeps answers, more slowly.
    builder.setup_cqsize(entries * 16).setup_clamp();
    match features {
        Features::Deferred => {
            builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        }
        Features::Cooperative => {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        Features::Plain => {}
    }
    builder.build(entries)
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
