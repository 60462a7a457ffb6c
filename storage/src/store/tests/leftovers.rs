//! Files that a process left: what nothing names goes, what is named stays.

use proptest::collection::vec;

use super::cases::cold;
use super::*;

/// Files of nobody, some of them nearly named as the store names its own.
const FOREIGN: [&str; 10] = [
    "notes.txt",
    "1.table",
    "0000000000000001",
    "0000000000000001.table.bak",
    "000000000000000A.table",
    "ffffffffffffffff.table",
    "+000000000000001.table",
    "00000000000000001.part",
    "table",
    "part/0000000000000001.part",
];

impl World {
    fn add_foreign(&mut self) {
        for name in FOREIGN {
            let path = PathBuf::from("state").join(name);
            self.disk.put(&path, b"of somebody else".to_vec());
            self.foreign.insert(path);
        }
    }
}

#[test]
fn what_nothing_names_is_removed_and_what_is_not_the_stores_is_left() {
    let mut world = cold([1]);
    world.add_foreign();
    let named = world.named_paths();
    for name in ["0000000000000001.part", "0000000000000000.table", "00000000000000ff.table"] {
        world.disk.put(&PathBuf::from("state").join(name), vec![0; 4096]);
    }
    assert_ne!(world.disk.paths(), named);
    world.restart();
    assert_eq!(world.disk.paths(), named);
    world.run(&Deed::Put(1, vec![2; 10]));
    world.run(&Deed::Freeze);
    world.flush();
    assert!(world.rows().iter().any(|row| row.id == TableId(0x100)), "an id is not given twice");
}

/// A manifest that names what is not there may be of another directory.
#[test]
fn a_store_that_does_not_open_removes_nothing() {
    let mut world = cold([1]);
    let mut rows = world.rows();
    let stray = PathBuf::from("state/00000000000000ff.table");
    world.disk.put(&stray, vec![0; 4096]);
    rows.push(TableRow { id: TableId(0xfe), ..rows[0] });
    let paths = world.disk.paths();
    for fault in [None, Some(Fault::ListFails)] {
        world.begin_to_open(if fault.is_some() { world.rows() } else { rows.clone() });
        world.disk.fault = fault;
        while let Some(done) = {
            while let Some(op) = world.store.next_op() {
                world.disk.ask(op);
            }
            world.disk.answer(0)
        } {
            // It is said once more below.
            let _is_failed = world.store.on_done(done).is_err();
        }
        let error = world.store.is_open().expect_err("the store is not whole");
        assert!(matches!(error, Error::Read(_)), "{error}");
        assert_eq!(world.disk.paths(), paths);
    }
}

/// Nothing is written before it is known what is there.
#[test]
fn no_file_is_made_before_the_store_is_open() {
    let mut world = cold([1]);
    world.begin_to_open(world.rows());
    world.run(&Deed::Put(1, vec![2; 10]));
    world.run(&Deed::Freeze);
    assert!(!world.store.step(100).expect("nothing has failed"));
    let ops: Vec<FileOp> = std::iter::from_fn(|| world.store.next_op()).collect();
    let is_reading = |op: &FileOp| match op {
        FileOp::ListDirectory { .. } => true,
        FileOp::Open { mode, .. } => !mode.creates(),
        _ => false,
    };
    assert!(ops.iter().all(is_reading), "{ops:?}");
}

/// A checkpoint that is older than a merge names the inputs. While it is kept they stay, although
/// the process that pinned them is gone.
#[test]
fn the_tables_of_an_older_manifest_stay_until_nobody_retains_them() {
    let mut world = World::new();
    for key in 0..4 {
        world.run(&Deed::Put(key, vec![key; 10]));
        world.run(&Deed::Freeze);
        world.flush();
    }
    let (older, rows) = (world.store.version().clone(), world.rows());
    world.merge();
    world.retained = rows.iter().map(|row| row.id).collect();
    let newer = world.rows();
    assert!(!newer.iter().any(|row| world.retained.contains(&row.id)), "all were merged");
    assert_eq!(world.disk.paths(), world.named_paths(), "the version pins them");
    world.restart();
    drop(older);
    world.run(&Deed::ReadAll);
    assert_eq!(world.disk.paths(), world.named_paths());
    // A store that has a table itself leaves it, too, when it does not need it any more.
    world.restart_from(rows.clone());
    world.merge();
    assert_eq!(world.disk.paths(), world.named_paths());
    // Back to the older one, and from then on nobody needs the newer one.
    world.retained.clear();
    world.restart_from(rows);
    world.run(&Deed::ReadAll);
}

/// Lets the store see what nobody holds any more, and the disk do its part.
fn sweep(world: &mut World) {
    world.store.step(1).expect("nothing fails");
    world.settle();
}

#[test]
fn what_is_released_goes_when_no_version_has_it() {
    for is_held in [false, true] {
        let mut world = World::new();
        for key in 0..4 {
            world.run(&Deed::Put(key, vec![key; 10]));
            world.run(&Deed::Freeze);
            world.flush();
        }
        let (older, rows) = (world.store.version().clone(), world.rows());
        world.run(&Deed::Retain);
        world.merge();
        let older = is_held.then_some(older);
        sweep(&mut world);
        assert_eq!(world.disk.paths(), world.named_paths(), "they are named elsewhere");
        assert_eq!(world.disk.paths().len(), 5);
        world.run(&Deed::Release(2));
        sweep(&mut world);
        let count = if is_held { 5 } else { 3 };
        assert_eq!(world.disk.paths().len(), count, "held: {is_held}");
        drop(older);
        sweep(&mut world);
        assert_eq!(world.disk.paths(), world.named_paths());
        assert_eq!(world.disk.paths().len(), 3);
        // Whatever was not retained stays.
        let newest = world.rows()[0].id;
        world.store.release(rows.iter().map(|row| row.id).chain([newest]));
        world.retained.clear();
        sweep(&mut world);
        assert_eq!(world.disk.paths(), world.named_paths());
        world.run(&Deed::ReadAll);
    }
}

/// However far the store has been opened by then.
#[test]
fn what_is_released_before_the_store_is_open_goes_unless_the_manifest_has_it() {
    let mut world = World::new();
    for key in 0..4 {
        world.run(&Deed::Put(key, vec![key; 10]));
        world.run(&Deed::Freeze);
        world.flush();
    }
    let rows = world.rows();
    for answer_count in 0..12 {
        let retained: Vec<TableId> = (50..53).map(TableId).collect();
        for id in &retained {
            world.disk.put(&world.store.config.path(*id), vec![0; 4096]);
        }
        world.retained = retained.iter().copied().chain([rows[0].id]).collect();
        world.begin_to_open(rows.clone());
        for _ in 0..answer_count {
            world.answer(0);
        }
        let released = [retained[0], retained[2], rows[0].id];
        world.store.release(released);
        world.retained.retain(|id| !released.contains(id));
        world.open();
        world.retained.clear();
        world.restart();
        world.run(&Deed::ReadAll);
    }
}

#[test]
#[should_panic(expected = "may be gone")]
fn a_table_that_is_not_there_is_not_retained() {
    let mut world = cold([1]);
    world.store.retain([TableId(7)]);
}

#[test]
fn the_next_id_is_larger_than_those_of_all_tables() {
    let mut world = cold(0..3);
    for _ in 0..5 {
        let next = world.store.next_table_id();
        assert!(world.rows().iter().all(|row| row.id.0 < next));
        world.run(&Deed::Put(0, vec![1; 10]));
        world.run(&Deed::Freeze);
        world.flush();
        assert_eq!(world.rows().iter().map(|row| row.id.0).max(), Some(next));
    }
}

fn crash_deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => (0..FIRST_MORTAL, 1_usize..5000).prop_map(|(key, len)| Deed::Put(key, vec![key; len])),
        4 => Just(Deed::Freeze),
        4 => (1_usize..20).prop_map(Deed::Step),
        8 => vec(any::<u16>(), 1..4).prop_map(Deed::Answer),
        4 => Just(Deed::Flush),
        8 => (1_usize..5000).prop_map(Deed::Merge),
        3 => Just(Deed::MergeAll),
        1 => prop::sample::select(&[Fault::SyncFails, Fault::RenameFails, Fault::Full][..])
            .prop_map(Deed::Break),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Wherever a process dies, also while it opens the store, the next one removes what was left,
    /// keeps what this or an older manifest names, and reads the same.
    #[test]
    fn after_a_crash_there_is_what_is_named(
        lives in vec(
            (vec(crash_deed(), 0..60), vec(any::<u16>(), 0..40)),
            1..5,
        ),
    ) {
        let mut world = World::new();
        world.add_foreign();
        for (deeds, choices) in lives {
            // A checkpoint that is kept as long as the process lives, and for the next one.
            let older = world.store.version().clone();
            world.retained = world.rows().into_iter().map(|row| row.id).collect();
            for deed in &deeds {
                world.run(deed);
            }
            let (rows, named) = (world.rows(), world.named_paths());
            world.begin_to_open(rows.clone());
            for choice in choices {
                while let Some(op) = world.store.next_op() {
                    world.disk.ask(op);
                }
                let Some(done) = world.disk.answer(choice) else { break };
                world.store.on_done(done).expect("the tables are sound");
                prop_assert!(world.disk.paths().is_superset(&named));
            }
            world.restart_from(rows);
            world.run(&Deed::ReadAll);
            drop(older);
        }
        world.retained.clear();
        world.restart();
        world.run(&Deed::ReadAll);
    }
}
