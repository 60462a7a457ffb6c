//! What it costs to archive a batch, and to read it.
//!
//! Nanoseconds per row of a full batch, on one pinned core: plain records, whose batch is copied as
//! a whole; and records with a string, which are archived one by one. `measure` is what a channel
//! does with a row when it comes, to know whether it fits.
//!
//! `cargo run --release -p millstream-bench --bin encode [-- --rounds 20000 --core 0]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::hint::black_box;
use std::time::Instant;

use clap::Parser;
use millstream::data::archived_row::is_plain;
use millstream::data::frame::Frame;
use millstream::data::row::Origin;
use millstream::limits::INPUT_BUDGET_RECORDS;
use millstream::prelude::*;
use millstream_bench::contest::Spread;
use millstream_storage::arena::Buffer;
use rkyv::ser::allocator::Arena;

/// Measures archiving.
#[derive(Debug, Clone, Copy, Parser)]
struct Options {
    /// Batches of a measurement.
    #[arg(long, default_value_t = 20_000)]
    rounds: usize,
    /// Core to run on.
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// Measurements; the median counts.
const RUNS: usize = 15;

#[derive(Debug, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Named {
    id: u64,
    amount: i64,
    name: String,
}

fn main() {
    let options = Options::parse();
    core_affinity::set_for_current(core_affinity::CoreId { id: options.core });
    let named = |n: u64| Named { id: n, amount: -1, name: format!("a merchant's name, {n:03}") };
    measure("[u64; 8]", options.rounds, |n| [n; 8]);
    measure("u64, i64 and a string of 22 bytes", options.rounds, named);
}

fn measure<T: Record>(title: &str, rounds: usize, value: impl Fn(u64) -> T) {
    let row =
        |n: u64| Row { hash64: n << 32, ..Row::new(value(n), n as i64, Origin::new(0, 0, n)) };
    let rows: Vec<Row<T>> = (0..u64::from(INPUT_BUDGET_RECORDS)).map(row).collect();
    let mut arena = Arena::new();
    let measured = ns_per_row(&rows, rounds, |rows| {
        // As a channel does.
        if !is_plain::<T>() {
            let mut end = 0;
            for row in rows {
                end = T::measure(row, end, 1 << 20, &mut arena).expect("small rows");
            }
            black_box(end);
        }
    });
    let mut buffer = Some(Buffer::heap(64 << 10));
    let encoded = ns_per_row(&rows, rounds, |rows| {
        let frame = Frame::encode(rows, buffer.take().expect("it comes back")).expect("it fits");
        buffer = Some(black_box(frame).into_buffer());
    });
    let frame = Frame::encode(&rows, Buffer::heap(64 << 10)).expect("it fits");
    let decoded = ns_per_row(&rows, rounds, |_| {
        for row in black_box(&frame).rows::<T>() {
            black_box(row.to_row());
        }
    });
    println!("{title}");
    println!("  measure {measured:.2}   encode {encoded:.2}   decode {decoded:.2}   ns a row");
}

fn ns_per_row<T>(rows: &[Row<T>], rounds: usize, mut work: impl FnMut(&[Row<T>])) -> Spread {
    let runs = (0..RUNS).map(|_| {
        let begun = Instant::now();
        for _ in 0..rounds {
            work(black_box(rows));
        }
        begun.elapsed().as_nanos() as f64 / (rounds * rows.len()) as f64
    });
    Spread::of(runs.collect::<Vec<_>>())
}
