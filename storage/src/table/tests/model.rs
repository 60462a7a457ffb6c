//! Tables against a map: whatever is put in is found, and nothing else.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Entries of a model, by key; those of one key the newest first.
type Model = BTreeMap<Vec<u8>, Vec<Row>>;

/// Few hashes, states and keys, so that maps, collisions and shared blocks come up.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let hash = prop_oneof![
        3 => any::<u64>(),
        2 => (0_u64..6).prop_map(|number| number << 60),
        1 => prop_oneof![Just(0), Just(u64::MAX)],
    ];
    let bucket = prop_oneof![4 => Just(0_i64), 1 => -2_i64..3];
    let name = prop_oneof![4 => Just(b"k".to_vec()), 1 => prop::collection::vec(0_u8..3, 0..4)];
    let map_key = prop_oneof![
        1 => Just(Vec::new()),
        3 => prop::collection::vec(any::<u8>(), 0..3),
    ];
    (hash, 0_u16..3, bucket, name, map_key)
        .prop_map(|(hash, state, bucket, name, map)| stored(hash, state, bucket, &name, &map))
}

fn change() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let len = prop_oneof![6 => Just(24_usize), 6 => 0_usize..300, 1 => 3000_usize..9000];
    let kind = prop_oneof![6 => Just(entry::VALUE), 1 => Just(entry::TOMBSTONE),
        2 => Just(entry::OPERAND)];
    (kind, len, any::<u8>()).prop_map(|(kind, len, byte)| {
        let len = if kind == entry::TOMBSTONE { 0 } else { len };
        (kind, vec![byte; len])
    })
}

fn model() -> impl Strategy<Value = Model> {
    let time = prop_oneof![Just(None), any::<i8>().prop_map(|time| Some(i64::from(time)))];
    let one = (change(), 0_u64..4, time).boxed();
    let chain = prop_oneof![
        6 => prop::collection::vec(one.clone(), 1..2),
        1 => prop::collection::vec(one, 1..12),
    ];
    prop::collection::vec((key(), chain), 0..300).prop_map(|keys| {
        let mut model = Model::new();
        for (key, mut chain) in keys {
            chain.sort_by_key(|(_, sequence, _)| std::cmp::Reverse(*sequence));
            let rows = chain.into_iter().map(|((kind, bytes), sequence, time_ms)| Row {
                key: key.clone(),
                kind,
                bytes,
                sequence,
                time_ms,
            });
            let rows = rows.collect();
            model.insert(key, rows);
        }
        model
    })
}

fn rows_of(model: &Model) -> Vec<Row> {
    model.values().flatten().cloned().collect()
}

/// Writers of all kinds.
fn config() -> impl Strategy<Value = (WriterConfig, bool)> {
    let values = prop_oneof![Just(Values::Packed), Just(Values::Aligned)];
    (values, any::<bool>()).prop_map(|(values, shares)| (WriterConfig { values, ..CONFIG }, shares))
}

fn write_by((config, shares): (WriterConfig, bool), rows: &[Row]) -> (Vec<u8>, TableMeta) {
    let writer = Writer::new(config);
    write_with(if shares { writer.sharing_blocks() } else { writer }, rows)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_key_is_found_and_no_other(
        model in model(), others in prop::collection::vec(key(), 50), config in config(),
    ) {
        let (file, meta) = write_by(config, &rows_of(&model));
        prop_assert_eq!(audit(&file), Ok(()));
        let view = view(&file);
        prop_assert_eq!(view.table().meta(), &meta);
        for key in model.keys().chain(&others) {
            let expected = model.get(key).cloned().unwrap_or_default();
            prop_assert_eq!(lookup(&view, &file, key), Ok(expected));
        }
    }

    #[test]
    fn a_range_of_a_view_has_what_the_model_has(
        model in model(),
        bounds in prop::collection::vec((key(), 0_usize..40, key(), 0_usize..40), 12),
        clip in prop_oneof![
            Just(HashRange::ALL),
            any::<(u64, u64)>().prop_map(|(a, b)| HashRange { first: a.min(b), last: a.max(b) }),
            (0_u64..6).prop_map(|at| HashRange { first: at << 60, last: at << 60 }),
        ],
        read_bytes in prop_oneof![Just(1), Just(3 * PAGE_BYTES), Just(PIECE_BYTES)],
        config in config(),
    ) {
        let rows = rows_of(&model);
        let (file, _) = write_by(config, &rows);
        let table = open(&file, Filters::Load).expect("the file is a table");
        let view = View::new(Arc::new(table), clip);
        let seen: Vec<Row> =
            rows.into_iter().filter(|row| clip.contains(entry::hash_of(&row.key))).collect();
        prop_assert_eq!(&scan(&view, &file, KeyRange::all(), read_bytes), &Ok(seen.clone()));
        for (mut from, from_len, mut to, to_len) in bounds {
            from.truncate(from_len);
            to.truncate(to_len);
            let within = |test: &dyn Fn(&[u8]) -> bool| -> Vec<Row> {
                seen.iter().filter(|row| test(&row.key)).cloned().collect()
            };
            let prefixed = within(&|key| key.starts_with(&from));
            let found = scan(&view, &file, KeyRange::prefix(&from), read_bytes);
            prop_assert_eq!(found, Ok(prefixed));
            let between = within(&|key| from.as_slice() <= key && key < to.as_slice());
            let range = KeyRange::between(from.clone(), Some(to));
            prop_assert_eq!(scan(&view, &file, range, read_bytes), Ok(between));
        }
    }
}
