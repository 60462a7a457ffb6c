//! What operators and sources ask of the world, and what it answers.

use std::time::Duration;

use millstream_net::io::{SocketDone, SocketOp};

use crate::operator::source::SourceStatus;
use crate::operator::watermark::AssignWatermarks;
use crate::operator::{Progress, SplitEvent};
use crate::prelude::*;
use crate::testing::{MemoryDisk, OperatorHarness, SourceHarness};
use crate::time::strategy::FromSource;

#[test]
fn standard_output_takes_everything_at_once() {
    let mut sink = OperatorHarness::new(StdoutSink::text());
    (1..=5).for_each(|value| sink.push(value, 0));
    assert_eq!(sink.take_stdout(), "1\n2\n3\n4\n5\n");
    sink.push(6, 0);
    sink.end();
    assert_eq!(sink.take_stdout(), "6\n");
}

#[test]
fn a_socket_sink_ends_when_the_peer_has_read_everything() {
    let mut sink = OperatorHarness::new(SocketSink::text("localhost:7000"));
    sink.open().expect("opening only connects");
    let socket = sink.take_socket_ops()[0].socket();
    sink.socket_done(SocketDone::Connected { socket });
    sink.take_socket_ops();
    sink.push(7, 0);
    let bytes = b"7\n".to_vec();
    assert_eq!(sink.take_socket_ops(), [SocketOp::Send { socket, bytes: bytes.clone() }]);
    assert_eq!(sink.try_end(), Progress::Pending);
    sink.socket_done(SocketDone::Sent { socket, bytes });
    assert_eq!(sink.try_end(), Progress::Pending);
    assert_eq!(sink.take_socket_ops(), [SocketOp::Finish { socket }]);
    sink.socket_done(SocketDone::Closed { socket });
    assert_eq!(sink.try_end(), Progress::Done);
}

#[test]
#[should_panic(expected = "waits for something before it can end")]
fn an_end_that_needs_an_answer_says_so() {
    let mut sink = OperatorHarness::new(SocketSink::text("localhost:7000"));
    sink.push(7, 0);
    sink.end();
}

#[test]
fn files_are_written_to_and_read_from_a_disk_in_memory() {
    let mut disk = MemoryDisk::new(7);
    let mut sink = OperatorHarness::new(FileSink::text("out"));
    sink.serve_files(&mut disk);
    sink.push(10, 0);
    sink.push(20, 0);
    while sink.try_end() == Progress::Pending {
        sink.serve_files(&mut disk);
    }
    let paths: Vec<_> = disk.paths().map(|path| path.display().to_string()).collect();
    assert_eq!(paths, ["out/part-00000-000000.txt"]);
    assert_eq!(disk.file(&paths[0]), Some(&b"10\n20\n"[..]));

    let mut source = SourceHarness::new(FileSource::lines("out"));
    assert_eq!(source.run_on(&mut disk), SourceStatus::Ended);
    assert!(source.has_ended());
    assert_eq!(source.take_values(), ["10", "20"]);
    assert_eq!(source.take_splits(), [SplitEvent::Active(0), SplitEvent::Finished(0)]);
}

#[test]
#[should_panic(expected = "the source failed: operator source: could not open in/a")]
fn a_source_that_fails_ends_the_test() {
    let mut disk = MemoryDisk::new(7).with("in/a", "1\n").failing_at(
        "open",
        "in/a",
        std::io::ErrorKind::PermissionDenied,
    );
    SourceHarness::new(FileSource::lines("in/a")).run_on(&mut disk);
}

#[test]
#[should_panic(expected = "the source always has more")]
fn a_source_without_an_end_is_not_run_to_it() {
    let mut source = SourceHarness::new(GeneratorSource::new(u64::MAX, |n| n));
    source.set_budget(1);
    source.run();
}

#[test]
fn watermarks_are_made_behind_a_source_and_end_with_it() {
    let records = vec![(5_000, 'a'), (7_000, 'b'), (6_000, 'c')];
    let mut source = SourceHarness::new(VecSource::timed(records));
    let strategy = WatermarkStrategy::new(BoundedOutOfOrderness::new(Duration::from_secs(1)));
    let mut times = OperatorHarness::new(AssignWatermarks::new(strategy, FromSource));
    source.set_budget(2);
    assert_eq!(source.poll_into(&mut times), SourceStatus::Ready);
    assert_eq!((times.take_output(), times.released_watermark_ms()), (vec!['a', 'b'], 5_999));
    assert_eq!(source.poll_into(&mut times), SourceStatus::Ended);
    let rows = times.take_rows();
    assert_eq!((rows[0].value, rows[0].origin.position()), ('c', Some(2)));
    assert_eq!(times.released_watermark_ms(), crate::data::row::MAX_WATERMARK);
}

#[test]
fn a_split_that_is_silent_for_too_long_holds_nobody_back() {
    let strategy = WatermarkStrategy::new(Monotonic::new()).with_idleness(Duration::from_secs(1));
    let mut times = OperatorHarness::new(AssignWatermarks::new(strategy, FromSource));
    times.split(SplitEvent::Active(1));
    times.push('a', 5_000);
    assert_eq!(times.released_watermark_ms(), crate::data::row::NO_EVENT_TIME);
    times.processing_time(999);
    assert_eq!(times.released_watermark_ms(), crate::data::row::NO_EVENT_TIME);
    times.push('b', 6_000);
    times.processing_time(1_000);
    assert_eq!(times.released_watermark_ms(), 5_999);
}
