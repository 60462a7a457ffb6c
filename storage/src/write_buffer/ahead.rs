//! What prefetches have found, for the reads and writes that follow.
//!
//! A record is reached in two steps that each miss the cache: the line of the index, then the slot.
//! A prefetch asks for the lines of the `far` keys and keeps where they are. The next one, to which
//! these keys are `near`, reads the lines, asks for the slots, and keeps where those are. Reads and
//! writes look there first.
//!
//! ```text
//! prefetch(near, far)    far ──► index ──► home      by the key's place in its group
//!                       near ──► home ──► guess      by the last bits of the key's tag
//! get, put …                     guess ──► record    if it is the key's; otherwise by the index
//! ```
//!
//! Invariant: homes and guesses are believed only while nothing was freed since they were kept, for
//! what was freed may be anything by now. So a guess is a record of its space, and what is left to
//! check is whose.

use super::pages::Address;
use super::segment::{guess, line};
use super::slots::Slots;
use super::{RecordKey, SpaceId, WriteBuffer, section_number};
use crate::prefetch::prefetch_start;

/// Keys of a group whose homes are kept.
const GROUP: usize = 16;

/// Guesses that are kept: many times those of two groups, so that few are in another's way; 4 KiB.
const GUESS_COUNT: usize = 256;
const _: () = assert!(8 * GROUP <= GUESS_COUNT);

/// What prefetches have found.
#[derive(Debug)]
pub(super) struct Ahead {
    /// [`Slots::freed_count`] for which all of it holds.
    freed_count: u64,
    /// Of the last far keys.
    homes: [Found; GROUP],
    /// Slots, by the last bits of a tag.
    guesses: [Found; GUESS_COUNT],
}

/// Where something of a key is.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// Space and tag.
    name: u64,
    at: Address,
}

impl Found {
    /// No space has the name.
    const NOTHING: Self = Self { name: u64::MAX, at: Address::NONE };

    #[inline]
    fn get(&self, name: u64) -> Option<Address> {
        (self.name == name).then_some(self.at)
    }
}

impl Ahead {
    pub(super) const fn new() -> Self {
        Self {
            freed_count: 0,
            homes: [Found::NOTHING; GROUP],
            guesses: [Found::NOTHING; GUESS_COUNT],
        }
    }

    /// The slot that was found under `tag` in `space`, if it is still there.
    #[inline]
    pub(super) fn guess(&self, slots: &Slots, space: SpaceId, tag: u32) -> Option<Address> {
        let found = &self.guesses[tag as usize % GUESS_COUNT];
        let is_it = found.name == name(space, tag) && self.freed_count == slots.freed_count();
        is_it.then_some(found.at)
    }
}

#[inline]
fn name(space: SpaceId, tag: u32) -> u64 {
    u64::from(space.0) << 32 | u64::from(tag)
}

impl WriteBuffer {
    /// Asks for the index lines of `far`, whose records are read or written soon, and for the slots
    /// of `near`, which were far the time before. Groups of 16 are long enough for the memory to
    /// answer and short enough for the cache to hold.
    #[inline]
    pub fn prefetch<'a>(
        &mut self,
        space: SpaceId,
        near: impl IntoIterator<Item = RecordKey<'a>>,
        far: impl IntoIterator<Item = RecordKey<'a>>,
    ) {
        let slots = &self.slots;
        let ahead = &mut *self.ahead;
        if ahead.freed_count != slots.freed_count() {
            *ahead = Ahead { freed_count: slots.freed_count(), ..Ahead::new() };
        }
        let held = self.spaces[space.0 as usize].as_ref().expect("the space is open");
        let (first, count) = (self.key_groups.start, self.key_group_count);
        let home = |key: RecordKey<'_>| {
            let number = section_number(first, count, key.hash64);
            held.sections[number].index.home(key.tag())
        };
        for (i, key) in near.into_iter().enumerate() {
            let name = name(space, key.tag());
            let kept = ahead.homes.get(i).and_then(|home| home.get(name));
            let Some(home) = kept.or_else(|| home(key)) else { continue };
            let Some(at) = guess(line(slots, home), key.tag()) else { continue };
            slots.prefetch(at, held.slot_bytes);
            ahead.guesses[key.tag() as usize % GUESS_COUNT] = Found { name, at };
        }
        for (i, key) in far.into_iter().enumerate() {
            let Some(at) = home(key) else { continue };
            prefetch_start(line(slots, at));
            if let Some(kept) = ahead.homes.get_mut(i) {
                *kept = Found { name: name(space, key.tag()), at };
            }
        }
    }
}
