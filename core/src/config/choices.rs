//! Settings of which there are a few to choose from.

use serde::{Deserialize, Serialize};

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

/// Whether barriers wait for the records before them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Alignment {
    /// They do.
    Aligned,
    /// They do not.
    Unaligned,
    /// They do for a while.
    #[default]
    Timeout,
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

/// When a job that has failed begins again in its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RestartKind {
    /// Never.
    None,
    /// After the same wait, so many times.
    FixedDelay,
    /// After waits that grow.
    ExponentialDelay,
    /// After the same wait, unless it fails too often within a time.
    FailureRate,
}
