//! What the integration tests share: oracles, workloads and checks.
