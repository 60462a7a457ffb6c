//! The released format: a file of version 1 is opened by every later release.

use super::*;

pub(super) const VERSION_1: &[u8] = include_bytes!("../../../golden/table_v1.bin");

/// What was put into the file: both forms of block, a larger block, a map over several blocks, a
/// chain, times, tombstones.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for number in 0..4_u64 {
        let hash = number << 62;
        rows.push(Row::value(stored(hash, 0, 0, b"fixed", b""), &[number as u8; 20]));
        let mut row = Row::value(stored(hash, 1, -5, b"vary", b""), &vec![3; number as usize]);
        row.time_ms = Some(number as i64 - 2);
        rows.push(row);
    }
    for number in 0..60_u8 {
        rows.push(Row::value(stored(1 << 63, 2, 0, b"map", &[number]), &[number; 90]));
    }
    let key = stored(3 << 62, 3, 7, b"chain", b"");
    for (sequence, kind) in [(9, entry::OPERAND), (8, entry::OPERAND), (7, entry::TOMBSTONE)] {
        let len = if kind == entry::TOMBSTONE { 0 } else { 2500 };
        rows.push(Row { key: key.clone(), kind, bytes: vec![1; len], sequence, time_ms: None });
    }
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows
}

#[test]
fn a_file_of_version_1_is_read() {
    let rows = rows();
    let view = view(VERSION_1);
    assert_eq!(scan(&view, VERSION_1, KeyRange::all(), PIECE_BYTES).as_ref(), Ok(&rows));
    for row in &rows {
        let found = lookup(&view, VERSION_1, &row.key).expect("the file is whole");
        assert!(found.contains(row));
    }
    let meta = view.table().meta();
    assert_eq!((meta.id, meta.entry_count, meta.tombstone_count), (CONFIG.id, 71, 1));
}

/// Readers of version 1 are out there: other bytes need another version.
#[test]
fn the_same_bytes_are_written() {
    let (file, _) = write(CONFIG, &rows());
    assert!(file == VERSION_1, "the writer makes other bytes than those of version 1");
}
