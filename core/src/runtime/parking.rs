//! Sleeping without missing the call: the protocol between a consumer and its producers.
//!
//! ```text
//! consumer                              producer
//! parked = true                         publish the value           (ring tail, release)
//! ── fence ──                           ── fence ──
//! look at every input once more         parked?
//!   something there → parked = false      no  → done: it is awake, or will look after its fence
//!   nothing → sleep until the bell        yes → parked = false, ring the bell
//! ```
//!
//! Each side writes one place, fences, and reads the other's. The two fences (`SeqCst`) are in some
//! order: the one that comes second reads what was written before the first. So either the producer
//! sees the flag and rings, or the consumer sees the value and does not sleep. `tests/loom` checks
//! all interleavings of one call, and those of more that have few preemptions. The bell keeps a
//! ring that nobody waits for: ringing too early or too often costs a needless look, never a lost
//! value.
//!
//! A producer of a consumer that is awake pays one fence and one load of a line that nobody writes.
//!
//! Not here: the queue of values (`spsc.rs`), waiting for the eventfd (`uring.rs`), whether to park
//! at all (the loop of the host).

#[cfg(not(loom))]
use std::fs::File;
#[cfg(not(loom))]
use std::io::{self, Read, Write};
#[cfg(not(loom))]
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};
#[cfg(not(loom))]
use std::sync::{Mutex, PoisonError};

use super::sync::{Arc, AtomicBool, Ordering, fence};

/// The side that sleeps. One per consumer.
#[derive(Debug)]
pub struct Parker {
    shared: Arc<Shared>,
}

/// The side that wakes. One per producer, or cloned for several.
#[derive(Debug, Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The consumer sleeps, or is about to look at its inputs a last time.
    parked: AtomicBool,
    bell: Bell,
}

/// What wakes the consumer. Every kind remembers a ring that comes before the wait.
#[derive(Debug)]
enum Bell {
    /// The consumer waits in the kernel, for this among other things.
    #[cfg(not(loom))]
    Eventfd(File),
    /// The consumer is a task of an executor, once it has been polled.
    #[cfg(not(loom))]
    Task(Mutex<Option<std::task::Waker>>),
    /// What the other two amount to: a mark that stays until a wait takes it away.
    #[cfg(loom)]
    Model(loom::sync::Mutex<bool>, loom::sync::Condvar),
}

impl Parker {
    /// For a consumer that waits in the kernel, for [`Parker::eventfd`] among other things.
    ///
    /// # Errors
    /// The operating system's, if it has no file descriptor left.
    #[cfg(not(loom))]
    pub fn with_eventfd() -> io::Result<Self> {
        // SAFETY: a system call without pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, so this file is its only owner.
        let file = unsafe { File::from_raw_fd(fd) };
        Ok(Self::new(Bell::Eventfd(file)))
    }

    /// For a consumer that is a task of an executor; see [`Parker::set_task`].
    #[cfg(not(loom))]
    pub fn with_task() -> Self {
        Self::new(Bell::Task(Mutex::new(None)))
    }

    /// For a consumer under loom.
    #[cfg(loom)]
    pub fn with_model() -> Self {
        Self::new(Bell::Model(loom::sync::Mutex::new(false), loom::sync::Condvar::new()))
    }

    fn new(bell: Bell) -> Self {
        Self { shared: Arc::new(Shared { parked: AtomicBool::new(false), bell }) }
    }

    /// A handle that wakes this consumer.
    pub fn waker(&self) -> Waker {
        Waker { shared: Arc::clone(&self.shared) }
    }

    /// Calls `wait` unless `is_idle` finds work after producers were told to ring. `wait` returns
    /// once the bell rings, and may return earlier. Returns whether `wait` was called.
    pub fn park(&self, is_idle: impl FnOnce() -> bool, wait: impl FnOnce()) -> bool {
        let idle = self.announce(is_idle);
        if idle {
            wait();
            self.retract();
        }
        idle
    }

    /// Tells producers to ring from now on, and asks `is_idle` for the last time. If that finds
    /// work, producers need not ring after all, and the answer is false; else the caller waits
    /// for the bell, then calls [`Parker::retract`].
    pub fn announce(&self, is_idle: impl FnOnce() -> bool) -> bool {
        // Pairs with the exchange in `Waker::wake`: comes after every flag taken down there. (A
        // relaxed store would do, as nothing gets between what an exchange read and wrote. Loom
        // does not draw this conclusion, and who goes to sleep is not in a hurry.)
        self.shared.parked.swap(true, Ordering::AcqRel);
        // Pairs with the fence in `Waker::wake`; the header says what for.
        fence(Ordering::SeqCst);
        let idle = is_idle();
        if !idle {
            self.retract();
        }
        idle
    }

    /// Tells producers that this consumer is awake.
    pub fn retract(&self) {
        self.shared.parked.store(false, Ordering::Relaxed);
    }

    /// The descriptor that becomes readable when the bell rings.
    ///
    /// # Panics
    /// If this parker was not made by [`Parker::with_eventfd`].
    #[cfg(not(loom))]
    pub fn eventfd(&self) -> BorrowedFd<'_> {
        match &self.shared.bell {
            Bell::Eventfd(file) => file.as_fd(),
            Bell::Task(_) => panic!("a task's parker has no eventfd"),
        }
    }

    /// Forgets rings that nobody waited for.
    ///
    /// # Panics
    /// If this parker was not made by `Parker::with_eventfd`.
    pub fn drain(&self) {
        match &self.shared.bell {
            // Nothing to read is the usual case and an error of its own.
            #[cfg(not(loom))]
            Bell::Eventfd(file) => drop((&*file).read(&mut [0; 8])),
            #[cfg(not(loom))]
            Bell::Task(_) => panic!("a task's parker has no eventfd"),
            #[cfg(loom)]
            Bell::Model(rung, _) => *rung.lock().expect("no thread panics") = false,
        }
    }

    /// Sets the task that the bell wakes, as last polled.
    ///
    /// # Panics
    /// If this parker was not made by [`Parker::with_task`].
    #[cfg(not(loom))]
    pub fn set_task(&self, task: &std::task::Waker) {
        let Bell::Task(slot) = &self.shared.bell else {
            panic!("an eventfd's parker has no task");
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if !slot.as_ref().is_some_and(|old| old.will_wake(task)) {
            *slot = Some(task.clone());
        }
    }

    /// Forgets the task that the bell wakes: it has ended.
    ///
    /// # Panics
    /// If this parker was not made by [`Parker::with_task`].
    #[cfg(not(loom))]
    pub fn clear_task(&self) {
        let Bell::Task(slot) = &self.shared.bell else {
            panic!("an eventfd's parker has no task");
        };
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Waker {
    /// Wakes the consumer if it sleeps. To be called after a value was published.
    pub fn wake(&self) {
        // Pairs with the fence in `Parker::announce`.
        fence(Ordering::SeqCst);
        if self.shared.parked.load(Ordering::Relaxed)
            // Of several producers one rings.
            && self.shared.parked.swap(false, Ordering::AcqRel)
        {
            self.shared.bell.ring();
        }
    }

    /// Rings whether or not the consumer says that it sleeps.
    pub fn kick(&self) {
        self.shared.bell.ring();
    }
}

impl Bell {
    #[cfg(not(loom))]
    fn ring(&self) {
        match self {
            Self::Eventfd(file) => {
                // Fails if the counter is at its end: then it has been rung, and that is enough.
                let _ = (&*file).write(&1_u64.to_ne_bytes());
            }
            Self::Task(task) => {
                let task = task.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(task) = task.as_ref() {
                    task.wake_by_ref();
                }
            }
        }
    }

    #[cfg(loom)]
    fn ring(&self) {
        let Self::Model(rung, wake) = self;
        *rung.lock().expect("no thread panics") = true;
        wake.notify_one();
    }
}

#[cfg(test)]
mod tests;
