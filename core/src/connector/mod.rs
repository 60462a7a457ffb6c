//! Where records come from and where they go.
//!
//! ```text
//! generator ┐                                                      ┌ collect, discard, for_each
//! vector    │                                                      │ stdout
//! files     ├─► Source ─► rows ─► chains and exchanges ─► Sink ────┤ files
//! socket    ┘                                                      └ socket
//! ```
//!
//! Connectors are sans-IO like everything else: a source or sink asks for `FileOp`s and `SocketOp`s
//! and is told what came of them. What they decide is a function of those answers, so every branch
//! is tested with bytes in memory.

pub mod format;
pub mod generator;

#[cfg(test)]
mod testing;

pub use generator::{CardSource, GeneratorSource, NexmarkSource};
