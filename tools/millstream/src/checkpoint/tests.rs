//! The commands on whole checkpoints, damaged ones, and none.

use std::path::Path;

use clap::Parser as _;
use millstream::checkpoint::Ended;
use millstream::checkpoint::manifest::{Kind, Manifest, PartRow, Tables};
use millstream::checkpoint::names::{manifest_name, part_name};
use millstream::checkpoint::part::Part;
use millstream::data::element::CheckpointId;
use millstream::state::snapshot::{Snapshot, SnapshotWriter};

use crate::output::Output;
use crate::{Arguments, Outcome, run};

/// What a command made of it: outcome, output, errors.
fn millstream(command: &str, path: &Path) -> (Outcome, String, String) {
    let path = path.to_str().expect("a name of ASCII");
    let arguments = ["millstream", "checkpoint", command, path];
    let arguments = Arguments::try_parse_from(arguments).expect("a command line");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let outcome = run(&arguments, &mut Output::new(&mut out), &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("commands print text");
    (outcome, text(out), text(err))
}

/// Writes a checkpoint of one shard with one source.
fn write(directory: &Path, id: u64) {
    let checkpoint = CheckpointId(id);
    let mut snapshot = Snapshot::default();
    let mut writer = SnapshotWriter::new(&mut snapshot, "numbers");
    writer.watermark_ms(1_234);
    writer.operator_state("split/0", &7_u64);
    let part = Part { checkpoint, shard: 0, chains: vec![(0, snapshot)], image: None }.encode();
    let name = part_name(checkpoint, 0);
    std::fs::write(directory.join(&name), &part).expect("it can be written");
    let manifest = Manifest {
        checkpoint,
        time_ms: 1_700_000_000_000,
        kind: Kind::Checkpoint,
        key_group_count: 8,
        job: "counting".to_string(),
        parts: vec![PartRow::of(name, &part, Tables::default())],
    };
    let path = directory.join(manifest_name(checkpoint));
    std::fs::write(path, manifest.encode()).expect("it can be written");
}

#[test]
fn an_ended_job_is_told_with_and_without_checkpoints_that_are_left() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let word = Ended { time_ms: 7, job: "counting".to_string() }.encode();
    std::fs::write(place.path().join("ended"), &word).expect("it can be written");
    for command in ["list", "verify"] {
        let (outcome, out, err) = millstream(command, place.path());
        assert_eq!((outcome, err.as_str()), (Outcome::Sound, ""));
        assert_eq!(out, "job counting has ended at 7 ms: started again, it does nothing\n");
    }
    write(place.path(), 3);
    let (_, out, _) = millstream("list", place.path());
    assert_eq!(out.lines().count(), 2, "{out}");
    std::fs::write(place.path().join("ended"), &word[..9]).expect("it can be written");
    assert_eq!(millstream("verify", place.path()).0, Outcome::Damaged);
}

#[test]
fn whole_ones_are_listed_inspected_and_sound() {
    let place = tempfile::tempdir().expect("a temporary folder");
    (3..5).for_each(|id| write(place.path(), id));
    let (outcome, out, err) = millstream("list", place.path());
    assert_eq!((outcome, err.as_str()), (Outcome::Sound, ""));
    let lines: Vec<_> = out.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].contains(" 3  checkpoint") && lines[1].contains("counting")
    );
    let (outcome, out, _) = millstream("inspect", place.path());
    assert_eq!(outcome, Outcome::Sound);
    assert!(out.starts_with("checkpoint 4 of job counting\n"), "{out}");
    assert!(out.contains("operator numbers, watermark 1234 ms\n  split/0: 1 entries"), "{out}");
    let (outcome, out, _) = millstream("verify", place.path());
    assert_eq!((outcome, out.matches(": sound\n").count()), (Outcome::Sound, 2), "{out}");
}

#[test]
fn damage_is_told_with_its_place_and_others_are_looked_at() {
    let place = tempfile::tempdir().expect("a temporary folder");
    (3..6).for_each(|id| write(place.path(), id));
    let part = place.path().join(part_name(CheckpointId(3), 0));
    let mut bytes = std::fs::read(&part).expect("it was written");
    bytes[50] ^= 1;
    std::fs::write(&part, bytes).expect("it can be written");
    std::fs::remove_file(place.path().join(part_name(CheckpointId(5), 0))).expect("it was written");
    assert_eq!(millstream("list", place.path()).0, Outcome::Sound, "manifests are");
    let (outcome, out, _) = millstream("verify", place.path());
    assert_eq!(outcome, Outcome::Damaged);
    let lines: Vec<_> = out.lines().collect();
    assert!(
        lines[0].contains("chk-0000000003.shard-00000") && lines[0].contains("byte 12"),
        "{out}"
    );
    assert!(lines[1].ends_with(": sound") && lines[2].contains("could not read"), "{out}");
}

#[test]
fn a_directory_without_any_is_told() {
    let place = tempfile::tempdir().expect("a temporary folder");
    for command in ["list", "verify", "inspect"] {
        let (outcome, out, err) = millstream(command, place.path());
        assert!(outcome != Outcome::Sound && out.is_empty(), "{command}: {out}");
        assert!(err.contains(place.path().to_str().expect("ASCII")), "{command}: {err}");
    }
}
