//! `millstream table`: what is common to its commands.
//!
//! The storage library knows no files; [`TableFile`] is one, and answers what a table wants to be
//! read.

mod dump;
mod inspect;
#[cfg(test)]
mod tests;
mod verify;

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use millstream_storage::io::FileId;
use millstream_storage::key::StoredKey;
use millstream_storage::table::{self, Filters, Opening, Table, Want};

use crate::Outcome;
use crate::output::{Output, write_hex};
use dump::DumpArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum TableCommand {
    /// Prints what a table is and has: version, sizes, counts, ranges. Reads no block.
    Inspect {
        /// The tables.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Reads every block and compares it with checksum, index, filter and directory; prints the
    /// first damage of each file: where it is and what.
    Verify {
        /// The tables.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Prints entries, one a line, bytes as hexadecimal digits.
    Dump(DumpArgs),
}

/// Why a file was not looked at to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("could not {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: byte {offset}: {what}", path.display())]
    Damage { path: PathBuf, offset: u64, what: &'static str },
    #[error("{} is a table of version {found}, this program reads up to {newest}", path.display())]
    Version { path: PathBuf, found: u32, newest: u32 },
    #[error("{} is not understood: {source}", path.display())]
    Table { path: PathBuf, source: table::Error },
    #[error("could not write the output")]
    Output(#[from] io::Error),
}

/// Carries the command out.
pub(crate) fn run<W: Write>(
    command: &TableCommand,
    out: &mut Output<W>,
    err: &mut impl Write,
) -> Outcome {
    match command {
        TableCommand::Inspect { files } => for_each(files, out, err, inspect::inspect),
        TableCommand::Verify { files } => for_each(files, out, err, verify::verify),
        TableCommand::Dump(args) => {
            let mut left = args.limit.unwrap_or(u64::MAX);
            for_each(&args.files, out, err, |path, out| dump::dump(path, args, &mut left, out))
        }
    }
}

/// Does `work` with every file. The worst outcome is that of all.
fn for_each<W: Write>(
    files: &[PathBuf],
    out: &mut Output<W>,
    err: &mut impl Write,
    mut work: impl FnMut(&Path, &mut Output<W>) -> Result<Outcome, Failure>,
) -> Outcome {
    let mut worst = Outcome::Sound;
    for path in files {
        let outcome = work(path, out).unwrap_or_else(|failure| {
            tell(err, &failure);
            failure.outcome()
        });
        worst = worst.max(outcome);
    }
    worst
}

/// Says why something failed. If nobody listens to that either, the exit code has to do.
pub(crate) fn tell(err: &mut impl Write, failure: &Failure) {
    let source = match failure {
        Failure::File { source, .. } | Failure::Output(source) => format!(": {source}"),
        Failure::Damage { .. } | Failure::Version { .. } | Failure::Table { .. } => String::new(),
    };
    let _is_heard = writeln!(err, "error: {failure}{source}").is_ok();
}

impl Failure {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Damage { .. } => Outcome::Damaged,
            Self::File { .. } | Self::Version { .. } | Self::Table { .. } | Self::Output(_) => {
                Outcome::Failed
            }
        }
    }
}

/// A file that may be a table.
pub(crate) struct TableFile<'a> {
    path: &'a Path,
    file: File,
    length: u64,
}

impl<'a> TableFile<'a> {
    pub(crate) fn open(path: &'a Path) -> Result<Self, Failure> {
        let failure = |source| Failure::File { action: "open", path: path.to_path_buf(), source };
        let file = File::open(path).map_err(failure)?;
        let metadata = file.metadata().map_err(failure)?;
        if !metadata.is_file() {
            return Err(failure(io::Error::new(ErrorKind::InvalidInput, "it is no regular file")));
        }
        Ok(Self { path, file, length: metadata.len() })
    }

    /// The table, its metadata read and checked.
    pub(crate) fn table(&self, filters: Filters) -> Result<Table, Failure> {
        let failure = |error| self.failure(error);
        let mut opening = Opening::new(FileId(0), self.length, filters).map_err(failure)?;
        while let Some(want) = opening.want() {
            opening.on_read(&self.read(want)?).map_err(failure)?;
        }
        Ok(opening.into_table())
    }

    /// What is at `want`; fewer bytes if the file ends there.
    pub(crate) fn read(&self, want: Want) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; want.len];
        let mut len = 0;
        while len < want.len {
            match self.file.read_at(&mut bytes[len..], want.offset + len as u64) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    let path = self.path.to_path_buf();
                    return Err(Failure::File { action: "read", path, source });
                }
            }
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    /// `error`, with the name of this file.
    pub(crate) fn failure(&self, error: table::Error) -> Failure {
        let path = self.path.to_path_buf();
        match error {
            table::Error::Corrupt { offset, what, .. } => Failure::Damage { path, offset, what },
            table::Error::Version { found, newest, .. } => Failure::Version { path, found, newest },
            source => Failure::Table { path, source },
        }
    }
}

/// The parts of a stored key, in a line.
pub(crate) fn write_key(key: &StoredKey<'_>, out: &mut impl Write) -> io::Result<()> {
    let StoredKey { key_group, state_id, window_bucket, hash64, .. } = key;
    write!(out, "group={key_group} state={state_id} window={window_bucket} hash={hash64:016x}")?;
    for (name, part) in [("key", key.key), ("namespace", key.namespace), ("map-key", key.map_key)] {
        write!(out, " {name}=")?;
        write_hex(out, part)?;
    }
    Ok(())
}
