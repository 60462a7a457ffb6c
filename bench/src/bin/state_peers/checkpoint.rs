//! What a checkpoint costs: how long it blocks, how long until it is durable, and the bytes that it
//! writes for a record that has changed.
//!
//! ```text
//! change some keys ──► freeze / checkpoint ──► all of it is written ──► again, with other keys
//!                      blocked ◄─►│
//!                      in all  ◄────────────────────────────►│
//! ```
//!
//! The store's files are written by the storage service, as in a node, directly and with a sync;
//! those of RocksDB by its own threads, without: Flink does not ask for one.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use millstream::runtime::cpu::Core;
use millstream::runtime::parking::Parker;
use millstream::runtime::storage_service::{StorageDriver, StorageHandle, StorageService};
use millstream_bench::contest::Spread;
use millstream_bench::watch::Watch;
use millstream_storage::io::FileOp;

use crate::Options;
use crate::keys::{KEY_BYTES, Keyed, VALUE_BYTES};
#[cfg(feature = "peers")]
use crate::rocks::RocksCheckpoints;
use crate::stores::{ValueStore, WholeStore};

/// Of how many keys one changes between checkpoints.
const PARTS: [usize; 3] = [100, 10, 1];

/// Records that are handed to the writer in one step.
const STEPS: usize = 512;

/// What one checkpoint cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// While nothing can be read or written, ns.
    pub(crate) blocked_ns: f64,
    /// The longest of the steps that follow, between which the store is free, ns.
    pub(crate) longest_step_ns: f64,
    /// Until it is written.
    pub(crate) total: Duration,
    /// Bytes that it has and the one before had not.
    pub(crate) bytes: u64,
}

/// A store of which checkpoints are made.
pub(crate) trait Checkpoints {
    /// The store.
    fn store(&mut self) -> &mut dyn ValueStore;

    /// Makes one.
    fn checkpoint(&mut self) -> anyhow::Result<Cost>;
}

/// Compares the checkpoints of `key_count` keys. The storage service runs on `other`.
pub(crate) fn compare(
    key_count: u64,
    other: Option<Core>,
    options: &Options,
) -> anyhow::Result<()> {
    crate::print(format_args!(
        "checkpoints of {key_count} keys of {KEY_BYTES} bytes with values of {VALUE_BYTES}"
    ));
    let keys: Vec<Keyed> = (0..key_count).map(Keyed::new).collect();
    let mut sides: Vec<(&str, Box<dyn Checkpoints>)> = vec![
        ("store", Box::new(OnDisk::new(key_count, other, options)?)),
        #[cfg(feature = "peers")]
        ("RocksDB", Box::new(RocksCheckpoints::new(&options.directory))),
    ];
    for (name, side) in &mut sides {
        side.store().insert_all(&keys);
        print_costs(&format!("{name}, the first"), key_count, &[side.checkpoint()?]);
    }
    for part in PARTS {
        let mut costs = vec![Vec::new(); sides.len()];
        for round in 0..options.rounds {
            let some = keys.iter().skip(round % part).step_by(part);
            let changed: Vec<Keyed> = some.copied().collect();
            for ((_, side), costs) in sides.iter_mut().zip(&mut costs) {
                side.store().update_all(&changed);
                costs.push(side.checkpoint()?);
            }
        }
        for ((name, _), costs) in sides.iter().zip(&costs) {
            let name = format!("{name}, {} % changed", 100.0 / part as f64);
            print_costs(&name, key_count / part as u64, costs);
        }
        if let [ours, theirs] = &costs[..] {
            let blocked_ns = |costs: &[Cost]| of(costs, |cost| cost.blocked_ns).median;
            let times = blocked_ns(theirs) / blocked_ns(ours);
            crate::print(format_args!(
                "    RocksDB blocks {times:.0} times as long; gate at least 1000"
            ));
        }
    }
    crate::print("");
    Ok(())
}

fn of(costs: &[Cost], what: impl Fn(&Cost) -> f64) -> Spread {
    Spread::of(costs.iter().map(what))
}

fn print_costs(name: &str, changed_count: u64, costs: &[Cost]) {
    let blocked_us = of(costs, |cost| cost.blocked_ns / 1e3);
    let step_us = of(costs, |cost| cost.longest_step_ns / 1e3);
    let total_ms = of(costs, |cost| cost.total.as_secs_f64() * 1e3);
    let bytes = of(costs, |cost| cost.bytes as f64 / changed_count as f64);
    crate::print(format_args!(
        "  {name:24} blocked {blocked_us:.1} µs, longest step {step_us:.0} µs, in all {total_ms:.1} \
         ms, {bytes:.1} bytes a changed record"
    ));
}

/// The store, and who carries out what it asks of the disk.
struct OnDisk {
    whole: WholeStore,
    handle: StorageHandle,
    start: Instant,
    service: Option<StorageService>,
    _directory: tempfile::TempDir,
}

impl OnDisk {
    fn new(key_count: u64, other: Option<Core>, options: &Options) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir_in(&options.directory)?;
        let waker = Parker::with_eventfd()?.waker();
        let (service, mut handles) =
            StorageService::start(StorageDriver::Ring, other, vec![waker])?;
        let handle = handles.pop().context("one handle per waker")?;
        let whole = WholeStore::in_directory(directory.path().join("tables"), key_count);
        let (service, start) = (Some(service), Instant::now());
        Ok(Self { whole, handle, start, service, _directory: directory })
    }
}

impl Checkpoints for OnDisk {
    fn store(&mut self) -> &mut dyn ValueStore {
        &mut self.whole
    }

    fn checkpoint(&mut self) -> anyhow::Result<Cost> {
        let store = &mut self.whole.store;
        let (begun, watch) = (Instant::now(), Watch::start());
        let is_frozen = store.freeze();
        let mut cost = Cost { blocked_ns: watch.ns(), ..Cost::default() };
        ensure!(is_frozen, "the one before it is written");
        let mut done = Vec::new();
        while !store.is_flushed() {
            let watch = Watch::start();
            let is_busy = store.step(STEPS)?;
            cost.longest_step_ns = cost.longest_step_ns.max(watch.ns());
            while let Some(op) = store.next_op() {
                if let FileOp::Write { bytes, .. } = &op {
                    cost.bytes += bytes.len() as u64;
                }
                self.handle.submit(op);
            }
            self.handle.poll(self.start.elapsed(), &mut done);
            if !is_busy && done.is_empty() {
                thread::yield_now();
            }
            for done in done.drain(..) {
                store.on_done(done)?;
            }
        }
        cost.total = begun.elapsed();
        Ok(cost)
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        if let Some(service) = self.service.take() {
            service.stop();
        }
    }
}
