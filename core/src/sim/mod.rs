//! The simulated host: what surrounds a shard in a test, made of values and a seed.
//!
//! Everything that differs between two runs of a job (how long the disk takes, what it loses in a
//! crash) is drawn from one [`rng::Rng`], so that a seed names a run and a failure can be repeated.
//!
//! Not here: the production host (`runtime/`). Neither of the two knows the other.

mod calls;
pub mod disk;
pub mod network;
pub mod rng;
pub mod sockets;
mod stores;
pub mod trace;
pub mod world;
