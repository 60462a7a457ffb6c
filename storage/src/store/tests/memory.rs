//! What tables cost of memory, and what gives way for it.

use super::faults::put;
use super::*;
use crate::store::memory::{BACKLOG_SLOW, BACKLOG_STOP};

/// A window, one key of it in each band, and a table of them if it is the last of so many.
fn windows(world: &mut World, windows: std::ops::Range<i64>) {
    let bytes = rest(0);
    for window in windows {
        let space = world.store.open_space(STATE, 1_000 + window, Origin::New);
        for hash64 in [1, u64::MAX] {
            let name = RecordKey { hash64, spread: 0, bytes: &bytes };
            world.store.put(space, name, b"of a window").expect("there is memory enough");
        }
    }
}

/// Flushes as far as it is possible. Whether that was to the end.
fn flush_if_possible(world: &mut World) -> bool {
    world.run(&Deed::Freeze);
    while world.store.step(1000).expect("nothing fails") || world.answer_any() {}
    world.store.is_flushed()
}

fn world_with(table_bytes: usize) -> World {
    let mut world = World::new();
    world.disk.crash();
    world.store = Store::new(StoreConfig { table_bytes, ..config(100) }, Vec::new());
    world.spaces = [STATE, MORTAL_STATE].map(|id| world.store.open_space(id, WINDOW, Origin::New));
    world.open();
    world
}

fn taken_bytes(world: &World) -> usize {
    world.store.budget.taken_bytes() + world.store.index_bytes()
}

/// Ten thousand sections are megabytes of directory: cached blocks go for them, then clean records;
/// what is dirty stays, and more of it is refused.
#[test]
fn what_is_kept_of_tables_is_taken_from_the_others() {
    let mut world = world_with(1 << 20);
    let limit = world.store.config.memory_bytes + world.store.config.table_bytes;
    for key in 0..FIRST_MORTAL {
        put(&mut world, key, vec![key; 200_000]);
    }
    assert!(flush_if_possible(&mut world));
    assert!(world.store.cache.grow(&mut world.store.budget).is_ok());
    let whole = world.store.budget.total_bytes();
    for round in 0..4 {
        windows(&mut world, round * 2_500..(round + 1) * 2_500);
        assert!(flush_if_possible(&mut world));
        // A chunk goes with every step.
        (0..8).for_each(|_| assert!(!world.store.step(1).expect("nothing fails")));
        assert!(taken_bytes(&world) <= limit, "{} of {limit}", taken_bytes(&world));
    }
    assert!(world.store.index_bytes() > 3 << 20, "{}", world.store.index_bytes());
    assert!(world.store.budget.total_bytes() < whole);
    assert_eq!(world.store.cache.chunk_bytes(), 0, "blocks went first");
    assert_eq!(world.store.shortage().map(|it| it.to_string()), None);
    for key in 0..FIRST_MORTAL {
        assert_eq!(world.read(key), Some(vec![key; 200_000]));
    }
}

/// No table more than there is memory for: records wait, somebody is told, and what merges drop
/// makes room.
#[test]
fn when_there_is_no_room_for_tables_no_further_one_is_begun() {
    let mut world = world_with(1 << 20);
    let mut next = 0;
    while world.store.shortage().is_none() {
        windows(&mut world, next..next + 2_500);
        next += 2_500;
        assert!(next < 100_000, "{} bytes are kept of tables", world.store.index_bytes());
        if !flush_if_possible(&mut world) {
            break;
        }
    }
    let shortage = world.store.shortage().expect("there is no room");
    let text = shortage.to_string();
    assert!(text.contains("more memory") && text.contains(&shortage.limit_bytes.to_string()));
    assert_eq!(world.store.pressure(), Pressure::Stop);
    let rows = world.rows();
    put(&mut world, 0, vec![1; 100]);
    assert!(!flush_if_possible(&mut world), "it waits");
    assert_eq!(world.rows(), rows);
    world.store.pass_windows(STATE, 1_000 + next);
    world.merge();
    assert!(flush_if_possible(&mut world), "there is room again");
    world.merge();
    assert!(world.store.pressure() < Pressure::Stop);
}

/// Filters of bases have less room than others, and lookups do without.
#[test]
fn filters_are_held_as_far_as_there_is_room_for_them() {
    /// Filters of one line for each block.
    const LINES: usize = 64;
    let fill = |world: &mut World, from: u8| {
        for key in 0..FIRST_MORTAL {
            put(world, key, vec![key ^ from; 3_000]);
        }
        assert!(flush_if_possible(world));
    };
    let bytes_of = |table_bytes| {
        let mut world = world_with(table_bytes);
        for delta in 0..4 {
            fill(&mut world, delta);
        }
        let deltas: Vec<usize> = world.store.versions.tables().map(Table::filter_bytes).collect();
        world.merge();
        let bases: Vec<usize> = world.store.versions.tables().map(Table::filter_bytes).collect();
        (0..FIRST_MORTAL).for_each(|key| assert_eq!(world.read(key), Some(vec![key ^ 3; 3_000])));
        (deltas, bases)
    };
    let blocks = usize::from(FIRST_MORTAL);
    let (deltas, bases) = bytes_of(1 << 20);
    assert_eq!(deltas, [blocks * LINES; 4]);
    assert_eq!(bases.iter().sum::<usize>(), blocks * LINES);
    // Room for two deltas, and for no base beside them.
    let (deltas, bases) = bytes_of(3 * 2 * blocks * LINES);
    assert_eq!(deltas.iter().filter(|bytes| **bytes != 0).count(), 2);
    assert_eq!(bases, [0; 2]);
    assert_eq!(bytes_of(0), (vec![0; 4], vec![0; 2]));
}

/// A store whose merges lag takes in less, then nothing, and goes on once they have caught up.
#[test]
fn deltas_that_nobody_merges_raise_the_pressure() {
    let mut world = World::new();
    let mut pressures = Vec::new();
    loop {
        pressures.push(world.store.pressure());
        put(&mut world, 0, vec![1; 10]);
        if !flush_if_possible(&mut world) {
            break;
        }
    }
    let count_of = |pressure| pressures.iter().filter(|it| **it == pressure).count();
    assert_eq!(count_of(Pressure::Ok), BACKLOG_SLOW);
    assert_eq!(count_of(Pressure::Slow), BACKLOG_STOP - BACKLOG_SLOW);
    assert_eq!(count_of(Pressure::Stop), 1);
    assert_eq!(world.store.memory_pressure(), Pressure::Ok, "a flush would not help");
    world.merge();
    assert_eq!(world.store.pressure(), Pressure::Ok);
    assert!(flush_if_possible(&mut world));
}
