//! How long a step of a flush and of a merge takes, by how much it is allowed to do: a shard's turn
//! waits for both.
//!
//! ```text
//! change all keys ─► freeze ─► step, step, step …    for 16, 32, 64 and 128 records a step
//! four deltas     ─► merge_step, merge_step …        for 8, 16, 32 and 64 KiB a step
//! ```
//!
//! The store is by itself, with files in memory that are there at once, so what is measured is the
//! processor's part; steps in which another process had the core do not count. Keys of 16 bytes
//! with values of 96, in random order, in 256 key groups.
//!
//! `cargo run --release -p millstream-bench --bin store_steps [-- --keys 200000]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use millstream_bench::{mix, process};
use millstream_storage::io::{FileAnswer, FileDone, FileId, FileOp};
use millstream_storage::key::StoredKey;
use millstream_storage::store::{Store, StoreConfig};
use millstream_storage::table::HashRange;
use millstream_storage::write_buffer::{Origin, RecordKey, SpaceId};

/// Measures the steps of a store.
#[derive(Debug, Parser)]
struct Options {
    /// Keys that change before each flush.
    #[arg(long, default_value_t = 200_000)]
    keys: u64,
    /// Flushes for each size of steps.
    #[arg(long, default_value_t = 4)]
    rounds: u64,
}

const KEY_GROUPS: u32 = 256;

/// A step that took longer was interrupted, or not; one that took less was not for long.
const SUSPICIOUS: Duration = Duration::from_micros(100);

/// Files in memory, which answer at once.
#[derive(Default)]
struct Files {
    bytes: BTreeMap<PathBuf, Vec<u8>>,
    open: BTreeMap<FileId, PathBuf>,
}

impl Files {
    fn answer(&mut self, op: FileOp) -> FileDone {
        let id = op.id();
        let answer = match op {
            FileOp::Open { file, path, mode, .. } => {
                let bytes = self.bytes.entry(path.clone()).or_default();
                if mode.creates() {
                    bytes.clear();
                }
                self.open.insert(file, path);
                FileAnswer::Opened { size_bytes: bytes.len() as u64 }
            }
            FileOp::Read { file, offset, len, .. } => {
                let bytes = &self.bytes[&self.open[&file]][offset as usize..][..len];
                FileAnswer::Read { bytes: bytes.to_vec() }
            }
            FileOp::Write { file, offset, bytes, .. } => {
                let all = self.bytes.get_mut(&self.open[&file]).expect("it is open");
                all.resize(all.len().max(offset as usize + bytes.len()), 0);
                all[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
                FileAnswer::Written { bytes }
            }
            FileOp::Sync { .. } => FileAnswer::Synced,
            FileOp::Close { file, .. } => {
                self.open.remove(&file);
                FileAnswer::Closed
            }
            FileOp::Rename { from, to, .. } => {
                let bytes = self.bytes.remove(&from).expect("it was written");
                self.open
                    .values_mut()
                    .filter(|path| **path == from)
                    .for_each(|it| it.clone_from(&to));
                self.bytes.insert(to, bytes);
                FileAnswer::Renamed
            }
            FileOp::Remove { path, .. } => {
                self.bytes.remove(&path);
                FileAnswer::Removed
            }
            FileOp::Link { .. } => unreachable!("a store does not link"),
            FileOp::List { .. } | FileOp::ListDirectory { .. } => {
                FileAnswer::Listed { files: Vec::new() }
            }
        };
        FileDone { op: id, result: Ok(answer) }
    }
}

/// A store on such files, and how long its steps took, ns.
struct Bench {
    store: Store,
    space: SpaceId,
    files: Files,
    steps_ns: Vec<u64>,
    disturbed_count: u64,
}

impl Bench {
    fn new(keys: u64) -> Self {
        let memory_bytes = (keys as usize * 600).max(64 << 20);
        let mut store = Store::new(
            StoreConfig {
                directory: PathBuf::from("state"),
                retained: BTreeSet::new(),
                key_groups: 0..KEY_GROUPS,
                key_group_count: KEY_GROUPS,
                bands: vec![HashRange::ALL],
                memory_bytes,
                table_bytes: memory_bytes,
                cache_chunks_max: 1,
                next_table_id: 1,
                times: BTreeMap::new(),
            },
            Vec::new(),
        );
        let space = store.open_space(0, 0, Origin::New);
        let mut bench = Self {
            store,
            space,
            files: Files::default(),
            steps_ns: Vec::new(),
            disturbed_count: 0,
        };
        bench.answer();
        bench
    }

    /// Answers all that the store wants. Whether that was anything.
    fn answer(&mut self) -> bool {
        let mut is_any = false;
        while let Some(op) = self.store.next_op() {
            is_any = true;
            let done = self.files.answer(op);
            self.store.on_done(done).expect("these files do not fail");
        }
        is_any
    }

    fn change_all(&mut self, keys: u64, round: u64) {
        for number in 0..keys {
            let hash64 = mix(number);
            let (key, namespace, map_key) = (&[hash64.to_le_bytes(); 2].concat()[..], &[], &[]);
            let (key_group, state_id, window_bucket) = (0, 0, 0);
            let stored =
                StoredKey { key_group, state_id, window_bucket, hash64, key, namespace, map_key }
                    .encode();
            let key = RecordKey { hash64, spread: 0, bytes: &stored[20..] };
            self.store.put(self.space, key, &[round as u8; 96]).expect("there is memory enough");
        }
    }

    /// Steps until there is nothing left to do, and takes down how long each was.
    fn run(&mut self, mut step: impl FnMut(&mut Store) -> bool) {
        let mut waited = process::waited();
        loop {
            let begun = Instant::now();
            let is_busy = step(&mut self.store);
            let took = begun.elapsed();
            let now_waited = if took < SUSPICIOUS { waited } else { process::waited() };
            if now_waited == waited {
                self.steps_ns.push(took.as_nanos() as u64);
            } else {
                self.disturbed_count += 1;
            }
            waited = now_waited;
            if !self.answer() && !is_busy {
                return;
            }
        }
    }

    fn report(&mut self, name: &str) {
        self.steps_ns.sort_unstable();
        let at = |part: f64| {
            let index = (self.steps_ns.len() as f64 * part) as usize;
            self.steps_ns[index.min(self.steps_ns.len() - 1)] as f64 / 1e3
        };
        let (count, half, most, max) = (self.steps_ns.len(), at(0.5), at(0.99), at(1.0));
        let disturbed = std::mem::take(&mut self.disturbed_count);
        println!(
            "{name:20} {count:8} steps  p50 {half:6.1}  p99 {most:6.1}  max {max:7.1} us  \
             ({disturbed} disturbed)"
        );
        self.steps_ns.clear();
    }
}

fn main() {
    let Options { keys, rounds } = Options::parse();
    println!("{keys} keys of 16 bytes with values of 96, {rounds} flushes each");
    for (records, merge_bytes) in [(16, 8 << 10), (32, 16 << 10), (64, 32 << 10), (128, 64 << 10)] {
        let mut bench = Bench::new(keys);
        for round in 0..rounds {
            bench.change_all(keys, round);
            assert!(bench.store.freeze(), "nothing else is frozen");
            bench.run(|store| store.step(records).expect("nothing fails"));
        }
        bench.report(&format!("flush, {records} records"));
        bench.run(|store| store.merge_step(merge_bytes).expect("nothing fails"));
        bench.report(&format!("merge, {} KiB", merge_bytes >> 10));
    }
}
