//! The table against a `BTreeMap`, under hashes from perfect to useless.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// How keys get hashes in a test.
#[derive(Debug, Clone, Copy)]
enum Hashing {
    /// As in production.
    Uniform,
    /// A few thousand different hashes, so that keys share tags and whole hashes.
    Coarse,
    /// All in one place, high and low bits alike.
    Useless,
}

impl Hashing {
    fn hash64(self, key: u32) -> u64 {
        let mixed = xxhash_rust::xxh3::xxh3_64(&key.to_le_bytes());
        match self {
            Self::Uniform => mixed,
            Self::Coarse => (mixed & 0xfff) << 40 | (mixed >> 60),
            Self::Useless => 7,
        }
    }
}

fn hashing() -> impl Strategy<Value = Hashing> {
    prop_oneof![Just(Hashing::Uniform), Just(Hashing::Coarse), Just(Hashing::Useless)]
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Add(u32),
    Remove(u32),
    RemoveNext(u32),
}

fn ops(len: usize, keys: u32) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (0..keys).prop_map(Op::Add),
        1 => (0..keys).prop_map(Op::Remove),
        1 => (0..keys).prop_map(Op::RemoveNext),
    ];
    prop::collection::vec(op, 0..len)
}

proptest! {
    /// Every operation answers as the model does, and iteration is the model's in hash order.
    #[test]
    fn a_table_is_a_map(hashing in hashing(), ops in ops(2_000, 600)) {
        let mut table = KeyTable::new(HashRange::ALL);
        let mut model = BTreeMap::new();
        for op in ops {
            match op {
                Op::Add(key) => {
                    *table.get_or_insert_with(hashing.hash64(key), key, || 0) += 1;
                    *model.entry(key).or_insert(0) += 1;
                }
                Op::Remove(key) => {
                    prop_assert_eq!(table.remove(hashing.hash64(key), &key), model.remove(&key));
                }
                Op::RemoveNext(key) => {
                    let Some(slot) = table.find(hashing.hash64(key), &key) else { continue };
                    prop_assert_eq!(table.remove_slot(slot), (key, model[&key]));
                    model.remove(&key);
                }
            }
            prop_assert_eq!(table.len(), model.len());
        }
        let mut found: Vec<_> = table.iter().map(|(hash, k, count)| (hash, *k, *count)).collect();
        prop_assert!(found.is_sorted_by_key(|(hash, _, _)| *hash));
        for (hash, key, count) in &found {
            prop_assert_eq!(*hash, hashing.hash64(*key));
            prop_assert_eq!(table.get(*hash, key), Some(count));
        }
        found.sort_by_key(|(_, key, _)| *key);
        let expected: Vec<_> = model.iter().map(|(k, c)| (hashing.hash64(*k), *k, *c)).collect();
        prop_assert_eq!(found, expected);
    }

    /// Iteration depends on what is there, not on how it came there.
    #[test]
    fn order_does_not_depend_on_history(
        keys in prop::collection::vec(0_u32..5_000, 0..1_500), seed: u64,
    ) {
        let hashing = Hashing::Uniform;
        let fill = |keys: &[u32]| {
            let mut table = KeyTable::new(HashRange::ALL);
            for key in keys {
                table.get_or_insert_with(hashing.hash64(*key), *key, || ());
            }
            table.iter().map(|(_, key, ())| *key).collect::<Vec<_>>()
        };
        let mut shuffled = keys.clone();
        shuffled.sort_by_key(|key| xxhash_rust::xxh3::xxh3_64_with_seed(&key.to_le_bytes(), seed));
        prop_assert_eq!(fill(&keys), fill(&shuffled));
    }

    /// A cursor meets every key that stays exactly once, in hash order, and none twice, whatever
    /// is inserted and removed between its steps.
    #[test]
    fn a_cursor_survives_changes(
        hashing in hashing(),
        stay in prop::collection::btree_set(0_u32..400, 0..200),
        changes in ops(600, 400),
        per_step in 0_usize..4,
    ) {
        let mut table = KeyTable::new(HashRange::ALL);
        for key in 0..400 {
            table.get_or_insert_with(hashing.hash64(key), key, || ());
        }
        let mut cursor = Cursor::default();
        let mut met = Vec::new();
        let mut changes = changes.into_iter();
        while let Some(slot) = cursor.next(&table) {
            met.push(*table.key(slot));
            for change in changes.by_ref().take(per_step) {
                match change {
                    Op::Add(key) => {
                        table.get_or_insert_with(hashing.hash64(key), key, || ());
                    }
                    Op::Remove(key) | Op::RemoveNext(key) if !stay.contains(&key) => {
                        table.remove(hashing.hash64(key), &key);
                    }
                    Op::Remove(_) | Op::RemoveNext(_) => {}
                }
            }
        }
        prop_assert!(met.is_sorted_by_key(|key| hashing.hash64(*key)));
        for key in stay {
            prop_assert_eq!(met.iter().filter(|k| **k == key).count(), 1, "key {}", key);
        }
    }
}

#[test]
fn many_keys_split_segments() {
    let hashing = Hashing::Uniform;
    let range = HashRange { first: u64::MAX / 5, last: u64::MAX / 5 * 2 };
    let keys: Vec<u32> = (0..500_000).filter(|key| range.contains(hashing.hash64(*key))).collect();
    let mut table = KeyTable::new(range);
    for key in &keys {
        table.get_or_insert_with(hashing.hash64(*key), *key, || 0_u32);
    }
    for group in keys.chunks(100) {
        let hashes: Vec<u64> = group.iter().map(|key| hashing.hash64(*key)).collect();
        table.prefetch(Ahead { near: &hashes, far: &hashes });
        for (key, hash64) in group.iter().zip(hashes) {
            *table.get_mut(hash64, key).expect("inserted above") += key;
        }
    }
    assert_eq!(table.len(), keys.len());
    assert!(table.iter().is_sorted_by_key(|(hash64, _, _)| hash64));
    assert!(table.iter().all(|(_, key, value)| key == value));
    for key in &keys {
        assert_eq!(table.remove(hashing.hash64(*key), key), Some(*key));
    }
    assert!(table.is_empty());
    assert_eq!(table.slots().next(), None);
}

#[test]
fn a_prefetch_finds_the_slots_of_keys_that_were_far_before() {
    let mut table = KeyTable::new(HashRange::ALL);
    for key in 0..1_000_u32 {
        table.get_or_insert_with(Hashing::Uniform.hash64(key), key, || key);
    }
    let hashes: [u64; PREFETCH_GROUP] =
        std::array::from_fn(|key| Hashing::Uniform.hash64(key as u32));
    let mut slots = Vec::new();
    table.prefetch(Ahead { near: &[], far: &hashes });
    table.prefetch_with(Ahead { near: &hashes, far: &[] }, |slot| slots.push(slot));
    let found = (0..).zip(hashes).filter_map(|(key, hash64)| table.find(hash64, &key));
    assert_eq!(slots, found.collect::<Vec<_>>());
}

/// Whatever is asked for, in whatever order, while keys come and go, and if many share a hash.
#[test]
fn prefetches_change_nothing() {
    // Some keys share a hash, most do not, and there are enough of them to split segments.
    let hash64 = |key: u32| match key % 8 {
        0 => u64::from(key % 64) * 0x0101_0101_0101_0101,
        _ => Hashing::Uniform.hash64(key),
    };
    let mut table = KeyTable::new(HashRange::ALL);
    let mut model = BTreeMap::new();
    let mut state = 7_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    for round in 0..200_000_u32 {
        let key = draw(20_000) as u32;
        if draw(50_000) == 0 {
            model.clear();
            table = if draw(2) == 0 { table.recycled() } else { KeyTable::new(HashRange::ALL) };
        }
        match draw(4) {
            0 => assert_eq!(table.remove(hash64(key), &key), model.remove(&key)),
            1 => {
                *table.get_or_insert_with(hash64(key), key, || 0) = round;
                model.insert(key, round);
            }
            2 => {
                let hashes: Vec<u64> = (0..draw(20)).map(|_| hash64(draw(20_000) as u32)).collect();
                let (near, far) = hashes.split_at(draw(hashes.len() as u64 + 1) as usize);
                table.prefetch(Ahead { near, far });
            }
            _ => assert_eq!(table.get(hash64(key), &key), model.get(&key)),
        }
    }
    assert!(table.len() == model.len() && !model.is_empty());
}

#[test]
fn a_recycled_table_is_empty_and_takes_keys_again() {
    let fill = |table: &mut KeyTable<u32, u32>, count: u32| {
        for key in 0..count {
            *table.get_or_insert_with(Hashing::Uniform.hash64(key), key, || key) += 1;
        }
    };
    let mut table = KeyTable::new(HashRange::ALL);
    fill(&mut table, 200_000);
    let mut table = table.recycled();
    assert!(table.is_empty());
    assert_eq!(table.find(Hashing::Uniform.hash64(7), &7), None);
    fill(&mut table, 300_000);
    assert_eq!(table.len(), 300_000);
    assert!(table.iter().all(|(_, key, value)| *value == key + 1));
}

#[test]
#[should_panic(expected = "is not of")]
fn a_foreign_hash_is_refused() {
    let mut table = KeyTable::new(HashRange { first: 100, last: 200 });
    table.get_or_insert_with(99, 1_u32, || ());
}
