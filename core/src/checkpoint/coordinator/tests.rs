//! Scripts of what happens to checkpoints, and a model of what is on disk under random ones.

use proptest::prelude::*;

use super::*;
use crate::checkpoint::Tables;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn settings() -> CheckpointSettings {
    CheckpointSettings {
        interval: ms(100),
        min_pause: ms(20),
        timeout: ms(500),
        in_flight_max: 2,
        retained: 2,
        unaligned_after: Some(ms(5)),
    }
}

fn coordinator(settings: CheckpointSettings) -> Coordinator {
    let directory = PathBuf::from("/checkpoints");
    Coordinator::new(
        settings,
        "job".to_string(),
        (2, 8),
        directory,
        CheckpointId(6),
        VecDeque::new(),
    )
}

fn part(shard: u32, checkpoint: u64) -> WrittenPart {
    let name = super::super::names::part_name(CheckpointId(checkpoint), shard);
    let row = PartRow { name, bytes: 10, crc: 1, tables: Tables::default() };
    let (in_flight_bytes, alignment_us) = (4, u64::from(shard) * 100);
    let directory = "/checkpoints".into();
    WrittenPart { directory, row, added_bytes: 10, in_flight_bytes, alignment_us }
}

impl Coordinator {
    fn part(&mut self, shard: u32, checkpoint: u64) -> Vec<Order> {
        self.on_part(shard, CheckpointId(checkpoint), part(shard, checkpoint))
    }
}

/// Orders in a few letters: `T7` triggered, `M7` its manifest, `C7` completed, `G7` given up,
/// `R:name name` removed, `L7` its tables released.
fn short(orders: &[Order]) -> String {
    let name = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let name = name.trim_start_matches("chk-").trim_start_matches('0');
        name.replace(".manifest", "m").replace(".shard-0000", "s")
    };
    let short = |order: &Order| match order {
        Order::Trigger(id, ..) => format!("T{}", id.0),
        Order::Commit(id, _, bytes) => {
            assert_eq!(Manifest::decode(bytes).expect("just encoded").checkpoint, *id);
            format!("M{}", id.0)
        }
        Order::Completed(id) => format!("C{}", id.0),
        Order::GiveUp(id, _) => format!("G{}", id.0),
        Order::Release(id) => format!("L{}", id.0),
        Order::Remove(_, paths) => {
            format!("R:{}", paths.iter().map(name).collect::<Vec<_>>().join("+"))
        }
    };
    orders.iter().map(short).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(orders: &[Order], expected: &str) {
    assert_eq!(short(orders), expected);
}

#[test]
fn a_checkpoint_is_complete_when_its_manifest_is_durable() {
    let mut it = coordinator(settings());
    assert_eq!(it.next_due(), ms(100));
    check(&it.on_time(ms(99), 0), "");
    check(&it.on_time(ms(100), 0), "T7");
    check(&it.part(1, 7), "");
    check(&it.part(0, 7), "M7");
    assert_eq!(it.last_completed(), None);
    check(&it.on_committed(CheckpointId(7), ms(190)), "C7");
    assert_eq!(it.last_completed(), Some(CheckpointId(7)));
    assert_eq!(it.next_due(), ms(210), "the pause is longer than what is left of the interval");
    let report = it.history().last().expect("one has ended");
    assert_eq!((report.took_us, report.bytes), (Some(90_000), 20));
}

#[test]
fn those_that_are_too_many_are_removed_manifest_first() {
    let mut it = coordinator(settings());
    for id in 7..=9 {
        let now = ms(1_000 * id);
        check(&it.on_time(now, 0), &format!("T{id}"));
        check(&it.part(0, id), "");
        check(&it.part(1, id), &format!("M{id}"));
        let expected = if id == 9 { "C9 R:7m+7s0+7s1".to_string() } else { format!("C{id}") };
        check(&it.on_committed(CheckpointId(id), now), &expected);
    }
}

#[test]
fn one_that_takes_too_long_is_given_up_and_what_it_wrote_is_removed() {
    let mut it = coordinator(CheckpointSettings { in_flight_max: 1, ..settings() });
    check(&it.on_time(ms(100), 0), "T7");
    check(&it.part(1, 7), "");
    assert_eq!(it.next_due(), ms(600), "no other before this one has ended");
    check(&it.on_time(ms(600), 0), "G7 R:7m+7s1");
    check(&it.part(0, 7), "R:7s0");
    assert!(matches!(it.history().last(), Some(CheckpointReport {
        outcome: Outcome::Failed(reason), ..
    }) if reason.starts_with("1 of 2 shards had no part")));
}

#[test]
fn while_its_manifest_is_written_it_is_not_given_up() {
    let mut it = coordinator(settings());
    check(&it.on_time(ms(100), 0), "T7");
    check(&it.part(0, 7), "");
    check(&it.part(1, 7), "M7");
    check(&it.on_time(ms(10_000), 0), "T8");
    check(&it.on_committed(CheckpointId(7), ms(10_001)), "C7");
}

#[test]
fn a_newer_one_that_is_complete_gives_up_the_older() {
    let mut it = coordinator(settings());
    check(&it.on_time(ms(100), 0), "T7");
    check(&it.on_time(ms(200), 0), "T8");
    assert_eq!(it.next_due(), ms(600), "two are under way");
    check(&it.part(0, 7), "");
    check(&it.part(0, 8), "");
    check(&it.part(1, 8), "M8");
    check(&it.on_committed(CheckpointId(8), ms(210)), "C8 G7 R:7m+7s0");
}

#[test]
fn a_manifest_that_cannot_be_written_goes_and_the_job_goes_on() {
    let mut it = coordinator(settings());
    check(&it.on_time(ms(100), 0), "T7");
    check(&it.part(0, 7), "");
    check(&it.part(1, 7), "M7");
    let orders = it.on_failed(CheckpointId(7), "disk full".to_string(), ms(110));
    check(&orders, "G7 R:7m+7s0+7s1");
    check(&it.on_time(ms(200), 0), "T8");
    assert_eq!((it.status().completed_count, it.status().failed_count), (0, 1));
}

#[test]
fn what_is_wanted_comes_at_once_and_again_until_it_is_complete() {
    let mut it = coordinator(CheckpointSettings { in_flight_max: 1, ..settings() });
    check(&it.on_time(ms(100), 0), "T7");
    assert_eq!(it.want(), CheckpointId(8), "what is under way may not have everything");
    assert_eq!(it.next_due(), ms(600));
    check(&it.part(0, 7), "");
    check(&it.part(1, 7), "M7");
    check(&it.on_committed(CheckpointId(7), ms(110)), "C7");
    check(&it.on_time(ms(110), 0), "T8");
    check(&it.on_failed(CheckpointId(8), "no".to_string(), ms(120)), "G8 R:8m");
    assert!(it.is_wanted());
    assert_eq!(it.next_due(), ms(1_120), "not at once");
    check(&it.on_time(ms(1_120), 0), "T9");
    check(&it.part(0, 9), "");
    check(&it.part(1, 9), "M9");
    check(&it.on_committed(CheckpointId(9), ms(1_130)), "C9");
    assert!(!it.is_wanted());
}

#[test]
fn a_job_that_ends_with_one_has_no_other_after_it() {
    let mut it = coordinator(settings());
    assert_eq!(it.end_with(), CheckpointId(7));
    check(&it.on_time(ms(1), 0), "T7");
    assert_eq!(it.next_due(), ms(501), "its timeout");
    check(&it.on_time(ms(500), 0), "");
    check(&it.part(0, 7), "");
    check(&it.part(1, 7), "M7");
    check(&it.on_committed(CheckpointId(7), ms(510)), "C7");
    assert_eq!(it.next_due(), Duration::MAX);
    check(&it.on_time(ms(9_000), 0), "");
}

#[test]
fn a_savepoint_is_somewhere_else_and_nobody_commits_with_it() {
    let mut it = coordinator(settings());
    assert_eq!(it.want_savepoint("/mine".into()), CheckpointId(7));
    let orders = it.on_time(ms(1), 0);
    assert_eq!(orders, [Order::Trigger(CheckpointId(7), "/mine".into(), Some(ms(5)))]);
    check(&it.on_time(ms(100), 0), "T8");
    check(&it.part(0, 8), "");
    check(&it.part(1, 8), "M8");
    check(&it.on_committed(CheckpointId(8), ms(110)), "C8");
    check(&it.part(0, 7), "");
    check(&it.part(1, 7), "M7");
    check(&it.on_committed(CheckpointId(7), ms(120)), "L7");
    assert_eq!(it.last_completed(), Some(CheckpointId(8)), "retention leaves it alone");
}

/// A step of a random script.
#[derive(Debug, Clone)]
enum Step {
    Time(u64),
    Part(u32),
    Fail(usize),
    Committed,
    Want,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_u64..200).prop_map(Step::Time),
        6 => (0_u32..2).prop_map(Step::Part),
        1 => (0_usize..3).prop_map(Step::Fail),
        4 => Just(Step::Committed),
        1 => Just(Step::Want),
    ]
}

proptest! {
    /// Whatever happens: a manifest names only parts that are there, what is kept stays, what is
    /// not goes, and at most one manifest is being written.
    #[test]
    fn every_manifest_on_disk_is_whole(steps in proptest::collection::vec(step(), 1..120)) {
        let mut it = coordinator(settings());
        let mut now = Duration::ZERO;
        let place = |name: String| PathBuf::from("/checkpoints").join(name);
        let mut disk = std::collections::BTreeSet::new();
        // Parts that each shard has to write, in order; the manifest that is being written.
        let mut due = [VecDeque::new(), VecDeque::new()];
        let mut committing = None;
        let mut completed = Vec::new();
        for step in steps {
            let orders = match step {
                Step::Time(millis) => {
                    now += ms(millis);
                    it.on_time(now, 0)
                }
                Step::Part(shard) => match due[shard as usize].pop_front() {
                    Some(id) => {
                        let WrittenPart { directory, row, .. } = part(shard, id);
                        disk.insert(directory.join(&row.name));
                        it.part(shard, id)
                    }
                    None => continue,
                },
                Step::Fail(which) => {
                    let Some((id, _)) = it.pending.iter().nth(which) else { continue };
                    let id = *id;
                    if committing.as_ref().is_some_and(|(other, _)| *other == id) {
                        committing = None;
                    } else if it.pending[&id].is_committing {
                        continue;
                    }
                    it.on_failed(id, "for the test".to_string(), now)
                }
                Step::Committed => match committing.take() {
                    Some((id, path)) => {
                        disk.insert(path);
                        completed.push(id);
                        it.on_committed(id, now)
                    }
                    None => continue,
                },
                Step::Want => {
                    it.want();
                    continue;
                }
            };
            for order in orders {
                match order {
                    Order::Trigger(id, ..) => due.iter_mut().for_each(|due| due.push_back(id.0)),
                    Order::Commit(id, path, bytes) => {
                        prop_assert!(committing.is_none());
                        let manifest = Manifest::decode(&bytes).expect("just encoded");
                        for part in manifest.parts {
                            prop_assert!(disk.contains(&place(part.name)));
                        }
                        committing = Some((id, path));
                    }
                    Order::Remove(_, paths) => disk.retain(|path| !paths.contains(path)),
                    Order::Completed(_) | Order::Release(_) => {}
                    Order::GiveUp(id, _) => prop_assert!(!completed.contains(&id)),
                }
            }
            let kept: Vec<_> = completed.iter().rev().take(2).collect();
            for id in &kept {
                prop_assert!(disk.contains(&place(manifest_name(**id))));
                for shard in 0..2 {
                    let WrittenPart { directory, row, .. } = part(shard, id.0);
                    prop_assert!(disk.contains(&directory.join(row.name)));
                }
            }
            let pending_max = it.pending.len() * 2 + 1 + kept.len() * 3;
            prop_assert!(disk.len() <= pending_max, "{disk:?}");
            prop_assert!(completed.is_sorted());
        }
    }
}
