//! Socket operations as values: what a shard asks of the network, and what comes back.
//!
//! Unlike a file operation, an opened socket keeps answering until it is closed: a listener
//! announces every connection, a connection announces every piece of received bytes while it is
//! *resumed*. Flow control is the requester's: after [`SocketOp::Pause`] at most what was already
//! on its way arrives, and TCP's window holds the peer back.
//!
//! Not here: who carries the operations out (`runtime/` and `sim/` of the engine).

use std::io;
use std::net::SocketAddr;

/// Names a socket of one requester. The requester chooses the ids of the sockets it opens; the
/// host chooses those of accepted connections, with [`SocketId::ACCEPTED`] set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

impl SocketId {
    /// This bit is set in the ids of accepted connections and in no other.
    pub const ACCEPTED: u64 = 1 << 63;
}

/// One wish of a shard to the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketOp {
    /// Listens at `address`. Hosts refuse addresses beyond loopback without mutual TLS.
    Listen {
        /// The requester's name for the listener.
        socket: SocketId,
        /// Where to listen; port 0 lets the system choose.
        address: SocketAddr,
    },
    /// Connects to `address`.
    Connect {
        /// The requester's name for the connection.
        socket: SocketId,
        /// Whom to call.
        address: SocketAddr,
    },
    /// Sends all of `bytes`; answered by [`SocketDone::Sent`]. One send at a time per connection.
    Send {
        /// Which connection.
        socket: SocketId,
        /// What to send; comes back for reuse.
        bytes: Vec<u8>,
    },
    /// Stops receiving.
    Pause {
        /// Which connection.
        socket: SocketId,
    },
    /// Receives (again). A new connection is paused.
    Resume {
        /// Which connection.
        socket: SocketId,
    },
    /// Ends this side of a connection, once everything sent has gone: the peer sees the end of the
    /// stream. Receiving goes on, if it is resumed, and when the peer has ended its side as well
    /// the connection is closed: what was sent has been taken in by a program, not only by its
    /// system.
    Finish {
        /// Which connection.
        socket: SocketId,
    },
    /// Closes a listener or a connection.
    Close {
        /// Which socket.
        socket: SocketId,
    },
}

impl SocketOp {
    /// The socket that this is about.
    pub fn socket(&self) -> SocketId {
        match self {
            Self::Listen { socket, .. }
            | Self::Connect { socket, .. }
            | Self::Send { socket, .. }
            | Self::Pause { socket }
            | Self::Resume { socket }
            | Self::Finish { socket }
            | Self::Close { socket } => *socket,
        }
    }
}

/// Something that happened on a socket.
#[derive(Debug)]
pub enum SocketDone {
    /// The listener is open at `address` (with the port that the system chose).
    Listening {
        /// Which listener.
        socket: SocketId,
        /// Where it listens.
        address: SocketAddr,
    },
    /// `listener` has a new connection from `peer`.
    Accepted {
        /// Which listener.
        listener: SocketId,
        /// The new connection, paused.
        socket: SocketId,
        /// Who called.
        peer: SocketAddr,
    },
    /// The connection is open, paused.
    Connected {
        /// Which connection.
        socket: SocketId,
    },
    /// Bytes arrived.
    Received {
        /// Which connection.
        socket: SocketId,
        /// At least one byte.
        bytes: Vec<u8>,
    },
    /// All bytes of the last send have been handed to the system.
    Sent {
        /// Which connection.
        socket: SocketId,
        /// The buffer of the request, for reuse.
        bytes: Vec<u8>,
    },
    /// The peer ended its side, or the socket was closed as asked. Nothing follows.
    Closed {
        /// Which socket.
        socket: SocketId,
    },
    /// The socket failed and is closed. Nothing follows.
    Failed {
        /// Which socket.
        socket: SocketId,
        /// What was being done, with the address: `connect to 127.0.0.1:7000`.
        action: String,
        /// The operating system's answer.
        source: io::Error,
    },
}

impl SocketDone {
    /// The socket whose owner must hear of this: for a new connection, its listener.
    pub fn owner(&self) -> SocketId {
        match self {
            Self::Accepted { listener, .. } => *listener,
            Self::Listening { socket, .. }
            | Self::Connected { socket }
            | Self::Received { socket, .. }
            | Self::Sent { socket, .. }
            | Self::Closed { socket }
            | Self::Failed { socket, .. } => *socket,
        }
    }
}
