//! Operations are answered once, with what they own, cancelled or not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use millstream_storage::arena::Buffer;

use super::super::parking::Parker;
use super::*;

const LONG: Duration = Duration::from_secs(20);

fn uring() -> OpRing<u32> {
    OpRing::new(8).expect("io_uring is available")
}

/// Waits for `count` answers, sorted by tag.
fn wait(uring: &mut OpRing<u32>, count: usize) -> Vec<Completion<u32>> {
    let mut completions = Vec::new();
    while completions.len() < count {
        uring.wait(LONG, &mut completions).expect("the ring works");
    }
    completions.sort_by_key(|completion| completion.tag);
    completions
}

fn temporary_file() -> Rc<OwnedFd> {
    Rc::new(tempfile::tempfile().expect("a temporary file can be made").into())
}

fn connection() -> (TcpStream, Rc<OwnedFd>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let peer = TcpStream::connect(address).expect("it listens");
    let (socket, _) = listener.accept().expect("somebody called");
    (peer, Rc::new(socket.into()))
}

fn bytes_of(op: Option<Op>) -> Bytes {
    match op {
        Some(
            Op::Read { bytes, .. }
            | Op::Write { bytes, .. }
            | Op::Receive { bytes, .. }
            | Op::Send { bytes, .. },
        ) => bytes,
        other => panic!("no operation with bytes: {other:?}"),
    }
}

#[test]
fn more_operations_than_entries_write_and_read_back() {
    let mut uring = uring();
    let file = temporary_file();
    for number in 0..100_u32 {
        let bytes = Bytes::Vec(number.to_le_bytes().to_vec());
        let offset = u64::from(number) * 4;
        uring.start(number, Op::Write { file: Rc::clone(&file), offset, bytes, written: 0 });
    }
    assert_eq!(uring.in_flight_count(), 100);
    assert!(wait(&mut uring, 100).iter().all(|done| done.result.as_ref().is_ok_and(|n| *n == 4)));

    uring.start(0, Op::Sync { file: Rc::clone(&file), data_only: true });
    let bytes = Bytes::Vec(Vec::with_capacity(1_000));
    uring.start(1, Op::Read { file: Rc::clone(&file), offset: 0, len: 1_000, bytes });
    let mut buffer = Buffer::heap(64);
    buffer.extend_from_slice(b"head");
    let bytes = Bytes::Aligned(buffer);
    uring.start(2, Op::Read { file: Rc::clone(&file), offset: 4, len: 5, bytes });
    let mut done = wait(&mut uring, 3);
    assert_eq!(bytes_of(done.remove(2).op).as_slice(), b"head\x01\0\0\0\x02");
    let read = bytes_of(done.remove(1).op);
    assert_eq!(read.len(), 400);
    let numbers = read.as_slice().chunks(4).map(|chunk| chunk[0]);
    assert!(numbers.eq(0..100));
    assert_eq!(uring.in_flight_count(), 0);
}

#[test]
fn errors_come_back_with_the_operation() {
    let mut uring = uring();
    let (reader, _writer) = std::io::pipe().expect("descriptors are left");
    let file = Rc::new(reader.into());
    uring.start(7, Op::Write { file, offset: 0, bytes: Bytes::Vec(vec![1]), written: 0 });
    let done = wait(&mut uring, 1).remove(0);
    assert_eq!(done.result.expect_err("read only").raw_os_error(), Some(libc::EBADF));
    assert_eq!(bytes_of(done.op).as_slice(), [1]);
}

#[test]
fn accept_connect_send_and_receive() {
    let mut uring = uring();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound").into();
    let listener = Rc::new(listener.into());
    uring.start(0, Op::Accept { listener, goes_on: false });
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket: Rc<OwnedFd> = Rc::new(socket.expect("descriptors are left").into());
    uring.start(1, Op::Connect { socket: Rc::clone(&socket), address: Box::new(address) });
    let done = wait(&mut uring, 2).remove(0);
    let accepted = Rc::new(done.accepted.expect("somebody called"));

    uring.start(0, Op::Receive { socket: accepted, bytes: Bytes::Vec(Vec::with_capacity(64)) });
    uring.start(1, Op::Send { socket, bytes: Bytes::Vec(b"..hello".to_vec()), sent: 2 });
    assert_eq!(bytes_of(wait(&mut uring, 2).remove(0).op).as_slice(), b"hello");
}

#[test]
fn a_cancelled_operation_gives_its_buffer_back() {
    let mut uring = uring();
    let (mut peer, socket) = connection();
    let bytes = || Bytes::Vec(Vec::with_capacity(64));
    let number = uring.start(1, Op::Receive { socket: Rc::clone(&socket), bytes: bytes() });
    uring.cancel(number);
    let done = wait(&mut uring, 1).remove(0);
    assert_eq!(done.result.expect_err("cancelled").raw_os_error(), Some(libc::ECANCELED));

    // The slot is used again; a second cancellation of its old tenant does not hit the new one.
    uring.start(2, Op::Receive { socket, bytes: bytes() });
    uring.cancel(number);
    peer.write_all(b"x").expect("the peer is there");
    let done = wait(&mut uring, 1).remove(0);
    assert_eq!((done.tag, bytes_of(done.op).as_slice()), (2, b"x".as_slice()));
}

#[test]
fn a_dropped_ring_lets_go_of_what_is_in_flight() {
    let (mut peer, socket) = connection();
    let mut uring = uring();
    for tag in 0..20 {
        let bytes = Bytes::Vec(Vec::with_capacity(64));
        uring.start(tag, Op::Receive { socket: Rc::clone(&socket), bytes });
    }
    uring.poll(&mut Vec::new()).expect("the ring works");
    drop(uring);
    drop(Rc::into_inner(socket).expect("the ring has given its shares back"));
    assert_eq!(peer.read(&mut [0; 8]).expect("closed in good order"), 0);
}

#[test]
fn an_accept_that_goes_on_is_answered_per_caller() {
    let mut uring = uring();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let accept = Op::Accept { listener: Rc::new(listener.into()), goes_on: true };
    let number = uring.start(0, accept);
    uring.poll(&mut Vec::new()).expect("the ring works");
    let callers: Vec<_> = (0..3).map(|_| TcpStream::connect(address)).collect();
    let done = wait(&mut uring, 3);
    assert!(done.iter().all(|done| done.op.is_none() && done.accepted.is_some()), "{done:?}");
    uring.cancel(number);
    assert!(matches!(wait(&mut uring, 1)[0].op, Some(Op::Accept { .. })));
    drop(callers);
}

#[test]
fn older_kernels_get_a_ring_too() {
    for features in [Features::Cooperative, Features::Plain] {
        let mut uring = OpRing::with(8, features).expect("io_uring is available");
        uring.start(3, Op::Sync { file: temporary_file(), data_only: false });
        assert_eq!((wait(&mut uring, 1)[0].tag, uring.features()), (3, features));
    }
}

#[test]
fn the_bell_ends_a_wait() {
    let mut uring = uring();
    let parker = Parker::with_eventfd().expect("descriptors are left");
    let eventfd = parker.eventfd().try_clone_to_owned().expect("descriptors are left");
    let mut bell = Some(Op::Bell { eventfd: Rc::new(eventfd) });
    for _ in 0..3 {
        uring.start(9, bell.take().expect("it came back"));
        let waker = parker.waker();
        let thread = std::thread::spawn(move || waker.kick());
        bell = wait(&mut uring, 1).remove(0).op;
        thread.join().expect("the thread does not panic");
        parker.drain();
    }
}

#[test]
fn a_wait_without_answers_ends_in_time() {
    let mut completions = Vec::new();
    uring().wait(Duration::from_millis(1), &mut completions).expect("the ring works");
    assert!(completions.is_empty());
}
