//! Writes the input: what a bank would find in its log.
//!
//! ```text
//! payments/0.csv .. 7.csv   a card's payments are all in one file, in the order they were received
//! rules.jsonl               one rule a line
//! ```
//!
//! Some lines of the payments cannot be read. They are additional: no payment is lost.

#![allow(
    clippy::disallowed_methods,
    reason = "it writes what the job reads before there is a host"
)]

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::world::World;

/// Files that the payments are spread over, by card.
const FILE_COUNT: u64 = 8;

/// After one payment in this many comes a line that cannot be read.
const BROKEN_ONE_IN: u64 = 20_000;

/// Ways in which lines are broken.
const BROKEN_LINES: [&str; 4] = [
    "17,4000000000000001,12,9.99 EUR,1767225600000,1767225600000",
    "17,4000000000000001,12,-500,1767225600000,1767225600000",
    "17,4000000000000001,12",
    "17,4000000000000001,12,500,yesterday,1767225600000",
];

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Payments.
    pub payment_count: u64,
    /// Those of them that were received late.
    pub late_count: u64,
    /// Lines that cannot be read.
    pub broken_count: u64,
}

/// Writes everything that happened in `world` to `folder`, in place of what was there, and of what
/// a job made of that.
///
/// # Errors
/// If a file cannot be written.
pub fn write(world: &World, folder: &Path) -> io::Result<Written> {
    for name in ["payments", "alerts", "late", "dead-letters"] {
        let old = folder.join(name);
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    fs::create_dir_all(folder.join("payments"))?;
    write_rules(world, &folder.join("rules.jsonl"))?;
    write_payments(world, folder)
}

/// The files that are written to `folder`.
pub fn paths(folder: &Path) -> Vec<PathBuf> {
    let payments = (0..FILE_COUNT).map(|index| payments_path(folder, index));
    payments.chain([folder.join("rules.jsonl")]).collect()
}

fn payments_path(folder: &Path, index: u64) -> PathBuf {
    folder.join(format!("payments/{index}.csv"))
}

fn write_rules(world: &World, path: &Path) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for rule in world.rules() {
        serde_json::to_writer(&mut file, &rule)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

fn write_payments(world: &World, folder: &Path) -> io::Result<Written> {
    let mut files = Vec::new();
    for index in 0..FILE_COUNT {
        let mut file = BufWriter::new(File::create(payments_path(folder, index))?);
        writeln!(file, "id,card,merchant,amount_cents,at_ms,received_ms")?;
        files.push(file);
    }
    let mut written = Written::default();
    for payment in world.payments() {
        let file = &mut files[(payment.card % FILE_COUNT) as usize];
        writeln!(
            file,
            "{},{},{},{},{},{}",
            payment.id,
            payment.card,
            payment.merchant,
            payment.amount_cents,
            payment.at_ms,
            payment.received_ms
        )?;
        written.payment_count += 1;
        written.late_count += u64::from(payment.is_late());
        if payment.id % BROKEN_ONE_IN == BROKEN_ONE_IN - 1 {
            let line = BROKEN_LINES[written.broken_count as usize % BROKEN_LINES.len()];
            writeln!(file, "{line}")?;
            written.broken_count += 1;
        }
    }
    files.iter_mut().try_for_each(Write::flush)?;
    Ok(written)
}
