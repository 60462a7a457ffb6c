//! Checkpoints as users rely on them: whatever ends a job, every result is there once.

mod process;
mod simulation;
