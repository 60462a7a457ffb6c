//! Stateful, event-time stream processing on pinned cores that share nothing.
//!
//! A job is a graph of operators built with the [`prelude`]; a shard
//! is one pinned thread and everything it owns.

pub mod api;
pub mod checkpoint;
pub mod config;
pub mod connector;
pub mod data;
pub mod error;
pub mod exchange;
pub mod graph;
pub mod limits;
pub mod operator;
pub mod prelude;
pub mod runtime;
pub mod shard;
pub mod sim;
pub mod state;
pub mod task;
pub mod testing;
pub mod time;

pub use error::{Error, Result};

/// The examples of the documents, compiled as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    struct Readme;

    #[doc = include_str!("../../docs/getting-started.md")]
    struct GettingStarted;

    #[doc = include_str!("../../docs/concepts/testing.md")]
    struct Testing;
}
