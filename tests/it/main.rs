//! Integration tests: one binary, one module per subject.

mod storage_conformance;
mod windows;
