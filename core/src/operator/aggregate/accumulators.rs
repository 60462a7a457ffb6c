//! The accumulators of a rolling aggregation without a time to live.

use millstream_storage::key::StoredKey;

use crate::data::key::Key;
use crate::data::key_group::KeyGroupCount;
use crate::data::row::NO_EVENT_TIME;
use crate::data::slot::Slot;
use crate::operator::aggregate::STORED;
use crate::operator::window::WindowAggregate;
use crate::state::packed::{Damage, Packer, Unpacker, heap_bytes};
use crate::state::residents::Belongings;
use crate::state::snapshot::SnapshotWriter;

/// How they are kept.
pub(super) struct Accumulators<'a, A> {
    aggregate: &'a A,
    key_groups: KeyGroupCount,
}

impl<'a, A: WindowAggregate> Accumulators<'a, A> {
    #[inline]
    pub(super) fn new(aggregate: &'a A, key_groups: KeyGroupCount) -> Self {
        Self { aggregate, key_groups }
    }

    /// Bytes on the heap of the accumulator of one value at least, about.
    pub(super) fn bytes_of(&self, accumulator: &A::Accumulator) -> usize {
        heap_bytes(self.aggregate.stored(accumulator))
    }
}

impl<K: Key, A: WindowAggregate> Belongings<K, A::Accumulator> for Accumulators<'_, A> {
    fn create(&self) -> A::Accumulator {
        self.aggregate.create()
    }

    fn is_empty(&self, _slot: Slot, _accumulator: &A::Accumulator) -> bool {
        false
    }

    fn pack(&self, _slot: Slot, accumulator: &A::Accumulator, packer: &mut Packer) {
        packer.begin(NO_EVENT_TIME);
        packer.begin_part(0);
        packer.value(self.aggregate.stored(accumulator));
        packer.end_part();
    }

    fn unpack(
        &mut self,
        _slot: Slot,
        accumulator: &mut A::Accumulator,
        bytes: &[u8],
    ) -> Result<(), Damage> {
        let (mut unpacker, _) = Unpacker::new(bytes)?;
        let (_, mut part) = unpacker.next_part()?.ok_or(Damage("it has no accumulator"))?;
        *accumulator = self.aggregate.restored(part.value()?);
        Ok(())
    }

    fn clear(&mut self, _slot: Slot, accumulator: &mut A::Accumulator) {
        *accumulator = self.aggregate.create();
    }

    fn heap_bytes(&self, _slot: Slot, accumulator: &A::Accumulator) -> usize {
        self.bytes_of(accumulator)
    }

    fn save(
        &self,
        _slot: Slot,
        (hash64, key): (u64, &K),
        accumulator: &A::Accumulator,
        writer: &mut SnapshotWriter<'_>,
    ) {
        let stored = StoredKey {
            key_group: self.key_groups.of(hash64).0,
            state_id: 0,
            window_bucket: 0,
            hash64,
            key: &key.archive(),
            namespace: &[],
            map_key: &[],
        };
        writer.keyed_state(STORED, &stored, self.aggregate.stored(accumulator));
    }
}
