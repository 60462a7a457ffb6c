//! Scans, while everything goes on around them.

use super::cases::cold;
use super::*;

/// A scan of both spaces, one after the other, and what it may see.
pub(super) struct Watch {
    scan: Scan,
    /// Whether it is that of the mortal keys.
    is_second: bool,
    seen: Records,
    /// The stored key that was seen last.
    last: Vec<u8>,
    /// By key, all that it has been since the scan began.
    history: Vec<Vec<Option<Vec<u8>>>>,
}

impl World {
    fn watch(&self) -> Watch {
        Watch {
            scan: self.store.scan(self.spaces[0], 0..KEY_GROUP_COUNT),
            is_second: false,
            seen: Records::new(),
            last: Vec::new(),
            history: (0..KEYS).map(|key| vec![self.expected(key).cloned()]).collect(),
        }
    }

    /// Notes what a scan may see from now on.
    pub(super) fn note_changes(&mut self) {
        let Some(mut watch) = self.watch.take() else { return };
        for (key, history) in (0..KEYS).zip(&mut watch.history) {
            let value = self.expected(key);
            if history.last().is_none_or(|last| last.as_ref() != value) {
                history.push(value.cloned());
            }
        }
        self.watch = Some(watch);
    }

    /// Goes on with a scan, or begins one. False if it waits.
    pub(super) fn scan_on(&mut self) -> bool {
        let mut watch = self.watch.take().unwrap_or_else(|| self.watch());
        let mut is_waiting = false;
        match self.store.scan_next(&mut watch.scan) {
            Ok(Scanned::Entry { key, value }) => {
                assert!(watch.last.as_slice() < key, "keys ascend");
                assert!(value.as_ptr().addr().is_multiple_of(16));
                watch.last = key.to_vec();
                let parts = StoredKey::decode(key).expect("it is a stored key");
                let [number] = parts.key.try_into().expect("keys have one byte");
                assert_eq!(parts.hash64, hash64(number));
                assert!(watch.seen.insert(number, value.to_vec()).is_none(), "it is seen once");
            }
            Ok(Scanned::Slice) | Err(Error::Read(_)) => {}
            Ok(Scanned::Wait(_)) => is_waiting = true,
            Ok(Scanned::Done) if !watch.is_second => {
                watch.scan = self.store.scan(self.spaces[1], 0..KEY_GROUP_COUNT);
                watch.is_second = true;
                watch.last.clear();
            }
            Ok(Scanned::Done) => {
                watch.check();
                return true;
            }
            Err(Error::Table { .. }) => {
                let again = self.store.scan_next(&mut watch.scan);
                assert!(matches!(again, Err(Error::Table { .. })), "it is over");
                return true;
            }
            Err(error) => panic!("{error}"),
        }
        self.watch = Some(watch);
        !is_waiting
    }

    /// Scans to the end. On a disk that works, all is seen.
    pub(super) fn scan_all(&mut self) {
        self.watch = None;
        while self.scan_on() || self.answer_any() {
            if self.watch.is_none() {
                return;
            }
        }
        panic!("a scan that waits is answered");
    }
}

impl Watch {
    fn check(&self) {
        for (key, history) in (0..KEYS).zip(&self.history) {
            let seen = self.seen.get(&key);
            let may_be = history.iter().any(|value| value.as_ref() == seen);
            assert!(may_be, "key {key} was {history:?} and is seen as {seen:?}");
        }
    }
}

/// All entries of a scan, by what follows the hash.
fn all_of(world: &mut World, mut scan: Scan) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    loop {
        match world.store.scan_next(&mut scan).expect("the disk works") {
            Scanned::Entry { key, value } => entries.push((key[20..].to_vec(), value.to_vec())),
            Scanned::Wait(_) => assert!(world.answer_any(), "a scan that waits is answered"),
            Scanned::Slice => {}
            Scanned::Done => return entries,
        }
    }
}

/// What follows the hash in the stored key of an entry of a map.
fn map_bytes(key: &[u8], map_key: &[u8]) -> Vec<u8> {
    let fixed = StoredKey {
        key_group: 0,
        state_id: 0,
        window_bucket: 0,
        hash64: 0,
        key,
        namespace: b"",
        map_key,
    };
    fixed.encode()[20..].to_vec()
}

#[test]
fn the_entries_of_a_map_are_those_of_one_key_in_order() {
    let mut world = cold([]);
    let space = world.spaces[0];
    let put = |world: &mut World, bytes: &[u8], hash64: u64| {
        let spread = bytes.iter().map(|byte| u64::from(*byte)).sum();
        let name = RecordKey { hash64, spread, bytes };
        world.store.put(space, name, &bytes[bytes.len() - 2..]).expect("there is memory enough");
    };
    // Keys with the same hash, and hashes next to it.
    for (epoch, hash64) in [5, 6, 7].into_iter().enumerate() {
        for key in [&b"a"[..], b"ab", b"b"] {
            for entry in 0..100_u8 {
                if usize::from(entry % 3) == epoch || hash64 != 6 {
                    put(&mut world, &map_bytes(key, &[entry, epoch as u8]), hash64);
                    put(&mut world, &map_bytes(key, &[entry, 9]), 6);
                }
            }
        }
        if epoch < 2 {
            world.run(&Deed::Freeze);
            world.flush();
        }
    }
    for is_cold in [false, true] {
        let scan = world.store.scan_key(space, 6, &map_bytes(b"ab", b""));
        let entries = all_of(&mut world, scan);
        let mut expected: Vec<_> = (0..100).map(|entry| [entry, 9]).collect();
        expected.extend((1..100).step_by(3).map(|entry| [entry, 1]));
        expected.sort_unstable();
        let expected = expected.into_iter().map(|it| (map_bytes(b"ab", &it), it.to_vec()));
        assert_eq!(entries, expected.collect::<Vec<_>>(), "cold: {is_cold}");
        world.run(&Deed::Freeze);
        world.flush();
        world.restart();
    }
}

#[test]
fn key_groups_are_scanned_that_were_asked_for() {
    let mut world = cold(0..FIRST_MORTAL);
    world.run(&Deed::Remove(0));
    let group_of = |key: u8| hash64(key) >> 61;
    for groups in [0..KEY_GROUP_COUNT, 0..1, 2..5, 7..8, 3..3] {
        let scan = world.store.scan(world.spaces[0], groups.clone());
        let entries = all_of(&mut world, scan);
        let is_in = |key: &u8| groups.contains(&(group_of(*key) as u32));
        let expected = (1..FIRST_MORTAL).filter(is_in).map(|key| (rest(key), vec![key; 10]));
        let mut expected: Vec<_> = expected.collect();
        expected.sort_by_key(|(bytes, _)| (hash64(bytes[4]), bytes.clone()));
        assert_eq!(entries, expected, "{groups:?}");
    }
}

/// What it has asked for comes when nobody wants it any more.
#[test]
fn a_scan_that_is_dropped_leaves_nothing() {
    let mut world = cold(0..4);
    let mut scan = world.store.scan(world.spaces[0], 0..1);
    let waits = loop {
        match world.store.scan_next(&mut scan).expect("nothing has failed") {
            Scanned::Wait(op) => break op,
            Scanned::Slice => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(world.store.awaited.contains_key(&waits));
    drop(scan);
    world.settle();
    assert!(world.store.scan_reads.is_empty());
    let version = Arc::downgrade(world.store.version());
    world.run(&Deed::Put(0, vec![1; 10]));
    world.run(&Deed::Freeze);
    world.flush();
    assert!(version.upgrade().is_none(), "its tables are not held");
}

/// Goes on with a scan, and answers what it waits for, until it is at its end or fails.
fn outcome(world: &mut World, scan: &mut Scan, fault: Option<Fault>) -> Result<usize, Error> {
    let mut count = 0;
    loop {
        match world.store.scan_next(scan)? {
            Scanned::Entry { .. } => count += 1,
            Scanned::Wait(_) => {
                world.disk.fault = fault;
                assert!(world.answer_any(), "a scan that waits is answered");
            }
            Scanned::Slice => {}
            Scanned::Done => return Ok(count),
        }
    }
}

#[test]
fn a_block_that_is_not_read_is_asked_for_again_by_who_goes_on() {
    let mut world = cold(0..6);
    let mut scan = world.store.scan(world.spaces[0], 0..KEY_GROUP_COUNT);
    let error = outcome(&mut world, &mut scan, Some(Fault::ReadFails)).expect_err("it fails");
    assert!(matches!(error, Error::Read(_)), "{error}");
    assert_eq!(outcome(&mut world, &mut scan, None).expect("the disk works again"), 6);
}

#[test]
fn a_scan_of_a_block_that_stays_damaged_is_over() {
    for fault in [Fault::ReadIsDamaged, Fault::ReadIsShort] {
        let mut world = cold(0..6);
        let mut scan = world.store.scan(world.spaces[0], 0..KEY_GROUP_COUNT);
        for _ in 0..2 {
            let error = outcome(&mut world, &mut scan, Some(fault)).expect_err("it is damaged");
            let Error::Table { path, .. } = error else { panic!("{error}") };
            assert_eq!(path, world.store.config.path(TableId(1)));
        }
        world.disk.fault = None;
        let mut scan = world.store.scan(world.spaces[0], 0..KEY_GROUP_COUNT);
        assert_eq!(outcome(&mut world, &mut scan, None).expect("the disk works again"), 6);
    }
}
