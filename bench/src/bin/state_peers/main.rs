//! Millstream's state beside what one would take otherwise: a `hashbrown` table that holds plain
//! values, and, built with the feature `peers`, RocksDB as Flink tunes it.
//!
//! ```text
//! round 1   hashbrown  ValueState  KeyTable  …  RocksDB     one after the other, the same keys
//! round 2   hashbrown  ValueState  KeyTable  …  RocksDB     in the same order
//! ```
//!
//! A cell is the median over rounds, and a ratio that of the ratios within a round, so the moods of
//! the machine meet all. One pinned thread; the threads of RocksDB and of the disk run where they
//! want. Keys, hashes and their order are made before the clock starts.
//!
//! `cargo run --release -p millstream-bench --features peers --bin state_peers`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

mod checkpoint;
mod collections;
mod engine;
mod keys;
#[cfg(feature = "peers")]
mod rocks;
#[cfg(feature = "peers")]
mod rocks_timers;
mod stores;
mod timers;
mod value;

use std::fmt;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use millstream::runtime::cpu;

/// Compares Millstream's state with its peers.
#[derive(Debug, Parser)]
struct Options {
    /// Keys, one comparison for each number.
    #[arg(long, value_delimiter = ',', default_value = "1000000,10000000")]
    keys: Vec<u64>,
    /// Operations of each store in a round; RocksDB does a twentieth.
    #[arg(long, default_value_t = 2_000_000)]
    operations: usize,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// What is compared.
    #[arg(long, value_delimiter = ',', default_value = "value,memory")]
    only: Vec<Part>,
    /// Only these stores, by name, and hashbrown.
    #[arg(long, value_delimiter = ',')]
    stores: Vec<String>,
    /// Where files are made.
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// Core to run on.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// Fills one store, prints its memory and ends: how this program calls itself.
    #[arg(long, hide = true)]
    memory_of: Option<String>,
}

impl Options {
    fn wants(&self, store: &str) -> bool {
        self.stores.is_empty() || store == "hashbrown" || self.stores.iter().any(|it| it == store)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A value that is read, changed and written.
    Value,
    /// Resident memory.
    Memory,
    /// Checkpoints.
    Checkpoint,
    /// Timers, one for each key.
    Timers,
    /// Maps and lists, with so many entries.
    Collections,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    // The threads of RocksDB begin with the first database, and may run where this one may.
    #[cfg(feature = "peers")]
    drop(rocks::Rocks::new(&options.directory));
    let other = cpu::cores().into_iter().find(|core| core.0 != options.core);
    core_affinity::set_for_current(core_affinity::CoreId { id: options.core });
    if let Some(name) = &options.memory_of {
        return value::fill(name, options.keys[0], &options);
    }
    for part in &options.only {
        for key_count in &options.keys {
            match part {
                Part::Value => value::compare(*key_count, &options)?,
                Part::Memory => value::memory(*key_count, &options)?,
                Part::Collections => collections::compare(*key_count, &options),
                Part::Timers => timers::compare(*key_count, &options),
                Part::Checkpoint => checkpoint::compare(*key_count, other, &options)?,
            }
        }
    }
    Ok(())
}

fn print(line: impl fmt::Display) {
    println!("{line}");
}
