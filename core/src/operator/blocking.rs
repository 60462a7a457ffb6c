//! Calls that block: of a library that waits for a database or a network by itself.
//!
//! ```text
//! operator ──BlockingCall──► host: a thread of the operator's own ──► FileDone ──► operator
//!                            simulation: made when it is due
//! ```
//!
//! A shard never waits, so what blocks is a value that the host carries out elsewhere. Calls of one
//! operator of one task are made one after the other, in the order in which they were asked for,
//! and are answered as a write to a file is. How many are under way at a time is the operator's
//! business; it is not ready while there are enough.
//!
//! Not here: the threads (`runtime/caller.rs`), the simulated ones (`sim/calls.rs`).

use std::fmt;
use std::io;

use millstream_storage::io::{FileAnswer, FileDone, FileFault, OpId};

/// A call to be made on a thread that may wait.
pub struct BlockingCall {
    /// What it does, in the words of an error: `commit to the database`.
    action: String,
    call: Call,
}

type Call = Box<dyn FnOnce() -> io::Result<()> + Send>;

impl BlockingCall {
    /// `call` does `action`: that goes on from `could not`.
    pub fn new(
        action: impl Into<String>,
        call: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Self {
        Self { action: action.into(), call: Box::new(call) }
    }

    /// Makes it. `guarded` calls it and gives the message of a panic.
    pub(crate) fn make(
        self,
        op: OpId,
        guarded: impl FnOnce(Call) -> Result<io::Result<()>, String>,
    ) -> FileDone {
        let Self { action, call } = self;
        let result = guarded(call)
            .unwrap_or_else(|message| Err(io::Error::other(format!("it panicked: {message}"))));
        let result = match result {
            Ok(()) => Ok(FileAnswer::Written { bytes: Vec::new() }),
            Err(source) => Err(FileFault { action, source }),
        };
        FileDone { op, result }
    }
}

impl fmt::Debug for BlockingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingCall").field("action", &self.action).finish_non_exhaustive()
    }
}
