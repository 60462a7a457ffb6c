//! What the integration tests share: oracles, and real processes.

pub mod child;
pub mod model;
