//! What a table looks like for given entries: blocks, sections, sizes, alignment.

use super::*;

fn evenly(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |number| number * (u64::MAX / count))
}

fn values(count: u64, len: usize) -> Vec<Row> {
    evenly(count).map(|hash| Row::value(stored(hash, 0, 0, b"key", b""), &vec![1; len])).collect()
}

#[test]
fn an_empty_table_is_open_and_has_nothing() {
    let (file, meta) = write(CONFIG, &[]);
    assert_eq!(file.len(), 2 * PAGE_BYTES, "the metadata and the footer");
    let view = view(&file);
    assert_eq!(view.table().meta(), &meta);
    assert_eq!(meta.entry_count, 0);
    assert_eq!(lookup(&view, &file, &stored(1, 0, 0, b"a", b"")), Ok(vec![]));
    assert_eq!(scan(&view, &file, KeyRange::all(), PIECE_BYTES), Ok(vec![]));
}

#[test]
fn writer_and_reader_agree_on_what_there_is() {
    let mut rows = values(1000, 50);
    rows[3].sequence = 9;
    rows[4] = Row { kind: entry::TOMBSTONE, bytes: vec![], ..rows[4].clone() };
    for row in &mut rows[..100] {
        row.time_ms = Some(row.sequence as i64);
    }
    let (file, meta) = write(CONFIG, &rows);
    let view = view(&file);
    assert_eq!(view.table().meta(), &meta);
    assert_eq!((meta.entry_count, meta.tombstone_count), (1000, 1));
    assert_eq!((meta.sequence_min, meta.sequence_max), (1, 9));
    assert_eq!((&meta.first_key, &meta.last_key), (&rows[0].key, &rows[999].key));
    let sections = view.table().sections();
    let groups: Vec<u16> = sections.iter().map(Section::key_group).collect();
    assert_eq!(groups, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!((sections[0].time_min_ms, sections[0].time_max_ms), (Some(1), None));
    assert_eq!((sections[1].time_min_ms, sections[1].time_max_ms), (None, None));
    let counts = sections.iter().map(|section| (section.entry_count, section.tombstone_count));
    assert_eq!(counts.clone().map(|count| count.0).sum::<u64>(), 1000);
    assert_eq!(counts.map(|count| count.1).sum::<u64>(), 1);
}

#[test]
fn entries_of_one_shape_cost_little_more_than_key_and_value() {
    let rows: Vec<Row> = evenly(20_000)
        .map(|hash| Row::value(stored(hash, 0, 0, &hash.to_le_bytes(), b""), &[7; 96]))
        .collect();
    let (file, _) = write(CONFIG, &rows);
    // Hash, two lengths, key, value; and some percent for headers, gaps and the index.
    let entry_bytes = 8 + 4 + 8 + 4 + 96;
    let whole = rows.len() * entry_bytes;
    assert!(file.len() < whole + whole * 7 / 100, "{} for {whole}", file.len());
}

#[test]
fn a_map_is_stored_without_its_key() {
    let name = [b'n'; 300];
    let rows: Vec<Row> = (0_u32..2000)
        .map(|number| Row::value(stored(5, 0, 0, &name, &number.to_be_bytes()), b"12345678"))
        .collect();
    let (file, _) = write(CONFIG, &rows);
    assert!(file.len() < 2000 * 24, "{} bytes", file.len());
    let view = view(&file);
    for row in &rows {
        assert_eq!(lookup(&view, &file, &row.key).as_deref(), Ok(std::slice::from_ref(row)));
    }
    let prefix = stored(5, 0, 0, &name, b"");
    assert_eq!(scan(&view, &file, KeyRange::prefix(&prefix), 1).as_ref(), Ok(&rows));
    assert_eq!(scan(&view, &file, KeyRange::prefix(&stored(5, 0, 0, b"n", b"")), 1), Ok(vec![]));
    assert_eq!(lookup(&view, &file, &stored(5, 0, 0, &name, &[9; 4])), Ok(vec![]));
}

#[test]
fn a_larger_entry_has_a_block_for_itself() {
    let mut rows = values(3, 10);
    rows[1].bytes = vec![3; 3 * PAGE_BYTES];
    let (file, _) = write(CONFIG, &rows);
    let view = view(&file);
    let len = |row: &Row| match view.locate(&row.key) {
        Ok(Located::Block(want)) => want.len,
        other => panic!("{other:?}"),
    };
    assert_eq!([0, 1, 2].map(|at| len(&rows[at])), [4096, 4 * 4096, 4096]);
    assert_eq!(scan(&view, &file, KeyRange::all(), 1), Ok(rows));
}

#[test]
fn all_entries_of_a_key_are_in_one_block() {
    let mut rows = values(20, 100);
    let key = rows[10].key.clone();
    rows.remove(10);
    let chain = (0..200).map(|age| Row {
        key: key.clone(),
        kind: if age == 199 { entry::VALUE } else { entry::OPERAND },
        bytes: vec![9; 100],
        sequence: 1000 - age / 2,
        time_ms: None,
    });
    let chain: Vec<Row> = chain.collect();
    rows.splice(10..10, chain.clone());
    let config = WriterConfig { key_group_count: 1, ..CONFIG };
    for row in &mut rows {
        row.key[..2].fill(0);
    }
    let key = rows[10].key.clone();
    let chain: Vec<Row> = chain.into_iter().map(|row| Row { key: key.clone(), ..row }).collect();
    let (file, _) = write(config, &rows);
    let view = view(&file);
    assert_eq!(lookup(&view, &file, &key), Ok(chain));
    assert_eq!(scan(&view, &file, KeyRange::all(), PIECE_BYTES), Ok(rows));
}

#[test]
fn aligned_values_can_be_read_in_place() {
    for (lens, count) in [(vec![40], 500_u64), (vec![0, 1, 15, 16, 17, 100, 5000], 500)] {
        let rows: Vec<Row> = evenly(count)
            .zip(lens.iter().cycle())
            .map(|(hash, len)| Row::value(stored(hash, 0, 0, b"key", b""), &vec![7; *len]))
            .collect();
        let (file, _) = write(WriterConfig { values: Values::Aligned, ..CONFIG }, &rows);
        let view = view(&file);
        for row in &rows {
            let Ok(Located::Block(want)) = view.locate(&row.key) else { panic!("{row:?}") };
            let bytes = read(&file, want);
            let block = view.table().block(want, bytes).expect("it was written so");
            let entry = block.search(&row.key).next().expect("it was put in");
            let place = entry.change.bytes().as_ptr() as usize - bytes.as_ptr() as usize;
            assert!(row.bytes.is_empty() || place.is_multiple_of(16), "value at {place}");
            assert_eq!(entry, row.entry());
        }
    }
}

#[test]
fn lookups_of_absent_keys_rarely_read() {
    let (file, _) = write(CONFIG, &values(20_000, 8));
    let view = view(&file);
    let absent = evenly(9_999).map(|hash| stored(hash | 1, 0, 0, b"none", b""));
    let read = absent.filter(|key| view.locate(key) != Ok(Located::Absent)).count();
    assert!(read < 400, "{read} of 10,000 lookups read a block");
    let other_state = stored(0, 1, 0, b"key", b"");
    assert_eq!(view.locate(&other_state), Ok(Located::Absent));
}

#[test]
fn a_table_without_filters_finds_the_same() {
    let rows = values(2_000, 8);
    let (file, _) = write(CONFIG, &rows);
    let table = open(&file, Filters::Leave).expect("the file is a table");
    let with_filters = open(&file, Filters::Load).expect("the file is a table");
    assert!(table.resident_bytes() < with_filters.resident_bytes());
    let view = View::new(Arc::new(table), HashRange::ALL);
    for row in &rows {
        assert_eq!(lookup(&view, &file, &row.key).as_deref(), Ok(std::slice::from_ref(row)));
    }
}

#[test]
fn views_of_two_owners_share_the_entries() {
    let rows = values(1000, 30);
    let (file, _) = write(CONFIG, &rows);
    let table = Arc::new(open(&file, Filters::Load).expect("the file is a table"));
    let half = u64::MAX / 2;
    let lower = View::new(table.clone(), HashRange { first: 0, last: half });
    let upper = View::new(table, HashRange { first: half + 1, last: u64::MAX });
    let mut found = scan(&lower, &file, KeyRange::all(), PIECE_BYTES).expect("it is whole");
    assert!(found.len().abs_diff(500) < 2);
    assert_eq!(lookup(&upper, &file, &found[3].key), Ok(vec![]));
    assert_eq!(lookup(&lower, &file, &found[3].key), Ok(vec![found[3].clone()]));
    found.extend(scan(&upper, &file, KeyRange::all(), PIECE_BYTES).expect("it is whole"));
    assert_eq!(found, rows);
}

#[test]
fn a_scan_reads_only_what_it_needs_and_as_much_at_once_as_it_may() {
    let (file, _) = write(CONFIG, &values(20_000, 100));
    let view = view(&file);
    let reads = |range: KeyRange, read_bytes| {
        let mut cursor = Cursor::new(view.clone(), range, read_bytes).expect("it is whole");
        let mut lens = Vec::new();
        loop {
            while let Some(want) = cursor.want() {
                lens.push(want.len);
                cursor.on_read(read(&file, want).to_vec()).expect("it is whole");
            }
            if cursor.entry().is_none() {
                return lens;
            }
            cursor.advance().expect("it is whole");
        }
    };
    let all = reads(KeyRange::all(), PIECE_BYTES);
    assert!(all[..all.len() - 1].iter().all(|len| *len == PIECE_BYTES), "{all:?}");
    let group = reads(KeyRange::prefix(&[0, 3]), PIECE_BYTES);
    assert!(group.iter().sum::<usize>() <= all.iter().sum::<usize>() / 8 + PAGE_BYTES);
    assert_eq!(reads(KeyRange::prefix(&[0, 9]), PIECE_BYTES), []);
    let one = reads(KeyRange::prefix(&stored(0, 0, 0, b"key", b"")), PIECE_BYTES);
    assert_eq!(one, [PAGE_BYTES]);
}

#[test]
#[should_panic(expected = "in the order of their keys")]
fn disorder_is_a_bug() {
    let mut rows = values(2, 1);
    rows.reverse();
    write(CONFIG, &rows);
}

#[test]
#[should_panic(expected = "the newest of a key first")]
fn an_older_entry_of_a_key_does_not_come_first() {
    let row = values(1, 1).remove(0);
    write(CONFIG, &[row.clone(), Row { sequence: row.sequence + 1, ..row }]);
}

#[test]
#[should_panic(expected = "a key group is that of its hash")]
fn a_key_group_that_is_not_of_the_hash_is_a_bug() {
    let mut row = values(1, 1).remove(0);
    row.key[1] += 1;
    write(CONFIG, &[row]);
}

#[test]
fn more_of_one_key_than_a_block_may_have_is_refused() {
    let row = values(1, BLOCK_BYTES_MAX / 3).remove(0);
    let mut writer = Writer::new(CONFIG);
    for _ in 0..2 {
        writer.push(Row { kind: entry::OPERAND, ..row.clone() }.entry()).expect("it fits");
    }
    let refused = writer.push(Row { kind: entry::OPERAND, ..row }.entry());
    assert!(refused.is_err_and(|error| BLOCK_BYTES_MAX < error.bytes));
}

/// The formulas of `docs/operations/sizing.md`.
#[test]
fn sizes_of_tables() {
    for (sequences, stride) in [(1, 128), (2, 144)] {
        let rows = evenly(20_000).enumerate().map(|(number, hash)| Row {
            sequence: 1 + number as u64 % sequences,
            ..Row::value(stored(hash, 0, 0, &[number as u8; 16], b""), &[7; 96])
        });
        let rows: Vec<Row> = rows.collect();
        let (file, _) = write(WriterConfig { values: Values::Aligned, ..CONFIG }, &rows);
        let view = view(&file);
        let table = view.table();
        let blocks = table.block_count() as usize;
        let count = (PAGE_BYTES - 64) / stride;
        let groups = KEY_GROUP_COUNT as usize;
        let least = rows.len().div_ceil(count);
        assert!((least..=least + groups).contains(&blocks), "{blocks} blocks of {count} entries");
        let len = |part| (table.part(part).end - table.part(part).start) as usize;
        assert_eq!(len(Part::Fences) + len(Part::Places), 16 * blocks + 8);
        assert_eq!(len(Part::Filters), 64 * blocks);
        assert_eq!(len(Part::Directory), 72 * groups);
        let index_bytes = file.len() - blocks * PAGE_BYTES;
        assert!(index_bytes <= blocks * PAGE_BYTES * 2 / 100 + 3 * PAGE_BYTES, "{index_bytes}");
    }
    assert_eq!(size_of::<Section>(), 88);
}
