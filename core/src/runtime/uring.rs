//! A shard's sockets: `SocketOp`s in, `SocketDone`s out, over one `io_uring` per shard.
//!
//! ```text
//! submit(op) ──► Machine ──step──► Kernel::begin ──┐ one system call per poll, and only if
//!                   ▲                              ▼ something is queued or the kernel says so
//! poll(dones) ◄── on_… ◄──────── Kernel::reap ◄── kernel
//! ```
//!
//! Nothing is handed to the kernel before the next [`Ring::poll`] or [`Ring::park`]: what a turn
//! wants travels in one system call, and what it takes back in time never happens. A connection
//! that is resumed receives at most one buffer per poll.
//!
//! Requests for a socket that is gone are ignored: its end and the request may have crossed.
//!
//! Invariant: an operation in flight implies an entry in `sockets`, as a socket ends only when both
//! its directions are quiet.
//! Not here: what the kernel may touch (`op_ring.rs`), what a socket does next (`uring/socket.rs`),
//! files (`storage_service.rs`), whether to park at all (the loop of the host).

mod door;
mod kernel;
mod socket;

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use millstream_net::io::{SocketDone, SocketId, SocketOp};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use self::door::{Door, is_shortage};
use self::kernel::{Kernel, Op, Outcome, Ticket};
use self::socket::{Direction, Machine, Step};
use crate::limits::SHARD_COUNT_MAX;

pub(super) use self::door::connection_count_max;

/// Connections that may wait to be accepted. The system's own limit applies as well.
const BACKLOG_COUNT: i32 = 1024;

/// Ids of accepted connections: the mark, the shard in 15 bits, a count in 48.
const ACCEPTED_COUNT_BITS: u32 = 48;
const _: () = assert!(SHARD_COUNT_MAX <= 1 << 15);

/// The sockets of one shard. To be used on the thread that made it.
///
/// What a send was answered for has been handed to the system, not to the peer: as everywhere with
/// TCP, closing a connection that has unread bytes resets it, and the peer may miss the end.
///
/// A caller for whom there is no file descriptor waits until there is one, as does one too many.
pub struct Ring {
    kernel: Kernel,
    sockets: BTreeMap<SocketId, Open>,
    /// Sockets whose machines may have a step to do.
    awake: Vec<SocketId>,
    /// What is to be told at the next poll.
    dones: Vec<SocketDone>,
    /// The id of the next accepted connection.
    next_accepted: u64,
    door: Door,
    listeners: Vec<SocketId>,
}

struct Open {
    machine: Machine,
    socket: Rc<OwnedFd>,
    in_ticket: Option<Ticket>,
    out_ticket: Option<Ticket>,
}

impl Ring {
    /// A ring for the shard of this index, with as many of `SINGLE_ISSUER`, `DEFER_TASKRUN` and
    /// `TASKRUN_FLAG` as the kernel has, and for at most `connection_count_max` accepted
    /// connections at once. Must be made on the thread that uses it.
    ///
    /// # Errors
    /// The operating system's, if it allows no rings; `Unsupported` before Linux 5.11.
    ///
    /// # Panics
    /// If a node cannot have that many shards.
    pub fn new(shard_index: u32, connection_count_max: usize) -> io::Result<Self> {
        Ok(Self::over(Kernel::new()?, shard_index, connection_count_max))
    }

    fn over(kernel: Kernel, shard_index: u32, connection_count_max: usize) -> Self {
        assert!(shard_index < SHARD_COUNT_MAX);
        Self {
            kernel,
            sockets: BTreeMap::new(),
            awake: Vec::new(),
            dones: Vec::new(),
            next_accepted: SocketId::ACCEPTED | u64::from(shard_index) << ACCEPTED_COUNT_BITS,
            door: Door::new(connection_count_max),
            listeners: Vec::new(),
        }
    }

    /// Takes a request. What comes of it is told by a later [`Ring::poll`].
    ///
    /// # Panics
    /// If the request cannot be meant: an id that is in use, a send before the connection is open
    /// or before the last was answered, a listener told to receive.
    pub fn submit(&mut self, op: SocketOp) {
        let id = op.socket();
        match op {
            SocketOp::Listen { address, .. } => match listen(address) {
                Ok((socket, address)) => {
                    self.open(Machine::listener(id, address), socket, id);
                    self.listeners.push(id);
                    self.tell_listeners();
                    self.dones.push(SocketDone::Listening { socket: id, address });
                }
                Err(source) => self.refuse(id, format!("listen at {address}"), source),
            },
            SocketOp::Connect { address, .. } => match connection(address) {
                Ok(socket) => self.open(Machine::connecting(id, address), socket, id),
                Err(source) => self.refuse(id, format!("connect to {address}"), source),
            },
            SocketOp::Send { bytes, .. } => self.tell(id, |machine| machine.send(bytes)),
            SocketOp::Pause { .. } => self.tell(id, Machine::pause),
            SocketOp::Resume { .. } => self.tell(id, Machine::resume),
            SocketOp::Finish { .. } => self.tell(id, Machine::finish),
            SocketOp::Close { .. } => self.tell(id, Machine::close),
        }
    }

    /// Hands queued operations to the kernel and appends what has happened to `dones`. Makes no
    /// system call if nothing is queued and the kernel has nothing to say.
    pub fn poll(&mut self, dones: &mut Vec<SocketDone>) {
        self.step();
        self.kernel.submit();
        while let Some(completion) = self.kernel.reap() {
            self.on_outcome(completion.socket, completion.outcome, completion.is_last);
        }
        if self.kernel.has_rested() {
            self.door.on_rested();
            self.tell_listeners();
        }
        dones.append(&mut self.dones);
    }

    /// Hands queued operations to the kernel and sleeps until something happened on a socket, the
    /// eventfd is readable, or `timeout` has passed; perhaps shorter. To be followed by a
    /// [`Ring::poll`] and by draining the eventfd, which must be the same for all of a ring's life.
    pub fn park(&mut self, timeout: Duration, eventfd: BorrowedFd<'_>) {
        self.step();
        if self.dones.is_empty() {
            // Without a descriptor for the bell, a call is heard at the end of the timeout.
            let _ = self.kernel.watch(eventfd);
            self.kernel.wait(timeout);
        }
    }

    /// Whether there is nothing to wait for: no operation with the kernel, none to begin, nothing
    /// to tell. An open listener waits, as does a resumed connection; a paused one does not.
    pub fn is_idle(&self) -> bool {
        self.awake.is_empty() && self.dones.is_empty() && self.kernel.is_idle()
    }

    fn open(&mut self, machine: Machine, socket: Socket, id: SocketId) {
        let socket = Rc::new(socket.into());
        let open = Open { machine, socket, in_ticket: None, out_ticket: None };
        let before = self.sockets.insert(id, open);
        assert!(before.is_none(), "socket {id:?} is open already");
        self.awake.push(id);
    }

    fn refuse(&mut self, socket: SocketId, action: String, source: io::Error) {
        self.dones.push(SocketDone::Failed { socket, action, source });
    }

    fn tell(&mut self, id: SocketId, request: impl FnOnce(&mut Machine)) {
        if let Some(open) = self.sockets.get_mut(&id) {
            request(&mut open.machine);
            self.awake.push(id);
        }
    }

    /// Has the listeners accept callers, or let them wait.
    fn tell_listeners(&mut self) {
        let accepts = self.door.is_open();
        for index in 0..self.listeners.len() {
            let id = self.listeners[index];
            self.tell(id, |machine| machine.accept(accepts));
        }
    }

    /// Begins and cancels what the awake sockets want.
    fn step(&mut self) {
        let mut awake = mem::take(&mut self.awake);
        for id in awake.drain(..) {
            self.step_socket(id);
        }
        // The end of a connection wakes the listeners.
        awake.append(&mut self.awake);
        self.awake = awake;
    }

    fn step_socket(&mut self, id: SocketId) {
        // A socket may have been awake twice, and ended at the first step.
        while let Some(open) = self.sockets.get_mut(&id)
            && let Some(step) = open.machine.step()
        {
            let (op, ticket) = match step {
                Step::Accept => (Op::Accept, &mut open.in_ticket),
                Step::Recv { size_bytes } => {
                    (Op::Recv(Vec::with_capacity(size_bytes)), &mut open.in_ticket)
                }
                Step::Connect(address) => {
                    (Op::Connect(Box::new(SockAddr::from(address))), &mut open.out_ticket)
                }
                Step::Send { bytes, sent_bytes } => {
                    (Op::Send { bytes, sent_bytes }, &mut open.out_ticket)
                }
                Step::Cancel(direction) => {
                    let ticket = match direction {
                        Direction::In => open.in_ticket,
                        Direction::Out => open.out_ticket,
                    };
                    self.kernel.cancel(ticket.expect("what is busy has a ticket"));
                    continue;
                }
                Step::Finish => {
                    // It does not wait: the system sends the end when it has sent the rest.
                    let result = SockRef::from(&*open.socket).shutdown(Shutdown::Write);
                    open.machine.on_finished(result);
                    continue;
                }
                Step::End => {
                    let open = self.sockets.remove(&id).expect("just seen");
                    drop(open.socket);
                    self.dones.push(open.machine.end());
                    self.on_end(id);
                    continue;
                }
            };
            *ticket = Some(self.kernel.begin(id, &open.socket, op));
        }
    }

    fn on_end(&mut self, id: SocketId) {
        self.listeners.retain(|listener| *listener != id);
        if id.0 & SocketId::ACCEPTED != 0 {
            self.door.on_left();
            self.tell_listeners();
        }
    }

    fn on_outcome(&mut self, id: SocketId, outcome: Outcome, is_last: bool) {
        let open = self.sockets.get_mut(&id).expect("an open socket has operations, no other");
        self.awake.push(id);
        match outcome {
            Outcome::Accepted(result) => {
                let (result, socket) = match result {
                    Ok(socket) => (Ok(()), Some(socket)),
                    Err(error) if is_shortage(&error) => {
                        // Accepting is tried again: after the rest.
                        self.rest(id);
                        (Err(io::ErrorKind::Interrupted.into()), None)
                    }
                    Err(error) => (Err(error), None),
                };
                let open = self.sockets.get_mut(&id).expect("just seen");
                let is_welcome = open.machine.on_accepted(result, is_last);
                if let Some(socket) = socket.filter(|_| is_welcome) {
                    self.welcome(id, socket.into());
                }
            }
            Outcome::Connected(result) => {
                let result =
                    result.and_then(|()| check_connected(&open.socket, open.machine.address()));
                open.machine.on_connected(result, &mut self.dones);
            }
            Outcome::Received(result) => open.machine.on_received(result, &mut self.dones),
            Outcome::Sent { bytes, before_bytes, result } => {
                open.machine.on_sent(bytes, before_bytes, result, &mut self.dones);
            }
        }
    }

    /// Lets callers wait for a while.
    fn rest(&mut self, listener: SocketId) {
        if !self.door.rests() {
            self.kernel.rest();
        }
        if let Some(message) = self.door.on_shortage() {
            let address = self.sockets.get(&listener).map(|open| open.machine.address());
            tracing::warn!(?address, "{message}");
        }
        self.tell_listeners();
    }

    fn welcome(&mut self, listener: SocketId, socket: Socket) {
        // Both fail only if the peer has hung up already: then there is nobody to welcome.
        let peer = socket.set_tcp_nodelay(true).and_then(|()| socket.peer_addr());
        let Some(peer) = peer.ok().and_then(|peer| peer.as_socket()) else {
            return;
        };
        let id = SocketId(self.next_accepted);
        self.next_accepted += 1;
        self.open(Machine::accepted(id, peer), socket, id);
        self.dones.push(SocketDone::Accepted { listener, socket: id, peer });
        if let Some(message) = self.door.on_entered() {
            tracing::warn!("{message}");
        }
        self.tell_listeners();
    }
}

/// A listening socket at `address`, and where it really is.
fn listen(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    if !address.ip().to_canonical().is_loopback() {
        let reason = "only loopback addresses are served, as there is no mutual TLS for others";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG_COUNT)?;
    let address = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, address))
}

/// A socket that can be connected to `address`.
fn connection(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Refuses a connection to itself. Where nobody listens, the system may choose for the caller the
/// very port that is called, and TCP lets the two meet.
fn check_connected(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let is_itself = SockRef::from(socket).local_addr()?.as_socket() == Some(address);
    if is_itself { Err(io::Error::from_raw_os_error(libc::ECONNREFUSED)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
