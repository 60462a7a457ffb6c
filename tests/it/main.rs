//! Integration tests: one binary, one module per subject.

mod backpressure;
pub mod card_fraud;
mod connectors;
pub mod flights;
mod joins;
mod large_rows;
mod operators;
mod partitioners;
mod process;
mod process_functions;
mod rolling;
mod scripts;
mod simulation;
mod stateless;
mod storage_conformance;
mod time;
mod triggers;
mod window_joins;
mod window_turns;
mod windows;
