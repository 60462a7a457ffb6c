//! The answers of Linux that the simulated disk gives, by number, so that they read as a real one.
//!
//! Not here: which of them an operation answers with (`disk.rs`, `tree.rs`).

use std::io;

pub(super) const ENOENT: i32 = 2;
pub(super) const EIO: i32 = 5;
pub(super) const EBADF: i32 = 9;
pub(super) const ENOTDIR: i32 = 20;
pub(super) const EISDIR: i32 = 21;
pub(super) const EINVAL: i32 = 22;
pub(super) const EFBIG: i32 = 27;
pub(super) const ENOSPC: i32 = 28;

/// What the operating system would have answered.
pub(super) fn os_error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}
