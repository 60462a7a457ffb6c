//! From a task's output to the tasks that take its rows.
//!
//! ```text
//!            ┌ Edge: partitioner ──► Channel 0: open rows │ queue ──credit──► local element
//! row ──► Outputs                Channel 1: open rows │ queue ──credit──► frame to shard 1
//!            └ Edge: …
//! ```
//!
//! A channel is FIFO and lossless: what is queued leaves in order, each batch for one *credit*.
//! The credit is the container itself: the receiver hands the emptied buffer (or vector) back when
//! it has taken the rows, and until then the sender has one fewer to send. Control elements need no
//! credit, and barriers may overtake what waits for one. Whoever has no credit left keeps its rows,
//! stops taking new ones, and so the pressure travels upstream, per channel.
//!
//! Not here: how descriptors travel (`runtime/` and `sim/`), the receiving end
//! (`task/channel_feed.rs`).

pub mod channel;
pub mod descriptor;
pub mod outputs;
pub mod partitioner;
