//! The settings of a node: what an operator may tune without touching the job.
//!
//! Read from TOML, every setting optional; flags on the command line win over the file. Hard limits
//! are in `limits.rs`, and components (a source, a clock) are arguments of the job, never settings.
//!
//! `docs/configuration.md` is made from the comments in this file.

mod byte_count;
mod period;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::limits::{
    CHECKPOINT_COUNT_MAX, CHECKPOINT_INTERVAL_MIN, CHECKPOINT_PERIOD_MAX, KEY_GROUP_COUNT_MAX,
    MEMORY_PER_SHARD_MIN, SHARD_COUNT_MAX,
};

pub use self::byte_count::ByteCount;
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
    /// at a time. When the input of a job ends, its checkpoints are removed.
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

    /// How many checkpoints may be under way at a time. Default `1`.
    ///
    /// More: the interval holds though checkpoints take longer.
    pub checkpoints_in_flight: u32,

    /// How many complete checkpoints are kept. Default `2`.
    ///
    /// One is enough to go on from; another is there if the files of the first are damaged.
    pub checkpoints_retained: u32,

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

/// What a shard does while it has nothing to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Chosen by the number of cores.
    #[default]
    Auto,
    /// Looks again at once.
    Spin,
    /// Lets other threads run in between.
    Yield,
    /// Sleeps until it is woken.
    Park,
}

/// Whether a shard stays on one core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Pin {
    /// If there is a core for every shard.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// What has to be guaranteed of results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum GuaranteeKind {
    /// Whatever sources and sinks give.
    #[default]
    AtLeastOnce,
    /// Every result appears once.
    ExactlyOnce,
}

/// Who reads and writes files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StorageServiceKind {
    /// An executor made for direct I/O.
    #[default]
    Glommio,
    /// A plain ring of the kernel's.
    Ring,
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
            checkpoints_in_flight: 1,
            checkpoints_retained: 2,
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

    /// All settings as TOML, for `--print-config`.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are plain values")
    }

    /// Everything wrong with the settings: one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(shards) = self.shards {
            if !(1..=SHARD_COUNT_MAX).contains(&shards) {
                problems.push(format!("shards must be 1 to {SHARD_COUNT_MAX}, not {shards}"));
            }
            if self.key_group_count < shards {
                problems.push(format!(
                    "key_group_count ({}) must not be less than shards ({shards}): every shard owns \
                     at least one key group",
                    self.key_group_count
                ));
            }
            if !self.cores.is_empty() && self.cores.len() < shards as usize {
                problems.push(format!(
                    "cores names {} for {shards} shards: name one for every shard, or none",
                    self.cores.len()
                ));
            }
        }
        if !(1..=KEY_GROUP_COUNT_MAX).contains(&self.key_group_count) {
            problems.push(format!(
                "key_group_count must be 1 to {KEY_GROUP_COUNT_MAX}, not {}",
                self.key_group_count
            ));
        }
        let mut cores = self.cores.clone();
        cores.sort_unstable();
        cores.dedup();
        if cores.len() != self.cores.len() {
            problems.push(
                "cores names a core twice: two shards on one core wait for each other".to_string(),
            );
        }
        if let Some(memory) = self.memory_per_shard.filter(|m| m.0 < MEMORY_PER_SHARD_MIN) {
            problems.push(format!(
                "memory_per_shard must be at least {}, not {memory}: state could neither stay in \
                 memory nor be written",
                ByteCount(MEMORY_PER_SHARD_MIN)
            ));
        }
        if self.checkpoint_interval.0 < CHECKPOINT_INTERVAL_MIN {
            problems.push(format!(
                "checkpoint_interval must be at least {}, not {}",
                Period(CHECKPOINT_INTERVAL_MIN),
                self.checkpoint_interval
            ));
        }
        for (name, period) in [
            ("checkpoint_interval", self.checkpoint_interval),
            ("checkpoint_min_pause", self.checkpoint_min_pause),
            ("checkpoint_timeout", self.checkpoint_timeout),
        ] {
            if CHECKPOINT_PERIOD_MAX < period.0 {
                let longest = Period(CHECKPOINT_PERIOD_MAX);
                problems.push(format!("{name} must be at most {longest}, not {period}"));
            }
        }
        if self.checkpoint_timeout.0.is_zero() {
            problems.push("checkpoint_timeout must be longer than nothing".to_string());
        }
        for (name, count) in [
            ("checkpoints_in_flight", self.checkpoints_in_flight),
            ("checkpoints_retained", self.checkpoints_retained),
        ] {
            if !(1..=CHECKPOINT_COUNT_MAX).contains(&count) {
                problems.push(format!("{name} must be 1 to {CHECKPOINT_COUNT_MAX}, not {count}"));
            }
        }
        if self.pin == Pin::Off && !self.cores.is_empty() {
            problems.push("cores are named, but pin is off: leave one of them out".to_string());
        }
        if let Some(address) = self.listen
            && !address.ip().to_canonical().is_loopback()
        {
            problems.push(format!(
                "listen must be an address of the machine itself, such as 127.0.0.1:{}, not \
                 {address}: whoever can reach it could see the job",
                address.port()
            ));
        }
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log) {
            problems.push(format!("log is no filter such as info or warn: {error}"));
        }
        problems
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
