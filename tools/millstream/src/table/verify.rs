//! `millstream table verify`: every block of a table against its checksum and its metadata.

use std::io::Write;
use std::path::Path;

use millstream_storage::table::{Audit, Filters, Table};

use super::{Failure, TableFile};
use crate::Outcome;
use crate::output::Output;

/// Looks at all of a table and prints one line: that it is sound, or its first damage.
pub(super) fn verify<W: Write>(path: &Path, out: &mut Output<W>) -> Result<Outcome, Failure> {
    let file = TableFile::open(path)?;
    match audit(&file) {
        Ok(table) => {
            let (entries, blocks) = (table.meta().entry_count, table.block_count());
            let name = path.display();
            writeln!(out, "{name}: sound, {entries} entries in {blocks} blocks")?;
            Ok(Outcome::Sound)
        }
        Err(damage @ Failure::Damage { .. }) => {
            writeln!(out, "{damage}")?;
            Ok(Outcome::Damaged)
        }
        Err(failure) => Err(failure),
    }
}

fn audit(file: &TableFile<'_>) -> Result<Table, Failure> {
    let failure = |error| file.failure(error);
    let mut audit = Audit::new(file.table(Filters::Load)?).map_err(failure)?;
    while let Some(want) = audit.want() {
        audit.on_read(&file.read(want)?).map_err(failure)?;
    }
    Ok(audit.into_table())
}
