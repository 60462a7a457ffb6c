//! Dense numbers for the keys of one task, and arrays indexed by them.
//!
//! A keyed operator looks a key up once per record and gets a [`Slot`]; everything it keeps for the
//! key (each state, its timers) is an element of some [`Pages`] at that slot. Slots are reused, so
//! pages stay about as long as there were keys at one time.

use millstream_storage::huge_vec::HugeVec;
use millstream_storage::prefetch::prefetch;

/// The number of a key on its task, while the key has state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// Elements that are made together, at most.
const PAGE_LEN: usize = 1 << 10;

/// An array indexed by [`Slot`] that grows a page of 1,024 elements at a time: nothing that is
/// there ever moves, so growth stalls for one page and no longer. (An element far behind the last
/// one brings those before it in its chunk with it, 2 MiB at most.) Elements never set are `T`'s
/// default.
///
/// ```text
/// few   [ page ] [ page ] …      as many elements as a chunk has, on the heap
/// many  [ chunk        ] …       all others, in huge pages: at random, pages of 4 KiB
///                                would miss the translation cache nearly every time
/// ```
#[derive(Debug, Clone)]
pub struct Pages<T> {
    /// A page is empty until one of its elements is asked for.
    few: Vec<Vec<T>>,
    /// A chunk has elements up to the end of the last page that was asked for in it.
    many: Vec<Option<HugeVec<T>>>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { few: Vec::new(), many: Vec::new() }
    }
}

impl<T> Pages<T> {
    const PAGE_LEN: usize =
        if HugeVec::<T>::CAPACITY < PAGE_LEN { HugeVec::<T>::CAPACITY } else { PAGE_LEN };
    /// Whole pages.
    const CHUNK_LEN: usize = HugeVec::<T>::CAPACITY / Self::PAGE_LEN * Self::PAGE_LEN;
}

impl<T: Default> Pages<T> {
    /// The element at `slot`, unless nothing near it was ever asked for by [`Pages::get_mut`].
    #[inline]
    pub fn get(&self, slot: Slot) -> Option<&T> {
        let slot = slot.0 as usize;
        match (slot / Self::CHUNK_LEN).checked_sub(1) {
            None => self.few.get(slot / Self::PAGE_LEN)?.get(slot % Self::PAGE_LEN),
            Some(chunk) => self.many.get(chunk)?.as_ref()?.get(slot % Self::CHUNK_LEN),
        }
    }

    /// Asks for the memory of the element at `slot`.
    #[inline]
    pub fn prefetch(&self, slot: Slot) {
        if let Some(element) = self.get(slot) {
            prefetch(element);
        }
    }

    /// The element at `slot`.
    #[inline]
    pub fn get_mut(&mut self, slot: Slot) -> &mut T {
        if self.get(slot).is_none() {
            self.add_page(slot);
        }
        let slot = slot.0 as usize;
        match (slot / Self::CHUNK_LEN).checked_sub(1) {
            None => &mut self.few[slot / Self::PAGE_LEN][slot % Self::PAGE_LEN],
            Some(chunk) => {
                let chunk = self.many[chunk].as_mut().expect("it was made");
                &mut chunk[slot % Self::CHUNK_LEN]
            }
        }
    }

    #[cold]
    fn add_page(&mut self, slot: Slot) {
        let slot = slot.0 as usize;
        let Some(chunk) = (slot / Self::CHUNK_LEN).checked_sub(1) else {
            let page = slot / Self::PAGE_LEN;
            if self.few.len() <= page {
                self.few.resize_with(page + 1, Vec::new);
            }
            self.few[page].resize_with(Self::PAGE_LEN, T::default);
            return;
        };
        if self.many.len() <= chunk {
            self.many.resize_with(chunk + 1, || None);
        }
        let chunk = self.many[chunk].get_or_insert_default();
        let len = (slot % Self::CHUNK_LEN / Self::PAGE_LEN + 1) * Self::PAGE_LEN;
        while chunk.len() < len {
            chunk.push(T::default());
        }
    }

    /// All elements that were ever made, with their slots, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        let few = self.few.iter().map(Vec::as_slice).enumerate();
        let few = few.map(|(page, elements)| (page * Self::PAGE_LEN, elements));
        let many = self.many.iter().enumerate().filter_map(|(chunk, elements)| {
            Some(((chunk + 1) * Self::CHUNK_LEN, &**elements.as_ref()?))
        });
        few.chain(many).flat_map(|(first, elements)| {
            elements.iter().enumerate().map(move |(i, element)| (Slot((first + i) as u32), element))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets elements at `slots`, behind a gap and beside one another, and reads all of them back.
    fn check<T: Default + PartialEq + std::fmt::Debug>(slots: &[u32], value_of: fn(u32) -> T) {
        let mut pages = Pages::<T>::default();
        for slot in slots {
            *pages.get_mut(Slot(*slot)) = value_of(*slot);
        }
        for slot in slots {
            assert_eq!(pages.get(Slot(*slot)), Some(&value_of(*slot)));
        }
        let nothing = T::default();
        let set = pages.iter().filter(|(_, value)| **value != nothing);
        assert!(set.map(|(slot, _)| slot.0).eq(slots.iter().copied()), "all of them, in order");
    }

    #[test]
    fn elements_keep_their_place() {
        check(&[0, 5, 1023, 1024, 5000], |slot| u64::from(slot) + 1);
    }

    #[test]
    fn elements_in_huge_pages_keep_their_place() {
        const CHUNK: u32 = Pages::<String>::CHUNK_LEN as u32;
        let slots =
            [7, CHUNK - 1, CHUNK, CHUNK + 5000, 2 * CHUNK - 1, 4 * CHUNK + 1, 4 * CHUNK + 2];
        check(&slots, |slot| slot.to_string());
    }

    #[test]
    fn large_elements_keep_their_place() {
        #[derive(Debug, PartialEq)]
        struct Large([u64; 1000]);
        impl Default for Large {
            fn default() -> Self {
                Self([0; 1000])
            }
        }
        const CHUNK: u32 = Pages::<Large>::CHUNK_LEN as u32;
        check(&[1, CHUNK - 1, CHUNK, 3 * CHUNK + 1], |slot| Large([u64::from(slot); 1000]));
    }

    #[test]
    fn what_nobody_asked_for_is_not_there() {
        const CHUNK: u32 = Pages::<u64>::CHUNK_LEN as u32;
        let mut pages = Pages::<u64>::default();
        for slot in [5, 5000, 2 * CHUNK + 3000] {
            *pages.get_mut(Slot(slot)) = 1;
        }
        assert_eq!(pages.get(Slot(6)), Some(&0), "a default beside one that was set");
        assert_eq!(pages.get(Slot(3000)), None, "a page nobody asked for");
        assert_eq!(pages.get(Slot(CHUNK)), None, "a chunk nobody asked for");
        assert_eq!(pages.get(Slot(2 * CHUNK)), Some(&0), "one before one that was set");
        assert_eq!(pages.get(Slot(2 * CHUNK + 3 * 1024)), None, "a page behind it");
    }
}
