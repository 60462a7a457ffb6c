//! What the integration tests share: oracles.

pub mod model;
