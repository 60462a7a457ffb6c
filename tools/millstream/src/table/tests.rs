//! The commands on the golden file, on damaged ones, and with a reader who leaves.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Parser as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::output::Output;
use crate::{Arguments, Outcome, run};

const GOLDEN: &[u8] = include_bytes!("../../../../storage/golden/table_v1.bin");
const ENTRIES: usize = 71;

/// What a command made of it: outcome, output, errors.
fn millstream(arguments: &[&str]) -> (Outcome, String, String) {
    let arguments = ["millstream", "table"].iter().chain(arguments);
    let arguments = Arguments::try_parse_from(arguments).expect("a command line");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let outcome = run(&arguments, &mut Output::new(&mut out), &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("commands print text");
    (outcome, text(out), text(err))
}

/// Files in a folder that goes with it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).expect("a temporary file");
        self.name(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().expect("a name of ASCII").to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn flipped(at: usize) -> Vec<u8> {
    let mut bytes = GOLDEN.to_vec();
    bytes[at] ^= 1;
    bytes
}

#[test]
fn verify_looks_at_all_files_and_names_the_first_damage_of_each() {
    let folder = Folder::new();
    let first = folder.put("first", &flipped(4096 + 99));
    let sound = folder.put("sound", GOLDEN);
    let both = folder.put("both", &{
        let mut bytes = flipped(5 * 4096);
        bytes[3 * 4096] ^= 1;
        bytes
    });
    let short = folder.put("short", &GOLDEN[..GOLDEN.len() - 4096]);
    let (outcome, out, err) = millstream(&["verify", &first, &sound, &both, &short]);
    let expected = [
        format!("{first}: byte 4096: the checksum of a block is wrong"),
        format!("{sound}: sound, {ENTRIES} entries in 6 blocks"),
        format!("{both}: byte 12288: the checksum of a block is wrong"),
        format!("{short}: byte 32768: it does not end as a table does"),
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    assert_eq!((outcome, err.as_str()), (Outcome::Damaged, ""));
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_the_others() {
    let folder = Folder::new();
    let damaged = folder.put("damaged", &flipped(7));
    let (missing, folder_name) = (folder.name("missing"), folder.name("."));
    let (outcome, out, err) = millstream(&["verify", &missing, &folder_name, &damaged]);
    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(out, format!("{damaged}: byte 0: the checksum of a block is wrong\n"));
    let errors: Vec<&str> = err.lines().collect();
    assert!(errors[0].starts_with(&format!("error: could not open {missing}: ")), "{err}");
    assert_eq!(errors[1], format!("error: could not open {folder_name}: it is no regular file"));
    assert_eq!(errors.len(), 2);
}

#[test]
fn a_later_version_is_no_damage() {
    let folder = Folder::new();
    let mut bytes = GOLDEN.to_vec();
    let footer = bytes.len() - 4096;
    bytes[footer + 12] = 9;
    let crc = crc32(&bytes[footer..footer + 4092]);
    bytes[footer + 4092..].copy_from_slice(&crc.to_le_bytes());
    let later = folder.put("later", &bytes);
    let (outcome, out, err) = millstream(&["verify", &later]);
    assert_eq!((outcome, out.as_str()), (Outcome::Failed, ""));
    let expected = format!("error: {later} is a table of version 9, this program reads up to 1\n");
    assert_eq!(err, expected);
}

/// As the format defines it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1));
        (0..8).fold(crc ^ u32::from(*byte), step)
    })
}

#[test]
fn inspect_says_what_there_is() {
    let folder = Folder::new();
    let golden = folder.put("golden", GOLDEN);
    let (outcome, out, err) = millstream(&["inspect", &golden]);
    assert_eq!((outcome, err.as_str()), (Outcome::Sound, ""));
    for line in [
        "  format version  1",
        "  table id        000000000000002a",
        "  entries         71, 1 of them tombstones",
        "  sequences       1 to 9",
        "  hashes          0000000000000000 to c000000000000000",
        "  key groups      0 to 6 of 8",
        "  times           -2 ms or later, some without",
        "  file            40960 bytes at 0",
        "  blocks          28672 bytes at 0, 6 blocks",
        "  filters         384 bytes at 28672",
        "  fences          48 bytes at 32768",
        "  directory       720 bytes at 32896, 10 sections",
        "  footer          4096 bytes at 36864",
        "  state 1         4 entries, 0 tombstones, 4 sections, times -2 to 1 ms",
        "  state 2         60 entries, 0 tombstones, 1 sections, times none",
    ] {
        assert!(out.lines().any(|found| found == line), "no line {line:?} in\n{out}");
    }
    let damaged = folder.put("damaged", &flipped(32_768));
    let (outcome, out, err) = millstream(&["inspect", &damaged, &golden]);
    assert_eq!(outcome, Outcome::Damaged);
    let expected = "byte 32768: the checksum of the fences is wrong";
    assert_eq!(err, format!("error: {damaged}: {expected}\n"));
    assert!(out.starts_with(&golden), "{out}");
}

#[test]
fn dump_prints_every_entry() {
    let folder = Folder::new();
    let golden = folder.put("golden", GOLDEN);
    let (outcome, out, err) = millstream(&["dump", &golden]);
    assert_eq!((outcome, err.as_str()), (Outcome::Sound, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), ENTRIES);
    let value = "00".repeat(20);
    let first = format!(
        "group=0 state=0 window=0 hash=0000000000000000 key=6669786564 namespace= map-key= \
         sequence=1 time=none value={value}"
    );
    assert_eq!(lines[0], first);
    let second = "group=0 state=1 window=-5 hash=0000000000000000 key=76617279 namespace= map-key= \
                  sequence=1 time=-2 value=";
    assert_eq!(lines[1], second);
    assert_eq!(lines.iter().filter(|line| line.ends_with(" tombstone=")).count(), 1);
    assert_eq!(lines.iter().filter(|line| line.contains(" operand=01")).count(), 2);
    assert_eq!(lines.iter().filter(|line| line.contains(" key=6d6170 ")).count(), 60);
}

#[test]
fn dump_as_json_says_the_same() {
    let folder = Folder::new();
    let golden = folder.put("golden", GOLDEN);
    let (_, text, _) = millstream(&["dump", &golden]);
    let (_, json, _) = millstream(&["dump", "--json", &golden]);
    assert_eq!(json.lines().count(), ENTRIES);
    for (text, json) in text.lines().zip(json.lines()) {
        let entry: Value = serde_json::from_str(json).expect("a line is an object");
        let of = |name: &str| match &entry[name] {
            Value::String(text) => text.clone(),
            Value::Null => "none".to_owned(),
            other => other.to_string(),
        };
        let expected = format!(
            "group={} state={} window={} hash={} key={} namespace={} map-key={} sequence={} \
             time={} {}={}",
            of("key_group"),
            of("state_id"),
            of("window_bucket"),
            of("hash"),
            of("key"),
            of("namespace"),
            of("map_key"),
            of("sequence"),
            of("time_ms"),
            of("kind"),
            of("value"),
        );
        assert_eq!(text, expected);
    }
}

#[test]
fn dump_keeps_to_its_limit_and_its_prefix() {
    let folder = Folder::new();
    let golden = folder.put("golden", GOLDEN);
    let count = |arguments: &[&str]| {
        let (outcome, out, err) = millstream(&[&["dump", &golden], arguments].concat());
        assert_eq!((outcome, err.as_str()), (Outcome::Sound, ""));
        out.lines().count()
    };
    assert_eq!(count(&["--limit", "0"]), 0);
    assert_eq!(count(&["--limit", "5"]), 5);
    assert_eq!(count(&["--limit", "73", &golden]), 73, "of all files together");
    assert_eq!(count(&["--prefix", ""]), ENTRIES);
    assert_eq!(count(&["--prefix", "00040002"]), 60, "a state of a key group");
    assert_eq!(count(&["--prefix", "0004000280000000000000008000000000000000"]), 60, "a hash");
    assert_eq!(count(&["--prefix", "0005"]), 0);
    for prefix in ["0", "0g", "é"] {
        let arguments = ["millstream", "table", "dump", "--prefix", prefix, &golden];
        let error = Arguments::try_parse_from(arguments).expect_err("no bytes");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn dump_ends_where_the_file_is_damaged() {
    let folder = Folder::new();
    let damaged = folder.put("damaged", &flipped(2 * 4096 + 50));
    let golden = folder.put("golden", GOLDEN);
    let (outcome, out, err) = millstream(&["dump", &damaged, &golden]);
    assert_eq!(outcome, Outcome::Damaged);
    assert_eq!(err, format!("error: {damaged}: byte 8192: the checksum of a block is wrong\n"));
    assert!(out.lines().count() < 2 * ENTRIES && ENTRIES < out.lines().count());
}

/// Somebody who reads a few bytes and leaves, or a disk that is full.
struct Reader {
    left: usize,
    then: io::ErrorKind,
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(self.then.into());
        }
        let len = bytes.len().min(self.left);
        self.left -= len;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.left == 0 { Err(self.then.into()) } else { Ok(()) }
    }
}

fn outcome_with(reader: Reader, arguments: &[&str]) -> (Outcome, String) {
    let arguments = ["millstream", "table"].iter().chain(arguments);
    let arguments = Arguments::try_parse_from(arguments).expect("a command line");
    let mut err = Vec::new();
    let outcome = run(&arguments, &mut Output::new(reader), &mut err);
    (outcome, String::from_utf8(err).expect("errors are text"))
}

#[test]
fn a_reader_who_leaves_is_no_error_and_hides_none() {
    let folder = Folder::new();
    let golden = folder.put("golden", GOLDEN);
    let damaged = folder.put("damaged", &flipped(7));
    let leaves = |left| Reader { left, then: io::ErrorKind::BrokenPipe };
    for left in [0, 1, 100, 5000] {
        for arguments in [&["dump", &golden][..], &["dump", "--json", &golden]] {
            assert_eq!(outcome_with(leaves(left), arguments), (Outcome::Sound, String::new()));
        }
        let arguments = ["verify", &golden, &damaged];
        assert_eq!(outcome_with(leaves(left), &arguments), (Outcome::Damaged, String::new()));
        let inspected = outcome_with(leaves(left), &["inspect", &golden, &golden]);
        assert_eq!(inspected, (Outcome::Sound, String::new()));
    }
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let folder = Folder::new();
    let golden = folder.put("golden", GOLDEN);
    let full = Reader { left: 100, then: io::ErrorKind::StorageFull };
    let (outcome, err) = outcome_with(full, &["dump", &golden]);
    assert_eq!(outcome, Outcome::Failed);
    assert!(err.starts_with("error: could not write the output: "), "{err}");
}
