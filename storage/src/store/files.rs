//! Files that nobody needs any more: which they are, and that they go.
//!
//! A table's file stays as long as a version has it, whoever holds that, or another manifest names
//! it: those are [retained](Store::retain). Each of the two is asked when the other is gone.

use std::path::PathBuf;

use super::{Awaited, Store};
use crate::io::FileOp;
use crate::table::TableId;

impl Store {
    /// The id of the next table: what a manifest has to say, so that none is given twice. It is
    /// larger than those of all tables that were begun so far.
    pub fn next_table_id(&self) -> u64 {
        self.config.next_table_id
    }

    /// Another manifest names these tables from now on, an older checkpoint's say: their files are
    /// left alone, also when no version has them any more.
    ///
    /// # Panics
    /// If the store is open, and no version has such a table that is not retained: its file may be
    /// gone.
    pub fn retain(&mut self, tables: impl IntoIterator<Item = TableId>) {
        for table in tables {
            let is_there = !self.is_open || self.versions.has(table);
            let is_new = self.config.retained.insert(table);
            assert!(is_there || !is_new, "the file of {table:?} may be gone");
        }
    }

    /// No other manifest names these tables any more: the file of each that was retained goes, at
    /// once or when no version has it.
    pub fn release(&mut self, tables: impl IntoIterator<Item = TableId>) {
        for table in tables {
            if !self.config.retained.remove(&table) {
                continue;
            }
            let path = self.config.path(table);
            if let Some(unnamed) = &mut self.unnamed {
                // The directory was listed while it was retained.
                if self.manifest.iter().all(|row| row.id != table) {
                    unnamed.push(path);
                }
            } else if self.is_open && !self.versions.has(table) {
                self.remove_file(path);
            }
        }
    }

    /// Closes the files of tables that nobody sees any more, and removes those that no other
    /// manifest names.
    pub(super) fn remove_dead(&mut self) {
        for table in self.versions.take_dead() {
            let (file, id) = (table.file(), table.meta().id);
            self.ask(Awaited::Nothing, |op| FileOp::Close { op, file });
            if !self.config.retained.contains(&id) {
                self.remove_file(self.config.path(id));
            }
        }
    }

    pub(super) fn remove_file(&mut self, path: PathBuf) {
        self.ask(Awaited::Nothing, |op| FileOp::Remove { op, path });
    }
}
