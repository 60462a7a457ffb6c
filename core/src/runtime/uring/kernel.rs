//! The kernel's side of the ring: operations in flight, and the memory it may use meanwhile.
//!
//! ```text
//! begin ──► Loan { memory, descriptor } ──► queue ──► kernel ──► completion ──► memory comes back
//!             in `loans`, under its ticket ...................... taken out by the last completion
//! ```
//!
//! The only unsafe idea in this file: **what the kernel may touch is on loan.** From the moment an
//! entry is queued until its last completion, the memory and the descriptor that it names lie in
//! [`Kernel::loans`] under its ticket, where nobody reads, moves or frees them. Bytes are on
//! the heap, so that the table itself may grow. Closing a socket frees nothing: it cancels, and the
//! completion brings the loan back. Dropping the ring cancels everything and waits; should the
//! kernel not answer, the loans are leaked rather than freed under its hands.
//!
//! A place in the table has a generation, which is part of the ticket: cancelling what has just
//! completed does not hit what took its place.
//!
//! Not here: what a socket wants next (`socket.rs`), who owns it (`uring.rs`).

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use millstream_net::io::SocketId;
use socket2::{SockAddr, Socket};

/// Entries of the submission queue. More are kept aside until the kernel has taken these.
const SUBMISSION_COUNT: u32 = 256;

/// Entries of the completion queue. Beyond it the kernel keeps completions, more slowly.
const COMPLETION_COUNT: u32 = 4096;

/// Most bytes of one send; what is left goes with the next.
const SEND_BYTES_MAX: usize = 1 << 30;

/// How often, and how long each time, a dropped ring waits for its loans.
const DROP_WAIT_COUNT: u32 = 50;
const DROP_WAIT: Duration = Duration::from_millis(100);

/// Marks completions that nobody waits for.
const CANCEL_TICKET: u64 = u64::MAX;
/// Marks the completion of the poll of the eventfd.
const BELL_TICKET: u64 = u64::MAX - 1;

/// Names an operation in flight: generation (high half) and index of its loan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// What the kernel can be asked to do with a socket.
#[derive(Debug)]
pub(super) enum Op {
    /// Accept connections, more than one if it can.
    Accept,
    /// Connect to this address.
    Connect(Box<SockAddr>),
    /// Receive into the spare capacity of this empty buffer.
    Recv(Vec<u8>),
    /// Send these bytes, the first `sent_bytes` excepted.
    Send { bytes: Vec<u8>, sent_bytes: usize },
}

/// What came of an operation, with the memory that was lent to it.
#[derive(Debug)]
pub(super) enum Outcome {
    Accepted(io::Result<Socket>),
    Connected(io::Result<()>),
    /// The buffer with what was received; nothing means that the peer ended its side.
    Received(io::Result<Vec<u8>>),
    /// The buffer, how many of its bytes were sent before, and how many were this time.
    Sent {
        bytes: Vec<u8>,
        before_bytes: usize,
        result: io::Result<usize>,
    },
}

/// An answer of the kernel.
#[derive(Debug)]
pub(super) struct Completion {
    /// Whose operation.
    pub(super) socket: SocketId,
    /// What came of it.
    pub(super) outcome: Outcome,
    /// Nothing follows: the operation is over.
    pub(super) is_last: bool,
}

/// When completions are posted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Features {
    /// When this thread asks for them; a flag says that it should. No interrupts. Linux 6.1.
    Deferred,
    /// At the next system call; a flag says that there ought to be one. Linux 5.19.
    Cooperative,
    /// When they are there: the thread is interrupted.
    Plain,
}

#[derive(Debug)]
struct Loan {
    owner: SocketId,
    op: Op,
    /// Keeps the descriptor's number from being given to another file before the kernel saw it.
    _socket: Rc<Socket>,
}

/// The ring and what is on loan to it. Not `Send`: the ring belongs to the thread that made it.
pub(super) struct Kernel {
    ring: IoUring,
    loans: Vec<(u32, Option<Loan>)>,
    free: Vec<u32>,
    /// Entries that found the submission queue full.
    backlog: VecDeque<squeue::Entry>,
    /// One accept serves many connections (Linux 5.19). Found out by trying.
    pub(super) accepts_many: bool,
    /// The eventfd that is being polled.
    bell: Option<RawFd>,
}

impl Kernel {
    /// A ring with as many of the wanted features as the kernel has.
    ///
    /// # Errors
    /// The operating system's; `Unsupported` before Linux 5.11.
    pub(super) fn new() -> io::Result<Self> {
        let mut result = Self::with(Features::Deferred);
        for features in [Features::Cooperative, Features::Plain] {
            match result {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    result = Self::with(features);
                }
                _ => break,
            }
        }
        result
    }

    /// A ring with these features.
    pub(super) fn with(features: Features) -> io::Result<Self> {
        let ring = build(features)?;
        if !ring.params().is_feature_ext_arg() {
            let reason = "the kernel's io_uring cannot wait with a timeout: Linux 5.11 can";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        Ok(Self {
            ring,
            loans: Vec::new(),
            free: Vec::new(),
            backlog: VecDeque::new(),
            accepts_many: true,
            bell: None,
        })
    }

    /// Whether no operation is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.free.len() == self.loans.len()
    }

    /// Queues `op` on `socket` for the next [`Kernel::submit`] or [`Kernel::wait`].
    pub(super) fn begin(&mut self, owner: SocketId, socket: &Rc<Socket>, op: Op) -> Ticket {
        let index = self.free.pop().unwrap_or_else(|| {
            self.loans.push((0, None));
            self.loans.len() as u32 - 1
        });
        let (generation, slot) = &mut self.loans[index as usize];
        let ticket = Ticket(u64::from(*generation) << 32 | u64::from(index));
        let loan = slot.insert(Loan { owner, op, _socket: Rc::clone(socket) });

        let fd = Fd(socket.as_raw_fd());
        let entry = match &mut loan.op {
            Op::Accept if self.accepts_many => {
                opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build()
            }
            Op::Accept => opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build(),
            Op::Connect(address) => {
                opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build()
            }
            Op::Recv(buffer) => {
                assert!(buffer.is_empty() && 0 < buffer.capacity());
                let size_bytes = u32::try_from(buffer.capacity()).unwrap_or(u32::MAX);
                opcode::Recv::new(fd, buffer.as_mut_ptr(), size_bytes).build()
            }
            Op::Send { bytes, sent_bytes } => {
                let rest = &bytes[*sent_bytes..];
                let size_bytes = rest.len().min(SEND_BYTES_MAX) as u32;
                opcode::Send::new(fd, rest.as_ptr(), size_bytes)
                    .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
                    .build()
            }
        };
        self.queue(entry.user_data(ticket.0));
        ticket
    }

    /// Asks for an early end of an operation. It completes all the same, perhaps regularly.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        self.queue(opcode::AsyncCancel::new(ticket.0).build().user_data(CANCEL_TICKET));
    }

    /// Makes [`Kernel::wait`] end when `eventfd` is readable. Must always be the same one.
    pub(super) fn watch(&mut self, eventfd: BorrowedFd<'_>) {
        match self.bell {
            Some(bell) => assert_eq!(bell, eventfd.as_raw_fd(), "a ring serves one parker"),
            None => {
                let poll = opcode::PollAdd::new(Fd(eventfd.as_raw_fd()), libc::POLLIN as u32);
                self.queue(poll.build().user_data(BELL_TICKET));
                self.bell = Some(eventfd.as_raw_fd());
            }
        }
    }

    /// Hands over what is queued, and lets the kernel post what it has been doing. Returns without
    /// a system call if there is neither.
    pub(super) fn submit(&mut self) {
        let queue = self.ring.submission();
        let is_needed = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if is_needed {
            self.enter(None);
        }
    }

    /// Hands over what is queued and waits for a completion, but not longer than `timeout`.
    pub(super) fn wait(&mut self, timeout: Duration) {
        self.enter(Some(timeout));
    }

    /// The next answer that is there.
    pub(super) fn reap(&mut self) -> Option<Completion> {
        loop {
            let entry = self.ring.completion().next()?;
            match entry.user_data() {
                CANCEL_TICKET => {}
                BELL_TICKET => self.bell = None,
                ticket => return Some(self.complete(Ticket(ticket), &entry)),
            }
        }
    }

    fn complete(&mut self, ticket: Ticket, entry: &cqueue::Entry) -> Completion {
        let index = ticket.0 as u32;
        let (generation, slot) = &mut self.loans[index as usize];
        assert_eq!(u64::from(*generation), ticket.0 >> 32, "a loan came back twice");
        let loan = slot.as_mut().expect("an operation in flight has a loan");
        let socket = loan.owner;
        let result = match entry.result() {
            error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            value => Ok(value as u32),
        };
        let is_last = !cqueue::more(entry.flags());
        if !is_last {
            assert!(matches!(loan.op, Op::Accept), "only an accept goes on");
            return Completion { socket, outcome: self.accepted(result), is_last };
        }

        let loan = slot.take().expect("just seen");
        *generation = generation.wrapping_add(1);
        self.free.push(index);
        let outcome = match loan.op {
            Op::Accept => self.accepted(result),
            Op::Connect(_) => Outcome::Connected(result.map(drop)),
            Op::Recv(mut buffer) => Outcome::Received(result.map(|size_bytes| {
                let size_bytes = size_bytes as usize;
                assert!(size_bytes <= buffer.capacity());
                // SAFETY: the loan is over, and the kernel wrote this many bytes into it.
                unsafe { buffer.set_len(size_bytes) };
                buffer
            })),
            Op::Send { bytes, sent_bytes: before_bytes } => {
                let result = result.map(|size_bytes| size_bytes as usize);
                Outcome::Sent { bytes, before_bytes, result }
            }
        };
        Completion { socket, outcome, is_last }
    }

    fn accepted(&mut self, result: io::Result<u32>) -> Outcome {
        Outcome::Accepted(match result {
            Ok(fd) => {
                // SAFETY: the kernel made this descriptor for this completion.
                let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
                Ok(Socket::from(fd))
            }
            Err(error) if self.accepts_many && error.raw_os_error() == Some(libc::EINVAL) => {
                self.accepts_many = false;
                Err(io::ErrorKind::Interrupted.into())
            }
            Err(error) => Err(error),
        })
    }

    fn queue(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !self.try_queue(&entry) {
            self.backlog.push_back(entry);
        }
    }

    fn try_queue(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the memory and the descriptor that the entry names are on loan, except for the
        // eventfd: its poll names no memory.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    fn enter(&mut self, timeout: Option<Duration>) {
        loop {
            while let Some(entry) = self.backlog.front().cloned()
                && self.try_queue(&entry)
            {
                self.backlog.pop_front();
            }
            let result = match timeout {
                Some(timeout) if self.backlog.is_empty() => {
                    let timeout = Timespec::from(timeout);
                    let args = SubmitArgs::new().timespec(&timeout);
                    self.ring.submitter().submit_with_args(1, &args)
                }
                _ => self.ring.submitter().submit(),
            };
            match result.map_err(|error| (error.raw_os_error(), error)) {
                Ok(_) if !self.backlog.is_empty() => {}
                // A signal, the timeout, or completions that must be reaped before more is begun:
                // what is still queued goes next time.
                Ok(_) | Err((Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN), _)) => {
                    return;
                }
                Err((_, error)) => panic!("the ring is not used as it should be: {error}"),
            }
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        for index in 0..self.loans.len() {
            if let (generation, Some(_)) = self.loans[index] {
                self.cancel(Ticket(u64::from(generation) << 32 | index as u64));
            }
        }
        for _ in 0..DROP_WAIT_COUNT {
            while self.reap().is_some() {}
            if self.is_idle() {
                return;
            }
            self.enter(Some(DROP_WAIT));
        }
        mem::forget(mem::take(&mut self.loans));
    }
}

fn build(features: Features) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(COMPLETION_COUNT).setup_clamp();
    match features {
        Features::Deferred => {
            builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        }
        Features::Cooperative => {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        Features::Plain => {}
    }
    builder.build(SUBMISSION_COUNT)
}
