//! The production host: pinned threads, real rings, files and clocks.
//!
//! The one place of the engine that may touch the operating system. Its files with unsafe code (the
//! others are named in ARCHITECTURE.md) have one idea each, stated in their headers as a rule of
//! ownership:
//!
//! | file | who owns what |
//! |---|---|
//! | `spsc.rs` | a slot belongs to the producer or to the consumer, as the two indices say |
//! | `parking.rs` | an eventfd has one owner (creating it is a system call) |
//! | `op_ring.rs`, `op_ring/op.rs` | an operation owns what it names until it is answered |
//! | `clock.rs` | nothing: reading the processor's counter is an instruction without operands |
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the host is what the rest of the engine must not reach for: clocks, threads, files"
)]

mod attempt;
mod beginning;
mod caller;
pub mod checkpoint_directory;
pub mod clock;
pub mod control;
pub mod cpu;
mod host;
pub(crate) mod memory;
pub mod node;
mod op_ring;
mod overflow;
pub mod parking;
mod printer;
mod process_limits;
mod refusal;
mod slew;
pub mod spsc;
mod state_directory;
pub mod storage_service;
mod sync;
mod thread_end;
pub mod uring;
