//! Compaction: fewer tables, without what is hidden or dead.
//!
//! Tables are immutable, so a compaction reads some and writes another, and the store then has a
//! new version in which it takes their place. Which ones is a pure decision ([`pick()`]); a [`Job`]
//! carries it out: a [`Merge`](crate::merge::Merge) into a [`Writer`](crate::table::Writer).

mod job;
mod pick;

#[cfg(test)]
mod tests;

pub use job::{Job, Progress};
pub use pick::{BandTable, Choice, FAN_IN, Tier, pick};
