//! Oracles: what operators should give, computed the slow and obvious way.
//!
//! A model holds everything it has ever seen in vectors and looks through all of it at every step.
//! Models are written from the definitions in the user's documentation and use none of the engine's
//! code.

pub mod join;
pub mod process;
pub mod rolling;
pub mod trigger;
pub mod window;
