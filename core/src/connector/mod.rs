//! Where records come from and where they go.
//!
//! ```text
//! generator ┐                                                      ┌ collect, discard, for_each
//! vector    │                                                      │ stdout
//! files     ├─► Source ─► rows ─► chains and exchanges ─► Sink ────┤ files
//! log       │                                                      │ log
//! socket    ┘                                                      └ socket
//! ```
//!
//! Connectors are sans-IO like everything else: a source or sink asks for `FileOp`s and `SocketOp`s
//! and is told what came of them. What they decide is a function of those answers, so every branch
//! is tested with bytes in memory.

mod byte_window;
pub mod collect_sink;
pub mod file_sink;
pub mod file_source;
pub mod for_each_sink;
pub mod format;
pub mod generator;
pub mod log;
pub mod socket;
pub mod socket_sink;
pub mod socket_source;
pub mod stdout_sink;
pub mod two_phase;
mod unwritten;
pub mod vec_source;

#[cfg(test)]
mod testing;

pub use collect_sink::{CollectSink, Collected};
pub use file_sink::FileSink;
pub use file_source::FileSource;
pub use for_each_sink::{DiscardSink, ForEachSink};
pub use generator::{CardSource, GeneratorSource, NexmarkSource};
pub use log::{LogSink, LogSource};
pub use socket::Reconnect;
pub use socket_sink::SocketSink;
pub use socket_source::SocketSource;
pub use stdout_sink::StdoutSink;
pub use two_phase::{TwoPhase, TwoPhaseSink};
pub use vec_source::VecSource;

use std::io;

use millstream_storage::io::FileFault;

use crate::error::Error;
use crate::operator::OperatorContext;

/// A file operation that failed, for whoever runs the job, with the advice for its kind of failure.
fn file_error(
    ctx: &OperatorContext<'_>,
    fault: FileFault,
    advice: fn(io::ErrorKind) -> &'static str,
) -> Error {
    let FileFault { action, source } = fault;
    let (operator, advice) = (ctx.name().to_string(), advice(source.kind()));
    Error::File { operator, action, advice, source }
}

/// Stops the job because a sink's format has no way to write a record.
fn fail_to_encode(ctx: &OperatorContext<'_>, reason: &str) {
    ctx.fail(Error::Input {
        place: format!("a record for operator {}", ctx.name()),
        reason: format!("{reason}; change the record's type, or take another format"),
    });
}
