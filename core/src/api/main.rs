//! The command line of a job: every job is a program of its own.
//!
//! ```text
//! my-job                            runs the job
//!   --memory-per-shard 2GiB  --state-directory PATH
//!   --checkpoint-directory PATH  --checkpoint-interval 10s  --restore PATH
//!   --restart-strategy none|fixed-delay|exponential-delay|failure-rate
//!   --shards N  --idle spin|yield|park  --listen 127.0.0.1:8081  --config job.toml  --print-config
//! my-job explain [--format text|json|dot]
//! my-job simulate [--seeds N] [--first SEED] [--file PATH] [--drain-after 10s]
//! ```
//!
//! Exit codes: 0 the job finished, now or before, was drained, or was stopped, 1 it failed, 2 it
//! was not started because of the command line, the configuration or the plan.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::api::job::Job;
use crate::api::progress::Progress;
use crate::api::simulate::SimulateArgs;
use crate::config::{ByteCount, Config, GuaranteeKind, Idle, Period, RestartKind};
use crate::error::{Error, Result};
use crate::graph::ExplainFormat;
use crate::runtime::control::Watch;
use crate::runtime::cpu;
use crate::runtime::memory::memory_bytes;
use crate::runtime::node::{self, JobReport};
use crate::shard::metrics::ShardStatus;

/// What a job takes from its command line. Flatten it into arguments of your own:
///
/// ```
/// use millstream::prelude::*;
///
/// #[derive(clap::Parser)]
/// struct Args {
///     /// Where the payments are.
///     #[arg(long, default_value = "payments.jsonl")]
///     input: String,
///     #[command(flatten)]
///     job: JobArgs,
/// }
/// ```
///
/// and end `main` with `job.main_with(&args.job)`.
#[derive(Debug, Clone, Default, Args)]
pub struct JobArgs {
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
    /// What to do instead of running.
    #[command(subcommand)]
    pub command: Option<JobCommand>,
}

/// How to run a job. Flags win over the configuration file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Running")]
pub struct RunArgs {
    /// Number of shards (threads); one for every core without it.
    #[arg(long, value_name = "N", global = true)]
    pub shards: Option<u32>,
    /// File with settings; docs/configuration.md lists them.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Prints the settings that the job would run with, and exits.
    #[arg(long)]
    pub print_config: bool,
    /// What a shard does while it has nothing to do.
    #[arg(long, value_enum)]
    pub idle: Option<Idle>,
    /// Memory for the keyed state of a shard, such as 2GiB; what has no room goes to disk.
    #[arg(long, value_name = "BYTES")]
    pub memory_per_shard: Option<ByteCount>,
    /// Where state goes that has no room in memory.
    #[arg(long, value_name = "DIRECTORY")]
    pub state_directory: Option<PathBuf>,
    /// Where checkpoints are taken, and which the job goes on from.
    #[arg(long, value_name = "DIRECTORY")]
    pub checkpoint_directory: Option<PathBuf>,
    /// What the job begins with: a savepoint, or a checkpoint of another directory.
    #[arg(long, value_name = "PATH")]
    pub restore: Option<PathBuf>,
    /// State of operators that the job does not have any more is dropped.
    #[arg(long)]
    pub allow_dropped_state: bool,
    /// From one checkpoint to the next, such as 500ms or 10s.
    #[arg(long, value_name = "TIME")]
    pub checkpoint_interval: Option<Period>,
    /// When the job begins again in its process after a failure.
    #[arg(long, value_enum)]
    pub restart_strategy: Option<RestartKind>,
    /// Address and port of the HTTP interface (/healthz, /metrics).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Prints a line every second: records read, watermark, records late or unreadable.
    #[arg(long)]
    pub progress: bool,
}

/// What a job can do beside running.
#[derive(Debug, Clone, Subcommand)]
pub enum JobCommand {
    /// Prints the plan: operators, tasks, channels, and what is wrong with it.
    Explain {
        /// How to print it.
        #[arg(long, value_enum, default_value_t)]
        format: ExplainFormat,
    },
    /// Runs the job in the deterministic simulator, once for every seed.
    Simulate(SimulateArgs),
}

/// From one line of progress to the next.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// The arguments of a job without any of its own.
#[derive(Parser)]
#[command(about = "A Millstream job: runs until its sources end, or a signal drains it")]
#[command(long_about = None)]
struct OnlyJobArgs {
    #[command(flatten)]
    job: JobArgs,
}

impl Job {
    /// Does what the command line says: runs the job, explains it, simulates it. The last line of a
    /// program's `main`.
    pub fn main(&self) -> ExitCode {
        match OnlyJobArgs::try_parse() {
            Ok(args) => self.main_with(&args.job),
            Err(error) => {
                // Printing fails only if nobody is there to read it.
                let _ = error.print();
                exit_code_of(error.exit_code())
            }
        }
    }

    /// As [`Job::main`], with arguments that a program has parsed itself.
    pub fn main_with(&self, args: &JobArgs) -> ExitCode {
        match self.execute(args) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        }
    }

    /// Does what `args` say; `None` if that was something else than running the job.
    ///
    /// # Errors
    /// What kept the job from starting or ended it; see [`fail`].
    pub fn execute(&self, args: &JobArgs) -> Result<Option<JobReport>> {
        let config = args.run.config()?;
        log_to_stderr(&config);
        let shard_count = shard_count(&config);
        match &args.command {
            None if args.run.print_config => print(&config.to_toml()).map(|()| None),
            None => self.run_as(&config, true, args.run.progress).map(Some),
            Some(JobCommand::Explain { format }) => {
                print(&self.explain(shard_count, config.key_group_count, *format))?;
                // The exit code says whether it could run.
                self.plan(shard_count, config.key_group_count).map(|_| None)
            }
            Some(JobCommand::Simulate(simulate)) => {
                let plan = self.plan(shard_count, config.key_group_count)?;
                print(&simulate.run(&plan)?).map(|()| None)
            }
        }
    }

    /// Runs the job until its sources end, without touching signals, logs or the command line.
    /// Signals that an earlier [`Job::execute`] of the program has caught stay caught.
    ///
    /// # Errors
    /// [`Error::Plan`] or [`Error::Config`] with all mistakes; otherwise what ended the job early.
    pub fn run(&self, config: &Config) -> Result<JobReport> {
        self.run_as(&effective(config.clone())?, false, false)
    }

    /// Checks that the job can have every result exactly once.
    fn check_exactly_once(&self, config: &Config) -> Result<()> {
        let mut problems = self.draft_mut().graph.not_exactly_once();
        if config.checkpoint_directory.is_none() {
            let what = "guarantee is exactly-once, and no checkpoints are taken: set \
                        checkpoint_directory";
            problems.push(what.to_string());
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Plan { problems }) }
    }

    fn run_as(
        &self,
        config: &Config,
        handle_signals: bool,
        shows_progress: bool,
    ) -> Result<JobReport> {
        let plan = self.plan(shard_count(config), config.key_group_count)?;
        if config.guarantee == GuaranteeKind::ExactlyOnce {
            self.check_exactly_once(config)?;
        }
        for warning in &plan.warnings {
            tracing::warn!("{warning}");
        }
        let mut progress = Progress::new(&plan.program);
        let mut look = |shards: &[ShardStatus]| {
            // Standard error may be closed; the job goes on.
            let _ = writeln!(std::io::stderr(), "{}", progress.line(shards));
        };
        let watch = shows_progress.then_some(Watch { every: PROGRESS_EVERY, look: &mut look });
        node::run_watched(&plan.program, config, handle_signals, watch)
    }
}

impl RunArgs {
    /// The settings: the file's, changed by the flags, with the number of shards that results.
    ///
    /// # Errors
    /// [`Error::ConfigFile`] or [`Error::Config`].
    pub fn config(&self) -> Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::parse(&read(path)?)?,
            None => Config::default(),
        };
        config.shards = self.shards.or(config.shards);
        config.idle = self.idle.unwrap_or(config.idle);
        config.listen = self.listen.or(config.listen);
        config.memory_per_shard = self.memory_per_shard.or(config.memory_per_shard);
        config.state_directory = self.state_directory.clone().or(config.state_directory);
        config.checkpoint_directory =
            self.checkpoint_directory.clone().or(config.checkpoint_directory);
        config.restore = self.restore.clone().or(config.restore);
        config.allow_dropped_state |= self.allow_dropped_state;
        config.restart_strategy = self.restart_strategy.or(config.restart_strategy);
        config.checkpoint_interval = self.checkpoint_interval.unwrap_or(config.checkpoint_interval);
        effective(config)
    }
}

/// Prints why a job failed, and answers the exit code that says so: 2 if it was not even started,
/// otherwise 1.
pub fn fail(error: &Error) -> ExitCode {
    // Standard error may be closed; the exit code still tells.
    let _ = writeln!(std::io::stderr(), "error: {}", error.chain());
    match error {
        Error::Plan { .. } | Error::Config { .. } | Error::ConfigFile { .. } => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

/// `config` with a number of shards, checked.
fn effective(config: Config) -> Result<Config> {
    let config = config.with_shards(cpu::parallelism()).with_memory(memory_bytes());
    config.check()?;
    Ok(config)
}

/// The number of shards of settings that are in effect.
fn shard_count(config: &Config) -> u32 {
    config.shards.expect("it has been decided")
}

#[expect(clippy::disallowed_methods, reason = "settings are read before there is a host")]
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|source| Error::ConfigFile { path: path.to_owned(), source: Box::new(source) })
}

/// Lets the engine log, unless the program has said already how it wants that.
fn log_to_stderr(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .or_else(|_| tracing_subscriber::EnvFilter::try_new(&config.log));
    if let Ok(filter) = filter {
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        // Fails if there is a subscriber already: the program's own.
        let _ = log.try_init();
    }
}

fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|source| Error::System {
        action: "write to standard output".into(),
        advice: None,
        source,
    })
}

fn exit_code_of(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(2))
}
