//! Tests of tables as a store uses them: written, opened, looked up, scanned.

mod audit;
mod damage;
mod decoders;
mod forged;
mod format;
mod golden;
mod model;

use std::sync::Arc;

use super::*;
use crate::io::FileId;
use crate::key::StoredKey;

const FILE: FileId = FileId(7);
const KEY_GROUP_COUNT: u32 = 8;

const CONFIG: WriterConfig =
    WriterConfig { id: TableId(42), key_group_count: KEY_GROUP_COUNT, values: Values::Packed };

/// An entry that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    key: Vec<u8>,
    kind: u8,
    bytes: Vec<u8>,
    sequence: u64,
    time_ms: Option<i64>,
}

impl Row {
    fn value(key: Vec<u8>, value: &[u8]) -> Self {
        Self { key, kind: entry::VALUE, bytes: value.to_vec(), sequence: 1, time_ms: None }
    }

    fn of(entry: Entry<'_>) -> Self {
        Self {
            key: entry.key.to_vec(),
            kind: entry.change.kind(),
            bytes: entry.change.bytes().to_vec(),
            sequence: entry.sequence,
            time_ms: entry.time_ms,
        }
    }

    fn entry(&self) -> Entry<'_> {
        Entry {
            key: &self.key,
            change: Change::of(self.kind, &self.bytes),
            sequence: self.sequence,
            time_ms: self.time_ms,
        }
    }
}

/// A stored key of the key group of its hash.
fn stored(hash64: u64, state_id: u16, window_bucket: i64, key: &[u8], map_key: &[u8]) -> Vec<u8> {
    let key_group = range::key_group_of_hash(hash64, KEY_GROUP_COUNT);
    StoredKey { key_group, state_id, window_bucket, hash64, key, namespace: &[], map_key }.encode()
}

/// The file of `rows`, and what its writer says of it.
fn write(config: WriterConfig, rows: &[Row]) -> (Vec<u8>, TableMeta) {
    write_with(Writer::new(config), rows)
}

/// As [`write`], by this writer.
fn write_with(mut writer: Writer, rows: &[Row]) -> (Vec<u8>, TableMeta) {
    let mut file = Vec::new();
    let mut put = |piece: Piece| {
        assert_eq!(piece.offset, file.len() as u64, "pieces follow one another");
        assert!(piece.bytes.len().is_multiple_of(PAGE_BYTES) && !piece.bytes.is_empty());
        file.extend_from_slice(&piece.bytes);
    };
    for row in rows {
        writer.push(row.entry()).expect("the rows are small");
        if let Some(piece) = writer.full_piece() {
            put(piece);
        }
    }
    let mut ending = writer.finish();
    while let Some(piece) = ending.next_piece() {
        put(piece);
    }
    let meta = ending.meta();
    assert_eq!(meta.length, file.len() as u64);
    (file, meta)
}

/// What is at `want`; fewer bytes where the file ends.
fn read(file: &[u8], want: Want) -> &[u8] {
    assert!(want.len <= file.len(), "more is wanted than there is");
    assert!(want.offset.is_multiple_of(PAGE_BYTES as u64) && want.len.is_multiple_of(PAGE_BYTES));
    let start = file.len().min(want.offset as usize);
    &file[start..file.len().min(start + want.len)]
}

fn open(file: &[u8], filters: Filters) -> Result<Table, Error> {
    let mut opening = Opening::new(FILE, file.len() as u64, filters)?;
    while let Some(want) = opening.want() {
        opening.on_read(read(file, want))?;
    }
    Ok(opening.into_table())
}

/// A view of all of `file`.
fn view(file: &[u8]) -> View {
    let table = open(file, Filters::Load).expect("the file is a table");
    View::new(Arc::new(table), HashRange::ALL)
}

/// All entries of `key`.
fn lookup(view: &View, file: &[u8], key: &[u8]) -> Result<Vec<Row>, Error> {
    let Located::Block(want) = view.locate(key)? else { return Ok(Vec::new()) };
    let block = view.table().block(want, read(file, want))?;
    Ok(block.search(key).map(Row::of).collect())
}

/// All entries of `range`.
fn scan(view: &View, file: &[u8], range: KeyRange, read_bytes: usize) -> Result<Vec<Row>, Error> {
    let mut cursor = Cursor::new(view.clone(), range, read_bytes)?;
    let mut rows = Vec::new();
    loop {
        while let Some(want) = cursor.want() {
            cursor.on_read(read(file, want).to_vec())?;
        }
        let Some(entry) = cursor.entry() else { return Ok(rows) };
        rows.push(Row::of(entry));
        cursor.advance()?;
    }
}

/// Looks at all of `file`.
fn audit(file: &[u8]) -> Result<(), Error> {
    let mut audit = Audit::new(open(file, Filters::Load)?)?;
    while let Some(want) = audit.want() {
        audit.on_read(read(file, want))?;
    }
    Ok(())
}
