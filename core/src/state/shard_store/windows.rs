//! State that dies with its window: a space of the store for each window, which goes as a whole.
//!
//! ```text
//! open_windowed_state ─► open_window ─► append … ─► scan … ─► drop_window ─► pass_windows
//! ```
//!
//! Nothing is read before something is appended, and no tombstones are written: what files have of
//! a window that is gone goes with their merges, and what was not written yet never is.

use millstream_storage::write_buffer::{Origin, RecordKey, SpaceId};

use super::{Put, ShardStore, Waiter};
use crate::error::Error;

impl ShardStore {
    /// Opens a place for a state of an operator whose windows have spaces of their own, and answers
    /// its number.
    ///
    /// # Panics
    /// As [`ShardStore::open_state`].
    pub fn open_windowed_state(&self) -> u16 {
        self.inner.borrow_mut().take_state_id()
    }

    /// Opens the space of the window that ends at `end_ms`.
    ///
    /// # Panics
    /// If it is open, or was dropped.
    pub fn open_window(&self, state_id: u16, end_ms: i64) -> SpaceId {
        self.inner.borrow_mut().store.open_space(state_id, end_ms, Origin::New)
    }

    /// Drops the space of a window with all that is in it.
    ///
    /// # Panics
    /// If it is not open.
    pub fn drop_window(&self, space: SpaceId) {
        self.inner.borrow_mut().store.drop_space(space);
    }

    /// No space is opened any more for windows of a state that end before `windows_from_ms`.
    pub fn pass_windows(&self, state_id: u16, windows_from_ms: i64) {
        self.inner.borrow_mut().store.pass_windows(state_id, windows_from_ms);
    }

    /// Adds `bytes` at the end of the value of `key`, whatever it is.
    ///
    /// # Errors
    /// If the store has failed.
    pub fn append(&self, space: SpaceId, key: RecordKey<'_>, bytes: &[u8]) -> Result<Put, Error> {
        self.change(|store| store.append(space, key, bytes))
    }

    /// The waiter is told when there may be room for what was refused.
    pub fn wait_for_room(&self, waiter: Waiter) {
        self.inner.borrow_mut().wait_for_room(waiter);
    }
}
