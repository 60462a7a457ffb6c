//! Simulated sockets: the contract of `net/src/io.rs`, with scripted peers, a seed and faults.
//!
//! ```text
//! submit ──► what is under way, by the time it is due ──poll──► SocketDone
//!
//!            peer: bytes to send ──piece──────────────────────────► job, while it is resumed
//! job: send ──► the system's buffer ──piece──► what the peer has read
//! ```
//!
//! A connection has at most one piece under way in each direction, so bytes keep their order; how
//! large it is, how long it takes and whether it arrives is drawn. A send is answered when the
//! system has all of it, which is not when the peer has: a reset in between loses the rest. Who is
//! paused and sends nothing does not hear of a reset, nor of the peer's end, before it goes on.
//!
//! Every socket has one last answer. What is asked of a socket behind it is passed over, as the
//! answer may have been on its way.
//!
//! Not here: who the peers are ([`Peer`]); connections between two parts of a job, which are
//! refused.

mod peer;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use millstream_net::io::{SocketDone, SocketId, SocketOp};

use crate::sim::rng::Rng;

pub use self::peer::{Peer, PeerEnds, PeerRole, SocketFaults};

/// The answers of Linux, by number, so that they read as real ones.
const EADDRINUSE: i32 = 98;
const ECONNRESET: i32 = 104;
const ECONNREFUSED: i32 = 111;

/// Ports that the system chooses begin here.
const CHOSEN_PORT: u16 = 40_000;

/// All sockets of a job, and its peers.
#[derive(Debug)]
pub struct Sockets {
    faults: SocketFaults,
    rng: Rng,
    peers: Vec<Peer>,
    /// By peer and connection: what it has read.
    received: Vec<Vec<Vec<u8>>>,
    open: BTreeMap<SocketId, Socket>,
    /// By when it is due, then by its number: whose socket, and what happens.
    under_way: BTreeMap<(Duration, u64), (u32, SocketId, Happening)>,
    happening_count: u64,
    /// Ports chosen for callers, and for listeners that asked for any.
    port_count: u64,
}

/// Something on its way to a socket.
#[derive(Debug)]
enum Happening {
    /// A listener or a call of the job is answered.
    Open,
    /// A peer calls a listener, to send this of its texts.
    Call { peer: usize, text: usize },
    /// A piece, or the peer's end, arrives at the job.
    In,
    /// A piece, or the job's end, arrives at the peer.
    Out,
    /// The system has all of a send.
    Sent { bytes: Vec<u8> },
    /// The last answer of a socket that was closed.
    Closed,
}

#[derive(Debug)]
struct Socket {
    shard: u32,
    /// Of the listener itself, or of a connection's peer.
    address: SocketAddr,
    kind: Kind,
    is_receiving: bool,
}

#[derive(Debug)]
enum Kind {
    /// A listener, or a call, that has not been answered.
    Opening {
        is_call: bool,
    },
    Listener,
    Connected(Connection),
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "both directions of both sides are independent")]
struct Connection {
    peer: usize,
    /// Which of the peer's connections it is.
    number: usize,
    /// What the peer has not sent.
    to_send: VecDeque<u8>,
    is_in_under_way: bool,
    /// The bytes of a send, and how many of them the system has.
    sending: Option<(Vec<u8>, usize)>,
    /// What the system has and the peer has not read.
    in_system: VecDeque<u8>,
    is_out_under_way: bool,
    is_finishing: bool,
    /// The peer has seen the end of the job's side.
    is_finished: bool,
    is_reset: bool,
}

impl Connection {
    /// A connection to `peer`, which will send `text`.
    fn new(peer: usize, number: usize, text: Option<&Vec<u8>>) -> Self {
        Self {
            peer,
            number,
            to_send: text.into_iter().flatten().copied().collect(),
            is_in_under_way: false,
            sending: None,
            in_system: VecDeque::new(),
            is_out_under_way: false,
            is_finishing: false,
            is_finished: false,
            is_reset: false,
        }
    }

    /// Whether the peer has ended its side, or does so next.
    fn has_ended(&self, ends: PeerEnds) -> bool {
        self.to_send.is_empty()
            && match ends {
                PeerEnds::AfterSending => true,
                PeerEnds::AfterReading => self.is_finished,
                PeerEnds::Never => false,
            }
    }

    /// The system takes of a send what it has room for; the send's bytes, if that was the rest.
    fn fill(&mut self, buffer_bytes: usize) -> Option<Vec<u8>> {
        let (bytes, taken_bytes) = self.sending.as_mut()?;
        let room = buffer_bytes.max(1).saturating_sub(self.in_system.len());
        let end = bytes.len().min(*taken_bytes + room);
        self.in_system.extend(&bytes[*taken_bytes..end]);
        *taken_bytes = end;
        if end < bytes.len() { None } else { self.sending.take().map(|(bytes, _)| bytes) }
    }
}

impl Sockets {
    /// No sockets yet, and `peers` outside.
    pub fn new(rng: Rng, faults: SocketFaults, peers: Vec<Peer>) -> Self {
        Self {
            faults,
            rng,
            received: vec![Vec::new(); peers.len()],
            peers,
            open: BTreeMap::new(),
            under_way: BTreeMap::new(),
            happening_count: 0,
            port_count: 0,
        }
    }

    /// Accepts `op` of shard `shard` at `now`.
    ///
    /// # Panics
    /// If the requester breaks the contract: two sends at a time, or one behind the end.
    pub fn submit(&mut self, now: Duration, shard: u32, op: SocketOp) {
        let id = op.socket();
        if let SocketOp::Listen { address, .. } | SocketOp::Connect { address, .. } = op {
            let kind = Kind::Opening { is_call: matches!(op, SocketOp::Connect { .. }) };
            let opening = Socket { shard, address, kind, is_receiving: false };
            assert!(self.open.insert(id, opening).is_none(), "{id:?} is open");
            return self.happen(now, id, Happening::Open);
        }
        let Some(socket) = self.open.get_mut(&id) else { return };
        match (op, &mut socket.kind) {
            (SocketOp::Close { .. }, _) => return self.close(now, id),
            (SocketOp::Pause { .. }, _) => socket.is_receiving = false,
            (SocketOp::Resume { .. }, kind) => {
                assert!(!matches!(kind, Kind::Listener), "a listener receives nothing");
                socket.is_receiving = true;
            }
            (SocketOp::Send { bytes, .. }, Kind::Connected(connection)) => {
                assert!(connection.sending.is_none(), "one send at a time");
                assert!(!connection.is_finishing, "nothing is sent behind the end");
                connection.sending = Some((bytes, 0));
                self.take(now, id);
            }
            (SocketOp::Finish { .. }, Kind::Connected(connection)) => {
                connection.is_finishing = true;
            }
            (op, kind) => panic!("{op:?} is not for {kind:?}"),
        }
        self.go_on(now, id);
    }

    /// Carries out what is due by `now` and appends what the shards are told, earliest first.
    pub fn poll(&mut self, now: Duration, dones: &mut Vec<(u32, SocketDone)>) {
        while let Some(entry) = self.under_way.first_entry() {
            if now < entry.key().0 {
                break;
            }
            let ((due, _), (shard, id, happening)) = entry.remove_entry();
            let done = match happening {
                Happening::Closed => Some(SocketDone::Closed { socket: id }),
                _ if !self.open.contains_key(&id) => None,
                Happening::Open => self.open(due, id),
                Happening::Call { peer, text } => Some(self.accept(id, peer, text)),
                Happening::In => self.on_in(id),
                Happening::Out => self.on_out(due, id),
                Happening::Sent { bytes } => Some(SocketDone::Sent { socket: id, bytes }),
            };
            self.go_on(due, id);
            dones.extend(done.map(|done| (shard, done)));
        }
    }

    /// When something happens next on a socket of shard `shard`.
    pub fn next_due(&self, shard: u32) -> Option<Duration> {
        let mut own = self.under_way.iter().filter(|(_, (owner, ..))| *owner == shard);
        own.next().map(|((due, _), _)| *due)
    }

    /// What each peer has read, by connection.
    pub fn into_received(self) -> Vec<Vec<Vec<u8>>> {
        self.received
    }

    fn socket(&mut self, id: SocketId) -> &mut Socket {
        self.open.get_mut(&id).expect("the caller has looked")
    }

    fn connection(&mut self, id: SocketId) -> &mut Connection {
        match &mut self.socket(id).kind {
            Kind::Connected(connection) => connection,
            kind => panic!("{kind:?} has no two sides"),
        }
    }

    /// Lets `happening` come to socket `id` after a time that is drawn.
    fn happen(&mut self, now: Duration, id: SocketId, happening: Happening) {
        let shard = self.socket(id).shard;
        let mut due = now + self.rng.duration(&self.faults.latency);
        if self.rng.draw(self.faults.stall) {
            due += self.rng.duration(&self.faults.stall_latency);
        }
        self.under_way.insert((due, self.happening_count), (shard, id, happening));
        self.happening_count += 1;
    }

    /// Sends the next pieces of connection `id` on their way, if it is one.
    fn go_on(&mut self, now: Duration, id: SocketId) {
        let Some(Socket { kind: Kind::Connected(connection), is_receiving, .. }) =
            self.open.get_mut(&id)
        else {
            return;
        };
        let ends = self.peers[connection.peer].ends;
        let has_in =
            !connection.to_send.is_empty() || connection.has_ended(ends) || connection.is_reset;
        let sends_in = *is_receiving && has_in && !connection.is_in_under_way;
        let has_end = connection.is_finishing && !connection.is_finished;
        let has_out = !connection.in_system.is_empty() || connection.sending.is_some() || has_end;
        let sends_out = has_out && !connection.is_out_under_way;
        connection.is_in_under_way |= sends_in;
        connection.is_out_under_way |= sends_out;
        if sends_in {
            self.happen(now, id, Happening::In);
        }
        if sends_out {
            self.happen(now, id, Happening::Out);
        }
    }

    /// Answers a listener or a call.
    fn open(&mut self, now: Duration, id: SocketId) -> Option<SocketDone> {
        let Socket { address, kind, .. } = self.socket(id);
        let (address, is_call) = (*address, matches!(kind, Kind::Opening { is_call: true }));
        let listens = |peer: &Peer| peer.role == PeerRole::Listens && peer.address == address;
        let found = self.peers.iter().position(listens);
        if !is_call {
            return Some(self.listen(now, id, found.is_some()));
        }
        let Some(peer) = found else {
            let reason = "nobody is simulated there; add a peer to SimConfig::peers, or give the \
                          job another source or sink in simulations";
            let source = io::Error::new(io::ErrorKind::Unsupported, reason);
            return self.fail(id, "connect to", source);
        };
        if self.rng.draw(self.faults.refused) {
            return self.fail(id, "connect to", io::Error::from_raw_os_error(ECONNREFUSED));
        }
        let text = self.received[peer].len();
        self.socket(id).kind = self.connected(peer, text);
        Some(SocketDone::Connected { socket: id })
    }

    fn connected(&mut self, peer: usize, text: usize) -> Kind {
        let number = self.received[peer].len();
        self.received[peer].push(Vec::new());
        Kind::Connected(Connection::new(peer, number, self.peers[peer].sends.get(text)))
    }

    fn listen(&mut self, now: Duration, id: SocketId, is_peers: bool) -> SocketDone {
        let mut address = self.socket(id).address;
        let listens =
            |socket: &Socket| matches!(socket.kind, Kind::Listener) && socket.address == address;
        if is_peers || self.open.values().any(listens) {
            let source = io::Error::from_raw_os_error(EADDRINUSE);
            return self.fail(id, "listen at", source).expect("it has not ended before");
        }
        if address.port() == 0 {
            address.set_port(self.choose_port());
        }
        let socket = self.socket(id);
        (socket.address, socket.kind) = (address, Kind::Listener);
        for peer in 0..self.peers.len() {
            let Peer { role, address: called, .. } = self.peers[peer];
            if role == PeerRole::Calls && called == address {
                for text in 0..self.peers[peer].sends.len() {
                    self.happen(now, id, Happening::Call { peer, text });
                }
            }
        }
        SocketDone::Listening { socket: id, address }
    }

    fn accept(&mut self, listener: SocketId, peer: usize, text: usize) -> SocketDone {
        let socket = SocketId(SocketId::ACCEPTED | self.port_count);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.choose_port()));
        let shard = self.socket(listener).shard;
        let kind = self.connected(peer, text);
        self.open.insert(socket, Socket { shard, address, kind, is_receiving: false });
        SocketDone::Accepted { listener, socket, peer: address }
    }

    fn choose_port(&mut self) -> u16 {
        self.port_count += 1;
        CHOSEN_PORT + (self.port_count % 20_000) as u16
    }

    /// The system takes what it has room for of what is being sent.
    fn take(&mut self, now: Duration, id: SocketId) {
        let buffer_bytes = self.faults.buffer_bytes;
        let connection = self.connection(id);
        if !connection.is_reset
            && let Some(bytes) = connection.fill(buffer_bytes)
        {
            self.happen(now, id, Happening::Sent { bytes });
        }
    }

    /// Size of a piece of at most `bytes`, which are some.
    fn piece_bytes(&mut self, bytes: usize) -> usize {
        1 + self.rng.below(self.faults.piece_bytes_max.min(bytes as u64)) as usize
    }

    fn on_in(&mut self, id: SocketId) -> Option<SocketDone> {
        self.connection(id).is_in_under_way = false;
        let is_reset = self.rng.draw(self.faults.reset);
        // What is on its way while the connection is paused may arrive all the same.
        let is_early = self.rng.chance(1, 2);
        let is_receiving = self.socket(id).is_receiving;
        let connection = self.connection(id);
        connection.is_reset |= is_reset;
        if connection.is_reset {
            return self.notice_reset(id);
        }
        let waiting_bytes = connection.to_send.len();
        if waiting_bytes > 0 && (is_receiving || is_early) {
            let size = self.piece_bytes(waiting_bytes);
            let bytes = self.connection(id).to_send.drain(..size).collect();
            return Some(SocketDone::Received { socket: id, bytes });
        }
        if waiting_bytes == 0 && is_receiving {
            self.open.remove(&id);
            return Some(SocketDone::Closed { socket: id });
        }
        None
    }

    fn on_out(&mut self, now: Duration, id: SocketId) -> Option<SocketDone> {
        self.connection(id).is_out_under_way = false;
        let is_reset = self.rng.draw(self.faults.reset);
        let connection = self.connection(id);
        connection.is_reset |= is_reset;
        if connection.is_reset {
            connection.in_system.clear();
            return self.notice_reset(id);
        }
        let waiting_bytes = connection.in_system.len();
        if waiting_bytes > 0 {
            let size = self.piece_bytes(waiting_bytes);
            let connection = self.connection(id);
            let (peer, number) = (connection.peer, connection.number);
            let piece: Vec<u8> = connection.in_system.drain(..size).collect();
            self.received[peer][number].extend(piece);
            self.take(now, id);
        } else if connection.is_finishing {
            connection.is_finished = true;
        }
        None
    }

    /// The job hears of a reset, if it is doing something with the connection.
    fn notice_reset(&mut self, id: SocketId) -> Option<SocketDone> {
        let is_receiving = self.socket(id).is_receiving;
        let connection = self.connection(id);
        let action = match (connection.sending.is_some() || connection.is_finishing, is_receiving) {
            (true, _) => "send to",
            (false, true) => "receive from",
            (false, false) => return None,
        };
        self.fail(id, action, io::Error::from_raw_os_error(ECONNRESET))
    }

    fn fail(&mut self, id: SocketId, action: &str, source: io::Error) -> Option<SocketDone> {
        let socket = self.open.remove(&id)?;
        let action = format!("{action} {}", socket.address);
        Some(SocketDone::Failed { socket: id, action, source })
    }

    /// The job closes a socket. The peer reads what the system has, unless something that it sent
    /// was not read: that resets the connection.
    fn close(&mut self, now: Duration, id: SocketId) {
        self.happen(now, id, Happening::Closed);
        if let Some(Socket { kind: Kind::Connected(connection), .. }) = self.open.remove(&id)
            && connection.to_send.is_empty()
            && !connection.is_reset
        {
            self.received[connection.peer][connection.number].extend(connection.in_system);
        }
    }
}
