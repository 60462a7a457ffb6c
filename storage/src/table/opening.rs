//! Opening a table: its metadata is asked for in pieces, and checked as it comes.
//!
//! ```text
//! want() ─► last page ─► on_read ─► want() ─► next piece of the metadata ─► on_read ─► … ─► None
//! ```
//!
//! No more memory is taken than bytes have been read.

use super::directory;
use super::error::Error;
use super::footer::{Footer, Part, TableMeta};
use super::index;
use super::reader::{Table, Want};
use super::{PAGE_BYTES, PIECE_BYTES};
use crate::io::FileId;

/// Whether the filters are held in memory: about 1.25 bytes a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filters {
    /// They are: for lookups.
    Load,
    /// They are not: for merging, which reads everything.
    Leave,
}

/// A table that is being opened.
#[derive(Debug)]
pub struct Opening {
    file: FileId,
    /// Bytes of the file.
    length: u64,
    filters: Filters,
    /// Larger ones are left.
    filter_bytes_max: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Footer,
    Metadata(Box<Metadata>),
    Open(Box<Table>),
}

#[derive(Debug)]
struct Metadata {
    footer: Footer,
    /// Of the footer.
    checksum: u32,
    /// What was read so far.
    bytes: Vec<u8>,
    /// Where it begins in the file.
    begin: u64,
    /// The section that is being checked, an index into [`Part::ALL`].
    part: usize,
    /// How many of the bytes are.
    checked_bytes: usize,
    hasher: crc32fast::Hasher,
}

impl Opening {
    /// Begins to open `file`, which has `length` bytes.
    ///
    /// # Errors
    /// If no table has this length.
    pub fn new(file: FileId, length: u64, filters: Filters) -> Result<Self, Error> {
        let page = PAGE_BYTES as u64;
        if length < page || !length.is_multiple_of(page) || u64::from(u32::MAX) < length / page {
            let what = "no table has this length";
            return Err(Error::Corrupt { file, offset: length, what });
        }
        let (filter_bytes_max, state) = (u64::MAX, State::Footer);
        Ok(Self { file, length, filters, filter_bytes_max, state })
    }

    /// Leaves filters of more than `bytes`, if it is not known yet how many they are.
    pub fn limit_filters(&mut self, bytes: usize) {
        self.filter_bytes_max = bytes as u64;
    }

    /// Memory of what was read, in bytes.
    pub fn resident_bytes(&self) -> usize {
        match &self.state {
            State::Footer => 0,
            State::Metadata(metadata) => metadata.bytes.capacity(),
            State::Open(table) => table.resident_bytes(),
        }
    }

    /// How much memory its filters take, or will take; 0 while that is not known.
    pub fn filter_bytes(&self) -> usize {
        match &self.state {
            State::Footer => 0,
            State::Metadata(metadata) => metadata.filter_bytes(),
            State::Open(table) => table.filter_bytes(),
        }
    }

    /// What has to be read next; `None` once the table is open.
    pub fn want(&self) -> Option<Want> {
        match &self.state {
            State::Footer => {
                Some(Want { offset: self.length - PAGE_BYTES as u64, len: PAGE_BYTES })
            }
            State::Metadata(metadata) => Some(metadata.want()),
            State::Open(_) => None,
        }
    }

    /// What was wanted is `bytes`.
    ///
    /// # Errors
    /// If they are not those of a table of a version that is known here.
    ///
    /// # Panics
    /// If nothing was wanted.
    pub fn on_read(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let file = self.file;
        let want = self.want().expect("nothing is read that was not wanted");
        if bytes.len() != want.len {
            let what = "the file has become shorter";
            return Err(Error::Corrupt { file, offset: want.offset, what });
        }
        match &mut self.state {
            State::Footer => {
                let (footer, checksum) = Footer::decode(file, bytes, self.length)?;
                let are_few = footer.part(Part::Filters).len <= self.filter_bytes_max;
                let filters = if are_few { self.filters } else { Filters::Leave };
                let metadata = Metadata::new(footer, checksum, filters);
                self.state = State::Metadata(Box::new(metadata));
            }
            State::Metadata(metadata) => {
                // It stays as it is, so no more is taken than is needed.
                metadata.bytes.reserve_exact(bytes.len());
                metadata.bytes.extend_from_slice(bytes);
                metadata.check(file)?;
                if metadata.part == Part::ALL.len() {
                    self.state = State::Open(Box::new(metadata.open(file)?));
                }
            }
            State::Open(_) => unreachable!("an open table wants nothing"),
        }
        Ok(())
    }

    /// The table.
    ///
    /// # Panics
    /// If something is still wanted.
    pub fn into_table(self) -> Table {
        match self.state {
            State::Open(table) => *table,
            State::Footer | State::Metadata(_) => panic!("the table is not open yet"),
        }
    }
}

impl Metadata {
    fn new(footer: Footer, checksum: u32, filters: Filters) -> Self {
        let part = match filters {
            Filters::Load => Part::Filters,
            Filters::Leave => Part::Fences,
        };
        Self {
            footer,
            checksum,
            bytes: Vec::new(),
            begin: footer.part(part).offset,
            part: part as usize,
            checked_bytes: 0,
            hasher: crc32fast::Hasher::new(),
        }
    }

    fn filter_bytes(&self) -> usize {
        let extent = self.footer.part(Part::Filters);
        if self.begin <= extent.offset { extent.len as usize } else { 0 }
    }

    /// The sections end where the footer's page begins, and have at least the properties.
    fn want(&self) -> Want {
        let offset = self.begin + self.bytes.len() as u64;
        let end = self.footer.length - PAGE_BYTES as u64;
        Want { offset, len: (end - offset).min(PIECE_BYTES as u64) as usize }
    }

    /// Checks what has come.
    fn check(&mut self, file: FileId) -> Result<(), Error> {
        while let Some(part) = Part::ALL.get(self.part) {
            let extent = self.footer.part(*part);
            let start = (extent.offset - self.begin) as usize;
            let end = start + extent.len as usize;
            let from = self.checked_bytes.max(start);
            let Some(bytes) = self.bytes.get(from..end.min(self.bytes.len())) else { break };
            self.hasher.update(bytes);
            self.checked_bytes = from + bytes.len();
            if self.checked_bytes < end {
                break;
            }
            if std::mem::take(&mut self.hasher).finalize() != extent.crc {
                let (offset, what) = (extent.offset, part.damage());
                return Err(Error::Corrupt { file, offset, what });
            }
            self.part += 1;
        }
        Ok(())
    }

    /// The table, once all is read.
    fn open(&mut self, file: FileId) -> Result<Table, Error> {
        let corrupt = |part: Part, what| {
            let offset = self.footer.part(part).offset;
            Error::Corrupt { file, offset, what }
        };
        let range = |part: Part| {
            let range = self.footer.part(part).range();
            let place = |at: u64| at.saturating_sub(self.begin) as usize;
            place(range.start)..place(range.end)
        };
        let [fences, places] = [range(Part::Fences), range(Part::Places)];
        let block_count = index::block_count(fences.len(), places.len())
            .ok_or_else(|| corrupt(Part::Places, "fences and places are not of the same blocks"))?;
        let directory = &self.bytes[range(Part::Directory)];
        let sections = directory::decode(directory, block_count)
            .ok_or_else(|| corrupt(Part::Directory, "the sections are not those of the blocks"))?;
        let properties = &self.bytes[range(Part::Properties)];
        let meta = TableMeta::decode(properties, &self.footer, self.checksum)
            .ok_or_else(|| corrupt(Part::Properties, "the properties are not those of a table"))?;
        let mut counts = sections.iter().map(|section| section.entry_count);
        let entry_count = counts.try_fold(0_u64, u64::checked_add);
        if entry_count != Some(meta.entry_count) {
            return Err(corrupt(Part::Directory, "the sections have not all entries of the table"));
        }
        let table = Table {
            file,
            meta,
            sections,
            filters: range(Part::Filters),
            fences,
            places,
            separators: range(Part::Separators),
            blocks_crc: self.footer.blocks_crc,
            block_end: self.footer.part(Part::Filters).offset,
            parts: Part::ALL.map(|part| self.footer.part(part).range()),
            bytes: std::mem::take(&mut self.bytes),
        };
        if u64::from(table.index().page_end()) * PAGE_BYTES as u64 != table.block_end {
            return Err(Error::Corrupt {
                file,
                offset: table.block_end,
                what: "the blocks do not end where the filters begin",
            });
        }
        Ok(table)
    }
}
