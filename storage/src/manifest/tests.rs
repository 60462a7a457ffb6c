//! Manifests: a golden file, damage of every kind, and whatever is behind a right checksum.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What the golden file was made of, by another program.
const VERSION_1: &[u8] = include_bytes!("../../golden/manifest_v1.bin");

fn golden() -> Manifest {
    let row = |id, length, checksum, band, tier| TableRow {
        band,
        id: TableId(id),
        tier,
        length,
        checksum,
    };
    let state = |id, name: &[u8], schema: &[u8]| StateRow {
        id,
        name: name.to_vec(),
        schema: schema.to_vec(),
    };
    let schema: Vec<u8> = (0..24).collect();
    Manifest {
        next_table_id: 42,
        key_group_count: 128,
        bands: vec![
            HashRange { first: 0, last: u64::MAX >> 1 },
            HashRange { first: 1 << 63, last: u64::MAX },
        ],
        tables: vec![
            row(41, 0xa000, 0x97f5_ff95, 0, Tier::Merged(0)),
            row(40, 0x2_1000, 0x0102_0304, 0, Tier::Merged(2)),
            row(12, 0x40_0000, 0xfeed_beef, 0, Tier::Base),
            row(41, 0xa000, 0x97f5_ff95, 1, Tier::Merged(0)),
        ],
        states: vec![
            state(0, b"rolling sum/total", b""),
            state(3, b"sessions/open", &schema),
            state(u16::MAX, b"", b"\xff"),
        ],
    }
}

#[test]
fn a_file_of_version_1_is_read_and_written() {
    assert_eq!(Manifest::decode(VERSION_1), Ok(golden()));
    assert_eq!(golden().encode().as_deref(), Ok(VERSION_1));
}

/// Makes length and checksum right.
fn forge(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = bytes.len() as u64;
    bytes[LENGTH_AT..LENGTH_AT + 8].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&bytes);
    bytes[CRC_AT..CRC_AT + CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What is wrong with the golden file, and where, once `edit` was written at `at` and the checksum
/// made right.
fn objection(at: usize, edit: &[u8]) -> (usize, &'static str) {
    let mut bytes = VERSION_1.to_vec();
    bytes[at..at + edit.len()].copy_from_slice(edit);
    match Manifest::decode(&forge(bytes)) {
        Err(Error::Corrupt { offset, what }) => (offset, what),
        other => panic!("{other:?} after {edit:?} at {at}"),
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let mut bytes = VERSION_1.to_vec();
    for at in 0..bytes.len() * 8 {
        bytes[at / 8] ^= 1 << (at % 8);
        match Manifest::decode(&bytes) {
            Err(Error::Corrupt { offset, .. }) => {
                assert_eq!(offset, if at / 8 < MAGIC.len() { 0 } else { CRC_AT });
            }
            other => panic!("{other:?} after bit {at} was flipped"),
        }
        bytes[at / 8] ^= 1 << (at % 8);
    }
}

#[test]
fn every_cut_is_noticed_and_so_is_what_follows() {
    for len in 0..VERSION_1.len() {
        for bytes in [VERSION_1[..len].to_vec(), forged_if_long(&VERSION_1[..len])] {
            let error = Manifest::decode(&bytes).expect_err("it is not whole");
            assert!(matches!(error, Error::Corrupt { offset, .. } if offset <= len), "{error}");
        }
    }
    let longer = [VERSION_1, &[0]].concat();
    let error = Manifest::decode(&longer).expect_err("it is too long");
    assert_eq!(error, Error::Corrupt { offset: CRC_AT, what: "the checksum is wrong" });
    let (offset, what) = (VERSION_1.len(), "there is something behind the last state");
    assert_eq!(Manifest::decode(&forge(longer)), Err(Error::Corrupt { offset, what }));
}

fn forged_if_long(bytes: &[u8]) -> Vec<u8> {
    if HEADER_BYTES <= bytes.len() { forge(bytes.to_vec()) } else { bytes.to_vec() }
}

#[test]
fn a_later_version_is_named() {
    let mut bytes = VERSION_1.to_vec();
    bytes[8] = 2;
    let error = Manifest::decode(&forge(bytes)).expect_err("it is of version 2");
    assert_eq!(error, Error::Version { found: 2, newest: 1 });
    let said = "the manifest is of version 2, this release reads up to 1";
    assert_eq!(error.to_string(), said);
}

/// Where the rows of the golden file are.
const BANDS_AT: usize = HEADER_BYTES;
const TABLES_AT: usize = BANDS_AT + 2 * 16;
const STATES_AT: usize = TABLES_AT + 4 * 24;
const SECOND_STATE_AT: usize = STATES_AT + 8 + 17;

#[test]
fn what_contradicts_itself_is_named_with_its_place() {
    assert_eq!(objection(8, &[0]), (8, "there is no such version"));
    assert_eq!(objection(32, &[0]), (32, "there is no such number of key groups"));
    assert_eq!(objection(34, &[2]), (32, "there is no such number of key groups"));
    let bands = "bands are not in the order of their hashes";
    assert_eq!(objection(BANDS_AT + 23, &[0x7f]), (BANDS_AT + 16, bands));
    assert_eq!(objection(BANDS_AT + 7, &[0x80]), (BANDS_AT, bands));
    let table = |number: usize| TABLES_AT + number * 24;
    assert_eq!(objection(24, &[41]), (table(0), "a table has the id of one to come"));
    assert_eq!(objection(table(3) + 20, &[2]), (table(3), "a table is in no band"));
    let order = "tables are not in the order of their bands";
    assert_eq!(objection(table(0) + 20, &[1]), (table(1), order));
    let tier = "a table is of another tier than its age says";
    assert_eq!(objection(table(0) + 22, &[3]), (table(1), tier));
    assert_eq!(objection(table(1) + 22, &[0, 1]), (table(2), tier));
    assert_eq!(objection(table(1) + 22, &[1, 1]), (table(1), "there is no such tier"));
    assert_eq!(objection(table(1), &[41]), (table(1), "a band has a table twice"));
    let ids = "states are not in the order of their ids";
    assert_eq!(objection(STATES_AT, &[3]), (SECOND_STATE_AT, ids));
    let long = "a state has a longer name or schema than there may be";
    assert_eq!(objection(STATES_AT + 2, &[1, 16]), (STATES_AT, long));
    assert_eq!(objection(STATES_AT + 4, &[1, 0, 1]), (STATES_AT, long));
    assert_eq!(objection(44, &[4]), (VERSION_1.len(), "it ends too early"));
}

#[test]
fn two_states_of_one_name_are_refused() {
    let mut manifest = golden();
    manifest.states.truncate(1);
    let one = manifest.encode().expect("it is small");
    let mut bytes = one.clone();
    bytes.extend_from_slice(&one[STATES_AT..]);
    bytes[44] = 2;
    bytes[one.len()] = 1;
    let (offset, what) = (one.len(), "two states have one name");
    assert_eq!(Manifest::decode(&forge(bytes)), Err(Error::Corrupt { offset, what }));
}

#[test]
fn what_is_too_long_is_not_written() {
    let with = |name_len, schema_len| {
        let mut manifest = golden();
        manifest.states[0].name = vec![b'n'; name_len];
        manifest.states[0].schema = vec![b's'; schema_len];
        manifest
    };
    let most = with(NAME_BYTES_MAX, SCHEMA_BYTES_MAX);
    let bytes = most.encode().expect("there may be so much");
    assert_eq!(Manifest::decode(&bytes), Ok(most));
    let error = with(NAME_BYTES_MAX + 1, 0).encode().expect_err("the name is too long");
    let said = "the manifest has the name of a state of 4097 bytes, at most 4096 can be written";
    assert_eq!(error.to_string(), said);
    let error = with(0, SCHEMA_BYTES_MAX + 1).encode().expect_err("the schema is too long");
    assert!(matches!(error, Error::TooLarge { bytes: 65_537, bytes_max: 65_536, .. }), "{error}");
}

#[test]
#[should_panic(expected = "what is written can be read")]
fn a_manifest_that_contradicts_itself_is_not_written() {
    let mut manifest = golden();
    manifest.tables.swap(0, 1);
    let _bytes = manifest.encode();
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let band =
        |(first, last): (u64, u64)| HashRange { first: first.min(last), last: first.max(last) };
    let bands = prop::collection::btree_set(any::<u64>(), 0..9).prop_map(move |ends| {
        let ends: Vec<u64> = ends.into_iter().collect();
        ends.as_chunks::<2>().0.iter().map(|[first, last]| band((*first, *last))).collect()
    });
    let table = (0_u64..1000, any::<u64>(), any::<u32>(), 0_u16..=256);
    let tables = vec(vec(table, 0..6), 4);
    let state = (vec(any::<u8>(), 0..9), vec(any::<u8>(), 0..40));
    let states = prop::collection::btree_map(any::<u16>(), state, 0..6);
    (bands, tables, states, 1..=1_u32 << 16).prop_map(|(bands, of_bands, states, groups)| {
        let bands: Vec<HashRange> = bands;
        let mut tables = Vec::new();
        for (band, mut rows) in of_bands.into_iter().enumerate().take(bands.len()) {
            rows.sort_by_key(|row| row.3);
            let mut ids = BTreeSet::new();
            let base =
                rows.iter().position(|row| row.3 == TIER_BASE).map_or(rows.len(), |at| at + 1);
            for (id, length, checksum, tier) in rows.into_iter().take(base) {
                let tier = u8::try_from(tier).map_or(Tier::Base, Tier::Merged);
                if ids.insert(id) {
                    tables.push(TableRow { band, id: TableId(id), tier, length, checksum });
                }
            }
        }
        let mut names = BTreeSet::new();
        let states = states.into_iter().filter_map(|(id, (name, schema))| {
            names.insert(name.clone()).then_some(StateRow { id, name, schema })
        });
        let states = states.collect();
        Manifest { next_table_id: 1000, key_group_count: groups, bands, tables, states }
    })
}

proptest! {
    #[test]
    fn a_manifest_survives_its_bytes(manifest in manifest()) {
        let bytes = manifest.encode().expect("it is small");
        prop_assert_eq!(Manifest::decode(&bytes), Ok(manifest));
    }

    /// Whatever is behind a right checksum: an error, or a manifest that would be written so.
    #[test]
    fn what_is_read_is_what_would_be_written(
        edits in vec((0..VERSION_1.len(), prop_oneof![any::<u8>(), 0_u8..4]), 0..4),
        len in prop_oneof![3 => Just(VERSION_1.len()), 1 => HEADER_BYTES..VERSION_1.len() + 30],
    ) {
        let mut bytes = VERSION_1.to_vec();
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        bytes.resize(len, 0);
        let bytes = forge(bytes);
        match Manifest::decode(&bytes) {
            Ok(manifest) => prop_assert_eq!(manifest.encode(), Ok(bytes)),
            Err(Error::Corrupt { offset, .. }) => prop_assert!(offset <= bytes.len()),
            Err(Error::Version { found, .. }) => prop_assert!(VERSION < found),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
