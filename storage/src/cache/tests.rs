//! The block cache against a map of what was put in.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const CHUNKS: usize = 4;
const BLOCKS_OF_CHUNK: u32 = (SETS * WAYS) as u32;

fn id(number: u32) -> BlockId {
    BlockId { table: TableId(u64::from(number % 7)), page: number / 7 }
}

/// A page of which every word says whose it is.
fn block(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(PAGE_BYTES / 4)
}

fn cache_of(budget: &mut Budget, chunks: usize) -> BlockCache {
    let mut cache = BlockCache::default();
    (0..chunks).for_each(|_| cache.grow(budget).expect("the budget has so many"));
    cache
}

/// How many of `numbers` are there, looked at without being used.
fn count_of(cache: &mut BlockCache, numbers: impl Iterator<Item = u32>) -> usize {
    let mut is_there = |number: &u32| {
        let (chunk, set) = cache.set_of(id(*number)).expect("the cache has memory");
        let key = id(*number).row_key();
        rows_of(&mut cache.chunks[chunk], set).iter().any(|row| row[..ROW_KEY_BYTES] == key)
    };
    numbers.filter(|number| is_there(number)).count()
}

#[derive(Debug, Clone)]
enum Deed {
    Get(u32),
    Insert(u32),
    /// This many blocks, once each.
    Scan(u32, u32),
    Grow,
    Shrink,
}

fn deed() -> impl Strategy<Value = Deed> {
    let number = 0..3 * BLOCKS_OF_CHUNK;
    prop_oneof![
        8 => number.clone().prop_map(Deed::Get),
        8 => number.clone().prop_map(Deed::Insert),
        2 => (number, 0_u32..600).prop_map(|(from, count)| Deed::Scan(from, count)),
        1 => Just(Deed::Grow),
        1 => Just(Deed::Shrink),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is found is what was put in, what was just put in is found, and memory is what the
    /// budget says.
    #[test]
    fn it_answers_as_a_map_that_forgets(deeds in prop::collection::vec(deed(), 0..200)) {
        let mut budget = Budget::new(CHUNKS * CHUNK_BYTES);
        let mut cache = BlockCache::default();
        let mut model = BTreeMap::new();
        let (mut hits, mut misses) = (0, 0);
        for deed in deeds {
            let mut get = |cache: &mut BlockCache, model: &BTreeMap<u32, Vec<u8>>, number: u32| {
                let found = cache.get(id(number));
                *if found.is_some() { &mut hits } else { &mut misses } += 1;
                let is_it = |found| model.get(&number).is_some_and(|block| *block == found);
                (found.is_some(), found.is_none_or(is_it))
            };
            match deed {
                Deed::Get(number) => prop_assert!(get(&mut cache, &model, number).1),
                Deed::Insert(number) => {
                    cache.insert(id(number), &block(number));
                    model.insert(number, block(number));
                    let has_memory = 0 < cache.chunk_bytes();
                    prop_assert_eq!(get(&mut cache, &model, number), (has_memory, true));
                }
                Deed::Scan(from, count) => for number in from..from + count {
                    cache.insert(id(number), &block(number));
                    model.insert(number, block(number));
                },
                Deed::Grow => {
                    let is_left = budget.taken_bytes() < budget.total_bytes();
                    prop_assert_eq!(cache.grow(&mut budget).is_ok(), is_left);
                }
                Deed::Shrink => {
                    let is_any = 0 < cache.chunk_bytes();
                    prop_assert_eq!(cache.shrink(&mut budget), is_any);
                }
            }
            prop_assert_eq!(cache.chunk_bytes(), budget.taken_bytes());
        }
        prop_assert_eq!(cache.hits_and_misses(), (hits, misses));
        while cache.shrink(&mut budget) {}
        prop_assert_eq!(budget.taken_bytes(), 0);
    }

    #[test]
    fn a_chunk_more_moves_few_homes(hash: u64, count in 1_usize..100) {
        let (before, after) = (home(hash, count), home(hash, count + 1));
        prop_assert!(before < count && (after == before || after == count));
    }
}

#[test]
fn a_scan_leaves_what_was_used_again() {
    let mut budget = Budget::new(CHUNKS * CHUNK_BYTES);
    let mut cache = cache_of(&mut budget, CHUNKS);
    let hot = 0..CHUNKS as u32 * BLOCKS_OF_CHUNK / 3;
    for number in hot.clone() {
        cache.insert(id(number), &block(number));
        cache.get(id(number));
    }
    let kept = count_of(&mut cache, hot.clone());
    for number in 100_000..100_000 + 20 * BLOCKS_OF_CHUNK {
        cache.insert(id(number), &block(number));
    }
    assert_eq!(kept, hot.len(), "sets of {WAYS} hold {} blocks each on average", WAYS / 3);
    let left = count_of(&mut cache, hot.clone());
    assert!(hot.len() * 95 / 100 <= left, "{left} of {} are left", hot.len());
}

#[test]
fn room_is_used_before_anything_is_reused() {
    let mut budget = Budget::new(CHUNK_BYTES);
    let mut cache = cache_of(&mut budget, 1);
    let numbers = 0..20 * BLOCKS_OF_CHUNK;
    for number in numbers.clone() {
        cache.insert(id(number), &block(number));
    }
    assert_eq!(count_of(&mut cache, numbers), SETS * WAYS);
}

#[test]
fn a_block_larger_than_a_page_is_not_kept() {
    let mut budget = Budget::new(CHUNK_BYTES);
    let mut cache = cache_of(&mut budget, 1);
    cache.insert(id(1), &block(1).repeat(2));
    assert_eq!(cache.get(id(1)), None);
}
