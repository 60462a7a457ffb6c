//! Keyed and operator state.

pub mod aggregate;
pub mod snapshot;
pub mod table;
