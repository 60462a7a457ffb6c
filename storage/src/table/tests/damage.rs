//! Damaged files: an error that names the place, or the right answer; nothing else.

use super::*;

/// A small table with everything in it: forms 1 and 2, a larger block, a map over several blocks,
/// a chain, times, tombstones.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for number in 0..40_u64 {
        let hash = number * (u64::MAX / 40);
        rows.push(Row::value(stored(hash, 0, 0, b"fixed", b""), &[number as u8; 20]));
        let mut row = Row::value(stored(hash, 1, 5, b"vary", b""), &vec![3; number as usize]);
        row.time_ms = Some(number as i64);
        rows.push(row);
    }
    for number in 0..120_u8 {
        rows.push(Row::value(stored(1 << 63, 2, 0, b"map", &[number]), &[number; 60]));
    }
    let key = stored(3 << 62, 3, 0, b"chain", b"");
    for (sequence, kind) in [(9, entry::OPERAND), (8, entry::OPERAND), (7, entry::TOMBSTONE)] {
        let len = if kind == entry::TOMBSTONE { 0 } else { 2500 };
        rows.push(Row { key: key.clone(), kind, bytes: vec![1; len], sequence, time_ms: None });
    }
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows
}

/// Opens `file`, looks every row up and scans all of them: every answer is right or an error.
/// Gives the first error.
fn check(file: &[u8], rows: &[Row]) -> Option<Error> {
    let table = match open(file, Filters::Load) {
        Ok(table) => table,
        Err(error) => return Some(error),
    };
    let view = View::new(Arc::new(table), HashRange::ALL);
    let mut first_error = None;
    for row in rows {
        match lookup(&view, file, &row.key) {
            Ok(found) => assert!(found.contains(row), "a wrong answer for {:?}", row.key),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    match scan(&view, file, KeyRange::all(), PIECE_BYTES) {
        Ok(found) => assert_eq!(found, rows, "a wrong scan"),
        Err(error) => first_error = first_error.or(Some(error)),
    }
    first_error
}

/// Asserts that `error` is damage in a file of `length` bytes.
fn assert_corrupt(error: &Error, length: usize) {
    match error {
        Error::Corrupt { file, offset, .. } => {
            assert_eq!(*file, FILE);
            assert!(*offset <= length as u64, "{offset} is not in the file");
        }
        other => panic!("{other} is not damage"),
    }
}

#[test]
fn the_whole_file_is_right() {
    let rows = rows();
    let (file, _) = write(CONFIG, &rows);
    assert_eq!(check(&file, &rows), None);
}

#[test]
fn a_flipped_byte_of_a_block_is_noticed() {
    let rows = rows();
    let (file, _) = write(CONFIG, &rows);
    let view = view(&file);
    let mut offset = 0;
    for row in &rows {
        let Ok(Located::Block(want)) = view.locate(&row.key) else { panic!("it is there") };
        if want.offset < offset {
            continue;
        }
        assert_eq!(want.offset, offset, "a block without entries");
        offset += want.len as u64;
        let mut bytes = read(&file, want).to_vec();
        for at in 0..bytes.len() {
            bytes[at] ^= 1 << (at % 8);
            let error = view.table().block(want, &bytes).expect_err("it is not as it was");
            assert_corrupt(&error, file.len());
            bytes[at] ^= 1 << (at % 8);
        }
    }
    assert_eq!(offset, view.table().block_end);
}

#[test]
fn a_flipped_byte_of_the_metadata_is_noticed_or_means_nothing() {
    let (mut file, _) = write(CONFIG, &rows());
    let whole = open(&file, Filters::Load).expect("it is whole");
    for at in whole.block_end as usize..file.len() {
        file[at] ^= 1 << (at % 8);
        match open(&file, Filters::Load) {
            Err(error) => assert_corrupt(&error, file.len()),
            Ok(table) => {
                assert_eq!((&table.meta, &table.sections), (&whole.meta, &whole.sections));
                assert_eq!(parts(&table), parts(&whole), "byte {at} is not covered");
            }
        }
        file[at] ^= 1 << (at % 8);
    }
}

/// The sections that lookups use.
fn parts(table: &Table) -> [&[u8]; 4] {
    [&table.filters, &table.fences, &table.places, &table.separators]
        .map(|range| &table.bytes[range.clone()])
}

#[test]
fn a_shorter_file_is_noticed() {
    let rows = rows();
    let (file, _) = write(CONFIG, &rows);
    for length in 0..file.len() {
        let error = open(&file[..length], Filters::Load).expect_err("it is not whole");
        assert_corrupt(&error, length);
    }
}

#[test]
fn a_file_that_becomes_shorter_is_noticed() {
    let rows = rows();
    let (file, _) = write(CONFIG, &rows);
    let view = view(&file);
    for row in &rows {
        let Ok(Located::Block(want)) = view.locate(&row.key) else { panic!("it is there") };
        let bytes = read(&file, want);
        for len in [0, 1, PAGE_BYTES - 1, want.len - 1] {
            let error = view.table().block(want, &bytes[..len]).expect_err("it is not whole");
            assert_corrupt(&error, file.len());
        }
    }
}

#[test]
fn blocks_of_zeros_are_noticed() {
    let rows = rows();
    let (file, _) = write(CONFIG, &rows);
    for page in 0..file.len() / PAGE_BYTES {
        let mut file = file.clone();
        file[page * PAGE_BYTES..][..PAGE_BYTES].fill(0);
        let error = check(&file, &rows).expect("every page has something");
        assert_corrupt(&error, file.len());
    }
}

#[test]
fn a_block_of_another_place_or_table_is_noticed() {
    let rows = rows();
    let (file, _) = write(CONFIG, &rows);
    let mut swapped = file.clone();
    let (first, second) = swapped.split_at_mut(PAGE_BYTES);
    first.swap_with_slice(&mut second[..PAGE_BYTES]);
    assert!(check(&swapped, &rows).is_some());

    let (other, _) = write(WriterConfig { id: TableId(43), ..CONFIG }, &rows);
    let mut mixed = file;
    mixed[..PAGE_BYTES].copy_from_slice(&other[..PAGE_BYTES]);
    assert!(check(&mixed, &rows).is_some());
}

/// What tells a table from another: also if they have the same keys, and differ in a value alone.
#[test]
fn tables_of_other_values_have_other_checksums() {
    let mut rows = rows();
    let (whole, meta) = write(CONFIG, &rows);
    let mut checksums = vec![meta.checksum];
    for at in 0..rows.len() {
        let Some(byte) = rows[at].bytes.last_mut() else { continue };
        *byte ^= 1;
        let (file, meta) = write(CONFIG, &rows);
        assert_eq!(file.len(), whole.len());
        let footers = [&file, &whole].map(|file| &file[file.len() - PAGE_BYTES..]);
        assert_ne!(footers[0], footers[1]);
        checksums.push(meta.checksum);
        *rows[at].bytes.last_mut().expect("it has a byte") ^= 1;
    }
    let count = checksums.len();
    checksums.sort_unstable();
    checksums.dedup();
    assert!(rows.len() - 2 <= count && checksums.len() == count, "of {count}");
}

#[test]
fn a_later_version_is_named() {
    let (mut file, _) = write(CONFIG, &rows());
    let footer = file.len() - PAGE_BYTES;
    file[footer + 12] = 2;
    let crc = crc32fast::hash(&file[footer..file.len() - 4]);
    let crc_at = file.len() - 4;
    file[crc_at..].copy_from_slice(&crc.to_le_bytes());
    let error = open(&file, Filters::Load).expect_err("it is of version 2");
    assert_eq!(error, Error::Version { file: FILE, found: 2, newest: 1 });
    assert_eq!(error.to_string(), "file 7 is a table of version 2, this release reads up to 1");
}
