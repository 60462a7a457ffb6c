//! Connections and what travels on them.

use super::*;

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
fn kernels_with_fewer_features_do_as_well() {
    for features in [Features::Cooperative, Features::Plain] {
        let mut kernel = Kernel::with(features).unwrap();
        kernel.accepts_many = false;
        let mut host = Host::new();
        host.ring = Ring::over(kernel, 0, 1_000);
        check_conversation(&mut host);
    }
}

#[test]
fn a_ring_talks_to_itself() {
    check_conversation(&mut Host::new());
}

/// A call of the ring to itself, a few bytes, and the end.
fn check_conversation(host: &mut Host) {
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
    let size_bytes = 16 << 20;
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
fn accepted_connections_have_ids_of_their_shard() {
    let mut host = Host::new();
    host.ring = Ring::new(5, 1_000).unwrap();
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
