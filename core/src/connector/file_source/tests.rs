//! Files, splits, compression, restores, and everything that can be wrong with a file.

use std::io::{ErrorKind, Write};
use std::path::Path;

use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;
use crate::connector::generator::draw::Draw;
use crate::limits::LINE_BYTES_MAX;
use crate::operator::SplitEvent;
use crate::operator::side_output::{DeadLetter, OutputTag, skip_to};
use crate::operator::source::SourceStatus;
use crate::state::snapshot::{Snapshot, SnapshotReader};
use crate::testing::{MemoryDisk, SourceHarness, SourceRecord};

const ADVICE: &str = "correct the record, or put such records aside: \
                      .on_error(skip_to(\"dead-letter\")) at the source, and \
                      .side_output(DEAD_LETTERS) behind it to read them";

const DEAD: OutputTag<DeadLetter> = OutputTag::new("dead-letter");

/// One task of a source, and what it has handed on.
struct Task<F: Format> {
    source: SourceHarness<FileSource<F>>,
    records: Vec<SourceRecord<F::Record>>,
    splits: Vec<SplitEvent>,
    draw: Draw,
}

impl<F: Format> Task<F> {
    fn new(source: &FileSource<F>, task_index: u32, parallelism: u32, seed: u64) -> Self {
        let source = SourceHarness::new(source.clone()).named("payments").reading(DEAD);
        Self {
            source: source.task(task_index, parallelism).may_fail(),
            records: Vec::new(),
            splits: Vec::new(),
            draw: Draw::of_record(seed, u64::from(task_index)),
        }
    }

    fn poll(&mut self, budget: u32) -> SourceStatus {
        self.source.set_budget(budget);
        let status = self.source.poll();
        self.records.extend(self.source.take_records());
        self.splits.extend(self.source.take_splits());
        status
    }

    /// Polls and answers `step_count` times, or until it ends, fails, or waits for time alone.
    fn run(&mut self, disk: &mut MemoryDisk, step_count: usize) -> Option<SourceStatus> {
        for _ in 0..step_count {
            let budget = 1 + self.draw.below(40) as u32;
            let status = self.poll(budget);
            disk.accept(self.source.env());
            if self.source.env().has_failed() || status == SourceStatus::Ended {
                return Some(status);
            }
            match disk.answer() {
                Some(done) => self.source.file_done(done),
                None if status != SourceStatus::Ready => return Some(status),
                None => {}
            }
        }
        None
    }

    /// Runs to the end: the values, or the error.
    fn finish(mut self, disk: &mut MemoryDisk) -> Result<Vec<F::Record>, String> {
        while self.run(disk, 1000).is_none() {}
        match self.source.take_failure() {
            Some(error) => Err(error.chain()),
            None => Ok(self.records.into_iter().map(|record| record.value).collect()),
        }
    }

    fn dead_letters(&mut self) -> Vec<DeadLetter> {
        self.source.take_side_output(DEAD)
    }
}

/// All values of all tasks, in no order.
fn read_all<F: Format>(
    source: &FileSource<F>,
    parallelism: u32,
    seed: u64,
    disk: impl Fn() -> MemoryDisk,
) -> Vec<F::Record> {
    let tasks = (0..parallelism).map(|index| Task::new(source, index, parallelism, seed));
    tasks.flat_map(|task| task.finish(&mut disk()).expect("the files can be read")).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::bulk::compress(bytes, 1).expect("memory")
}

#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
struct Payment {
    id: u32,
    amount: f64,
}

const PAYMENTS: &str = "id,amount\n1,1.5\n2,2.5\n";

fn check_error<F: Format>(source: &FileSource<F>, mut disk: MemoryDisk, expected: &str) {
    match Task::new(source, 0, 1, 7).finish(&mut disk) {
        Ok(values) => panic!("{} records", values.len()),
        Err(error) => assert_eq!(error, expected),
    }
}

fn payments(pattern: &str) -> FileSource<CsvFormat<Payment>> {
    FileSource::csv(pattern)
}

#[test]
fn a_missing_file_says_what_to_do() {
    check_error(
        &payments("in/payments.csv"),
        MemoryDisk::new(1).with("in/other.csv", PAYMENTS),
        "operator payments: could not find files in/payments.csv: no file is there; correct the \
         path or pattern, put the files there before the job starts, or watch for them with \
         .watch(..)",
    );
}

#[test]
fn an_empty_glob_says_what_to_do() {
    check_error(
        &payments("in/*.csv"),
        MemoryDisk::new(1).with("in/_hidden.csv", PAYMENTS).with("in/a.csv.inprogress", PAYMENTS),
        "operator payments: could not find files in/*.csv: no file is there; correct the path or \
         pattern, put the files there before the job starts, or watch for them with .watch(..)",
    );
}

#[test]
fn an_unreadable_directory_says_what_to_do() {
    check_error(
        &payments("in"),
        MemoryDisk::new(1).failing("in", ErrorKind::PermissionDenied),
        "operator payments: could not list in: permission denied; let the user that runs the job \
         read it (for a directory: read and enter)",
    );
}

#[test]
fn an_unreadable_file_says_what_to_do() {
    check_error(
        &payments("in"),
        MemoryDisk::new(1)
            .with("in/a.csv", PAYMENTS)
            .failing("in/a.csv", ErrorKind::PermissionDenied),
        "operator payments: could not open in/a.csv: permission denied; let the user that runs \
         the job read it (for a directory: read and enter)",
    );
}

#[test]
fn a_truncated_gzip_says_where_and_what_to_do() {
    let whole = gzip(PAYMENTS.as_bytes());
    for len in [whole.len() - 1, whole.len() - 9, 12, 5, 0] {
        let cut = whole[..len].to_vec();
        let expected = format!(
            "a.csv.gz, compressed byte {len}: the compressed file ends before its content does; \
             it was not copied or written completely: get it again"
        );
        check_error(&payments("a.csv.gz"), MemoryDisk::new(1).with("a.csv.gz", cut), &expected);
    }
}

#[test]
fn a_truncated_zstd_says_where_and_what_to_do() {
    let mut cut = zstd(PAYMENTS.as_bytes());
    cut.pop();
    let expected = format!(
        "a.zst, compressed byte {}: the compressed file ends before its content does; it was not \
         copied or written completely: get it again",
        cut.len()
    );
    check_error(&payments("a.zst"), MemoryDisk::new(1).with("a.zst", cut), &expected);
}

#[test]
fn damaged_compression_is_an_error() {
    let mut wrong_checksum = gzip(PAYMENTS.as_bytes());
    let checksum = wrong_checksum.len() - 8;
    wrong_checksum[checksum] ^= 1;
    let garbage_behind = [zstd(PAYMENTS.as_bytes()), b"garbage".to_vec()].concat();
    for (name, bytes) in [("a.gz", wrong_checksum), ("a.zst", garbage_behind)] {
        let mut disk = MemoryDisk::new(1).with(name, bytes);
        let error = Task::new(&payments(name), 0, 1, 7).finish(&mut disk).expect_err("damaged");
        assert!(error.starts_with(&format!("{name}, compressed byte ")), "{error}");
    }
    let plain = MemoryDisk::new(1).with("a.gz", PAYMENTS);
    let error = Task::new(&payments("a.gz"), 0, 1, 7).finish(&mut { plain }).expect_err("plain");
    assert!(error.contains("check that the name's ending says how it is compressed"), "{error}");
}

#[test]
fn a_compressed_file_that_is_not_called_so_says_what_to_do() {
    let check_name = |bytes: Vec<u8>, reason: &str| {
        let disk = MemoryDisk::new(1).with("a.csv", bytes);
        check_error(
            &payments("a.csv"),
            disk,
            &format!("a.csv: the file is compressed with {reason}"),
        );
    };
    let end = |ending| format!(", and its name does not say so; let it end with {ending}");
    check_name(gzip(PAYMENTS.as_bytes()), &format!("gzip{}", end(".gz")));
    check_name(zstd(PAYMENTS.as_bytes()), &format!("zstd{}", end(".zst")));
    let other = "which is not supported; decompress it first, or use gzip or zstd";
    check_name(b"BZh91AY".to_vec(), &format!("bzip2, {other}"));
}

#[test]
fn zeros_behind_a_gzip_file_are_passed_over() {
    for zero_count in [1, 700] {
        let bytes = [gzip(b"a\n"), gzip(b"b\n"), vec![0; zero_count]].concat();
        let mut source = FileSource::lines("a.gz");
        source.piece_bytes = 13;
        let disk = || MemoryDisk::new(1).with("a.gz", bytes.clone());
        assert_eq!(read_all(&source, 1, 7, disk), ["a", "b"]);
    }
}

#[test]
fn an_empty_file_is_no_compressed_file() {
    for name in ["a.gz", "a.zst"] {
        let reason = "compressed byte 0: the compressed file ends before its content does; it was \
                      not copied or written completely: get it again";
        check_error(
            &FileSource::lines(name),
            MemoryDisk::new(1).with(name, ""),
            &format!("{name}, {reason}"),
        );
    }
}

#[test]
fn a_window_that_is_too_large_says_what_to_do() {
    // A frame header: no single segment, a window of 2^(10 + 21) bytes, then an empty block.
    let bytes = b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00".to_vec();
    check_error(
        &FileSource::lines("a.zst"),
        MemoryDisk::new(1).with("a.zst", bytes),
        "a.zst, compressed byte 0: the file was compressed with a window of more than 128 MiB; \
         compress it again with --long=27 or less",
    );
}

#[test]
fn a_malformed_row_stops_the_job_with_its_place() {
    let tail = ADVICE;
    check_error(
        &payments("a.csv"),
        MemoryDisk::new(1).with("a.csv", "id,amount\n1,2\n2,abc\n"),
        &format!("a.csv:3, column 2 (amount): 'abc' is not a number; {tail}"),
    );
    check_error(
        &FileSource::json_lines::<Payment>("a.jsonl"),
        MemoryDisk::new(1).with("a.jsonl", "\n{\"id\":1,\"amount\":1}\n{\"id\":-1,\"amount\":1}"),
        &format!(
            "a.jsonl:3, character 8 (field id): invalid value: integer `-1`, expected u32; {tail}"
        ),
    );
    check_error(
        &FileSource::lines("a.txt"),
        MemoryDisk::new(1).with("a.txt", b"a\nb\xff\n".to_vec()),
        &format!(
            "a.txt:2, character 2: the byte 0xff is not UTF-8; save the file as UTF-8; {tail}"
        ),
    );
}

#[test]
fn a_wrong_header_stops_the_job_even_if_records_may_be_skipped() {
    check_error(
        &payments("a.csv").on_error(skip_to("dead-letter")),
        MemoryDisk::new(1).with("a.csv", "id,amonut\n1,2\n"),
        "a.csv:1: there is no column 'amount'; the columns are id, amonut; rename one of them or the \
         record's field, or make the field an Option (if the file has no header, give the names \
         with .columns(..))",
    );
}

#[test]
fn a_utf16_file_says_what_to_do() {
    check_error(
        &FileSource::lines("a.txt"),
        MemoryDisk::new(1).with("a.txt", b"\xff\xfea\0".to_vec()),
        "a.txt: the file is UTF-16; save it as UTF-8",
    );
}

#[test]
fn a_file_that_shrinks_says_what_to_do() {
    let source = FileSource::lines("a.txt").unsplittable();
    let mut disk = MemoryDisk::new(1).with("a.txt", "line\n".repeat(100_000));
    let mut task = Task::new(&source, 0, 1, 7);
    while task.records.is_empty() {
        task.run(&mut disk, 1);
    }
    disk.files.insert("a.txt".into(), b"line\n".to_vec());
    while task.run(&mut disk, 100).is_none() {}
    let error = task.source.take_failure().map(|error| error.chain());
    assert_eq!(
        error.as_deref(),
        Some(
            "a.txt: the file has become shorter while it was read; put files in place when they \
             are complete (write them elsewhere, then rename), and leave them alone"
        )
    );
}

/// A task that has its listing and has not looked at it.
fn listed(source: &FileSource<LinesFormat>, disk: &mut MemoryDisk) -> Task<LinesFormat> {
    let mut task = Task::new(source, 0, 1, 7);
    task.poll(1);
    disk.accept(task.source.env());
    let listing = disk.answer().expect("it has been asked for");
    task.source.file_done(listing);
    task
}

/// What comes of a file to which a line is added when `is_time`.
fn read_growing(
    source: &FileSource<LinesFormat>,
    content: &str,
    is_time: impl Fn(&Task<LinesFormat>) -> bool,
) -> Option<String> {
    let mut disk = MemoryDisk::new(1).with("a.txt", content);
    let mut task = Task::new(source, 0, 1, 7);
    while !is_time(&task) {
        assert!(task.run(&mut disk, 1).is_none(), "it is never time");
    }
    disk.files.get_mut(Path::new("a.txt")).expect("it is there").extend(b"more\n");
    while task.run(&mut disk, 100).is_none() {}
    task.source.take_failure().map(|error| error.chain())
}

#[test]
fn a_file_that_grows_says_what_to_do_and_half_a_line_is_no_record() {
    let grown = "a.txt: the file has become longer while it was read; put files in place when they \
                 are complete (write them elsewhere, then rename), and leave them alone";
    let source = FileSource::lines("a.txt").unsplittable();
    let long = "line\n".repeat(100_000);
    let is_listed =
        |task: &Task<LinesFormat>| task.source.env().requests.borrow().split_names.len() == 1;
    let is_begun = |task: &Task<LinesFormat>| !task.records.is_empty();
    for content in ["", "line\nhalf a li", long.as_str()] {
        assert_eq!(read_growing(&source, content, is_listed).as_deref(), Some(grown));
    }
    for source in [source.clone(), source.clone().watch(Duration::from_secs(1))] {
        assert_eq!(read_growing(&source, &long, is_begun).as_deref(), Some(grown));
    }
    let mut disk = MemoryDisk::new(1).with("a.txt", "line\n");
    let mut task = listed(&source, &mut disk);
    disk.files.insert("a.txt".into(), b"line\nline\n".to_vec());
    while task.run(&mut disk, 100).is_none() {}
    assert_eq!(task.source.take_failure().map(|error| error.chain()).as_deref(), Some(grown));
}

#[test]
fn a_watched_file_that_grows_when_it_has_been_read_says_what_to_do() {
    let source = FileSource::lines("in").watch(Duration::from_secs(1));
    let mut disk = MemoryDisk::new(3).with("in/a", "1\n");
    let mut task = Task::new(&source, 0, 1, 7);
    while task.run(&mut disk, 100).is_none() {}
    disk.files.insert("in/a".into(), b"1\n2\n".to_vec());
    task.source.processing_time(5000);
    while task.run(&mut disk, 100).is_none() {}
    assert_eq!(
        task.source.take_failure().map(|error| error.chain()).as_deref(),
        Some(
            "in/a: the file has become longer since it was found, and a watched file is read once; \
             give what is new a name of its own, and put it in place when it is complete (write it \
             elsewhere, then rename)"
        )
    );
}

#[test]
fn a_file_that_goes_between_listing_and_opening_says_what_to_do() {
    let mut disk = MemoryDisk::new(1).with("in/a", "1\n");
    let mut task = listed(&FileSource::lines("in"), &mut disk);
    disk.files.clear();
    while task.run(&mut disk, 100).is_none() {}
    assert_eq!(
        task.source.take_failure().map(|error| error.chain()).as_deref(),
        Some(
            "operator payments: could not open in/a: entity not found; put it there, or correct \
             the path"
        )
    );
}

#[test]
fn a_disk_that_cannot_be_read_says_what_to_do() {
    check_error(
        &FileSource::lines("in/a"),
        MemoryDisk::new(1).with("in/a", "1\n").failing_at("read", "in/a", ErrorKind::Other),
        "operator payments: could not read in/a: other error; check the disk and the mount, then \
         start the job again",
    );
}

#[test]
fn a_large_listing_is_dealt_out_in_several_turns() {
    let mut disk = (0..1000).fold(MemoryDisk::new(3), |disk, i| disk.with(&format!("in/{i}"), ""));
    let mut task = listed(&FileSource::lines("in"), &mut disk);
    for _ in 0..10 {
        assert_eq!(task.poll(1000), SourceStatus::Ready, "there is more to deal out");
    }
    assert!(task.source.env().requests.borrow().files.len() <= 2, "reading has begun meanwhile");
    while task.run(&mut disk, 1000).is_none() {}
    let finished = task.splits.iter().filter(|e| matches!(e, SplitEvent::Finished(_)));
    assert_eq!(finished.count(), 1000);
    let snapshot = task.source.snapshot();
    let reader = SnapshotReader::new(&snapshot, "source");
    let states = reader.operator_state::<super::split::SplitState>("split/");
    assert_eq!(states.expect("just written"), [], "what has been read takes a hash each");
}

#[test]
fn bad_records_go_to_the_dead_letters_and_are_counted() {
    let text = "id,amount\n1,1\nx,2\n3\n4,4\n";
    let mut disk = MemoryDisk::new(1).with("a.csv", text);
    let source = payments("a.csv").on_error(skip_to("dead-letter"));
    let mut task = Task::new(&source, 0, 1, 7);
    while task.run(&mut disk, 100).is_none() {}
    let ids: Vec<_> =
        task.records.iter().map(|record| (record.position, record.value.id)).collect();
    assert_eq!(ids, [(10, 1), (20, 4)]);
    assert_eq!(task.source.env().dead_letters.get(), 2);
    let first = DeadLetter::new("a.csv:3, column 1 (id)", "'x' is not a whole number", b"x,2");
    let second = DeadLetter::new("a.csv:4", "1 field where the header has 2 (id, amount)", b"3");
    assert_eq!(
        task.dead_letters(),
        [first.at("a.csv", 3).in_field(1, Some("id".to_string())), second.at("a.csv", 4)]
    );
}

#[test]
fn a_dead_letter_has_the_bytes_as_they_came() {
    let mut disk = MemoryDisk::new(1).with("a.txt", b"a\nb\xff\r\n".to_vec());
    let source = FileSource::lines("a.txt").on_error(skip_to("dead-letter"));
    let mut task = Task::new(&source, 0, 1, 7);
    while task.run(&mut disk, 100).is_none() {}
    let letters = task.dead_letters();
    assert_eq!((letters.len(), letters[0].raw.as_slice()), (1, &b"b\xff"[..]));
}

/// Lines of which those in `bad` are not UTF-8, read in ranges of 16 bytes.
fn lines_with_bad(count: u64, bad: &[u64]) -> (FileSource<LinesFormat>, Vec<u8>) {
    let line =
        |n| if bad.contains(&n) { b"\xff\n".to_vec() } else { format!("{n}\n").into_bytes() };
    let text = (1..=count).flat_map(line).collect();
    let mut source = FileSource::lines("a.txt").split_bytes(16);
    source.piece_bytes = 8;
    (source, text)
}

#[test]
fn a_bad_record_far_behind_the_beginning_is_named_with_its_line() {
    let (source, text) = lines_with_bad(100, &[77]);
    check_error(
        &source,
        MemoryDisk::new(1).with("a.txt", text),
        &format!(
            "a.txt:77, character 1: the byte 0xff is not UTF-8; save the file as UTF-8; {ADVICE}"
        ),
    );
}

#[test]
fn dead_letters_of_all_ranges_have_their_lines_and_the_other_records_are_read() {
    let bad = [3, 4, 40, 77, 78, 99];
    let (source, text) = lines_with_bad(100, &bad);
    let source = source.on_error(skip_to("dead-letter"));
    let (mut lines, mut values) = (Vec::new(), 0);
    for task_index in 0..3 {
        let mut disk = MemoryDisk::new(5).with("a.txt", text.clone());
        let mut task = Task::new(&source, task_index, 3, 7);
        while task.run(&mut disk, 1000).is_none() {}
        assert!(!task.source.env().has_failed(), "{:?}", task.source.take_failure());
        lines.extend(task.dead_letters().iter().filter_map(|letter| letter.line));
        values += task.records.len();
    }
    lines.sort_unstable();
    assert_eq!((lines.as_slice(), values), (&bad[..], 94));
}

#[test]
fn a_line_of_ten_megabytes_is_read_and_one_beyond_the_limit_is_an_error() {
    let long = "x".repeat(10 << 20);
    let source = FileSource::lines("a.txt");
    let disk = || MemoryDisk::new(1).with("a.txt", format!("a\n{long}\nb"));
    assert_eq!(read_all(&source, 1, 7, disk), ["a", &long, "b"]);

    let too_long = "y".repeat(LINE_BYTES_MAX + 100_000);
    let mut disk = MemoryDisk::new(1).with("a.txt", format!("a\n{too_long}\nb\n"));
    let mut task = Task::new(&source.on_error(skip_to("dead-letter")), 0, 1, 7);
    while task.run(&mut disk, 1000).is_none() {}
    let values: Vec<_> = task.records.iter().map(|record| record.value.as_str()).collect();
    assert_eq!(values, ["a", "b"]);
    let letters = task.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        letters[0].reason,
        "a line of more than 16777216 bytes, which is the limit; break it up (lines end with \\n \
         or \\r\\n)"
    );
    assert_eq!(letters[0].place, "a.txt:2");
}

#[test]
fn empty_files_have_no_records() {
    for text in ["", "\n", "\u{feff}", "id,amount", "id,amount\n"] {
        let disk = || MemoryDisk::new(1).with("a.csv", text);
        assert_eq!(read_all(&payments("a.csv"), 2, 7, disk), [], "{text:?}");
    }
    let disk = || MemoryDisk::new(1).with("a.gz", gzip(b"")).with("b.zst", zstd(b"")).with("c", "");
    assert_eq!(read_all(&FileSource::lines("*"), 1, 7, disk), Vec::<String>::new());
}

#[test]
fn line_ends_a_byte_order_mark_and_a_missing_last_end_do_not_matter() {
    let expected = [Payment { id: 1, amount: 1.5 }, Payment { id: 2, amount: 2.5 }];
    for text in [PAYMENTS, PAYMENTS.trim_end(), &PAYMENTS.replace('\n', "\r\n")] {
        for mark in ["", "\u{feff}"] {
            let disk = || MemoryDisk::new(1).with("a.csv", format!("{mark}{text}"));
            assert_eq!(read_all(&payments("a.csv"), 1, 7, disk), expected);
        }
    }
}

#[test]
fn files_are_read_in_order_of_their_paths_and_the_next_is_announced_first() {
    let mut disk =
        MemoryDisk::new(3).with("in/b", "3\n4\n").with("in/a", "1\n2\n").with("in/c", "");
    let mut task = Task::new(&FileSource::lines("in/"), 0, 1, 7);
    while task.run(&mut disk, 100).is_none() {}
    let values =
        task.records.iter().map(|record| (record.split, record.position, record.value.as_str()));
    assert_eq!(values.collect::<Vec<_>>(), [(0, 0, "1"), (0, 2, "2"), (1, 0, "3"), (1, 2, "4")]);
    assert_eq!(
        format!("{:?}", task.splits),
        "[Active(0), Active(1), Finished(0), Active(2), Finished(1), Finished(2)]"
    );
    let names = task.source.take_split_names();
    let names = names.iter().map(|name| (name.split, name.name.as_str(), name.unit));
    assert_eq!(
        names.collect::<Vec<_>>(),
        [(0, "in/a", "byte"), (1, "in/b", "byte"), (2, "in/c", "byte")]
    );
}

#[test]
fn splits_side_by_side_take_turns() {
    let lines = |name: &str| format!("{name}\n").repeat(200);
    let mut disk = MemoryDisk::new(3).with("in/a", lines("a")).with("in/b", lines("b"));
    let mut task = Task::new(&FileSource::lines("in").side_by_side(2), 0, 1, 7);
    while task.run(&mut disk, 100).is_none() {}
    assert_eq!(task.splits[..2], [SplitEvent::Active(0), SplitEvent::Active(1)]);
    let half: Vec<_> = task.records[..200].iter().map(|record| record.split).collect();
    assert!(half.contains(&0) && half.contains(&1), "neither is read first");
    assert_eq!(task.records.len(), 400);
}

#[test]
fn a_paused_split_is_left_alone() {
    let mut disk = MemoryDisk::new(3).with("in/a", "1\n2\n");
    let mut task = Task::new(&FileSource::lines("in"), 0, 1, 7);
    task.source.pause(&[0]);
    assert_eq!(task.run(&mut disk, 100), Some(SourceStatus::Waiting(None)));
    assert_eq!(task.records.len(), 0);
    task.source.pause(&[]);
    assert_eq!(task.run(&mut disk, 100), Some(SourceStatus::Ended));
    assert_eq!(task.records.len(), 2);
}

/// Two tasks on one disk, which `change` changes between their listings: what they read together,
/// or what stops them.
fn read_around(
    source: &FileSource<LinesFormat>,
    change: impl Fn(&mut MemoryDisk),
) -> Result<Vec<String>, Vec<String>> {
    let lines = |name: &str| (0..6).fold(String::new(), |text, i| text + &format!("{name}{i}\n"));
    let mut disk = MemoryDisk::new(3).with("in/b", lines("b")).with("in/c", lines("c"));
    let mut tasks = [0, 1].map(|index| Task::new(source, index, 2, 7));
    while tasks[0].run(&mut disk, 1000).is_none() {}
    // Files are being closed, and nobody waits for that.
    while disk.answer().is_some() {}
    change(&mut disk);
    while tasks[1].run(&mut disk, 1000).is_none() {}
    // A watched directory is listed once more.
    for task in &mut tasks {
        while disk.answer().is_some() {}
        task.source.processing_time(1_000_000);
        while !task.source.env().has_failed() && task.run(&mut disk, 1000).is_none() {}
    }
    let failures = tasks.iter_mut().filter_map(|task| task.source.take_failure());
    let failures: Vec<_> = failures.map(|error| error.chain()).collect();
    if !failures.is_empty() {
        return Err(failures);
    }
    let rows = tasks.into_iter().flat_map(|task| task.records);
    let mut values: Vec<_> = rows.map(|record| record.value).collect();
    values.sort_unstable();
    Ok(values)
}

fn ranges_of_eight_bytes() -> FileSource<LinesFormat> {
    FileSource::lines("in").split_bytes(8)
}

#[test]
fn a_file_that_comes_between_two_listings_makes_no_task_read_anothers_files() {
    let all = ["b0", "b1", "b2", "b3", "b4", "b5", "c0", "c1", "c2", "c3", "c4", "c5"];
    let all = Ok(all.map(ToString::to_string).to_vec());
    assert_eq!(read_around(&ranges_of_eight_bytes(), |_| ()), all);
    let came_before = |disk: &mut MemoryDisk| {
        disk.files.insert("in/a".into(), b"a0\na1\na2\na3\n".to_vec());
    };
    assert_eq!(read_around(&ranges_of_eight_bytes(), came_before), all);
}

#[test]
fn a_file_that_grows_between_two_listings_is_never_read_in_part() {
    let grow = |disk: &mut MemoryDisk| {
        let file = disk.files.get_mut(Path::new("in/b")).expect("it is there");
        file.extend(b"b6\nb7\nb8\nb9\n".repeat(3));
    };
    let fixed = ranges_of_eight_bytes();
    let watched = ranges_of_eight_bytes().watch(Duration::from_secs(1));
    for source in [fixed, watched] {
        let failures = read_around(&source, grow).expect_err("nobody knows what was read");
        for failure in failures {
            assert!(failure.starts_with("in/b: the file has become longer "), "{failure}");
        }
    }
}

#[test]
fn new_files_of_a_watched_directory_are_read_once() {
    let source = FileSource::lines("in").watch(Duration::from_secs(1));
    let mut disk = MemoryDisk::new(3);
    let mut tasks = [Task::new(&source, 0, 2, 7), Task::new(&source, 1, 2, 8)];
    let mut now_ms = 10_000;
    for arrivals in [vec![], vec!["in/b", "in/c.inprogress"], vec!["in/a", "in/c", "in/d"], vec![]]
    {
        for path in arrivals {
            disk.files.insert(path.into(), format!("{path}\n").into_bytes());
        }
        for task in &mut tasks {
            task.source.processing_time(now_ms);
            assert_eq!(task.run(&mut disk, 1000), Some(SourceStatus::Waiting(Some(now_ms + 1000))));
        }
        now_ms += 1000;
    }
    let rows = tasks.iter().flat_map(|task| &task.records);
    let mut values: Vec<_> = rows.map(|record| record.value.as_str()).collect();
    values.sort_unstable();
    assert_eq!(values, ["in/a", "in/b", "in/c", "in/d"]);
    for (task, number) in tasks.iter().zip([0, 1]) {
        assert_eq!(task.splits[0], SplitEvent::Idle(number), "nothing was there at first");
    }
}

#[test]
fn a_restored_watch_reads_what_was_not_read_and_nothing_twice() {
    let source = FileSource::lines("in").watch(Duration::from_secs(1)).split_bytes(8);
    let content =
        |i: u32| (0..20).fold(String::new(), |text, line| text + &format!("{i}-{line}\n"));
    let disk = || (0..9).fold(MemoryDisk::new(3), |d, i| d.with(&format!("in/{i}"), content(i)));
    let mut snapshot = Snapshot::default();
    let mut values = Vec::new();
    // The second task has not even listed the directory.
    for (task_index, step_count) in [(0, 60), (1, 0), (2, 25)] {
        let mut task = Task::new(&source, task_index, 3, 7);
        task.run(&mut disk(), step_count);
        snapshot.merge(task.source.snapshot());
        values.extend(task.records.into_iter().map(|record| record.value));
    }
    assert!(!values.is_empty() && values.len() < 180);
    for task_index in 0..2 {
        let mut task = Task::new(&source, task_index, 2, 7);
        task.source.restore(&snapshot).expect("it was just written");
        let mut disk = disk();
        while task.run(&mut disk, 1000).is_none() {}
        values.extend(task.records.into_iter().map(|record| record.value));
    }
    values.sort_unstable();
    let mut expected: Vec<_> = (0..9)
        .flat_map(|i| content(i).lines().map(ToString::to_string).collect::<Vec<_>>())
        .collect();
    expected.sort_unstable();
    assert_eq!(values, expected);
}

/// Two tasks are in the middle of a file each; a third file is for later.
#[test]
fn splits_that_had_begun_are_announced_and_read_together_after_a_restore() {
    let lines =
        |name: &str| (0..2_000).fold(String::new(), |text, n| text + &format!("{name}{n}\n"));
    let disk = || {
        ["a", "b", "c"].iter().fold(MemoryDisk::new(3), |d, i| d.with(&format!("in/{i}"), lines(i)))
    };
    let source = FileSource::lines("in");
    let mut snapshot = Snapshot::default();
    let mut before = Vec::new();
    for task_index in 0..2 {
        let mut task = Task::new(&source, task_index, 2, 7);
        let mut disk = disk();
        while task.records.is_empty() {
            assert_eq!(task.run(&mut disk, 1), None);
        }
        snapshot.merge(task.source.snapshot());
        before.extend(task.records.into_iter().map(|record| record.value));
    }
    let mut task = Task::new(&source, 0, 1, 7);
    task.source.restore(&snapshot).expect("it was just written");
    task.poll(1);
    assert_eq!(task.splits, [SplitEvent::Active(0), SplitEvent::Active(1)]);
    let mut disk = disk();
    while task.run(&mut disk, 1000).is_none() {}
    let first_of = |split| task.records.iter().position(|record| record.split == split);
    let last_of = |split| task.records.iter().rposition(|record| record.split == split);
    assert!(first_of(1) < last_of(0) && first_of(0) < last_of(1), "one after the other");
    assert!(last_of(0).max(last_of(1)) < first_of(2), "the third file has waited");
    before.extend(task.records.into_iter().map(|record| record.value));
    before.sort_unstable();
    let mut expected: Vec<_> = ["a", "b", "c"]
        .iter()
        .flat_map(|i| lines(i).lines().map(ToString::to_string).collect::<Vec<_>>())
        .collect();
    expected.sort_unstable();
    assert_eq!(before, expected);
}

#[test]
fn mistakes_in_the_description_are_found_all_at_once() {
    let source = FileSource::lines("").watch(Duration::ZERO).side_by_side(0);
    assert_eq!(source.problems().len(), 3);
    assert_eq!(payments("in").delimiter(b'\n').problems().len(), 1);
    let described = payments("in").watch(Duration::from_secs(5)).describe();
    assert_eq!(described, "files in (CSV), watched every 5s");
}

/// A file's content, and the same compressed in several members or frames.
fn compressed(text: &[u8], kind: u8, cut: usize) -> (&'static str, Vec<u8>) {
    let (first, second) = text.split_at(cut.min(text.len()));
    match kind {
        0 => ("in/a.txt", text.to_vec()),
        1 => ("in/a.gz", [gzip(first), gzip(second)].concat()),
        _ => ("in/a.zst", [zstd(first), zstd(second)].concat()),
    }
}

fn any_lines() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-c]{0,9}|[a-z]{60}", 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any cutting into pieces and ranges, any compression, any number of tasks and any order of
    /// answers give the same records at the same positions.
    #[test]
    fn records_do_not_depend_on_how_a_file_is_cut(
        lines in any_lines(),
        has_last_end: bool,
        has_mark: bool,
        kind in 0_u8..3,
        cut in 0_usize..200,
        piece_bytes in 1_usize..50,
        split_bytes in 1_u64..100,
        parallelism in 1_u32..4,
        seed: u64,
    ) {
        let mut text = String::new();
        let mut expected = Vec::new();
        if has_mark {
            text.push('\u{feff}');
        }
        for (index, line) in lines.iter().enumerate() {
            let is_last = index + 1 == lines.len();
            if is_last && !has_last_end && line.is_empty() {
                break;
            }
            expected.push((text.len() as u64, line.clone()));
            text.push_str(line);
            if !is_last || has_last_end {
                text.push('\n');
            }
        }
        let (path, bytes) = compressed(text.as_bytes(), kind, cut);
        let mut source = FileSource::lines("in").split_bytes(split_bytes);
        source.piece_bytes = piece_bytes;
        let mut found = Vec::new();
        for task_index in 0..parallelism {
            let mut disk = MemoryDisk::new(seed).with(path, bytes.clone());
            let mut task = Task::new(&source, task_index, parallelism, seed);
            while task.run(&mut disk, 1000).is_none() {}
            prop_assert!(!task.source.env().has_failed(), "{:?}", task.source.take_failure());
            found.extend(task.records.into_iter().map(|record| (record.position, record.value)));
        }
        found.sort_unstable();
        prop_assert_eq!(found, expected);
    }

    /// The same of CSV, whose header every range must know, with a stop and a restore on another
    /// number of tasks somewhere.
    #[test]
    fn a_restore_goes_on_behind_the_last_record(
        ids in prop::collection::vec(0_u32..100_000, 0..60),
        kind in 0_u8..3,
        cut in 0_usize..200,
        piece_bytes in 1_usize..60,
        split_bytes in 1_u64..100,
        (before, after) in (1_u32..4, 1_u32..4),
        stop in 0_usize..60,
        seed: u64,
    ) {
        let rows = ids.iter().fold(String::new(), |text, id| text + &format!("{id},{id}.5\n"));
        let (path, bytes) = compressed(format!("id,amount\n{rows}").as_bytes(), kind, cut);
        let disk = || MemoryDisk::new(seed).with(path, bytes.clone());
        let mut source = payments("in").splittable().split_bytes(split_bytes);
        source.piece_bytes = piece_bytes;
        let mut found = Vec::new();
        let mut snapshot = Snapshot::default();
        for task_index in 0..before {
            let mut task = Task::new(&source, task_index, before, seed);
            task.run(&mut disk(), stop);
            prop_assert!(!task.source.env().has_failed(), "{:?}", task.source.take_failure());
            snapshot.merge(task.source.snapshot());
            found.extend(task.records.into_iter().map(|record| record.value.id));
        }
        for task_index in 0..after {
            let mut task = Task::new(&source, task_index, after, seed);
            task.source.restore(&snapshot).expect("just written");
            let mut disk = disk();
            while task.run(&mut disk, 1000).is_none() {}
            prop_assert!(!task.source.env().has_failed(), "{:?}", task.source.take_failure());
            found.extend(task.records.into_iter().map(|record| record.value.id));
        }
        found.sort_unstable();
        let mut expected = ids;
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
    }

    /// No bytes under any name make a reader panic or stand still.
    #[test]
    fn any_bytes_are_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        head in 0_usize..4,
        name in prop::sample::select(vec!["a.csv", "a.gz", "a.zst"]),
        seed: u64,
    ) {
        let (gzip_head, zstd_head) = (b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\x28\xb5\x2f\xfd");
        let heads: [&[u8]; 4] = [b"", b"id,amount\n", gzip_head, zstd_head];
        let bytes = [heads[head], &bytes].concat();
        let disk = || MemoryDisk::new(seed).with(name, bytes.clone());
        let dead = skip_to("dead-letter");
        let _ = Task::new(&payments(name).on_error(dead), 0, 1, seed).finish(&mut disk());
        let _ = Task::new(&FileSource::lines(name).on_error(dead), 0, 1, seed).finish(&mut disk());
        let json = FileSource::json_lines::<Payment>(name).on_error(dead);
        let _ = Task::new(&json, 0, 1, seed).finish(&mut disk());
    }
}
