//! Callers for whom there is no room wait, and are let in later.

use super::*;

#[test]
fn one_caller_too_many_waits_until_another_has_gone() {
    for accepts_many in [true, false] {
        let mut host = Host::new();
        let mut kernel = Kernel::new().unwrap();
        kernel.accepts_many = accepts_many;
        host.ring = Ring::over(kernel, 0, 1);
        let address = host.listen();
        let _first = TcpStream::connect(address).unwrap();
        let (socket, _) = host.accepted();
        host.expect_silence();
        let second = TcpStream::connect(address).unwrap();
        host.expect_silence();
        host.ring.submit(SocketOp::Close { socket });
        assert_closed(&host.next(), socket);
        assert_eq!(host.accepted().1, second.local_addr().unwrap());
    }
}

#[test]
fn a_listener_without_descriptors_rests_and_accepts_again() {
    let mut host = Host::new();
    let address = host.listen();
    host.turn();
    let shortage = || Outcome::Accepted(Err(io::Error::from_raw_os_error(libc::EMFILE)));
    host.ring.on_outcome(ID, shortage(), false);
    host.ring.on_outcome(ID, shortage(), false);
    assert!(!host.ring.door.is_open());
    let caller = TcpStream::connect(address).unwrap();
    assert_eq!(host.accepted().1, caller.local_addr().unwrap());
    assert!(host.ring.door.is_open());
    host.close(ID);
}
