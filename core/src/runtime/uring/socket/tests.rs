//! The machine of a socket, without sockets.
#![expect(clippy::unwrap_used, reason = "a test may fail that way")]

use super::*;

const ID: SocketId = SocketId(7);

fn address() -> SocketAddr {
    "127.0.0.1:7000".parse().unwrap()
}

fn connected() -> Machine {
    Machine::accepted(ID, address())
}

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// All steps of `machine`, in short.
fn steps(machine: &mut Machine) -> String {
    let mut steps = Vec::new();
    while let Some(step) = machine.step() {
        let is_end = step == Step::End;
        steps.push(match step {
            Step::Accept => "accept".to_string(),
            Step::Connect(address) => format!("connect {address}"),
            Step::Recv { size_bytes } => format!("recv {size_bytes}"),
            Step::Send { bytes, sent_bytes } => format!("send {}", bytes.len() - sent_bytes),
            Step::Finish => "finish".to_string(),
            Step::Cancel(Direction::In) => "cancel in".to_string(),
            Step::Cancel(Direction::Out) => "cancel out".to_string(),
            Step::End => "end".to_string(),
        });
        if is_end {
            break;
        }
    }
    steps.join(" ")
}

/// What was told, in short.
fn told(dones: &mut Vec<SocketDone>) -> String {
    let dones = dones.drain(..).map(|done| match done {
        SocketDone::Connected { .. } => "connected".to_string(),
        SocketDone::Received { bytes, .. } => format!("received {}", bytes.len()),
        SocketDone::Sent { bytes, .. } => format!("sent {}", bytes.len()),
        other => panic!("a machine does not tell {other:?}"),
    });
    dones.collect::<Vec<_>>().join(" ")
}

fn ended(machine: Machine) -> String {
    match machine.end() {
        SocketDone::Closed { socket } => format!("closed {}", socket.0),
        SocketDone::Failed { action, source, .. } => {
            format!("could not {action}: {}", source.raw_os_error().unwrap())
        }
        other => panic!("a socket does not end with {other:?}"),
    }
}

#[test]
fn a_listener_accepts_once_until_the_accept_is_over() {
    let mut machine = Machine::listener(ID, address());
    assert_eq!(steps(&mut machine), "accept");
    assert!(machine.on_accepted(Ok(()), false));
    assert_eq!(steps(&mut machine), "");
    assert!(machine.on_accepted(Ok(()), true));
    assert_eq!(steps(&mut machine), "accept");
}

#[test]
fn a_caller_that_hung_up_does_not_end_the_listener() {
    let mut machine = Machine::listener(ID, address());
    assert_eq!(steps(&mut machine), "accept");
    assert!(!machine.on_accepted(Err(errno(libc::ECONNABORTED)), true));
    assert_eq!(steps(&mut machine), "accept");
    assert!(!machine.on_accepted(Err(errno(libc::EMFILE)), true));
    assert_eq!(steps(&mut machine), "end");
    assert_eq!(ended(machine), format!("could not accept at 127.0.0.1:7000: {}", libc::EMFILE));
}

#[test]
fn a_closing_listener_turns_callers_away() {
    let mut machine = Machine::listener(ID, address());
    steps(&mut machine);
    machine.close();
    assert_eq!(steps(&mut machine), "cancel in");
    assert!(!machine.on_accepted(Ok(()), false));
    assert_eq!(steps(&mut machine), "");
    assert!(!machine.on_accepted(Err(errno(libc::ECANCELED)), true));
    assert_eq!(steps(&mut machine), "end");
    assert_eq!(ended(machine), "closed 7");
}

#[test]
fn a_side_ends_once_and_behind_everything_sent() {
    let mut machine = connected();
    let mut dones = Vec::new();
    machine.resume();
    machine.send(vec![0; 10]);
    machine.finish();
    assert_eq!(steps(&mut machine), format!("send 10 recv {RECV_BYTES_MIN}"));
    machine.on_sent(vec![0; 10], 0, Ok(4), &mut dones);
    assert_eq!(steps(&mut machine), "send 6");
    machine.on_sent(vec![0; 10], 4, Ok(6), &mut dones);
    assert_eq!(told(&mut dones), "sent 10");
    assert_eq!(steps(&mut machine), "finish");
    machine.on_finished(Ok(()));
    assert_eq!(steps(&mut machine), "", "the peer has its time");
    machine.on_received(Ok(Vec::new()), &mut dones);
    assert_eq!(steps(&mut machine), "end");
    assert_eq!(ended(machine), "closed 7");
}

#[test]
fn a_connection_opens_paused() {
    let mut machine = Machine::connecting(ID, address());
    let mut dones = Vec::new();
    assert_eq!(steps(&mut machine), "connect 127.0.0.1:7000");
    machine.on_connected(Ok(()), &mut dones);
    assert_eq!(told(&mut dones), "connected");
    assert_eq!(steps(&mut machine), "");
}

#[test]
fn a_refused_connection_fails() {
    let mut machine = Machine::connecting(ID, address());
    steps(&mut machine);
    machine.on_connected(Err(errno(libc::ECONNREFUSED)), &mut Vec::new());
    assert_eq!(steps(&mut machine), "end");
    let expected = format!("could not connect to 127.0.0.1:7000: {}", libc::ECONNREFUSED);
    assert_eq!(ended(machine), expected);
}

#[test]
fn a_connection_closed_before_it_opens_says_nothing_but_that() {
    let mut machine = Machine::connecting(ID, address());
    let mut dones = Vec::new();
    steps(&mut machine);
    machine.close();
    assert_eq!(steps(&mut machine), "cancel out");
    machine.on_connected(Ok(()), &mut dones);
    assert_eq!((steps(&mut machine).as_str(), told(&mut dones).as_str()), ("end", ""));
    assert_eq!(ended(machine), "closed 7");
}

#[test]
fn receiving_follows_pause_and_resume() {
    let mut machine = connected();
    let mut dones = Vec::new();
    assert_eq!(steps(&mut machine), "");
    machine.resume();
    assert_eq!(steps(&mut machine), "recv 4096");
    machine.pause();
    assert_eq!(steps(&mut machine), "cancel in");
    machine.resume();
    assert_eq!(steps(&mut machine), "", "the cancelled one has yet to complete");
    machine.on_received(Err(errno(libc::ECANCELED)), &mut dones);
    assert_eq!(steps(&mut machine), "recv 4096");
    machine.pause();
    machine.resume();
    assert_eq!(steps(&mut machine), "", "both within a turn are nothing");
    machine.on_received(Ok(vec![1; 10]), &mut dones);
    machine.pause();
    assert_eq!(steps(&mut machine), "");
    assert_eq!(told(&mut dones), "received 10");
}

#[test]
fn what_was_on_its_way_arrives_after_a_pause() {
    let mut machine = connected();
    let mut dones = Vec::new();
    machine.resume();
    steps(&mut machine);
    machine.pause();
    assert_eq!(steps(&mut machine), "cancel in");
    machine.on_received(Ok(vec![1; 10]), &mut dones);
    assert_eq!((steps(&mut machine).as_str(), told(&mut dones).as_str()), ("", "received 10"));
}

#[test]
fn the_buffer_grows_while_filled_and_shrinks_while_not() {
    let mut machine = connected();
    let mut dones = Vec::new();
    machine.resume();
    let mut size_bytes = RECV_BYTES_MIN;
    while size_bytes <= RECV_BYTES_MAX {
        assert_eq!(steps(&mut machine), format!("recv {size_bytes}"));
        machine.on_received(Ok(vec![1; size_bytes]), &mut dones);
        size_bytes *= 2;
    }
    assert_eq!(steps(&mut machine), format!("recv {RECV_BYTES_MAX}"));
    machine.on_received(Ok(vec![1; RECV_BYTES_MAX / 4]), &mut dones);
    assert_eq!(steps(&mut machine), format!("recv {RECV_BYTES_MAX}"));
    machine.on_received(Ok(vec![1; RECV_BYTES_MAX / 4 - 1]), &mut dones);
    assert_eq!(steps(&mut machine), format!("recv {}", RECV_BYTES_MAX / 2));
}

#[test]
fn a_small_piece_of_a_large_buffer_keeps_little_memory() {
    let mut machine = connected();
    let mut dones = Vec::new();
    machine.resume();
    steps(&mut machine);
    let mut bytes = Vec::with_capacity(RECV_BYTES_MAX);
    bytes.push(1);
    machine.on_received(Ok(bytes), &mut dones);
    let [SocketDone::Received { bytes, .. }] = &dones[..] else { panic!("told {dones:?}") };
    assert!(bytes.capacity() < RECV_BYTES_MIN);
}

#[test]
fn a_send_goes_on_until_all_is_gone() {
    let mut machine = connected();
    let mut dones = Vec::new();
    machine.send(vec![1; 100]);
    assert_eq!(steps(&mut machine), "send 100");
    machine.on_sent(vec![1; 100], 0, Ok(30), &mut dones);
    assert_eq!(steps(&mut machine), "send 70");
    machine.on_sent(vec![1; 100], 30, Err(errno(libc::EINTR)), &mut dones);
    assert_eq!(steps(&mut machine), "send 70");
    machine.on_sent(vec![1; 100], 30, Ok(70), &mut dones);
    assert_eq!((steps(&mut machine).as_str(), told(&mut dones).as_str()), ("", "sent 100"));
    machine.send(Vec::new());
    assert_eq!(steps(&mut machine), "send 0");
    machine.on_sent(Vec::new(), 0, Ok(0), &mut dones);
    assert_eq!(told(&mut dones), "sent 0");
}

#[test]
#[should_panic(expected = "one send at a time")]
fn two_sends_at_once_are_a_bug() {
    let mut machine = connected();
    machine.send(vec![1]);
    machine.send(vec![2]);
}

#[test]
fn closing_waits_for_both_directions_and_tells_nothing_else() {
    let mut machine = connected();
    let mut dones = Vec::new();
    machine.resume();
    machine.send(vec![1; 10]);
    assert_eq!(steps(&mut machine), "send 10 recv 4096");
    machine.close();
    machine.send(vec![2; 10]);
    assert_eq!(steps(&mut machine), "cancel in cancel out");
    machine.on_received(Ok(vec![1; 3]), &mut dones);
    assert_eq!(steps(&mut machine), "");
    machine.on_sent(vec![1; 10], 0, Ok(4), &mut dones);
    assert_eq!((steps(&mut machine).as_str(), told(&mut dones).as_str()), ("end", ""));
    assert_eq!(ended(machine), "closed 7");
}

#[test]
fn the_peers_end_ends_the_connection() {
    let mut machine = connected();
    machine.resume();
    steps(&mut machine);
    machine.on_received(Ok(Vec::new()), &mut Vec::new());
    assert_eq!(steps(&mut machine), "end");
    assert_eq!(ended(machine), "closed 7");
}

#[test]
fn the_first_failure_is_the_one_that_is_told() {
    let mut machine = connected();
    let mut dones = Vec::new();
    machine.resume();
    machine.send(vec![1; 10]);
    steps(&mut machine);
    machine.on_received(Err(errno(libc::ECONNRESET)), &mut dones);
    assert_eq!(steps(&mut machine), "cancel out");
    machine.on_sent(vec![1; 10], 0, Err(errno(libc::EPIPE)), &mut dones);
    machine.close();
    assert_eq!((steps(&mut machine).as_str(), told(&mut dones).as_str()), ("end", ""));
    let expected = format!("could not receive from 127.0.0.1:7000: {}", libc::ECONNRESET);
    assert_eq!(ended(machine), expected);
}
