//! One thing at a time, on a disk that works.

use super::*;

/// A store with these keys in one table, and nothing in memory.
pub(super) fn cold(keys: impl IntoIterator<Item = u8>) -> World {
    let mut world = World::new();
    keys.into_iter().for_each(|key| world.run(&Deed::Put(key, vec![key; 10])));
    world.run(&Deed::Freeze);
    world.flush();
    world.restart();
    world
}

/// Gives the disk what the store wants. Answers how many reads that were.
fn read_count(world: &mut World) -> usize {
    let ops: Vec<FileOp> = std::iter::from_fn(|| world.store.next_op()).collect();
    let count = ops.iter().filter(|op| matches!(op, FileOp::Read { .. })).count();
    for op in ops {
        world.disk.ask(op);
    }
    count
}

#[test]
fn keys_of_one_block_share_a_read() {
    let mut world = cold(0..6);
    let space = world.spaces[0];
    let names: Vec<_> = (0..6).map(|key| (hash64(key), rest(key))).collect();
    let names = names.iter().map(|(hash64, bytes)| RecordKey { hash64: *hash64, spread: 0, bytes });
    let names: Vec<_> = names.collect();
    world.store.prefetch(space, &names).expect("nothing has failed");
    world.store.prefetch(space, &names).expect("nothing has failed");
    assert_eq!(read_count(&mut world), 1);
    world.settle();
    for key in 0..6 {
        assert_eq!(world.got(key).expect("it was read"), Poll::Ready(Some(vec![key; 10])));
    }
    assert_eq!(read_count(&mut world), 0);
}

#[test]
fn a_key_that_no_table_has_is_not_read() {
    let mut world = cold([0, 6]);
    assert_eq!(world.got(3).expect("nothing has failed"), Poll::Ready(None));
    assert_eq!(read_count(&mut world), 0);
}

/// Four times as much as there is memory for: pressure rises, the caller flushes, and all is there.
#[test]
fn it_holds_more_than_memory() {
    const MEMORY_BYTES: usize = 16 << 20;
    const VALUE_BYTES: usize = 240 << 10;
    let mut world = World::new();
    let space = world.spaces[0];
    let count = 4 * MEMORY_BYTES / VALUE_BYTES;
    let name = |number: usize| number as u64 * (u64::MAX / count as u64);
    let bytes = rest(1);
    let mut highest = Pressure::Ok;
    for number in 0..count {
        let name = RecordKey { hash64: name(number), spread: 0, bytes: &bytes };
        let value = vec![number as u8; VALUE_BYTES];
        while let Err(error) = world.store.put(space, name, &value) {
            assert!(matches!(error, Error::Full(_)), "{error}");
            world.run(&Deed::Freeze);
            world.flush();
        }
        highest = highest.max(world.store.pressure());
        if world.store.pressure() != Pressure::Ok {
            world.run(&Deed::Freeze);
            world.flush();
        }
    }
    assert_eq!(highest, Pressure::Slow, "who heeds it does not come to the end");
    for number in 0..count {
        let name = RecordKey { hash64: name(number), spread: 0, bytes: &bytes };
        loop {
            match world.store.get(space, name).expect("clean records make room") {
                Got::Ready(value) => {
                    assert!(value.is_some_and(|value| value == vec![number as u8; VALUE_BYTES]));
                    break;
                }
                Got::Wait(_) => assert!(world.answer_any(), "a read that waits is answered"),
            }
        }
        assert!(world.store.budget.taken_bytes() <= MEMORY_BYTES);
    }
}

#[test]
fn what_has_expired_is_not_read_and_goes_with_a_merge() {
    let mut world = World::new();
    for _ in 0..4 {
        world.run(&Deed::Put(FIRST_MORTAL, vec![7; 10]));
        world.run(&Deed::Freeze);
        world.flush();
    }
    world.restart();
    world.run(&Deed::Expire(7));
    assert_eq!(world.read(FIRST_MORTAL), Some(vec![7; 10]));
    world.run(&Deed::Expire(1));
    assert_eq!(world.read(FIRST_MORTAL), None, "in memory");
    world.restart();
    assert_eq!(world.read(FIRST_MORTAL), None, "in tables");
    world.merge();
    assert!(world.store.version().bands().iter().all(|band| band.tables.is_empty()));
    assert!(world.disk.paths().is_empty(), "{:?}", world.disk.paths());
}

/// What `result` says of a record that is too large.
#[track_caller]
fn check_too_large(result: Result<(), Error>, key: &RecordKey<'_>) {
    let error = result.expect_err("a record does not take more than a chunk");
    let Error::TooLarge { state_id, key_bytes, limit_bytes } = error else { panic!("{error}") };
    assert_eq!((state_id, key_bytes, limit_bytes), (STATE, key.bytes.len(), 2 << 20));
    let said = error.to_string();
    let names = ["state 3 ", "takes 9 bytes", "2097152 bytes"];
    assert!(names.iter().all(|name| said.contains(name)), "{said}");
}

#[test]
fn a_record_that_is_too_large_is_refused_and_nothing_changes() {
    let mut world = World::new();
    world.run(&Deed::Put(0, vec![5; 100]));
    let (space, bytes) = (world.spaces[0], rest(0));
    let name = RecordKey { hash64: hash64(0), spread: 0, bytes: &bytes };
    let value = vec![6; 2 << 20];
    check_too_large(world.store.put(space, name, &value), &name);
    check_too_large(world.store.append(space, name, &value), &name);
    world.run(&Deed::ReadAll);
    world.run(&Deed::Freeze);
    world.flush();
    world.restart();
    world.run(&Deed::ReadAll);
}

/// Each epoch appends less than a chunk, all of them more: in tables, and partly in memory.
#[test]
fn operands_that_are_too_large_together_are_an_error_for_their_reader_and_nobody_else() {
    let mut world = cold([0, 3]);
    let bytes = rest(0);
    let name = RecordKey { hash64: hash64(0), spread: 0, bytes: &bytes };
    for is_in_memory in [true, false] {
        for epoch in 0..3 {
            let space = world.spaces[0];
            world.store.append(space, name, &vec![epoch; 1 << 20]).expect("it is not read");
            if !(is_in_memory && epoch == 2) {
                world.run(&Deed::Freeze);
                world.flush();
            }
        }
        if !is_in_memory {
            world.restart_from(world.rows());
        }
        for _ in 0..2 {
            let result = loop {
                match world.got(0) {
                    Ok(Poll::Pending) => assert!(world.answer_any(), "what waits is answered"),
                    result => break result,
                }
            };
            check_too_large(result.map(|_| ()), &name);
            assert_eq!(world.read(3), Some(vec![3; 10]));
        }
        assert!(world.store.reads.lookups.is_empty(), "nothing is kept outside the budget");
        world.run(&Deed::Put(0, vec![8; 10]));
        world.run(&Deed::Read(0));
        world.run(&Deed::Remove(0));
        world.run(&Deed::Read(0));
        world.run(&Deed::Freeze);
        world.flush();
        world.restart();
        world.run(&Deed::ReadAll);
        world.restart();
    }
}

/// Who says that a value lives to the end of time means it.
#[test]
fn a_value_of_the_end_of_time_does_not_expire() {
    let mut config = config(1);
    config.times = BTreeMap::from([(MORTAL_STATE, (|_: &[u8]| i64::MAX) as TimeOf)]);
    let mut world = World::new();
    world.disk.crash();
    world.store = Store::new(config, Vec::new());
    world.spaces = [STATE, MORTAL_STATE].map(|id| world.store.open_space(id, WINDOW, Origin::New));
    world.open();
    world.run(&Deed::Put(FIRST_MORTAL, vec![7; 10]));
    world.store.expire(MORTAL_STATE, i64::MAX);
    world.run(&Deed::Freeze);
    world.flush();
    assert_eq!(world.read(FIRST_MORTAL), Some(vec![7; 10]));
    world.store.evict(1 << 20, 100_000);
    assert_eq!(world.read(FIRST_MORTAL), Some(vec![7; 10]), "in the table");
}
