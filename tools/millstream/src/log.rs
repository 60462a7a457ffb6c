//! `millstream log`: looks at a log on disk.
//!
//! What is committed is found as a reader finds it: a segment has what its slot says, or, if there
//! is one behind it, all up to where that begins. Nothing is changed, and jobs may write and read
//! meanwhile: what they commit after the directory was listed is not looked at.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use millstream::connector::log::format::{
    BATCH_HEAD_BYTES, BatchHead, DATA_AT, Head, Slot, record_at,
};
use millstream::connector::log::name::{SegmentId, Stage};
use millstream::data::bytes::BadBytes;

use crate::Outcome;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Prints a line for each partition and for each of its segments. Reads heads.
    Inspect {
        /// The directory of the log.
        directory: PathBuf,
    },
    /// Reads every committed byte, and prints the first damage of each segment.
    Verify {
        /// The directory of the log.
        directory: PathBuf,
    },
    /// Prints records, a line each: partition, number, event time, bytes as text.
    Dump {
        /// The directory of the log.
        directory: PathBuf,
        /// Only this partition.
        #[arg(long)]
        partition: Option<u32>,
        /// From this record on.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// So many records at most.
        #[arg(long)]
        limit: Option<u64>,
    },
}

/// Carries the command out.
pub(crate) fn run<W: Write>(
    command: &LogCommand,
    out: &mut Output<W>,
    err: &mut impl Write,
) -> Outcome {
    let outcome = match command {
        LogCommand::Inspect { directory } => inspect(directory, out),
        LogCommand::Verify { directory } => verify(directory, out),
        LogCommand::Dump { directory, partition, from, limit } => {
            dump(directory, (*partition, *from), limit.unwrap_or(u64::MAX), out)
        }
    };
    outcome.unwrap_or_else(|failure| {
        // Who cannot be told cannot be told that either; the exit code says it.
        let _ = writeln!(err, "{failure}");
        failure.outcome()
    })
}

/// Why a command could not go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("could not {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Damage { path: PathBuf, offset: u64, what: &'static str },
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    #[error("there is no log in {}", .0.display())]
    Nothing(PathBuf),
}

impl Failure {
    fn outcome(&self) -> Outcome {
        if matches!(self, Self::Damage { .. }) { Outcome::Damaged } else { Outcome::Failed }
    }
}

/// A segment of the log.
struct Segment {
    id: SegmentId,
    path: PathBuf,
    file: BufReader<File>,
    head: Head,
    slot: Slot,
    /// Number behind its last committed record.
    end: u64,
}

impl Segment {
    fn open(id: SegmentId, path: PathBuf) -> Result<Self, Failure> {
        let failure = |source| Failure::File { action: "open", path: path.clone(), source };
        let mut file = BufReader::with_capacity(256 << 10, File::open(&path).map_err(failure)?);
        let bytes = read(&mut file, DATA_AT as usize, &path)?;
        let damage = |bad: BadBytes| damage(&path, 0, bad);
        let (head, slot) =
            (Head::decode(&bytes).map_err(damage)?, Slot::newest(&bytes).map_err(damage)?);
        Ok(Self { id, file, head, slot, end: slot.end, path })
    }

    /// Gives each committed batch from record `from` on to `each`, until that says it is enough.
    fn batches(
        &mut self,
        from: u64,
        mut each: impl FnMut(BatchHead, &[u8]) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let (mut at, mut next) = (DATA_AT, self.id.base);
        while next < self.end {
            let mut bytes = read(&mut self.file, BATCH_HEAD_BYTES, &self.path)?;
            let damage = |bad: BadBytes| damage(&self.path, at, bad);
            let head = BatchHead::decode(&bytes).map_err(damage)?;
            if head.base != next || self.end < head.end() || head.end() == next {
                let what = "its records are not those that are expected";
                return Err(damage(BadBytes { at: 8, what }));
            }
            let rest = head.bytes - BATCH_HEAD_BYTES;
            if head.end() <= from {
                let passed = self.file.seek(SeekFrom::Current(rest as i64));
                let path = self.path.clone();
                passed.map_err(|source| Failure::File { action: "read", path, source })?;
            } else {
                bytes.append(&mut read(&mut self.file, rest, &self.path)?);
                head.check(&bytes).map_err(damage)?;
                if !each(head, &bytes)? {
                    return Ok(());
                }
            }
            (at, next) = (at + head.bytes as u64, head.end());
        }
        Ok(())
    }
}

fn damage(path: &Path, at: u64, bad: BadBytes) -> Failure {
    Failure::Damage { path: path.to_path_buf(), offset: at + bad.at as u64, what: bad.what }
}

/// The next `len` bytes.
fn read(file: &mut BufReader<File>, len: usize, path: &Path) -> Result<Vec<u8>, Failure> {
    let failure = |source| Failure::File { action: "read", path: path.to_path_buf(), source };
    let at = file.stream_position().map_err(failure)?;
    let mut bytes = Vec::new();
    file.take(len as u64).read_to_end(&mut bytes).map_err(failure)?;
    if bytes.len() < len {
        let what = "it ends within what is committed";
        return Err(damage(path, at, BadBytes { at: bytes.len(), what }));
    }
    Ok(bytes)
}

/// The names of the segments of each partition, in their order.
fn names(directory: &Path) -> Result<BTreeMap<u32, Vec<SegmentId>>, Failure> {
    let failure = |source| Failure::File { action: "list", path: directory.to_path_buf(), source };
    let mut partitions: BTreeMap<u32, Vec<SegmentId>> = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(failure)? {
        if let Some((id, Stage::Committed)) = SegmentId::of(&entry.map_err(failure)?.path()) {
            partitions.entry(id.partition).or_default().push(id);
        }
    }
    for segments in partitions.values_mut() {
        segments.sort_unstable();
    }
    if partitions.is_empty() {
        return Err(Failure::Nothing(directory.to_path_buf()));
    }
    Ok(partitions)
}

/// Each segment in its order, with what is committed of it; or why it cannot be read.
fn segments(
    directory: &Path,
    ids: &[SegmentId],
) -> impl Iterator<Item = (SegmentId, Result<Segment, Failure>)> {
    ids.iter().enumerate().map(|(index, id)| {
        let segment = Segment::open(*id, directory.join(id.name(Stage::Committed)));
        let next = ids.get(index + 1);
        (*id, segment.map(|it| Segment { end: next.map_or(it.end, |next| next.base), ..it }))
    })
}

fn inspect<W: Write>(directory: &Path, out: &mut Output<W>) -> Result<Outcome, Failure> {
    let partitions = names(directory)?;
    for (number, ids) in &partitions {
        let mut found = Vec::new();
        for (_, segment) in segments(directory, ids) {
            found.push(segment?);
        }
        let last = found.last().expect("a partition that was listed has a segment");
        let (first, end, Head { partition_count, format, .. }) =
            (ids[0].base, last.end, &last.head);
        writeln!(
            out,
            "partition {number} of {partition_count}: records {first}..{end} ({format}), committed \
             {} ms",
            last.slot.committed_ms
        )?;
        for Segment { id, slot, end, .. } in &found {
            write!(out, "  {id}  records {}..{end}", id.base)?;
            match slot.last_time_ms {
                i64::MIN => writeln!(out)?,
                ms => writeln!(out, ", event time up to {ms} ms")?,
            }
        }
    }
    Ok(Outcome::Sound)
}

fn verify<W: Write>(directory: &Path, out: &mut Output<W>) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::Sound;
    for ids in names(directory)?.values() {
        let mut previous = None;
        for (id, segment) in segments(directory, ids) {
            let checked = segment.and_then(|segment| check(segment, previous));
            previous = Some(id);
            match checked {
                Ok(records) => writeln!(out, "{id}: sound, {records} records")?,
                Err(failure @ (Failure::Damage { .. } | Failure::File { .. })) => {
                    writeln!(out, "{failure}")?;
                    outcome = outcome.max(failure.outcome());
                }
                Err(failure) => return Err(failure),
            }
        }
    }
    Ok(outcome)
}

/// Reads all that is committed of a segment: how many records that is.
fn check(mut segment: Segment, previous: Option<SegmentId>) -> Result<u64, Failure> {
    if segment.head.id != segment.id || (previous.is_some() && segment.head.previous != previous) {
        let what = "it is not the segment behind the one before it";
        return Err(damage(&segment.path, 0, BadBytes { at: 20, what }));
    }
    let path = segment.path.clone();
    segment.batches(0, |head, bytes| {
        let mut at = BATCH_HEAD_BYTES;
        for _ in 0..head.record_count {
            (_, _, at) = record_at(bytes, at).map_err(|bad| damage(&path, 0, bad))?;
        }
        Ok(true)
    })?;
    Ok(segment.end - segment.id.base)
}

fn dump<W: Write>(
    directory: &Path,
    (partition, from): (Option<u32>, u64),
    mut left: u64,
    out: &mut Output<W>,
) -> Result<Outcome, Failure> {
    let partitions = names(directory)?;
    let wanted = partitions.iter().filter(|(number, _)| partition.is_none_or(|it| it == **number));
    for (number, ids) in wanted {
        for (_, segment) in segments(directory, ids) {
            let mut segment = segment?;
            let path = segment.path.clone();
            segment.batches(from, |head, bytes| {
                let mut at = BATCH_HEAD_BYTES;
                for record in head.base..head.end() {
                    let (time_ms, text, next) =
                        record_at(bytes, at).map_err(|bad| damage(&path, 0, bad))?;
                    at = next;
                    if from <= record && 0 < left {
                        left -= 1;
                        let text = String::from_utf8_lossy(text);
                        let text = text.trim_end_matches('\n');
                        match time_ms {
                            i64::MIN => writeln!(out, "{number} {record} - {text}")?,
                            _ => writeln!(out, "{number} {record} {time_ms} {text}")?,
                        }
                    }
                }
                Ok(0 < left && !out.is_closed())
            })?;
            if left == 0 || out.is_closed() {
                return Ok(Outcome::Sound);
            }
        }
    }
    Ok(Outcome::Sound)
}
