//! Reads and writes of records.

use super::budget::{Budget, Full, Refused};
use super::dirty::{self, Entry};
use super::pages::{Address, Part};
use super::record::{self, Header, Kind, flag};
use super::{LISTS, Lookup, RecordKey, SpaceId, WriteBuffer, section_of};
use crate::arena::CHUNK_BYTES;

/// Where a value is, until something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Located {
    slot: Address,
    key_len: usize,
}

/// Where a key belongs.
#[derive(Debug, Clone, Copy)]
struct Place {
    space: SpaceId,
    section: usize,
    prefix: u32,
    tag: u32,
}

impl WriteBuffer {
    /// The value of `key`. It begins at a multiple of 16.
    #[inline]
    pub fn get(&mut self, space: SpaceId, key: RecordKey<'_>) -> Lookup<&[u8]> {
        match self.locate(space, key) {
            Lookup::Found(at) => Lookup::Found(self.value(at)),
            Lookup::Absent => Lookup::Absent,
            Lookup::Unknown => Lookup::Unknown,
            Lookup::Operands => Lookup::Operands,
        }
    }

    /// Where the value of `key` is.
    #[inline]
    pub(crate) fn locate(&mut self, space: SpaceId, key: RecordKey<'_>) -> Lookup<Located> {
        let Some(slot) = self.find(space, key) else { return self.miss(space, key) };
        if !self.is_value(slot) {
            record::use_record(&mut self.slots, slot);
            return self.unvalued(slot);
        }
        Lookup::Found(Located { slot, key_len: key.bytes.len() })
    }

    /// The value that was located, if nothing was done since. It counts as used.
    #[inline]
    pub(crate) fn value(&mut self, Located { slot, key_len }: Located) -> &[u8] {
        record::use_value(&mut self.slots, slot, key_len)
    }

    /// The value of `key`, to be changed in place. It counts as changed.
    ///
    /// # Errors
    /// [`Full`] if there is no memory to note that, or for the copy that a frozen epoch needs.
    #[inline]
    pub fn get_mut(
        &mut self,
        budget: &mut Budget,
        space: SpaceId,
        key: RecordKey<'_>,
    ) -> Result<Lookup<&mut [u8]>, Full> {
        match self.guess(space, key) {
            Some(slot) if self.is_value(slot) && self.is_of(slot, key) => {
                if self.is_dirty(slot) {
                    let value = record::use_value(&mut self.slots, slot, key.bytes.len());
                    return Ok(Lookup::Found(value));
                }
                self.value_made_dirty(budget, self.place(space, key), slot)
            }
            _ => self.get_mut_without_a_guess(budget, space, key),
        }
    }

    #[cold]
    #[inline(never)]
    fn get_mut_without_a_guess(
        &mut self,
        budget: &mut Budget,
        space: SpaceId,
        key: RecordKey<'_>,
    ) -> Result<Lookup<&mut [u8]>, Full> {
        let Some(slot) = self.find(space, key) else { return Ok(self.miss(space, key)) };
        if !self.is_value(slot) {
            return Ok(self.unvalued(slot));
        }
        self.value_made_dirty(budget, self.place(space, key), slot)
    }

    /// Lets the value of `key` be `value`, whatever it was.
    ///
    /// # Errors
    /// If there is no memory for it, or key and value are larger than a chunk; nothing has changed.
    pub fn put(
        &mut self,
        budget: &mut Budget,
        space: SpaceId,
        key: RecordKey<'_>,
        value: &[u8],
    ) -> Result<(), Refused> {
        let place = self.place(space, key);
        match self.find(space, key) {
            Some(slot) => self.overwrite(budget, place, slot, Kind::Value, value),
            None => self.insert(budget, place, key, Kind::Value, value, self.epoch),
        }
    }

    /// Adds `bytes` at the end of the value of `key`. Where nobody knows the value without asking
    /// tables, they become an operand, which is merged with what tables say by whoever reads it:
    /// nothing is read now. The operands of one epoch lie one behind the other, unmarked.
    ///
    /// # Errors
    /// If there is no memory for it, or the key with all that was appended is larger than a chunk;
    /// nothing has changed.
    pub fn append(
        &mut self,
        budget: &mut Budget,
        space: SpaceId,
        key: RecordKey<'_>,
        bytes: &[u8],
    ) -> Result<(), Refused> {
        let place = self.place(space, key);
        let Some(slot) = self.find(space, key) else {
            let is_complete = self.section(space, place.section).is_complete;
            let kind = if is_complete { Kind::Value } else { Kind::Operands };
            return self.insert(budget, place, key, kind, bytes, self.epoch);
        };
        let header = Header::read(&self.slots, slot);
        match header.kind() {
            Kind::Tombstone => self.overwrite(budget, place, slot, Kind::Value, bytes),
            kind => {
                // What earlier epochs appended to operands stays with them.
                let is_anew = kind == Kind::Operands && header.epoch != self.epoch;
                let start = if is_anew { 0 } else { header.value_len as usize };
                self.write_at(budget, place, slot, (kind, start), bytes)
            }
        }
    }

    /// Removes the record of `key`. If a table has it, or may have it, a tombstone stays.
    ///
    /// # Errors
    /// If there is no memory for that, or the key is larger than a chunk; nothing has changed.
    pub fn remove(
        &mut self,
        budget: &mut Budget,
        space: SpaceId,
        key: RecordKey<'_>,
    ) -> Result<(), Refused> {
        let place = self.place(space, key);
        let Some(slot) = self.find(space, key) else {
            if self.section(space, place.section).is_complete {
                return Ok(());
            }
            return self.insert(budget, place, key, Kind::Tombstone, &[], self.epoch);
        };
        let header = Header::read(&self.slots, slot);
        if header.kind() == Kind::Tombstone {
            return Ok(());
        }
        if header.epoch == self.epoch && !header.has(flag::PERSISTED) {
            let section = section_of(&mut self.spaces, space, place.section);
            let list = &mut section.dirty[self.epoch as usize % LISTS];
            list.remove(&mut self.slots, budget, header.dirty_at);
            section.index.remove(&mut self.slots, budget, place.tag, slot);
            self.space_mut(space).record_count -= 1;
            self.changed_bytes[self.epoch as usize % LISTS] -= header.slot_bytes();
            self.slots.free(budget, slot, header.slot_bytes());
            return Ok(());
        }
        self.overwrite(budget, place, slot, Kind::Tombstone, &[])
    }

    /// Takes in what tables say of `key`, after [`Lookup::Unknown`]: the record is clean. Nothing
    /// happens if the write buffer knows better by now.
    ///
    /// # Errors
    /// If there is no memory for it, or key and value are larger than a chunk; nothing has changed
    /// of what is known.
    pub fn load(
        &mut self,
        budget: &mut Budget,
        space: SpaceId,
        key: RecordKey<'_>,
        value: Option<&[u8]>,
    ) -> Result<(), Refused> {
        let place = self.place(space, key);
        if let Some(slot) = self.find(space, key) {
            let header = Header::read(&self.slots, slot);
            if header.kind() != Kind::Operands || self.written < header.epoch {
                return Ok(());
            }
            // All its operands are in the tables, and so in the value.
            self.forget(budget, place, slot, &header);
        } else if self.section(space, place.section).is_complete {
            return Ok(());
        }
        let kind = if value.is_some() { Kind::Value } else { Kind::Tombstone };
        self.insert(budget, place, key, kind, value.unwrap_or_default(), 0)
    }

    /// Takes a clean record out of the buffer.
    pub(super) fn evict_record(&mut self, budget: &mut Budget, slot: Address) {
        let header = Header::read(&self.slots, slot);
        let (space, section) = (SpaceId(header.dirty_at), self.section_number(header.hash));
        if header.kind() != Kind::Tombstone {
            self.section_mut(space, section).is_complete = false;
        }
        let place = Place { space, section, prefix: 0, tag: header.tag };
        self.forget(budget, place, slot, &header);
    }

    /// The slot of `key`.
    #[inline]
    pub(super) fn find(&self, space: SpaceId, key: RecordKey<'_>) -> Option<Address> {
        match self.guess(space, key) {
            Some(slot) if self.is_of(slot, key) => Some(slot),
            _ => self.find_without_a_guess(space, key),
        }
    }

    /// The slot of `key`, most likely: that of its tag which was prefetched or is in its home line.
    #[inline]
    fn guess(&self, space: SpaceId, key: RecordKey<'_>) -> Option<Address> {
        let held = self.space(space);
        assert!(held.dropped_in.is_none(), "{space:?} was dropped");
        if let Some(slot) = self.ahead.guess(&self.slots, space, key.tag()) {
            return Some(slot);
        }
        held.sections[self.section_number(key.hash64)].index.guess(&self.slots, key.tag())
    }

    #[cold]
    #[inline(never)]
    fn find_without_a_guess(&self, space: SpaceId, key: RecordKey<'_>) -> Option<Address> {
        let index = &self.section(space, self.section_number(key.hash64)).index;
        index.find(&self.slots, key.tag(), |slot| self.is_of(slot, key))
    }

    #[inline]
    fn is_of(&self, slot: Address, key: RecordKey<'_>) -> bool {
        record::is_of_key(&self.slots, slot, key.hash64, key.bytes)
    }

    #[inline]
    fn is_value(&self, slot: Address) -> bool {
        Header::read(&self.slots, slot).kind() == Kind::Value
    }

    /// Whether the record at `slot` changed in this epoch.
    #[inline]
    fn is_dirty(&self, slot: Address) -> bool {
        Header::read(&self.slots, slot).epoch == self.epoch
    }

    fn place(&self, space: SpaceId, key: RecordKey<'_>) -> Place {
        let product = u128::from(key.hash64) * u128::from(self.key_group_count);
        let (section, prefix) = (self.section_number(key.hash64), (product as u64 >> 32) as u32);
        Place { space, section, prefix, tag: key.tag() }
    }

    #[cold]
    pub(super) fn miss<T>(&self, space: SpaceId, key: RecordKey<'_>) -> Lookup<T> {
        let section = self.section(space, self.section_number(key.hash64));
        if section.is_complete { Lookup::Absent } else { Lookup::Unknown }
    }

    /// What is known of a record without a value.
    #[cold]
    pub(super) fn unvalued<T>(&self, slot: Address) -> Lookup<T> {
        let header = Header::read(&self.slots, slot);
        if header.kind() == Kind::Tombstone {
            Lookup::Absent
        } else if header.epoch <= self.written {
            Lookup::Unknown
        } else {
            Lookup::Operands
        }
    }

    /// Takes a record that no list has out of the index, and frees it.
    fn forget(&mut self, budget: &mut Budget, place: Place, slot: Address, header: &Header) {
        let section = section_of(&mut self.spaces, place.space, place.section);
        section.index.remove(&mut self.slots, budget, place.tag, slot);
        self.space_mut(place.space).record_count -= 1;
        self.free_record(budget, slot, header);
    }

    /// A new record, changed in `epoch`; 0 for a clean one.
    fn insert(
        &mut self,
        budget: &mut Budget,
        place: Place,
        key: RecordKey<'_>,
        kind: Kind,
        value: &[u8],
        epoch: u32,
    ) -> Result<(), Refused> {
        check_size(key.bytes.len(), value.len())?;
        let mut header = Header::new(key.hash64, key.bytes.len(), value.len());
        header.epoch = epoch;
        header.tag = place.tag;
        header.dirty_at = place.space.0;
        header.set_kind(kind);
        header.value_len = value.len() as u32;
        if epoch != 0 {
            self.reserve_entry(budget, place, epoch)?;
        }
        let section = section_of(&mut self.spaces, place.space, place.section);
        if !section.is_complete {
            header.flags |= flag::PERSISTED;
        }
        let list = &mut section.dirty[epoch as usize % LISTS];
        let slot = self.slots.alloc(budget, Part::Records, header.slot_bytes())?;
        let moved = section.index.insert(&mut self.slots, budget, place.tag, slot);
        self.step_count +=
            moved.inspect_err(|_| self.slots.free(budget, slot, header.slot_bytes()))? as u64;
        if epoch != 0 {
            let entry = Entry { prefix: place.prefix, slot };
            header.dirty_at = list.push(&mut self.slots, entry);
            self.changed_bytes[epoch as usize % LISTS] += header.slot_bytes();
        } else {
            // Somebody is about to ask for it.
            header.flags |= flag::USES_ONE;
        }
        let space = self.space_mut(place.space);
        space.record_count += 1;
        space.slot_bytes = header.slot_bytes();
        header.write(&mut self.slots, slot);
        let bytes = self.slots.bytes_mut(slot, header.bytes());
        bytes[record::HEADER_BYTES..][..key.bytes.len()].copy_from_slice(key.bytes);
        bytes[header.value_offset()..].copy_from_slice(value);
        Ok(())
    }

    /// Lets a record say something else.
    fn overwrite(
        &mut self,
        budget: &mut Budget,
        place: Place,
        slot: Address,
        kind: Kind,
        value: &[u8],
    ) -> Result<(), Refused> {
        self.write_at(budget, place, slot, (kind, 0), value)
    }

    /// Lets a record be of `kind`, and its value end with `bytes` from `start` on.
    fn write_at(
        &mut self,
        budget: &mut Budget,
        place: Place,
        mut slot: Address,
        (kind, start): (Kind, usize),
        bytes: &[u8],
    ) -> Result<(), Refused> {
        let mut header = Header::read(&self.slots, slot);
        let value_len = start + bytes.len();
        let larger = (header.capacity() < value_len)
            .then(|| self.alloc_larger(budget, &header, value_len))
            .transpose()?;
        self.make_dirty(budget, place, slot, &mut header).inspect_err(|_| {
            if let Some((larger, larger_header)) = &larger {
                self.slots.free(budget, *larger, larger_header.slot_bytes());
            }
        })?;
        if let Some((larger, larger_header)) = larger {
            self.slots.copy(slot, larger, header.value_offset() + start);
            self.slots.free(budget, slot, header.slot_bytes());
            let changed_bytes = &mut self.changed_bytes[self.epoch as usize % LISTS];
            *changed_bytes += larger_header.slot_bytes() - header.slot_bytes();
            header.take_size(&larger_header);
            let section = section_of(&mut self.spaces, place.space, place.section);
            section.index.replace(&mut self.slots, place.tag, slot, larger);
            dirty::set_slot(&mut self.slots, header.dirty_at, larger);
            slot = larger;
        }
        if kind != Kind::Operands {
            self.release_older(budget, std::mem::take(&mut header.older));
        }
        header.set_kind(kind);
        header.value_len = value_len as u32;
        header.write(&mut self.slots, slot);
        let at = header.value_offset() + start;
        self.slots.bytes_mut(slot, header.bytes())[at..].copy_from_slice(bytes);
        Ok(())
    }

    /// A slot for the record of `header` with a value of `value_len`, and room to grow by half.
    fn alloc_larger(
        &mut self,
        budget: &mut Budget,
        header: &Header,
        value_len: usize,
    ) -> Result<(Address, Header), Refused> {
        let key_len = header.key_len as usize;
        check_size(key_len, value_len)?;
        let room = CHUNK_BYTES.saturating_sub(record::value_offset(key_len));
        let roomy = (value_len + value_len / 2).min(room).max(value_len);
        let larger = Header::new(header.hash, key_len, roomy);
        Ok((self.slots.alloc(budget, Part::Records, larger.slot_bytes())?, larger))
    }

    /// The value of a record that is changed in place, for the first time in this epoch. Apart from
    /// what most changes are, which has to be short.
    #[inline(never)]
    fn value_made_dirty(
        &mut self,
        budget: &mut Budget,
        place: Place,
        slot: Address,
    ) -> Result<Lookup<&mut [u8]>, Full> {
        let mut header = Header::read(&self.slots, slot);
        self.make_dirty(budget, place, slot, &mut header)?;
        header.write(&mut self.slots, slot);
        Ok(Lookup::Found(record::use_value(&mut self.slots, slot, header.key_len as usize)))
    }

    /// Enters a record in the current epoch's dirty list, unless it is there, after it was copied
    /// aside for a frozen epoch that needs it. The header is not written yet.
    fn make_dirty(
        &mut self,
        budget: &mut Budget,
        place: Place,
        slot: Address,
        header: &mut Header,
    ) -> Result<(), Full> {
        if header.epoch == self.epoch {
            return Ok(());
        }
        self.reserve_entry(budget, place, self.epoch)?;
        let are_operands = header.kind() == Kind::Operands;
        if self.written < header.epoch && (are_operands || !header.has(flag::EMITTED)) {
            let copy = self.copy_aside(budget, slot, header)?;
            header.older = if are_operands { copy } else { Address::NONE };
        }
        self.trim_older(budget, header);
        header.epoch = self.epoch;
        header.flags = header.flags & !flag::EMITTED | flag::PERSISTED;
        let section = section_of(&mut self.spaces, place.space, place.section);
        let list = &mut section.dirty[self.epoch as usize % LISTS];
        let entry = Entry { prefix: place.prefix, slot };
        header.dirty_at = list.push(&mut self.slots, entry);
        self.changed_bytes[self.epoch as usize % LISTS] += header.slot_bytes();
        Ok(())
    }

    /// Makes sure that the next entry of the section's list of `epoch` finds room.
    #[inline]
    fn reserve_entry(&mut self, budget: &mut Budget, place: Place, epoch: u32) -> Result<(), Full> {
        let id = place.space;
        let space = self.spaces[id.0 as usize].as_mut().expect("the space is open");
        let list = &mut space.sections[place.section].dirty[epoch as usize % LISTS];
        if list.epoch != epoch {
            list.begin(epoch);
            let name = (place.section, (space.state_id, space.window_bucket, id));
            self.changed[epoch as usize % LISTS].insert(name);
        }
        list.reserve(&mut self.slots, budget)
    }
}

fn check_size(key_len: usize, value_len: usize) -> Result<(), Refused> {
    let bytes = record::value_offset(key_len).saturating_add(value_len);
    if bytes <= CHUNK_BYTES { Ok(()) } else { Err(Refused::TooLarge) }
}
