//! A file that is replaced, on a disk that fails or loses power at every operation.

use std::path::Path;

use super::*;
use crate::test_disk::{Disk, Fault};

const OLD: &[u8] = b"what was there";

/// Several pieces.
fn new_bytes() -> Vec<u8> {
    (0..600_000_u32).map(|number| (number % 251) as u8).collect()
}

fn path() -> PathBuf {
    PathBuf::from("state/manifest")
}

fn begin() -> (Disk, AtomicFile) {
    let mut disk = Disk::default();
    disk.put(&path(), OLD.to_vec());
    (disk, AtomicFile::new(path(), FileId(3), new_bytes()))
}

/// Lets one operation happen. `None`: there is none.
fn advance(disk: &mut Disk, file: &mut AtomicFile) -> Option<Result<Progress, FileFault>> {
    disk.ask(file.next_op(OpId(1))?);
    assert_eq!(file.next_op(OpId(2)), None, "one at a time");
    let done = disk.answer(0).expect("one was asked");
    Some(file.on_done(done.result))
}

/// What came of it, with the fault before the operation of this number.
fn outcome(disk: &mut Disk, file: &mut AtomicFile, fault: (usize, Option<Fault>)) -> bool {
    for number in 0.. {
        if number == fault.0 {
            disk.fault = fault.1;
        }
        match advance(disk, file).expect("there is an operation before the end") {
            Ok(Progress::Op) => {}
            Ok(Progress::Done) => return true,
            Err(_) => return false,
        }
    }
    unreachable!("it comes to its end")
}

fn contents(disk: &mut Disk) -> Vec<u8> {
    disk.remove(&path())
}

#[test]
fn the_new_file_takes_the_place_of_the_old() {
    let (mut disk, mut file) = begin();
    assert!(outcome(&mut disk, &mut file, (0, None)));
    assert_eq!(file.next_op(OpId(9)), None);
    assert_eq!(disk.write_count, 3);
    disk.crash();
    assert_eq!(disk.paths().len(), 1);
    assert!(contents(&mut disk) == new_bytes());
}

#[test]
fn an_empty_file_is_a_file() {
    let (mut disk, _) = begin();
    let mut file = AtomicFile::new(path(), FileId(3), Vec::new());
    assert!(outcome(&mut disk, &mut file, (0, None)));
    disk.crash();
    assert_eq!(contents(&mut disk), b"");
}

#[test]
fn wherever_it_is_cut_off_there_is_the_old_or_the_new() {
    let mut has_ended = false;
    for count in 0.. {
        if has_ended {
            break;
        }
        let (mut disk, mut file) = begin();
        for _ in 0..count {
            let step = advance(&mut disk, &mut file).expect("it is not at its end");
            has_ended = step.expect("the disk works") == Progress::Done;
        }
        disk.crash();
        let found = contents(&mut disk);
        assert!(if has_ended { found == new_bytes() } else { found == OLD }, "after {count}");
    }
}

#[test]
fn wherever_it_fails_the_old_file_stays_and_nothing_else() {
    let faults = [Fault::CreateFails, Fault::WriteFails, Fault::Full, Fault::SyncFails];
    for (fault, number) in faults.into_iter().flat_map(|fault| (0..7).map(move |it| (fault, it))) {
        let (mut disk, mut file) = begin();
        let is_done = outcome(&mut disk, &mut file, (number, Some(fault)));
        assert_eq!(file.next_op(OpId(9)), None, "it is at its end");
        let is_hit = disk.fault.is_none() || fault == Fault::Full && number < 4;
        assert_eq!(is_done, !is_hit, "{fault:?} before operation {number}");
        disk.crash();
        assert_eq!(disk.paths().len(), 1, "{fault:?} before operation {number}");
        let expected = if is_done { new_bytes() } else { OLD.to_vec() };
        assert!(contents(&mut disk) == expected, "{fault:?} before operation {number}");
    }
}

#[test]
fn a_rename_that_fails_is_said_to_have_failed() {
    let (mut disk, mut file) = begin();
    assert!(!outcome(&mut disk, &mut file, (0, Some(Fault::RenameFails))));
    assert!(!disk.paths().contains(Path::new("state/manifest.part")));
    assert!(contents(&mut disk) == new_bytes(), "this disk had renamed it");
}
