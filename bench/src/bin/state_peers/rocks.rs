//! RocksDB as Flink uses it: a key begins with its key group and its state.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use millstream_bench::rocksdb::RocksDb;
use tempfile::TempDir;

use crate::checkpoint::{Checkpoints, Cost};
use crate::collections::{Collections, Element, Entry};
use crate::keys::{
    KEY_BYTES, KEY_GROUP_COUNT, Keyed, VALUE_BYTES, bytes_of, change_bytes, first_number,
};
use crate::stores::{BATCH, ValueStore};

/// A database in a directory that goes with it.
#[derive(Debug)]
pub(crate) struct Rocks {
    pub(crate) db: RocksDb,
    directory: TempDir,
}

impl Rocks {
    /// An empty one below `directory`.
    pub(crate) fn new(directory: &Path) -> Self {
        let directory = tempfile::tempdir_in(directory).expect("a directory for RocksDB");
        Self { db: RocksDb::open(&directory.path().join("db")), directory }
    }
}

/// `[key group 2][state 2][hash 8][rest of the key 4]`
pub(crate) fn stored_key(keyed: &Keyed) -> [u8; KEY_BYTES] {
    let product = u128::from(keyed.hash64) * u128::from(KEY_GROUP_COUNT);
    let mut stored = [0; KEY_BYTES];
    stored[..2].copy_from_slice(&((product >> 64) as u16).to_be_bytes());
    stored[4..12].copy_from_slice(&keyed.hash64.to_be_bytes());
    stored[12..].copy_from_slice(&keyed.key[..4]);
    stored
}

impl ValueStore for Rocks {
    fn insert(&mut self, keyed: &Keyed) {
        self.db.put(&stored_key(keyed), &bytes_of(&keyed.value()));
    }

    fn update(&mut self, keyed: &Keyed) {
        let key = stored_key(keyed);
        let read = self.db.get(&key, |value| <[u8; VALUE_BYTES]>::try_from(value));
        let mut value = read.expect("all keys are there").expect("a value's length");
        change_bytes(&mut value);
        self.db.put(&key, &value);
    }

    fn number(&mut self, keyed: &Keyed) -> u64 {
        self.db.get(&stored_key(keyed), first_number).expect("all keys are there")
    }

    fn update_in_groups(&mut self, picked: &[Keyed]) -> bool {
        for batch in picked.as_chunks::<BATCH>().0 {
            let keys = batch.each_ref().map(stored_key);
            self.db.update_together(&keys, |value: &mut [u8; VALUE_BYTES]| change_bytes(value));
        }
        true
    }
}

/// `[stored key 16][map key 8]`
fn map_key_of(keyed: &Keyed, map_key: u64) -> [u8; KEY_BYTES + 8] {
    let mut stored = [0; KEY_BYTES + 8];
    stored[..KEY_BYTES].copy_from_slice(&stored_key(keyed));
    stored[KEY_BYTES..].copy_from_slice(&map_key.to_be_bytes());
    stored
}

/// Bytes of an element, and of it with the comma before the next one.
const ELEMENT_BYTES: usize = size_of::<Element>();
const STRIDE: usize = ELEMENT_BYTES + 1;

/// Which state a list is: another than the map.
const LIST_STATE: u8 = 1;

impl Collections for Rocks {
    fn put(&mut self, keyed: &Keyed, map_key: u64, entry: Entry) {
        let mut value = [0; size_of::<Entry>()];
        for (bytes, number) in value.as_chunks_mut::<8>().0.iter_mut().zip(entry) {
            *bytes = number.to_le_bytes();
        }
        self.db.put(&map_key_of(keyed, map_key), &value);
    }

    fn get(&mut self, keyed: &Keyed, map_key: u64) -> u64 {
        self.db.get(&map_key_of(keyed, map_key), first_number).expect("it is there")
    }

    fn sum(&mut self, keyed: &Keyed) -> u64 {
        let (prefix, mut sum) = (stored_key(keyed), 0_u64);
        self.db.scan(&prefix, |key, value| {
            let is_of_map = key.starts_with(&prefix);
            if is_of_map {
                sum = sum.wrapping_add(first_number(value));
            }
            is_of_map
        });
        sum
    }

    fn append(&mut self, keyed: &Keyed, element: Element) {
        let mut bytes = [0; ELEMENT_BYTES];
        for (bytes, number) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(element) {
            *bytes = number.to_le_bytes();
        }
        self.db.append(&list_key_of(keyed), &bytes);
    }

    fn take(&mut self, keyed: &Keyed) -> u64 {
        let key = list_key_of(keyed);
        let sum = |list: &[u8]| {
            list.chunks(STRIDE).fold(0, |sum: u64, element| sum.wrapping_add(first_number(element)))
        };
        let sum = self.db.get(&key, sum).expect("it is there");
        self.db.remove(&key);
        sum
    }
}

fn list_key_of(keyed: &Keyed) -> [u8; KEY_BYTES] {
    let mut stored = stored_key(keyed);
    stored[3] = LIST_STATE;
    stored
}

/// RocksDB, and the files of its last checkpoint.
#[derive(Debug)]
pub(crate) struct RocksCheckpoints {
    rocks: Rocks,
    files: BTreeSet<OsString>,
}

impl RocksCheckpoints {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { rocks: Rocks::new(directory), files: BTreeSet::new() }
    }
}

impl Checkpoints for RocksCheckpoints {
    fn store(&mut self) -> &mut dyn ValueStore {
        &mut self.rocks
    }

    /// Blocks until it is there; what its own threads wait for their core is in it.
    fn checkpoint(&mut self) -> anyhow::Result<Cost> {
        let path = self.rocks.directory.path().join("checkpoint");
        let begun = Instant::now();
        self.rocks.db.checkpoint(&path);
        let total = begun.elapsed();
        let blocked_ns = total.as_nanos() as f64;
        let mut cost = Cost { blocked_ns, total, ..Cost::default() };
        let mut files = BTreeSet::new();
        for file in path.read_dir()? {
            let file = file?;
            if file.path().extension().is_some_and(|extension| extension == "sst") {
                if !self.files.contains(&file.file_name()) {
                    cost.bytes += file.metadata()?.len();
                }
                files.insert(file.file_name());
            }
        }
        self.files = files;
        std::fs::remove_dir_all(&path)?;
        Ok(cost)
    }
}
