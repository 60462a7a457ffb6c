//! What the write buffer of the state store costs, beside a `hashbrown` table that holds the plain
//! values.
//!
//! A read-modify-write of a value of 96 bytes under a key of 16: three numbers in it are read and
//! written. Keys, hashes and their order are made before the clock starts; both sides do the same
//! operations in the same order, one after the other in one process on one pinned core. Numbers are
//! medians over slices, without the time in which others had the core.
//!
//! `cargo run --release -p millstream-bench --bin state_store [-- --keys 1000000]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::time::{Duration, Instant};

use clap::Parser;
use hashbrown::HashTable;
use millstream_bench::{mix, process};
use millstream_storage::arena::CHUNK_BYTES;
use millstream_storage::write_buffer::{Budget, Lookup, Origin, RecordKey, SpaceId, WriteBuffer};

/// Measures the write buffer.
#[derive(Debug, Parser)]
struct Options {
    /// Keys.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Operations of each measurement.
    #[arg(long, default_value_t = 8_000_000)]
    operations: u64,
    /// Core to run on.
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// Slices that a measurement is cut into.
const SLICES: usize = 101;

/// Records that are looked for together.
const BATCH: usize = 16;

const KEY_GROUP_COUNT: u32 = 128;

/// At most this part of the time of `hashbrown` is allowed, one at a time and in batches.
const GATES: [f64; 2] = [0.9, 0.4];

/// A key with its hash.
#[derive(Debug, Clone, Copy)]
struct Keyed {
    hash64: u64,
    key: [u8; 16],
}

impl Keyed {
    fn new(number: u64) -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key[8..].copy_from_slice(&mix(!number).to_le_bytes());
        Self { hash64: mix(number), key }
    }

    fn record_key(&self) -> RecordKey<'_> {
        RecordKey { hash64: self.hash64, spread: 0, bytes: &self.key }
    }
}

/// Bytes of a value, and of them where the numbers are that change.
const VALUE_BYTES: usize = 96;
const NUMBERS: [usize; 3] = [0, 40, 88];

type Value = [u64; VALUE_BYTES / 8];

/// The hand-written store: the hash comes with the record, as it does for ours.
type Values = HashTable<([u8; 16], Value)>;

/// The store, and all that it needs.
struct Store {
    budget: Budget,
    buffer: WriteBuffer,
    space: SpaceId,
}

impl Store {
    fn put(&mut self, keyed: &Keyed) {
        let value = [0; VALUE_BYTES];
        self.buffer
            .put(&mut self.budget, self.space, keyed.record_key(), &value)
            .expect("the budget is large enough");
    }

    #[inline]
    fn update(&mut self, key: RecordKey<'_>) {
        let found = self.buffer.get_mut(&mut self.budget, self.space, key);
        let Ok(Lookup::Found(value)) = found else { panic!("all keys are there") };
        let (numbers, _) = value.as_chunks_mut::<8>();
        let numbers: &mut [_; VALUE_BYTES / 8] = numbers.try_into().expect("a value's length");
        for at in NUMBERS {
            let number = u64::from_le_bytes(numbers[at / 8]);
            numbers[at / 8] = number.wrapping_add(1).to_le_bytes();
        }
    }
}

fn main() {
    let options = Options::parse();
    core_affinity::set_for_current(core_affinity::CoreId { id: options.core });
    let keys: Vec<Keyed> = (0..options.keys).map(Keyed::new).collect();

    println!("{} keys of 16 bytes with values of {VALUE_BYTES}", options.keys);
    let mut values = Values::new();
    let peer_ns = measure(&keys, |keyed| {
        let hash_of = |(key, _): &([u8; 16], Value)| {
            mix(u64::from_le_bytes(key[..8].try_into().expect("eight bytes")))
        };
        values.insert_unique(keyed.hash64, (keyed.key, [0; _]), hash_of);
    });
    print_line("hashbrown, new keys", peer_ns, None);
    // Four times what the values take: memory is not what is measured.
    let budget_bytes = keys.len() * 4 * VALUE_BYTES + 64 * CHUNK_BYTES;
    let mut buffer = WriteBuffer::new(0..KEY_GROUP_COUNT, KEY_GROUP_COUNT);
    let space = buffer.open(0, 0, Origin::New);
    let mut store = Store { budget: Budget::new(budget_bytes), buffer, space };
    let ns = measure(&keys, |keyed| store.put(keyed));
    print_line("write buffer, new keys", ns, Some((peer_ns, None)));
    let live_bytes = keys.len() * (16 + VALUE_BYTES);
    let memory = store.buffer.chunk_bytes() as f64 / live_bytes as f64;
    println!("  {memory:.2} bytes of memory for a byte of key or value\n");

    let uniform = |i| mix(i) % options.keys;
    read_modify_write("uniform", &keys, options.operations, uniform, &mut values, &mut store);
    let zipf = Zipf::new(options.keys);
    let skewed = |i| mix(!zipf.rank(i)) % options.keys;
    read_modify_write("zipf 0.99", &keys, options.operations, skewed, &mut values, &mut store);
    epochs(&keys, &mut store);
}

fn read_modify_write(
    name: &str,
    keys: &[Keyed],
    operations: u64,
    pick: impl Fn(u64) -> u64,
    values: &mut Values,
    store: &mut Store,
) {
    println!("read-modify-write, {name}");
    let picked: Vec<Keyed> = (0..operations).map(|i| keys[pick(i) as usize]).collect();
    let peer_ns = measure(&picked, |keyed| {
        let found = values.find_mut(keyed.hash64, |(key, _)| *key == keyed.key);
        let (_, value) = found.expect("all keys are there");
        for at in NUMBERS {
            value[at / 8] = value[at / 8].wrapping_add(1);
        }
    });
    print_line("hashbrown, one at a time", peer_ns, None);
    let ns = measure(&picked, |keyed| store.update(keyed.record_key()));
    print_line("write buffer, one at a time", ns, Some((peer_ns, Some(GATES[0]))));

    let batches: Vec<&[Keyed]> = picked.chunks_exact(BATCH).collect();
    let record_keys = |number: usize| {
        let batch = batches[number.min(batches.len() - 1)];
        batch.iter().map(Keyed::record_key)
    };
    store.buffer.prefetch(store.space, [], record_keys(0));
    store.buffer.prefetch(store.space, record_keys(0), record_keys(1));
    let numbers: Vec<usize> = (0..batches.len()).collect();
    let ns = measure(&numbers, |number| {
        // Each batch's lines travel while the two before it are updated, its slots while one is.
        store.buffer.prefetch(store.space, record_keys(number + 1), record_keys(number + 2));
        for key in record_keys(*number) {
            store.update(key);
        }
    });
    let ns = ns / BATCH as f64;
    print_line("write buffer, batches of 16", ns, Some((peer_ns, Some(GATES[1]))));
    println!();
}

/// What the end of an epoch costs, when all keys were changed in it and when a hundredth was.
fn epochs(keys: &[Keyed], store: &mut Store) {
    for part in [1, 100] {
        let changed = keys.len() / part;
        for keyed in &keys[..changed] {
            store.update(keyed.record_key());
        }
        println!("an epoch in which {changed} keys changed");
        let start = Watch::start();
        let mut frozen = store.buffer.freeze().expect("the one before it is written");
        println!("  freeze                           {:8.2} µs", start.ns() / 1e3);
        let (mut records, mut bytes, mut ns, mut longest_ns) = (0, 0, 0.0, 0_f64);
        loop {
            let start = Watch::start();
            let more = frozen.next(&mut store.buffer, &mut store.budget, 512, |key, change| {
                records += 1;
                bytes += key.len() + change.bytes().len();
            });
            let slice_ns = start.ns();
            ns += slice_ns;
            longest_ns = longest_ns.max(slice_ns);
            if !more {
                break;
            }
        }
        ns /= records as f64;
        assert_eq!(records, changed, "an epoch holds what changed in it");
        println!("  handing out in order             {ns:8.1} ns a record, {bytes} bytes");
        println!("  longest slice of 512 steps       {:8.1} µs", longest_ns / 1e3);
        store.buffer.on_written(frozen);
    }
}

/// Time in which this thread had its core.
struct Watch {
    begun: Instant,
    waited: Duration,
}

impl Watch {
    fn start() -> Self {
        let waited = process::waited();
        Self { begun: Instant::now(), waited }
    }

    /// Nanoseconds since the start.
    fn ns(&self) -> f64 {
        let took = self.begun.elapsed();
        took.saturating_sub(process::waited().saturating_sub(self.waited)).as_nanos() as f64
    }
}

/// Does `operation` on every input. Nanoseconds per input: the median over slices, because the
/// machine's other work comes in gusts.
fn measure<T>(inputs: &[T], mut operation: impl FnMut(&T)) -> f64 {
    let mut slices_ns = Vec::new();
    for slice in inputs.chunks(inputs.len().div_ceil(SLICES)) {
        let start = Watch::start();
        slice.iter().for_each(&mut operation);
        slices_ns.push(start.ns() / slice.len() as f64);
    }
    slices_ns.sort_by(f64::total_cmp);
    slices_ns[slices_ns.len() / 2]
}

/// Prints a time, and with a peer's the ratio to it and whether the gate is met.
fn print_line(name: &str, ns: f64, peer: Option<(f64, Option<f64>)>) {
    let verdict = match peer {
        Some((peer_ns, Some(gate))) => {
            let ratio = ns / peer_ns;
            let met = if ratio <= gate { "met" } else { "NOT MET" };
            format!("   {ratio:5.2} ×   gate at most {gate}: {met}")
        }
        Some((peer_ns, None)) => format!("   {:5.2} ×", ns / peer_ns),
        None => String::new(),
    };
    println!("  {name:32} {ns:8.1} ns{verdict}");
}

/// Ranks by Zipf's law with exponent 0.99, after Gray et al., *Quickly generating billion-record
/// synthetic databases*.
struct Zipf {
    count: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    const THETA: f64 = 0.99;

    fn new(count: u64) -> Self {
        let term = |rank: u64| (rank as f64).powf(-Self::THETA);
        let zeta: f64 = (1..=count).map(term).sum();
        let zeta_of_two = term(1) + term(2);
        let count = count as f64;
        let eta = (1.0 - (2.0 / count).powf(1.0 - Self::THETA)) / (1.0 - zeta_of_two / zeta);
        Self { count, zeta, eta }
    }

    /// The `i`th rank: 0 is the most frequent.
    fn rank(&self, i: u64) -> u64 {
        let uniform = mix(i) as f64 / 2_f64.powi(64);
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(Self::THETA) {
            return 1;
        }
        let exponent = 1.0 / (1.0 - Self::THETA);
        (self.count * (self.eta * uniform - self.eta + 1.0).powf(exponent)) as u64
    }
}
