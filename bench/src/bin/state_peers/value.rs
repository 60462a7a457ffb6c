//! A read-modify-write of a value, one at a time and in groups; latencies; memory.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use millstream_bench::process;
use millstream_bench::table::{Gates, Line, Table};
use millstream_bench::watch::Watch;

use crate::Options;
use crate::engine::Engine;
use crate::keys::{KEY_BYTES, Keyed, Pick, VALUE_BYTES};
#[cfg(feature = "peers")]
use crate::rocks::Rocks;
use crate::stores::{Buffer, EngineTable, Hashbrown, ValueStore, Values, WholeStore};

/// The stores, by what they are called in tables and by the flag `--memory-of`.
const NAMES: [&str; 6] =
    ["hashbrown", "ValueState", "KeyTable", "write buffer", "store by get and put", "RocksDB"];
const PEERS: [&str; 2] = ["hashbrown", "RocksDB"];

const ONE_AT_A_TIME: Gates = Gates { time_at_most: Some(0.9), speed_at_least: Some(60.0) };
const IN_GROUPS: Gates = Gates { time_at_most: Some(0.4), speed_at_least: Some(150.0) };

/// RocksDB does so many times fewer operations in a round.
const SLOWER: usize = 20;

#[cfg_attr(not(feature = "peers"), expect(unused_variables, reason = "only RocksDB has files"))]
fn store_of(name: &str, key_count: u64, options: &Options) -> Option<Box<dyn ValueStore>> {
    Some(match name {
        "hashbrown" => Box::new(Hashbrown::default()),
        "ValueState" => Box::new(Engine::new(Values::default())),
        "KeyTable" => Box::new(EngineTable::new()),
        "write buffer" => Box::new(Buffer::new(key_count)),
        "store by get and put" => Box::new(WholeStore::new(key_count)),
        #[cfg(feature = "peers")]
        "RocksDB" => Box::new(Rocks::new(&options.directory)),
        _ => return None,
    })
}

/// A store and the lines of the table that it fills.
struct Entry {
    name: &'static str,
    store: Box<dyn ValueStore>,
    one_at_a_time: usize,
    in_groups: Option<usize>,
    /// Operations of it in a round.
    operations: usize,
    latency_ns: Histogram<u64>,
}

/// Compares the stores with `key_count` keys.
pub(crate) fn compare(key_count: u64, options: &Options) -> anyhow::Result<()> {
    let keys: Vec<Keyed> = (0..key_count).map(Keyed::new).collect();
    let mut entries = Vec::new();
    for name in NAMES.into_iter().filter(|name| options.wants(name)) {
        let Some(mut store) = store_of(name, key_count, options) else { continue };
        let begun = Watch::start();
        store.insert_all(&keys);
        let ns = begun.ns() / key_count as f64;
        crate::print(format_args!("  {name:40} {ns:.0} ns a new key"));
        let operations =
            if name == PEERS[1] { options.operations / SLOWER } else { options.operations };
        entries.push(Entry {
            name,
            store,
            one_at_a_time: 0,
            in_groups: None,
            operations,
            latency_ns: histogram(),
        });
    }
    agree(&keys, &mut entries)?;
    for pick in Pick::both(key_count) {
        rounds(&keys, pick, &mut entries, options);
        latencies(&keys, pick, &mut entries, options);
    }
    Ok(())
}

/// All stores do the same to a value.
fn agree(keys: &[Keyed], entries: &mut [Entry]) -> anyhow::Result<()> {
    let some: Vec<Keyed> = keys.iter().step_by(keys.len() / 4_000 + 1).copied().collect();
    for Entry { name, store, .. } in entries {
        store.update_all(&some);
        let is_grouped = store.update_in_groups(&some[..some.len() / 16 * 16]);
        let expected = if is_grouped { 2 } else { 1 };
        ensure!(store.number(&some[0]) == expected, "{name} has not changed a value");
        store.update_all(&some);
        ensure!(store.number(&some[0]) == expected + 1, "{name} has not changed a value again");
    }
    Ok(())
}

/// The stores in turns, one at a time and in groups.
fn rounds(keys: &[Keyed], pick: Pick, entries: &mut [Entry], options: &Options) {
    let mut lines = Vec::new();
    for round in 0..=options.rounds {
        let from = (round * options.operations) as u64;
        let picked: Vec<Keyed> = (from..from + options.operations as u64)
            .map(|i| keys[pick.number(i) as usize])
            .collect();
        for entry in &mut *entries {
            let picked = &picked[..entry.operations];
            let watch = Watch::start();
            entry.store.update_all(picked);
            let one_ns = watch.ns() / picked.len() as f64;
            let watch = Watch::start();
            let is_grouped = entry.store.update_in_groups(picked);
            let group_ns = watch.ns() / picked.len() as f64;
            if round == 0 {
                // Not counted: caches are warm for those that follow.
                entry.one_at_a_time = lines.len();
                lines.push(Line::new(entry.name, ONE_AT_A_TIME));
                entry.in_groups = is_grouped.then_some(lines.len());
                let grouped = || Line::new(format!("{}, in groups", entry.name), IN_GROUPS);
                lines.extend(is_grouped.then(grouped));
            } else {
                lines[entry.one_at_a_time].ns.push(one_ns);
                if let Some(line) = entry.in_groups {
                    lines[line].ns.push(group_ns);
                }
            }
        }
    }
    let title = format!("read-modify-write, {} keys, {}", keys.len(), pick.name());
    crate::print(Table { title, lines: &lines, peers: PEERS });
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("bounds are in order")
}

/// How long single operations take, in turns.
fn latencies(keys: &[Keyed], pick: Pick, entries: &mut [Entry], options: &Options) {
    for entry in &mut *entries {
        entry.latency_ns.reset();
    }
    let mut clock_ns = histogram();
    for round in 0..options.rounds {
        let from = (!0 >> 1) - (round * options.operations) as u64;
        let picked: Vec<Keyed> = (from..from + options.operations as u64 / 4)
            .map(|i| keys[pick.number(i) as usize])
            .collect();
        for entry in &mut *entries {
            entry.store.update_timed(&picked[..entry.operations / 4], &mut entry.latency_ns);
        }
        for _ in &picked {
            let begun = Instant::now();
            clock_ns.saturating_record(begun.elapsed().as_nanos() as u64);
        }
    }
    crate::print(format_args!(
        "latency, {} keys, {}; ns, the clock's own included",
        keys.len(),
        pick.name()
    ));
    let clock = [("the clock alone", &clock_ns)];
    for (name, ns) in entries.iter().map(|entry| (entry.name, &entry.latency_ns)).chain(clock) {
        let of = |quantile| ns.value_at_quantile(quantile);
        let (p50, p99, p999) = (of(0.5), of(0.99), of(0.999));
        crate::print(format_args!("  {name:40} p50 {p50:6} p99 {p99:7} p99.9 {p999:8}"));
    }
    crate::print("");
}

/// Resident memory for a byte of key or value, each store in a process of its own.
pub(crate) fn memory(key_count: u64, options: &Options) -> anyhow::Result<()> {
    crate::print(format_args!(
        "resident memory for a byte of key or value, {key_count} keys; gate at most 1.35"
    ));
    for name in NAMES.into_iter().filter(|name| options.wants(name)) {
        if name == PEERS[1] && !cfg!(feature = "peers") {
            continue;
        }
        let mut times = Vec::new();
        for _ in 0..3 {
            let output = Command::new(std::env::current_exe()?)
                .args(["--keys", &key_count.to_string(), "--memory-of", name])
                .arg("--directory")
                .arg(&options.directory)
                .output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            times.push(text.trim().parse::<f64>().with_context(|| {
                format!("of {name}: {text}{}", String::from_utf8_lossy(&output.stderr))
            })?);
        }
        times.sort_by(f64::total_cmp);
        crate::print(format_args!("  {name:40} {:.2}", times[times.len() / 2]));
    }
    crate::print("");
    Ok(())
}

/// As a process of its own: fills the store `name`, and prints what it takes.
pub(crate) fn fill(name: &str, key_count: u64, options: &Options) -> anyhow::Result<()> {
    let mut store = store_of(name, key_count, options).context("no store of that name")?;
    let before_mib = process::resident_mib();
    (0..key_count).for_each(|number| store.insert(&Keyed::new(number)));
    let mib = process::resident_mib() - before_mib;
    let live_bytes = key_count as f64 * (KEY_BYTES + VALUE_BYTES) as f64;
    crate::print(mib * 1024.0 * 1024.0 / live_bytes);
    Ok(())
}
