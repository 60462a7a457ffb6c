//! A log: records on disk that jobs write once and read as often as they like.
//!
//! ```text
//! job ─► LogSink ─► partition 0: segment, segment, segment being written ─► LogSource ─► job
//!                   partition 1: segment, segment being written           ─► LogSource ─► job
//! ```
//!
//! What a broker with transactions is for jobs on many machines, a directory is for those on one: a
//! [`LogSink`] appends records to partitions, and what it wrote since the last checkpoint appears
//! as a whole when the next is complete; a [`LogSource`] reads what has appeared, from any record
//! on, and follows what comes. Neither needs a process beside the jobs.
//!
//! **A partition is a sequence of records**, numbered from 0, and never changes but at its ends: it
//! grows, and retention removes its oldest segments. One task writes it: a lock keeps other runs
//! and other jobs away, and an exchange brings each record to the task that has its partition, so
//! any number of tasks gives the same order of records of a key.
//!
//! **Committed** is what a complete checkpoint speaks of. Each segment says in its head how much of
//! it is, in two slots of which a commit overwrites the older; a segment that has its name says
//! that all before it is. Readers believe nothing else. What a crash left behind that is removed
//! when the next run takes the partition, and what a checkpoint speaks of is committed then.
//!
//! **Batches carry the index**: what is passed over on the way to a record or to a time is a head
//! of 40 bytes for each 128 KiB, and a name and a slot for each segment.
//!
//! Files: `format.rs` bytes, `name.rs` names; `sink.rs`, `partition.rs`, `segment.rs`, `take.rs`
//! write; `source.rs`, `reader.rs`, `partition_reader.rs`, `open_segment.rs` read. The format is
//! described byte by byte in `docs/formats/log.md`.

pub mod format;
pub mod name;
mod open_segment;
mod partition;
mod partition_reader;
mod reader;
mod segment;
pub mod sink;
pub mod source;
mod take;

#[cfg(test)]
mod tests;

pub use sink::LogSink;
pub use source::LogSource;

use std::io;
use std::path::Path;

use millstream_storage::io::FileFault;

use crate::data::bytes::BadBytes;
use crate::error::Error;

/// What to do about a file of a log that cannot be used.
fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "put the log there, or correct the path",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room there, with .retain_bytes(..) or by hand, then start the job again"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "let the user that runs the job read and write there"
        }
        io::ErrorKind::WouldBlock => {
            "another run of this job, or another job, writes to the log: stop it, or write \
             elsewhere"
        }
        _ => "check the disk (what it reported last may be lost), then start the job again",
    }
}

/// Whether something failed because its file is not there.
fn is_gone(fault: &FileFault) -> bool {
    fault.source.kind() == io::ErrorKind::NotFound
}

/// Bytes of a segment are not what was written; places in them count from `offset`.
fn damaged(path: &Path, offset: u64, bad: BadBytes) -> Error {
    let (what, offset) = (path.display().to_string(), offset + bad.at as u64);
    Error::Corrupt { what, offset, reason: bad.what.to_string() }
}
