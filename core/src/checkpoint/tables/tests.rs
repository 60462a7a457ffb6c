//! What keys had at a cut is what the tables of its checkpoint have, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use millstream_storage::arena::CHUNK_BYTES;
use proptest::prelude::*;

use super::*;
use crate::data::element::CheckpointId;
use crate::data::key_group::{HashRange, KeyGroupCount};
use crate::data::slot::Slot;
use crate::state::durable::{CHUNKS_MIN, DURABLE_ID_BIT, DurableConfig, Save};
use crate::state::packed::{Damage, Packer, Unpacker};
use crate::state::residents::{Belongings, Residents};
use crate::state::shard_store::{STORE_CHUNKS_MIN, ShardStore, ShardStoreConfig};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::testing::MemoryDisk;

const KEYS: u64 = 12;
const DIRECTORY: &str = "checkpoints";

/// A text for each key.
struct Texts;

impl Belongings<u64, String> for Texts {
    fn create(&self) -> String {
        String::new()
    }

    fn is_empty(&self, _slot: Slot, value: &String) -> bool {
        value.is_empty()
    }

    fn pack(&self, _slot: Slot, value: &String, packer: &mut Packer) {
        packer.begin(0);
        packer.begin_part(0);
        packer.value(value);
        packer.end_part();
    }

    fn unpack(&mut self, _slot: Slot, value: &mut String, bytes: &[u8]) -> Result<(), Damage> {
        let (mut unpacker, _) = Unpacker::new(bytes)?;
        let (_, mut part) = unpacker.next_part()?.ok_or(Damage("it has no text"))?;
        *value = part.value()?;
        Ok(())
    }

    fn clear(&mut self, _slot: Slot, value: &mut String) {
        value.clear();
    }

    fn heap_bytes(&self, _slot: Slot, value: &String) -> usize {
        value.len()
    }

    fn save(&self, _: Slot, of: (u64, &u64), value: &String, writer: &mut SnapshotWriter<'_>) {
        let (hash64, key) = of;
        let place = StoredKey {
            key_group: groups().of(hash64).0,
            state_id: 0,
            window_bucket: 0,
            hash64,
            key: &crate::data::record::Record::archive(key),
            namespace: &[],
            map_key: &[],
        };
        writer.keyed_state("text", &place, value);
    }
}

fn groups() -> KeyGroupCount {
    KeyGroupCount::new(8).expect("in range")
}

fn hash64(key: u64) -> u64 {
    key.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// An operator's keys, the shard around them, and what they should be.
struct Bench {
    keys: Residents<u64, String>,
    store: ShardStore,
    disk: MemoryDisk,
    now: Duration,
    model: BTreeMap<u64, String>,
    /// What there was at the cuts that may still become images.
    at_cuts: BTreeMap<CheckpointId, BTreeMap<u64, String>>,
    last: CheckpointId,
    /// The cut that is not saved yet.
    saving: Option<CheckpointId>,
    images: Vec<(CheckpointId, Image)>,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let config = ShardStoreConfig {
            directory: "spill".into(),
            key_groups: 0..8,
            key_group_count: groups(),
            working_bytes: 0,
            table_bytes: 0,
            store_bytes: STORE_CHUNKS_MIN * CHUNK_BYTES,
            durable: Some(DurableConfig {
                directory: DIRECTORY.into(),
                name: "state-0000000001.shard-00000".to_string(),
                store_bytes: CHUNKS_MIN * CHUNK_BYTES,
                table_bytes: 0,
            }),
        };
        let store = ShardStore::new(config).with_ids_of(0);
        let keys = Residents::new(HashRange::ALL).with_store(&store, 0, 0);
        Self {
            keys: keys.with_durable(&store, "texts"),
            store,
            disk: MemoryDisk::new(seed),
            now: Duration::ZERO,
            model: BTreeMap::new(),
            at_cuts: BTreeMap::new(),
            last: CheckpointId(0),
            saving: None,
            images: Vec::new(),
        }
    }

    /// A turn of the stores, and up to `answers` answers of the disk.
    fn turn(&mut self, answers: usize) {
        for _ in 0..=answers {
            self.now += Duration::from_micros(1);
            let mut ops = Vec::new();
            self.store.turn(self.now, &mut ops).expect("nothing fails");
            let durable = self.store.durable().expect("it has one");
            durable.turn(self.now, &mut ops).expect("nothing fails");
            self.disk.accept_ops(ops);
            if let Some(done) = self.disk.answer() {
                let is_durable = done.op.0 & DURABLE_ID_BIT != 0;
                let taken =
                    if is_durable { durable.on_done(done) } else { self.store.on_done(done) };
                taken.expect("nothing fails");
            }
        }
        let durable = self.store.durable().expect("it has one");
        while let Some((checkpoint, (image, _))) = durable.take_image() {
            self.images.push((checkpoint, image));
        }
    }

    /// The key, in memory.
    fn admit(&mut self, key: u64) {
        for _ in 0..10_000 {
            if self.keys.admit(hash64(key), &key, &mut Texts, &self.store).expect("it is sound") {
                return;
            }
            self.turn(1);
        }
        panic!("key {key} is not read");
    }

    fn set(&mut self, key: u64, text: &str) {
        self.admit(key);
        let slot = self.keys.find_or_insert_with(hash64(key), key, String::new);
        self.keys.note_use(slot);
        self.keys.keep(slot, &Texts);
        text.clone_into(self.keys.value_mut(slot));
        self.keys.note_change(slot, String::len);
        self.model.insert(key, text.to_string());
    }

    fn forget(&mut self, key: u64) {
        self.admit(key);
        if let Some(slot) = self.keys.find(hash64(key), &key) {
            self.keys.keep(slot, &Texts);
            self.keys.forget(slot);
        }
        self.model.remove(&key);
    }

    /// The key is entered, and nothing of it is changed.
    fn touch(&mut self, key: u64) {
        self.admit(key);
        if let Some(slot) = self.keys.find(hash64(key), &key) {
            self.keys.note_use(slot);
            self.keys.keep(slot, &Texts);
        }
    }

    fn evict(&mut self) {
        self.keys.evict(4, &mut Texts, &self.store).expect("nothing fails");
    }

    fn cut(&mut self) {
        // A task lets what was given up be taken back before.
        self.save(0);
        if self.saving.is_some() || !self.keys.can_cut(&self.store) {
            return;
        }
        self.last = CheckpointId(self.last.0 + 1);
        self.store.durable().expect("it has one").begin(self.last);
        self.keys.cut(self.last, &self.store);
        self.at_cuts.insert(self.last, self.model.clone());
        self.saving = Some(self.last);
    }

    fn save(&mut self, steps: u32) {
        let save = Save { steps, is_last: false };
        self.keys.save_some(save, &Texts, &self.store).expect("nothing fails");
        if let Some(checkpoint) = self.saving.take_if(|it| self.keys.is_saved(*it)) {
            self.store.durable().expect("it has one").freeze(checkpoint);
        }
    }

    fn give_up(&mut self) {
        if let Some(checkpoint) = self.saving.take() {
            self.store.durable().expect("it has one").give_up(checkpoint);
            self.at_cuts.remove(&checkpoint);
        }
    }

    /// Everything has what it had at its cut.
    fn check(&self) {
        for (checkpoint, image) in &self.images {
            assert_eq!(&self.texts_of(image), &self.at_cuts[checkpoint], "{checkpoint:?}");
        }
    }

    fn texts_of(&self, image: &Image) -> BTreeMap<u64, String> {
        let mut snapshot = Snapshot::default();
        read(&self.disk, Path::new(DIRECTORY), image, &mut snapshot).expect("it is sound");
        let reader = SnapshotReader::new(&snapshot, "texts");
        let entries = reader.keyed_state::<String>("text", 0..8).expect("it is sound");
        let entry = |(place, text): (StoredKey<'_>, String)| {
            let key: u64 = reader.unarchive("key", place.key).expect("it is sound");
            assert_eq!(place.hash64, hash64(key));
            (key, text)
        };
        entries.into_iter().map(entry).collect()
    }

    /// Goes on until the last cut is an image.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            self.save(1);
            self.turn(1);
            if self.images.last().map(|(id, _)| *id) == self.at_cuts.keys().last().copied() {
                return;
            }
        }
        panic!("{:?} does not become an image", self.last);
    }
}

#[derive(Debug, Clone)]
enum Act {
    Set(u64, u8),
    Large(u64),
    Forget(u64),
    Touch(u64),
    Evict,
    Cut,
    Save(u32),
    GiveUp,
    Turn(usize),
    Release,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..KEYS, any::<u8>()).prop_map(|(key, text)| Act::Set(key, text)),
        1 => (0..KEYS).prop_map(Act::Large),
        2 => (0..KEYS).prop_map(Act::Forget),
        3 => (0..KEYS).prop_map(Act::Touch),
        3 => Just(Act::Evict),
        3 => Just(Act::Cut),
        4 => (1..6_u32).prop_map(Act::Save),
        1 => Just(Act::GiveUp),
        4 => (0..12_usize).prop_map(Act::Turn),
        1 => Just(Act::Release),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn an_image_has_what_there_was_at_its_cut(
        seed: u64,
        acts in proptest::collection::vec(act(), 1..150),
    ) {
        let mut bench = Bench::new(seed);
        for act in acts {
            match act {
                Act::Set(key, text) => bench.set(key, &format!("text {text}")),
                Act::Large(key) => bench.set(key, &"x".repeat(CHUNK_BYTES + key as usize)),
                Act::Forget(key) => bench.forget(key),
                Act::Touch(key) => bench.touch(key),
                Act::Evict => bench.evict(),
                Act::Cut => bench.cut(),
                Act::Save(steps) => bench.save(steps),
                Act::GiveUp => bench.give_up(),
                Act::Turn(answers) => bench.turn(answers),
                Act::Release => {
                    // Some are removed in the meantime; the others stay whole.
                    let count = bench.images.len() / 2;
                    for (checkpoint, _) in bench.images.drain(..count) {
                        bench.store.durable().expect("it has one").release(checkpoint);
                    }
                }
            }
        }
        bench.cut();
        if bench.at_cuts.last_key_value().is_some() {
            bench.settle();
        }
        bench.check();
    }
}

#[test]
fn tables_that_no_checkpoint_names_go() {
    let mut bench = Bench::new(1);
    for round in 0..40 {
        for key in 0..KEYS {
            bench.set(key, &format!("round {round}"));
        }
        bench.cut();
        bench.settle();
        for (checkpoint, _) in bench.images.drain(..bench.images.len() - 1) {
            bench.store.durable().expect("it has one").release(checkpoint);
        }
        bench.turn(50);
    }
    bench.check();
    let tables = bench.disk.paths().filter(|path| path.starts_with(DIRECTORY)).count();
    assert!(tables <= 24, "{:?}", bench.disk.paths().collect::<Vec<_>>());
}

#[test]
fn what_has_not_changed_is_not_written_again() {
    let mut bench = Bench::new(2);
    (0..KEYS).for_each(|key| bench.set(key, "at first"));
    bench.cut();
    bench.settle();
    bench.set(3, "later");
    bench.cut();
    bench.settle();
    bench.cut();
    bench.settle();
    bench.check();
    let entry_count = |image: &Image| -> u64 {
        let path = |id| PathBuf::from(DIRECTORY).join(&image.directory).join(table_name(id));
        let tables = image.ids().into_iter().map(path);
        let count =
            |path: PathBuf| open(&bench.disk.files[&path]).expect("it is sound").meta().entry_count;
        tables.map(count).sum()
    };
    let counts: Vec<u64> = bench.images.iter().map(|(_, image)| entry_count(image)).collect();
    assert_eq!(counts, [KEYS, KEYS + 1, KEYS + 1]);
}

#[test]
fn damage_is_named() {
    let mut bench = Bench::new(3);
    (0..KEYS).for_each(|key| bench.set(key, "text"));
    bench.cut();
    bench.settle();
    let (_, image) = bench.images.pop().expect("it was made");
    let path = Path::new(DIRECTORY).join(&image.directory).join(table_name(image.ids()[0]));
    let whole = bench.disk.files[&path].clone();
    let mut read_damaged = |bytes: Vec<u8>| {
        bench.disk.files.insert(path.clone(), bytes);
        read(&bench.disk, Path::new(DIRECTORY), &image, &mut Snapshot::default())
    };
    let mut noticed = 0;
    for at in (0..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        // Filters are not looked at.
        let Err(error) = read_damaged(bytes) else { continue };
        let is_named = matches!(&error, Error::Corrupt { what, .. } if what.contains(".table"));
        assert!(is_named, "{error}");
        noticed += 1;
    }
    assert!(whole.len() / 97 / 2 < noticed, "{noticed} of {}", whole.len() / 97);
    assert!(read_damaged(whole[..whole.len() / 2].to_vec()).is_err());
    assert!(read_damaged(whole).is_ok());
}
