//! What a key of an interval join keeps, and how it leaves memory.

use crate::data::key::Key;
use crate::data::key_group::KeyGroupCount;
use crate::data::record::Record;
use crate::data::row::NO_EVENT_TIME;
use crate::data::slot::Slot;
use crate::operator::join::side::Side;
use crate::operator::window::stored::{KeyWriter, StateName};
use crate::state::packed::{Damage, Packer, Unpacker};
use crate::state::residents::Belongings;
use crate::state::snapshot::SnapshotWriter;

pub(super) const LEFT: StateName = StateName("left", 0);
pub(super) const RIGHT: StateName = StateName("right", 1);

#[derive(Debug, Clone)]
pub(super) struct Sides<A, B> {
    pub(super) left: Side<A>,
    pub(super) right: Side<B>,
    /// When the key is in the agenda (ms).
    pub(super) due_ms: i64,
    /// Of a key that is away: when nothing can pair with anything of it any more (ms).
    pub(super) past_ms: i64,
}

pub(super) const NEVER_MS: i64 = i64::MAX;

impl<A, B> Default for Sides<A, B> {
    fn default() -> Self {
        let (left, right) = (Side::default(), Side::default());
        Self { left, right, due_ms: NEVER_MS, past_ms: NEVER_MS }
    }
}

impl<A: Record, B: Record> Sides<A, B> {
    pub(super) fn heap_bytes(&self) -> usize {
        self.left.heap_bytes() + self.right.heap_bytes()
    }
}

/// How a key leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct PairedBy {
    pub(super) lower_ms: i64,
    pub(super) upper_ms: i64,
    pub(super) groups: KeyGroupCount,
}

impl<K: Key, A: Record, B: Record> Belongings<K, Sides<A, B>> for PairedBy {
    fn create(&self) -> Sides<A, B> {
        Sides::default()
    }

    fn is_empty(&self, _slot: Slot, sides: &Sides<A, B>) -> bool {
        sides.heap_bytes() == 0
    }

    fn pack(&self, _slot: Slot, sides: &Sides<A, B>, packer: &mut Packer) {
        packer.begin(NO_EVENT_TIME);
        sides.left.pack(LEFT.1, packer);
        sides.right.pack(RIGHT.1, packer);
    }

    fn unpack(&mut self, _slot: Slot, sides: &mut Sides<A, B>, bytes: &[u8]) -> Result<(), Damage> {
        let (mut unpacker, _) = Unpacker::new(bytes)?;
        while let Some((number, part)) = unpacker.next_part()? {
            match number {
                0 => sides.left.unpack(part)?,
                1 => sides.right.unpack(part)?,
                _ => return Err(Damage("it has a third side")),
            }
        }
        Ok(())
    }

    fn clear(&mut self, _slot: Slot, sides: &mut Sides<A, B>) {
        let left_ms = sides.left.last_ms().map(|at_ms| at_ms + self.upper_ms);
        let right_ms = sides.right.last_ms().map(|at_ms| at_ms - self.lower_ms);
        let past_ms = left_ms.into_iter().chain(right_ms).max().unwrap_or(NEVER_MS);
        *sides = Sides { due_ms: sides.due_ms, past_ms, ..Sides::default() };
    }

    fn is_expected(&mut self, _slot: Slot, _hash64: u64, _sides: &Sides<A, B>) -> bool {
        // It is in the agenda.
        true
    }

    fn heap_bytes(&self, _slot: Slot, sides: &Sides<A, B>) -> usize {
        sides.heap_bytes()
    }

    fn save(
        &self,
        _slot: Slot,
        (hash64, key): (u64, &K),
        sides: &Sides<A, B>,
        writer: &mut SnapshotWriter<'_>,
    ) {
        let mut writer = KeyWriter::new(writer, self.groups, hash64, key);
        sides.left.save(LEFT, &mut writer);
        sides.right.save(RIGHT, &mut writer);
    }
}
