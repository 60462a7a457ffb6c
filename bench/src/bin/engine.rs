//! Throughput of the engine, beside loops written by hand that do the same work.
//!
//! A stateless chain, ten maps beside one, a keyed count on one shard and on two, and the exchange
//! of 64-byte records. Each contest runs its two sides in turns; every run is a job of its own, and
//! both sides must come to the same sum.
//!
//! `cargo run --release -p millstream-bench --bin engine [-- --records 20000000 --runs 5]`

use clap::Parser;
use hashbrown::HashTable;
use millstream::connector::generator::CardTransaction;
use millstream::connector::generator::card::{CardGenerator, Distribution};
use millstream::operator::aggregate::KeyedAggregate;
use millstream::prelude::*;
use millstream_bench::contest::{Contest, Gate};
use millstream_bench::mix;
use millstream_bench::stopwatch::{Run, Stopwatch, Tally, Timed, run_by_hand, run_job};

/// Measures the engine's throughput.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Records of a run.
    #[arg(long, default_value_t = 20_000_000)]
    records: u64,
    /// Runs of each side.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Keys of the keyed count.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Only contests whose title contains this.
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    stateless_chain(&options)?;
    plain_numbers(&options)?;
    ten_maps(&options)?;
    keyed_count(&options)?;
    two_shards(&options)?;
    exchange(&options)?;
    Ok(())
}

impl Options {
    /// Holds a contest, unless it was not asked for.
    fn hold(
        &self,
        (title, names, gate): (&str, [&str; 2], Gate),
        first: impl FnMut() -> Result<Run>,
        second: impl FnMut() -> Result<Run>,
    ) -> Result<()> {
        if !title.contains(&self.only) {
            return Ok(());
        }
        let (records, runs) = (self.records, self.runs);
        Contest { title, names, records, runs, gate }.hold(first, second)
    }
}

/// A job of one run: `build` gets the job and the stopwatch that its source and sink must hold.
fn job(shard_count: u32, build: impl FnOnce(&Job, &Stopwatch)) -> Result<Run> {
    let (job, stopwatch) = (Job::new("bench"), Stopwatch::default());
    build(&job, &stopwatch);
    run_job(&job, shard_count, &stopwatch)
}

const CARDS: CardGenerator = CardGenerator::new(1_000_000, Distribution::Zipf, 0);

fn with_fee(payment: CardTransaction) -> CardTransaction {
    CardTransaction { amount: payment.amount + payment.amount / 64, ..payment }
}

fn is_checked(payment: &CardTransaction) -> bool {
    !payment.merchant.is_multiple_of(4)
}

fn content(payment: CardTransaction) -> u64 {
    payment.n ^ payment.account ^ payment.merchant << 32 ^ payment.amount
}

fn identity(number: u64) -> u64 {
    number
}

fn stateless_chain(options: &Options) -> Result<()> {
    let records = options.records;
    let engine = || {
        job(1, |job, stopwatch| {
            job.source("cards", Timed::new(GeneratorSource::of(records, CARDS), stopwatch))
                .map(with_fee)
                .filter(is_checked)
                .map(content)
                .sink("tally", Tally::new(identity, stopwatch));
        })
    };
    let by_hand = || {
        Ok(run_by_hand(|| {
            let (mut rows, mut sum) = (0, 0_u64);
            for n in 0..records {
                let payment = with_fee(CARDS.record(n));
                if is_checked(&payment) {
                    rows += 1;
                    sum = sum.wrapping_add(content(payment));
                }
            }
            (rows, sum)
        }))
    };
    let title = "stateless chain: card transactions, map, filter, map";
    options.hold((title, ["one shard", "loop"], Gate::SpeedAtLeast(0.9)), engine, by_hand)
}

/// What the engine adds to a record that costs next to nothing.
fn plain_numbers(options: &Options) -> Result<()> {
    let records = options.records;
    let engine = || {
        job(1, |job, stopwatch| {
            job.source("numbers", Timed::new(GeneratorSource::new(records, mix), stopwatch))
                .map(|n| n >> 1)
                .filter(|n| n % 4 != 0)
                .map(|n| n ^ 1)
                .sink("tally", Tally::new(identity, stopwatch));
        })
    };
    let by_hand = || {
        Ok(run_by_hand(|| {
            let (mut rows, mut sum) = (0, 0_u64);
            for n in 0..records {
                let n = mix(std::hint::black_box(n)) >> 1;
                if !n.is_multiple_of(4) {
                    rows += 1;
                    sum = sum.wrapping_add(n ^ 1);
                }
            }
            (rows, sum)
        }))
    };
    let title = "stateless chain: splitmix numbers, map, filter, map (not vectorised by hand)";
    options.hold((title, ["one shard", "loop"], Gate::None), engine, by_hand)
}

fn ten_maps(options: &Options) -> Result<()> {
    let records = options.records;
    let raise = |cents: u64| {
        move |payment: CardTransaction| CardTransaction {
            amount: payment.amount.wrapping_add(cents),
            ..payment
        }
    };
    let ten = || {
        job(1, |job, stopwatch| {
            job.source("cards", Timed::new(GeneratorSource::of(records, CARDS), stopwatch))
                .map(raise(1))
                .map(raise(2))
                .map(raise(3))
                .map(raise(4))
                .map(raise(5))
                .map(raise(6))
                .map(raise(7))
                .map(raise(8))
                .map(raise(9))
                .map(raise(10))
                .sink("tally", Tally::new(content, stopwatch));
        })
    };
    let one = || {
        job(1, |job, stopwatch| {
            job.source("cards", Timed::new(GeneratorSource::of(records, CARDS), stopwatch))
                .map(raise(55))
                .sink("tally", Tally::new(content, stopwatch));
        })
    };
    let title = "ten chained maps: card transactions";
    options.hold((title, ["ten maps", "one map"], Gate::TimeAtMost(1.3)), ten, one)
}

/// Counts; the result so far goes out with every record.
#[derive(Clone)]
struct Count;

impl AggregateFunction for Count {
    type In = u64;
    type Accumulator = u64;
    type Out = u64;

    fn create(&self) -> u64 {
        0
    }

    fn add(&self, count: &mut u64, _key: u64) {
        *count += 1;
    }

    fn merge(&self, count: &mut u64, other: u64) {
        *count += other;
    }

    fn result(&self, count: &u64) -> u64 {
        *count
    }
}

fn count_on(shard_count: u32, records: u64, keys: u64) -> Result<Run> {
    let count = KeyedAggregate::new(|key: &u64| *key, Count);
    job(shard_count, |job, stopwatch| {
        let make = move |n| mix(n) % keys;
        job.source("keys", Timed::new(GeneratorSource::new(records, make), stopwatch))
            .key_by(|key| *key)
            .operator("count", count)
            .sink("tally", Tally::new(identity, stopwatch));
    })
}

fn keyed_count(options: &Options) -> Result<()> {
    let Options { records, keys, .. } = *options;
    let by_hand = || {
        Ok(run_by_hand(|| {
            let mut counts: HashTable<(u64, u64)> = HashTable::new();
            let mut sum = 0_u64;
            for n in 0..records {
                let key = mix(n) % keys;
                let is_key = |slot: &(u64, u64)| slot.0 == key;
                let entry = counts.entry(key.hash64(), is_key, |slot| slot.0.hash64());
                let slot = entry.or_insert((key, 0)).into_mut();
                slot.1 += 1;
                sum = sum.wrapping_add(slot.1);
            }
            (records, sum)
        }))
    };
    let title = format!("keyed count: {keys} uniform keys");
    let names = ["one shard", "hashbrown loop"];
    let engine = || count_on(1, records, keys);
    options.hold((&title, names, Gate::SpeedAtLeast(0.7)), engine, by_hand)
}

fn two_shards(options: &Options) -> Result<()> {
    let Options { records, keys, .. } = *options;
    let title = format!("keyed count on two shards: {keys} uniform keys, hash exchange");
    let one = || count_on(1, records, keys);
    let two = || count_on(2, records, keys);
    options.hold((&title, ["two shards", "one shard"], Gate::SpeedAtLeast(1.5)), two, one)
}

/// 64 bytes.
type Wide = [u64; 8];

fn wide(n: u64) -> Wide {
    std::array::from_fn(|i| n ^ i as u64)
}

fn fold(record: Wide) -> u64 {
    record.iter().fold(0, |sum, word| sum ^ word.rotate_left(7))
}

/// Shard 0 makes the records, shard 1 takes them; by hand, two threads and a channel of vectors.
fn exchange(options: &Options) -> Result<()> {
    let records = options.records;
    let engine = || {
        job(2, |job, stopwatch| {
            job.source("wide", Timed::new(GeneratorSource::new(records, wide), stopwatch))
                .parallelism(1)
                .partition_by(|_| 1)
                .sink("tally", Tally::new(fold, stopwatch));
        })
    };
    let by_hand = || Ok(run_by_hand(|| exchange_by_hand(records)));
    let title = "exchange: 64-byte records from shard 0 to shard 1";
    let names = ["two shards", "two threads, std channel of vectors"];
    options.hold((title, names, Gate::MillionsAtLeast(10.0)), engine, by_hand)
}

fn exchange_by_hand(records: u64) -> (u64, u64) {
    const BATCH: usize = 256;
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Vec<Wide>>(4);
    let make = move || {
        core_affinity::set_for_current(core_affinity::CoreId { id: 1 });
        let mut batch = Vec::with_capacity(BATCH);
        for n in 0..records {
            batch.push(wide(n));
            if batch.len() == BATCH {
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                if sender.send(full).is_err() {
                    return;
                }
            }
        }
        drop(sender.send(batch));
    };
    std::thread::scope(|scope| {
        scope.spawn(make);
        let (mut rows, mut sum) = (0, 0_u64);
        for record in receiver.into_iter().flatten() {
            rows += 1;
            sum = sum.wrapping_add(fold(record));
        }
        (rows, sum)
    })
}
