//! A bounded queue from one thread to one other, without locks and without waiting.
//!
//! ```text
//!            head (consumer writes)     published tail      tail (producer's own)
//!             ▼                             ▼                ▼
//!  slots  │   │ c │ c │ c │ c │ c │ c │ c │ │ s │ s │ s │ s │   │   │     c  the consumer may take
//!                                                                          s  staged, not yet seen
//! ```
//!
//! The only unsafe idea in this file: a slot belongs to the producer while its index is in
//! `tail..head + capacity`, to nobody but the ring while it is staged, and to the consumer while it
//! is in `head..published tail`. Both indices are written by one side only, published with release
//! and read with acquire. They count for ever and wrap with the integer.
//!
//! Why it is fast: the two indices live on cache lines of their own, each side works on a *cached*
//! copy of the other's index and looks at the shared one only when the copy says full (empty), and
//! a batch is published, and taken, with one store. One by one a descriptor costs a cache miss each
//! way; in batches of eight and more the misses are shared.
//!
//! Not here: waking a consumer that sleeps (`parking.rs`), what the values are (`exchange/`).

use std::collections::VecDeque;
use std::fmt;
use std::mem::MaybeUninit;

use super::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// A ring of `capacity` slots: its two ends, to be given to two threads.
///
/// Values of up to 64 bytes lie in a cache line each.
///
/// # Panics
/// If `capacity` is not a power of two.
pub fn ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity.is_power_of_two(), "{capacity} slots are not a power of two");
    let shared = Arc::new(Shared {
        head: Padded(AtomicUsize::new(0)),
        tail: Padded(AtomicUsize::new(0)),
        slots: (0..capacity).map(|_| Slot(UnsafeCell::new(MaybeUninit::uninit()))).collect(),
    });
    let producer = Producer { shared: Arc::clone(&shared), tail: 0, tail_published: 0, head: 0 };
    (producer, Consumer { shared, head: 0, tail: 0 })
}

/// Two lines: the neighbour line is prefetched with the one that is touched.
#[repr(align(128))]
struct Padded<T>(T);

/// A line of its own, so that the two sides never share one that they write.
#[repr(align(64))]
struct Slot<T>(UnsafeCell<MaybeUninit<T>>);

struct Shared<T> {
    /// Values taken so far. Written by the consumer.
    head: Padded<AtomicUsize>,
    /// Values published so far. Written by the producer.
    tail: Padded<AtomicUsize>,
    slots: Box<[Slot<T>]>,
}

// SAFETY: a value moves from the producer's thread to the consumer's, which `T: Send` allows; at
// any time one side at most touches a slot (see the header).
unsafe impl<T: Send> Sync for Shared<T> {}

// SAFETY: the ring owns its values; whoever drops it drops them, which `T: Send` allows.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[index & (self.slots.len() - 1)].0
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Both ends are gone; the reference count ordered all they did before this.
        let tail = self.tail.0.load(Ordering::Relaxed);
        let mut index = self.head.0.load(Ordering::Relaxed);
        while index != tail {
            // SAFETY: slots in `head..tail` hold values, and nobody else is left to take them.
            self.slot(index).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            index = index.wrapping_add(1);
        }
    }
}

/// The end that values go into.
pub struct Producer<T: Send> {
    shared: Arc<Shared<T>>,
    /// Values written so far, staged ones included.
    tail: usize,
    /// What `shared.tail` says.
    tail_published: usize,
    /// What `shared.head` said last. The truth is this or more.
    head: usize,
}

impl<T: Send> Producer<T> {
    /// Puts `value` into the ring, where the consumer sees it at once together with everything
    /// staged before.
    ///
    /// # Errors
    /// Gives `value` back if the ring is full.
    pub fn push(&mut self, value: T) -> Result<(), T> {
        self.stage(value)?;
        self.publish();
        Ok(())
    }

    /// Puts `value` into the ring, where the consumer sees it after the next
    /// [`Producer::publish`].
    ///
    /// # Errors
    /// Gives `value` back if the ring is full; it stays so until the consumer has taken something.
    pub fn stage(&mut self, value: T) -> Result<(), T> {
        if self.room() == 0 {
            return Err(value);
        }
        self.write(value);
        Ok(())
    }

    /// Shows the consumer everything staged so far. Cheap if there is nothing.
    pub fn publish(&mut self) {
        if self.tail != self.tail_published {
            // Pairs with the consumer's load: the slots are written before it sees them.
            self.shared.tail.0.store(self.tail, Ordering::Release);
            self.tail_published = self.tail;
        }
    }

    /// Moves as many values as fit from the front of `values` and publishes them together.
    /// Returns how many.
    pub fn push_batch(&mut self, values: &mut VecDeque<T>) -> usize {
        let mut room = self.room_for(values.len());
        room = room.min(values.len());
        for value in values.drain(..room) {
            self.write(value);
        }
        self.publish();
        room
    }

    /// How many values fit at least. Zero is the truth; the consumer may have made more room than
    /// any other answer says.
    pub fn room(&mut self) -> usize {
        self.room_for(1)
    }

    /// Slots of the ring.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// Room as the cached head has it, or the true room if that is less than `wanted`.
    fn room_for(&mut self, wanted: usize) -> usize {
        let capacity = self.capacity();
        let room = capacity - self.tail.wrapping_sub(self.head);
        if room >= wanted {
            return room;
        }
        // Pairs with the consumer's store: it has read the slots before they are free.
        self.head = self.shared.head.0.load(Ordering::Acquire);
        let used = self.tail.wrapping_sub(self.head);
        assert!(used <= capacity, "the consumer took what was never there");
        capacity - used
    }

    /// The caller has seen that there is room.
    fn write(&mut self, value: T) {
        debug_assert!(self.tail.wrapping_sub(self.head) < self.capacity());
        self.shared.slot(self.tail).with_mut(|slot| {
            // SAFETY: `tail - head < capacity`, so the slot is the producer's, and the acquire in
            // `room_for` ordered the consumer's last read of it before this write.
            unsafe { (*slot).write(value) };
        });
        self.tail = self.tail.wrapping_add(1);
    }
}

impl<T: Send> Drop for Producer<T> {
    fn drop(&mut self) {
        // What was staged belongs to the ring from here on.
        self.publish();
    }
}

/// The end that values come out of, in the order in which they went in.
pub struct Consumer<T: Send> {
    shared: Arc<Shared<T>>,
    /// Values taken so far: what `shared.head` says.
    head: usize,
    /// What `shared.tail` said last. The truth is this or more.
    tail: usize,
}

impl<T: Send> Consumer<T> {
    /// The oldest value, if any.
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let value = self.read();
        self.release();
        Some(value)
    }

    /// Appends at most `count_max` of the oldest values to `values`, and gives their slots back
    /// together. Returns how many.
    pub fn pop_into(&mut self, values: &mut Vec<T>, count_max: usize) -> usize {
        if self.tail.wrapping_sub(self.head) < count_max {
            self.refresh();
        }
        let count = self.tail.wrapping_sub(self.head).min(count_max);
        values.reserve(count);
        for _ in 0..count {
            let value = self.read();
            values.push(value);
        }
        if count > 0 {
            self.release();
        }
        count
    }

    /// True if nothing is published that was not taken.
    pub fn is_empty(&mut self) -> bool {
        if self.head == self.tail {
            self.refresh();
        }
        self.head == self.tail
    }

    /// Looks at the producer's index.
    fn refresh(&mut self) {
        // Pairs with the producer's store: the slots up to here are written.
        self.tail = self.shared.tail.0.load(Ordering::Acquire);
        assert!(self.tail.wrapping_sub(self.head) <= self.shared.slots.len());
    }

    /// The caller has seen that the ring is not empty.
    fn read(&mut self) -> T {
        debug_assert_ne!(self.head, self.tail);
        let value = self.shared.slot(self.head).with_mut(|slot| {
            // SAFETY: `head != tail`, so the slot is the consumer's and holds a value, whose write
            // the acquire in `refresh` ordered before this. It is read once: `head` moves on.
            unsafe { (*slot).assume_init_read() }
        });
        self.head = self.head.wrapping_add(1);
        value
    }

    /// Gives the slots of everything taken so far back to the producer.
    fn release(&mut self) {
        // Pairs with the producer's load: the slots are read before it writes them again.
        self.shared.head.0.store(self.head, Ordering::Release);
    }
}

impl<T: Send> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("capacity", &self.capacity())
            .field("staged", &self.tail.wrapping_sub(self.tail_published))
            .finish_non_exhaustive()
    }
}

impl<T: Send> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("capacity", &self.shared.slots.len())
            .field("seen", &self.tail.wrapping_sub(self.head))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
