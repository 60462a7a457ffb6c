//! `millstream`: looks into what jobs leave on disk, without running one.
//!
//! ```text
//! millstream checkpoint list|inspect|verify DIRECTORY         checkpoints of a job
//! millstream log inspect|verify|dump DIRECTORY                a log between jobs
//! millstream table inspect FILE...                            what it is and how large
//! millstream table verify  FILE...                            every block and checksum
//! millstream table dump [--json] [--limit N] [--prefix HEX] FILE...   its entries
//! ```
//!
//! Exit codes: 0 all is as it should be, 1 a file is damaged, 2 a file or the output could not be
//! read or written, or the command line is wrong. All files are looked at, whatever the ones
//! before them are like, and the largest code counts. Nothing is ever changed.

mod checkpoint;
mod log;
mod output;
mod table;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use checkpoint::CheckpointCommand;
use log::LogCommand;
use output::Output;
use table::TableCommand;

/// Looks into what jobs leave on disk.
#[derive(Debug, Parser)]
#[command(name = "millstream", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at checkpoints and savepoints of jobs.
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Looks at logs: what jobs write for others to read.
    #[command(subcommand)]
    Log(LogCommand),
    /// Looks into tables: the files in which a state store keeps its entries.
    #[command(subcommand)]
    Table(TableCommand),
}

/// What came of a command; of several, the largest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Sound,
    Damaged,
    Failed,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome as u8)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = Output::new(BufWriter::new(io::stdout().lock()));
    run(&arguments, &mut out, &mut io::stderr()).into()
}

/// Carries the command out. What it finds goes to `out`, what keeps it from that to `err`.
fn run<W: Write>(arguments: &Arguments, out: &mut Output<W>, err: &mut impl Write) -> Outcome {
    let outcome = match &arguments.command {
        Command::Checkpoint(command) => checkpoint::run(command, out, err),
        Command::Log(command) => log::run(command, out, err),
        Command::Table(command) => table::run(command, out, err),
    };
    if let Err(error) = out.flush() {
        table::tell(err, &error.into());
        return Outcome::Failed;
    }
    outcome
}
