//! Keyed and operator state.

pub mod snapshot;
