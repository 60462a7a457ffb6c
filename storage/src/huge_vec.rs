//! [`HugeVec`]: values that never move, side by side in one huge page if the system has one to
//! give. (From kernel 6.7 on a mapping of this size begins where a huge page can.)
//!
//! A table of millions of keys touches its memory at random. With pages of 4 KiB nearly every touch
//! also misses the translation cache; with pages of 2 MiB few do. [`crate::arena`] does the same
//! for buffers of bytes; this is for typed values.
//!
//! The only unsafe idea in this file: **the first `len` places of the mapping hold values, the
//! others hold none, and the vector owns both.** A place is written by `push` before `len` counts
//! it, and its value is dropped once, by the vector's own drop.
//!
//! Invariant: `len <= CAPACITY`, and the mapping is at least `CAPACITY` values long.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr;
use std::slice;

use memmap2::{Advice, MmapMut, MmapRaw};

use crate::arena::CHUNK_BYTES;

/// The system maps memory at multiples of this at least.
const PAGE_BYTES: usize = 4096;

/// A vector of at most [`HugeVec::CAPACITY`] values in a mapping of its own.
pub struct HugeVec<T> {
    mapping: MmapRaw,
    len: usize,
    values: PhantomData<T>,
}

impl<T> HugeVec<T> {
    /// How many values fit into [`CHUNK_BYTES`]; one if not even one fits.
    pub const CAPACITY: usize = {
        assert!(0 < size_of::<T>() && align_of::<T>() <= PAGE_BYTES);
        let fit = CHUNK_BYTES / size_of::<T>();
        if fit == 0 { 1 } else { fit }
    };

    /// Bytes of its mapping.
    pub const BYTES: usize = (Self::CAPACITY * size_of::<T>()).next_multiple_of(CHUNK_BYTES);

    /// An empty one. Maps the memory; a page of it takes space once it is written.
    ///
    /// # Panics
    /// If the system refuses the memory.
    pub fn new() -> Self {
        let bytes = Self::BYTES;
        let mapping = MmapMut::map_anon(bytes).unwrap_or_else(|error| {
            panic!("the system refused {bytes} bytes for state, check memory limits: {error}")
        });
        // A system without huge pages answers with an error and works all the same.
        let _ = mapping.advise(Advice::HugePage);
        Self { mapping: MmapRaw::from(mapping), len: 0, values: PhantomData }
    }

    /// Appends a value.
    ///
    /// # Panics
    /// If it is full.
    pub fn push(&mut self, value: T) {
        assert!(self.len < Self::CAPACITY, "a full vector is not pushed to");
        // SAFETY: the place is within the mapping, aligned because the mapping begins at a page
        // and places are multiples of the size, and holds no value yet.
        unsafe { self.start().add(self.len).write(value) };
        self.len += 1;
    }

    /// Drops all values, and keeps the memory.
    pub fn clear(&mut self) {
        let values: *mut [T] = &raw mut **self;
        self.len = 0;
        // SAFETY: these places held values, nothing counts them any more, and the mapping is still
        // there.
        unsafe { ptr::drop_in_place(values) };
    }

    fn start(&self) -> *mut T {
        self.mapping.as_mut_ptr().cast()
    }
}

impl<T> Default for HugeVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for HugeVec<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the first `len` places hold values, and `&self` keeps writers away.
        unsafe { slice::from_raw_parts(self.start(), self.len) }
    }
}

impl<T> DerefMut for HugeVec<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: the first `len` places hold values, and `&mut self` keeps everybody else away.
        unsafe { slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl<T> Drop for HugeVec<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<T: Clone> Clone for HugeVec<T> {
    fn clone(&self) -> Self {
        let mut clone = Self::new();
        self.iter().for_each(|value| clone.push(value.clone()));
        clone
    }
}

impl<T: fmt::Debug> fmt::Debug for HugeVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    struct Counted(Rc<Cell<u32>>, u32);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn values_stay_where_they_are_and_are_dropped_once() {
        let dropped = Rc::new(Cell::new(0));
        let mut values = HugeVec::new();
        values.push(Counted(Rc::clone(&dropped), 0));
        let first = &raw const values[0];
        (1..1000).for_each(|i| values.push(Counted(Rc::clone(&dropped), i)));
        assert_eq!(&raw const values[0], first);
        assert!(values.iter().map(|value| value.1).eq(0..1000));
        values[7].1 = 70;
        assert_eq!(values[7].1, 70);
        assert_eq!(dropped.get(), 0);
        drop(values);
        assert_eq!(dropped.get(), 1000);
    }

    #[test]
    fn it_goes_where_its_values_may_go() {
        fn is_send_and_sync<T: Send + Sync>() {}
        is_send_and_sync::<HugeVec<String>>();
    }

    #[test]
    fn a_cleared_one_is_empty_and_keeps_its_place() {
        let dropped = Rc::new(Cell::new(0));
        let mut values = HugeVec::new();
        values.push(Counted(Rc::clone(&dropped), 0));
        let first = &raw const values[0];
        values.clear();
        assert_eq!((values.len(), dropped.get()), (0, 1));
        values.push(Counted(Rc::clone(&dropped), 1));
        assert_eq!(&raw const values[0], first);
    }

    #[test]
    fn a_clone_is_independent() {
        let mut values = HugeVec::new();
        values.push("a".to_string());
        let mut clone = values.clone();
        clone.push("b".to_string());
        clone[0].push('!');
        assert_eq!((&*values, &*clone), (&["a".into()][..], &["a!".into(), "b".into()][..]));
    }

    #[test]
    fn it_holds_a_huge_page_full() {
        assert_eq!(HugeVec::<[u64; 4]>::CAPACITY, 65_536);
        assert_eq!(HugeVec::<[u64; 5]>::CAPACITY, 52_428);
        assert_eq!(HugeVec::<[u8; 3 << 20]>::CAPACITY, 1);
        let mut values = HugeVec::new();
        (0..HugeVec::<u64>::CAPACITY as u64).for_each(|i| values.push(i));
        assert_eq!(values.last(), Some(&((CHUNK_BYTES as u64) / 8 - 1)));
    }

    #[test]
    #[should_panic(expected = "full vector")]
    fn more_are_refused() {
        let mut values = HugeVec::new();
        (0..=HugeVec::<[u8; 4096]>::CAPACITY).for_each(|_| values.push([0_u8; 4096]));
    }
}
