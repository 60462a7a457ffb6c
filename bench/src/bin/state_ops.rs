//! What a keyed count costs beside a `hashbrown` table, and how long the longest steps of the
//! table and of the queue of timers take.
//!
//! Every line is nanoseconds per operation and the ratio to the peer named in it, measured in the
//! same process, one after the other, on one pinned core. Keys, hashes and times are made before
//! the clock starts; both do the same operations in the same order, and must come to the same end.
//! Larger values, timers beside others, and other peers: `state_peers`.
//!
//! `cargo run --release -p millstream-bench --bin state_ops [-- --keys 1000000 --timers 10000000]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::time::Instant;

use clap::Parser;
use hashbrown::HashTable;
use millstream::data::ahead::{Ahead, HashGroup};
use millstream::data::key::Key;
use millstream::data::key_group::HashRange;
use millstream::data::slot::Slot;
use millstream::limits::PREFETCH_GROUP;
use millstream::state::table::KeyTable;
use millstream::time::timer::{Registrant, TimerQueue};
use millstream_bench::mix;

/// Measures keyed state and timers.
#[derive(Debug, Parser)]
struct Options {
    /// Keys of the counting benchmark.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Records of the counting benchmark.
    #[arg(long, default_value_t = 20_000_000)]
    records: u64,
    /// Timers of the larger timer benchmark; the smaller one has a tenth.
    #[arg(long, default_value_t = 10_000_000)]
    timers: u64,
    /// Core to run on.
    #[arg(long, default_value_t = 0)]
    core: usize,
}

fn main() {
    let options = Options::parse();
    core_affinity::set_for_current(core_affinity::CoreId { id: options.core });
    count_per_key(options.keys, options.records);
    timers(options.timers / 10);
    timers(options.timers);
}

/// Slices that a measurement is cut into.
const SLICES: usize = 101;

/// A record's key and its hash.
type Keyed = (u64, u64);

/// The hand-written loop's table: the hash comes with the record, as it does for ours.
type Counts = HashTable<(u64, u64)>;

/// A keyed count: find the key, add one.
fn count_per_key(key_count: u64, record_count: u64) {
    println!("count per key, {key_count} keys, uniform");
    let keys: Vec<Keyed> = (0..key_count).map(|key| (key.hash64(), key)).collect();
    let pick = |i| keys[(mix(i) % key_count) as usize];
    let records: Vec<Keyed> = (0..record_count).map(pick).collect();

    let mut counts = Counts::new();
    let new_peer = measure("hashbrown, new keys", &keys, None, |keyed| count(&mut counts, keyed));
    let mut table = KeyTable::<u64, u64>::new(HashRange::ALL);
    measure("KeyTable, new keys", &keys, Some(new_peer), |(hash64, key)| {
        *table.get_or_insert_with(hash64, key, || 0) += 1;
    });
    let peer = measure("hashbrown, one by one", &records, None, |keyed| count(&mut counts, keyed));
    measure("KeyTable, one by one", &records, Some(peer), |(hash64, key)| {
        *table.get_or_insert_with(hash64, key, || 0) += 1;
    });
    let counted: u64 = table.iter().map(|(_, _, count)| count).sum();
    assert_eq!(counted, counts.iter().map(|(_, count)| count).sum::<u64>());

    let groups: Vec<&[Keyed]> = records.chunks(PREFETCH_GROUP).collect();
    let mut ahead = groups.iter().map(|group| HashGroup::of(group.iter().map(|keyed| keyed.0)));
    let mut near = ahead.next().unwrap_or_default();
    let mut far = ahead.next().unwrap_or_default();
    table.prefetch(Ahead { near: &[], far: near.as_slice() });
    table.prefetch(Ahead { near: near.as_slice(), far: far.as_slice() });
    let ns = measure("", &groups, None, |group| {
        (near, far) = (far, ahead.next().unwrap_or_default());
        table.prefetch(Ahead { near: near.as_slice(), far: far.as_slice() });
        for (hash64, key) in group {
            *table.get_or_insert_with(*hash64, *key, || 0) += 1;
        }
    });
    print_line("KeyTable, in groups", ns / PREFETCH_GROUP as f64, Some(peer));
    let mut table = KeyTable::<u64, u64>::new(HashRange::ALL);
    print_longest("KeyTable, new keys", &keys, |(hash64, key)| {
        table.get_or_insert_with(hash64, key, || 0);
    });
    println!();
}

fn count(counts: &mut Counts, (hash64, key): Keyed) {
    let entry = counts.entry(hash64, |(other, _)| *other == key, |(other, _)| other.hash64());
    entry.or_insert((key, 0)).into_mut().1 += 1;
}

/// Time, hash and slot.
type Timer = (i64, u64, u32);

/// One timer per key within an hour; then all go.
fn timers(timer_count: u64) {
    const HOUR_MS: u64 = 3_600_000;
    println!("timers, one for each of {timer_count} keys, over one hour");
    let within_hour = |i| (mix(i) % HOUR_MS) as i64;
    let timers: Vec<Timer> =
        (0..timer_count).map(|i| (within_hour(i), i.hash64(), i as u32)).collect();
    let mut queue = TimerQueue::default();
    print_longest("TimerQueue, register", &timers, |(time_ms, hash64, slot)| {
        queue.register(Slot(slot), hash64, time_ms, Registrant::Record);
    });
    queue.begin(i64::MAX / 2);
    print_longest("TimerQueue, pop", &timers, |_| {
        queue.pop();
    });
    println!();
}

/// Does `operation` on every input and prints nanoseconds per input, unless there is no name: the
/// median over slices, because the machine's other work comes in gusts.
fn measure<T: Copy>(
    name: &str,
    inputs: &[T],
    peer_ns: Option<f64>,
    mut operation: impl FnMut(T),
) -> f64 {
    let mut slices_ns = Vec::new();
    for slice in inputs.chunks(inputs.len().div_ceil(SLICES)) {
        let start = Instant::now();
        for input in slice {
            operation(*input);
        }
        slices_ns.push(start.elapsed().as_nanos() as f64 / slice.len() as f64);
    }
    slices_ns.sort_by(f64::total_cmp);
    let ns = slices_ns[slices_ns.len() / 2];
    if !name.is_empty() {
        print_line(name, ns, peer_ns);
    }
    ns
}

/// Prints how long the longest of the operations takes: what a record behind it waits for. The
/// machine's own hiccups are in it.
fn print_longest<T: Copy>(name: &str, inputs: &[T], mut operation: impl FnMut(T)) {
    let mut longest_ns = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 10_000_000_000, 3)
        .expect("bounds are in order");
    for input in inputs {
        let start = Instant::now();
        operation(*input);
        longest_ns.saturating_record(start.elapsed().as_nanos() as u64);
    }
    let us = |quantile| longest_ns.value_at_quantile(quantile) as f64 / 1e3;
    let (p999, p99999, max) = (us(0.999), us(0.99999), us(1.0));
    println!("  {name:32} p99.9 {p999:.1} µs, p99.999 {p99999:.1} µs, max {max:.1} µs");
}

fn print_line(name: &str, ns: f64, peer_ns: Option<f64>) {
    match peer_ns {
        Some(peer_ns) => println!("  {name:32} {ns:8.1} ns   {:5.2} ×", ns / peer_ns),
        None => println!("  {name:32} {ns:8.1} ns"),
    }
}
