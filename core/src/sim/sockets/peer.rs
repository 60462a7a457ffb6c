//! Who is at the other end of a job's sockets, and what may go wrong on the way.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use crate::sim::rng::Chance;

/// A program outside of the job that speaks TCP with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it listens, or whom it calls.
    pub address: SocketAddr,
    /// Who calls whom.
    pub role: PeerRole,
    /// What it sends on each connection, in the order in which they are made; nothing on further
    /// ones.
    pub sends: Vec<Vec<u8>>,
    /// When it ends its side of a connection.
    pub ends: PeerEnds,
}

/// Who calls whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerRole {
    /// It answers whoever of the job connects to its address.
    Listens,
    /// It calls a listener of the job as soon as there is one, once for each of its texts.
    Calls,
}

/// When a peer ends its side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEnds {
    /// When it has sent everything.
    AfterSending,
    /// When it has read everything and seen the end of the other side.
    AfterReading,
    /// It does not.
    Never,
}

impl Peer {
    /// Listens at `address`, sends one of `sends` on each connection, and ends it.
    pub fn serves(address: SocketAddr, sends: Vec<Vec<u8>>) -> Self {
        Self { address, role: PeerRole::Listens, sends, ends: PeerEnds::AfterSending }
    }

    /// Calls `address` for each of `sends`, sends it, and ends the connection.
    pub fn calls(address: SocketAddr, sends: Vec<Vec<u8>>) -> Self {
        Self { address, role: PeerRole::Calls, sends, ends: PeerEnds::AfterSending }
    }

    /// Listens at `address` and reads every connection to its end.
    pub fn reads(address: SocketAddr) -> Self {
        let ends = PeerEnds::AfterReading;
        Self { address, role: PeerRole::Listens, sends: Vec::new(), ends }
    }
}

/// The faults of sockets. The default is a healthy network with a life of its own: bytes come in
/// pieces of any size, some peers are slow now and then, and nothing fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFaults {
    /// How long a call or a piece of bytes takes.
    pub latency: Range<Duration>,
    /// Most bytes that arrive at once, on either side. Greater than zero.
    pub piece_bytes_max: u64,
    /// Bytes that the system takes from the job before the peer has read them. A reset loses them.
    pub buffer_bytes: usize,
    /// How probable it is that a peer is slow with a piece.
    pub stall: Chance,
    /// What a slow one takes in addition.
    pub stall_latency: Range<Duration>,
    /// How probable it is that a call of the job is refused.
    pub refused: Chance,
    /// How probable it is, for each piece, that the connection is reset instead.
    pub reset: Chance,
}

impl Default for SocketFaults {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(5)..Duration::from_micros(500),
            piece_bytes_max: 1_500,
            buffer_bytes: 4 << 10,
            stall: Chance::one_in(50),
            stall_latency: Duration::ZERO..Duration::from_millis(20),
            refused: Chance::NEVER,
            reset: Chance::NEVER,
        }
    }
}
