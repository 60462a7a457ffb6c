//! What can go wrong, for whom, and what to do about it.
//!
//! Three kinds that are never mixed: a *bug* is an assertion and stops the node; the *environment*
//! (files, sockets, the operating system) and the *user's input* are an [`Error`]. Messages are
//! lower case without a full stop and name the object; `Display` does not print the source.

use std::io::ErrorKind;
use std::path::PathBuf;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can stop a job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The plan has mistakes; all of them are here.
    #[error("the job cannot run:\n{}", bullets(problems))]
    Plan {
        /// One sentence per mistake, with names.
        problems: Vec<String>,
    },
    /// The configuration has mistakes; all of them are here.
    #[error("the configuration cannot be used:\n{}", bullets(problems))]
    Config {
        /// One sentence per mistake, with the setting's name.
        problems: Vec<String>,
    },
    /// A record of the input cannot be read.
    #[error("{place}: {reason}")]
    Input {
        /// File, line, column and field, as far as they are known: `a.csv:17, column 3 (amount)`.
        place: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A file or directory cannot be used.
    #[error("operator {operator}: could not {action}")]
    File {
        /// Who wanted it.
        operator: String,
        /// What was being done, with the path.
        action: String,
        /// What may help; [`Error::chain`] ends with it.
        advice: &'static str,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A socket cannot be used.
    #[error("operator {operator}: could not {action}")]
    Socket {
        /// Who wanted it.
        operator: String,
        /// What was being done, with the address.
        action: String,
        /// What may help; [`Error::chain`] ends with it.
        advice: &'static str,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A row is larger than a row may be.
    #[error(
        "operator {operator} at {place}: a row of more than {limit_bytes} bytes; make it smaller \
         before it leaves the operator, or read the operator's side output DEAD_LETTERS to put \
         such rows aside"
    )]
    RowTooLarge {
        /// Who emitted it.
        operator: String,
        /// The record that caused it, as its source names it.
        place: String,
        /// [`crate::limits::ROW_BYTES_MAX`].
        limit_bytes: usize,
    },
    /// A row cannot be archived, so it cannot go to another task.
    #[error(
        "operator {operator} at {place}: a row cannot be archived: {reason}; mend the record, or \
         read the operator's side output DEAD_LETTERS to put such rows aside"
    )]
    Unserializable {
        /// Who emitted it.
        operator: String,
        /// The record that caused it, as its source names it.
        place: String,
        /// What the `Serialize` of a field says.
        reason: String,
    },
    /// User code panicked.
    #[error("operator {operator} panicked at {origin}: {message}")]
    Panicked {
        /// Whose code.
        operator: String,
        /// The record being processed, as its source names it.
        origin: String,
        /// The panic's message and place.
        message: String,
    },
    /// Bytes that were written by this engine are damaged.
    #[error("{what} is damaged at byte {offset}: {reason}")]
    Corrupt {
        /// Which bytes.
        what: String,
        /// Where.
        offset: u64,
        /// What was found, and what was expected.
        reason: String,
    },
    /// The operating system refused something that the node needs.
    #[error("could not {action}")]
    System {
        /// What was being done.
        action: String,
        /// What may help, if anything is known to; [`Error::chain`] ends with it.
        advice: Option<&'static str>,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The user asked a second time for an end.
    #[error("interrupted before everything under way was processed")]
    Interrupted,
    /// Two simulations of one seed differ.
    #[error(
        "two runs of seed {seed} differ: an operator uses something that a seed does not decide, \
         such as the clock, a random number, or the order of a hash map"
    )]
    Unrepeatable {
        /// The seed.
        seed: u64,
    },
    /// A simulated job does not come to an end.
    #[error("the simulated job did not end: {what}")]
    Unending {
        /// What it does instead, and what helps.
        what: String,
    },
    /// The simulated machine lost its power, as it was told to.
    #[error("the machine crashed after {after:?}")]
    Crashed {
        /// Simulated time from the start.
        after: std::time::Duration,
    },
    /// An invariant of the engine does not hold where an assertion could not say so.
    #[error("operator {operator}: {what} (a bug in the engine)")]
    Bug {
        /// Where.
        operator: String,
        /// What happened.
        what: String,
    },
    /// A configuration file cannot be read.
    #[error("could not read the configuration {}", path.display())]
    ConfigFile {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What the caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Try the same again; the environment may have recovered.
    Retry,
    /// Go back to the last completed checkpoint.
    Restore,
    /// Change the job, the configuration or the input.
    Fix,
    /// Stop and report: nothing that this process does can be trusted.
    Stop,
}

impl Error {
    /// An invariant of the engine does not hold.
    pub fn bug(operator: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Bug { operator: operator.into(), what: what.into() }
    }

    /// The same error with a better name for the record that it is about, if it names one.
    pub(crate) fn at(mut self, better: String) -> Self {
        if let Self::RowTooLarge { place, .. } | Self::Unserializable { place, .. } = &mut self {
            *place = better;
        }
        self
    }

    /// What to do. The remedy is part of the API; the message is not.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Plan { .. }
            | Self::Config { .. }
            | Self::ConfigFile { .. }
            | Self::Input { .. }
            | Self::RowTooLarge { .. }
            | Self::Unserializable { .. }
            | Self::Unrepeatable { .. }
            | Self::Unending { .. }
            | Self::Panicked { .. } => Remedy::Fix,
            Self::File { source, .. }
            | Self::Socket { source, .. }
            | Self::System { source, .. }
                if is_lasting(source.kind()) =>
            {
                Remedy::Fix
            }
            Self::File { .. } | Self::Socket { .. } | Self::System { .. } | Self::Interrupted => {
                Remedy::Retry
            }
            Self::Corrupt { .. } | Self::Crashed { .. } => Remedy::Restore,
            Self::Bug { .. } => Remedy::Stop,
        }
    }

    /// Whether it may not happen again if the job begins again from its last checkpoint, without
    /// anybody changing anything. A panic has many causes; a path that does not exist, and a record
    /// that cannot be read, stay as they are.
    pub fn may_pass(&self) -> bool {
        match self.remedy() {
            Remedy::Retry | Remedy::Restore => true,
            Remedy::Fix => matches!(self, Self::Panicked { .. }),
            Remedy::Stop => false,
        }
    }

    /// What may help beside the remedy, in words; none if the message says it.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::File { advice, .. } | Self::Socket { advice, .. } => Some(advice),
            Self::System { advice, .. } => *advice,
            _ => None,
        }
    }

    /// This error, its sources and what may help on one line, for a log or a terminal.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        if let Some(advice) = self.advice() {
            text.push_str("; ");
            text.push_str(advice);
        }
        text
    }
}

/// Whether the system will answer the same as long as nobody changes the job, its paths and
/// addresses, or their permissions.
fn is_lasting(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::AddrNotAvailable
            | ErrorKind::Unsupported
    )
}

fn bullets(problems: &[String]) -> String {
    problems.iter().map(|problem| format!("  - {problem}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_error(kind: ErrorKind) -> Error {
        Error::File {
            operator: "payments".to_string(),
            action: "open a.csv".to_string(),
            advice: "put it there",
            source: kind.into(),
        }
    }

    #[test]
    fn what_only_somebody_can_change_is_to_be_fixed_and_not_tried_again() {
        assert_eq!(file_error(ErrorKind::NotFound).remedy(), Remedy::Fix);
        assert_eq!(file_error(ErrorKind::PermissionDenied).remedy(), Remedy::Fix);
        assert_eq!(file_error(ErrorKind::StorageFull).remedy(), Remedy::Retry);
    }

    #[test]
    fn a_new_beginning_may_help_against_what_comes_and_goes() {
        let panicked = Error::Panicked {
            operator: "score".to_string(),
            origin: "source payments, a.csv, byte 17".to_string(),
            message: "boom".to_string(),
        };
        let input = Error::Input { place: "a.csv:17".to_string(), reason: "no number".to_string() };
        for (error, may_pass) in [
            (file_error(ErrorKind::StorageFull), true),
            (panicked, true),
            (file_error(ErrorKind::NotFound), false),
            (input, false),
            (Error::Plan { problems: Vec::new() }, false),
            (Error::bug("sum", "lost a row"), false),
        ] {
            assert_eq!(error.may_pass(), may_pass, "{error}");
        }
    }

    #[test]
    fn a_chain_ends_with_what_may_help() {
        assert_eq!(
            file_error(ErrorKind::NotFound).chain(),
            "operator payments: could not open a.csv: entity not found; put it there"
        );
    }
}
