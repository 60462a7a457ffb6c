//! What a key of a temporal join keeps, and how it leaves memory.

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

pub(super) const WAITING: StateName = StateName("waiting", 0);
pub(super) const VERSIONS: StateName = StateName("versions", 1);

#[derive(Debug, Clone)]
pub(super) struct History<A, B> {
    pub(super) waiting: Side<A>,
    pub(super) versions: Side<B>,
    /// When the key is in the agenda (ms): the time of its first waiting record, or of the end of
    /// its version.
    pub(super) due_ms: i64,
    /// Of a key that is away and has nothing but versions: when the last one ends (ms). Otherwise
    /// [`UNKNOWN_MS`].
    pub(super) past_ms: i64,
}

pub(super) const NEVER_MS: i64 = i64::MAX;

/// It takes a look.
pub(super) const UNKNOWN_MS: i64 = i64::MIN;

impl<A, B> Default for History<A, B> {
    fn default() -> Self {
        let (waiting, versions) = (Side::default(), Side::default());
        Self { waiting, versions, due_ms: NEVER_MS, past_ms: UNKNOWN_MS }
    }
}

impl<A, B> History<A, B> {
    /// Keeps of the versions at or before the watermark the newest, unless it has ended.
    pub(super) fn forget(&mut self, watermark_ms: i64, ttl_ms: Option<i64>) {
        let known_count = self.versions.index_after(watermark_ms);
        self.versions.records.drain(..known_count.saturating_sub(1));
        if let Some(end_ms) = self.end_ms(ttl_ms)
            && end_ms <= watermark_ms
        {
            self.versions.records.pop_front();
        }
    }

    /// When the first version ends, if it does.
    pub(super) fn end_ms(&self, ttl_ms: Option<i64>) -> Option<i64> {
        Some(self.versions.first_ms()?.saturating_add(ttl_ms?))
    }
}

impl<A: Record, B: Record> History<A, B> {
    pub(super) fn heap_bytes(&self) -> usize {
        self.waiting.heap_bytes() + self.versions.heap_bytes()
    }
}

/// How a key leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Versioned {
    pub(super) ttl_ms: Option<i64>,
    pub(super) groups: KeyGroupCount,
}

impl<K: Key, A: Record, B: Record> Belongings<K, History<A, B>> for Versioned {
    fn create(&self) -> History<A, B> {
        History::default()
    }

    fn is_empty(&self, _slot: Slot, history: &History<A, B>) -> bool {
        history.heap_bytes() == 0
    }

    fn pack(&self, _slot: Slot, history: &History<A, B>, packer: &mut Packer) {
        packer.begin(NO_EVENT_TIME);
        history.waiting.pack(WAITING.1, packer);
        history.versions.pack(VERSIONS.1, packer);
    }

    fn unpack(
        &mut self,
        _slot: Slot,
        history: &mut History<A, B>,
        bytes: &[u8],
    ) -> Result<(), Damage> {
        let (mut unpacker, _) = Unpacker::new(bytes)?;
        while let Some((number, part)) = unpacker.next_part()? {
            match number {
                0 => history.waiting.unpack(part)?,
                1 => history.versions.unpack(part)?,
                _ => return Err(Damage("it has a third side")),
            }
        }
        Ok(())
    }

    fn clear(&mut self, _slot: Slot, history: &mut History<A, B>) {
        let end_ms = |from_ms: i64| Some(from_ms.saturating_add(self.ttl_ms?));
        let past_ms = match history.waiting.first_ms() {
            None => history.versions.last_ms().and_then(end_ms).unwrap_or(UNKNOWN_MS),
            Some(_) => UNKNOWN_MS,
        };
        *history = History { due_ms: history.due_ms, past_ms, ..History::default() };
    }

    fn is_expected(&mut self, _slot: Slot, _hash64: u64, history: &History<A, B>) -> bool {
        history.due_ms != NEVER_MS
    }

    fn heap_bytes(&self, _slot: Slot, history: &History<A, B>) -> usize {
        history.heap_bytes()
    }

    fn save(
        &self,
        _slot: Slot,
        (hash64, key): (u64, &K),
        history: &History<A, B>,
        writer: &mut SnapshotWriter<'_>,
    ) {
        let mut writer = KeyWriter::new(writer, self.groups, hash64, key);
        history.waiting.save(WAITING, &mut writer);
        history.versions.save(VERSIONS, &mut writer);
    }
}
