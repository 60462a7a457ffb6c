//! What is sent, when, and what happens when the peer does not take it.

use std::io::ErrorKind;
use std::time::Duration;

use super::*;
use crate::connector::testing::{NoOutput, context};
use crate::operator::TaskEnv;
use crate::testing::task_env;

/// A sink and the network behind it, played by the test.
struct Task {
    env: TaskEnv,
    sink: SocketSink<TextEncoder<u32>>,
}

impl Task {
    fn new(sink: &SocketSink<TextEncoder<u32>>) -> Self {
        let mut task = Self { env: task_env(0, 1), sink: sink.clone() };
        task.sink.open(&context(&task.env, "out")).expect("opening only connects");
        task
    }

    fn write(&mut self, value: u32) {
        self.sink.on_row(value.into(), &context(&self.env, "out"), &mut NoOutput(&self.env));
    }

    fn end_batch(&mut self) {
        self.sink.on_batch_end(&context(&self.env, "out"), &mut NoOutput(&self.env));
    }

    fn end(&mut self) -> Progress {
        self.sink.on_end(&context(&self.env, "out"), &mut NoOutput(&self.env))
    }

    fn happen(&mut self, done: SocketDone) {
        self.sink.on_socket_done(done, &context(&self.env, "out"), &mut NoOutput(&self.env));
    }

    /// The only wish since the last time.
    fn asked(&mut self) -> SocketOp {
        let mut asked = self.env.requests.borrow_mut().sockets.split_off(0);
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }

    fn asked_nothing(&self) -> bool {
        self.env.requests.borrow().sockets.is_empty()
    }

    /// The text of the only wish, which is a send.
    fn sent(&mut self) -> String {
        let SocketOp::Send { socket, bytes } = self.asked() else { panic!("nothing is sent") };
        let text = String::from_utf8(bytes.clone()).expect("text is sent");
        self.happen(SocketDone::Sent { socket, bytes });
        text
    }

    fn connect(&mut self) -> SocketId {
        let socket = self.asked().socket();
        self.happen(SocketDone::Connected { socket });
        assert_eq!(self.asked(), SocketOp::Resume { socket });
        socket
    }

    fn fail(&mut self, socket: SocketId, kind: ErrorKind) {
        let action = "connect to localhost:7000".to_string();
        self.happen(SocketDone::Failed { socket, action, source: kind.into() });
    }

    fn failure(&self) -> Option<String> {
        self.env.take_failure().map(|error| error.chain())
    }
}

fn sink() -> SocketSink<TextEncoder<u32>> {
    SocketSink::text("localhost:7000")
}

#[test]
fn rows_of_a_batch_leave_together() {
    let mut task = Task::new(&sink());
    task.connect();
    (1..4).for_each(|value| task.write(value));
    assert!(task.asked_nothing());
    task.end_batch();
    assert_eq!(task.sent(), "1\n2\n3\n");
}

#[test]
fn what_gathers_during_a_send_leaves_with_the_next() {
    let mut task = Task::new(&sink());
    let socket = task.connect();
    task.write(1);
    task.end_batch();
    task.asked();
    for value in 2..5 {
        task.write(value);
        task.end_batch();
    }
    assert!(task.asked_nothing(), "one send at a time");
    task.happen(SocketDone::Sent { socket, bytes: Vec::new() });
    assert_eq!(task.sent(), "2\n3\n4\n");
}

#[test]
fn a_slow_peer_makes_the_sink_refuse_more() {
    let mut task = Task::new(&sink());
    assert!(!task.sink.is_ready(), "nobody is there");
    let socket = task.connect();
    task.write(1);
    task.end_batch();
    task.asked();
    let mut count = 0;
    while task.sink.is_ready() {
        task.write(1_000_000);
        count += 1;
        assert!(count <= WAITING_BYTES_MAX, "it takes rows without bound");
    }
    task.happen(SocketDone::Sent { socket, bytes: Vec::new() });
    assert!(task.sink.is_ready());
}

#[test]
fn the_end_waits_until_everything_has_been_taken() {
    let mut task = Task::new(&sink());
    let socket = task.connect();
    task.write(1);
    assert_eq!(task.end(), Progress::Pending);
    assert_eq!(task.sent(), "1\n");
    assert_eq!(task.end(), Progress::Pending);
    assert_eq!(task.asked(), SocketOp::Finish { socket });
    assert_eq!(task.end(), Progress::Pending, "the peer has not read everything");
    task.happen(SocketDone::Closed { socket });
    assert_eq!(task.end(), Progress::Done);
}

#[test]
fn a_peer_that_does_not_end_is_waited_for_five_seconds() {
    let mut task = Task::new(&sink());
    let socket = task.connect();
    task.env.processing_time_ms.set(1_000);
    assert_eq!(task.end(), Progress::Pending);
    assert_eq!(task.asked(), SocketOp::Finish { socket });
    assert_eq!(task.sink.next_time_ms(), Some(6_000));
    let ctx = context(&task.env, "out");
    assert_eq!(task.sink.on_time(&ctx, &mut NoOutput(&task.env)), Progress::Done);
    assert_eq!(task.asked(), SocketOp::Close { socket });
    task.happen(SocketDone::Closed { socket });
    assert_eq!((task.end(), task.failure()), (Progress::Done, None));
}

#[test]
fn a_peer_that_resets_the_connection_at_the_end_stops_the_job() {
    let mut task = Task::new(&sink());
    let socket = task.connect();
    assert_eq!(task.end(), Progress::Pending);
    task.fail(socket, ErrorKind::ConnectionReset);
    assert!(task.failure().is_some(), "nobody knows what has arrived");
}

#[test]
fn what_the_peer_sends_is_dropped() {
    let mut task = Task::new(&sink());
    let socket = task.connect();
    task.happen(SocketDone::Received { socket, bytes: b"hello".to_vec() });
    assert!(task.asked_nothing());
    assert_eq!(task.failure(), None);
}

#[test]
fn a_server_that_is_not_there_yet_is_waited_for() {
    let reconnect = Reconnect { attempts: 1, pause: Duration::from_millis(100) };
    let mut task = Task::new(&sink().reconnect(reconnect));
    let socket = task.asked().socket();
    task.fail(socket, ErrorKind::ConnectionRefused);
    assert_eq!(task.sink.next_time_ms(), Some(100));
    task.env.processing_time_ms.set(100);
    let ctx = context(&task.env, "out");
    assert_eq!(task.sink.on_time(&ctx, &mut NoOutput(&task.env)), Progress::Done);
    let socket = task.asked().socket();
    task.fail(socket, ErrorKind::ConnectionRefused);
    assert_eq!(
        task.failure().as_deref(),
        Some(
            "operator out: could not connect to localhost:7000: connection refused (tried again 1 \
             times); start the program that listens there first"
        )
    );
}

#[test]
fn a_connection_that_breaks_stops_the_job() {
    for is_closed in [false, true] {
        let mut task = Task::new(&sink());
        let socket = task.connect();
        if is_closed {
            task.happen(SocketDone::Closed { socket });
        } else {
            task.fail(socket, ErrorKind::BrokenPipe);
        }
        let failure = task.failure().expect("nobody knows what has arrived");
        assert!(failure.contains("check the program on the other side"), "{failure}");
    }
}

#[test]
fn an_address_that_is_none_is_a_mistake() {
    let sink = SocketSink::<TextEncoder<u32>>::text("nowhere");
    assert_eq!(sink.facts().problems, ["'nowhere' is no address; write it as 127.0.0.1:7000"]);
    assert_eq!(sink.facts().detail, "socket nowhere (text)");
}
