//! What the store does not take, and what it tells whoever names its tables.

use super::*;

fn config_with(change: impl FnOnce(&mut StoreConfig)) -> StoreConfig {
    let mut config = config(1);
    change(&mut config);
    config
}

#[test]
fn a_store_that_is_given_no_memory_has_some() {
    let store = Store::new(config_with(|it| it.memory_bytes = 0), Vec::new());
    assert_eq!(store.pressure(), Pressure::Ok);
}

#[test]
#[should_panic(expected = "does not begin where one ended")]
fn bands_leave_no_gap() {
    Store::new(config_with(|it| it.bands[1].first += 1), Vec::new());
}

#[test]
#[should_panic(expected = "does not begin where one ended")]
fn bands_are_of_whole_key_groups() {
    let cut = |it: &mut StoreConfig| {
        it.bands[0].last -= 1 << 60;
        it.bands[1].first -= 1 << 60;
    };
    Store::new(config_with(cut), Vec::new());
}

#[test]
#[should_panic(expected = "the bands end before the key groups 0..8")]
fn all_key_groups_have_bands() {
    Store::new(config_with(|it| it.bands.truncate(1)), Vec::new());
}

#[test]
#[should_panic(expected = "there is no band 2")]
fn tables_are_of_bands() {
    let (id, tier) = (TableId(1), crate::compaction::Tier::Merged(0));
    let row = TableRow { band: 2, id, tier, length: 1, checksum: 1 };
    Store::new(config(2), vec![row]);
}

/// What tables have of it would be there again, once what is in memory is evicted.
#[test]
#[should_panic(expected = "state 3 had a space for 77, which was dropped")]
fn what_was_dropped_is_not_opened_again() {
    let mut world = World::new();
    world.store.drop_space(world.spaces[0]);
    world.store.open_space(STATE, WINDOW, Origin::New);
}

#[test]
#[should_panic(expected = "have no lengths of key and namespace")]
fn a_key_that_is_none_is_refused_at_once() {
    let mut world = World::new();
    let name = RecordKey { hash64: 7, spread: 0, bytes: b"key" };
    // It does not come that far.
    let _put = world.store.put(world.spaces[0], name, b"value");
}

/// Whoever looks after each answer sees every epoch, with the tables that have it and no more.
#[test]
fn an_epoch_is_installed_with_its_tables() {
    let mut world = World::new();
    let mut epochs = Vec::new();
    for key in 0..3 {
        world.run(&Deed::Put(key, vec![key; 10]));
        epochs.push(world.store.epoch());
        world.run(&Deed::Freeze);
    }
    assert_eq!((&epochs[..], world.store.epoch()), (&[1, 2, 3][..], 4));
    let mut seen = vec![(0, 0)];
    while !world.store.is_flushed() {
        world.store.step(100).expect("nothing has failed");
        world.answer_any();
        let now = (world.store.installed_epoch(), TableRow::all_of(world.store.version()).len());
        if Some(&now) != seen.last() {
            seen.push(now);
        }
    }
    assert_eq!(seen, [(0, 0), (1, 1), (2, 2), (3, 3)]);
}
