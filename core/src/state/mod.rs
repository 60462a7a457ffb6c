//! Keyed and operator state.

pub mod snapshot;
pub mod table;
