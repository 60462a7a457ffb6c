//! The primitives that `spsc.rs` and `parking.rs` are written against: std's, or loom's.
//!
//! Loom runs a closure under every interleaving (and every reordering that the memory model allows)
//! of its threads, provided that all shared memory is loom's. `tests/loom` compiles the two files a
//! second time with `cfg(loom)`; tokio and glommio never see that flag, which they would take for
//! their own.

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence},
};

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering, fence},
};

/// `std::cell::UnsafeCell` with loom's interface: the pointer is lent to a closure, which is how
/// loom knows for how long the cell is in use.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Calls `f` with the address of the value, which nobody else may use meanwhile.
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}
