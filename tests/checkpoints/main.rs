//! Checkpoints as users rely on them: whatever ends a job, every result is there once.

mod in_flight;
mod linked;
mod log;
mod memory;
mod process;
mod restarts;
mod simulation;
mod stuck;
mod two_phase;
