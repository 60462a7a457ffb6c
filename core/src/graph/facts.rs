//! What an operator says about itself, so that the plan can be checked before anything runs.

use std::path::PathBuf;

/// What the plan knows about one operator. `Facts::default()` is right for an operator that keeps
/// nothing, waits for nothing, and may write any side output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// How it is set up, for `explain`: `tumbling 5s, allowed lateness 1s`.
    pub detail: String,
    /// Keeps state or timers per key, so its input must be keyed.
    pub is_keyed: bool,
    /// Keeps something from record to record that a restart must find again under its uid.
    pub is_stateful: bool,
    /// Gives the watermarks of the streams behind it.
    pub makes_watermarks: bool,
    /// What of it waits for event time (`event-time windows`), if something does: there must be
    /// watermarks on all its inputs.
    pub needs_watermarks: Option<&'static str>,
    /// Keyed states that nothing ever removes: neither a time to live nor a window.
    pub unbounded_states: Vec<String>,
    /// What its user can do about them, if it is not to give them a time to live where they are
    /// declared or to use windows.
    pub forgets_by: Option<&'static str>,
    /// Side outputs that it may write.
    pub side_outputs: SideOutputFacts,
    /// The directory that it writes files to, and must have for itself.
    pub directory: Option<PathBuf>,
    /// Of a source: why it cannot read again what came after a checkpoint (`is a connection, ..`).
    pub cannot_replay: Option<&'static str>,
    /// Of a sink: when what it writes can be seen.
    pub appearance: Appearance,
    /// Mistakes in how it is set up: one sentence each, saying what to do, without its name.
    pub problems: Vec<String>,
}

/// When what a sink writes can be seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Appearance {
    /// Soon: a job that goes on from a checkpoint writes some of it again.
    #[default]
    AtOnce,
    /// When a checkpoint is complete that has everything before it. Or it writes nothing.
    WithCheckpoints,
}

/// Which side outputs an operator may write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SideOutputFacts {
    /// Whatever its code names; the plan cannot see it.
    #[default]
    Any,
    /// These and no others.
    Only(Vec<SideOutputFact>),
}

/// A side output of the plan: its name, and the type of its records as Rust prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideOutputFact {
    /// Name of the tag.
    pub tag: &'static str,
    /// `std::any::type_name` of its records.
    pub record: &'static str,
}

impl Facts {
    /// Of an operator that keeps nothing, waits for nothing and has one output.
    pub fn stateless() -> Self {
        Self { side_outputs: SideOutputFacts::Only(Vec::new()), ..Self::default() }
    }

    /// The same with another [`Facts::detail`].
    pub fn detailed(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }
}
