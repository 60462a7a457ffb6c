//! Tests of merging, against a merge of vectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::io::FileId;
use crate::table::{
    Filters, HashRange, KeyRange, Opening, TableId, Values, View, Writer, WriterConfig,
};

const STATE_WITH_TTL: u16 = 1;
const STATE_OF_WINDOWS: u16 = 2;
const ALIVE_FROM_MS: i64 = 10;
const WINDOWS_FROM_MS: i64 = 5;

/// A key by its state, its window and a number; the smaller, the earlier.
fn key(state_id: u16, window_bucket: i64, number: u8) -> Vec<u8> {
    let hash64 = u64::from(number % 4);
    let key = &[number];
    StoredKey { key_group: 0, state_id, window_bucket, hash64, key, namespace: &[], map_key: &[] }
        .encode()
}

/// An entry that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    key: Vec<u8>,
    /// Value, tombstone or operand.
    kind: u8,
    value: Vec<u8>,
    sequence: u64,
    time_ms: Option<i64>,
}

impl Row {
    fn entry(&self) -> Entry<'_> {
        let change = match self.kind {
            0 => Change::Value(&self.value),
            1 => Change::Tombstone,
            _ => Change::Operand(&self.value),
        };
        Entry { key: &self.key, change, sequence: self.sequence, time_ms: self.time_ms }
    }
}

fn tombstone(row: &Row) -> Row {
    Row { kind: 1, value: Vec::new(), ..row.clone() }
}

fn retentions() -> BTreeMap<u16, Retention> {
    let expiring = Retention { alive_from_ms: Some(ALIVE_FROM_MS), windows_from_ms: None };
    let passing = Retention { alive_from_ms: None, windows_from_ms: Some(WINDOWS_FROM_MS) };
    BTreeMap::from([(STATE_WITH_TTL, expiring), (STATE_OF_WINDOWS, passing)])
}

/// What a merge of `tables`, the newest first, has to give.
fn expected(tables: &[Vec<Row>], beneath: Beneath) -> Vec<Row> {
    let mut keys: BTreeMap<&[u8], Vec<&Row>> = BTreeMap::new();
    for row in tables.iter().flatten() {
        keys.entry(&row.key).or_default().push(row);
    }
    let mut rows = Vec::new();
    for (key, mut chain) in keys {
        // Stable: of equal ones, that of the newer table stays first.
        chain.sort_by_key(|row| std::cmp::Reverse(row.sequence));
        let parts = StoredKey::decode(key).expect("a stored key");
        if parts.state_id == STATE_OF_WINDOWS && parts.window_bucket < WINDOWS_FROM_MS {
            continue;
        }
        let is_expired = parts.state_id == STATE_WITH_TTL
            && chain[0].time_ms.is_some_and(|time| time < ALIVE_FROM_MS);
        let mut kept: Vec<Row> = if is_expired {
            vec![tombstone(chain[0])]
        } else {
            let operands = chain.iter().take_while(|row| row.kind == 2).count();
            chain.into_iter().take(operands + 1).cloned().collect()
        };
        kept.retain(|row| row.kind != 1 || beneath == Beneath::OlderTables);
        rows.extend(kept);
    }
    rows
}

/// The file of `rows`.
fn write(rows: &[Row]) -> Vec<u8> {
    let values = Values::Packed;
    let mut writer = Writer::new(WriterConfig { id: TableId(1), key_group_count: 1, values });
    let mut file = Vec::new();
    for row in rows {
        writer.push(row.entry()).expect("the rows are small");
        file.extend(writer.full_piece().into_iter().flat_map(|piece| piece.bytes));
    }
    let mut ending = writer.finish();
    while let Some(piece) = ending.next_piece() {
        file.extend(piece.bytes);
    }
    file
}

fn cursor(file: &[u8]) -> Cursor {
    let mut opening =
        Opening::new(FileId(0), file.len() as u64, Filters::Leave).expect("a table's length");
    while let Some(want) = opening.want() {
        opening.on_read(&file[want.offset as usize..][..want.len]).expect("it is whole");
    }
    let view = View::new(Arc::new(opening.into_table()), HashRange::ALL);
    Cursor::new(view, KeyRange::all(), 1).expect("it is whole")
}

/// All that `merge` gives, reading from `files` by source.
fn run(mut merge: Merge<'_>, files: &[Vec<u8>]) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        match merge.step().expect("the files are whole") {
            Step::Done => return rows,
            Step::Dropped => {}
            Step::Entry(entry) => rows.push(Row {
                key: entry.key.to_vec(),
                kind: match entry.change {
                    Change::Value(_) => 0,
                    Change::Tombstone => 1,
                    Change::Operand(_) => 2,
                },
                value: entry.change.bytes().to_vec(),
                sequence: entry.sequence,
                time_ms: entry.time_ms,
            }),
            Step::Wants => {
                assert_eq!(merge.step(), Ok(Step::Wants), "a second step changes nothing");
                let wants: Vec<(usize, Want)> = merge.wants().collect();
                assert!(!wants.is_empty());
                for (source, want) in wants {
                    let bytes = files[source][want.offset as usize..][..want.len].to_vec();
                    merge.on_read(source, bytes).expect("the file is whole");
                }
            }
        }
    }
}

fn table() -> impl Strategy<Value = Vec<Row>> {
    let key = (0_u16..4, prop_oneof![2 => Just(0_i64), 1 => 3_i64..8], 0_u8..12)
        .prop_map(|(state, bucket, number)| key(state, bucket, number));
    let time = prop_oneof![Just(None), (0_i64..20).prop_map(Some)];
    let len = prop_oneof![5 => 0_usize..40, 1 => Just(1500_usize)];
    let row = (key, 0_u8..3, len, any::<u8>(), 0_u64..6, time).prop_map(
        |(key, kind, len, byte, sequence, time_ms)| {
            let value = vec![byte; if kind == 1 { 0 } else { len }];
            Row { key, kind, value, sequence, time_ms }
        },
    );
    prop::collection::vec(row, 0..60).prop_map(|mut rows| {
        rows.sort_by(|a, b| a.key.cmp(&b.key).then(b.sequence.cmp(&a.sequence)));
        rows
    })
}

proptest! {
    #[test]
    fn a_merge_of_tables_and_memory_is_the_merge_of_vectors(
        tables in prop::collection::vec(table(), 0..6), is_oldest: bool, has_memory: bool,
    ) {
        let beneath = if is_oldest { Beneath::Nothing } else { Beneath::OlderTables };
        let files: Vec<Vec<u8>> = tables.iter().map(|rows| write(rows)).collect();
        let entries: Vec<Entry<'_>> = tables.iter().take(1).flatten().map(Row::entry).collect();
        let sources = files.iter().enumerate().map(|(at, file)| -> Box<dyn Source + '_> {
            if has_memory && at == 0 {
                Box::new(entries.as_slice())
            } else {
                Box::new(cursor(file))
            }
        });
        let merge = Merge::new(sources.collect(), beneath, retentions());
        prop_assert_eq!(run(merge, &files), expected(&tables, beneath));
    }
}

fn check(tables: &[&[Row]], beneath: Beneath, expected: &[Row]) {
    let files: Vec<Vec<u8>> = tables.iter().map(|rows| write(rows)).collect();
    let sources = files.iter().map(|file| -> Box<dyn Source> { Box::new(cursor(file)) });
    let merge = Merge::new(sources.collect(), beneath, retentions());
    assert_eq!(run(merge, &files), expected);
}

fn row(state_id: u16, kind: u8, sequence: u64, time_ms: Option<i64>) -> Row {
    let value = if kind == 1 { Vec::new() } else { vec![sequence as u8] };
    Row { key: key(state_id, 0, 0), kind, value, sequence, time_ms }
}

#[test]
fn operands_stay_in_order_above_the_value_that_they_change() {
    let newer = [row(0, 2, 9, None), row(0, 2, 8, None)];
    let older = [row(0, 2, 5, None), row(0, 0, 4, None), row(0, 0, 3, None)];
    let kept = [newer[0].clone(), newer[1].clone(), older[0].clone(), older[1].clone()];
    check(&[&newer, &older], Beneath::OlderTables, &kept);
}

#[test]
fn a_tombstone_goes_once_it_has_nothing_to_hide() {
    let (newer, older) = ([row(0, 1, 2, None)], [row(0, 0, 1, None)]);
    check(&[&newer, &older], Beneath::OlderTables, &newer);
    check(&[&newer, &older], Beneath::Nothing, &[]);
}

#[test]
fn an_expired_key_does_not_bring_back_an_older_value() {
    let newer = [row(STATE_WITH_TTL, 0, 2, Some(ALIVE_FROM_MS - 1))];
    let older = [row(STATE_WITH_TTL, 0, 1, Some(ALIVE_FROM_MS + 1))];
    check(&[&newer, &older], Beneath::Nothing, &[]);
    check(&[&newer, &older], Beneath::OlderTables, &[tombstone(&newer[0])]);
}

#[test]
fn a_newer_operand_keeps_an_older_one_alive() {
    let newer = [row(STATE_WITH_TTL, 2, 2, Some(ALIVE_FROM_MS))];
    let older = [row(STATE_WITH_TTL, 0, 1, Some(ALIVE_FROM_MS - 1))];
    check(&[&newer, &older], Beneath::Nothing, &[newer[0].clone(), older[0].clone()]);
}

#[test]
fn of_equal_sequences_the_newer_source_counts() {
    let (newer, older) = ([row(0, 0, 1, Some(2))], [row(0, 0, 1, Some(1))]);
    check(&[&newer, &older], Beneath::Nothing, &newer);
}
