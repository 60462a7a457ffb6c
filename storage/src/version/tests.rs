//! Versions against lists of ids.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::io::FileId;
use crate::key::StoredKey;
use crate::table::{
    Change, Entry, Filters, Located, Opening, Piece, Section, Values, Writer, WriterConfig,
};

const KEY_GROUP_COUNT: u32 = 8;

/// Key groups 0 to 1, 2 to 5, and 6 to 7.
const BANDS: [HashRange; 3] = [
    HashRange { first: 0, last: (1 << 62) - 1 },
    HashRange { first: 1 << 62, last: (3 << 62) - 1 },
    HashRange { first: 3 << 62, last: u64::MAX },
];

/// By band, the ids of its tables.
type Ids = Vec<Vec<u64>>;

fn stored(key_group: u16) -> Vec<u8> {
    let hash64 = (u64::from(key_group) << 61) + 12_345;
    let (state_id, window_bucket) = (0, 0);
    let (key, namespace, map_key) = (&b"key"[..], &[][..], &[][..]);
    StoredKey { key_group, state_id, window_bucket, hash64, key, namespace, map_key }.encode()
}

/// A table with one key in each of some key groups.
fn table(id: u64, key_groups: &BTreeSet<u16>) -> Arc<Table> {
    let config =
        WriterConfig { id: TableId(id), key_group_count: KEY_GROUP_COUNT, values: Values::Packed };
    let mut writer = Writer::new(config);
    for key_group in key_groups {
        let (key, change) = (&stored(*key_group)[..], Change::Value(b"value"));
        let entry = Entry { key, change, sequence: id, time_ms: None };
        writer.push(entry).expect("it is small");
    }
    let mut ending = writer.finish();
    let pieces = std::iter::from_fn(|| ending.next_piece());
    let file: Vec<u8> = pieces.flat_map(|Piece { bytes, .. }| bytes).collect();
    let opening = Opening::new(FileId(id), file.len() as u64, Filters::Load);
    let mut opening = opening.expect("the file is a table");
    while let Some(want) = opening.want() {
        let bytes = &file[want.offset as usize..][..want.len];
        opening.on_read(bytes).expect("the file is a table");
    }
    Arc::new(opening.into_table())
}

fn ids(version: &Version) -> Ids {
    let of = |band: &Band| band.tables.iter().map(|table| table.id().0).collect();
    version.bands().iter().map(of).collect()
}

#[derive(Debug, Clone)]
enum Deed {
    /// A delta with keys of these key groups.
    Add(BTreeSet<u16>),
    /// A merge of some tables of a band; nothing is left of them, or a table.
    Replace {
        band: usize,
        at: usize,
        count: usize,
        leaves: bool,
    },
    /// What `pick` says, as often as it says something.
    Compact,
    Pin,
    Unpin(usize),
    Restart,
}

fn deed() -> impl Strategy<Value = Deed> {
    let key_groups = prop::collection::btree_set(0..KEY_GROUP_COUNT as u16, 0..5);
    let replace = (0..BANDS.len(), 0_usize..8, 1_usize..4, any::<bool>())
        .prop_map(|(band, at, count, leaves)| Deed::Replace { band, at, count, leaves });
    prop_oneof![
        6 => key_groups.prop_map(Deed::Add),
        3 => replace,
        1 => Just(Deed::Compact),
        2 => Just(Deed::Pin),
        2 => (0_usize..8).prop_map(Deed::Unpin),
        1 => Just(Deed::Restart),
    ]
}

/// Versions and what they should say.
struct World {
    versions: Versions,
    newest: Ids,
    pinned: Vec<(Arc<Version>, Ids)>,
    /// Tables that were made and did not die.
    alive: BTreeSet<u64>,
    next_id: u64,
}

impl World {
    fn table(&mut self, key_groups: &BTreeSet<u16>) -> Arc<Table> {
        self.next_id += 1;
        self.alive.insert(self.next_id);
        table(self.next_id, key_groups)
    }

    /// Merges tables of a band. The tier is the newest of those it takes the place of, so tiers
    /// stay in order.
    fn replace(&mut self, band: usize, at: usize, count: usize, tier: Option<Tier>) {
        let tables = &self.versions.newest().bands()[band].tables[at..at + count];
        let inputs: Vec<TableId> = tables.iter().map(PlacedTable::id).collect();
        let key_group = BTreeSet::from([[0, 2, 7][band]]);
        let merged = tier.map(|tier| (self.table(&key_group), tier));
        let merged = merged.as_ref().map(|(table, tier)| (table, *tier));
        self.versions.replace(band, &inputs, merged);
        let id = merged.map(|_| self.next_id);
        self.newest[band].splice(at..at + count, id);
    }

    fn add(&mut self, key_groups: &BTreeSet<u16>) {
        let table = self.table(key_groups);
        self.versions.add(&table);
        for (band, of_band) in [0..2, 2..6, 6..8].into_iter().enumerate() {
            if key_groups.iter().any(|key_group| of_band.contains(key_group)) {
                self.newest[band].insert(0, self.next_id);
            }
        }
    }

    fn compact(&mut self) {
        while let Some(choice) = self.versions.newest().pick(|_| true) {
            let count = choice.tables.len();
            self.replace(choice.band, choice.tables.start, count, Some(choice.tier));
        }
        let too_many = |tables: &Vec<u64>| 20 < tables.len();
        assert!(!self.newest.iter().any(too_many), "merging does not help: {:?}", self.newest);
    }

    /// Makes a store of what a manifest says of the newest version.
    fn restart(&mut self) {
        let mut restored = Versions::new(BANDS);
        let mut opened = BTreeMap::new();
        for (number, band) in self.versions.newest().bands().iter().enumerate() {
            for placed in &band.tables {
                let table = opened.entry(placed.id()).or_insert_with(|| {
                    let groups = placed.view.table().sections().iter();
                    table(placed.id().0, &groups.map(Section::key_group).collect())
                });
                restored.restore(number, table, placed.tier);
            }
        }
        self.pinned.clear();
        self.versions = restored;
        self.alive = self.newest.iter().flatten().copied().collect();
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        prop_assert_eq!(&ids(self.versions.newest()), &self.newest);
        let pinned = self.pinned.iter();
        let seen: BTreeSet<u64> =
            pinned.flat_map(|pin| &pin.1).chain(&self.newest).flatten().copied().collect();
        let expected: Vec<u64> = self.alive.difference(&seen).copied().collect();
        let dead = self.versions.take_dead();
        let dead: Vec<u64> = dead.iter().map(|table| table.file().0).collect();
        prop_assert_eq!(dead, expected);
        self.alive = seen;
        for (version, ids_then) in &self.pinned {
            prop_assert_eq!(&ids(version), ids_then);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn files_live_as_long_as_somebody_sees_them(deeds in prop::collection::vec(deed(), 0..60)) {
        let mut world = World {
            versions: Versions::new(BANDS),
            newest: vec![Vec::new(); BANDS.len()],
            pinned: Vec::new(),
            alive: BTreeSet::new(),
            next_id: 0,
        };
        for deed in deeds {
            match deed {
                Deed::Add(key_groups) => world.add(&key_groups),
                Deed::Replace { band, at, count, leaves } => {
                    let tables = &world.versions.newest().bands()[band].tables;
                    let at = at.min(tables.len());
                    let count = count.min(tables.len() - at);
                    if 0 < count {
                        let tier = leaves.then(|| tables[at].tier);
                        world.replace(band, at, count, tier);
                    }
                }
                Deed::Compact => world.compact(),
                Deed::Pin => {
                    let version = Arc::clone(world.versions.newest());
                    world.pinned.push((version, world.newest.clone()));
                }
                Deed::Unpin(at) => {
                    if at < world.pinned.len() {
                        world.pinned.swap_remove(at);
                    }
                }
                Deed::Restart => world.restart(),
            }
            world.check()?;
        }
    }
}

#[test]
fn a_key_is_looked_for_in_its_band_only() {
    let mut versions = Versions::new(BANDS);
    versions.add(&table(1, &BTreeSet::from([0, 2, 7])));
    versions.add(&table(2, &BTreeSet::from([3])));
    let version = versions.newest();
    let of = |key_group: u64| {
        let tables = version.tables_of(key_group << 61).iter();
        tables.map(|table| table.id().0).collect::<Vec<_>>()
    };
    assert_eq!([of(1), of(5), of(6)], [vec![1], vec![2, 1], vec![1]]);
    let shown = |band: usize, key_group| {
        let view = &version.bands()[band].tables.last().expect("it has one").view;
        view.locate(&stored(key_group)).expect("it is sound") != Located::Absent
    };
    assert!(shown(0, 0) && shown(1, 2) && shown(2, 7));
    assert!(!shown(0, 2) && !shown(1, 7), "a band sees its hashes only");
}

#[test]
#[should_panic(expected = "one after the other")]
fn only_neighbours_are_merged() {
    let mut versions = Versions::new(BANDS);
    (1..=3).for_each(|id| versions.add(&table(id, &BTreeSet::from([0]))));
    versions.replace(0, &[TableId(3), TableId(1)], None);
}
