//! The kernel's side of a shard's sockets: operations and outcomes in the words of sockets.
//!
//! ```text
//! begin(socket, Op) ──► op_ring ──► kernel ──► op_ring ──► reap() = Completion { socket, outcome }
//! ```
//!
//! Besides the sockets' operations there is the bell: a poll of the shard's eventfd, so that a wait
//! for sockets ends when another shard calls.
//!
//! Not here: who owns what the kernel touches (`op_ring.rs`), what a socket wants next
//! (`socket.rs`), who owns it (`uring.rs`).

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use millstream_net::io::SocketId;
use socket2::SockAddr;

use crate::runtime::op_ring::{self, Bytes, OpNumber, OpRing};

/// How long callers wait for the next attempt if there is no descriptor for them: not long for
/// them, and no load for a process that has none.
const REST: Duration = Duration::from_millis(100);

/// Operations handed over per system call.
const SUBMISSION_COUNT: u32 = 256;

/// Names an operation in flight.
pub(super) type Ticket = OpNumber;

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
    Accepted(io::Result<OwnedFd>),
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

/// Whose operation is in flight.
#[derive(Debug, Clone, Copy)]
enum Tag {
    Bell,
    Rest,
    Accept(SocketId),
    Other(SocketId),
}

/// The ring of a shard's sockets. To be used on the thread that made it.
#[derive(Debug)]
pub(super) struct Kernel {
    ring: OpRing<Tag>,
    /// Answers of the kernel that were not reaped.
    answers: VecDeque<op_ring::Completion<Tag>>,
    scratch: Vec<op_ring::Completion<Tag>>,
    /// One accept serves many connections (Linux 5.19). Found out by trying.
    pub(super) accepts_many: bool,
    bell: Option<Bell>,
    /// A rest has ended, and nobody has asked.
    has_rested: bool,
}

#[derive(Debug)]
struct Bell {
    /// The descriptor as the parker knows it.
    known_as: RawFd,
    eventfd: Rc<OwnedFd>,
    is_polled: bool,
}

impl Kernel {
    /// A ring with the best features that the kernel has.
    ///
    /// # Errors
    /// The operating system's; `Unsupported` before Linux 5.11.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self::over(OpRing::new(SUBMISSION_COUNT)?))
    }

    /// A ring with these features.
    #[cfg(test)]
    pub(super) fn with(features: op_ring::Features) -> io::Result<Self> {
        Ok(Self::over(OpRing::with(SUBMISSION_COUNT, features)?))
    }

    fn over(ring: OpRing<Tag>) -> Self {
        let (answers, scratch) = (VecDeque::new(), Vec::new());
        Self { ring, answers, scratch, accepts_many: true, bell: None, has_rested: false }
    }

    /// Whether no socket has an operation in flight.
    pub(super) fn is_idle(&self) -> bool {
        let bell_count = usize::from(self.bell.as_ref().is_some_and(|bell| bell.is_polled));
        self.answers.is_empty() && self.ring.in_flight_count() == bell_count
    }

    /// Queues `op` on `socket` for the next [`Kernel::submit`] or [`Kernel::wait`].
    pub(super) fn begin(&mut self, owner: SocketId, socket: &Rc<OwnedFd>, op: Op) -> Ticket {
        let socket = Rc::clone(socket);
        let (tag, op) = match op {
            Op::Accept => {
                let op = op_ring::Op::Accept { listener: socket, goes_on: self.accepts_many };
                return self.ring.start(Tag::Accept(owner), op);
            }
            Op::Connect(address) => (Tag::Other(owner), op_ring::Op::Connect { socket, address }),
            Op::Recv(buffer) => {
                assert!(buffer.is_empty() && 0 < buffer.capacity());
                (Tag::Other(owner), op_ring::Op::Receive { socket, bytes: Bytes::Vec(buffer) })
            }
            Op::Send { bytes, sent_bytes: sent } => {
                let bytes = Bytes::Vec(bytes);
                (Tag::Other(owner), op_ring::Op::Send { socket, bytes, sent })
            }
        };
        self.ring.start(tag, op)
    }

    /// Begins a rest; its end is told by [`Kernel::has_rested`].
    pub(super) fn rest(&mut self) {
        let after = Box::new(REST.into());
        self.ring.start(Tag::Rest, op_ring::Op::Timer { after });
    }

    /// Whether a rest has ended since this was asked last.
    pub(super) fn has_rested(&mut self) -> bool {
        std::mem::take(&mut self.has_rested)
    }

    /// Asks for an early end of an operation. It completes all the same, perhaps regularly.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        self.ring.cancel(ticket);
    }

    /// Makes [`Kernel::wait`] end when `eventfd` is readable. Must always be the same one.
    ///
    /// # Errors
    /// The operating system's, if there is no descriptor left for the first call.
    pub(super) fn watch(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        let known_as = eventfd.as_raw_fd();
        let bell = match &mut self.bell {
            Some(bell) => bell,
            none => {
                let eventfd = Rc::new(eventfd.try_clone_to_owned()?);
                none.insert(Bell { known_as, eventfd, is_polled: false })
            }
        };
        assert_eq!(bell.known_as, known_as, "a ring serves one parker");
        if !bell.is_polled {
            bell.is_polled = true;
            let eventfd = Rc::clone(&bell.eventfd);
            self.ring.start(Tag::Bell, op_ring::Op::Bell { eventfd });
        }
        Ok(())
    }

    /// Hands over what is queued, and lets the kernel post what it has been doing. Returns without
    /// a system call if there is neither.
    pub(super) fn submit(&mut self) {
        self.ring.poll(&mut self.scratch).expect("the ring is used as it should be");
        self.answers.extend(self.scratch.drain(..));
    }

    /// Hands over what is queued and waits for a completion, but not longer than `timeout`.
    pub(super) fn wait(&mut self, timeout: Duration) {
        self.ring.wait(timeout, &mut self.scratch).expect("the ring is used as it should be");
        self.answers.extend(self.scratch.drain(..));
    }

    /// The next answer that is there.
    pub(super) fn reap(&mut self) -> Option<Completion> {
        loop {
            let answer = self.answers.pop_front()?;
            let is_last = answer.op.is_some();
            let (socket, outcome) = match answer.tag {
                Tag::Bell => {
                    self.bell.as_mut().expect("it was polled").is_polled = false;
                    continue;
                }
                Tag::Rest => {
                    self.has_rested = true;
                    continue;
                }
                Tag::Accept(socket) => {
                    let result = answer.result.map(|_| answer.accepted);
                    let result = result.map(|fd| fd.expect("an accept makes a descriptor"));
                    (socket, Outcome::Accepted(self.accepted(result)))
                }
                Tag::Other(socket) => {
                    let op = answer.op.expect("only an accept goes on");
                    (socket, outcome(op, answer.result))
                }
            };
            return Some(Completion { socket, outcome, is_last });
        }
    }

    /// Remembers that this kernel accepts one connection at a time.
    fn accepted(&mut self, result: io::Result<OwnedFd>) -> io::Result<OwnedFd> {
        match result {
            Err(error) if self.accepts_many && error.raw_os_error() == Some(libc::EINVAL) => {
                self.accepts_many = false;
                Err(io::ErrorKind::Interrupted.into())
            }
            result => result,
        }
    }
}

fn outcome(op: op_ring::Op, result: io::Result<u32>) -> Outcome {
    let vec_of = |bytes| match bytes {
        Bytes::Vec(bytes) => bytes,
        Bytes::Aligned(_) => unreachable!("sockets use plain vectors"),
    };
    match op {
        op_ring::Op::Connect { .. } => Outcome::Connected(result.map(drop)),
        op_ring::Op::Receive { bytes, .. } => Outcome::Received(result.map(|_| vec_of(bytes))),
        op_ring::Op::Send { bytes, sent, .. } => Outcome::Sent {
            bytes: vec_of(bytes),
            before_bytes: sent,
            result: result.map(|size_bytes| size_bytes as usize),
        },
        other => unreachable!("{other:?} was never begun"),
    }
}
