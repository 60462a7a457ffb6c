//! Where a key is: from its hash to its slot, eight bytes a key.
//!
//! ```text
//! hash64 - first hash of the task, shifted up: 64 bits that are uniform over the task's keys
//! │ directory bits │ home within the segment │ rest │          a monotone function of the hash,
//! │◄───────────── tag, 32 bits ─────────────►│                so every order below is hash order
//!
//! directory [ 0 0 1 2 ]            segments split in two when full (extendible hashing)
//!             │ │ │ └───► segment 2   ┌──────────────────────────────────────┐
//!             └─┴─│─────► segment 0   │ 0 │ t0 s │ t1 s │ 0 │ t2 s │ … │ 0   │  sorted by tag,
//!                 └─────► segment 1   └──────────────────────────────────────┘  gaps between
//! ```
//!
//! A segment is an array probed linearly from the tag's home, kept in the order of (tag, hash,
//! slot): where entries lie does not depend on the order in which they came, a search for an absent
//! key ends early, and growing or splitting is one sequential copy that never looks at a key.
//!
//! Homes are cache lines of eight entries, and a search compares all eight tags of a line
//! at once: its only branches are ones that the processor guesses right, so it goes on with the
//! next record while this one's line is still on its way.
//!
//! Bound: an insertion moves at most the [`SEGMENT_CAPACITY_MAX`] × 8 bytes = 32 KiB of one segment
//! (about 5 µs), and now and then the directory, 4 bytes for every 500 keys or more.
//!
//! Invariant: entries of a segment are ascending, none lies before its home, no gap lies between an
//! entry and its home, and the last position is a gap.

use millstream_storage::prefetch::prefetch;

use crate::data::key_group::HashRange;
use crate::data::slot::Slot;

/// Positions of a segment before it splits instead of growing.
const SEGMENT_CAPACITY_MAX: usize = 1 << 12;
const SEGMENT_CAPACITY_MIN: usize = LINE;

/// Entries compared at once; homes are this far apart.
const LINE: usize = 8;

/// From hash to slot.
#[derive(Debug, Clone)]
pub(super) struct Index {
    hashes: HashRange,
    /// Brings the task's range of hashes to (almost) all 64 bits.
    shift: u32,
    /// log2 of the directory's length.
    depth: u32,
    directory: Vec<u32>,
    segments: Vec<Segment>,
}

impl Index {
    pub(super) fn new(hashes: HashRange) -> Self {
        let shift = (hashes.last - hashes.first).leading_zeros();
        let segments = vec![Segment::new(0, SEGMENT_CAPACITY_MIN)];
        Self { hashes, shift, depth: 0, directory: vec![0], segments }
    }

    pub(super) fn hashes(&self) -> HashRange {
        self.hashes
    }

    /// The first slot under `hash64` that `is_it`.
    #[inline]
    pub(super) fn find(&self, hash64: u64, is_it: impl Fn(Slot) -> bool) -> Option<Slot> {
        let (segment, tag) = self.segment(hash64);
        for line in &segment.lines[segment.home(tag)..] {
            for i in line.equal(tag) {
                let entry = line.entry(i);
                if !entry.is_gap() && is_it(entry.slot()) {
                    return Some(entry.slot());
                }
            }
            let last = line.entry(LINE - 1);
            if last.is_gap() || tag < last.tag {
                break;
            }
        }
        None
    }

    /// Adds `slot`, whose key hashes to `hash64`.
    ///
    /// # Panics
    /// If the hash is not one of the task's: the row took a wrong turn.
    pub(super) fn insert(&mut self, hash64: u64, slot: Slot, hash_of: impl Fn(Slot) -> u64) {
        assert!(self.hashes.contains(hash64), "hash {hash64:#x} is not of {:x?}", self.hashes);
        while self.segment(hash64).0.is_full() {
            self.make_room(hash64);
        }
        let (number, tag) = self.locate(hash64);
        let segment = &mut self.segments[number];
        let entry = Entry::new(tag, slot);
        let mut position = segment.home(tag) * LINE;
        loop {
            let other = segment.entry(position);
            let is_before = || {
                other.tag < tag
                    || other.tag == tag && (hash_of(other.slot()), other.slot()) < (hash64, slot)
            };
            if other.is_gap() || !is_before() {
                break;
            }
            position += 1;
        }
        segment.insert_at(position, entry);
    }

    /// Takes `slot`, whose key hashes to `hash64`, away.
    ///
    /// # Panics
    /// If it is not there.
    pub(super) fn remove(&mut self, hash64: u64, slot: Slot) {
        let (number, tag) = self.locate(hash64);
        let segment = &mut self.segments[number];
        let entry = Entry::new(tag, slot);
        let mut position = segment.home(tag) * LINE;
        while segment.entry(position) != entry {
            assert!(!segment.entry(position).is_gap(), "slot {slot:?} is not in the index");
            position += 1;
        }
        segment.remove_at(position);
    }

    /// The smallest (hash, slot) greater than `after`, or the smallest of all.
    pub(super) fn next(
        &self,
        after: Option<(u64, Slot)>,
        hash_of: impl Fn(Slot) -> u64,
    ) -> Option<Slot> {
        let mut directory_index = 0;
        if let Some((hash64, slot)) = after {
            directory_index = self.directory_index(self.place(hash64));
            let (segment, tag) = self.segment(hash64);
            let greater = segment.entries_from(segment.home(tag)).find(|entry| {
                tag < entry.tag
                    || tag == entry.tag && (hash64, slot) < (hash_of(entry.slot()), entry.slot())
            });
            if let Some(entry) = greater {
                return Some(entry.slot());
            }
            directory_index = self.next_segment(directory_index);
        }
        while directory_index < self.directory.len() {
            let segment = &self.segments[self.directory[directory_index] as usize];
            if let Some(entry) = segment.entries_from(0).next() {
                return Some(entry.slot());
            }
            directory_index = self.next_segment(directory_index);
        }
        None
    }

    /// All slots, in the order of (hash, slot).
    pub(super) fn iter(&self) -> impl Iterator<Item = Slot> {
        let mut directory_index = 0;
        let segments = std::iter::from_fn(move || {
            let number = *self.directory.get(directory_index)?;
            directory_index = self.next_segment(directory_index);
            Some(&self.segments[number as usize])
        });
        segments.flat_map(|segment| segment.entries_from(0).map(Entry::slot))
    }

    /// Asks for the line in which the key of `hash64` is at home. Answers where that is.
    #[inline]
    pub(super) fn prefetch(&self, hash64: u64) -> Home {
        let (number, tag) = self.locate(hash64);
        let segment = &self.segments[number];
        let line = segment.home(tag);
        prefetch(&segment.lines[line]);
        Home { segment: number as u32, line: line as u32 }
    }

    /// The slot found by the tag of `hash64` in a line that was its home: rarely another key's, or
    /// none although there is one.
    #[inline]
    pub(super) fn guess(&self, hash64: u64, home: Home) -> Option<Slot> {
        let tag = (self.place(hash64) >> 32) as u32;
        let line = self.segments.get(home.segment as usize)?.lines.get(home.line as usize)?;
        let entry = line.entry(line.equal(tag).next()?);
        (!entry.is_gap()).then(|| entry.slot())
    }

    #[inline]
    fn place(&self, hash64: u64) -> u64 {
        hash64.wrapping_sub(self.hashes.first) << self.shift
    }

    #[inline]
    fn directory_index(&self, place: u64) -> usize {
        // In two steps, because a directory of one has depth 0 and 64 is too far to shift.
        ((place >> 1) >> (63 - self.depth)) as usize
    }

    #[inline]
    fn locate(&self, hash64: u64) -> (usize, u32) {
        let place = self.place(hash64);
        (self.directory[self.directory_index(place)] as usize, (place >> 32) as u32)
    }

    #[inline]
    fn segment(&self, hash64: u64) -> (&Segment, u32) {
        let (number, tag) = self.locate(hash64);
        (&self.segments[number], tag)
    }

    /// The directory index at which the segment after this one begins.
    fn next_segment(&self, directory_index: usize) -> usize {
        let depth = self.segments[self.directory[directory_index] as usize].depth;
        let span = 1 << (self.depth - depth);
        (directory_index & !(span - 1)) + span
    }

    /// Makes the segment of `hash64` larger, or two of it.
    #[cold]
    fn make_room(&mut self, hash64: u64) {
        let (number, _) = self.locate(hash64);
        // Hashes are uniform, so segments fill together and the directory stays short. Should they
        // not be, one segment grows beyond its bound rather than the directory without one.
        let lopsided = 64 + 8 * self.segments.len() < self.directory.len() * 2;
        let segment = &mut self.segments[number];
        let doubles = segment.depth == self.depth;
        if segment.capacity() < SEGMENT_CAPACITY_MAX || doubles && lopsided {
            *segment = segment.resized(segment.capacity() * 2);
            return;
        }
        if doubles {
            self.directory = self.directory.iter().flat_map(|segment| [*segment; 2]).collect();
            self.depth += 1;
        }
        let (left, right) = self.segments[number].split();
        self.segments[number] = left;
        let right_number = u32::try_from(self.segments.len()).expect("fewer segments than slots");
        self.segments.push(right);
        let place = self.place(hash64);
        let depth = self.segments[number].depth;
        let span = 1_usize << (self.depth - depth);
        let start = self.directory_index(place) & !(2 * span - 1);
        self.directory[start + span..start + 2 * span].fill(right_number);
    }
}

/// Where a key is at home, until its segment splits or grows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Home {
    segment: u32,
    line: u32,
}

/// Where one key is: eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u32,
    /// The slot plus one; 0 is a gap.
    slot_plus_one: u32,
}

impl Entry {
    const GAP: Self = Self { tag: 0, slot_plus_one: 0 };

    fn new(tag: u32, slot: Slot) -> Self {
        Self { tag, slot_plus_one: slot.0 + 1 }
    }

    #[inline]
    fn is_gap(self) -> bool {
        self.slot_plus_one == 0
    }

    #[inline]
    fn slot(self) -> Slot {
        Slot(self.slot_plus_one.wrapping_sub(1))
    }
}

/// Eight entries in one cache line.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Line {
    tags: [u32; LINE],
    slots_plus_one: [u32; LINE],
}

impl Line {
    /// The entries whose tag is `tag`. Gaps have tags too.
    #[inline]
    fn equal(&self, tag: u32) -> Equal {
        // From the second bit on: compilers make two vector comparisons of it if all shifts are
        // alike, and take the entry out that is shifted by 0.
        let bits = |i: usize| u32::from(self.tags[i] == tag) << (i + 1);
        Equal((0..LINE).fold(0, |equal, i| equal | bits(i)))
    }

    #[inline]
    fn entry(&self, i: usize) -> Entry {
        Entry { tag: self.tags[i], slot_plus_one: self.slots_plus_one[i] }
    }
}

/// Indexes of entries in a line, as a bit for each from the second bit on: 1 if it is one of them.
#[derive(Debug)]
struct Equal(u32);

impl Iterator for Equal {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let i = (self.0.trailing_zeros() as usize - 1) % LINE;
        self.0 &= self.0 - 1;
        Some(i)
    }
}

/// The entries whose tags begin with the same `depth` bits.
#[derive(Debug, Clone)]
struct Segment {
    /// As many lines as homes, then as many as the last homes' entries were pushed beyond; the very
    /// last position is a gap.
    lines: Vec<Line>,
    len: u32,
    depth: u32,
    /// log2 of the number of homes.
    homes_log2: u32,
}

impl Segment {
    fn new(depth: u32, capacity: usize) -> Self {
        assert!(capacity.is_power_of_two());
        let homes_log2 = (capacity / LINE).trailing_zeros();
        Self { lines: vec![Line::default(); capacity / LINE + 1], len: 0, depth, homes_log2 }
    }

    fn capacity(&self) -> usize {
        LINE << self.homes_log2
    }

    /// At three quarters, of which nine in ten are found in the line that they are at home in.
    #[inline]
    fn is_full(&self) -> bool {
        self.capacity() * 3 / 4 <= self.len as usize
    }

    /// The line in which a tag's entry is, if it is not pushed beyond it.
    #[inline]
    fn home(&self, tag: u32) -> usize {
        (u64::from(tag << self.depth) >> (32 - self.homes_log2)) as usize
    }

    fn entry(&self, position: usize) -> Entry {
        self.lines[position / LINE].entry(position % LINE)
    }

    fn set_entry(&mut self, position: usize, entry: Entry) {
        let line = &mut self.lines[position / LINE];
        line.tags[position % LINE] = entry.tag;
        line.slots_plus_one[position % LINE] = entry.slot_plus_one;
    }

    /// The entries from a line on.
    fn entries_from(&self, line: usize) -> impl Iterator<Item = Entry> {
        let lines = if self.len == 0 { &[] } else { &self.lines[line..] };
        let entries = lines.iter().flat_map(|line| (0..LINE).map(|i| line.entry(i)));
        entries.filter(|entry| !entry.is_gap())
    }

    fn gap_from(&self, mut position: usize) -> usize {
        while !self.entry(position).is_gap() {
            position += 1;
        }
        position
    }

    fn insert_at(&mut self, position: usize, entry: Entry) {
        let gap = self.gap_from(position);
        for position in (position..gap).rev() {
            self.set_entry(position + 1, self.entry(position));
        }
        self.put(position, entry, gap);
    }

    /// Adds an entry that is not smaller than any that is there.
    fn append(&mut self, entry: Entry) {
        let gap = self.gap_from(self.home(entry.tag) * LINE);
        self.put(gap, entry, gap);
    }

    /// Writes a new entry; `gap` is the position that is no gap any more.
    fn put(&mut self, position: usize, entry: Entry, gap: usize) {
        self.set_entry(position, entry);
        self.len += 1;
        // A search ends at a gap, so there must be one behind all entries.
        if gap + 1 == self.lines.len() * LINE {
            self.lines.push(Line::default());
        }
    }

    fn remove_at(&mut self, mut position: usize) {
        // Entries behind it move one closer, up to one that is where its home begins.
        loop {
            let next = self.entry(position + 1);
            if next.is_gap() || self.home(next.tag) * LINE == position + 1 {
                break;
            }
            self.set_entry(position, next);
            position += 1;
        }
        self.set_entry(position, Entry::GAP);
        self.len -= 1;
    }

    /// The same entries over another number of homes.
    fn resized(&self, capacity: usize) -> Self {
        let mut larger = Self::new(self.depth, capacity);
        self.entries_from(0).for_each(|entry| larger.append(entry));
        larger
    }

    /// The entries by the next bit of their tags.
    fn split(&self) -> (Self, Self) {
        let bit = 1 << (31 - self.depth);
        let mut left = Self::new(self.depth + 1, self.capacity());
        let mut right = left.clone();
        for entry in self.entries_from(0) {
            let half = if entry.tag & bit == 0 { &mut left } else { &mut right };
            half.append(entry);
        }
        (left, right)
    }
}
