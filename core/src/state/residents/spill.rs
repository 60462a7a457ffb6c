//! What is known of a key's whereabouts, and the place of an operator's keys in the store.

use std::collections::BTreeSet;

use millstream_storage::write_buffer::{RecordKey, SpaceId};

use super::gathering::Gathering;
use super::saving::Saving;
use crate::data::key::Key;
use crate::error::Error;
use crate::state::packed::Packer;
use crate::state::shard_store::{Put, ShardStore, Waiter};

/// Where a key's belongings are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Residence {
    /// Bytes on the heap for key and belongings, about, when they were last looked at.
    pub(super) heap_bytes: u32,
    /// How often they changed, up to the last bits: when to look again.
    changes: u8,
    /// The key was entered since the hand last passed.
    pub(super) is_used: bool,
    pub(super) stored: Stored,
    saving: u8,
}

/// Checkpoints have a record of the key.
const SAVED: u8 = 1 << 7;

/// What the store has of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stored {
    #[default]
    Nothing,
    /// What was there before the last change.
    Older,
    /// What is in memory, too.
    Same,
    /// All there is: the key is cold.
    All,
}

impl Residence {
    /// Of a key that has just come or gone.
    pub(super) fn now(stored: Stored) -> Self {
        Self { stored, ..Self::default() }
    }

    /// In which epoch of `saving.rs` it has changed, 0 if not since it was written.
    #[inline]
    pub(super) fn epoch(self) -> u8 {
        self.saving & !SAVED
    }

    pub(super) fn set_epoch(&mut self, epoch: u8) {
        self.saving = self.saving & SAVED | epoch;
    }

    /// Whether checkpoints have a record of the key.
    pub(super) fn is_saved(self) -> bool {
        self.saving & SAVED != 0
    }

    pub(super) fn set_saved(&mut self, is_saved: bool) {
        self.saving = self.epoch() | if is_saved { SAVED } else { 0 };
    }

    #[inline]
    pub(super) fn is_cold(self) -> bool {
        self.stored == Stored::All
    }

    /// Something has changed. Whether it is time to look at the bytes again: often at first, later
    /// every 32 times.
    #[inline]
    pub(super) fn note_change(&mut self) -> bool {
        if self.stored == Stored::Same {
            self.stored = Stored::Older;
        }
        self.changes = self.changes.wrapping_add(1);
        let changes = self.changes;
        changes.is_multiple_of(32) || changes < 32 && changes.is_power_of_two()
    }
}

/// The way of an operator's keys to the shard's store and back.
#[derive(Debug)]
pub(super) struct Spill {
    pub(super) space: SpaceId,
    chain_index: u16,
    stage_index: u16,
    pub(super) packer: Packer,
    /// Where the stored form of a key is made.
    pub(super) key: Vec<u8>,
    /// The slot that the hand is at.
    pub(super) hand: u32,
    /// Something was evicted: until then, what is not in memory is nowhere.
    pub(super) has_evicted: bool,
    pub(super) evicted_count: u64,
    /// There is too much in memory.
    pub(super) is_short: bool,
    /// What was to be evicted last found no room in the store.
    pub(super) is_full: bool,
    /// Keys that are forgotten, whose records are to be removed from the store.
    pub(super) going: BTreeSet<(u64, Vec<u8>)>,
    /// While a snapshot is being made.
    pub(super) gathering: Option<Gathering>,
    /// If checkpoints get what changes.
    pub(super) saving: Option<Box<Saving>>,
    /// Of all keys in memory.
    pub(super) heap_bytes: usize,
    charged_bytes: usize,
}

impl Spill {
    pub(super) fn new(store: &ShardStore, chain_index: u16, stage_index: u16) -> Self {
        Self {
            space: store.open_state(),
            chain_index,
            stage_index,
            packer: Packer::default(),
            key: Vec::new(),
            hand: 0,
            has_evicted: false,
            evicted_count: 0,
            is_short: false,
            is_full: false,
            going: BTreeSet::new(),
            gathering: None,
            saving: None,
            heap_bytes: 0,
            charged_bytes: 0,
        }
    }

    pub(super) fn charge(&mut self, bytes: usize, store: &ShardStore) {
        store.charge(self.charged_bytes, bytes);
        self.charged_bytes = bytes;
    }

    /// A key has so many bytes on the heap now.
    pub(super) fn change_heap_bytes(&mut self, residence: &mut Residence, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before_bytes = std::mem::replace(&mut residence.heap_bytes, bytes);
        self.heap_bytes += bytes as usize;
        self.heap_bytes -= before_bytes as usize;
    }

    pub(super) fn waiter(&self, hash64: u64) -> Waiter {
        let (chain_index, stage_index) = (self.chain_index, self.stage_index);
        Waiter { chain_index, stage_index, hash64 }
    }

    /// Lets `self.key` be the stored form of `key`: what follows the hash.
    pub(super) fn encode_key(&mut self, key: &impl Key) {
        encode_key(key, &mut self.key);
    }

    pub(super) fn put(&mut self, hash64: u64, store: &ShardStore) -> Result<Put, Error> {
        let key = RecordKey { hash64, spread: 0, bytes: &self.key };
        let put = store.put(self.space, key, self.packer.bytes())?;
        if put == Put::Done && !self.going.is_empty() {
            self.going.remove(&(hash64, self.key.clone()));
        }
        Ok(put)
    }

    /// Removes what is going, as far as there is room.
    pub(super) fn remove_going(&mut self, store: &ShardStore) -> Result<(), Error> {
        while let Some((hash64, bytes)) = self.going.first() {
            let key = RecordKey { hash64: *hash64, spread: 0, bytes };
            if store.remove(self.space, key)? != Put::Done {
                return Ok(());
            }
            self.going.pop_first();
        }
        Ok(())
    }
}

/// Lets `stored` be what follows the hash in the stored form of `key`.
pub(super) fn encode_key(key: &impl Key, stored: &mut Vec<u8>) {
    let archive = key.archive();
    let len = u32::try_from(archive.len()).expect("a key is far smaller than 4 GiB");
    stored.clear();
    stored.extend_from_slice(&len.to_be_bytes());
    stored.extend_from_slice(&archive);
    // No namespace.
    stored.extend_from_slice(&[0; 4]);
}
