//! `millstream table dump`: the entries of a table, or those whose stored keys begin alike.
//!
//! ```text
//! group=3 state=1 window=-5 hash=6000000000000000 key=76617279 namespace= map-key= sequence=1
//!     time=0 value=0303                                               (all of it in one line)
//! {"key_group":3,"state_id":1,"window_bucket":-5,"hash":"6000000000000000","key":"76617279",
//!     "namespace":"","map_key":"","sequence":1,"time_ms":0,"kind":"value","value":"0303"}
//! ```
//!
//! Blocks are read one at a time and values are written as they are converted, so a file of any
//! size needs the memory of its index and of its largest block. JSON is written by hand for that
//! reason: there is nothing in it but numbers and digits.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use millstream_storage::io::FileId;
use millstream_storage::key::StoredKey;
use millstream_storage::table::{Change, Cursor, Entry, Error, Filters, HashRange, KeyRange, View};

use super::{Failure, TableFile, write_key};
use crate::Outcome;
use crate::output::{Output, write_hex};

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// Prints an object of JSON a line.
    #[arg(long)]
    json: bool,
    /// Prints so many entries at most, of all files together.
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
    /// Prints entries whose stored keys begin with these bytes: 4 digits are a key group, 8 a state
    /// of it, 24 a window of that, 40 a hash.
    #[arg(long, value_name = "HEX")]
    prefix: Option<Prefix>,
    /// The tables.
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
}

/// Bytes, given as hexadecimal digits.
#[derive(Debug, Clone)]
struct Prefix(Vec<u8>);

impl FromStr for Prefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| digit.to_digit(16).map(|number| number as u8)).collect();
        let digits = digits.ok_or("it has something else than hexadecimal digits")?;
        let (pairs, rest) = digits.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a byte has two digits");
        }
        Ok(Self(pairs.iter().map(|[high, low]| high << 4 | low).collect()))
    }
}

/// Prints entries of a table, `left` at most, and counts them off.
pub(super) fn dump<W: Write>(
    path: &Path,
    args: &DumpArgs,
    left: &mut u64,
    out: &mut Output<W>,
) -> Result<Outcome, Failure> {
    let file = TableFile::open(path)?;
    let failure = |error| file.failure(error);
    let view = View::new(Arc::new(file.table(Filters::Leave)?), HashRange::ALL);
    let range = args.prefix.as_ref().map_or_else(KeyRange::all, |it| KeyRange::prefix(&it.0));
    // Smaller than a block: one at a time.
    let mut cursor = Cursor::new(view, range, 1).map_err(failure)?;
    while 0 < *left && !out.is_closed() {
        if let Some(want) = cursor.want() {
            cursor.on_read(file.read(want)?).map_err(failure)?;
            continue;
        }
        let Some(entry) = cursor.entry() else { break };
        let Some(key) = StoredKey::decode(entry.key) else {
            let offset = cursor.block_offset().unwrap_or_default();
            let what = "a key is no stored key";
            return Err(failure(Error::Corrupt { file: FileId(0), offset, what }));
        };
        let write = if args.json { write_json } else { write_text };
        write(&key, &entry, out)?;
        *left -= 1;
        cursor.advance().map_err(failure)?;
    }
    Ok(Outcome::Sound)
}

fn kind_of(change: Change<'_>) -> &'static str {
    match change {
        Change::Value(_) => "value",
        Change::Tombstone => "tombstone",
        Change::Operand(_) => "operand",
    }
}

fn write_text(key: &StoredKey<'_>, entry: &Entry<'_>, out: &mut impl Write) -> io::Result<()> {
    write_key(key, out)?;
    let time = entry.time_ms.map_or_else(|| "none".to_owned(), |time_ms| time_ms.to_string());
    write!(out, " sequence={} time={time} {}=", entry.sequence, kind_of(entry.change))?;
    write_hex(out, entry.change.bytes())?;
    writeln!(out)
}

fn write_json(key: &StoredKey<'_>, entry: &Entry<'_>, out: &mut impl Write) -> io::Result<()> {
    let StoredKey { key_group, state_id, window_bucket, hash64, .. } = key;
    write!(out, "{{\"key_group\":{key_group},\"state_id\":{state_id}")?;
    write!(out, ",\"window_bucket\":{window_bucket},\"hash\":\"{hash64:016x}\"")?;
    for (name, part) in [("key", key.key), ("namespace", key.namespace), ("map_key", key.map_key)] {
        write!(out, ",\"{name}\":\"")?;
        write_hex(out, part)?;
        write!(out, "\"")?;
    }
    let time = entry.time_ms.map_or_else(|| "null".to_owned(), |time_ms| time_ms.to_string());
    write!(out, ",\"sequence\":{},\"time_ms\":{time}", entry.sequence)?;
    write!(out, ",\"kind\":\"{}\",\"value\":\"", kind_of(entry.change))?;
    write_hex(out, entry.change.bytes())?;
    writeln!(out, "\"}}")
}
