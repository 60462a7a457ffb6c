//! What ends the sleep of a ring.

use super::*;

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
