//! Versions of records that are kept beside the newest one.
//!
//! ```text
//! index ──► record, epoch 7 ──older──► operands of epoch 6 ──older──► operands of epoch 5
//!                                        ▲                              ▲
//! dirty list of epoch 6 ─────────────────┘        of epoch 5 ───────────┘
//! ```
//!
//! A record that changes before its frozen epoch was handed out is copied aside first, and the list
//! of that epoch names the copy. Operands stay chained to the record until a table that can be read
//! has them. A copy is freed when neither a writer waits for it nor a record names it.

use super::budget::{Budget, Full};
use super::dirty;
use super::pages::{Address, Part};
use super::record::{self, Header, Kind, flag};
use super::{RecordKey, SpaceId, WriteBuffer};

impl WriteBuffer {
    /// The operands of `key` that no table has yet, oldest first, after `Lookup::Operands`.
    pub fn operands(&self, space: SpaceId, key: RecordKey<'_>) -> Vec<&[u8]> {
        let Some(mut slot) = self.find(space, key) else { return Vec::new() };
        let mut operands = Vec::new();
        while !slot.is_none() {
            let header = Header::read(&self.slots, slot);
            if header.kind() != Kind::Operands || header.epoch <= self.written {
                break;
            }
            operands.push(record::value_of(&self.slots, slot, &header));
            slot = header.older;
        }
        operands.reverse();
        operands
    }

    /// Frees the record at `slot`, and the versions behind it that nobody waits for.
    pub(super) fn free_record(&mut self, budget: &mut Budget, slot: Address, header: &Header) {
        self.release_older(budget, header.older);
        self.slots.free(budget, slot, header.slot_bytes());
    }

    /// Copies a record as its epoch left it to where that epoch's writer finds it.
    pub(super) fn copy_aside(
        &mut self,
        budget: &mut Budget,
        slot: Address,
        header: &Header,
    ) -> Result<Address, Full> {
        let size = Header::new(header.hash, header.key_len as usize, header.value_len as usize);
        let copy = self.slots.alloc(budget, Part::Records, size.slot_bytes())?;
        self.slots.copy(slot, copy, header.bytes());
        let mut aside = *header;
        aside.flags |= flag::ASIDE;
        if header.kind() == Kind::Operands {
            aside.flags |= flag::CHAINED;
        }
        aside.take_size(&size);
        aside.write(&mut self.slots, copy);
        if !header.has(flag::EMITTED) {
            dirty::set_slot(&mut self.slots, header.dirty_at, copy);
        }
        self.step_count += 1;
        Ok(copy)
    }

    /// Frees the older versions of a record of operands that tables have by now.
    pub(super) fn trim_older(&mut self, budget: &mut Budget, header: &mut Header) {
        let mut older = header.older;
        let mut newest_kept = None;
        while !older.is_none() {
            let version = Header::read(&self.slots, older);
            if version.epoch <= self.written {
                match newest_kept {
                    None => header.older = Address::NONE,
                    Some(kept) => {
                        let mut kept_header = Header::read(&self.slots, kept);
                        kept_header.older = Address::NONE;
                        kept_header.write(&mut self.slots, kept);
                    }
                }
                self.release_older(budget, older);
                return;
            }
            newest_kept = Some(older);
            older = version.older;
        }
    }

    /// Frees a chain of older versions; those that a writer still waits for, it frees.
    pub(super) fn release_older(&mut self, budget: &mut Budget, mut older: Address) {
        while !older.is_none() {
            let mut version = Header::read(&self.slots, older);
            let next = std::mem::take(&mut version.older);
            if version.has(flag::EMITTED) {
                self.slots.free(budget, older, version.slot_bytes());
            } else {
                version.flags &= !flag::CHAINED;
                version.write(&mut self.slots, older);
            }
            older = next;
        }
    }
}
