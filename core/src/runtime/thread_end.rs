//! Waiting for a thread to end, but not for ever.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// Waits for `thread` to end. None if it has not at `until`: then it is left behind.
pub(super) fn await_end<T>(thread: JoinHandle<T>, until: Instant) -> Option<thread::Result<T>> {
    while !thread.is_finished() {
        if until <= Instant::now() {
            return None;
        }
        thread::sleep(LOOK_EVERY);
    }
    Some(thread.join())
}
