//! A node: one process, its shards' threads and the control thread.
//!
//! ```text
//! settings, directories, ports ──► attempt ──► it ended, was drained, was stopped
//!     nothing is started              ▲  │ failure
//!     if one is refused               │  └──► every thread ends ──► wait ──┐
//!                                     └── newest checkpoint ◄──────────────┘
//! ```
//!
//! The thread that calls [`run`] waits for the control thread, and builds and takes down one
//! attempt after the other. Directories are locked, the port is open, and signals are heard
//! from the first to the last.
//!
//! Not here: when a job begins again (`checkpoint/restart.rs`), what an attempt has
//! (`attempt.rs`), what becomes of wishes between two attempts (`control/between.rs`).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::checkpoint::coordinator::CheckpointsStatus;
use crate::checkpoint::{Coordinator, Restarts, Strategy, Verdict};
use crate::config::Config;
use crate::data::element::CheckpointId;
use crate::error::{Error, Remedy};
use crate::runtime::attempt::{Attempt, Ground};
use crate::runtime::beginning::Beginning;
use crate::runtime::checkpoint_directory::CheckpointDirectory;
use crate::runtime::clock::wall_ms;
use crate::runtime::control::node::Node;
use crate::runtime::control::{Control, Watch};
use crate::shard::metrics::ShardStatus;
use crate::shard::program::Program;

/// Why a job is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// Its sources had no more.
    InputEnded,
    /// Somebody has ended its sources; what was under way has been processed.
    Drained,
    /// It was stopped with a checkpoint that another run goes on from.
    Stopped {
        /// Which.
        checkpoint: CheckpointId,
        /// Where a savepoint of it is, if one was asked for.
        savepoint: Option<PathBuf>,
    },
    /// Nothing was done: the checkpoint directory says that an earlier run has come to its end.
    EndedBefore {
        /// When, ms since 1970.
        ended_ms: i64,
    },
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct JobReport {
    /// Why it is over.
    pub end: JobEnd,
    /// Wall-clock time from start to end.
    pub took: Duration,
    /// How every shard stood at the end.
    pub shards: Vec<ShardStatus>,
    /// How its checkpoints went, if any were taken.
    pub checkpoints: Option<CheckpointsStatus>,
    /// How often it has begun again after a failure.
    pub restart_count: u64,
}

/// How long a shard may take to end after it was told: user code that blocks is left behind.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

/// As [`EXIT_PATIENCE`], if somebody has asked a second time: he means at once, and a thread that
/// does not block ends within this.
const HASTY_PATIENCE: Duration = Duration::from_millis(200);

/// As [`EXIT_PATIENCE`], if the job is to begin again: it cannot while a thread of it goes on.
const RESTART_PATIENCE: Duration = Duration::from_secs(30);

/// Runs `program` on this machine until it ends, or fails and is not to begin again.
/// `handle_signals` says whether SIGINT and SIGTERM drain the job: a program with a life of its own
/// may not want that.
///
/// # Errors
/// What ended it early; see [`Error`].
pub fn run(program: &Program, config: &Config, handle_signals: bool) -> Result<JobReport, Error> {
    run_watched(program, config, handle_signals, None)
}

/// As [`run`]; somebody looks at the shards meanwhile.
///
/// # Errors
/// As [`run`].
pub fn run_watched(
    program: &Program,
    config: &Config,
    handle_signals: bool,
    watch: Option<Watch<'_>>,
) -> Result<JobReport, Error> {
    let begun = Instant::now();
    config.check()?;
    let path = config.checkpoint_directory.as_deref();
    let directory = path.map(CheckpointDirectory::claim).transpose()?;
    let ended = directory.as_ref().map(|it| it.ended(&program.name)).transpose()?.flatten();
    if let Some(ended_ms) = ended {
        let end = JobEnd::EndedBefore { ended_ms };
        let (took, shards) = (begun.elapsed(), Vec::new());
        return Ok(JobReport { end, took, shards, checkpoints: None, restart_count: 0 });
    }
    let beginning = Beginning::of(directory.as_ref(), program, config)?;
    let ground = Ground::claim(program, config)?;
    // Before anything is started: a signal drains from now on, and a port that is taken is found
    // before a sink has written anything.
    let control = Control::new(config, handle_signals, &ground.placement)?;
    let restarts = Restarts::new(Strategy::of(config));
    let mut life =
        Life { program, config, directory, ground, control, restarts, begun, shards: Vec::new() };
    let end = life.run(beginning, watch)?;
    let Life { directory, control, restarts, shards, .. } = life;
    if let Some(directory) = &directory {
        match &end {
            JobEnd::InputEnded | JobEnd::Drained => directory.end(&program.name, wall_ms()),
            JobEnd::Stopped { checkpoint, savepoint: Some(savepoint) } => {
                directory.copy(*checkpoint, savepoint)?;
            }
            JobEnd::Stopped { .. } | JobEnd::EndedBefore { .. } => {}
        }
    }
    let (checkpoints, restart_count) = (control.into_checkpoints(), restarts.count());
    Ok(JobReport { end, took: begun.elapsed(), shards, checkpoints, restart_count })
}

/// A job over all its attempts.
struct Life<'a> {
    program: &'a Program,
    config: &'a Config,
    directory: Option<CheckpointDirectory>,
    ground: Ground<'a>,
    control: Control,
    restarts: Restarts,
    begun: Instant,
    /// How the shards of the last attempt stood.
    shards: Vec<ShardStatus>,
}

/// What ended an attempt, or kept one from beginning.
struct Failure {
    error: Error,
    /// Whether another attempt can do without it.
    may_pass: bool,
    /// What is to be taken down.
    attempt: Option<Box<Attempt>>,
}

impl Life<'_> {
    /// Begins until it has come to an end.
    fn run(&mut self, first: Beginning, mut watch: Option<Watch<'_>>) -> Result<JobEnd, Error> {
        let mut beginning: Result<_, Error> = Ok(first);
        loop {
            let failure = match beginning {
                Ok(beginning) => match self.attempt(beginning, watch.as_mut()) {
                    Ok(end) => return Ok(end),
                    Err(failure) => failure,
                },
                // What is damaged or does not fit is not gone back from without a word.
                Err(error) => {
                    let may_pass = error.remedy() == Remedy::Retry;
                    Failure { error, may_pass, attempt: None }
                }
            };
            if let Some(end) = self.on_failure(failure)? {
                return Ok(end);
            }
            let Self { program, config, directory, ground, control, .. } = self;
            beginning = control.meanwhile(|| {
                ground.clear();
                Beginning::of(directory.as_ref(), program, config)
            });
            if let Some(end) = self.control.take_end() {
                return end;
            }
        }
    }

    fn attempt(
        &mut self,
        beginning: Beginning,
        watch: Option<&mut Watch<'_>>,
    ) -> Result<JobEnd, Failure> {
        let Beginning { restore, coordinator } = beginning;
        let first = coordinator.as_ref().map(Coordinator::next);
        let started = Attempt::start(&mut self.ground, restore, first);
        let mut attempt = started.map_err(|error| Failure {
            may_pass: error.may_pass(),
            error,
            attempt: None,
        })?;
        let (shard_count, names) = (self.program.shard_count(), self.program.source_names.clone());
        let node = Node::new(shard_count, names, coordinator);
        let outcome = self.control.run(node, &mut attempt.links, &mut attempt.reports, watch);
        match outcome.end {
            Ok(end) => {
                let may_pass = false;
                let shards = attempt.end(&mut self.ground, EXIT_PATIENCE).shards;
                self.shards = shards.map_err(|error| Failure { error, may_pass, attempt: None })?;
                Ok(end)
            }
            // Whoever has asked for an end does not want another beginning.
            Err(error) => {
                let may_pass = error.may_pass() && !outcome.is_ending;
                Err(Failure { error, may_pass, attempt: Some(Box::new(attempt)) })
            }
        }
    }

    /// Takes down what has failed and waits, if the job is to begin again; answers how it has
    /// ended if somebody wanted that meanwhile.
    fn on_failure(&mut self, failure: Failure) -> Result<Option<JobEnd>, Error> {
        let Failure { error, may_pass, attempt } = failure;
        let verdict = if may_pass {
            self.restarts.on_failure(self.begun.elapsed(), RandomState::new().hash_one(0))
        } else {
            Verdict::GiveUp { reason: None }
        };
        let after = match verdict {
            Verdict::Restart { after } => after,
            Verdict::GiveUp { reason } => {
                if let Some(reason) = reason {
                    tracing::error!(reason, "the job does not begin again");
                }
                let is_hasty = matches!(error, Error::Interrupted);
                let patience = if is_hasty { HASTY_PATIENCE } else { EXIT_PATIENCE };
                drop(attempt.map(|attempt| attempt.end(&mut self.ground, patience)));
                return Err(error);
            }
        };
        let restart = self.restarts.count();
        tracing::warn!(error = error.chain(), restart, ?after, "the job failed and begins again");
        self.control.on_failure(&error, restart, after);
        if let Some(attempt) = attempt {
            let Self { control, ground, .. } = self;
            let ended = control.meanwhile(|| attempt.end(ground, RESTART_PATIENCE));
            if !ended.left_behind.is_empty() {
                let threads = ended.left_behind.join(", ");
                tracing::error!(threads, "the job does not begin again: threads of it do not end");
                return Err(error);
            }
            // A thread that panicked at its end is gone as well.
            self.shards = ended.shards.unwrap_or_default();
        }
        self.control.wait(after);
        self.control.take_end().transpose()
    }
}
