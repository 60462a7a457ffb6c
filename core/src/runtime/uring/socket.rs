//! What a socket does next: a pure machine, one per socket, without descriptors or memory of the
//! kernel.
//!
//! A socket has two directions, and each has at most one operation with the kernel:
//!
//! ```text
//!              in                              out
//! listener     accept, again and again,        -
//!              while callers are let in
//! connecting   -                               connect
//! connected    receive, again and again,       send, until all bytes are gone
//!              while resumed
//!
//! ending: cancel what is with the kernel ─► both directions idle ─► End: closed, Closed or Failed
//! ```
//!
//! [`Machine::step`] says what to begin or to cancel; without a completion or a request in between,
//! it says nothing twice. As receiving begins only when stepped, pausing before that costs nothing.
//! The first reason to end is the one that is told, once, when the descriptor is closed: then
//! nothing of the socket is left, and its address can be used again.
//!
//! Not here: carrying steps out (`uring.rs`, `kernel.rs`).

use std::io;
use std::net::SocketAddr;

use millstream_net::io::{SocketDone, SocketId};

/// Sizes of the buffer for receiving. It grows while received bytes fill it and shrinks while they
/// do not, so that thousands of quiet connections cost a page each. From 128 KiB on the allocator
/// asks the system for fresh pages every time: receiving became six times slower (measured).
pub(super) const RECV_BYTES_MIN: usize = 4 << 10;
pub(super) const RECV_BYTES_MAX: usize = 64 << 10;
const _: () = assert!(RECV_BYTES_MIN < RECV_BYTES_MAX);

/// What one socket wants and has.
#[derive(Debug)]
pub(super) struct Machine {
    id: SocketId,
    /// Of the listener itself, or of a connection's peer.
    address: SocketAddr,
    role: Role,
    incoming: Progress,
    outgoing: Progress,
    /// Resumed; of a listener, whether it accepts callers.
    is_receiving: bool,
    /// The bytes of a send that are not with the kernel, and how many of them are gone already.
    sending: Option<(Vec<u8>, usize)>,
    finishing: Finishing,
    recv_bytes: usize,
    ending: Option<Ending>,
}

/// A direction of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

/// What is to be done for a socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Accept,
    Connect(SocketAddr),
    /// Receive into a buffer of this size.
    Recv {
        size_bytes: usize,
    },
    /// Send what follows the first `sent_bytes`.
    Send {
        bytes: Vec<u8>,
        sent_bytes: usize,
    },
    /// End this side of the connection, then tell [`Machine::on_finished`].
    Finish,
    /// Cancel what this direction is doing. It completes nevertheless.
    Cancel(Direction),
    /// Nothing is with the kernel: close the descriptor, then tell [`Machine::end`].
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Listener,
    Connecting,
    Connected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Idle,
    /// With the kernel.
    Busy,
    /// With the kernel, which was asked to stop.
    Cancelled,
}

/// Whether this side is to end before the socket does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finishing {
    No,
    /// As soon as everything has been sent.
    Due,
    Done,
}

#[derive(Debug)]
enum Ending {
    Closed,
    Failed { action: String, source: io::Error },
}

impl Machine {
    /// A listener at `address`.
    pub(super) fn listener(id: SocketId, address: SocketAddr) -> Self {
        Self { is_receiving: true, ..Self::new(id, address, Role::Listener) }
    }

    /// A connection to be made to `address`.
    pub(super) fn connecting(id: SocketId, address: SocketAddr) -> Self {
        Self::new(id, address, Role::Connecting)
    }

    /// An accepted connection from `peer`, paused.
    pub(super) fn accepted(id: SocketId, peer: SocketAddr) -> Self {
        Self::new(id, peer, Role::Connected)
    }

    fn new(id: SocketId, address: SocketAddr, role: Role) -> Self {
        Self {
            id,
            address,
            role,
            incoming: Progress::Idle,
            outgoing: Progress::Idle,
            is_receiving: false,
            sending: None,
            finishing: Finishing::No,
            recv_bytes: RECV_BYTES_MIN,
            ending: None,
        }
    }

    /// The listener's own address, or the peer's.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends all of `bytes`, unless the socket is ending anyway.
    ///
    /// # Panics
    /// If the connection is not open yet or has a send under way.
    pub(super) fn send(&mut self, bytes: Vec<u8>) {
        if self.ending.is_some() {
            return;
        }
        let is_free = self.outgoing == Progress::Idle && self.sending.is_none();
        assert!(self.role == Role::Connected && is_free, "one send at a time, once connected");
        assert!(self.finishing == Finishing::No, "nothing is sent behind the end");
        self.sending = Some((bytes, 0));
    }

    /// Stops receiving.
    pub(super) fn pause(&mut self) {
        self.is_receiving = false;
    }

    /// Receives (again).
    ///
    /// # Panics
    /// If this is a listener.
    pub(super) fn resume(&mut self) {
        assert!(self.role != Role::Listener, "a listener receives nothing");
        self.is_receiving = true;
    }

    /// Accepts callers from now on, or lets them wait.
    pub(super) fn accept(&mut self, accepts: bool) {
        assert_eq!(self.role, Role::Listener, "only a listener has callers");
        self.is_receiving = accepts;
    }

    /// Ends this side once everything has been sent.
    ///
    /// # Panics
    /// If the connection is not open yet.
    pub(super) fn finish(&mut self) {
        assert_eq!(self.role, Role::Connected, "only a connection has two sides");
        if self.finishing == Finishing::No {
            self.finishing = Finishing::Due;
        }
    }

    /// Ends the socket.
    pub(super) fn close(&mut self) {
        self.ending.get_or_insert(Ending::Closed);
    }

    /// The next thing to do; to be asked until it answers none.
    pub(super) fn step(&mut self) -> Option<Step> {
        let is_ending = self.ending.is_some();
        let is_paused = self.role != Role::Connecting && !self.is_receiving;
        if self.incoming == Progress::Busy && (is_ending || is_paused) {
            self.incoming = Progress::Cancelled;
            return Some(Step::Cancel(Direction::In));
        }
        if self.outgoing == Progress::Busy && is_ending {
            self.outgoing = Progress::Cancelled;
            return Some(Step::Cancel(Direction::Out));
        }
        if is_ending {
            let is_quiet = self.incoming == Progress::Idle && self.outgoing == Progress::Idle;
            return is_quiet.then_some(Step::End);
        }
        if self.outgoing == Progress::Idle
            && let Some(step) = self.next_out()
        {
            self.outgoing = Progress::Busy;
            return Some(step);
        }
        let is_sent = self.outgoing == Progress::Idle && self.sending.is_none();
        if self.finishing == Finishing::Due && is_sent {
            self.finishing = Finishing::Done;
            return Some(Step::Finish);
        }
        if self.incoming == Progress::Idle
            && let Some(step) = self.next_in()
        {
            self.incoming = Progress::Busy;
            return Some(step);
        }
        None
    }

    fn next_out(&mut self) -> Option<Step> {
        match self.role {
            Role::Listener => None,
            Role::Connecting => Some(Step::Connect(self.address)),
            Role::Connected => {
                self.sending.take().map(|(bytes, sent_bytes)| Step::Send { bytes, sent_bytes })
            }
        }
    }

    fn next_in(&self) -> Option<Step> {
        match self.role {
            Role::Listener if self.is_receiving => Some(Step::Accept),
            Role::Connected if self.is_receiving => {
                Some(Step::Recv { size_bytes: self.recv_bytes })
            }
            Role::Listener | Role::Connecting | Role::Connected => None,
        }
    }

    /// A connection was accepted, or could not be. Returns whether it is welcome.
    pub(super) fn on_accepted(&mut self, result: io::Result<()>, is_last: bool) -> bool {
        if is_last {
            self.incoming = Progress::Idle;
        }
        match result {
            Ok(()) => self.ending.is_none(),
            Err(error) => {
                // A caller that hung up before it was answered is no fault of the listener's.
                if error.raw_os_error() != Some(libc::ECONNABORTED) {
                    self.fail("accept at", error);
                }
                false
            }
        }
    }

    /// The connection was made, or could not be.
    pub(super) fn on_connected(&mut self, result: io::Result<()>, dones: &mut Vec<SocketDone>) {
        assert_eq!(self.role, Role::Connecting);
        self.outgoing = Progress::Idle;
        match result {
            Err(error) => self.fail("connect to", error),
            Ok(()) if self.ending.is_none() => {
                self.role = Role::Connected;
                dones.push(SocketDone::Connected { socket: self.id });
            }
            Ok(()) => {}
        }
    }

    /// Bytes arrived; none means that the peer ended its side.
    pub(super) fn on_received(&mut self, result: io::Result<Vec<u8>>, dones: &mut Vec<SocketDone>) {
        self.incoming = Progress::Idle;
        match result {
            Err(error) => self.fail("receive from", error),
            Ok(bytes) if bytes.is_empty() => self.close(),
            Ok(mut bytes) if self.ending.is_none() => {
                if bytes.len() == self.recv_bytes {
                    self.recv_bytes = (self.recv_bytes * 2).min(RECV_BYTES_MAX);
                } else if bytes.len() < self.recv_bytes / 4 {
                    self.recv_bytes = (self.recv_bytes / 2).max(RECV_BYTES_MIN);
                }
                if bytes.len() < bytes.capacity() / 2 {
                    bytes.shrink_to_fit();
                }
                dones.push(SocketDone::Received { socket: self.id, bytes });
            }
            Ok(_) => {}
        }
    }

    /// Of `bytes`, whose first `before_bytes` had gone earlier, some went, or none could.
    pub(super) fn on_sent(
        &mut self,
        bytes: Vec<u8>,
        before_bytes: usize,
        result: io::Result<usize>,
        dones: &mut Vec<SocketDone>,
    ) {
        self.outgoing = Progress::Idle;
        let sent_bytes = match result {
            Ok(size_bytes) => before_bytes + size_bytes,
            Err(error) => {
                self.fail("send to", error);
                before_bytes
            }
        };
        assert!(sent_bytes <= bytes.len());
        if sent_bytes < bytes.len() {
            self.sending = Some((bytes, sent_bytes));
        } else if self.ending.is_none() {
            dones.push(SocketDone::Sent { socket: self.id, bytes });
        }
    }

    /// This side has ended, or could not.
    pub(super) fn on_finished(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.fail("finish sending to", error);
        }
    }

    /// What to say at the end, after [`Step::End`].
    pub(super) fn end(self) -> SocketDone {
        match self.ending.expect("a socket ends for a reason") {
            Ending::Closed => SocketDone::Closed { socket: self.id },
            Ending::Failed { action, source } => {
                SocketDone::Failed { socket: self.id, action, source }
            }
        }
    }

    /// Ends the socket because of `source`, unless nothing is wrong: what was cancelled by a pause
    /// or interrupted is begun again when stepped.
    fn fail(&mut self, action: &str, source: io::Error) {
        let is_harmless =
            matches!(source.raw_os_error(), Some(libc::ECANCELED | libc::EINTR | libc::EAGAIN));
        if !is_harmless && source.kind() != io::ErrorKind::Interrupted && self.ending.is_none() {
            let action = format!("{action} {}", self.address);
            self.ending = Some(Ending::Failed { action, source });
        }
    }
}

#[cfg(test)]
mod tests;
