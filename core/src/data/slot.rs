//! Dense numbers for the keys of one task, and arrays indexed by them.
//!
//! A keyed operator looks a key up once per record and gets a [`Slot`]; everything it keeps for the
//! key (each state, its timers) is an element of some [`Pages`] at that slot. Slots are reused, so
//! pages stay about as long as there were keys at one time.

use millstream_storage::prefetch::prefetch;

/// The number of a key on its task, while the key has state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

const PAGE_BITS: u32 = 10;
const PAGE_LEN: usize = 1 << PAGE_BITS;

/// An array indexed by [`Slot`] that grows a page of 1,024 elements at a time: nothing that is
/// there ever moves, so growth stalls for one page and no longer. Elements never set are `T`'s
/// default.
#[derive(Debug, Clone)]
pub struct Pages<T> {
    /// A page is empty until one of its elements is asked for.
    pages: Vec<Vec<T>>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T: Default> Pages<T> {
    /// The element at `slot`, unless nothing near it was ever asked for by [`Pages::get_mut`].
    #[inline]
    pub fn get(&self, slot: Slot) -> Option<&T> {
        self.pages.get((slot.0 >> PAGE_BITS) as usize)?.get(slot.0 as usize & (PAGE_LEN - 1))
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
        let page = (slot.0 >> PAGE_BITS) as usize;
        if self.pages.get(page).is_none_or(Vec::is_empty) {
            self.add_page(page);
        }
        &mut self.pages[page][slot.0 as usize & (PAGE_LEN - 1)]
    }

    #[cold]
    fn add_page(&mut self, page: usize) {
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, Vec::new);
        }
        self.pages[page].resize_with(PAGE_LEN, T::default);
    }

    /// All elements of all pages, with their slots, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        self.pages.iter().enumerate().flat_map(|(page, elements)| {
            let first = page << PAGE_BITS;
            elements.iter().enumerate().map(move |(i, element)| (Slot((first + i) as u32), element))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_place() {
        let mut pages = Pages::<u64>::default();
        for slot in [0, 5, 1023, 1024, 5000] {
            *pages.get_mut(Slot(slot)) = u64::from(slot) + 1;
        }
        assert_eq!(pages.get(Slot(1024)), Some(&1025));
        assert_eq!(pages.get(Slot(6)), Some(&0), "a default beside one that was set");
        assert_eq!(pages.get(Slot(3000)), None, "a page nobody asked for");
        let set: Vec<_> = pages.iter().filter(|(_, v)| **v != 0).map(|(slot, _)| slot.0).collect();
        assert_eq!(set, [0, 5, 1023, 1024, 5000]);
    }
}
