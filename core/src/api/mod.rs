//! How a user writes a job.
//!
//! Everything here builds two things: the plan (`graph/`), and a factory for the tasks of each
//! chain. Nothing here is on the path of a record.

pub mod any_stream;
pub mod connected;
mod draft;
pub mod head;
pub mod job;
pub mod joined;
pub mod keyed;
pub mod main;
pub mod plan;
mod progress;
pub mod shared;
pub mod simulate;
pub mod stream;
pub mod triggered;
pub mod windowed;

pub use any_stream::AnyStream;
pub use connected::ConnectedStreams;
pub use job::Job;
pub use keyed::{KeyedStream, SharedKeyedStream};
pub use main::{JobArgs, JobCommand, RunArgs, fail};
pub use plan::JobPlan;
pub use shared::{SharedStream, StreamEnd};
pub use simulate::SimulateArgs;
pub use stream::Stream;
pub use windowed::WindowedStream;

#[cfg(test)]
mod tests;
