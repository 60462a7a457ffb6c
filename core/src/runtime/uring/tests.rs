//! The ring against real sockets of the standard library, on loopback.
#![expect(clippy::unwrap_used, reason = "a test may fail that way")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Instant;

use super::socket::RECV_BYTES_MAX;
use super::*;
use crate::runtime::op_ring::Features;
use crate::runtime::parking::Parker;

mod callers;
mod data;
mod ends;
mod park;

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
        Self { ring: Ring::new(0, 1_000).unwrap(), parker, dones: Vec::new() }
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
