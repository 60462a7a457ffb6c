//! Tests of picking: bands that only ever follow what is picked.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A table by what it says: key to sequence and whether the key is gone.
type Contents = BTreeMap<u16, (u64, bool)>;

/// A band that is compacted as `pick` says.
#[derive(Default)]
struct Band {
    /// The newest first.
    tables: Vec<(BandTable, Contents)>,
    delta_bytes: u64,
    written_bytes: u64,
}

impl Band {
    fn shape(&self) -> Vec<BandTable> {
        self.tables.iter().map(|(table, _)| *table).collect()
    }

    fn insert(&mut self, at: usize, tier: Tier, contents: Contents) {
        let bytes = contents.len() as u64;
        self.written_bytes += bytes;
        self.tables.insert(at, (BandTable { bytes, tier }, contents));
    }

    fn add_delta(&mut self, contents: Contents) {
        self.delta_bytes += contents.len() as u64;
        self.insert(0, Tier::Merged(0), contents);
    }

    fn merge(&mut self, choice: &Choice) {
        let is_oldest = choice.tables.end == self.tables.len();
        assert_eq!(is_oldest, choice.beneath == Beneath::Nothing);
        let mut merged = Contents::new();
        for (_, contents) in self.tables.drain(choice.tables.clone()).rev() {
            merged.extend(contents);
        }
        if is_oldest {
            merged.retain(|_, (_, is_gone)| !*is_gone);
        }
        self.insert(choice.tables.start, choice.tier, merged);
    }

    /// What a reader sees.
    fn visible(&self) -> BTreeMap<u16, u64> {
        let mut all = Contents::new();
        for (_, contents) in self.tables.iter().rev() {
            all.extend(contents.iter().map(|(key, entry)| (*key, *entry)));
        }
        let alive = all.into_iter().filter(|(_, (_, is_gone))| !is_gone);
        alive.map(|(key, (sequence, _))| (key, sequence)).collect()
    }
}

/// Four to the power of how much is `count`, rounded down.
fn log_of_fan_in(count: usize) -> usize {
    count.max(1).ilog(FAN_IN) as usize
}

/// Adds `deltas` one by one, compacting after each, and checks all that has to hold.
fn check(deltas: Vec<Contents>) {
    let (mut band, mut model) = (Band::default(), BTreeMap::new());
    for (number, delta) in deltas.into_iter().enumerate() {
        for (key, (sequence, is_gone)) in &delta {
            if *is_gone {
                model.remove(key);
            } else {
                model.insert(*key, *sequence);
            }
        }
        band.add_delta(delta);
        while let Some(choice) = pick(&[band.shape()]) {
            let before = band.tables.len();
            band.merge(&choice);
            assert!(band.tables.len() < before, "a merge leaves fewer tables");
        }
        // Looking at everything takes long once there is much.
        if number < 50 || number % 16 == 0 {
            assert_eq!(band.visible(), model, "every entry is kept");
        }
        let tier_count = log_of_fan_in(number + 1) + 1;
        let table_count_max = (FAN_IN - 1) * tier_count + 1;
        assert!(band.tables.len() <= table_count_max, "{:?}", band.shape());
        let amplification_max = 3 + tier_count as u64;
        assert!(
            band.written_bytes <= amplification_max * band.delta_bytes,
            "{} written for {} after {} deltas",
            band.written_bytes,
            band.delta_bytes,
            number + 1
        );
    }
}

/// Deltas of one size, each of keys of its own.
#[test]
fn new_keys_are_written_a_few_times() {
    let delta = |number: u16| (0..10).map(|key| (number * 10 + key, (1, false))).collect();
    check((0..600).map(delta).collect());
}

#[test]
fn the_same_keys_are_written_a_few_times() {
    let delta = |number: u64| (0..100).map(|key| (key, (number, false))).collect();
    check((0..300).map(delta).collect());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tables_stay_few_and_nothing_is_lost(
        deltas in prop::collection::vec(
            prop::collection::btree_map(0_u16..400, prop::bool::weighted(0.2), 0..60), 0..200,
        ),
    ) {
        let numbered = deltas.into_iter().enumerate().map(|(number, delta)| {
            delta.into_iter().map(|(key, is_gone)| (key, (number as u64, is_gone))).collect()
        });
        check(numbered.collect());
    }
}

fn table(bytes: u64, tier: Tier) -> BandTable {
    BandTable { bytes, tier }
}

#[test]
fn few_tables_are_left_alone() {
    assert_eq!(pick(&[Vec::new()]), None);
    let delta = table(9, Tier::Merged(0));
    assert_eq!(pick(&[vec![delta, delta, delta, table(1, Tier::Base)]]), None);
}

#[test]
fn a_tier_that_is_about_to_be_full_goes_along() {
    let (delta, merged) = (table(1, Tier::Merged(0)), table(4, Tier::Merged(1)));
    let mut band = vec![delta; 4];
    band.extend([merged; 3]);
    band.push(table(1000, Tier::Base));
    let expected =
        |tables, tier| Some(Choice { band: 0, tables, tier, beneath: Beneath::OlderTables });
    assert_eq!(pick(&[band.clone()]), expected(0..7, Tier::Merged(2)));
    band.remove(6);
    assert_eq!(pick(&[band]), expected(0..4, Tier::Merged(1)));
}

#[test]
fn the_base_takes_in_what_is_as_large_as_it_is() {
    let mut band = vec![table(5, Tier::Merged(0)); 4];
    band.push(table(20, Tier::Base));
    let choice = pick(&[band]).expect("four deltas are too many");
    assert_eq!((choice.tables, choice.tier), (0..5, Tier::Base));
    assert_eq!(choice.beneath, Beneath::Nothing);
}

#[test]
fn the_band_with_most_tables_comes_first() {
    let band = |count| vec![table(1, Tier::Merged(0)); count];
    let choice = pick(&[band(4), band(6), band(3), band(6)]).expect("some are too many");
    assert_eq!(choice.band, 1);
}
