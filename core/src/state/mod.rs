//! Keyed and operator state, in memory.
//!
//! ```text
//! row.hash64, key ──► KeyTable ──► slot ──► StateColumns   a column for each state
//!                                      ├──► TimerQueue     event time     (time/timer.rs)
//!                                      └──► TimerQueue     processing time
//! ```
//!
//! [`keyed::KeyedState`] is all of it for one operator: a record's key is looked up once, and all
//! that is kept for the key is found by its slot. What users hold are handles (`ValueState`, ...):
//! numbers of columns, so that a function stays a value that can be copied to every task.
//!
//! What has no room in memory is in the shard's [store](shard_store): see [`residents`].
//!
//! Not here: what calls it (`operator/process.rs`).

pub mod aggregate;
pub mod broadcast;
pub mod columns;
pub mod durable;
mod expiry;
pub mod keyed;
pub mod list;
pub mod map;
pub mod operator_list;
pub mod packed;
pub mod residents;
pub mod schema;
pub mod shard_store;
pub mod snapshot;
pub mod spec;
mod stored;
pub mod table;
pub mod value;
