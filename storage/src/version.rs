//! Versions: which tables a store consists of.
//!
//! A shard's hashes are in *bands*, and a band has tables, the newest first. A [`Version`] never
//! changes; an edit makes the next one:
//!
//! ```text
//!            band 0     band 1                       band 0     band 1
//! version 7  d2 d1 t0   d2 d1 t5   ──add d3──►  8    d3 d2 d1 t0   d3 d2 d1 t5
//!                       ──t9 for d2 d1 of band 0──►  9    d3 t9 t0   d3 d2 d1 t5
//! ```
//!
//! A delta is one file and in all bands, each with a view of it. Whoever reads over some time, or
//! merges, holds a version or its views; an edit does not disturb them. A table of which neither
//! the newest version nor anybody else has a view is dead, and its file can go:
//! [`Versions::take_dead`].
//!
//! Not here: what is in files, who opens and removes them, which edits are made
//! ([`crate::compaction`]).

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::compaction::{self, BandTable, Choice, Tier};
use crate::table::{HashRange, Table, TableId, View};

/// A table in a band.
#[derive(Debug, Clone)]
pub struct PlacedTable {
    /// What the band has of it.
    pub view: View,
    /// Its tier in the band.
    pub tier: Tier,
    /// About how many bytes of it are the band's.
    pub bytes: u64,
}

impl PlacedTable {
    /// Which table.
    pub fn id(&self) -> TableId {
        self.view.table().meta().id
    }

    /// `table` in the band of `hashes`; `None` if it has nothing there.
    fn new(table: &Arc<Table>, hashes: HashRange, tier: Tier) -> Option<Self> {
        let meta = table.meta();
        let is_in = |first, last| first <= hashes.last && hashes.first <= last;
        let sections = table.sections().iter();
        let entry_count: u64 = sections
            .filter(|section| is_in(section.first_hash, section.last_hash))
            .map(|section| section.entry_count)
            .sum();
        if entry_count == 0 {
            return None;
        }
        let share = u128::from(meta.length) * u128::from(entry_count);
        let bytes = (share / u128::from(meta.entry_count)) as u64;
        Some(Self { view: View::new(Arc::clone(table), hashes), tier, bytes })
    }
}

/// Tables of a range of hashes.
#[derive(Debug, Clone)]
pub struct Band {
    /// Which hashes.
    pub hashes: HashRange,
    /// Its tables, the newest first.
    pub tables: Vec<PlacedTable>,
}

/// The tables of a store at one time.
#[derive(Debug, Clone)]
pub struct Version {
    bands: Vec<Band>,
}

impl Version {
    /// The bands, in the order of their hashes: what a manifest says of the store.
    pub fn bands(&self) -> &[Band] {
        &self.bands
    }

    /// The tables that may have a key of `hash`, the newest first; none if no band has it.
    pub fn tables_of(&self, hash: u64) -> &[PlacedTable] {
        let band = self.bands.partition_point(|band| band.hashes.last < hash);
        let band = self.bands.get(band).filter(|band| band.hashes.contains(hash));
        band.map_or(&[], |band| &band.tables)
    }

    /// The next merge in a band that `is_ready`; `None` if none of them has too many tables.
    pub fn pick(&self, is_ready: impl Fn(usize) -> bool) -> Option<Choice> {
        let row = |table: &PlacedTable| BandTable { bytes: table.bytes, tier: table.tier };
        let rows = |(number, band): (usize, &Band)| {
            let tables = if is_ready(number) { &band.tables[..] } else { &[] };
            tables.iter().map(row).collect::<Vec<_>>()
        };
        compaction::pick(&self.bands.iter().enumerate().map(rows).collect::<Vec<_>>())
    }
}

/// The newest version of a store, and the tables of all that are still in use.
#[derive(Debug)]
pub struct Versions {
    newest: Arc<Version>,
    tables: BTreeMap<TableId, Arc<Table>>,
    /// Those of them that are not in the newest version: the only ones that can be dead.
    retired: BTreeSet<TableId>,
}

impl Versions {
    /// A store without tables, in these bands.
    ///
    /// # Panics
    /// If the bands are not in ascending order, or overlap.
    pub fn new(bands: impl IntoIterator<Item = HashRange>) -> Self {
        let band = |hashes| Band { hashes, tables: Vec::new() };
        let bands: Vec<Band> = bands.into_iter().map(band).collect();
        let is_sane = |hashes: HashRange| hashes.first <= hashes.last;
        assert!(bands.iter().all(|band| is_sane(band.hashes)), "a band has hashes");
        let ascend = bands.is_sorted_by(|a, b| a.hashes.last < b.hashes.first);
        assert!(ascend, "bands are in the order of their hashes");
        Self {
            newest: Arc::new(Version { bands }),
            tables: BTreeMap::new(),
            retired: BTreeSet::new(),
        }
    }

    /// The newest version. A clone of it pins its tables.
    pub fn newest(&self) -> &Arc<Version> {
        &self.newest
    }

    /// Whether there is such a table, in whatever version.
    pub fn has(&self, table: TableId) -> bool {
        self.tables.contains_key(&table)
    }

    /// All tables that are in use.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values().map(Arc::as_ref)
    }

    /// Restores a table of `band`, older than those that are there.
    ///
    /// # Panics
    /// If there is no such band, or another table of the same id.
    pub fn restore(&mut self, band: usize, table: &Arc<Table>, tier: Tier) {
        let mut version = Version::clone(&self.newest);
        let band = &mut version.bands[band];
        if let Some(placed) = PlacedTable::new(table, band.hashes, tier) {
            band.tables.push(placed);
            self.keep(table);
        }
        self.newest = Arc::new(version);
    }

    /// Adds a delta: in all bands of which it has hashes, newer than all tables there. One that has
    /// none of any is dead at once.
    ///
    /// # Panics
    /// If there is another table of the same id.
    pub fn add(&mut self, table: &Arc<Table>) {
        let mut version = Version::clone(&self.newest);
        for band in &mut version.bands {
            let placed = PlacedTable::new(table, band.hashes, Tier::Merged(0));
            band.tables.splice(0..0, placed);
        }
        self.keep(table);
        self.newest = Arc::new(version);
        self.retire(table.meta().id);
    }

    /// Lets `merged` take the place of `inputs`, neighbours by age, in `band`; nothing, if the
    /// merge left nothing.
    ///
    /// # Panics
    /// If the band does not have the inputs, one after the other, or there is another table of the
    /// same id.
    pub fn replace(
        &mut self,
        band: usize,
        inputs: &[TableId],
        merged: Option<(&Arc<Table>, Tier)>,
    ) {
        let mut version = Version::clone(&self.newest);
        let Band { hashes, tables } = &mut version.bands[band];
        let first = tables.iter().position(|table| Some(&table.id()) == inputs.first());
        let first = first.expect("what was merged is in its band");
        let range = first..first + inputs.len();
        let are_they = tables[range.clone()].iter().map(PlacedTable::id).eq(inputs.iter().copied());
        assert!(are_they, "what was merged is in its band, one after the other");
        let placed = merged.and_then(|(table, tier)| PlacedTable::new(table, *hashes, tier));
        tables.splice(range, placed);
        self.newest = Arc::new(version);
        if let Some((table, _)) = merged {
            self.keep(table);
            self.retire(table.meta().id);
        }
        for id in inputs {
            self.retire(*id);
        }
    }

    /// The tables that nobody can see any more. They are given out once, to close their files and
    /// to remove them.
    pub fn take_dead(&mut self) -> Vec<Table> {
        // Without another owner, nobody is left who could make one.
        let tables = &mut self.tables;
        let mut is_dead = |id: &TableId| tables.get_mut(id).and_then(Arc::get_mut).is_some();
        let dead: Vec<TableId> = self.retired.extract_if(.., |id| is_dead(id)).collect();
        let take = |id: &TableId| self.tables.remove(id).and_then(Arc::into_inner);
        dead.iter().filter_map(take).collect()
    }

    /// Notes that a table may die, if the newest version does not have it.
    fn retire(&mut self, id: TableId) {
        let mut tables = self.newest.bands.iter().flat_map(|band| &band.tables);
        if tables.all(|table| table.id() != id) {
            self.retired.insert(id);
        }
    }

    fn keep(&mut self, table: &Arc<Table>) {
        let kept = self.tables.entry(table.meta().id).or_insert_with(|| Arc::clone(table));
        assert!(Arc::ptr_eq(kept, table), "there is another table {:?}", table.meta().id);
    }
}
