//! Sans-IO networking: what a shard wants from its sockets, and what it says to other nodes, as
//! values.
//!
//! Nothing here opens a socket. Bytes leave as [`io::SocketOp`] and come back as
//! [`io::SocketDone`]; a host (a real one, or a simulated network) carries them out.

pub mod frame;
pub mod io;
