//! `millstream table inspect`: what the metadata of a table says.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use millstream_storage::key::StoredKey;
use millstream_storage::table::{Filters, PAGE_BYTES, Part, Section, Table, VERSION};

use super::{Failure, TableFile, write_key};
use crate::Outcome;
use crate::output::{Output, write_hex};

/// Prints what a table is and has.
pub(super) fn inspect<W: Write>(path: &Path, out: &mut Output<W>) -> Result<Outcome, Failure> {
    if out.is_closed() {
        return Ok(Outcome::Sound);
    }
    let table = TableFile::open(path)?.table(Filters::Load)?;
    writeln!(out, "{}", path.display())?;
    contents(&table, out)?;
    sizes(&table, out)?;
    states(&table, out)?;
    Ok(Outcome::Sound)
}

fn contents(table: &Table, out: &mut impl Write) -> io::Result<()> {
    let meta = table.meta();
    let (entries, tombstones) = (meta.entry_count, meta.tombstone_count);
    writeln!(out, "  format version  {VERSION}")?;
    writeln!(out, "  table id        {:016x}", meta.id.0)?;
    writeln!(out, "  checksum        {:08x}", meta.checksum)?;
    writeln!(out, "  entries         {entries}, {tombstones} of them tombstones")?;
    if entries == 0 {
        return Ok(());
    }
    writeln!(out, "  sequences       {} to {}", meta.sequence_min, meta.sequence_max)?;
    for (name, key) in [("first key", &meta.first_key), ("last key", &meta.last_key)] {
        write!(out, "  {name:<15} ")?;
        match StoredKey::decode(key) {
            Some(key) => write_key(&key, out)?,
            None => write_hex(out, key)?,
        }
        writeln!(out)?;
    }
    let sections = table.sections();
    let first = sections.iter().map(|section| section.first_hash).min().unwrap_or_default();
    let last = sections.iter().map(|section| section.last_hash).max().unwrap_or_default();
    writeln!(out, "  hashes          {first:016x} to {last:016x}")?;
    let groups = sections.first().zip(sections.last());
    let groups = groups.map_or((0, 0), |(first, last)| (first.key_group(), last.key_group()));
    let count = meta.key_group_count;
    writeln!(out, "  key groups      {} to {} of {count}", groups.0, groups.1)?;
    writeln!(out, "  times           {}", Times::of(sections))
}

fn sizes(table: &Table, out: &mut impl Write) -> io::Result<()> {
    let mut line = |name: &str, range: Range<u64>, more: String| {
        let bytes = range.end - range.start;
        writeln!(out, "  {name:<15} {bytes} bytes at {}{more}", range.start)
    };
    let length = table.meta().length;
    line("file", 0..length, String::new())?;
    line("blocks", 0..table.block_bytes(), format!(", {} blocks", table.block_count()))?;
    for part in Part::ALL {
        let more = match part {
            Part::Directory => format!(", {} sections", table.sections().len()),
            _ => String::new(),
        };
        line(&format!("{part:?}").to_lowercase(), table.part(part), more)?;
    }
    line("footer", length - PAGE_BYTES as u64..length, String::new())?;
    writeln!(out, "  memory          {} bytes while it is open", table.resident_bytes())
}

/// A line for each state.
fn states(table: &Table, out: &mut impl Write) -> io::Result<()> {
    let mut states: BTreeMap<u16, Vec<Section>> = BTreeMap::new();
    for section in table.sections() {
        states.entry(section.state_id()).or_default().push(*section);
    }
    for (id, sections) in states {
        let sum = |of: fn(&Section) -> u64| sections.iter().map(of).sum::<u64>();
        let entries = sum(|section| section.entry_count);
        let tombstones = sum(|section| section.tombstone_count);
        let (name, times) = (format!("state {id}"), Times::of(&sections));
        writeln!(
            out,
            "  {name:<15} {entries} entries, {tombstones} tombstones, {} sections, times {times}",
            sections.len()
        )?;
    }
    Ok(())
}

/// From the earliest time to the latest.
struct Times {
    earliest_ms: Option<i64>,
    /// `None`: an entry has none.
    latest_ms: Option<i64>,
}

impl Times {
    fn of(sections: &[Section]) -> Self {
        let earliest_ms = sections.iter().filter_map(|section| section.time_min_ms).min();
        let latest: Option<Vec<i64>> = sections.iter().map(|section| section.time_max_ms).collect();
        Self { earliest_ms, latest_ms: latest.and_then(|times| times.into_iter().max()) }
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.earliest_ms, self.latest_ms) {
            (None, _) => write!(f, "none"),
            (Some(earliest), None) => write!(f, "{earliest} ms or later, some without"),
            (Some(earliest), Some(latest)) => write!(f, "{earliest} to {latest} ms"),
        }
    }
}
