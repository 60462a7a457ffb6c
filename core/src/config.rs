//! The settings of a node: what an operator may tune without touching the job.
//!
//! Read from TOML, every setting optional; flags on the command line win over the file. Hard limits
//! are in `limits.rs`, and components (a source, a clock) are arguments of the job, never settings.
//!
//! `docs/configuration.md` is made from the comments in this file.

mod byte_count;
mod choices;
mod factor;
mod period;
mod problems;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::limits::MEMORY_PER_SHARD_MIN;

pub use self::byte_count::ByteCount;
pub use self::choices::{Alignment, GuaranteeKind, Idle, Pin, RestartKind, StorageServiceKind};
pub use self::factor::Factor;
pub use self::period::Period;

/// Every setting, with its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Number of shards: threads that each own a range of the keys. Default: one for every core
    /// that `cores` names, or that the process may use.
    ///
    /// More: more throughput, as long as every shard has a core to itself. Fewer: cores are left
    /// for the housekeeping threads and for other programs, and shards answer without delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<u32>,

    /// Number of key groups, the units in which keys are spread over shards. Default `1024`.
    ///
    /// More: shards get shares that differ less, and more shards can be used later. Fewer: less
    /// memory for every state. At least one for every shard, at most 32768. Part of what is stored:
    /// it can be multiplied later, nothing else.
    pub key_group_count: u32,

    /// What a shard does while it has nothing to do. Default `auto`.
    ///
    /// `spin`: looks again at once; an answer within a microsecond, a core that is always busy.
    /// `yield`: lets other threads of its core run in between. `park`: sleeps until it is woken, up
    /// to a millisecond; waking takes some 30 µs, an idle core costs nothing. `auto`: `spin` if
    /// every shard has a core to itself; if housekeeping threads share it, as `yield` while there
    /// is traffic, and as `park` after two milliseconds without; `park` if there are more shards
    /// than cores.
    pub idle: Idle,

    /// Whether a shard stays on one core. Default `auto`.
    ///
    /// `on`: caches stay warm, but a core that another program uses as well is not escaped. `off`:
    /// the operating system moves all threads about. `auto`: `on` if there is a core for every
    /// shard.
    pub pin: Pin,

    /// The cores to pin shards to, in order. The next one is for the housekeeping threads (storage,
    /// standard output, control), if one is left. Default: all that the process may use, in order.
    ///
    /// Naming them keeps two programs on one machine apart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cores: Vec<usize>,

    /// Memory for the keyed state of a shard: `2GiB`, `512MiB`. Default: 60 % of what the machine
    /// has, or a control group grants, divided among the shards.
    ///
    /// State that has no room goes to the state directory, and is read back when a record of its
    /// key comes: more memory, fewer reads. What is under way between operators, and the program
    /// itself, come on top. At least `64MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_per_shard: Option<ByteCount>,

    /// Where state goes that has no room in memory. Default: a directory of its own among the
    /// system's temporary files, which often are in memory themselves.
    ///
    /// Name one on a fast disk for state that is larger than memory. One run has it at a time: what
    /// an earlier one has left there (directories called `shard-0` and so on) is removed, and so is
    /// what this one leaves when it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_directory: Option<PathBuf>,

    /// Where checkpoints are. Default: none are taken, and state dies with the process.
    ///
    /// A job that is started again with the same directory goes on from the newest checkpoint
    /// there, with any number of shards. SIGINT and SIGTERM then end it with a checkpoint. Sinks
    /// that can, show their output when a checkpoint is complete, and so exactly once: see
    /// [checkpoints](concepts/checkpoints.md). A directory belongs to one job, and one run has it
    /// at a time. When the input of a job ends, its checkpoints are removed, and a file `ended`
    /// says so: started again, the job does nothing until somebody removes that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_directory: Option<PathBuf>,

    /// What has to be guaranteed of every result over a restart from a checkpoint. Default
    /// `at-least-once`.
    ///
    /// `at-least-once`: whatever sources and sinks give; `explain` says it for every sink.
    /// `exactly-once`: the job does not start if checkpoints are not taken, if a source cannot read
    /// again, or if a sink cannot commit.
    pub guarantee: GuaranteeKind,

    /// Where savepoints are: each in a directory of its own there. Default: `savepoints` in the
    /// checkpoint directory.
    ///
    /// A savepoint is asked for by name (`POST /savepoints`), and stays until somebody removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub savepoint_directory: Option<PathBuf>,

    /// What the job begins with, if there is no checkpoint in its checkpoint directory: the
    /// manifest of a checkpoint or savepoint, or a directory with some, of which it is the newest.
    /// Default: nothing.
    ///
    /// A job that is started again after a failure with the same settings goes on from its own
    /// newest checkpoint, which has more. To go back to a savepoint, give the job an empty
    /// checkpoint directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<PathBuf>,

    /// Whether state of operators that the job does not have any more may be dropped. Default
    /// `false`.
    ///
    /// `false`: a job does not start if the checkpoint has state of a uid that no operator has:
    /// perhaps one was renamed.
    pub allow_dropped_state: bool,

    /// From one checkpoint to the next: `500ms`, `10s`. Default `10s`.
    ///
    /// Shorter: less is done again after a crash, and output is seen sooner. Longer: less is
    /// written.
    pub checkpoint_interval: Period,

    /// From the end of one checkpoint to the beginning of the next, at least. Default `0s`.
    ///
    /// Longer: a job whose checkpoints take as long as the interval has time for records.
    pub checkpoint_min_pause: Period,

    /// How long a checkpoint may take before it is given up. Default `10m`.
    ///
    /// The job goes on; the next one is tried when it is due.
    pub checkpoint_timeout: Period,

    /// Whether barriers wait for the records before them. Default `timeout`.
    ///
    /// `aligned`: they do; a checkpoint takes as long as the queues in front of it, and while a
    /// sink does not take anything none is completed. `unaligned`: they do not; records that they
    /// overtake are written into the checkpoint, as many as fit in the channels. `timeout`: they do
    /// for as long as `alignment_timeout` says. See [checkpoints](concepts/checkpoints.md).
    pub alignment: Alignment,

    /// How long barriers wait for the records before them, if `alignment` is `timeout`. Default
    /// `100ms`.
    ///
    /// Shorter: checkpoints are quicker when there is pressure. Longer: fewer records are written
    /// with them.
    pub alignment_timeout: Period,

    /// How many checkpoints may be under way at a time. Default `1`.
    ///
    /// More: the interval holds though checkpoints take longer.
    pub checkpoints_in_flight: u32,

    /// How many complete checkpoints are kept. Default `2`.
    ///
    /// One is enough to go on from; another is there if the files of the first are damaged.
    pub checkpoints_retained: u32,

    /// When a job that has failed begins again in its process: from its newest checkpoint, or from
    /// its start if no checkpoint is complete. Default: `exponential-delay` if there is a
    /// `checkpoint_directory`, otherwise `none`.
    ///
    /// `none`: a failure ends the process. `fixed-delay`: after `restart_delay`.
    /// `exponential-delay`: after a wait that grows from `restart_initial_backoff` to
    /// `restart_max_backoff`. `failure-rate`: after `restart_delay`, unless it has failed more than
    /// `restart_failures_per_interval` times within `restart_interval`. Whatever is set, a failure
    /// that only somebody can mend (a path that does not exist, a record that cannot be read, state
    /// of another job) ends the process: see [restarts](concepts/checkpoints.md#restarts).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_strategy: Option<RestartKind>,

    /// How often a job begins again, with `fixed-delay`; with `exponential-delay`, before its wait
    /// is the first again. Default: without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_attempts: Option<u32>,

    /// The wait before each restart, with `fixed-delay` and `failure-rate`. Default `1s`.
    pub restart_delay: Period,

    /// The first wait, with `exponential-delay`. Default `1s`.
    ///
    /// Shorter: what passes by itself costs less time. Longer: what does not costs less work.
    pub restart_initial_backoff: Period,

    /// The longest wait, with `exponential-delay`. Default `1m`.
    pub restart_max_backoff: Period,

    /// What a wait is multiplied with for the next one, with `exponential-delay`. Default `1.5`.
    pub restart_backoff_multiplier: Factor,

    /// How long a job has to run before its wait is the first again, with `exponential-delay`.
    /// Default `1h`.
    pub restart_backoff_reset: Period,

    /// The part of a wait by which it is shorter or longer by chance, with `exponential-delay`.
    /// Default `0.1`.
    ///
    /// More: jobs that failed of one cause come back less at one instant.
    pub restart_jitter: Factor,

    /// How many failures there may be within `restart_interval`, with `failure-rate`. Default `1`.
    pub restart_failures_per_interval: u32,

    /// The time in which failures are counted, with `failure-rate`. Default `1m`.
    pub restart_interval: Period,

    /// Who reads and writes files. Default `glommio`.
    ///
    /// `glommio`: direct I/O on an executor made for it. `ring`: a plain ring of the kernel's, with
    /// fewer moving parts; the one to try if files seem stuck.
    pub storage_service: StorageServiceKind,

    /// Address and port of the HTTP interface: `/healthz`, `/metrics`, shards and tasks. Default:
    /// none.
    ///
    /// It is not protected, so it answers on the machine itself only (`127.0.0.1`, `[::1]`), and
    /// any other address is refused. Port 0 is any free one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,

    /// What is logged to standard error. Default `info`.
    ///
    /// `error`, `warn`, `info`, `debug`, `trace`, `off`, or one of them for a part of the program
    /// (`info,millstream::runtime=debug`). The environment variable `RUST_LOG` wins. Nothing is
    /// logged for every record, so `debug` is affordable.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: None,
            key_group_count: 1024,
            idle: Idle::default(),
            pin: Pin::default(),
            cores: Vec::new(),
            memory_per_shard: None,
            state_directory: None,
            checkpoint_directory: None,
            guarantee: GuaranteeKind::default(),
            savepoint_directory: None,
            restore: None,
            allow_dropped_state: false,
            checkpoint_interval: Period(Duration::from_secs(10)),
            checkpoint_min_pause: Period(Duration::ZERO),
            checkpoint_timeout: Period(Duration::from_mins(10)),
            alignment: Alignment::default(),
            alignment_timeout: Period(Duration::from_millis(100)),
            checkpoints_in_flight: 1,
            checkpoints_retained: 2,
            restart_strategy: None,
            restart_attempts: None,
            restart_delay: Period(Duration::from_secs(1)),
            restart_initial_backoff: Period(Duration::from_secs(1)),
            restart_max_backoff: Period(Duration::from_mins(1)),
            restart_backoff_multiplier: Factor::thousandths(1_500),
            restart_backoff_reset: Period(Duration::from_hours(1)),
            restart_jitter: Factor::thousandths(100),
            restart_failures_per_interval: 1,
            restart_interval: Period(Duration::from_mins(1)),
            storage_service: StorageServiceKind::default(),
            listen: None,
            log: "info".to_string(),
        }
    }
}

impl Config {
    /// Reads settings; those that are not there keep their defaults.
    ///
    /// # Errors
    /// [`Error::Config`] with the line of the first thing that is no setting or no value for one,
    /// or with everything that [`Config::problems`] finds.
    pub fn from_toml(text: &str) -> Result<Self> {
        let config = Self::parse(text)?;
        config.check()?;
        Ok(config)
    }

    /// As [`Config::from_toml`], but whether the settings can be used is for the caller to check.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| Error::Config { problems: vec![error.to_string()] })
    }

    /// These settings with a number of shards: as set, otherwise one for every core that is named,
    /// otherwise `core_count`.
    pub fn with_shards(self, core_count: usize) -> Self {
        let count = if self.cores.is_empty() { core_count } else { self.cores.len() };
        let shards = self.shards.unwrap_or_else(|| u32::try_from(count).unwrap_or(u32::MAX));
        Self { shards: Some(shards), ..self }
    }

    /// These settings with memory for every shard: as set, otherwise its share of 60 % of the
    /// machine's `memory_bytes`, if that is known and not too little.
    pub fn with_memory(self, memory_bytes: Option<u64>) -> Self {
        let shards = u64::from(self.shards.unwrap_or(1).max(1));
        let share = memory_bytes.unwrap_or(0) / 5 * 3 / shards;
        let share = ByteCount((share >> 20 << 20).max(MEMORY_PER_SHARD_MIN));
        Self { memory_per_shard: Some(self.memory_per_shard.unwrap_or(share)), ..self }
    }

    /// Where savepoints are: as set, otherwise in the checkpoint directory; nowhere without one.
    pub fn savepoints(&self) -> Option<PathBuf> {
        let within = || Some(self.checkpoint_directory.as_ref()?.join("savepoints"));
        self.savepoint_directory.clone().or_else(within)
    }

    /// When a job begins again: as set, otherwise only if it has checkpoints to go on from.
    pub fn restart_kind(&self) -> RestartKind {
        let has_checkpoints = self.checkpoint_directory.is_some();
        let default =
            if has_checkpoints { RestartKind::ExponentialDelay } else { RestartKind::None };
        self.restart_strategy.unwrap_or(default)
    }

    /// How long barriers wait for the records before them; for ever without it.
    pub fn unaligned_after(&self) -> Option<Duration> {
        match self.alignment {
            Alignment::Aligned => None,
            Alignment::Unaligned => Some(Duration::ZERO),
            Alignment::Timeout => Some(self.alignment_timeout.0),
        }
    }

    /// All settings as TOML, for `--print-config`.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are plain values")
    }

    /// Succeeds if there are no problems.
    ///
    /// # Errors
    /// [`Error::Config`] with all of them.
    pub fn check(&self) -> Result<()> {
        let problems = self.problems();
        if problems.is_empty() { Ok(()) } else { Err(Error::Config { problems }) }
    }
}

#[cfg(test)]
mod tests;
