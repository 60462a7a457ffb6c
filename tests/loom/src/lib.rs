//! The lock-free files of the engine, compiled against loom: every interleaving of their models.
//!
//! `cargo test -p millstream-loom` runs the `model` tests of the files named here. A package of its
//! own, because `--cfg loom` for the whole build would reach tokio, which then leaves out its
//! network; `build.rs` sets the flag for this package alone, so that no second target directory and
//! no environment variable is needed.

#[path = "../../../core/src/runtime"]
mod runtime {
    pub mod parking;
    pub mod spsc;
    mod sync;
}

pub use runtime::{parking, spsc};
