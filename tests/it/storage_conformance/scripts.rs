//! The scripts: a behaviour of the contract each, from opening what is missing to listing.

use std::ffi::OsStr;
use std::fs::{File, Permissions, TryLockError, set_permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use millstream_storage::io::OpenMode::{Create, CreateDirect, Lock, Read, ReadDirect};
use millstream_storage::io::{DIRECT_ALIGNMENT_BYTES, FileAnswer};

use super::bench::{Bench, on_every_disk, on_real_disks};

const BLOCK: usize = DIRECT_ALIGNMENT_BYTES;

#[test]
fn what_is_missing_cannot_be_opened_and_its_id_not_be_used() {
    on_every_disk(|bench| {
        bench.open(1, "missing", Read).read(1, 0, 10).close(1);
        bench.expect(&[
            "could not open missing: No such file or directory (os error 2)",
            "could not read missing: Bad file descriptor (os error 9)",
            "could not close missing: Bad file descriptor (os error 9)",
        ]);
        bench.sync(7).read(7, 0, 1);
        bench.expect(&[
            "could not sync file 7, which is not open: Bad file descriptor (os error 9)",
            "could not read file 7, which is not open: Bad file descriptor (os error 9)",
        ]);
    });
}

#[test]
fn a_failed_id_can_be_used_for_another_file() {
    on_every_disk(|bench| {
        bench.prepare("there", b"here");
        bench.open(1, "missing", Read);
        bench.expect(&["could not open missing: No such file or directory (os error 2)"]);
        bench.open(1, "there", Read).read(1, 0, 10).close(1);
        bench.expect(&["opened 4", "read here", "closed"]);
    });
}

#[test]
fn what_is_written_under_a_temporary_name_is_read_under_its_own() {
    on_every_disk(|bench| {
        bench.open(1, "new/deep/part.tmp", Create);
        bench.write(1, 0, b"hello ").write(1, 6, b"world").sync(1).close(1);
        bench.expect(&["opened 0", "written hello ", "written world", "synced", "closed"]);
        bench.rename("new/deep/part.tmp", "new/deep/part");
        bench.expect(&["renamed"]);
        bench.open(1, "new/deep/part", Read).read(1, 0, 100).close(1);
        bench.open(2, "new/deep/part.tmp", Read);
        bench.expect(&[
            "opened 11",
            "read hello world",
            "closed",
            "could not open new/deep/part.tmp: No such file or directory (os error 2)",
        ]);
    });
}

#[test]
fn reads_end_at_the_end_of_the_file() {
    on_every_disk(|bench| {
        bench.prepare("input", b"0123456789");
        bench.open(1, "input", Read);
        bench.read(1, 0, 4).read(1, 8, 4).read(1, 10, 4).read(1, 1_000, 4).read(1, 3, 0).close(1);
        bench.expect(&["opened 10", "read 0123", "read 89", "read ", "read ", "read ", "closed"]);
    });
}

#[test]
fn a_gap_is_read_as_zeroes() {
    on_every_disk(|bench| {
        bench.open(1, "gap", Create).write(1, 5, b"x").close(1);
        bench.expect(&["opened 0", "written x", "closed"]);
        bench.open(1, "gap", Read).read(1, 0, 9).close(1);
        bench.expect(&["opened 6", "read \0\0\0\0\0x", "closed"]);
    });
}

#[test]
fn creating_empties_what_was_there() {
    on_every_disk(|bench| {
        bench.prepare("old", b"something long");
        bench.open(1, "old", Create).write(1, 0, b"new").close(1);
        bench.expect(&["opened 0", "written new", "closed"]);
        bench.open(1, "old", Read).read(1, 0, 100).close(1);
        bench.expect(&["opened 3", "read new", "closed"]);
    });
}

#[test]
fn direct_files_are_written_and_read_in_blocks() {
    on_every_disk(|bench| {
        bench.open(1, "table", CreateDirect);
        bench.write(1, BLOCK as u64, &[b'b'; 3 * BLOCK]).write(1, 0, &[b'a'; BLOCK]);
        bench.sync(1).close(1);
        bench.expect(&["opened 0", "written 12288*b..b", "written 4096*a..a", "synced", "closed"]);
        bench.open(1, "table", ReadDirect);
        bench.read(1, 0, 2 * BLOCK).read(1, 3 * BLOCK as u64, 4 * BLOCK).read(1, 1 << 20, BLOCK);
        bench.read(1, 0, 4 * BLOCK).close(1);
        bench.expect(&[
            "opened 16384",
            "read 8192*a..b",
            "read 4096*b..b",
            "read ",
            "read 16384*a..b",
            "closed",
        ]);
    });
}

#[test]
fn direct_transfers_that_are_not_whole_blocks_are_refused() {
    on_every_disk(|bench| {
        bench.open(1, "table", CreateDirect).write(1, 0, b"short").write(1, 100, &[0; BLOCK]);
        bench.write(1, 0, &[b'a'; BLOCK]).close(1);
        bench.expect(&[
            "opened 0",
            "could not write table: Invalid argument (os error 22)",
            "could not write table: Invalid argument (os error 22)",
            "written 4096*a..a",
            "closed",
        ]);
    });
}

#[test]
fn a_direct_read_ends_at_an_end_within_a_block() {
    on_every_disk(|bench| {
        bench.prepare("input", &[b'i'; 5_000]);
        bench.open(1, "input", ReadDirect);
        bench.read(1, 0, 4 * BLOCK).read(1, BLOCK as u64, BLOCK).read(1, 2 * BLOCK as u64, BLOCK);
        bench.expect(&["opened 5000", "read 5000*i..i", "read 904*i..i", "read "]);
    });
}

#[test]
fn transfers_larger_than_any_buffer() {
    on_every_disk(|bench| {
        let bytes: Vec<u8> = (0..3 << 20).map(|i: u32| (i / 4096) as u8).collect();
        for (mode, read_mode) in [(Create, Read), (CreateDirect, ReadDirect)] {
            bench.open(1, "large", mode).write(1, 0, &bytes).close(1);
            assert!(bench.answers().iter().all(|done| done.result.is_ok()));
            bench.open(1, "large", read_mode).read(1, 0, bytes.len()).close(1);
            let done = bench.answers();
            let expected = FileAnswer::Read { bytes: bytes.clone() };
            assert_eq!(done[1].result.as_ref().expect("it can be read"), &expected);
        }
    });
}

#[test]
fn files_are_for_what_they_were_opened_for() {
    on_every_disk(|bench| {
        bench.prepare("input", b"0123456789");
        bench.open(1, "input", Read).write(1, 0, b"x").close(1);
        bench.open(2, "output", Create).read(2, 0, 1).close(2);
        bench.expect(&[
            "opened 10",
            "could not write input: Bad file descriptor (os error 9)",
            "closed",
            "opened 0",
            "could not read output: Bad file descriptor (os error 9)",
            "closed",
        ]);
    });
}

#[test]
fn the_last_write_to_a_place_wins() {
    on_every_disk(|bench| {
        bench.open(1, "places", Create);
        for round in 0..50_u8 {
            bench.write(1, u64::from(round % 5), &[b'a' + round % 26; 6]);
        }
        bench.sync(1).close(1);
        assert!(bench.answers().iter().all(|done| done.result.is_ok()));
        bench.open(1, "places", Read).read(1, 0, 100);
        // Rounds 45 to 49 write at 0 to 4.
        bench.expect(&["opened 10", "read tuvwxxxxxx"]);
    });
}

#[test]
fn many_files_and_many_operations_in_flight() {
    on_every_disk(|bench| {
        let content = |file: u64, block: u64| [(file * 16 + block) as u8; 512];
        for file in 0..100 {
            bench.open(file, &format!("many/{file}"), Create);
            for block in 0..10 {
                bench.write(file, block * 512, &content(file, block));
            }
            bench.close(file);
        }
        assert!(bench.answers().iter().all(|done| done.result.is_ok()));
        for file in 0..100 {
            bench.open(file, &format!("many/{file}"), Read);
            for block in 0..10 {
                bench.read(file, block * 512, 512);
            }
            bench.close(file);
        }
        for (index, done) in (0_u64..).zip(bench.answers()) {
            let (file, step) = (index / 12, index % 12);
            if let Ok(FileAnswer::Read { bytes }) = done.result {
                assert_eq!(bytes, content(file, step - 1), "file {file}, block {step}");
            } else {
                assert!([0, 11].contains(&step), "{:?}", done.result);
            }
        }
    });
}

#[test]
fn listings_find_files_by_name_directory_and_pattern() {
    on_every_disk(|bench| {
        for name in ["d/b.csv", "d/a.csv", "d/.hidden.csv", "d/c.txt", "d/deep/e.csv"] {
            bench.prepare(name, name.as_bytes());
        }
        bench.list("d/c.txt").list("d").list("d/*.csv").list("d/**/*.csv").list("d/x*");
        bench.list("nothing").list("d/[");
        bench.expect(&[
            "listed d/c.txt 7",
            "listed d/.hidden.csv 13, d/a.csv 7, d/b.csv 7, d/c.txt 7",
            "listed d/a.csv 7, d/b.csv 7",
            "listed d/a.csv 7, d/b.csv 7, d/deep/e.csv 12",
            "listed ",
            "listed ",
            &invalid_pattern(bench),
        ]);
    });
}

#[test]
fn a_directory_that_contains_itself_is_listed_once() {
    on_every_disk(|bench| {
        for name in ["in/a.csv", "in/x/b.csv"] {
            bench.prepare(name, b"1");
        }
        let (directory, below) = (bench.path("in"), bench.path("in/x"));
        symlink(&directory, directory.join("loop")).expect("the directory is writable");
        symlink(&below, below.join("again")).expect("the directory is writable");
        symlink(directory.join("a.csv"), directory.join("c.csv")).expect("it is writable");
        bench.list("in/**/*.csv").list("in/*/*.csv");
        bench.expect(&["listed in/a.csv 1, in/x/b.csv 1", "listed in/loop/a.csv 1, in/x/b.csv 1"]);
    });
}

#[test]
fn a_name_that_is_not_text_is_listed_as_it_is() {
    on_every_disk(|bench| {
        bench.prepare("in/a.csv", b"1");
        let name = OsStr::from_bytes(b"b\xff.csv");
        std::fs::write(bench.path("in").join(name), b"12").expect("the directory is writable");
        bench.list("in/*.csv").list("in/**/*.csv").list("in/*.txt").list("in");
        let all = "listed in/a.csv 1, in/b\u{fffd}.csv 2";
        bench.expect(&[all, all, "listed ", all]);
    });
}

#[test]
fn what_cannot_be_looked_at_is_an_error_that_names_it() {
    on_every_disk(|bench| {
        bench.prepare("in/a/data.csv", b"1");
        // A link to itself is refused to everybody, root too.
        symlink("data.csv", bench.path("in/b-data.csv")).expect("the directory is writable");
        std::fs::create_dir(bench.path("in/b")).expect("the directory is writable");
        symlink("data.csv", bench.path("in/b/data.csv")).expect("the directory is writable");
        bench.list("in/*/data.csv").list("in/**/*.csv").list("in/b/data.csv");
        let reason = "Too many levels of symbolic links (os error 40)";
        bench.expect(&[
            &format!("could not list in/*/data.csv: in/b/data.csv: {reason}"),
            &format!("could not list in/**/*.csv: in/b/data.csv: {reason}"),
            &format!("could not list in/b/data.csv: {reason}"),
        ]);
    });
}

/// Root may read everything, so this says nothing when root runs it.
#[test]
fn a_directory_that_may_not_be_entered_is_an_error_that_names_it() {
    on_every_disk(|bench| {
        bench.prepare("in/a/data.csv", b"1");
        bench.prepare("in/b/data.csv", b"1");
        let closed = bench.path("in/b");
        let close = |mode| set_permissions(&closed, Permissions::from_mode(mode));
        close(0o000).expect("the directory is ours");
        if std::fs::read_dir(&closed).is_ok() {
            close(0o755).expect("the directory is ours");
            eprintln!("skipped: this user may enter every directory");
            return;
        }
        bench.list("in/*/data.csv").list("in/**/*.csv").list("in/b");
        let reason = "Permission denied (os error 13)";
        bench.expect(&[
            &format!("could not list in/*/data.csv: in/b/data.csv: {reason}"),
            &format!("could not list in/**/*.csv: in/b: {reason}"),
            &format!("could not list in/b: {reason}"),
        ]);
        close(0o755).expect("the directory is ours");
    });
}

#[test]
fn a_socket_is_named_as_what_it_is() {
    on_every_disk(|bench| {
        bench.prepare("in/a.csv", b"1");
        let _socket = UnixListener::bind(bench.path("in/s")).expect("a short path");
        bench.list("in/s").list("in/*").list("in");
        let reason = "in/s is a socket, and only regular files are read";
        bench.expect(&[
            &format!("could not list in/s: {reason}"),
            &format!("could not list in/*: {reason}"),
            "listed in/a.csv 1",
        ]);
    });
}

#[test]
fn a_directory_is_listed_by_its_path() {
    on_every_disk(|bench| {
        bench.prepare("out[/part", b"1");
        bench.list_directory("out[").list_directory("nothing[");
        bench.expect(&["listed out[/part 1", "listed "]);
    });
}

#[test]
fn a_lock_is_held_by_all_of_one_host_and_leaves_nothing() {
    on_every_disk(|bench| {
        bench.open(1, "out/.lock", Lock).open(2, "out/.lock", Lock);
        bench.expect(&["opened 0", "opened 0"]);
        bench.read(1, 0, 1).close(1);
        bench.expect(&["could not read out/.lock: Bad file descriptor (os error 9)", "closed"]);
        bench.open(1, "out/.lock", Lock).close(2).close(1);
        bench.expect(&["opened 0", "closed", "closed"]);
        bench.list_directory("out");
        bench.expect(&["listed "]);
    });
}

#[test]
fn a_lock_is_refused_from_the_first_holder_of_another_host_to_its_last() {
    let refused = "could not lock out/.lock: Resource temporarily unavailable (os error 11)";
    on_real_disks(|bench| {
        let lock_file = bench.path("out/.lock");
        let is_held = || {
            let file = File::open(&lock_file).expect("it is there");
            matches!(file.try_lock(), Err(TryLockError::WouldBlock))
        };
        bench.open(1, "out/.lock", Lock).open(2, "out/.lock", Lock);
        bench.expect(&["opened 0", "opened 0"]);
        bench.close(1);
        bench.expect(&["closed"]);
        assert!(is_held(), "it is given back with the first, on {}", bench.name);
        bench.close(2);
        bench.expect(&["closed"]);
        assert!(!lock_file.exists(), "it is not given back with the last, on {}", bench.name);

        bench.prepare("out/.lock", b"");
        let theirs = File::open(&lock_file).expect("it is there");
        theirs.lock().expect("nobody holds it");
        bench.open(1, "out/.lock", Lock).open(2, "out/.lock", Lock);
        bench.expect(&[refused, refused]);
        drop(theirs);
        bench.open(1, "out/.lock", Lock).close(1);
        bench.expect(&["opened 0", "closed"]);
    });
}

#[test]
fn a_lock_file_that_a_dead_process_left_is_taken_over() {
    on_real_disks(|bench| {
        bench.prepare("out/.lock", b"");
        bench.open(1, "out/.lock", Lock).close(1);
        bench.expect(&["opened 0", "closed"]);
    });
}

#[test]
fn requesters_that_list_together_are_answered_the_same() {
    on_every_disk(|bench| {
        bench.prepare("in/b.csv", b"1");
        bench.list_together("in");
        bench.expect(&["listed in/b.csv 1"]);
        bench.prepare("in/a.csv", b"1");
        bench.prepare("in/b.csv", b"12");
        bench.list_together("in");
        bench.expect(&["listed in/b.csv 1"]);
        bench.list_together("in");
        bench.expect(&["listed in/a.csv 1, in/b.csv 2"]);
    });
}

fn invalid_pattern(bench: &Bench) -> String {
    let column = bench.path("d/").as_os_str().len();
    format!(
        "could not list d/[: Pattern syntax error near position {column}: invalid range pattern"
    )
}

#[test]
fn what_is_removed_is_gone() {
    on_every_disk(|bench| {
        bench.open(1, "short-lived", Create).write(1, 0, b"x").close(1);
        bench.expect(&["opened 0", "written x", "closed"]);
        bench.remove("short-lived");
        bench.expect(&["removed"]);
        bench.open(1, "short-lived", Read).remove("short-lived").rename("short-lived", "other");
        bench.expect(&[
            "could not open short-lived: No such file or directory (os error 2)",
            "could not remove short-lived: No such file or directory (os error 2)",
            "could not rename short-lived to other: No such file or directory (os error 2)",
        ]);
    });
}

#[test]
fn an_open_file_outlives_its_name() {
    on_every_disk(|bench| {
        bench.open(1, "name", Create).write(1, 0, b"kept");
        bench.expect(&["opened 0", "written kept"]);
        bench.open(2, "name", Read);
        bench.expect(&["opened 4"]);
        bench.rename("name", "other");
        bench.expect(&["renamed"]);
        bench.remove("other");
        bench.expect(&["removed"]);
        bench.read(2, 0, 10).sync(1).close(1).close(2);
        bench.expect(&["read kept", "synced", "closed", "closed"]);
    });
}

#[test]
fn a_directory_is_no_file() {
    on_every_disk(|bench| {
        bench.prepare("d/a", b"");
        bench.open(1, "d", Read).open(2, "d", Create).open(3, "d/a/b", Create);
        bench.expect(&[
            "could not open d: Is a directory (os error 21)",
            "could not open d: Is a directory (os error 21)",
            "could not open d/a/b: Not a directory (os error 20)",
        ]);
    });
}

#[test]
fn an_id_that_is_open_cannot_be_opened() {
    on_every_disk(|bench| {
        bench.prepare("a", b"first");
        bench.prepare("b", b"second");
        bench.open(1, "a", Read).open(1, "b", Read).read(1, 0, 10).close(1);
        bench.open(1, "b", Read).read(1, 0, 10).close(1);
        bench.expect(&[
            "opened 5",
            "could not open b: the requester's id names an open file",
            "read first",
            "closed",
            "opened 6",
            "read second",
            "closed",
        ]);
    });
}

#[test]
fn only_files_are_renamed_and_removed() {
    on_every_disk(|bench| {
        bench.prepare("d/a", b"");
        bench.open(1, "e/b", Create).close(1);
        bench.expect(&["opened 0", "closed"]);
        for directory in ["d", "e"] {
            bench.rename(directory, "f").remove(directory);
            bench.expect(&[
                &format!("could not rename {directory} to f: Is a directory (os error 21)"),
                &format!("could not remove {directory}: Is a directory (os error 21)"),
            ]);
        }
        bench.rename("d/a", "e");
        bench.expect(&["could not rename d/a to e: Is a directory (os error 21)"]);
        bench.open(1, "d/a", Read).open(2, "e/b", Read);
        bench.expect(&["opened 0", "opened 0"]);
    });
}

#[test]
fn a_file_is_renamed_into_directories_that_are_there() {
    on_every_disk(|bench| {
        bench.prepare("a", b"");
        bench.open(1, "b", Create).close(1);
        bench.expect(&["opened 0", "closed"]);
        for name in ["a", "b"] {
            bench.rename(name, "missing/c");
            bench.expect(&[&format!(
                "could not rename {name} to missing/c: No such file or directory (os error 2)"
            )]);
        }
        bench.rename("a", "b/c");
        bench.expect(&["could not rename a to b/c: Not a directory (os error 20)"]);
    });
}

#[test]
fn nothing_is_below_a_file() {
    on_every_disk(|bench| {
        bench.prepare("a", b"");
        bench.open(1, "b", Create).close(1);
        bench.expect(&["opened 0", "closed"]);
        for name in ["a", "b"] {
            bench.open(1, &format!("{name}/c"), Read).remove(&format!("{name}/c"));
            bench.expect(&[
                &format!("could not open {name}/c: Not a directory (os error 20)"),
                &format!("could not remove {name}/c: Not a directory (os error 20)"),
            ]);
        }
    });
}
