//! Integration tests: one binary, one module per subject.

pub mod card_fraud;
mod backpressure;
mod process;
mod simulation;
mod storage_conformance;
mod joins;
mod windows;
