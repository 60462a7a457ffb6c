//! Commands in, files and reports out, over a disk in memory.

use std::path::Path;
use std::time::Duration;

use crate::checkpoint::WrittenPart;
use crate::checkpoint::manifest::{PartRow, Tables};
use crate::checkpoint::part::Part;
use crate::data::element::CheckpointId;
use crate::shard::Next;
use crate::shard::event::{Command, Effect, Event, Report};
use crate::shard::tests::Bench;
use crate::task::Activity;
use crate::testing::MemoryDisk;

const MS: Duration = Duration::from_millis(1);

/// Turns until nothing is wanted of the disk any more; what is reported.
fn settle(bench: &mut Bench, disk: &mut MemoryDisk, commands: &[Command]) -> Vec<Report> {
    let mut events: Vec<Event> = commands.iter().cloned().map(Event::Command).collect();
    let mut reports = Vec::new();
    loop {
        for effect in bench.turn_with(std::mem::take(&mut events), MS / 100) {
            match effect {
                Effect::Report(report) => reports.push(*report),
                Effect::File(op) => disk.accept_ops(vec![op]),
                other => panic!("nothing else is wanted: {other:?}"),
            }
        }
        match disk.answer() {
            Some(done) => events.push(Event::File(done)),
            None => return reports,
        }
    }
}

fn trigger(id: u64) -> Command {
    Command::Trigger(CheckpointId(id), "/checkpoints".into(), None)
}

/// A shard whose two tasks have ended.
fn over() -> Bench {
    let mut bench = Bench::new(&[Activity::Finished; 2]);
    let effects = bench.turn_with(Vec::new(), MS / 100);
    assert!(
        matches!(&effects[..], [Effect::Report(report)] if matches!(**report, Report::Finished))
    );
    bench
}

#[test]
fn a_shard_that_is_over_has_a_part_in_every_later_checkpoint() {
    let (mut bench, mut disk) = (over(), MemoryDisk::new(1));
    let reports = settle(&mut bench, &mut disk, &[trigger(4), trigger(5)]);
    let mut rows = Vec::new();
    for report in reports {
        let Report::Part { checkpoint, part } = report else { panic!("{report:?}") };
        let WrittenPart { directory, row, .. } = part;
        let bytes = &disk.files[&directory.join(&row.name)];
        assert_eq!(PartRow::of(row.name.clone(), bytes, Tables::default()), row);
        let part = Part::decode(bytes).expect("just written");
        let chains: Vec<u16> = part.chains.iter().map(|(chain, _)| *chain).collect();
        assert_eq!((part.checkpoint, part.shard, chains), (checkpoint, 0, vec![0, 1]));
        rows.push(checkpoint.0);
    }
    rows.sort_unstable();
    assert_eq!(rows, [4, 5]);
    assert_eq!(disk.files.len(), 2, "{:?}", disk.files.keys());
}

#[test]
fn a_part_that_cannot_be_written_is_told_and_leaves_nothing() {
    for (op, path) in [
        ("open", "/checkpoints/chk-0000000004.shard-00000.part"),
        ("write", "/checkpoints/chk-0000000004.shard-00000.part"),
        ("sync", "/checkpoints/chk-0000000004.shard-00000.part"),
        ("rename", "/checkpoints/chk-0000000004.shard-00000.part"),
    ] {
        let mut disk = MemoryDisk::new(1);
        disk.faults_of.insert((op, path.into()), std::io::ErrorKind::StorageFull);
        let reports = settle(&mut over(), &mut disk, &[trigger(4)]);
        let [Report::CheckpointFailed { checkpoint: CheckpointId(4), reason }] = &reports[..]
        else {
            panic!("{op}: {reports:?}");
        };
        assert!(reason.contains("chk-0000000004.shard-00000"), "{reason}");
        assert!(disk.files.is_empty(), "{op}: {:?}", disk.files.keys());
    }
}

#[test]
fn manifests_are_written_and_files_removed_in_their_order() {
    let (mut bench, mut disk) = (over(), MemoryDisk::new(1));
    let (manifest, part) = (Path::new("/checkpoints/m"), Path::new("/checkpoints/p"));
    let commands = [
        Command::Commit(CheckpointId(1), manifest.into(), b"manifest".to_vec()),
        Command::Commit(CheckpointId(2), part.into(), b"part".to_vec()),
    ];
    let reports = settle(&mut bench, &mut disk, &commands);
    assert!(matches!(reports[..], [Report::ManifestWritten(_), Report::ManifestWritten(_)]));
    assert_eq!(disk.files[manifest], b"manifest");
    // What cannot be removed keeps what comes behind it: a manifest, and what it names.
    let remove =
        Command::Remove(CheckpointId(1), vec!["/gone".into(), manifest.into(), part.into()]);
    disk.faults_of.insert(("remove", manifest.into()), std::io::ErrorKind::PermissionDenied);
    assert!(settle(&mut bench, &mut disk, std::slice::from_ref(&remove)).is_empty());
    assert_eq!(disk.files.len(), 2);
    disk.faults_of.clear();
    let reports = settle(&mut bench, &mut disk, &[remove]);
    assert!(matches!(reports[..], [Report::Removed(CheckpointId(1))]), "{reports:?}");
    assert!(disk.files.is_empty());
}

#[test]
fn what_is_given_up_is_not_written() {
    let mut bench = Bench::new(&[Activity::Idle(None)]);
    let mut disk = MemoryDisk::new(1);
    let reports = settle(&mut bench, &mut disk, &[trigger(1), Command::GiveUp(CheckpointId(1))]);
    assert!(reports.is_empty(), "{reports:?}");
    let reports = settle(&mut bench, &mut disk, &[Command::Drain]);
    assert!(matches!(reports[..], [Report::Finished]), "{reports:?}");
    assert!(disk.files.is_empty());
}

#[test]
fn all_is_settled_when_no_task_owes_a_commit() {
    let mut bench = Bench::new(&[Activity::Idle(None); 2]);
    let mut disk = MemoryDisk::new(1);
    bench.logs[1].owes_commit.set(true);
    let completed = [Command::Completed(CheckpointId(3))];
    assert!(settle(&mut bench, &mut disk, &completed).is_empty());
    assert_eq!(bench.logs[0].completed.get(), 3);
    bench.logs[1].owes_commit.set(false);
    let reports = settle(&mut bench, &mut disk, &[]);
    assert!(matches!(reports[..], [Report::Settled(CheckpointId(3))]), "{reports:?}");
    assert!(settle(&mut bench, &mut disk, &[]).is_empty(), "once");
}

#[test]
fn a_shard_without_tasks_has_a_part_as_well() {
    let mut disk = MemoryDisk::new(1);
    let reports = settle(&mut Bench::new(&[]), &mut disk, &[trigger(1)]);
    let parts = reports.iter().filter(|report| matches!(report, Report::Part { .. }));
    assert_eq!(parts.count(), 1, "{reports:?}");
}

/// A barrier may come from another shard before the command comes from the node.
#[test]
fn a_part_that_is_faster_than_the_command_is_kept() {
    let mut bench = Bench::new(&[Activity::Idle(None)]);
    let mut disk = MemoryDisk::new(1);
    bench.logs[0].cuts.set(Some(7));
    assert!(settle(&mut bench, &mut disk, &[Command::Status]).len() == 1, "it is not triggered");
    let reports = settle(&mut bench, &mut disk, &[trigger(7)]);
    assert!(matches!(&reports[..], [Report::Part { checkpoint: CheckpointId(7), .. }]));
}

/// Barriers wait for rows as long as the trigger says, and no shard waits for ever to tell.
#[test]
fn tasks_hear_when_barriers_wait_for_rows_no_longer() {
    let (mut bench, mut disk) = (Bench::new(&[Activity::Idle(None); 2]), MemoryDisk::new(1));
    let after = |id, after| Command::Trigger(CheckpointId(id), "/checkpoints".into(), after);
    settle(&mut bench, &mut disk, &[after(4, Some(100 * MS))]);
    assert_eq!(bench.logs[1].unaligned.get(), 0);
    assert!(matches!(bench.shard.next(), Next::At(at) if bench.now < at));
    bench.now += 100 * MS;
    bench.turn_with(Vec::new(), MS / 100);
    assert_eq!([bench.logs[0].unaligned.get(), bench.logs[1].unaligned.get()], [4, 4]);
    assert_eq!(bench.shard.next(), Next::Wait);
    settle(&mut bench, &mut disk, &[after(5, Some(Duration::ZERO)), after(6, None)]);
    assert_eq!(bench.logs[0].unaligned.get(), 5, "at once");
    // What was given up is no reason to wake anybody.
    settle(&mut bench, &mut disk, &[after(7, Some(MS)), Command::GiveUp(CheckpointId(7))]);
    assert_eq!(bench.shard.next(), Next::Wait);
}
