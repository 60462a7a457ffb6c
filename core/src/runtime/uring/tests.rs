//! The ring against real sockets of the standard library, on loopback.
#![expect(clippy::unwrap_used, reason = "a test may fail that way")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Instant;

use super::socket::RECV_BYTES_MAX;
use super::*;
use crate::runtime::parking::Parker;

/// The socket that the tests ask for.
const ID: SocketId = SocketId(1);

/// Nothing here takes longer; what does has hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// A ring, and what it has told that nobody looked at.
struct Host {
    ring: Ring,
    parker: Parker,
    dones: Vec<SocketDone>,
}

impl Host {
    fn new() -> Self {
        let parker = Parker::with_eventfd().unwrap();
        Self { ring: Ring::new(0).unwrap(), parker, dones: Vec::new() }
    }

    fn turn(&mut self) {
        self.ring.poll(&mut self.dones);
        if self.dones.is_empty() {
            self.ring.park(Duration::from_millis(1), self.parker.eventfd());
            self.ring.poll(&mut self.dones);
        }
    }

    /// The next thing that happens.
    fn next(&mut self) -> SocketDone {
        let start = Instant::now();
        while self.dones.is_empty() {
            assert!(start.elapsed() < PATIENCE, "nothing happens");
            self.turn();
        }
        self.dones.remove(0)
    }

    /// Turns until `is_done`.
    fn until(&mut self, mut is_done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !is_done(self) {
            assert!(start.elapsed() < PATIENCE, "it does not happen; told {:?}", self.dones);
            self.turn();
        }
    }

    /// Expects that nothing happens during some turns.
    fn expect_silence(&mut self) {
        for _ in 0..20 {
            self.turn();
            assert!(self.dones.is_empty(), "told {:?}", self.dones);
        }
    }

    fn listen(&mut self) -> SocketAddr {
        self.ring.submit(SocketOp::Listen { socket: ID, address: any_port() });
        match self.next() {
            SocketDone::Listening { socket: ID, address } => address,
            other => panic!("told {other:?}"),
        }
    }

    fn accepted(&mut self) -> (SocketId, SocketAddr) {
        match self.next() {
            SocketDone::Accepted { listener: ID, socket, peer } => (socket, peer),
            other => panic!("told {other:?}"),
        }
    }

    /// A connection accepted by this ring, and its peer.
    fn connection(&mut self) -> (SocketId, TcpStream) {
        let address = self.listen();
        let peer = TcpStream::connect(address).unwrap();
        (self.accepted().0, peer)
    }

    fn received(&mut self, from: SocketId) -> Vec<u8> {
        match self.next() {
            SocketDone::Received { socket, bytes } if socket == from => bytes,
            other => panic!("told {other:?}"),
        }
    }

    fn send(&mut self, socket: SocketId, bytes: Vec<u8>) -> Vec<u8> {
        self.ring.submit(SocketOp::Send { socket, bytes });
        match self.next() {
            SocketDone::Sent { socket: to, bytes } if to == socket => bytes,
            other => panic!("told {other:?}"),
        }
    }

    /// Closes `socket` and expects no other news of it.
    fn close(&mut self, socket: SocketId) {
        self.ring.submit(SocketOp::Close { socket });
        assert_closed(&self.next(), socket);
    }

    fn failure(&mut self) -> (String, io::Error) {
        match self.next() {
            SocketDone::Failed { socket: ID, action, source } => (action, source),
            other => panic!("told {other:?}"),
        }
    }
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// An address where nobody listens, as of now.
fn free_address() -> SocketAddr {
    TcpListener::bind(any_port()).unwrap().local_addr().unwrap()
}

fn assert_closed(done: &SocketDone, expected: SocketId) {
    assert!(
        matches!(done, SocketDone::Closed { socket } if *socket == expected),
        "told {done:?}, expected the end of {expected:?}"
    );
}

/// `count` bytes in an order that shows what is missing or misplaced.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index % 251) as u8).collect()
}

#[test]
fn an_echo_comes_back() {
    let mut host = Host::new();
    let (socket, mut peer) = host.connection();
    assert_ne!(socket.0 & SocketId::ACCEPTED, 0);
    host.ring.submit(SocketOp::Resume { socket });
    for text in ["a", "bc", "def"] {
        peer.write_all(text.as_bytes()).unwrap();
        let bytes = host.received(socket);
        assert_eq!(bytes, text.as_bytes());
        assert_eq!(host.send(socket, bytes), text.as_bytes());
        let mut echo = vec![0; text.len()];
        peer.read_exact(&mut echo).unwrap();
        assert_eq!(echo, text.as_bytes());
    }
    drop(peer);
    assert_closed(&host.next(), socket);
    host.close(ID);
    assert!(host.ring.is_idle());
}

#[test]
fn a_ring_talks_to_itself() {
    let mut host = Host::new();
    let address = host.listen();
    let caller = SocketId(2);
    host.ring.submit(SocketOp::Connect { socket: caller, address });
    host.until(|host| host.dones.len() == 2);
    host.dones.sort_by_key(SocketDone::owner);
    let (answerer, _) = host.accepted();
    assert!(matches!(host.next(), SocketDone::Connected { socket } if socket == caller));
    host.ring.submit(SocketOp::Resume { socket: answerer });
    host.send(caller, b"hello".to_vec());
    assert_eq!(host.received(answerer), b"hello");
    host.close(caller);
    assert_closed(&host.next(), answerer);
}

#[test]
fn many_small_sends_arrive_in_order() {
    let mut host = Host::new();
    let (socket, mut peer) = host.connection();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let mut bytes = Vec::new();
    for number in 0..5_000_u32 {
        bytes.clear();
        bytes.extend(number.to_le_bytes());
        bytes = host.send(socket, bytes);
    }
    host.close(socket);
    let expected: Vec<u8> = (0..5_000_u32).flat_map(u32::to_le_bytes).collect();
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn a_large_send_to_a_slow_reader_is_continued() {
    let mut host = Host::new();
    let (socket, mut peer) = host.connection();
    let size_bytes = 32 << 20;
    host.ring.submit(SocketOp::Send { socket, bytes: pattern(size_bytes) });
    host.expect_silence();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let SocketDone::Sent { bytes, .. } = host.next() else { panic!("told {:?}", host.dones) };
    assert_eq!(bytes.len(), size_bytes);
    host.close(socket);
    assert!(reader.join().unwrap() == pattern(size_bytes));
}

#[test]
fn while_paused_nothing_is_received_and_the_peer_is_held_back() {
    let size_bytes = 64 << 20;
    let mut host = Host::new();
    let (socket, mut peer) = host.connection();
    let writer = thread::spawn(move || peer.write_all(&pattern(size_bytes)).unwrap());
    host.expect_silence();

    let mut received = Vec::new();
    while received.len() < size_bytes {
        host.ring.submit(SocketOp::Resume { socket });
        let bytes = host.received(socket);
        assert!(bytes.len() <= RECV_BYTES_MAX);
        received.extend(bytes);
        if received.len() % 16 == 0 {
            host.ring.submit(SocketOp::Pause { socket });
            host.expect_quiet_after_pause(socket, &mut received);
        }
    }
    assert!(received == pattern(size_bytes));
    writer.join().unwrap();
}

impl Host {
    /// Expects at most one piece, already on its way, then nothing.
    fn expect_quiet_after_pause(&mut self, socket: SocketId, received: &mut Vec<u8>) {
        self.ring.poll(&mut self.dones);
        assert!(self.dones.len() <= 1);
        if !self.dones.is_empty() {
            received.extend(self.received(socket));
        }
        self.ring.poll(&mut self.dones);
        self.ring.poll(&mut self.dones);
        assert!(self.dones.is_empty(), "told {:?}", self.dones);
    }
}

#[test]
fn a_reset_fails_with_the_peers_address() {
    let mut host = Host::new();
    let peer = TcpListener::bind(any_port()).unwrap();
    let address = peer.local_addr().unwrap();
    host.ring.submit(SocketOp::Connect { socket: ID, address });
    assert!(matches!(host.next(), SocketDone::Connected { socket: ID }));
    let (peer, _) = peer.accept().unwrap();
    host.ring.submit(SocketOp::Resume { socket: ID });
    host.send(ID, b"unread".to_vec());
    host.expect_silence();
    // Closing with unread bytes resets.
    drop(peer);
    let (action, source) = host.failure();
    assert_eq!(action, format!("receive from {address}"));
    assert_eq!(source.kind(), io::ErrorKind::ConnectionReset);
    assert!(host.ring.is_idle());
}

#[test]
fn a_send_to_a_peer_that_is_gone_fails() {
    let mut host = Host::new();
    let peer = TcpListener::bind(any_port()).unwrap();
    let address = peer.local_addr().unwrap();
    host.ring.submit(SocketOp::Connect { socket: ID, address });
    assert!(matches!(host.next(), SocketDone::Connected { socket: ID }));
    drop(peer.accept().unwrap());
    drop(peer);
    // The first may be taken by the system before it hears the peer's reset.
    let failure = loop {
        host.ring.submit(SocketOp::Send { socket: ID, bytes: vec![0; 100] });
        match host.next() {
            SocketDone::Sent { .. } => {}
            done => break done,
        }
    };
    let SocketDone::Failed { action, source, .. } = failure else { panic!("told {failure:?}") };
    assert_eq!(action, format!("send to {address}"));
    let kinds = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
    assert!(kinds.contains(&source.kind()), "failed by {source}");
}

#[test]
fn a_half_close_ends_the_connection_after_the_last_bytes() {
    let mut host = Host::new();
    let (socket, mut peer) = host.connection();
    peer.write_all(b"last words").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    host.expect_silence();
    host.ring.submit(SocketOp::Resume { socket });
    assert_eq!(host.received(socket), b"last words");
    assert_closed(&host.next(), socket);
    let mut rest = Vec::new();
    assert_eq!(peer.read_to_end(&mut rest).unwrap(), 0);
}

#[test]
fn a_refused_connection_fails() {
    let mut host = Host::new();
    let address = free_address();
    host.ring.submit(SocketOp::Connect { socket: ID, address });
    let (action, source) = host.failure();
    assert_eq!(action, format!("connect to {address}"));
    assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
    assert!(host.ring.is_idle());
}

#[test]
fn an_address_in_use_is_refused_and_can_be_used_again_once_closed() {
    let mut host = Host::new();
    let other = TcpListener::bind(any_port()).unwrap();
    let address = other.local_addr().unwrap();
    host.ring.submit(SocketOp::Listen { socket: ID, address });
    let (action, source) = host.failure();
    assert_eq!(action, format!("listen at {address}"));
    assert_eq!(source.kind(), io::ErrorKind::AddrInUse);

    drop(other);
    for _ in 0..3 {
        host.ring.submit(SocketOp::Listen { socket: ID, address });
        assert!(matches!(host.next(), SocketDone::Listening { socket: ID, .. }));
        let _peer = TcpStream::connect(address).unwrap();
        let (socket, _) = host.accepted();
        host.close(socket);
        host.close(ID);
    }
}

#[test]
fn only_loopback_is_served() {
    let mut host = Host::new();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
        host.ring.submit(SocketOp::Listen { socket: ID, address: address.parse().unwrap() });
        let (action, source) = host.failure();
        assert_eq!(action, format!("listen at {address}"));
        assert!(source.to_string().contains("loopback"), "failed by {source}");
    }
    assert!(host.ring.is_idle());
}

#[test]
fn accepted_connections_have_ids_of_their_shard() {
    let mut host = Host::new();
    host.ring = Ring::new(5).unwrap();
    let address = host.listen();
    let mut ids = Vec::new();
    for _ in 0..100 {
        let caller = TcpStream::connect(address).unwrap();
        let (socket, peer) = host.accepted();
        assert_eq!(peer, caller.local_addr().unwrap());
        assert_eq!(socket.0 >> ACCEPTED_COUNT_BITS, 1 << 15 | 5);
        ids.push(socket);
    }
    ids.dedup();
    assert_eq!(ids.len(), 100);
}

#[test]
fn more_operations_than_the_queue_holds_are_carried_out() {
    let mut host = Host::new();
    let address = host.listen();
    let count = 400;
    for number in 0..count {
        host.ring.submit(SocketOp::Connect { socket: SocketId(2 + number), address });
    }
    host.until(|host| host.dones.len() as u64 == 2 * count);
    let mut answerers = Vec::new();
    for done in host.dones.drain(..) {
        match done {
            SocketDone::Connected { .. } => {}
            SocketDone::Accepted { socket, .. } => answerers.push(socket),
            other => panic!("told {other:?}"),
        }
    }
    assert_eq!(answerers.len() as u64, count);
    for number in 0..count {
        let bytes = number.to_le_bytes().to_vec();
        host.ring.submit(SocketOp::Send { socket: SocketId(2 + number), bytes });
    }
    for socket in &answerers {
        host.ring.submit(SocketOp::Resume { socket: *socket });
    }
    host.until(|host| host.dones.len() as u64 == 2 * count);
    for socket in answerers {
        host.ring.submit(SocketOp::Close { socket });
    }
    host.dones.clear();
    host.until(|host| host.dones.len() as u64 == count);
    assert!(host.dones.iter().all(|done| matches!(done, SocketDone::Closed { .. })));
}

#[test]
fn closing_with_operations_outstanding_ends_them() {
    let mut host = Host::new();
    let (socket, mut peer) = host.connection();
    host.ring.submit(SocketOp::Resume { socket });
    host.ring.submit(SocketOp::Send { socket, bytes: pattern(32 << 20) });
    host.expect_silence();
    host.ring.submit(SocketOp::Close { socket: ID });
    host.ring.submit(SocketOp::Close { socket });
    host.until(|host| host.dones.len() == 2);
    host.dones.sort_by_key(SocketDone::owner);
    assert_closed(&host.dones[0], ID);
    assert_closed(&host.dones[1], socket);
    assert!(host.ring.is_idle());
    // What had been taken by the system arrives, then the end.
    let mut bytes = Vec::new();
    let taken = peer.read_to_end(&mut bytes).unwrap();
    assert!(taken < 32 << 20 && bytes == pattern(taken));
}

#[test]
fn closing_before_anything_was_handed_to_the_kernel() {
    let mut host = Host::new();
    let (socket, mut peer) = host.connection();
    host.ring.submit(SocketOp::Send { socket, bytes: b"never".to_vec() });
    host.close(socket);
    host.ring.submit(SocketOp::Close { socket });
    host.ring.submit(SocketOp::Send { socket, bytes: b"nobody".to_vec() });
    host.expect_silence();
    assert_eq!(peer.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn a_ring_dropped_with_operations_outstanding_lets_go_of_all() {
    let mut host = Host::new();
    let address = host.listen();
    let mut sending = TcpStream::connect(address).unwrap();
    let (first, _) = host.accepted();
    let mut receiving = TcpStream::connect(address).unwrap();
    let (second, _) = host.accepted();
    host.ring.submit(SocketOp::Send { socket: first, bytes: pattern(32 << 20) });
    host.ring.submit(SocketOp::Resume { socket: second });
    host.expect_silence();
    assert!(!host.ring.is_idle());

    let start = Instant::now();
    drop(host);
    assert!(start.elapsed() < Duration::from_secs(1), "the kernel let go of its loans");
    sending.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(receiving.read_to_end(&mut Vec::new()).unwrap(), 0);
    TcpListener::bind(address).unwrap();
}

#[test]
fn a_ring_dropped_before_anything_was_handed_to_the_kernel() {
    let mut host = Host::new();
    let (socket, _peer) = host.connection();
    host.ring.submit(SocketOp::Resume { socket });
    host.ring.submit(SocketOp::Send { socket, bytes: pattern(100) });
    host.ring.step();
    drop(host);
}

#[test]
fn parking_ends_when_the_bell_rings() {
    let mut host = Host::new();
    let _ = host.listen();
    for _ in 0..3 {
        let waker = host.parker.waker();
        let bell = thread::spawn(move || waker.kick());
        let start = Instant::now();
        host.ring.park(PATIENCE, host.parker.eventfd());
        assert!(start.elapsed() < PATIENCE / 2);
        bell.join().unwrap();
        host.parker.drain();
        host.ring.poll(&mut host.dones);
        assert!(host.dones.is_empty());
    }
    // A ring that nobody waited for ends the next wait.
    host.parker.waker().kick();
    let start = Instant::now();
    host.ring.park(PATIENCE, host.parker.eventfd());
    assert!(start.elapsed() < PATIENCE / 2);
}

#[test]
fn parking_ends_when_bytes_arrive() {
    let mut host = Host::new();
    let (socket, mut peer) = host.connection();
    host.ring.submit(SocketOp::Resume { socket });
    for _ in 0..3 {
        let writer = {
            let mut peer = peer.try_clone().unwrap();
            thread::spawn(move || peer.write_all(b"wake").unwrap())
        };
        let start = Instant::now();
        host.ring.park(PATIENCE, host.parker.eventfd());
        assert!(start.elapsed() < PATIENCE / 2);
        writer.join().unwrap();
        host.until(|host| !host.dones.is_empty());
        assert_eq!(host.received(socket), b"wake");
    }
    peer.write_all(b"more").unwrap();
}

#[test]
fn parking_ends_when_its_time_has_passed() {
    let mut host = Host::new();
    let timeout = Duration::from_millis(5);
    for _ in 0..3 {
        let start = Instant::now();
        host.ring.park(timeout, host.parker.eventfd());
        assert!(timeout <= start.elapsed() && start.elapsed() < PATIENCE);
        host.ring.poll(&mut host.dones);
    }
    assert!(host.ring.is_idle());
}

#[test]
fn parking_does_not_sleep_on_news() {
    let mut host = Host::new();
    host.ring.submit(SocketOp::Listen { socket: ID, address: any_port() });
    let start = Instant::now();
    host.ring.park(PATIENCE, host.parker.eventfd().as_fd());
    assert!(start.elapsed() < PATIENCE / 2);
    assert!(matches!(host.next(), SocketDone::Listening { .. }));
}
