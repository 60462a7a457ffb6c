//! Looking at all of a table: every block, and whether the metadata says of it what is in it.
//!
//! ```text
//! want() ─► Some: read, on_read ─► want() … None: every entry was looked at
//! ```
//!
//! Opening a table checks its metadata and a lookup the one block that it needs; so damage in a
//! block that nobody reads stays unnoticed until a restore needs it. This reads all of them, one
//! at a time, and then believes nothing: entries are in order and in the key group of their hash,
//! the index leads to each of them, directory and properties are what they come to, and the
//! blocks are those of which the footer has the checksum. So it
//! finds what a faulty writer made as well.

use super::PAGE_BYTES;
use super::directory::{SECTION_ROW_BYTES, Section};
use super::entry::{Entry, hash_of, key_group_of};
use super::error::Error;
use super::footer::{Part, TableMeta};
use super::range::key_group_of_hash;
use super::reader::{Located, Table, Want};
use crate::key::StoredKey;

/// All of a table that is being looked at.
#[derive(Debug)]
pub struct Audit {
    table: Table,
    /// The block that comes next, and where it is.
    block: u32,
    wanted: Option<Want>,
    /// Of the blocks so far.
    blocks: crc32fast::Hasher,
    /// What the entries so far come to.
    meta: TableMeta,
    section: Option<Section>,
    /// Sections that were compared with the directory's.
    section_count: usize,
    /// Of the last entry.
    key: Vec<u8>,
    sequence: u64,
}

impl Audit {
    /// Begins to look at `table`, whose filters are loaded.
    ///
    /// # Errors
    /// If its index contradicts itself, or there are no blocks for what it is said to have.
    pub fn new(table: Table) -> Result<Self, Error> {
        let meta = TableMeta::begin(table.meta.id, table.meta.key_group_count);
        let mut audit = Self {
            table,
            block: 0,
            wanted: None,
            blocks: crc32fast::Hasher::new(),
            meta,
            section: None,
            section_count: 0,
            key: Vec::new(),
            sequence: 0,
        };
        audit.plan(0)?;
        Ok(audit)
    }

    /// The table.
    pub fn into_table(self) -> Table {
        self.table
    }

    /// What has to be read next, one block; `None` if all of the table is as it should be.
    pub fn want(&self) -> Option<Want> {
        self.wanted
    }

    /// What was wanted is `bytes`.
    ///
    /// # Errors
    /// If they are not those of a sound table. The audit is over.
    ///
    /// # Panics
    /// If nothing was wanted.
    pub fn on_read(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let want = self.wanted.take().expect("nothing is read that was not wanted");
        let block = self.table.block(want, bytes)?;
        self.blocks.update(bytes);
        let mut key = Vec::new();
        for index in 0..block.count() {
            block.copy_key(index, &mut key);
            let entry = block.entry(index, &key);
            self.check(&entry, want)?;
            self.count(&entry)?;
            std::mem::swap(&mut self.key, &mut key);
        }
        self.block += 1;
        self.plan(want.offset + want.len as u64)
    }

    /// Decides on the next block, which has to begin at `offset`.
    fn plan(&mut self, offset: u64) -> Result<(), Error> {
        if self.block == self.table.block_count() {
            return self.end();
        }
        let want = self.table.place(self.block)?;
        if want.offset != offset {
            return Err(self.table.corrupt(offset, "the index knows of no block here"));
        }
        self.wanted = Some(want);
        Ok(())
    }

    /// Whether `entry`, of the block at `want`, may be there and is found.
    fn check(&self, entry: &Entry<'_>, want: Want) -> Result<(), Error> {
        let corrupt = |what| Err(self.table.corrupt(want.offset, what));
        if StoredKey::decode(entry.key).is_none() {
            return corrupt("a key is no stored key");
        }
        let key_group = key_group_of_hash(hash_of(entry.key), self.meta.key_group_count);
        if key_group_of(entry.key) != key_group {
            return corrupt("a key is not in the key group of its hash");
        }
        let is_first = self.meta.entry_count == 0;
        let is_older = self.key == entry.key && entry.sequence <= self.sequence;
        if !is_first && !is_older && entry.key <= self.key.as_slice() {
            return corrupt("entries are not in order");
        }
        if self.table.locate(entry.key)? != Located::Block(want) {
            return corrupt("the index does not lead to an entry");
        }
        Ok(())
    }

    /// Counts `entry`, and compares the section before it if it is the first of another.
    fn count(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        self.meta.add(entry);
        self.sequence = entry.sequence;
        if self.section.is_some_and(|section| !section.covers(entry.key)) {
            self.end_section()?;
        }
        let section = self.section.get_or_insert_with(|| Section::begin(entry, self.block));
        section.add(entry, self.block);
        Ok(())
    }

    fn end_section(&mut self) -> Result<(), Error> {
        let Some(section) = self.section.take() else { return Ok(()) };
        let index = self.section_count;
        self.section_count += 1;
        if self.table.sections.get(index) == Some(&section) {
            return Ok(());
        }
        let offset = self.table.part(Part::Directory).start + (index * SECTION_ROW_BYTES) as u64;
        Err(self.table.corrupt(offset, "a section is not what its entries come to"))
    }

    /// Compares the table with what its entries came to.
    fn end(&mut self) -> Result<(), Error> {
        self.end_section()?;
        let meta = &self.table.meta;
        if self.blocks.clone().finalize() != self.table.blocks_crc {
            let footer = meta.length - PAGE_BYTES as u64;
            return Err(self.table.corrupt(footer, "the blocks are not those of the footer"));
        }
        self.meta.last_key.clone_from(&self.key);
        (self.meta.length, self.meta.checksum) = (meta.length, meta.checksum);
        if self.section_count != self.table.sections.len() || self.meta != *meta {
            let offset = self.table.part(Part::Properties).start;
            return Err(self.table.corrupt(offset, "the properties are not those of the entries"));
        }
        Ok(())
    }
}
