//! What the host's floor costs: the ring between two shards, the clock, and the storage service
//! with either driver.
//!
//! Rings are measured between two pinned, spinning threads; files in a temporary directory below
//! `--directory`, from a thread that polls, so that its own wake-up is not in the numbers.
//!
//! `cargo run --release -p millstream-bench --bin host_floor [-- --directory .]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::hint::spin_loop;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use hdrhistogram::Histogram;
use millstream::runtime::clock::Clock;
use millstream::runtime::cpu::{self, Core};
use millstream::runtime::parking::Parker;
use millstream::runtime::spsc;
use millstream::runtime::storage_service::{StorageDriver, StorageHandle, StorageService};
use millstream_storage::io::{FileDone, FileId, FileOp, OpId, OpenMode};

/// What travels between shards, by size and alignment.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Descriptor([u64; 8]);

const RING_SLOTS: usize = 1024;
const BLOCK_BYTES: usize = 4096;

/// Measures the host's floor.
#[derive(Debug, Parser)]
struct Options {
    /// Descriptors sent through the ring.
    #[arg(long, default_value_t = 50_000_000)]
    descriptors: u64,
    /// Operations per file benchmark.
    #[arg(long, default_value_t = 10_000)]
    operations: u64,
    /// Where files are made.
    #[arg(long, default_value = ".")]
    directory: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let cores = cpu::cores();
    let [first, second, ..] = cores[..] else { anyhow::bail!("two cores are needed") };
    for batch in [1, 8, 64] {
        let rate = ring_rate(first, second, options.descriptors, batch);
        println!("ring, 64-byte descriptors in batches of {batch:2}: {rate:6.1} M/s");
    }
    println!("ring, one way: {:.0} ns", ring_hop_ns(first, second));
    println!("clock: {:.1} ns", clock_ns());
    let directory = tempfile::tempdir_in(&options.directory)?;
    for driver in [StorageDriver::Glommio, StorageDriver::Ring] {
        files(driver, second, directory.path(), options.operations)?;
    }
    Ok(())
}

/// Million descriptors per second.
fn ring_rate(first: Core, second: Core, count: u64, batch: usize) -> f64 {
    let (mut producer, mut consumer) = spsc::ring::<Descriptor>(RING_SLOTS);
    let begun = Instant::now();
    let sender = thread::spawn(move || {
        cpu::pin(first);
        let mut sent = 0;
        while sent < count {
            for _ in 0..batch {
                while producer.stage(Descriptor([sent; 8])).is_err() {
                    producer.publish();
                    spin_loop();
                }
                sent += 1;
            }
            producer.publish();
        }
    });
    // Not this thread: what it starts later would be pinned with it.
    let receiver = thread::spawn(move || {
        cpu::pin(second);
        let (mut taken, mut received) = (Vec::with_capacity(RING_SLOTS), 0);
        while received < count {
            if consumer.pop_into(&mut taken, 256) == 0 {
                spin_loop();
            }
            for descriptor in taken.drain(..) {
                assert_eq!(descriptor.0[7], received, "in order");
                received += 1;
            }
        }
        begun.elapsed()
    });
    sender.join().expect("the sender does not panic");
    let took = receiver.join().expect("the receiver does not panic");
    count as f64 / took.as_secs_f64() / 1e6
}

/// Half a round trip.
fn ring_hop_ns(first: Core, second: Core) -> f64 {
    const ROUND_COUNT: u32 = 1_000_000;
    let (mut there_in, mut there_out) = spsc::ring::<Descriptor>(RING_SLOTS);
    let (mut back_in, mut back_out) = spsc::ring::<Descriptor>(RING_SLOTS);
    let echo = thread::spawn(move || {
        cpu::pin(first);
        for _ in 0..ROUND_COUNT {
            back_in.push(wait_for(&mut there_out)).expect("one is under way");
        }
    });
    let caller = thread::spawn(move || {
        cpu::pin(second);
        let begun = Instant::now();
        for _ in 0..ROUND_COUNT {
            there_in.push(Descriptor([0; 8])).expect("one is under way");
            wait_for(&mut back_out);
        }
        begun.elapsed()
    });
    echo.join().expect("the echo does not panic");
    let took = caller.join().expect("the caller does not panic");
    took.as_nanos() as f64 / f64::from(ROUND_COUNT) / 2.0
}

fn wait_for(ring: &mut spsc::Consumer<Descriptor>) -> Descriptor {
    loop {
        if let Some(descriptor) = ring.pop() {
            return descriptor;
        }
        spin_loop();
    }
}

fn clock_ns() -> f64 {
    const READ_COUNT: u32 = 10_000_000;
    let clock = Clock::start();
    let (begun, mut last) = (clock.now(), Duration::ZERO);
    for _ in 0..READ_COUNT {
        last = last.max(clock.now());
    }
    last.saturating_sub(begun).as_nanos() as f64 / f64::from(READ_COUNT)
}

/// A requester of the storage service.
struct Disk {
    handle: StorageHandle,
    start: Instant,
    next_op: u64,
    done: Vec<FileDone>,
}

impl Disk {
    fn ask(&mut self, op: impl FnOnce(OpId) -> FileOp) {
        self.handle.submit(op(OpId(self.next_op)));
        self.next_op += 1;
    }

    /// Waits until at most `count` operations are outstanding.
    fn wait(&mut self, count: usize) -> anyhow::Result<()> {
        while self.handle.outstanding_count() > count {
            self.handle.poll(self.start.elapsed(), &mut self.done);
            for done in self.done.drain(..) {
                done.result?;
            }
            thread::yield_now();
        }
        Ok(())
    }
}

fn files(driver: StorageDriver, core: Core, path: &Path, count: u64) -> anyhow::Result<()> {
    let waker = Parker::with_eventfd()?.waker();
    let (service, mut handles) = StorageService::start(driver, Some(core), vec![waker])?;
    let handle = handles.pop().context("one handle per waker")?;
    let mut disk = Disk { handle, start: Instant::now(), next_op: 0, done: Vec::new() };
    let (file, path) = (FileId(0), path.join("file"));

    let mode = OpenMode::CreateDirect;
    disk.ask(|op| FileOp::Open { op, file, path: path.clone(), mode });
    let piece_bytes = 1 << 20;
    let begun = Instant::now();
    for piece in 0..1024 {
        let (offset, bytes) = (piece * piece_bytes, vec![7; piece_bytes as usize]);
        disk.ask(|op| FileOp::Write { op, file, offset, bytes });
        disk.wait(4)?;
    }
    disk.wait(0)?;
    let rate = 1024.0 * piece_bytes as f64 / begun.elapsed().as_secs_f64() / 1e9;
    println!("{driver:?}: 1 MiB direct writes, 4 at once: {rate:.2} GB/s");
    let written = latencies(count / 10, |round| {
        let (offset, bytes) = (round % 1024 * BLOCK_BYTES as u64, vec![1; BLOCK_BYTES]);
        disk.ask(|op| FileOp::Write { op, file, offset, bytes });
        disk.ask(|op| FileOp::Sync { op, file });
        disk.wait(0)
    })?;
    println!("{driver:?}: 4 KiB direct write and sync: {}", quantiles(&written));
    disk.ask(|op| FileOp::Close { op, file });
    disk.ask(|op| FileOp::Open { op, file, path: path.clone(), mode: OpenMode::ReadDirect });
    disk.wait(0)?;

    let mut place = 0_u64;
    let mut next_read = |op| {
        place = (place * 5 + 12_345) % (1 << 18);
        FileOp::Read { op, file, offset: place * BLOCK_BYTES as u64, len: BLOCK_BYTES }
    };
    let read = latencies(count, |_| {
        disk.ask(&mut next_read);
        disk.wait(0)
    })?;
    println!("{driver:?}: 4 KiB direct read: {}", quantiles(&read));
    let begun = Instant::now();
    for _ in 0..count * 10 {
        disk.ask(&mut next_read);
        disk.wait(31)?;
    }
    disk.wait(0)?;
    let rate = count as f64 * 10.0 / begun.elapsed().as_secs_f64() / 1e3;
    println!("{driver:?}: 4 KiB direct reads, 32 at once: {rate:.0} k/s");
    disk.ask(|op| FileOp::Close { op, file });
    disk.wait(0)?;
    service.stop();
    Ok(())
}

/// Microseconds that each round took.
fn latencies(
    count: u64,
    mut round: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<Histogram<u64>> {
    let mut histogram = Histogram::new(3)?;
    for number in 0..count {
        let begun = Instant::now();
        round(number)?;
        histogram.record(begun.elapsed().as_micros() as u64)?;
    }
    Ok(histogram)
}

fn quantiles(histogram: &Histogram<u64>) -> String {
    let of = |quantile| histogram.value_at_quantile(quantile);
    format!("p50 {} µs, p99 {} µs, p99.9 {} µs", of(0.5), of(0.99), of(0.999))
}
