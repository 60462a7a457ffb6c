//! Integration tests: one binary, one module per subject.

mod process;
mod simulation;
mod storage_conformance;
mod windows;
