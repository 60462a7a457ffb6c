//! The write buffer: the state of a shard that is in memory.
//!
//! A write-back cache, not a memtable: a flush makes records *clean*, it does not remove them, and
//! only clean ones are evicted. Records are found by hash and changed in place.
//!
//! ```text
//! space (state id, window bucket) ──► section per key group ──► index: tag ──► slot
//!                                       │                                      │
//!                                       │ complete?                            ▼
//!                                       │ dirty lists by epoch ──► │ header │ key │ value │
//!                                       ▼
//!              freeze: epoch += 1; the list of the old one is drained in key order
//! ```
//!
//! A *section* holds the records of one key group, state and window bucket: those whose stored keys
//! begin alike. While it is *complete* a miss is an absence; otherwise a table may know the key.
//!
//! # Epochs
//!
//! Records know the epoch in which they changed. [`WriteBuffer::freeze`] ends one, at any size in
//! the same few instructions; [`Frozen::next`] then hands its records to a table's writer, in
//! slices and in the order of their stored keys, as they were at the freeze: one that is changed
//! before its turn is copied aside first. When the table can be read, [`WriteBuffer::on_written`]
//! makes the records clean. A frozen epoch is always written: a checkpoint may be given up, a flush
//! may not.
//!
//! ```text
//!            changed            freeze             Frozen::next        on_written
//! clean ────────────► dirty ────────────► frozen ────────────► emitted ──────────► clean
//!   ▲                   ▲  changed: copied aside │ changed        │
//!   └── load            └────────────────────────┴────────────────┘
//! ```
//!
//! # Memory
//!
//! Everything that grows with records is in chunks of the shard's [`Budget`]: records, indexes,
//! dirty lists, copies. An operation that finds none left answers [`Full`] and has changed nothing;
//! [`WriteBuffer::make_room`] then evicts for it. Freezing, draining and evicting need no memory.
//! Beside it are spaces with their sections, the names of those that changed, and the directories
//! of indexes: 8 bytes for 300 records or more.
//!
//! No call does more than a bounded amount of work, but for copying the bytes it is given: indexes
//! grow segment by segment, a dropped space is swept in slices, lists are sorted block by block.
//!
//! Not here: reading tables (a miss that may be in one is answered [`Lookup::Unknown`]), when to
//! flush and to evict, what values mean.

mod access;
mod ahead;
mod budget;
mod dirty;
mod evict;
mod frozen;
mod index;
mod older;
mod pages;
mod record;
mod room;
mod segment;
mod slots;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use self::ahead::Ahead;
use self::dirty::DirtyList;
use self::evict::{Hand, Sweep};
use self::index::Index;
use self::room::Room;
use self::slots::Slots;

pub use budget::{Budget, Full, Refused};
pub use frozen::Frozen;
pub(crate) use walk::KeyList;

/// Most epochs that are frozen and not written yet.
pub const FROZEN_COUNT_MAX: usize = 3;

/// Epochs that a section keeps dirty lists of: the frozen ones and the current one.
const LISTS: usize = FROZEN_COUNT_MAX + 1;

/// Names a space of one write buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(u32);

/// Whether tables may have records of a space that is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nothing was ever written of it: what is not in the write buffer is absent.
    New,
    /// It was restored: until a section is [complete](WriteBuffer::set_complete), tables are asked.
    Restored,
}

/// Which record of a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordKey<'a> {
    /// Hash of the archived key.
    pub hash64: u64,
    /// A hash of namespace and map key, 0 if there are none: records of one key are found as fast
    /// as those of many.
    pub spread: u64,
    /// What follows the hash in the [stored key](crate::key): the key, the namespace, the map key.
    pub bytes: &'a [u8],
}

impl RecordKey<'_> {
    #[inline]
    fn tag(&self) -> u32 {
        // The first bits are the same in a whole key group, the last ones are as good.
        (self.hash64 ^ self.spread) as u32
    }
}

/// What the write buffer knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<T> {
    /// The value.
    Found(T),
    /// There is no such record, in no table either.
    Absent,
    /// Tables have to be asked; then [`WriteBuffer::load`].
    Unknown,
    /// Tables have to be asked, and [`WriteBuffer::operands`] merged with what they say; then
    /// [`WriteBuffer::put`].
    Operands,
}

/// The state of a shard that is in memory; see the head of the file.
#[derive(Debug)]
pub struct WriteBuffer {
    key_groups: Range<u32>,
    key_group_count: u32,
    slots: Slots,
    ahead: Box<Ahead>,
    /// By id; none in the place of one that is gone.
    spaces: Vec<Option<Space>>,
    vacant_ids: Vec<u32>,
    /// In the order of stored keys within a key group, those that are being swept included.
    order: BTreeSet<(u16, i64, SpaceId)>,
    /// The epoch that changes belong to.
    epoch: u32,
    /// This epoch, and all before it, is in tables that can be read.
    written: u32,
    /// The epochs after it that are frozen, in order.
    frozen: VecDeque<InFlight>,
    /// By epoch, bytes of the slots of records that changed in it.
    changed_bytes: [usize; LISTS],
    /// By epoch, the sections in which something changed, until it is frozen.
    changed: [BTreeSet<SectionName>; LISTS],
    /// Spaces that were dropped, and how far they are swept.
    dropped: VecDeque<Sweep>,
    hand: Hand,
    room: Room,
    step_count: u64,
}

/// Names a section, in the order of stored keys: its number, then as in [`WriteBuffer::order`].
type SectionName = (usize, (u16, i64, SpaceId));

/// The records of one state and window bucket.
#[derive(Debug)]
struct Space {
    state_id: u16,
    window_bucket: i64,
    /// The epoch in which it was dropped: those before it still have it.
    dropped_in: Option<u32>,
    /// Of the slot of its newest record: what is asked for of others.
    slot_bytes: usize,
    record_count: usize,
    /// By key group, from the first one of the shard.
    sections: Vec<Section>,
}

/// The records of one key group in a space. All of it in one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Section {
    index: Index,
    is_complete: bool,
    /// By epoch; an epoch's place is its remainder.
    dirty: [DirtyList; LISTS],
}

const _: () = assert!(size_of::<Section>() == 64);

/// A frozen epoch.
#[derive(Debug)]
struct InFlight {
    epoch: u32,
    is_drained: bool,
    is_written: bool,
}

impl WriteBuffer {
    /// An empty one, for a shard that owns `key_groups` of `key_group_count`.
    ///
    /// # Panics
    /// If there are no key groups, or more than 65,536.
    pub fn new(key_groups: Range<u32>, key_group_count: u32) -> Self {
        assert!(key_groups.start < key_groups.end && key_groups.end <= key_group_count);
        assert!(key_group_count <= 1 << 16, "a stored key has two bytes for its key group");
        Self {
            key_groups,
            key_group_count,
            slots: Slots::new(),
            ahead: Box::new(Ahead::new()),
            spaces: Vec::new(),
            vacant_ids: Vec::new(),
            order: BTreeSet::new(),
            epoch: 1,
            written: 0,
            frozen: VecDeque::new(),
            changed_bytes: [0; LISTS],
            changed: std::array::from_fn(|_| BTreeSet::new()),
            dropped: VecDeque::new(),
            hand: Hand::default(),
            room: Room::default(),
            step_count: 0,
        }
    }

    /// Opens the space of `state_id` and `window_bucket` (0 for state that is not of a window).
    ///
    /// # Panics
    /// If it is open already.
    pub fn open(&mut self, state_id: u16, window_bucket: i64, origin: Origin) -> SpaceId {
        let last = SpaceId(u32::MAX);
        let same = (state_id, window_bucket, SpaceId(0))..=(state_id, window_bucket, last);
        let is_open = self.order.range(same).any(|entry| self.space(entry.2).dropped_in.is_none());
        assert!(!is_open, "state {state_id} has a space for {window_bucket} already");
        let section = || Section {
            index: Index::default(),
            is_complete: origin == Origin::New,
            dirty: [DirtyList::default(); LISTS],
        };
        let sections = self.key_groups.clone().map(|_| section()).collect();
        let space = Some(Space {
            state_id,
            window_bucket,
            dropped_in: None,
            slot_bytes: 0,
            record_count: 0,
            sections,
        });
        let id = if let Some(id) = self.vacant_ids.pop() {
            self.spaces[id as usize] = space;
            SpaceId(id)
        } else {
            self.spaces.push(space);
            SpaceId(self.spaces.len() as u32 - 1)
        };
        self.order.insert((state_id, window_bucket, id));
        id
    }

    /// Drops a space with all that is in it, without a tombstone. Frozen epochs still have it; the
    /// current one does not. Its memory comes back in slices, from [`WriteBuffer::sweep_dropped`]
    /// or [`WriteBuffer::evict`].
    ///
    /// # Panics
    /// If it is not open.
    pub fn drop_space(&mut self, space: SpaceId) {
        let held = self.spaces[space.0 as usize].as_mut().expect("the space is open");
        assert!(held.dropped_in.is_none(), "{space:?} was dropped");
        held.dropped_in = Some(self.epoch);
        self.dropped.push_back(Sweep::new(space, self.epoch));
    }

    /// Lets a miss be an absence in the section of `key_group`: everything that tables have of it
    /// was loaded.
    ///
    /// # Panics
    /// If the key group is not the shard's.
    pub fn set_complete(&mut self, space: SpaceId, key_group: u32) {
        assert!(self.key_groups.contains(&key_group), "key group {key_group} is another shard's");
        let number = (key_group - self.key_groups.start) as usize;
        self.section_mut(space, number).is_complete = true;
    }

    /// Ends the epoch: what it changed is from now on in the [`Frozen`], as it is now. `None` while
    /// [`FROZEN_COUNT_MAX`] epochs are not written yet.
    pub fn freeze(&mut self) -> Option<Frozen> {
        if self.frozen.len() == FROZEN_COUNT_MAX {
            return None;
        }
        let epoch = self.epoch;
        self.frozen.push_back(InFlight { epoch, is_drained: false, is_written: false });
        self.epoch += 1;
        self.changed_bytes[self.epoch as usize % LISTS] = 0;
        let changed = &mut self.changed[epoch as usize % LISTS];
        Some(Frozen::new(epoch, std::mem::take(changed)))
    }

    /// The epoch that changes belong to: they count from 1.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The table of a frozen epoch can be read: its records are clean, once those of the epochs
    /// before it are.
    ///
    /// # Panics
    /// If it was not drained, or is another write buffer's.
    pub fn on_written(&mut self, frozen: Frozen) {
        let epoch = frozen.into_epoch();
        let in_flight = self.frozen.iter_mut().find(|in_flight| in_flight.epoch == epoch);
        let in_flight = in_flight.expect("a frozen epoch is written once");
        assert!(in_flight.is_drained, "epoch {epoch} was written before it was drained");
        in_flight.is_written = true;
        while let Some(first) = self.frozen.pop_front_if(|first| first.is_written) {
            self.written = first.epoch;
            self.end_crowding();
        }
    }

    /// Bytes of memory taken from the budget.
    pub fn chunk_bytes(&self) -> usize {
        self.slots.chunk_bytes()
    }

    /// Bytes of them in use, for records, indexes, lists and copies.
    pub fn used_bytes(&self) -> usize {
        self.slots.used_bytes()
    }

    /// Bytes of the records that changed and are not written yet, at most: one that changed in
    /// several epochs counts in each, and one of a dropped space until it is swept.
    pub fn dirty_bytes(&self) -> usize {
        let epochs = self.written + 1..=self.epoch;
        epochs.map(|epoch| self.changed_bytes[epoch as usize % LISTS]).sum()
    }

    /// Records of a space.
    pub fn record_count(&self, space: SpaceId) -> usize {
        self.space(space).record_count
    }

    /// Steps of the work behind reads and writes so far: index entries moved, records sorted,
    /// handed out, looked at by the clock's hand or swept. Says what cold paths cost, and that no
    /// call takes many.
    pub fn step_count(&self) -> u64 {
        self.step_count
    }

    #[inline]
    fn space(&self, id: SpaceId) -> &Space {
        self.spaces[id.0 as usize].as_ref().expect("the space is open")
    }

    #[inline]
    fn section(&self, id: SpaceId, number: usize) -> &Section {
        &self.space(id).sections[number]
    }

    fn section_mut(&mut self, id: SpaceId, number: usize) -> &mut Section {
        section_of(&mut self.spaces, id, number)
    }

    fn space_mut(&mut self, id: SpaceId) -> &mut Space {
        self.spaces[id.0 as usize].as_mut().expect("the space is open")
    }

    #[inline]
    fn section_number(&self, hash64: u64) -> usize {
        let number = section_number(self.key_groups.start, self.key_group_count, hash64);
        debug_assert!(number < self.key_groups.len(), "{hash64:#x} is another shard's");
        number
    }
}

/// Which section a hash belongs to, of those from the key group `first` on.
#[inline]
fn section_number(first: u32, key_group_count: u32, hash64: u64) -> usize {
    let key_group = (u128::from(hash64) * u128::from(key_group_count)) >> 64;
    (key_group as u32).wrapping_sub(first) as usize
}

/// A section, while other fields of the write buffer are borrowed.
fn section_of(spaces: &mut [Option<Space>], id: SpaceId, number: usize) -> &mut Section {
    &mut spaces[id.0 as usize].as_mut().expect("the space is open").sections[number]
}
