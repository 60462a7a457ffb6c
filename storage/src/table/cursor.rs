//! Reading a range of a view in order, many blocks at a time.
//!
//! ```text
//! want() ─► Some: read, on_read ─►┐
//!           None: entry() ─► Some: advance() ─► want() …
//!                            None: the range is at its end
//! ```
//!
//! Which blocks are needed follows from the directory and the fences alone: sections outside the
//! range, or of key groups that the view does not show, are not read.

use std::ops::{Range, RangeInclusive};

use super::block::{Block, Layout};
use super::directory::Section;
use super::entry::{Entry, HASH_END, SECTION_BYTES, hash_of};
use super::error::Error;
use super::range::KeyRange;
use super::reader::{View, Want};

/// A place in a range of a view.
#[derive(Debug)]
pub struct Cursor {
    view: View,
    range: KeyRange,
    /// Longest read, unless a single block is longer.
    read_bytes_max: usize,
    /// The section whose blocks come next, an index into the table's.
    section: usize,
    /// Those of its blocks that are in the range, first and last; `None`: not known yet.
    span: Option<(u32, u32)>,
    /// Blocks before this one are behind us.
    next_block: u32,
    /// The blocks of the next read, and where they are.
    wanted: Option<(RangeInclusive<u32>, Want)>,
    /// The blocks that were read and are not behind us.
    read: Range<u32>,
    /// Their bytes, and where those begin in the file.
    bytes: Vec<u8>,
    bytes_offset: u64,
    /// The block of the current entry.
    at: Option<At>,
    /// The stored key of the current entry.
    key: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct At {
    /// Its first byte in `bytes`, and its length.
    start: usize,
    len: usize,
    layout: Layout,
    /// The current entry.
    index: usize,
}

impl Cursor {
    /// A cursor before the first entry of `range` in `view`. It reads whole blocks, up to
    /// `read_bytes_max` at once: 256 KiB to merge, less to look at a few entries.
    ///
    /// # Errors
    /// If the index contradicts itself.
    pub fn new(view: View, range: KeyRange, read_bytes_max: usize) -> Result<Self, Error> {
        let mut cursor = Self {
            view,
            range,
            read_bytes_max,
            section: 0,
            span: None,
            next_block: 0,
            wanted: None,
            read: 0..0,
            bytes: Vec::new(),
            bytes_offset: 0,
            at: None,
            key: Vec::new(),
        };
        cursor.plan()?;
        Ok(cursor)
    }

    /// What has to be read before there is a next entry; `None` if there is one, or none any more.
    pub fn want(&self) -> Option<Want> {
        self.wanted.as_ref().map(|(_, want)| *want)
    }

    /// What was wanted is `bytes`.
    ///
    /// # Errors
    /// If they are not those that were written. What is [wanted](Cursor::want) then may be read
    /// once more.
    ///
    /// # Panics
    /// If nothing was wanted.
    pub fn on_read(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        let (blocks, want) = self.wanted.clone().expect("nothing is read that was not wanted");
        if bytes.len() != want.len {
            return Err(self.view.table().corrupt(want.offset, "the file has become shorter"));
        }
        self.wanted = None;
        self.read = *blocks.start()..blocks.end() + 1;
        self.bytes = bytes;
        self.bytes_offset = want.offset;
        self.enter()?;
        self.settle()
    }

    /// The current entry; `None` while something is wanted, and at the end.
    pub fn entry(&self) -> Option<Entry<'_>> {
        let at = self.at.as_ref()?;
        Some(self.block(at).entry(at.index, &self.key))
    }

    /// Where the block of the current entry begins in the file.
    pub fn block_offset(&self) -> Option<u64> {
        self.at.as_ref().map(|at| self.bytes_offset + at.start as u64)
    }

    /// Leaves the current entry.
    ///
    /// # Errors
    /// If the next block is not the one that was written, or the index contradicts itself. What is
    /// [wanted](Cursor::want) then may be read once more.
    ///
    /// # Panics
    /// If there is no current entry.
    pub fn advance(&mut self) -> Result<(), Error> {
        self.at.as_mut().expect("there is an entry").index += 1;
        self.settle()
    }

    fn block(&self, at: &At) -> Block<'_> {
        Block::new(&self.bytes[at.start..at.start + at.len], at.layout)
    }

    /// Goes to the next block that was read, or plans the next read.
    fn enter(&mut self) -> Result<(), Error> {
        self.at = None;
        let Some(block) = self.read.next() else {
            return self.plan();
        };
        let want = self.view.table().place(block)?;
        let start = (want.offset - self.bytes_offset) as usize;
        let bytes = &self.bytes[start..start + want.len];
        let layout = match self.view.table().verify(want.offset, bytes) {
            Ok(layout) => layout,
            Err(error) => {
                let rest = Want { offset: want.offset, len: self.bytes.len() - start };
                self.wanted = Some((block..=self.read.end - 1, rest));
                return Err(error);
            }
        };
        let index = Block::new(bytes, layout).lower_bound(&self.range.from);
        self.at = Some(At { start, len: want.len, layout, index });
        Ok(())
    }

    /// Goes on to the first entry, here or behind, that is to be seen.
    fn settle(&mut self) -> Result<(), Error> {
        while let Some(at) = self.at {
            let mut key = std::mem::take(&mut self.key);
            let block = self.block(&at);
            let is_seen = |index: &usize| {
                block.copy_key(*index, &mut key);
                self.view.hashes().contains(hash_of(&key))
            };
            let found = (at.index..block.count()).find(is_seen);
            self.key = key;
            match found {
                Some(index) if self.range.ends_after(&self.key) => {
                    self.at = Some(At { index, ..at });
                    break;
                }
                Some(_) => {
                    self.at = None;
                    self.section = self.view.table().sections().len();
                }
                None => self.enter()?,
            }
        }
        Ok(())
    }

    /// Decides on the next read.
    fn plan(&mut self) -> Result<(), Error> {
        self.bytes = Vec::new();
        let Some(first) = self.next_of_range()? else { return Ok(()) };
        let mut want = self.view.table().place(first)?;
        let mut last = first;
        self.next_block = first + 1;
        while let Some(next) = self.next_of_range()? {
            let place = self.view.table().place(next)?;
            let fits = want.len + place.len <= self.read_bytes_max;
            if next != last + 1 || !fits || want.offset + want.len as u64 != place.offset {
                break;
            }
            want.len += place.len;
            last = next;
            self.next_block = next + 1;
        }
        self.wanted = Some((first..=last, want));
        Ok(())
    }

    /// The next block, not before `next_block`, that may have entries of the range.
    fn next_of_range(&mut self) -> Result<Option<u32>, Error> {
        loop {
            let Some(section) = self.view.table().sections().get(self.section) else {
                return Ok(None);
            };
            let span = match self.span {
                Some(span) => Some(span),
                None => self.span_of(section)?,
            };
            match span {
                Some((first, last)) if self.next_block <= last => {
                    self.span = span;
                    return Ok(Some(first.max(self.next_block)));
                }
                _ => {
                    self.span = None;
                    self.section += 1;
                }
            }
        }
    }

    /// The blocks of `section`, first and last, that may have entries of the range.
    fn span_of(&self, section: &Section) -> Result<Option<(u32, u32)>, Error> {
        let table = self.view.table();
        let hashes = self.view.hashes();
        let (first_group, last_group) = table.meta().key_groups(hashes);
        let is_shown = (first_group..=last_group).contains(&section.key_group());
        let prefix = section.prefix.as_slice();
        let from = self.range.from.as_slice();
        let is_before = prefix < from && !from.starts_with(prefix);
        let to = self.range.to.as_deref();
        let is_behind = to.is_some_and(|to| to <= prefix);
        let (hash_low, hash_high) =
            (hashes.first.max(section.first_hash), hashes.last.min(section.last_hash));
        if !is_shown || is_before || is_behind || hash_high < hash_low {
            return Ok(None);
        }
        let (mut low, mut low_suffix): (u64, &[u8]) = (hash_low, &[]);
        if let Some((hash, suffix)) = hash_and_suffix(prefix, from) {
            if hash_high < hash {
                return Ok(None);
            }
            if low <= hash {
                (low, low_suffix) = (hash, suffix);
            }
        }
        let (mut high, mut high_suffix): (u64, Option<&[u8]>) = (hash_high, None);
        if let Some((hash, suffix)) = to.and_then(|to| hash_and_suffix(prefix, to)) {
            if hash < hash_low {
                return Ok(None);
            }
            if hash <= high {
                (high, high_suffix) = (hash, Some(suffix));
            }
        }
        let first = table.find(section, low, low_suffix)?;
        let last = match high_suffix {
            Some(suffix) => table.find(section, high, suffix)?,
            None => match high.checked_add(1).filter(|next| *next <= section.last_hash) {
                Some(next) => table.find(section, next, &[])?,
                None => section.last_block,
            },
        };
        let is_one = first == last;
        if let Some(hash) = self.range.hash.filter(|_| is_one)
            && !table.may_contain(first, hash)?
        {
            return Ok(None);
        }
        Ok(Some((first, last)))
    }
}

/// The hash and what follows it of a bound within the section of `prefix`. Of a bound that ends
/// within its hash, the smallest hash that it allows.
fn hash_and_suffix<'a>(prefix: &[u8], bound: &'a [u8]) -> Option<(u64, &'a [u8])> {
    let rest = bound.strip_prefix(prefix)?;
    let mut hash = [0; HASH_END - SECTION_BYTES];
    let len = rest.len().min(hash.len());
    hash[..len].copy_from_slice(&rest[..len]);
    Some((u64::from_be_bytes(hash), &rest[len..]))
}
