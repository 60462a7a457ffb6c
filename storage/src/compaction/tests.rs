//! A store of one band: deltas, picks and jobs, against a map.

mod flush;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::io::FileId;
use crate::key::StoredKey;
use crate::merge::{Beneath, Merge, Source, Step};
use crate::table::{
    Change, Cursor, Entry, Filters, HashRange, KeyRange, Opening, TableId, TableMeta, Values, View,
    Want, Writer, WriterConfig,
};

/// What is done to a key.
#[derive(Debug, Clone)]
enum Deed {
    Put(Vec<u8>),
    Remove,
    Append(Vec<u8>),
}

impl Deed {
    fn change(&self) -> Change<'_> {
        match self {
            Self::Put(value) => Change::Value(value),
            Self::Remove => Change::Tombstone,
            Self::Append(value) => Change::Operand(value),
        }
    }

    /// Does it to `key` of a model.
    fn apply(&self, key: Vec<u8>, model: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
        match self {
            Self::Put(value) => {
                model.insert(key, value.clone());
            }
            Self::Remove => {
                model.remove(&key);
            }
            Self::Append(value) => model.entry(key).or_default().extend(value),
        }
    }
}

/// Files in memory, and which of them are the band's tables.
#[derive(Default)]
struct Band {
    files: BTreeMap<TableId, Vec<u8>>,
    /// The newest first.
    tables: Vec<(BandTable, TableId)>,
    next_id: u64,
}

impl Band {
    fn writer(&mut self) -> Writer {
        self.next_id += 1;
        let id = TableId(self.next_id);
        Writer::new(WriterConfig { id, key_group_count: 1, values: Values::Packed })
    }

    fn read(&self, id: TableId, want: Want) -> &[u8] {
        &self.files[&id][want.offset as usize..][..want.len]
    }

    fn cursor(&self, id: TableId) -> Cursor {
        let length = self.files[&id].len() as u64;
        let mut opening =
            Opening::new(FileId(id.0), length, Filters::Leave).expect("a table's length");
        while let Some(want) = opening.want() {
            opening.on_read(self.read(id, want)).expect("the file is whole");
        }
        let view = View::new(Arc::new(opening.into_table()), HashRange::ALL);
        Cursor::new(view, KeyRange::all(), 2 * 4096).expect("the file is whole")
    }

    fn merge_of(&self, ids: &[TableId], beneath: Beneath) -> Merge<'static> {
        let sources = ids.iter().map(|id| -> Box<dyn Source> { Box::new(self.cursor(*id)) });
        Merge::new(sources.collect(), beneath, BTreeMap::new())
    }

    /// Writes the output of `merge`, whose sources are `ids`, by steps of `budget_bytes`.
    fn run(&mut self, merge: Merge<'_>, ids: &[TableId], budget_bytes: usize) -> TableMeta {
        let mut job = Job::new(merge, self.writer());
        let mut file = Vec::new();
        loop {
            match job.step(budget_bytes).expect("the files are whole") {
                Progress::Done => break,
                Progress::Slice => {}
                Progress::Write(piece) => {
                    assert_eq!(piece.offset, file.len() as u64);
                    file.extend(piece.bytes);
                }
                Progress::Reads => {
                    let wants: Vec<(usize, Want)> = job.merge().wants().collect();
                    for (source, want) in wants {
                        let bytes = self.read(ids[source], want).to_vec();
                        job.merge().on_read(source, bytes).expect("the file is whole");
                    }
                }
            }
        }
        let meta = job.finish();
        self.files.insert(meta.id, file);
        meta
    }

    fn install(&mut self, at: usize, tier: Tier, meta: &TableMeta) {
        self.tables.insert(at, (BandTable { bytes: meta.length, tier }, meta.id));
    }

    fn flush(&mut self, delta: &BTreeMap<Vec<u8>, Deed>, sequence: u64, budget_bytes: usize) {
        let entries = delta.iter().map(|(key, deed)| Entry {
            key,
            change: deed.change(),
            sequence,
            time_ms: None,
        });
        let entries: Vec<Entry<'_>> = entries.collect();
        let sources: Vec<Box<dyn Source + '_>> = vec![Box::new(entries.as_slice())];
        let merge = Merge::new(sources, Beneath::OlderTables, BTreeMap::new());
        let meta = self.run(merge, &[], budget_bytes);
        self.install(0, Tier::Merged(0), &meta);
    }

    fn compact(&mut self, choice: &Choice, budget_bytes: usize) {
        let inputs = self.tables.drain(choice.tables.clone()).map(|(_, id)| id);
        let inputs: Vec<TableId> = inputs.collect();
        let merge = self.merge_of(&inputs, choice.beneath);
        let meta = self.run(merge, &inputs, budget_bytes);
        self.install(choice.tables.start, choice.tier, &meta);
        for id in inputs {
            self.files.remove(&id);
        }
    }

    /// Carries out all that is picked.
    fn compact_all(&mut self, budget_bytes: usize) {
        loop {
            let shape: Vec<BandTable> = self.tables.iter().map(|(table, _)| *table).collect();
            let Some(choice) = pick(&[shape]) else { return };
            self.compact(&choice, budget_bytes);
        }
    }

    /// What a reader sees, operands appended to what is older.
    fn visible(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let ids: Vec<TableId> = self.tables.iter().map(|(_, id)| *id).collect();
        let mut merge = self.merge_of(&ids, Beneath::Nothing);
        let mut visible: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        loop {
            match merge.step().expect("the files are whole") {
                Step::Done => return visible,
                Step::Dropped => {}
                Step::Entry(entry) => {
                    let value = visible.entry(entry.key.to_vec()).or_default();
                    // The newest comes first.
                    value.splice(0..0, entry.change.bytes().iter().copied());
                }
                Step::Wants => {
                    let wants: Vec<(usize, Want)> = merge.wants().collect();
                    for (source, want) in wants {
                        let bytes = self.read(ids[source], want).to_vec();
                        merge.on_read(source, bytes).expect("the file is whole");
                    }
                }
            }
        }
    }
}

fn stored(number: u8) -> Vec<u8> {
    let (hash64, key) = (u64::from(number / 3), &[number][..]);
    let (namespace, map_key) = (&[][..], &[][..]);
    StoredKey { key_group: 0, state_id: 0, window_bucket: 0, hash64, key, namespace, map_key }
        .encode()
}

fn deed() -> impl Strategy<Value = Deed> {
    let value = || {
        prop_oneof![
            6 => prop::collection::vec(any::<u8>(), 0..20),
            1 => any::<u8>().prop_map(|byte| vec![byte; 2000]),
        ]
    };
    prop_oneof![
        3 => value().prop_map(Deed::Put),
        1 => Just(Deed::Remove),
        2 => value().prop_map(Deed::Append),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_band_that_is_compacted_says_what_was_done(
        deltas in prop::collection::vec(
            prop::collection::btree_map((0_u8..60).prop_map(stored), deed(), 0..30), 1..40,
        ),
        budget_bytes in prop_oneof![Just(1_usize), Just(1000), Just(1 << 20)],
    ) {
        let (mut band, mut model) = (Band::default(), BTreeMap::<Vec<u8>, Vec<u8>>::new());
        for (sequence, delta) in deltas.iter().enumerate() {
            for (key, deed) in delta {
                deed.apply(key.clone(), &mut model);
            }
            band.flush(delta, sequence as u64, budget_bytes);
            band.compact_all(budget_bytes);
            prop_assert!(band.tables.len() <= 12);
            prop_assert_eq!(band.files.len(), band.tables.len());
        }
        prop_assert_eq!(band.visible(), model);
    }
}

/// However it is sliced, the same table comes of it.
#[test]
fn slices_do_not_change_the_table() {
    let delta: BTreeMap<Vec<u8>, Deed> =
        (0..200).map(|number| (stored(number), Deed::Put(vec![number; 3000]))).collect();
    let [whole, sliced] = [usize::MAX, 1].map(|budget_bytes| {
        let mut band = Band::default();
        band.flush(&delta, 1, budget_bytes);
        band.files
    });
    assert_eq!(whole.len(), 1);
    assert!(whole == sliced);
}
