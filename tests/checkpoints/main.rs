//! Checkpoints as users rely on them: whatever ends a job, every result is there once.

mod memory;
mod process;
mod simulation;
