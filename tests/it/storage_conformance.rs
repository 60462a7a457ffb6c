//! Every disk keeps the contract of `millstream_storage::io`: the same scripts on the glommio
//! service, on the raw ring, and on the simulated disk, with the same transcript expected.
//!
//! A transcript has one line per operation, by number. That answers of one file come in order, and
//! each once, is checked on the way.
//!
//! Not here: what only a simulated disk does (crashes, faults: `sim/disk/tests.rs`), and the order
//! of operations as such (`storage_service/queue/tests.rs`).

mod bench;
mod process;
mod scripts;
