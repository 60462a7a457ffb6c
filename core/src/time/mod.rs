//! Event time: how far it has come, and what waits for it.

pub mod watermark;
