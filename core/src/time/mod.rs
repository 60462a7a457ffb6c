//! Event time: how far it has come, and how it is cut into windows. Pure.
//!
//! Event times and watermarks are milliseconds since 1970, and may be negative. A watermark of `w`
//! says that no record at or before `w` is still expected.
//!
//! Not here: the operators that use these (`operator/watermark.rs`, `operator/window/`).

pub mod evictor;
pub mod slices;
pub mod splits;
pub mod strategy;
pub mod timer;
pub mod trigger;
pub mod watermark;
pub mod window;
