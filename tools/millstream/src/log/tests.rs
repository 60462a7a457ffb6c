//! The commands on a log of two segments, on a damaged one, and on none.

use std::path::Path;

use clap::Parser as _;
use millstream::connector::log::format::{BatchWriter, DATA_AT, Head, Slot};
use millstream::connector::log::name::{SegmentId, Stage};

use crate::output::Output;
use crate::{Arguments, Outcome, run};

/// What a command made of it: outcome, output, errors.
fn millstream(arguments: &[&str], path: &Path) -> (Outcome, String, String) {
    let path = path.to_str().expect("a name of ASCII");
    let arguments = [&["millstream", "log"], arguments, &[path]].concat();
    let arguments = Arguments::try_parse_from(arguments).expect("a command line");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let outcome = run(&arguments, &mut Output::new(&mut out), &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("commands print text");
    (outcome, text(out), text(err))
}

fn id(base: u64) -> SegmentId {
    SegmentId { partition: 0, base, generation: 1 }
}

/// Writes a segment with three records, of which the slot says that `committed` are committed.
fn write(directory: &Path, base: u64, previous: Option<SegmentId>, committed: u64) {
    let head = Head { id: id(base), partition_count: 1, previous, format: "txt".to_string() };
    let mut bytes = head.encode(1);
    let mut batch = BatchWriter::default();
    (base..base + 3).for_each(|n| batch.push(n as i64 * 10, format!("number {n}\n").as_bytes()));
    let (batch, last_time_ms) = batch.take(base, Vec::new());
    bytes.extend_from_slice(&batch);
    if 0 < committed {
        let (end, length) = (base + committed, bytes.len() as u64);
        let slot = Slot { sequence: 2, end, bytes: length, last_time_ms, committed_ms: 2 };
        let at = slot.at() as usize;
        bytes[at..at + slot.encode().len()].copy_from_slice(&slot.encode());
    }
    let path = directory.join(id(base).name(Stage::Committed));
    std::fs::write(path, bytes).expect("it can be written");
}

/// The first segment's last commit did not reach its slot.
fn two() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a temporary folder");
    write(place.path(), 0, None, 0);
    write(place.path(), 3, Some(id(0)), 3);
    place
}

#[test]
fn a_log_is_inspected_and_sound_and_its_records_are_printed() {
    let place = two();
    let (outcome, out, err) = millstream(&["inspect"], place.path());
    assert_eq!((outcome, err.as_str()), (Outcome::Sound, ""));
    let expected = "partition 0 of 1: records 0..6 (txt), committed 2 ms\n  \
                    p00000-00000000000000000000-00001.log  records 0..3\n  \
                    p00000-00000000000000000003-00001.log  records 3..6, event time up to 50 ms\n";
    assert_eq!(out, expected);
    let (outcome, out, _) = millstream(&["verify"], place.path());
    assert_eq!(outcome, Outcome::Sound);
    assert_eq!(out.matches(".log: sound, 3 records\n").count(), 2, "{out}");
    let (_, out, _) = millstream(&["dump", "--from", "2", "--limit", "2"], place.path());
    assert_eq!(out, "0 2 20 number 2\n0 3 30 number 3\n");
    let (_, out, _) = millstream(&["dump", "--partition", "1"], place.path());
    assert_eq!(out, "");
}

#[test]
fn damage_is_found_and_the_rest_looked_at() {
    let place = two();
    let path = place.path().join(id(0).name(Stage::Committed));
    let mut bytes = std::fs::read(&path).expect("it is there");
    bytes[DATA_AT as usize + 50] ^= 1;
    std::fs::write(&path, bytes).expect("it can be written");
    let (outcome, out, _) = millstream(&["verify"], place.path());
    assert_eq!(outcome, Outcome::Damaged);
    assert!(out.contains("is damaged at byte 12292: a wrong checksum\n"), "{out}");
    assert!(out.contains("00003-00001.log: sound"), "{out}");
    let (outcome, _, err) = millstream(&["dump"], place.path());
    assert_eq!(outcome, Outcome::Damaged);
    assert!(err.contains("a wrong checksum"), "{err}");
    std::fs::remove_file(&path).expect("it is there");
    write(place.path(), 6, Some(id(0)), 3);
    let (outcome, out, _) = millstream(&["verify"], place.path());
    assert_eq!(outcome, Outcome::Damaged);
    assert!(out.contains("it is not the segment behind the one before it"), "{out}");
}

#[test]
fn where_there_is_no_log_that_is_said() {
    let place = tempfile::tempdir().expect("a temporary folder");
    for command in ["inspect", "verify", "dump"] {
        let (outcome, _, err) = millstream(&[command], place.path());
        assert_eq!(outcome, Outcome::Failed);
        assert!(err.starts_with("there is no log in "), "{err}");
    }
}
