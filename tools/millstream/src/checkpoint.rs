//! `millstream checkpoint`: looks at the checkpoints of a directory.
//!
//! Nothing is changed, and a job may be running meanwhile: a checkpoint that it removes between two
//! looks is told as one that is not there.

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use millstream::checkpoint::Ended;
use millstream::checkpoint::directory::{Files as _, Restored, ended, open};
use millstream::checkpoint::manifest::{Kind, Manifest};
use millstream::checkpoint::names::FileName;
use millstream::error::Error;
use millstream::runtime::checkpoint_directory::SystemFiles;
use millstream::state::snapshot::{OperatorSummary, RunTo};

use crate::Outcome;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Prints a line for each checkpoint: number, kind, time, job, shards, bytes. Reads manifests.
    List {
        /// A checkpoint directory, or that of a savepoint.
        directory: PathBuf,
    },
    /// Prints what a checkpoint has: its operators and their states. Reads all of it.
    Inspect {
        /// A manifest, or a directory, of which it is the newest that is whole.
        path: PathBuf,
    },
    /// Reads every file of every checkpoint, and prints the first damage of each.
    Verify {
        /// A checkpoint directory, or that of a savepoint.
        directory: PathBuf,
    },
}

/// Carries the command out.
pub(crate) fn run<W: Write>(
    command: &CheckpointCommand,
    out: &mut Output<W>,
    err: &mut impl Write,
) -> Outcome {
    let outcome = match command {
        CheckpointCommand::List { directory } => each(directory, out, |path, out| {
            list(&manifest(path)?, out)?;
            Ok(())
        }),
        CheckpointCommand::Verify { directory } => each(directory, out, |path, out| {
            let restored = open(&SystemFiles, path)?;
            writeln!(out, "{}: sound", path.display())?;
            drop(restored);
            Ok(())
        }),
        CheckpointCommand::Inspect { path } => look(path, out).map(|()| Outcome::Sound),
    };
    match outcome {
        Ok(outcome) => outcome,
        Err(failure) => tell(&failure, err),
    }
}

/// Why a command could not go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}", .0.chain())]
    Checkpoint(#[from] Error),
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    #[error("there is no checkpoint in {}", .0.display())]
    Nothing(PathBuf),
}

impl Failure {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Checkpoint(Error::Corrupt { .. }) => Outcome::Damaged,
            Self::Checkpoint(Error::System { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Outcome::Damaged
            }
            _ => Outcome::Failed,
        }
    }
}

fn tell(failure: &Failure, err: &mut impl Write) -> Outcome {
    // Who cannot be told cannot be told that either; the exit code says it.
    let _ = writeln!(err, "{failure}");
    failure.outcome()
}

/// Does `what` with each manifest of a directory, in the order of their numbers; damage goes to
/// `out`, as it is what was looked for.
fn each<W: Write>(
    directory: &Path,
    out: &mut Output<W>,
    what: impl Fn(&Path, &mut Output<W>) -> Result<(), Failure>,
) -> Result<Outcome, Failure> {
    let names = SystemFiles.names(directory).map_err(|source| Error::System {
        action: format!("list {}", directory.display()),
        advice: None,
        source,
    })?;
    let manifests =
        names.iter().filter(|name| matches!(FileName::of(name), Some(FileName::Manifest(_))));
    let mut paths: Vec<_> = manifests.map(|name| directory.join(name)).collect();
    paths.sort();
    let ended = ended(&SystemFiles, directory)?;
    if let Some(Ended { time_ms, job }) = &ended {
        writeln!(out, "job {job} has ended at {time_ms} ms: started again, it does nothing")?;
    }
    if paths.is_empty() && ended.is_none() {
        return Err(Failure::Nothing(directory.to_path_buf()));
    }
    let mut outcome = Outcome::Sound;
    for path in paths {
        match what(&path, out) {
            Ok(()) => {}
            Err(failure @ Failure::Checkpoint(_)) => {
                writeln!(out, "{}: {failure}", path.display())?;
                outcome = outcome.max(failure.outcome());
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(outcome)
}

fn manifest(path: &Path) -> Result<Manifest, Failure> {
    let what = || path.display().to_string();
    let bytes = SystemFiles.read(path).map_err(|source| Error::System {
        action: format!("read {}", what()),
        advice: None,
        source,
    })?;
    let decoded = Manifest::decode(&bytes).map_err(|damaged| Error::Corrupt {
        what: what(),
        offset: damaged.offset(),
        reason: damaged.to_string(),
    });
    Ok(decoded?)
}

fn list(manifest: &Manifest, out: &mut impl Write) -> io::Result<()> {
    let bytes: u64 = manifest.parts.iter().map(|part| part.bytes).sum();
    let Manifest { checkpoint, time_ms, job, .. } = manifest;
    let (kind, shards) = (kind(manifest.kind), manifest.parts.len());
    writeln!(
        out,
        "{:>10}  {kind:10}  {time_ms} ms  {job}  {shards} shards  {bytes} bytes",
        checkpoint.0
    )
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Checkpoint => "checkpoint",
        Kind::Savepoint => "savepoint",
    }
}

fn look(path: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let Restored { manifest, snapshot } = open(&SystemFiles, path)?;
    let Manifest { checkpoint, time_ms, key_group_count, job, parts, .. } = &manifest;
    writeln!(out, "{} {} of job {job}", kind(manifest.kind), checkpoint.0)?;
    writeln!(out, "  triggered   {time_ms} ms since 1970")?;
    writeln!(out, "  key groups  {key_group_count}")?;
    for part in parts {
        writeln!(out, "  part        {}, {} bytes, crc {:08x}", part.name, part.bytes, part.crc)?;
    }
    for OperatorSummary { uid, watermark_ms, states } in snapshot.operators() {
        match watermark_ms {
            Some(watermark_ms) => writeln!(out, "operator {uid}, watermark {watermark_ms} ms")?,
            None => writeln!(out, "operator {uid}")?,
        }
        for state in states {
            let (name, entries, bytes) = (state.name, state.entries, state.bytes);
            writeln!(out, "  {name}: {entries} entries, {bytes} bytes")?;
        }
    }
    for (RunTo { uid, input }, bytes) in snapshot.in_flight() {
        writeln!(out, "in flight to input {input} of {uid}: {bytes} bytes")?;
    }
    Ok(())
}
