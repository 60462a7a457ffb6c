//! The stores that are compared: each holds a value of 96 bytes under a key of 16.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use hashbrown::HashTable;
use hdrhistogram::Histogram;
use millstream::data::key_group::HashRange;
use millstream::operator::Output;
use millstream::operator::process::{KeyedContext, KeyedProcessFunction, OpenContext};
use millstream::prelude::{StateSpec, ValueState};
use millstream::state::table::KeyTable;
use millstream_storage::arena::CHUNK_BYTES;
use millstream_storage::io::{FileAnswer, FileDone, FileOp};
use millstream_storage::store::{Got, Store, StoreConfig};
use millstream_storage::table;
use millstream_storage::write_buffer::{Budget, Lookup, Origin, RecordKey, SpaceId, WriteBuffer};

use crate::engine::{Engine, Request, ahead};
use crate::keys::{
    KEY_BYTES, KEY_GROUP_COUNT, Keyed, VALUE_BYTES, Value, bytes_of, change, change_bytes,
    first_number, hash_of,
};

/// Records that are looked for together, where the store takes what it is given.
pub(crate) const BATCH: usize = 16;

/// One of them.
pub(crate) trait ValueStore {
    /// Puts a key there that is not, with the value that it begins with.
    fn insert(&mut self, keyed: &Keyed);

    /// Changes the value of a key that is there.
    fn update(&mut self, keyed: &Keyed);

    /// The first number of the value of a key that is there.
    fn number(&mut self, keyed: &Keyed) -> u64;

    /// Puts many keys there.
    fn insert_all(&mut self, keys: &[Keyed]) {
        for keyed in keys {
            self.insert(keyed);
        }
    }

    /// Changes the values of many, one at a time.
    fn update_all(&mut self, picked: &[Keyed]) {
        for keyed in picked {
            self.update(keyed);
        }
    }

    /// Changes the values of many, looked for in groups. `false` if it cannot.
    fn update_in_groups(&mut self, _picked: &[Keyed]) -> bool {
        false
    }

    /// As [`ValueStore::update_all`]; nanoseconds of each go to `ns`.
    fn update_timed(&mut self, picked: &[Keyed], ns: &mut Histogram<u64>) {
        for keyed in picked {
            let begun = Instant::now();
            self.update(keyed);
            ns.saturating_record(begun.elapsed().as_nanos() as u64);
        }
    }
}

/// Values in place, in a table of the crate `hashbrown`.
#[derive(Debug, Default)]
pub(crate) struct Hashbrown(HashTable<([u8; KEY_BYTES], Value)>);

impl ValueStore for Hashbrown {
    fn insert(&mut self, keyed: &Keyed) {
        let entry = (keyed.key, keyed.value());
        self.0.insert_unique(keyed.hash64, entry, |(key, _)| hash_of(key));
    }

    #[inline]
    fn update(&mut self, keyed: &Keyed) {
        let found = self.0.find_mut(keyed.hash64, |(key, _)| *key == keyed.key);
        change(&mut found.expect("all keys are there").1);
    }

    fn number(&mut self, keyed: &Keyed) -> u64 {
        let found = self.0.find(keyed.hash64, |(key, _)| *key == keyed.key);
        found.expect("all keys are there").1[0]
    }
}

/// Values in the engine's own table, which rolling aggregates and windows use.
#[derive(Debug)]
pub(crate) struct EngineTable(KeyTable<[u8; KEY_BYTES], Value>);

impl EngineTable {
    pub(crate) fn new() -> Self {
        Self(KeyTable::new(HashRange::ALL))
    }
}

impl ValueStore for EngineTable {
    fn insert(&mut self, keyed: &Keyed) {
        self.0.get_or_insert_with(keyed.hash64, keyed.key, || keyed.value());
    }

    #[inline]
    fn update(&mut self, keyed: &Keyed) {
        change(self.0.get_mut(keyed.hash64, &keyed.key).expect("all keys are there"));
    }

    fn number(&mut self, keyed: &Keyed) -> u64 {
        self.0.get(keyed.hash64, &keyed.key).expect("all keys are there")[0]
    }

    fn update_in_groups(&mut self, picked: &[Keyed]) -> bool {
        ahead(self, picked, |it, ahead| it.0.prefetch(ahead), Self::update);
        true
    }
}

/// What is done with a value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Insert,
    Change,
    Tell,
}

/// What a user would write: a value per key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values {
    value: ValueState<Value>,
}

impl KeyedProcessFunction<[u8; KEY_BYTES], Request<What>> for Values {
    type Out = u64;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.value = ctx.value("value", StateSpec::kept_until_cleared());
    }

    #[inline]
    fn process(
        &mut self,
        request: Request<What>,
        ctx: &mut KeyedContext<'_, [u8; KEY_BYTES]>,
        out: &mut impl Output<u64>,
    ) {
        match request.what {
            What::Change => change(self.value.get_mut(ctx).expect("all keys are there")),
            What::Insert => {
                let keyed = Keyed { hash64: hash_of(&request.key), key: request.key };
                self.value.set(ctx, keyed.value());
            }
            What::Tell => out.collect(self.value.get(ctx).expect("all keys are there")[0]),
        }
    }
}

impl ValueStore for Engine<What, Values> {
    fn insert(&mut self, keyed: &Keyed) {
        self.send(keyed, What::Insert);
    }

    #[inline]
    fn update(&mut self, keyed: &Keyed) {
        self.send(keyed, What::Change);
    }

    fn number(&mut self, keyed: &Keyed) -> u64 {
        self.send(keyed, What::Tell);
        self.take_told()
    }

    fn update_in_groups(&mut self, picked: &[Keyed]) -> bool {
        ahead(self, picked, Engine::prefetch, Self::update);
        true
    }
}

/// Bytes of memory that are enough for so many records: it is not what is compared.
fn enough_bytes(key_count: u64) -> usize {
    key_count as usize * 4 * VALUE_BYTES + 64 * CHUNK_BYTES
}

impl Keyed {
    #[inline]
    fn record_key(&self) -> RecordKey<'_> {
        RecordKey { hash64: self.hash64, spread: 0, bytes: &self.key }
    }
}

/// Values in the write buffer of the state store, changed in place.
#[derive(Debug)]
pub(crate) struct Buffer {
    budget: Budget,
    records: WriteBuffer,
    space: SpaceId,
}

impl Buffer {
    pub(crate) fn new(key_count: u64) -> Self {
        let mut records = WriteBuffer::new(0..KEY_GROUP_COUNT, KEY_GROUP_COUNT);
        let space = records.open(0, 0, Origin::New);
        Self { budget: Budget::new(enough_bytes(key_count)), records, space }
    }
}

impl ValueStore for Buffer {
    fn insert(&mut self, keyed: &Keyed) {
        let value = bytes_of(&keyed.value());
        let put = self.records.put(&mut self.budget, self.space, keyed.record_key(), &value);
        put.expect("the budget is large enough");
    }

    #[inline]
    fn update(&mut self, keyed: &Keyed) {
        let found = self.records.get_mut(&mut self.budget, self.space, keyed.record_key());
        let Ok(Lookup::Found(value)) = found else { panic!("all keys are there") };
        change_bytes(value);
    }

    fn number(&mut self, keyed: &Keyed) -> u64 {
        let found = self.records.get(self.space, keyed.record_key());
        let Lookup::Found(value) = found else { panic!("all keys are there") };
        first_number(value)
    }

    fn update_in_groups(&mut self, picked: &[Keyed]) -> bool {
        let keys_of = |number: usize| {
            let rest = &picked[picked.len().min(number * BATCH)..];
            rest[..rest.len().min(BATCH)].iter().map(Keyed::record_key)
        };
        self.records.prefetch(self.space, [], keys_of(0));
        self.records.prefetch(self.space, keys_of(0), keys_of(1));
        for (number, batch) in picked.chunks(BATCH).enumerate() {
            // A batch's lines travel while the two before it are updated, its slots while one is.
            self.records.prefetch(self.space, keys_of(number + 1), keys_of(number + 2));
            for keyed in batch {
                self.update(keyed);
            }
        }
        true
    }
}

/// Values in the state store: read, and written back.
#[derive(Debug)]
pub(crate) struct WholeStore {
    pub(crate) store: Store,
    space: SpaceId,
}

impl WholeStore {
    /// One without files.
    pub(crate) fn new(key_count: u64) -> Self {
        Self::in_directory(PathBuf::from("nowhere"), key_count)
    }

    /// One for `key_count` keys that has nothing yet, in a directory in which nothing is.
    pub(crate) fn in_directory(directory: PathBuf, key_count: u64) -> Self {
        let mut store = Store::new(
            StoreConfig {
                directory,
                retained: BTreeSet::new(),
                key_groups: 0..KEY_GROUP_COUNT,
                key_group_count: KEY_GROUP_COUNT,
                bands: vec![table::HashRange::ALL],
                memory_bytes: enough_bytes(key_count),
                table_bytes: enough_bytes(key_count),
                cache_chunks_max: 0,
                next_table_id: 1,
                times: BTreeMap::new(),
            },
            Vec::new(),
        );
        let Some(FileOp::ListDirectory { op, .. }) = store.next_op() else {
            panic!("a store begins by listing its directory");
        };
        let nothing = FileDone { op, result: Ok(FileAnswer::Listed { files: Vec::new() }) };
        store.on_done(nothing).expect("an empty directory");
        assert!(store.is_open().expect("nothing has failed"));
        let space = store.open_space(0, 0, Origin::New);
        Self { store, space }
    }

    #[inline]
    fn get(&mut self, keyed: &Keyed) -> [u8; VALUE_BYTES] {
        let bytes = tail_of(keyed);
        let key = RecordKey { bytes: &bytes, ..keyed.record_key() };
        let got = self.store.get(self.space, key);
        let Ok(Got::Ready(Some(value))) = got else { panic!("all keys are there") };
        value.try_into().expect("a value's length")
    }

    #[inline]
    fn put(&mut self, keyed: &Keyed, value: &[u8]) {
        let bytes = tail_of(keyed);
        let key = RecordKey { bytes: &bytes, ..keyed.record_key() };
        let put = self.store.put(self.space, key, value);
        put.expect("the budget is large enough");
    }
}

/// What follows the hash in a stored key: the key between its length and that of no namespace.
#[inline]
fn tail_of(keyed: &Keyed) -> [u8; KEY_BYTES + 8] {
    let mut tail = [0; KEY_BYTES + 8];
    tail[..4].copy_from_slice(&(KEY_BYTES as u32).to_be_bytes());
    tail[4..4 + KEY_BYTES].copy_from_slice(&keyed.key);
    tail
}

impl ValueStore for WholeStore {
    fn insert(&mut self, keyed: &Keyed) {
        self.put(keyed, &bytes_of(&keyed.value()));
    }

    #[inline]
    fn update(&mut self, keyed: &Keyed) {
        let mut value = self.get(keyed);
        change_bytes(&mut value);
        self.put(keyed, &value);
    }

    fn number(&mut self, keyed: &Keyed) -> u64 {
        first_number(&self.get(keyed))
    }
}
