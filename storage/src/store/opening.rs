//! Opening a store: the tables of its manifest, and the files that nothing names.
//!
//! ```text
//! list the directory ─┐
//! open every table   ─┴─► all open, and sound ──► remove what nothing names ──► open
//! ```
//!
//! A process that dies leaves files behind: `<id>.part` that was being written, and `<id>.table`
//! that no manifest names yet, or none any more. Only names of these two forms are looked at.
//!
//! **A file that is named is never removed**: not one of the manifest, nor one that is
//! [retained](Store::retain). Nothing is removed unless all tables of the manifest
//! were opened, so a manifest of another directory does no harm. The store makes no file before
//! that, and then none under the name of one that was listed: so none that it makes is taken for
//! one that was left.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::{Awaited, Error, Store};
use crate::io::{FileAnswer, FileFault, FileOp, OpId};
use crate::table::TableId;

/// Digits of an id in the name of a file.
const ID_DIGITS: usize = 16;

/// No store comes to ids from here on.
const ID_END: u64 = 1 << 63;

impl Store {
    /// Asks what is in the directory.
    pub(super) fn list(&mut self) {
        let path = self.config.directory.clone();
        self.ask(Awaited::Listing, |op| FileOp::ListDirectory { op, path });
    }

    /// The directory is listed.
    pub(super) fn on_listed(&mut self, result: Result<FileAnswer, FileFault>) {
        let files = match result {
            Ok(FileAnswer::Listed { files }) => files,
            Ok(answer) => unreachable!("a listing was answered by {answer:?}"),
            Err(fault) => {
                self.failure = Some(Error::Read(Arc::new(fault)));
                return;
            }
        };
        let named = self.manifest.iter().map(|row| row.id);
        let named: BTreeSet<TableId> = named.chain(self.config.retained.iter().copied()).collect();
        let mut unnamed = Vec::new();
        for file in files {
            let Some((id, is_table)) = id_of(&file.path) else { continue };
            self.config.next_table_id = self.config.next_table_id.max(id.0 + 1);
            if !(is_table && named.contains(&id)) {
                let config = &self.config;
                unnamed.push(if is_table { config.path(id) } else { config.part_path(id) });
            }
        }
        self.unnamed = Some(unnamed);
        self.end_opening();
    }

    /// What is awaited before the store is open: until then nobody knows what tables have.
    pub(super) fn awaited_to_open(&self) -> Option<OpId> {
        if self.is_open {
            return None;
        }
        let is_opening =
            |awaited: &Awaited| matches!(awaited, Awaited::Table(_) | Awaited::Listing);
        let mut awaited = self.awaited.iter().filter(|(_, awaited)| is_opening(awaited));
        awaited.next().map(|(op, _)| *op)
    }

    /// Opens the store, once it is known what is there and all tables are open. Of those that
    /// cannot be opened, the failure tells.
    pub(super) fn end_opening(&mut self) {
        if !self.opening.is_empty() || self.failure.is_some() {
            return;
        }
        let Some(unnamed) = self.unnamed.take() else { return };
        for row in std::mem::take(&mut self.manifest) {
            self.versions.restore(row.band, &self.restored[&row.id], row.tier);
        }
        self.restored.clear();
        for path in unnamed {
            self.remove_file(path);
        }
        self.is_open = true;
    }
}

/// The id in the name of a file that a store makes, and whether it is that of a table.
fn id_of(path: &Path) -> Option<(TableId, bool)> {
    let is_table = match path.extension()?.to_str()? {
        "table" => true,
        "part" => false,
        _ => return None,
    };
    let digits = path.file_stem()?.to_str()?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != ID_DIGITS || !digits.bytes().all(is_digit) {
        return None;
    }
    let id = u64::from_str_radix(digits, 16).ok().filter(|id| *id < ID_END)?;
    Some((TableId(id), is_table))
}
