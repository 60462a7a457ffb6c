//! State larger than memory, through the engine: what an update of a key costs whose state has to
//! be read from a file, and what hot keys notice of that.
//!
//! ```text
//! numbers ─► a key's value for each, then updates ─► by key: change 96 bytes in place ─► tally
//! ```
//!
//! The job runs three times on one shard: with little memory, and updates of keys that are all as
//! likely; with little, and 9 of 10 updates of keys that fit into it; with enough. Loading
//! is measured apart from updating: the sink looks at the clock when all keys are loaded.
//!
//! `cargo run --release -p millstream-bench --bin spilled_state`
//! `    [-- --keys 9000000 --updates 500000 --memory 64MiB --directory /path]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use millstream::config::{ByteCount, Config};
use millstream::prelude::*;
use millstream_bench::{process, stopwatch};

/// Measures state that does not fit into memory.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Keys, of 16 bytes, each with a value of 96.
    #[arg(long, default_value_t = 9_000_000)]
    keys: u64,
    /// Updates after all keys are there.
    #[arg(long, default_value_t = 500_000)]
    updates: u64,
    /// Memory of the shard when it is short.
    #[arg(long, default_value = "64MiB")]
    memory: ByteCount,
    /// Where the files are to be.
    #[arg(long)]
    directory: Option<PathBuf>,
}

const VALUE_WORDS: usize = 12;
const RECORD_BYTES: u64 = 16 + 8 * VALUE_WORDS as u64;

/// A key, as two words.
type Id = (u64, u64);

/// Changes the value of its key.
#[derive(Clone, Default)]
struct Touch {
    value: ValueState<[u64; VALUE_WORDS]>,
}

impl KeyedProcessFunction<Id, Id> for Touch {
    type Out = u64;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.value = ctx.value("value", StateSpec::kept_until_cleared());
    }

    fn process(&mut self, id: Id, ctx: &mut KeyedContext<'_, Id>, out: &mut impl Output<u64>) {
        let count = self.value.update(ctx, |value| {
            value[1 + id.0 as usize % (VALUE_WORDS - 1)] ^= id.1;
            value[0] += 1;
            value[0]
        });
        out.collect(count);
    }
}

/// When the keys were loaded and when the job ended, with the processor time so far.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Instant,
    cpu: Duration,
}

impl Mark {
    fn now() -> Self {
        Self { at: Instant::now(), cpu: process::cpu_time() }
    }
}

/// What a run took.
struct Took {
    load_ns: f64,
    update_us: f64,
    update_cpu_us: f64,
    peak_mib: f64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let Options { keys, updates, memory, .. } = options;
    let data_mib = (keys * RECORD_BYTES) as f64 / f64::from(1 << 20);
    println!("{keys} keys of {RECORD_BYTES} bytes = {data_mib:.0} MiB, {updates} updates");
    println!("{:28} {:>10} {:>12} {:>12} {:>12}", "", "load ns", "update us", "CPU us", "peak");
    let everything = ByteCount(4 * keys * RECORD_BYTES + (256 << 20));
    let hot_keys = memory.0 / RECORD_BYTES / 8;
    for (name, memory, hot_keys) in [
        ("memory short, uniform", memory, 0),
        ("memory short, 9 of 10 hot", memory, hot_keys),
        ("memory for everything", everything, 0),
    ] {
        let took = run(&options, memory, hot_keys)?;
        let Took { load_ns, update_us, update_cpu_us, peak_mib } = took;
        println!(
            "{name:28} {load_ns:10.0} {update_us:12.2} {update_cpu_us:12.2} {peak_mib:8.0} MiB"
        );
    }
    Ok(())
}

fn run(options: &Options, memory: ByteCount, hot_keys: u64) -> anyhow::Result<Took> {
    let (keys, updates) = (options.keys, options.updates);
    let id_of = move |number: u64| {
        let key = match number.checked_sub(keys) {
            None => number,
            Some(update) if hot_keys != 0 && update % 10 != 0 => mix(update) % hot_keys,
            Some(update) => mix(update) % keys,
        };
        (key, mix(key))
    };
    let loaded = Arc::new(Mutex::new(None));
    let at_sink = Arc::clone(&loaded);
    let mut seen = 0;
    let job = Job::new("spilled-state");
    job.source("numbers", GeneratorSource::new(keys + updates, id_of))
        .key_by(|id| *id)
        .process("touch", Touch::default())
        .sink(
            "tally",
            ForEachSink::new(move |count: u64| {
                std::hint::black_box(count);
                seen += 1;
                if seen == keys {
                    let mut loaded = at_sink.lock().unwrap_or_else(PoisonError::into_inner);
                    *loaded = Some(Mark::now());
                }
            }),
        );
    let config = Config {
        memory_per_shard: Some(memory),
        state_directory: options.directory.clone(),
        ..stopwatch::spinning()
    };
    let plan = job.plan(1, config.key_group_count)?;
    let begun = Mark::now();
    millstream::runtime::node::run(&plan.program, &config, false)?;
    let ended = Mark::now();
    let loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.ok_or_else(|| anyhow::anyhow!("the keys were not loaded"))?;
    let us = |duration: Duration| duration.as_secs_f64() * 1e6;
    Ok(Took {
        load_ns: us(loaded.at - begun.at) * 1e3 / keys as f64,
        update_us: us(ended.at - loaded.at) / updates as f64,
        update_cpu_us: us(ended.cpu.saturating_sub(loaded.cpu)) / updates as f64,
        peak_mib: process::peak_mib(),
    })
}

/// Spreads numbers over all 64 bits (the finalizer of splitmix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
