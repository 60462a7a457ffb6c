//! A disk that does not work: what was there stays, what is not durable is not said to be.

use std::path::Path;

use super::cases::cold;
use super::*;

/// Lets the store go on until nothing is left to do. With a fault, all fails that can.
pub(super) fn go_on(world: &mut World, fault: Option<Fault>) -> Result<(), Error> {
    loop {
        let is_busy = world.store.step(100)?;
        while let Some(op) = world.store.next_op() {
            world.disk.ask(op);
        }
        world.disk.fault = fault.or(world.disk.fault);
        match world.disk.answer(0) {
            Some(done) => world.store.on_done(done)?,
            None if is_busy => {}
            None => return Ok(()),
        }
        world.note_installed();
    }
}

pub(super) fn put(world: &mut World, key: u8, value: Vec<u8>) {
    world.run(&Deed::Put(key, value));
}

/// Where `error` says that the table at `path` is corrupt.
fn corrupt_at(error: &Error, path: &Path) -> Option<u64> {
    match error {
        Error::Table { path: found, source: table::Error::Corrupt { offset, .. } }
            if found == path =>
        {
            Some(*offset)
        }
        _ => None,
    }
}

pub(super) const READING: [Fault; 4] =
    [Fault::OpenFails, Fault::ReadFails, Fault::ReadIsShort, Fault::ReadIsDamaged];

#[test]
fn a_damaged_block_is_read_once_more() {
    for fault in [Fault::ReadIsDamaged, Fault::ReadIsShort] {
        let mut world = cold([1]);
        assert_eq!(world.got(1).expect("nothing has failed"), Poll::Pending);
        world.disk.fault = Some(fault);
        assert!(world.answer_any());
        assert_eq!(world.got(1).expect("it is read again"), Poll::Pending);
        assert!(world.answer_any());
        assert_eq!(world.got(1).expect("it was read"), Poll::Ready(Some(vec![1; 10])));
    }
}

#[test]
fn a_block_that_stays_damaged_is_an_error_and_never_a_value() {
    for fault in [Fault::ReadIsDamaged, Fault::ReadIsShort] {
        let mut world = cold([1]);
        assert_eq!(world.got(1).expect("nothing has failed"), Poll::Pending);
        go_on(&mut world, Some(fault)).expect("a store goes on without a block");
        let error = world.got(1).expect_err("the block is not believed");
        assert_eq!(corrupt_at(&error, &world.store.config.path(TableId(1))), Some(0), "{error:?}");
        assert_eq!(error.to_string(), "the table state/0000000000000001.table is not usable");
    }
}

#[test]
fn a_block_that_is_not_read_is_an_error_for_all_who_wait_and_is_asked_for_anew() {
    let mut world = cold(0..2);
    for key in 0..2 {
        assert_eq!(world.got(key).expect("nothing has failed"), Poll::Pending);
    }
    go_on(&mut world, Some(Fault::ReadFails)).expect("a store goes on without a block");
    world.disk.fault = None;
    for key in 0..2 {
        let error = world.got(key).expect_err("it was not read");
        assert!(matches!(error, Error::Read(_)), "{error}");
    }
    for key in 0..2 {
        assert_eq!(world.read(key), Some(vec![key; 10]));
    }
}

#[test]
fn a_full_disk_stops_the_input_and_loses_nothing() {
    let mut world = World::new();
    put(&mut world, 1, vec![1; 10]);
    world.run(&Deed::Freeze);
    assert!(world.store.stalled().is_none());
    go_on(&mut world, Some(Fault::Full)).expect("a full disk is waited for");
    assert_eq!(world.store.pressure(), Pressure::Stop);
    let fault = world.store.stalled().expect("somebody should know");
    assert_eq!(fault.source.kind(), std::io::ErrorKind::StorageFull);
    world.store.retry();
    world.settle();
    assert_eq!(world.store.pressure(), Pressure::Stop, "the disk is still full");
    world.disk.make_room();
    world.store.retry();
    world.flush();
    assert_eq!(world.store.pressure(), Pressure::Ok);
    assert!(world.store.stalled().is_none());
    world.restart();
    assert_eq!(world.read(1), Some(vec![1; 10]));
}

/// Its keys would be looked for in other key groups than they are in.
#[test]
fn a_table_of_another_number_of_key_groups_is_not_taken() {
    let mut world = cold([1]);
    let rows = world.rows();
    let mut config = config(world.store.config.next_table_id);
    config.key_group_count *= 2;
    config.key_groups.end *= 2;
    world.disk.crash();
    world.store = Store::new(config, rows);
    go_on(&mut world, None).expect_err("the table is not for this store");
    let error = world.store.is_open().expect_err("the table is not for this store");
    let Error::Table { source: table::Error::Corrupt { what, .. }, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(what, "it was made for another number of key groups");
}

/// Whoever does not heed the pressure comes to the end of memory, and not further.
#[test]
fn while_the_disk_is_full_what_is_there_is_read_and_memory_is_not_exceeded() {
    const VALUE_BYTES: usize = 240 << 10;
    let mut world = cold([1]);
    put(&mut world, 2, vec![2; 10]);
    world.run(&Deed::Freeze);
    go_on(&mut world, Some(Fault::Full)).expect("a full disk is waited for");
    assert_eq!(world.read(1), Some(vec![1; 10]));
    let (space, bytes) = (world.spaces[0], rest(3));
    let name = |number: usize| RecordKey {
        hash64: number as u64 * (u64::MAX / 100),
        spread: 0,
        bytes: &bytes,
    };
    let mut count = 0;
    let full = loop {
        match world.store.put(space, name(count), &vec![count as u8; VALUE_BYTES]) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full(_)), "{full}");
    assert!(20 < count && count < 100, "{count} values");
    assert!(world.store.budget.taken_bytes() <= world.store.budget.total_bytes());
    world.disk.make_room();
    world.store.retry();
    world.run(&Deed::Freeze);
    world.flush();
    world.restart();
    assert_eq!(world.read(2), Some(vec![2; 10]));
    for number in 0..count {
        loop {
            match world.store.get(world.spaces[0], name(number)).expect("the disk is sound") {
                Got::Wait(_) => assert!(world.answer_any(), "a read that waits is answered"),
                Got::Ready(value) => {
                    assert!(value.is_some_and(|value| value == vec![number as u8; VALUE_BYTES]));
                    break;
                }
            }
        }
    }
}

/// Writes an epoch of many pieces; with a fault, at the second attempt. Answers how many writes
/// that took.
fn write_count(fault: Option<Fault>) -> usize {
    const KEYS: u8 = 24;
    let mut world = World::new();
    (0..KEYS).for_each(|key| put(&mut world, key, vec![key; 240 << 10]));
    world.run(&Deed::Freeze);
    world.disk.fault = fault;
    go_on(&mut world, None).expect("what was not written is kept");
    if fault.is_some() {
        assert!(!world.store.is_flushed());
        assert_eq!(world.store.pressure(), Pressure::Stop);
        world.store.retry();
        go_on(&mut world, None).expect("the disk works again");
    }
    assert!(world.store.is_flushed());
    assert_eq!(world.store.pressure(), Pressure::Ok);
    world.restart();
    (0..KEYS).for_each(|key| assert_eq!(world.read(key), Some(vec![key; 240 << 10])));
    world.disk.write_count
}

#[test]
fn a_piece_that_was_not_written_is_the_only_one_that_is_written_again() {
    let sound = write_count(None);
    assert!(8 < sound, "more pieces than are written at once");
    assert_eq!(write_count(Some(Fault::WriteFails)), sound + 1);
}

#[test]
fn a_file_that_was_not_created_is_created_again() {
    assert!(write_count(None) <= write_count(Some(Fault::CreateFails)));
}

/// The kernel may have dropped what it could not write, and a second sync would say nothing of it.
#[test]
fn after_a_failed_sync_nothing_goes_on_but_a_restart() {
    let mut world = cold([1]);
    put(&mut world, 1, vec![2; 10]);
    world.run(&Deed::Freeze);
    world.disk.fault = Some(Fault::SyncFails);
    let error = go_on(&mut world, None).expect_err("what is not durable is not installed");
    assert!(matches!(error, Error::Failed(_)), "{error}");
    let sync_count = world.disk.sync_count;
    world.store.retry();
    world.store.freeze();
    let error = go_on(&mut world, None).expect_err("a store that has failed does not go on");
    assert!(matches!(error, Error::Failed(_)), "{error}");
    assert_eq!(world.store.next_op(), None);
    assert_eq!(world.disk.sync_count, sync_count, "a sync that failed is not asked for again");
    assert!(matches!(world.got(1), Err(Error::Failed(_))));
    let (space, bytes) = (world.spaces[0], rest(1));
    let name = RecordKey { hash64: hash64(1), spread: 0, bytes: &bytes };
    assert!(matches!(world.store.put(space, name, b"3"), Err(Error::Failed(_))));
    assert_eq!(world.store.pressure(), Pressure::Stop);
    world.restart();
    assert_eq!(world.read(1), Some(vec![1; 10]), "what was installed is there");
    put(&mut world, 1, vec![3; 10]);
    world.run(&Deed::Freeze);
    world.flush();
    world.restart();
    assert_eq!(world.read(1), Some(vec![3; 10]), "the next table is a new one");
}

#[test]
fn a_name_that_may_be_gone_after_a_crash_is_no_table() {
    let mut world = cold([1]);
    put(&mut world, 1, vec![2; 10]);
    world.run(&Deed::Freeze);
    world.disk.fault = Some(Fault::RenameFails);
    let error = go_on(&mut world, None).expect_err("the name is not durable");
    assert!(matches!(error, Error::Failed(_)), "{error}");
    world.restart();
    assert_eq!(world.read(1), Some(vec![1; 10]));
    put(&mut world, 1, vec![3; 10]);
    world.run(&Deed::Freeze);
    world.flush();
    world.restart();
    assert_eq!(world.read(1), Some(vec![3; 10]));
}

#[test]
fn a_delta_that_cannot_be_read_back_fails_the_store() {
    for fault in READING {
        let mut world = cold([1]);
        put(&mut world, 1, vec![2; 10]);
        world.run(&Deed::Freeze);
        let error = go_on(&mut world, Some(fault)).expect_err("twice in vain");
        assert!(matches!(error, Error::Read(_) | Error::Table { .. }), "{error}");
        world.restart();
        assert_eq!(world.read(1), Some(vec![1; 10]));
    }
}

/// Opens the tables of `rows`, to the last answer. Answers why that was in vain.
fn error_of_opening(world: &mut World, rows: Vec<TableRow>, choice: u16) -> Error {
    world.begin_to_open(rows);
    loop {
        while let Some(op) = world.store.next_op() {
            world.disk.ask(op);
        }
        let Some(done) = world.disk.answer(choice) else { break };
        // It is said once more below.
        let _is_failed = world.store.on_done(done).is_err();
    }
    world.store.is_open().expect_err("a table of the manifest is not there")
}

/// In whatever order the tables are opened, and wherever the one is that cannot be.
#[test]
fn a_store_without_one_of_its_tables_does_not_open() {
    let mut world = World::new();
    for key in 1..4 {
        put(&mut world, key, vec![key; 10]);
        world.run(&Deed::Freeze);
        world.flush();
    }
    let rows = world.rows();
    let ids: BTreeSet<TableId> = rows.iter().map(|row| row.id).collect();
    for (id, choice) in ids.iter().flat_map(|id| (0..7).map(move |choice| (*id, choice))) {
        let path = world.store.config.path(id);
        let file = world.disk.remove(&path);
        let error = error_of_opening(&mut world, rows.clone(), choice);
        assert!(matches!(error, Error::Read(_)), "{error}");

        let middle = file.len() / 2;
        world.disk.put(&path, file[..middle].to_vec());
        let error = error_of_opening(&mut world, rows.clone(), choice);
        assert!(corrupt_at(&error, &path).is_some(), "{error:?}");

        let mut damaged = file.clone();
        damaged[middle] ^= 1;
        world.disk.put(&path, damaged);
        let error = error_of_opening(&mut world, rows.clone(), choice);
        assert!(corrupt_at(&error, &path).is_some(), "{error:?}");

        world.disk.put(&path, file);
    }
    world.restart_from(rows);
    (1..4).for_each(|key| assert_eq!(world.read(key), Some(vec![key; 10])));
}

#[test]
fn a_table_under_the_name_of_another_is_not_taken_for_it() {
    let mut world = World::new();
    for key in 1..3 {
        put(&mut world, key, vec![key; 10]);
        world.run(&Deed::Freeze);
        world.flush();
    }
    let rows = world.rows();
    let [first, second] = [1, 2].map(|id| world.store.config.path(TableId(id)));
    let file = world.disk.remove(&first);
    world.disk.put(&first, file.clone());
    world.disk.put(&second, file);
    let error = error_of_opening(&mut world, rows, 0);
    let Error::Table { path, source: table::Error::Corrupt { what, .. } } = error else {
        panic!("{error}")
    };
    assert_eq!((path, what), (second, "it is another table than its name says"));
}

/// A sound table of the right id, but not what the manifest was written for: as if the id had been
/// given twice.
#[test]
fn a_table_that_the_manifest_does_not_mean_is_not_taken() {
    let table_of = |keys: &[u8], value: &[u8]| {
        let mut world = World::new();
        for key in keys {
            put(&mut world, *key, value.to_vec());
        }
        world.run(&Deed::Freeze);
        world.flush();
        world
    };
    let mut world = table_of(&[1], b"value");
    let rows = world.rows();
    let path = world.store.config.path(TableId(1));
    let file = world.disk.remove(&path);
    let others = [
        (table_of(&[4], b"value"), "its checksum is not the one that the manifest says"),
        (table_of(&[1], b"velue"), "its checksum is not the one that the manifest says"),
        (table_of(&[1, 2, 3], &[1; 5000]), "it is not as long as the manifest says"),
    ];
    for (mut other, expected) in others {
        assert_eq!(other.rows()[0].id, rows[0].id);
        world.disk.put(&path, other.disk.remove(&path));
        let error = error_of_opening(&mut world, rows.clone(), 0);
        let Error::Table { path: found, source: table::Error::Corrupt { what, .. } } = error else {
            panic!("{error}")
        };
        assert_eq!((&found, what), (&path, expected));
        world.disk.remove(&path);
    }
    // Every row has to agree, also if the table is in several bands.
    world.disk.put(&path, file);
    let mut wrong = rows.clone();
    wrong.push(TableRow { band: 1, checksum: rows[0].checksum ^ 1, ..rows[0] });
    let error = error_of_opening(&mut world, wrong, 0);
    assert!(corrupt_at(&error, &path).is_some(), "{error:?}");
    world.restart_from(rows);
    assert_eq!(world.read(1), Some(b"value".to_vec()));
}
