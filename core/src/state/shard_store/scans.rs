//! Scans of a space: all entries, some at a time, or one by one.

use std::task::Poll;

use millstream_storage::store::{self, Scan, Scanned};
use millstream_storage::write_buffer::SpaceId;

use super::{Inner, ShardStore, Waiter, unusable};
use crate::error::Error;

/// Entries that a scan shows in one go.
const SCAN_ENTRIES: usize = 256;

/// What came of looking at the next entry of a space.
#[derive(Debug)]
pub enum Seen<T> {
    /// What was made of it.
    Entry(T),
    /// The waiter is told when to ask again.
    Pending,
    /// There are no more.
    Done,
}

impl ShardStore {
    /// Begins to look at all there is in `space`.
    pub fn scan(&self, space: SpaceId) -> Scan {
        let inner = &*self.inner.borrow();
        inner.store.scan(space, inner.key_groups.clone())
    }

    /// Goes on with a scan: `see` is shown some stored keys and values. Pending if there
    /// are more; the waiter is told when to go on.
    ///
    /// # Errors
    /// If a table cannot be read or is damaged.
    pub fn scan_some(
        &self,
        scan: &mut Scan,
        waiter: Waiter,
        mut see: impl FnMut(&[u8], &[u8]),
    ) -> Result<Poll<()>, Error> {
        let inner = &mut *self.inner.borrow_mut();
        for _ in 0..SCAN_ENTRIES {
            match inner.scan_next(scan, waiter, &mut see)? {
                Seen::Entry(()) => {}
                Seen::Pending => return Ok(Poll::Pending),
                Seen::Done => return Ok(Poll::Ready(())),
            }
        }
        inner.wake(waiter);
        Ok(Poll::Pending)
    }

    /// Goes on with a scan by one entry: `see` is shown its stored key and its value. It must not
    /// ask the store for anything.
    ///
    /// # Errors
    /// If a table cannot be read or is damaged.
    pub fn scan_next<T>(
        &self,
        scan: &mut Scan,
        waiter: Waiter,
        see: impl FnOnce(&[u8], &[u8]) -> T,
    ) -> Result<Seen<T>, Error> {
        self.inner.borrow_mut().scan_next(scan, waiter, see)
    }
}

impl Inner {
    fn scan_next<T>(
        &mut self,
        scan: &mut Scan,
        waiter: Waiter,
        see: impl FnOnce(&[u8], &[u8]) -> T,
    ) -> Result<Seen<T>, Error> {
        match self.store.scan_next(scan) {
            Ok(Scanned::Entry { key, value }) => return Ok(Seen::Entry(see(key, value))),
            Ok(Scanned::Done) => return Ok(Seen::Done),
            Ok(Scanned::Slice) => self.wake(waiter),
            Ok(Scanned::Wait(op)) => {
                let waiters = self.waiters.entry(op).or_default();
                if !waiters.contains(&waiter) {
                    waiters.push(waiter);
                }
            }
            Err(store::Error::Full(_)) => {
                self.wait_for_room(waiter);
                self.is_refused = true;
            }
            Err(error) => return Err(unusable(error)),
        }
        Ok(Seen::Pending)
    }
}
