//! Memory for records and for what finds them: classes of sizes.
//!
//! ```text
//! up to 3888 bytes   the smallest class that fits: 16, 32, … 256, then each 1.25 times the last;
//!                    a slab of 64 KiB has one class
//! from there on      whole pages of their own
//!
//! slab  │ class │ used │ free │ carved │ next │ previous │ 0 │ slot 0 │ slot 1 │ … │
//!       │ 4     │ 4    │ 4    │ 4      │ 4    │ 4        │40 │
//! ```
//!
//! Every allocation begins at a multiple of 16. A slab has either records, or what finds them. The
//! slabs of a class that have room are linked; an empty slab goes back to the pages. Freed slots of
//! a slab are linked through their first bytes.
//!
//! Invariant: `used_bytes` is the sum of the sizes of what is allocated and not freed.

use super::budget::{Budget, Full};
use super::pages::{
    Address, Begins, ORDER_MAX, PAGE_BYTES, Pages, Part, UNIT_BYTES, UNITS_PER_PAGE_LOG2, order_of,
    set_u32_at, u32_at,
};

/// Largest class whose neighbours are 16 bytes apart.
const FINE_BYTES_MAX: usize = 256;
const FINE_CLASS_COUNT: usize = FINE_BYTES_MAX / UNIT_BYTES;

/// Sizes of the slots of each class.
pub(super) const CLASS_BYTES: [usize; 28] = {
    let mut classes = [0; 28];
    let mut class = 0;
    let mut bytes = 0;
    while class < classes.len() {
        let next = if bytes < FINE_BYTES_MAX { bytes + UNIT_BYTES } else { bytes * 5 / 4 };
        bytes = next.next_multiple_of(UNIT_BYTES);
        classes[class] = bytes;
        class += 1;
    }
    classes
};
const SLOT_BYTES_MAX: usize = CLASS_BYTES[CLASS_BYTES.len() - 1];
const _: () = assert!(SLOT_BYTES_MAX < PAGE_BYTES && PAGE_BYTES < SLOT_BYTES_MAX * 5 / 4);

const SLAB_PAGES: u32 = 16;
const SLAB_BYTES: usize = SLAB_PAGES as usize * PAGE_BYTES;
const SLAB_HEADER_BYTES: usize = 64;

/// Places of the numbers in a slab's header.
const CLASS: usize = 0;
const USED: usize = 4;
const FREE: usize = 8;
const CARVED: usize = 12;
const NEXT: usize = 16;
const PREVIOUS: usize = 20;

/// Allocates and frees.
#[derive(Debug)]
pub(super) struct Slots {
    pages: Pages,
    /// By part and class, the first slab that has room.
    open: [[Address; CLASS_BYTES.len()]; 2],
    used_bytes: usize,
    freed_count: u64,
    refused: Need,
}

/// What an allocation needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    part: Part,
    bytes: usize,
}

impl Need {
    /// As a bit of a mask: those with the same one need the same, more or less.
    pub(super) fn bit(self) -> u64 {
        let class = class_of(self.bytes).unwrap_or(CLASS_BYTES.len());
        1 << (class + 32 * self.part as usize)
    }

    /// A free run of records' memory of this order would do. What is not for records needs a whole
    /// chunk, which is then not for records.
    pub(super) fn order(self) -> u32 {
        match self.part {
            Part::Records => order_of(SLAB_PAGES.max(self.bytes.div_ceil(PAGE_BYTES) as u32)),
            Part::Index => ORDER_MAX,
        }
    }
}

impl Slots {
    pub(super) fn new() -> Self {
        Self {
            pages: Pages::new(),
            open: [[Address::NONE; _]; _],
            used_bytes: 0,
            freed_count: 0,
            refused: Need { part: Part::Records, bytes: 0 },
        }
    }

    /// Bytes of everything that is allocated.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// How often something was freed: what was where it was is there as long as this stays.
    #[inline]
    pub(super) fn freed_count(&self) -> u64 {
        self.freed_count
    }

    /// Bytes of the chunks taken from the budget.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.pages.chunk_bytes()
    }

    /// The bytes that an allocation of `bytes` takes.
    #[inline]
    pub(super) fn size_of(bytes: usize) -> usize {
        match class_of(bytes) {
            Some(class) => CLASS_BYTES[class],
            None => bytes.next_multiple_of(PAGE_BYTES),
        }
    }

    /// Room for `bytes`; what is in there is what was last there.
    pub(super) fn alloc(
        &mut self,
        budget: &mut Budget,
        part: Part,
        bytes: usize,
    ) -> Result<Address, Full> {
        let address = match class_of(bytes) {
            Some(class) => self.alloc_slot(budget, part, class),
            None => self.pages.alloc(budget, part, bytes.div_ceil(PAGE_BYTES) as u32),
        };
        let address = address.inspect_err(|_| self.refused = Need { part, bytes })?;
        self.used_bytes += Self::size_of(bytes);
        Ok(address)
    }

    /// What the last allocation needed that was refused.
    pub(super) fn refused(&self) -> Need {
        self.refused
    }

    /// Whether there is what is needed.
    pub(super) fn has_room(&self, budget: &Budget, Need { part, bytes }: Need) -> bool {
        let pages = match class_of(bytes) {
            Some(class) if !self.open[part as usize][class].is_none() => return true,
            Some(_) => SLAB_PAGES,
            None => bytes.div_ceil(PAGE_BYTES) as u32,
        };
        self.pages.has_room(budget, part, pages)
    }

    /// How many regions of `1 << order` pages there have ever been.
    pub(super) fn region_count(&self, order: u32) -> u32 {
        self.pages.page_count() >> order
    }

    /// Adds to `records` where those begin that begin in a region of `1 << order` pages. None if
    /// it is in one that begins before, or is not for records.
    pub(super) fn records_in(&self, region: u32, order: u32, records: &mut Vec<Address>) {
        let mut pages = region << order..(region + 1) << order;
        if self.pages.begins_at(pages.start) == Begins::Nothing {
            return;
        }
        while let Some(page) = pages.next() {
            let at = Address(page << UNITS_PER_PAGE_LOG2);
            match self.pages.begins_at(page) {
                Begins::Slab => self.slots_in(at, records),
                Begins::Run => records.push(at),
                Begins::Free(count) => pages.start += count - 1,
                Begins::Nothing => {}
            }
        }
    }

    /// Adds the slots of a slab that are in use.
    fn slots_in(&self, slab: Address, slots: &mut Vec<Address>) {
        let header = self.pages.bytes(slab, SLAB_HEADER_BYTES);
        let [class, carved, mut free] = [CLASS, CARVED, FREE].map(|at| u32_at(header, at));
        let bytes = CLASS_BYTES[class as usize];
        let mut is_free = vec![false; carved as usize];
        while free != 0 {
            let offset = (free - slab.0) as usize * UNIT_BYTES - SLAB_HEADER_BYTES;
            is_free[offset / bytes] = true;
            free = u32_at(self.pages.bytes(Address(free), 4), 0);
        }
        let used = is_free.into_iter().enumerate().filter(|(_, is_free)| !is_free);
        slots.extend(used.map(|(i, _)| slab.offset(SLAB_HEADER_BYTES + i * bytes)));
    }

    /// Takes back what was allocated for `bytes`, or for another number of them with the same
    /// [`Slots::size_of`].
    pub(super) fn free(&mut self, budget: &mut Budget, address: Address, bytes: usize) {
        self.used_bytes -= Self::size_of(bytes);
        self.freed_count += 1;
        match class_of(bytes) {
            Some(class) => self.free_slot(budget, address, class),
            None => self.pages.free(budget, address, bytes.div_ceil(PAGE_BYTES) as u32),
        }
    }

    /// `len` bytes from `start` on.
    #[inline]
    pub(super) fn bytes(&self, start: Address, len: usize) -> &[u8] {
        self.pages.bytes(start, len)
    }

    /// All bytes of the chunk from `start` on.
    #[inline]
    pub(super) fn tail(&self, start: Address) -> &[u8] {
        self.pages.tail(start)
    }

    /// So many bytes from `start` on.
    #[inline]
    pub(super) fn array<const N: usize>(&self, start: Address) -> &[u8; N] {
        self.pages.array(start)
    }

    /// `len` bytes from `start` on.
    #[inline]
    pub(super) fn bytes_mut(&mut self, start: Address, len: usize) -> &mut [u8] {
        self.pages.bytes_mut(start, len)
    }

    /// All bytes of the chunk from `start` on, to be changed.
    #[inline]
    pub(super) fn tail_mut(&mut self, start: Address) -> &mut [u8] {
        self.pages.tail_mut(start)
    }

    /// Asks for the lines of `len` bytes from `start` on, the first few of them.
    #[inline]
    pub(super) fn prefetch(&self, start: Address, len: usize) {
        self.pages.prefetch(start, len);
    }

    /// Copies `len` bytes.
    pub(super) fn copy(&mut self, from: Address, to: Address, len: usize) {
        self.pages.copy(from, to, len);
    }

    fn alloc_slot(
        &mut self,
        budget: &mut Budget,
        part: Part,
        class: usize,
    ) -> Result<Address, Full> {
        if self.open[part as usize][class].is_none() {
            let slab = self.pages.alloc(budget, part, SLAB_PAGES)?;
            self.pages.set_slab(slab);
            let header = self.pages.bytes_mut(slab, SLAB_HEADER_BYTES);
            header.fill(0);
            set_u32_at(header, CLASS, class as u32);
            self.link(slab, class);
        }
        let slab = self.open[part as usize][class];
        let header = self.pages.bytes_mut(slab, SLAB_HEADER_BYTES);
        let used = u32_at(header, USED) + 1;
        set_u32_at(header, USED, used);
        let mut slot = Address(u32_at(header, FREE));
        if slot.is_none() {
            let carved = u32_at(header, CARVED);
            set_u32_at(header, CARVED, carved + 1);
            slot = slab.offset(SLAB_HEADER_BYTES + carved as usize * CLASS_BYTES[class]);
        } else {
            let next = u32_at(self.pages.bytes(slot, 4), 0);
            set_u32_at(self.pages.bytes_mut(slab, SLAB_HEADER_BYTES), FREE, next);
        }
        if used == slots_per_slab(class) {
            self.unlink(slab, class);
        }
        Ok(slot)
    }

    fn free_slot(&mut self, budget: &mut Budget, slot: Address, class: usize) {
        let slab = Address(slot.0 / SLAB_UNITS * SLAB_UNITS);
        let header = self.pages.bytes_mut(slab, SLAB_HEADER_BYTES);
        assert_eq!(u32_at(header, CLASS), class as u32, "a slot is freed as what it is");
        let used = u32_at(header, USED) - 1;
        set_u32_at(header, USED, used);
        let next = u32_at(header, FREE);
        set_u32_at(header, FREE, slot.0);
        set_u32_at(self.pages.bytes_mut(slot, 4), 0, next);
        if used + 1 == slots_per_slab(class) {
            self.link(slab, class);
        }
        if used == 0 {
            self.unlink(slab, class);
            self.pages.free(budget, slab, SLAB_PAGES);
        }
    }

    fn link(&mut self, slab: Address, class: usize) {
        let open = &mut self.open[self.pages.part_of(slab) as usize][class];
        let next = std::mem::replace(open, slab);
        let header = self.pages.bytes_mut(slab, SLAB_HEADER_BYTES);
        set_u32_at(header, NEXT, next.0);
        set_u32_at(header, PREVIOUS, 0);
        if !next.is_none() {
            set_u32_at(self.pages.bytes_mut(next, SLAB_HEADER_BYTES), PREVIOUS, slab.0);
        }
    }

    fn unlink(&mut self, slab: Address, class: usize) {
        let header = self.pages.bytes(slab, SLAB_HEADER_BYTES);
        let [next, previous] = [NEXT, PREVIOUS].map(|at| Address(u32_at(header, at)));
        if previous.is_none() {
            self.open[self.pages.part_of(slab) as usize][class] = next;
        } else {
            set_u32_at(self.pages.bytes_mut(previous, SLAB_HEADER_BYTES), NEXT, next.0);
        }
        if !next.is_none() {
            set_u32_at(self.pages.bytes_mut(next, SLAB_HEADER_BYTES), PREVIOUS, previous.0);
        }
    }
}

const SLAB_UNITS: u32 = (SLAB_BYTES / UNIT_BYTES) as u32;

fn slots_per_slab(class: usize) -> u32 {
    ((SLAB_BYTES - SLAB_HEADER_BYTES) / CLASS_BYTES[class]) as u32
}

/// The class for `bytes`, or `None` if they take pages.
#[inline]
pub(super) fn class_of(bytes: usize) -> Option<usize> {
    if bytes <= FINE_BYTES_MAX {
        return Some(bytes.div_ceil(UNIT_BYTES).max(1) - 1);
    }
    let coarse = &CLASS_BYTES[FINE_CLASS_COUNT..];
    let class = coarse.iter().position(|class_bytes| bytes <= *class_bytes)?;
    Some(FINE_CLASS_COUNT + class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::CHUNK_BYTES;
    use proptest::prelude::*;

    #[test]
    fn classes_are_what_the_header_says() {
        assert_eq!(CLASS_BYTES[..3], [16, 32, 48]);
        assert_eq!(CLASS_BYTES[14..19], [240, 256, 320, 400, 512]);
        assert_eq!([1, 16, 17, 256, 257, 3888].map(Slots::size_of), [16, 16, 32, 256, 320, 3888]);
        assert_eq!([3889, 4096, 4097].map(Slots::size_of), [4096, 4096, 8192]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Allocations never overlap, are aligned, are accounted for, and leave nothing behind.
        #[test]
        fn allocations_are_apart(
            script in prop::collection::vec((0_usize..40_000, any::<u16>()), 1..150),
        ) {
            let mut budget = Budget::new(3 * CHUNK_BYTES);
            let mut slots = Slots::new();
            let mut live: Vec<(Address, usize, u8)> = Vec::new();
            for (i, (size, pick)) in script.into_iter().enumerate() {
                let bytes = if pick % 4 == 0 { size } else { size % 300 };
                if pick % 5 < 2 && !live.is_empty() {
                    let (at, bytes, mark) = live.swap_remove(usize::from(pick) % live.len());
                    prop_assert!(slots.bytes(at, bytes).iter().all(|byte| *byte == mark));
                    slots.free(&mut budget, at, bytes);
                } else if let part = [Part::Records, Part::Index][usize::from(pick) / 5 % 2]
                    && let Ok(at) = slots.alloc(&mut budget, part, bytes) {
                    prop_assert!(slots.bytes(at, bytes).as_ptr().addr().is_multiple_of(16));
                    slots.bytes_mut(at, bytes).fill(i as u8);
                    live.push((at, bytes, i as u8));
                }
                let used: usize = live.iter().map(|(_, bytes, _)| Slots::size_of(*bytes)).sum();
                prop_assert_eq!(slots.used_bytes(), used);
                prop_assert_eq!(slots.chunk_bytes(), budget.taken_bytes());
            }
            for (at, bytes, _) in live {
                slots.free(&mut budget, at, bytes);
            }
            prop_assert_eq!((slots.used_bytes(), budget.taken_bytes()), (0, 0));
        }
    }
}
