//! Partials: accumulators that leave memory, a part of what their key has in their window.
//!
//! ```text
//!              a row            memory is short              the next row of the key
//! nothing ──────────► table ─────────────────────► store ───────────────────────────► table, store
//!                       ▲          appended                                             │
//!                       └──── the next row finds it there ◄──────── another partial ◄───┘
//! ```
//!
//! Accumulators can be merged, so nothing has to come back before the next row: that one begins a
//! new accumulator, and when the window fires all that its keys have is merged, in the order in
//! which it came. Each window has a space of the shard's store, which goes with it as a whole.
//!
//! Invariant: what a key has in a window is what the store has, the oldest first, and then what the
//! table has.
//!
//! Not here: which accumulators leave, and when (`tumbling/leaving.rs`).

use millstream_storage::arena::CHUNK_BYTES;
use millstream_storage::key::StoredKey;
use millstream_storage::store::Scan;
use millstream_storage::write_buffer::{RecordKey, SpaceId};
use rkyv::util::AlignedVec;

use crate::data::key::Key;
use crate::data::key_group::HashRange;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::limits::PARTIAL_BYTES_MAX;
use crate::operator::window::aggregate::WindowAggregate;
use crate::state::packed::{Damage, Packer, Part, heap_bytes};
use crate::state::shard_store::{Put, Seen, ShardStore, Waiter};
use crate::state::table::KeyTable;

const _: () = assert!(32 * PARTIAL_BYTES_MAX <= CHUNK_BYTES);

/// Bytes of a key's place in the index, about.
const INDEX_BYTES: usize = 12;

/// The accumulators of a window.
pub(super) struct Accumulators<K, V> {
    pub(super) table: KeyTable<K, V>,
    /// Where the store has partials of them, if some have left.
    space: Option<SpaceId>,
    /// How many are in the table, when that was last looked at.
    counted: usize,
    /// How many of them were found too large to leave.
    large: usize,
}

impl<K, V> Accumulators<K, V> {
    /// None so far, in the memory of `table`, which is empty.
    pub(super) fn new(table: KeyTable<K, V>) -> Self {
        Self { table, space: None, counted: 0, large: 0 }
    }

    /// Whether some have left memory.
    pub(super) fn have_left(&self) -> bool {
        self.space.is_some()
    }

    /// How many may leave.
    pub(super) fn mobile_count(&self) -> usize {
        self.table.len().saturating_sub(self.large)
    }

    /// All of them are looked at again: which are too large to leave is to be found out.
    pub(super) fn begin_round(&mut self) {
        self.large = 0;
    }

    /// Gives the memory of slots back that nobody has any more.
    pub(super) fn shrink(&mut self) {
        if self.table.is_empty() && 0 < self.table.slot_count() {
            self.table.clear();
        }
    }
}

/// What came of letting one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// There is none, or it is too large.
    No,
    Yes,
    /// The store takes nothing now.
    NoRoom,
}

/// A walk over all partials of a window, in the order of their stored keys.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) scan: Scan,
    /// The stored key that it has come to; empty before the first.
    at: Vec<u8>,
}

impl Walk {
    /// Whether it has come to the key with these stored bytes, or beyond.
    pub(super) fn has_reached(&self, stored: &[u8]) -> bool {
        stored <= self.at.as_slice()
    }
}

/// What the store has of a key in a window, merged.
#[derive(Debug)]
pub(super) struct Merged<K, V> {
    pub(super) hash64: u64,
    pub(super) key: K,
    pub(super) sum: V,
}

/// The way of an operator's accumulators to the shard's store and back.
#[derive(Debug)]
pub(super) struct Partials {
    state_id: u16,
    chain_index: u16,
    stage_index: u16,
    packer: Packer,
    /// Where the stored form of a key is made.
    key: Vec<u8>,
    /// Where archives are read, which takes an aligned place.
    archive: AlignedVec,
    /// Bytes of a slot and what finds it.
    entry_bytes: usize,
    heap: HeapSample,
    /// Accumulators in the tables of all windows.
    count: usize,
    charged_bytes: usize,
    /// There is too much in memory.
    is_short: bool,
    /// What was to leave last found no room in the store.
    is_full: bool,
    /// Spaces were dropped since their windows were last said to have passed.
    has_dropped: bool,
}

impl Partials {
    /// For tables of accumulators `V` by `K`, whose operator is at this place.
    pub(super) fn new<K, V>(store: &ShardStore, chain_index: u16, stage_index: u16) -> Self {
        let slot_bytes = KeyTable::<K, V>::new(HashRange::ALL).slot_bytes();
        Self {
            state_id: store.open_windowed_state(),
            chain_index,
            stage_index,
            packer: Packer::default(),
            key: Vec::new(),
            archive: AlignedVec::new(),
            entry_bytes: slot_bytes + INDEX_BYTES,
            heap: HeapSample::default(),
            count: 0,
            charged_bytes: 0,
            is_short: false,
            is_full: false,
            has_dropped: false,
        }
    }

    pub(super) fn waiter(&self, hash64: u64) -> Waiter {
        let (chain_index, stage_index) = (self.chain_index, self.stage_index);
        Waiter { chain_index, stage_index, hash64 }
    }

    /// Where archives are read.
    pub(super) fn archive(&mut self) -> &mut AlignedVec {
        &mut self.archive
    }

    #[inline]
    pub(super) fn is_short(&self) -> bool {
        self.is_short
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// The store took nothing.
    pub(super) fn note_full(&mut self) {
        self.is_full = self.is_short;
    }

    /// Counts the accumulators of a window again.
    #[inline]
    pub(super) fn count<K, V>(&mut self, of: &mut Accumulators<K, V>) {
        self.count += of.table.len();
        self.count -= of.counted;
        of.counted = of.table.len();
    }

    /// Looks at what an accumulator of a window holds on to on the heap.
    #[inline]
    pub(super) fn sample<K: Key, A: WindowAggregate>(
        &mut self,
        of: &Accumulators<K, A::Accumulator>,
        aggregate: &A,
    ) {
        if const { std::mem::needs_drop::<K>() || std::mem::needs_drop::<A::Stored>() } {
            let slot = self.heap.next_slot(of.table.slot_count());
            if let Some((_, key, sum)) = of.table.get_entry(slot) {
                self.heap.add(heap_bytes(key) + heap_bytes(aggregate.stored(sum)));
            }
        }
    }

    /// Tells the shard's store how much is in memory now, `spare_bytes` beside the accumulators.
    #[inline]
    pub(super) fn recharge(&mut self, spare_bytes: usize, store: &ShardStore) {
        let bytes = self.count * (self.entry_bytes + self.heap.mean_bytes()) + spare_bytes;
        store.charge(self.charged_bytes, bytes);
        self.charged_bytes = bytes;
        self.is_short = 0 < store.excess_bytes();
        self.is_full &= self.is_short;
    }

    /// Lets the accumulator at `slot` of the window that ends at `end_ms` leave.
    pub(super) fn put_away<K: Key, A: WindowAggregate>(
        &mut self,
        end_ms: i64,
        of: &mut Accumulators<K, A::Accumulator>,
        slot: Slot,
        aggregate: &A,
        store: &ShardStore,
    ) -> Result<Left, Error> {
        let Some((hash64, key, sum)) = of.table.get_entry(slot) else { return Ok(Left::No) };
        let sum = aggregate.stored(sum);
        if PARTIAL_BYTES_MAX < heap_bytes(sum) {
            of.large += 1;
            return Ok(Left::No);
        }
        self.packer.clear();
        self.packer.value(sum);
        encode(key, &mut self.key);
        let space = *of.space.get_or_insert_with(|| store.open_window(self.state_id, end_ms));
        let record = RecordKey { hash64, spread: 0, bytes: &self.key };
        match store.append(space, record, self.packer.bytes())? {
            Put::Done => {}
            Put::NoRoom => return Ok(Left::NoRoom),
            Put::TooLarge => {
                of.large += 1;
                return Ok(Left::No);
            }
        }
        of.table.remove_slot(slot);
        self.is_full = false;
        self.count(of);
        Ok(Left::Yes)
    }

    /// Sees to it that all that `key` has in a window is in the table. `false` while it is being
    /// read: the operator will be told when that was done.
    pub(super) fn take_back<K: Key, A: WindowAggregate>(
        &mut self,
        of: &mut Accumulators<K, A::Accumulator>,
        (hash64, key): (u64, &K),
        aggregate: &A,
        store: &ShardStore,
    ) -> Result<bool, Error> {
        let Some(space) = of.space else { return Ok(true) };
        encode(key, &mut self.key);
        let (waiter, record) =
            (self.waiter(hash64), RecordKey { hash64, spread: 0, bytes: &self.key });
        let archive = &mut self.archive;
        let merge = |value: Option<&[u8]>| value.map(|bytes| merged(bytes, aggregate, archive));
        let Some(found) = store.get(space, record, waiter, merge)? else { return Ok(false) };
        let Some(older) = found.transpose().map_err(damaged)? else { return Ok(true) };
        if store.remove(space, record)? == Put::NoRoom {
            store.wait_for_room(waiter);
            return Ok(false);
        }
        match of.table.find(hash64, key) {
            Some(slot) => {
                let newer = of.table.value_mut(slot);
                let newer = std::mem::replace(newer, older);
                aggregate.merge(of.table.value_mut(slot), newer);
            }
            None => _ = of.table.find_or_insert_with(hash64, key.clone(), || older),
        }
        self.count(of);
        Ok(true)
    }

    /// Begins to walk over what the store has of a window, if some have left.
    pub(super) fn walk<K, V>(of: &Accumulators<K, V>, store: &ShardStore) -> Option<Walk> {
        of.space.map(|space| Walk { scan: store.scan(space), at: Vec::new() })
    }

    /// Goes on with a walk.
    pub(super) fn next<K: Key, A: WindowAggregate>(
        &mut self,
        walk: &mut Walk,
        aggregate: &A,
        store: &ShardStore,
    ) -> Result<Seen<Merged<K, A::Accumulator>>, Error> {
        let (waiter, archive, at) = (self.waiter(0), &mut self.archive, &mut walk.at);
        let seen = store.scan_next(&mut walk.scan, waiter, |stored, value| {
            at.clear();
            at.extend_from_slice(stored);
            read(stored, value, aggregate, archive)
        })?;
        Ok(match seen {
            Seen::Entry(entry) => Seen::Entry(entry.map_err(damaged)?),
            Seen::Pending => Seen::Pending,
            Seen::Done => Seen::Done,
        })
    }

    /// A window is gone, with all that it had. Whether its memory may serve another.
    pub(super) fn forget<K, V>(&mut self, of: &Accumulators<K, V>, store: &ShardStore) -> bool {
        self.count -= of.counted;
        if let Some(space) = of.space {
            store.drop_window(space);
            self.has_dropped = true;
        }
        of.space.is_none() && !self.is_short
    }

    /// Windows that end before this time (ms) are gone.
    pub(super) fn pass(&mut self, windows_from_ms: i64, store: &ShardStore) {
        if std::mem::take(&mut self.has_dropped) {
            store.pass_windows(self.state_id, windows_from_ms);
        }
    }
}

/// What accumulators hold on to on the heap, on the average of those that were looked at.
#[derive(Debug, Default)]
struct HeapSample {
    bytes: usize,
    count: usize,
    slot: u32,
}

impl HeapSample {
    /// Older ones count half after so many.
    const COUNT_MAX: usize = 1024;

    /// The slot to be looked at, of so many.
    fn next_slot(&mut self, slot_count: u32) -> Slot {
        // Far from each other, whatever their number.
        self.slot = self.slot.wrapping_add(0x9e37_79b9);
        Slot(((u64::from(self.slot) * u64::from(slot_count)) >> 32) as u32)
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.count += 1;
        if self.count == Self::COUNT_MAX {
            (self.bytes, self.count) = (self.bytes / 2, self.count / 2);
        }
    }

    #[inline]
    fn mean_bytes(&self) -> usize {
        self.bytes.checked_div(self.count).unwrap_or(0)
    }
}

/// What an entry of the store is.
pub(super) fn read<K: Key, A: WindowAggregate>(
    stored: &[u8],
    value: &[u8],
    aggregate: &A,
    archive: &mut AlignedVec,
) -> Result<Merged<K, A::Accumulator>, Damage> {
    let place = StoredKey::decode(stored).ok_or(Damage("it has no stored key"))?;
    archive.clear();
    archive.extend_from_slice(place.key);
    let key = K::view(archive).map_err(|_| Damage("a key is not an archive of its type"))?;
    let key = K::unarchive(key);
    Ok(Merged { hash64: place.hash64, key, sum: merged(value, aggregate, archive)? })
}

/// What partials, one behind the other, come to.
fn merged<A: WindowAggregate>(
    bytes: &[u8],
    aggregate: &A,
    archive: &mut AlignedVec,
) -> Result<A::Accumulator, Damage> {
    let mut partials = Part::new(bytes, archive);
    let mut sum = aggregate.restored(partials.value::<A::Stored>()?);
    while !partials.is_empty() {
        let next = aggregate.restored(partials.value::<A::Stored>()?);
        aggregate.merge(&mut sum, next);
    }
    Ok(sum)
}

/// Lets `bytes` be what follows the hash in the stored form of `key`.
fn encode(key: &impl Key, bytes: &mut Vec<u8>) {
    let archive = key.archive();
    let len = u32::try_from(archive.len()).expect("a key is far smaller than 4 GiB");
    bytes.clear();
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(&archive);
    // No namespace.
    bytes.extend_from_slice(&[0; 4]);
}

pub(super) fn damaged(Damage(reason): Damage) -> Error {
    let what = "the accumulator of a window in the store of the shard".to_string();
    Error::Corrupt { what, offset: 0, reason: reason.to_string() }
}
