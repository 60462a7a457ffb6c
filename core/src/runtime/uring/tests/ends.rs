//! How sockets end: refused, reset, closed, dropped.

use super::*;

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
fn a_finished_connection_delivers_everything_and_waits_for_the_peers_end() {
    let mut host = Host::new();
    let (socket, mut peer) = host.connection();
    host.ring.submit(SocketOp::Resume { socket });
    let sent = pattern(1 << 20);
    host.ring.submit(SocketOp::Send { socket, bytes: sent.clone() });
    host.ring.submit(SocketOp::Finish { socket });
    let reader = thread::spawn(move || {
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        (peer, received)
    });
    assert!(matches!(host.next(), SocketDone::Sent { .. }));
    host.until(|_| reader.is_finished());
    let (peer, received) = reader.join().unwrap();
    assert!(received == sent, "{} bytes arrived", received.len());
    host.expect_silence();
    drop(peer);
    assert_closed(&host.next(), socket);
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
fn a_connection_to_itself_is_refused() {
    let socket = connection(any_port()).unwrap();
    socket.bind(&any_port().into()).unwrap();
    let address = socket.local_addr().unwrap();
    socket.connect(&address).unwrap();
    let error = check_connected(&socket.into(), address.as_socket().unwrap()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}
