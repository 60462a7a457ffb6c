//! Connections that come, stall, break and end.

use std::io::ErrorKind;

use proptest::prelude::*;

use super::connection::WAITING_BYTES_MAX;
use super::*;
use crate::operator::side_output::skip_to;
use crate::testing::{SourceHarness, SourceRecord};

/// A source and the network in front of it, played by the test.
struct Task<F: Format> {
    source: SourceHarness<SocketSource<F>>,
    records: Vec<SourceRecord<F::Record>>,
    splits: Vec<SplitEvent>,
}

impl<F: Format> Task<F> {
    fn new(source: &SocketSource<F>) -> Self {
        let mut source = SourceHarness::new(source.clone()).named("calls").task(0, 2).may_fail();
        source.set_budget(1000);
        Self { source, records: Vec::new(), splits: Vec::new() }
    }

    fn poll(&mut self) -> SourceStatus {
        let status = self.source.poll();
        self.records.extend(self.source.take_records());
        self.splits.extend(self.source.take_splits());
        status
    }

    fn happen(&mut self, done: SocketDone) {
        self.source.socket_done(done);
    }

    fn receive(&mut self, socket: SocketId, bytes: &[u8]) -> SourceStatus {
        self.happen(SocketDone::Received { socket, bytes: bytes.to_vec() });
        self.poll()
    }

    /// What was asked of the network since the last time.
    fn asked(&mut self) -> Vec<SocketOp> {
        self.source.take_socket_ops()
    }

    /// Polls, and answers the wish to connect.
    fn connect(&mut self) -> SocketId {
        self.poll();
        let asked = self.asked();
        let [SocketOp::Connect { socket, .. }] = asked[..] else { panic!("asked for {asked:?}") };
        self.happen(SocketDone::Connected { socket });
        self.poll();
        assert_eq!(self.asked(), [SocketOp::Resume { socket }]);
        socket
    }

    fn fail(&mut self, socket: SocketId) {
        let action = "connect to 127.0.0.1:7000".to_string();
        let source = ErrorKind::ConnectionRefused.into();
        self.happen(SocketDone::Failed { socket, action, source });
    }

    fn values(&self) -> Vec<F::Record>
    where
        F::Record: Clone,
    {
        self.records.iter().map(|record| record.value.clone()).collect()
    }
}

fn lines() -> SocketSource<LinesFormat> {
    SocketSource::lines("127.0.0.1:7000")
}

#[test]
fn lines_come_as_they_are_complete_and_the_last_when_the_peer_closes() {
    let mut task = Task::new(&lines());
    let socket = task.connect();
    assert_eq!(task.receive(socket, b"one\ntw"), SourceStatus::Waiting(None));
    assert_eq!(task.values(), ["one"]);
    task.receive(socket, b"o\r\nthree");
    assert_eq!(task.values(), ["one", "two"]);
    task.happen(SocketDone::Closed { socket });
    assert_eq!(task.poll(), SourceStatus::Ended);
    assert_eq!(task.values(), ["one", "two", "three"]);
    let positions: Vec<_> = task.records.iter().map(|record| record.position).collect();
    assert_eq!(positions, [0, 4, 9]);
    assert_eq!(task.splits, [SplitEvent::Active(0), SplitEvent::Finished(0)]);
}

#[test]
fn a_listener_cannot_connect_again() {
    assert_eq!(
        lines().listen().reconnect(Reconnect::NEVER).problems(),
        ["a listener calls nobody, so it cannot connect again: leave out .reconnect(..) or \
          .listen()"]
    );
}

#[test]
fn a_listener_is_idle_while_nobody_calls() {
    let mut task = Task::new(&lines().listen());
    task.poll();
    let asked = task.asked();
    let [SocketOp::Listen { socket: listener, address }] = asked[..] else { panic!("{asked:?}") };
    task.happen(SocketDone::Listening { socket: listener, address });
    task.poll();
    task.poll();
    assert_eq!(task.splits, [SplitEvent::Idle(0)], "said once");
    let socket = SocketId(SocketId::ACCEPTED);
    task.happen(SocketDone::Accepted { listener, socket, peer: address });
    task.happen(SocketDone::Closed { socket });
    task.poll();
    task.poll();
    assert_eq!(
        task.splits[1..],
        [SplitEvent::Active(0), SplitEvent::Finished(0), SplitEvent::Idle(1)]
    );
}

#[test]
fn positions_go_on_counting_when_a_connection_is_made_again() {
    let mut task = Task::new(&lines());
    let socket = task.connect();
    task.receive(socket, b"one\ncut o");
    task.fail(socket);
    assert_eq!(task.poll(), SourceStatus::Waiting(Some(200)));
    task.source.processing_time(200);
    let socket = task.connect();
    task.receive(socket, b"two\n");
    let positions: Vec<_> = task.records.iter().map(|record| record.position).collect();
    assert_eq!(
        (task.values(), positions),
        (vec!["one".to_string(), "two".to_string()], vec![0, 9])
    );
}

#[test]
fn a_byte_order_mark_at_the_beginning_is_no_text() {
    for pieces in [[&b"\xef\xbb\xbfone\n"[..], b""], [b"\xef\xbb", b"\xbfone\n"], [b"o", b"ne\n"]] {
        let mut task = Task::new(&lines());
        let socket = task.connect();
        for piece in pieces {
            task.receive(socket, piece);
        }
        assert_eq!(task.values(), ["one"]);
    }
}

#[test]
fn only_the_first_task_reads() {
    assert_eq!(SourceHarness::new(lines()).task(1, 2).poll(), SourceStatus::Ended);
}

#[test]
fn a_peer_that_is_faster_is_held_back() {
    let mut task = Task::new(&lines());
    let socket = task.connect();
    let many = b"a line\n".repeat(WAITING_BYTES_MAX / 7 + 2000);
    assert_eq!(task.receive(socket, &many), SourceStatus::Ready, "a turn's budget is 1000 rows");
    assert_eq!(task.asked(), [SocketOp::Pause { socket }]);
    let mut turn_count = 0;
    while task.poll() == SourceStatus::Ready {
        turn_count += 1;
    }
    assert!(turn_count > 10);
    assert_eq!(task.asked(), [SocketOp::Resume { socket }]);
}

#[test]
fn a_long_line_is_not_held_back_half() {
    let mut task = Task::new(&lines());
    let socket = task.connect();
    let part = vec![b'x'; WAITING_BYTES_MAX];
    for _ in 0..5 {
        task.receive(socket, &part);
    }
    assert_eq!(task.asked(), []);
    task.receive(socket, b"\n");
    assert_eq!(task.values()[0].len(), 5 * WAITING_BYTES_MAX);
}

#[test]
fn a_connection_that_fails_is_tried_again_until_it_is_too_often() {
    let reconnect = Reconnect { attempts: 2, pause: std::time::Duration::from_millis(100) };
    let mut task = Task::new(&lines().reconnect(reconnect));
    for (now_ms, status) in [(0, Some(100)), (100, Some(300)), (300, None)] {
        task.source.processing_time(now_ms);
        task.poll();
        let asked = task.asked();
        let [SocketOp::Connect { socket, .. }] = asked[..] else { panic!("asked for {asked:?}") };
        task.fail(socket);
        assert_eq!(task.poll(), SourceStatus::Waiting(status));
        assert_eq!(task.asked(), [], "not before it is time");
    }
    assert_eq!(
        task.source.take_failure().map(|error| error.chain()).as_deref(),
        Some(
            "operator calls: could not connect to 127.0.0.1:7000: connection refused (tried again \
             2 times); start the program that listens there first"
        )
    );
}

#[test]
fn a_record_cut_off_by_a_failure_is_dropped_and_the_split_goes_on() {
    let mut task = Task::new(&lines());
    let socket = task.connect();
    task.receive(socket, b"one\nhal");
    task.fail(socket);
    assert_eq!(task.poll(), SourceStatus::Waiting(Some(200)));
    task.source.processing_time(200);
    let socket = task.connect();
    task.receive(socket, b"two\n");
    task.happen(SocketDone::Closed { socket });
    assert_eq!(task.poll(), SourceStatus::Ended);
    assert_eq!(task.values(), ["one", "two"]);
    assert_eq!(task.splits, [SplitEvent::Active(0), SplitEvent::Finished(0)]);
}

#[test]
fn every_caller_of_a_listener_is_a_split() {
    let mut task = Task::new(&lines().listen());
    task.poll();
    let asked = task.asked();
    let [SocketOp::Listen { socket: listener, .. }] = asked[..] else { panic!("{asked:?}") };
    let address = "127.0.0.1:7000".parse().expect("an address");
    task.happen(SocketDone::Listening { socket: listener, address });
    let callers = [SocketId(SocketId::ACCEPTED | 1), SocketId(SocketId::ACCEPTED | 2)];
    for socket in callers {
        task.happen(SocketDone::Accepted { listener, socket, peer: address });
        task.receive(socket, b"hello\n");
    }
    task.happen(SocketDone::Closed { socket: callers[0] });
    assert_eq!(task.poll(), SourceStatus::Waiting(None), "a listener has no end");
    let rows: Vec<_> =
        task.records.iter().map(|record| (record.split, record.value.as_str())).collect();
    assert_eq!(rows, [(0, "hello"), (1, "hello")]);
    assert_eq!(format!("{:?}", task.splits), "[Idle(0), Active(0), Active(1), Finished(0)]");
}

#[test]
fn a_port_in_use_says_what_to_do() {
    let mut task = Task::new(&lines().listen());
    task.poll();
    let socket = task.asked()[0].socket();
    let action = "listen at 127.0.0.1:7000".to_string();
    task.happen(SocketDone::Failed { socket, action, source: ErrorKind::AddrInUse.into() });
    assert_eq!(
        task.source.take_failure().map(|error| error.chain()).as_deref(),
        Some(
            "operator calls: could not listen at 127.0.0.1:7000: address in use; stop the program \
             that listens there, or take another port"
        )
    );
}

#[test]
fn a_bad_record_stops_the_job_or_is_put_aside() {
    let source = SocketSource::<JsonLinesFormat<u8>>::json_lines("localhost:7000");
    for (source, is_stopped) in [(source.clone(), true), (source.on_error(skip_to("dead")), false)]
    {
        let mut task = Task::new(&source);
        let socket = task.connect();
        task.receive(socket, b"1\n300\n2\n");
        match task.source.take_failure() {
            Some(error) => assert_eq!(
                error.to_string(),
                "socket localhost:7000, line 2, character 3: invalid value: integer `300`, expected \
                 u8; correct the record, or put such records aside: \
                 .on_error(skip_to(\"dead-letter\")) at the source, and \
                 .side_output(DEAD_LETTERS) behind it to read them"
            ),
            None => {
                let letter_count = task.source.env().dead_letters.get();
                assert_eq!((task.values(), letter_count), (vec![1, 2], 1));
            }
        }
        assert_eq!(task.values().len() == 1, is_stopped);
    }
}

#[test]
fn every_csv_connection_begins_with_a_header() {
    #[derive(Debug, Clone, PartialEq, serde::Deserialize)]
    struct Call {
        to: u32,
    }
    let mut task = Task::new(&SocketSource::<CsvFormat<Call>>::csv("localhost:7000"));
    let socket = task.connect();
    task.receive(socket, b"from,t");
    task.receive(socket, b"o\n1,2");
    assert_eq!(task.values(), []);
    task.receive(socket, b"3\n");
    assert_eq!(task.values(), [Call { to: 23 }]);
}

#[test]
fn listening_beyond_loopback_is_a_mistake() {
    assert_eq!(
        SocketSource::lines("0.0.0.0:7000").listen().problems(),
        ["listening at 0.0.0.0:7000 would let anybody in; listen on loopback (127.0.0.1)"]
    );
    assert!(SocketSource::lines("10.0.0.1:7000").problems().is_empty());
}

proptest! {
    /// However the network cuts the bytes, the records are the same.
    #[test]
    fn records_do_not_depend_on_how_bytes_arrive(
        text in "[ab\n\r]{0,60}",
        cuts in prop::collection::vec(0_usize..60, 0..8),
    ) {
        let mut task = Task::new(&lines());
        let socket = task.connect();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.push(text.len());
        cuts.sort_unstable();
        let mut start = 0;
        for cut in cuts {
            if start < cut {
                task.receive(socket, &text.as_bytes()[start..cut]);
            }
            start = cut;
        }
        task.happen(SocketDone::Closed { socket });
        prop_assert_eq!(task.poll(), SourceStatus::Ended);
        let line = |line: &str| line.strip_suffix('\r').unwrap_or(line).to_string();
        let expected: Vec<_> = text.split_terminator('\n').map(line).collect();
        prop_assert_eq!(task.values(), expected);
    }
}

#[test]
fn draining_reads_the_whole_records_that_have_arrived_and_lets_nothing_more_in() {
    let mut task = Task::new(&lines());
    let socket = task.connect();
    task.happen(SocketDone::Received { socket, bytes: b"one\ntwo\nthr".to_vec() });
    assert!(task.source.drain());
    assert_eq!(task.asked(), [SocketOp::Close { socket }]);
    task.happen(SocketDone::Closed { socket });
    assert_eq!(task.poll(), SourceStatus::Ended);
    assert_eq!(task.values(), ["one", "two"]);
    assert_eq!(task.splits, [SplitEvent::Active(0), SplitEvent::Finished(0)]);
}

#[test]
fn draining_before_there_is_a_connection_ends_at_once() {
    let mut task = Task::new(&lines());
    task.poll();
    let [SocketOp::Connect { socket, .. }] = task.asked()[..] else { panic!("it connects") };
    assert!(!task.source.drain());
    assert_eq!(task.asked(), [SocketOp::Close { socket }]);
    task.happen(SocketDone::Connected { socket });
    assert_eq!(task.poll(), SourceStatus::Ended);
}
