//! A process that writes, syncs and reads a file in rounds, and prints a line after each, until it
//! is killed. `storage_conformance/process.rs` stops and continues it.
//!
//! Usage: `storage-worker glommio|ring`. Exits with an error after 20 s without progress.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use millstream::runtime::parking::Parker;
use millstream::runtime::storage_service::{StorageDriver, StorageHandle, StorageService};
use millstream_storage::io::{FileDone, FileId, FileOp, OpId, OpenMode};

const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> anyhow::Result<()> {
    let driver = match std::env::args().nth(1).as_deref() {
        Some("glommio") => StorageDriver::Glommio,
        Some("ring") => StorageDriver::Ring,
        other => bail!("the driver is glommio or ring, not {other:?}"),
    };
    let waker = Parker::with_eventfd()?.waker();
    let (_service, mut handles) = StorageService::start(driver, None, vec![waker])?;
    let mut handle = handles.pop().context("one handle per waker")?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("file");
    let start = Instant::now();
    let file = FileId(0);
    for round in 0.. {
        for mode in [OpenMode::Create, OpenMode::CreateDirect, OpenMode::ReadDirect] {
            let mut op = OpId(0);
            let mut next = || {
                op = OpId(op.0 + 1);
                op
            };
            handle.submit(FileOp::Open { op: next(), file, path: path.clone(), mode });
            for block in 0..4 {
                let offset = block * 4096;
                handle.submit(if mode.creates() {
                    FileOp::Write { op: next(), file, offset, bytes: vec![1; 4096] }
                } else {
                    FileOp::Read { op: next(), file, offset, len: 4096 }
                });
            }
            handle.submit(FileOp::Sync { op: next(), file });
            handle.submit(FileOp::Close { op: next(), file });
            for done in answers(&mut handle, start)? {
                done.result?;
            }
        }
        writeln!(std::io::stdout(), "{round}")?;
    }
    Ok(())
}

/// Waits for everything that is outstanding.
fn answers(handle: &mut StorageHandle, start: Instant) -> anyhow::Result<Vec<FileDone>> {
    let asked = Instant::now();
    let mut done = Vec::new();
    while handle.outstanding_count() > 0 {
        if handle.poll(start.elapsed(), &mut done) == 0 {
            thread::yield_now();
        }
        let count = handle.outstanding_count();
        ensure!(asked.elapsed() < PATIENCE, "{count} operations are not answered");
    }
    Ok(done)
}
