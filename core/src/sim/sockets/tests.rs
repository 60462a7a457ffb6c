//! Calls, pieces, pauses, half closes and resets, op by op.

use super::*;
use crate::sim::rng::Chance;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

const SOCKET: SocketId = SocketId(1);

/// A job of one shard, and its sockets.
struct Bench {
    sockets: Sockets,
    now: Duration,
}

impl Bench {
    fn new(seed: u64, faults: SocketFaults, peers: Vec<Peer>) -> Self {
        Self { sockets: Sockets::new(Rng::new(seed), faults, peers), now: Duration::ZERO }
    }

    fn ask(&mut self, op: SocketOp) {
        self.sockets.submit(self.now, 0, op);
    }

    /// What the job is told next.
    fn next(&mut self) -> Option<SocketDone> {
        while let Some(due) = self.sockets.next_due(0) {
            assert!(self.now <= due, "time went back");
            self.now = due;
            let mut dones = Vec::new();
            self.sockets.poll(due, &mut dones);
            assert!(dones.len() < 2, "no two things are due at once: {dones:?}");
            if let Some((shard, done)) = dones.pop() {
                assert_eq!(shard, 0);
                return Some(done);
            }
        }
        None
    }

    fn connect(&mut self, port: u16) -> Option<SocketDone> {
        self.ask(SocketOp::Connect { socket: SOCKET, address: address(port) });
        self.next()
    }
}

fn failure(done: Option<SocketDone>) -> String {
    match done {
        Some(SocketDone::Failed { action, source, .. }) => format!("{action}: {source}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_peer_sends_comes_in_pieces_and_then_its_end() {
    let text: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    for seed in 0..50 {
        let faults = SocketFaults { piece_bytes_max: 1 + seed * 40, ..SocketFaults::default() };
        let peer = Peer::serves(address(7), vec![text.clone()]);
        let mut bench = Bench::new(seed, faults, vec![peer]);
        assert!(matches!(bench.connect(7), Some(SocketDone::Connected { .. })));
        assert!(bench.next().is_none(), "a new connection is paused");
        bench.ask(SocketOp::Resume { socket: SOCKET });
        let mut received = Vec::new();
        loop {
            match bench.next() {
                Some(SocketDone::Received { bytes, .. }) => received.extend(bytes),
                Some(SocketDone::Closed { socket: SOCKET }) => break,
                other => panic!("seed {seed}: {other:?}"),
            }
            if received.len() % 3 == 0 {
                bench.ask(SocketOp::Pause { socket: SOCKET });
                // At most what was on its way.
                if let Some(SocketDone::Received { bytes, .. }) = bench.next() {
                    received.extend(bytes);
                }
                assert!(bench.next().is_none(), "seed {seed}: it is paused");
                bench.ask(SocketOp::Resume { socket: SOCKET });
            }
        }
        assert!(received == text, "seed {seed}: {} bytes", received.len());
        assert!(bench.next().is_none(), "nothing follows");
    }
}

#[test]
fn a_send_is_answered_when_the_system_has_it_and_the_end_when_the_peer_has_read_it() {
    for seed in 0..50 {
        let faults = SocketFaults { buffer_bytes: 100, ..SocketFaults::default() };
        let mut bench = Bench::new(seed, faults, vec![Peer::reads(address(7))]);
        bench.connect(7);
        bench.ask(SocketOp::Resume { socket: SOCKET });
        for round in 1..=3 {
            bench.ask(SocketOp::Send { socket: SOCKET, bytes: vec![b'x'; 1_000] });
            let sent = bench.next();
            assert!(matches!(sent, Some(SocketDone::Sent { .. })), "seed {seed}: {sent:?}");
            let read_bytes = bench.sockets.received[0][0].len();
            assert!((round * 1_000 - 100..=round * 1_000).contains(&read_bytes), "{read_bytes}");
        }
        bench.ask(SocketOp::Finish { socket: SOCKET });
        let end = bench.next();
        assert!(matches!(end, Some(SocketDone::Closed { .. })), "seed {seed}: {end:?}");
        assert_eq!(bench.sockets.into_received()[0][0].len(), 3_000);
    }
}

#[test]
fn nobody_answers_where_nobody_is_and_a_peer_may_refuse() {
    let faults = SocketFaults { refused: Chance::ALWAYS, ..SocketFaults::default() };
    let mut bench = Bench::new(1, faults, vec![Peer::reads(address(7))]);
    let refused = "connect to 127.0.0.1:7: Connection refused (os error 111)";
    assert_eq!(failure(bench.connect(7)), refused);
    let nobody = failure(bench.connect(8));
    assert!(nobody.starts_with("connect to 127.0.0.1:8: nobody is simulated there"), "{nobody}");
}

#[test]
fn a_reset_is_told_once_and_only_to_who_reads_or_sends() {
    let faults = SocketFaults { reset: Chance::ALWAYS, ..SocketFaults::default() };
    let peer = Peer { ends: PeerEnds::Never, ..Peer::serves(address(7), vec![vec![b'x'; 10]]) };
    let mut bench = Bench::new(1, faults.clone(), vec![peer.clone()]);
    bench.connect(7);
    bench.ask(SocketOp::Resume { socket: SOCKET });
    bench.ask(SocketOp::Pause { socket: SOCKET });
    assert!(bench.next().is_none(), "it is paused");
    bench.ask(SocketOp::Resume { socket: SOCKET });
    let reset = "receive from 127.0.0.1:7: Connection reset by peer (os error 104)";
    assert_eq!(failure(bench.next()), reset);
    bench.ask(SocketOp::Close { socket: SOCKET });
    assert!(bench.next().is_none(), "the last answer is the last");

    let mut bench = Bench::new(1, faults, vec![peer]);
    bench.connect(7);
    bench.ask(SocketOp::Send { socket: SOCKET, bytes: vec![b'y'; 10] });
    assert!(matches!(bench.next(), Some(SocketDone::Sent { .. })));
    assert!(bench.next().is_none(), "it does nothing with the connection");
    bench.ask(SocketOp::Send { socket: SOCKET, bytes: vec![b'y'; 10] });
    let reset = "send to 127.0.0.1:7: Connection reset by peer (os error 104)";
    assert_eq!(failure(bench.next()), reset);
    assert_eq!(bench.sockets.into_received(), [[b""]], "what the system had is lost");
}

#[test]
fn callers_are_accepted_and_a_listener_has_its_address_alone() {
    let caller = Peer::calls(address(7), vec![b"first".to_vec(), b"second".to_vec()]);
    let mut bench = Bench::new(1, SocketFaults::default(), vec![caller]);
    bench.ask(SocketOp::Listen { socket: SOCKET, address: address(7) });
    assert!(matches!(bench.next(), Some(SocketDone::Listening { .. })));
    let mut texts = Vec::new();
    for _ in 0..2 {
        let Some(SocketDone::Accepted { listener: SOCKET, socket, .. }) = bench.next() else {
            panic!("nobody calls");
        };
        assert!(socket.0 & SocketId::ACCEPTED != 0);
        texts.push(socket);
    }
    let second = SocketId(2);
    bench.ask(SocketOp::Listen { socket: second, address: address(7) });
    let taken = "listen at 127.0.0.1:7: Address already in use (os error 98)";
    assert_eq!(failure(bench.next()), taken);
    bench.ask(SocketOp::Listen { socket: second, address: address(0) });
    let Some(SocketDone::Listening { address, .. }) = bench.next() else { panic!("it is free") };
    assert_ne!(address.port(), 0);
    bench.ask(SocketOp::Close { socket: SOCKET });
    assert!(matches!(bench.next(), Some(SocketDone::Closed { socket: SOCKET })));
    for socket in texts {
        bench.ask(SocketOp::Resume { socket });
        let bytes = std::iter::from_fn(|| match bench.next() {
            Some(SocketDone::Received { bytes, .. }) => Some(bytes),
            _ => None,
        });
        let text = bytes.flatten().collect::<Vec<u8>>();
        assert!([&b"first"[..], b"second"].contains(&&text[..]), "{text:?}");
    }
}
