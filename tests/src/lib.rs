//! What the integration tests share: oracles, workloads and checks.

pub mod drive;
pub mod model;
