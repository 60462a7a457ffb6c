//! Damaged and hostile bytes: an error that names the place, or the right answer; nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::types::{Everything, Newtype, Verdict};
use super::*;

pub(super) fn everything() -> Everything {
    Everything {
        flag: true,
        small: (-1, 2, -3, 4),
        wide: (1 << 100, -(1 << 90), 5, -6),
        floats: (0.5, -0.25),
        letter: 'ß',
        text: "a text of some length".to_string(),
        bytes: vec![1, 2, 3],
        maybe: Some(Some(7)),
        boxed: Box::new(Newtype(8, 9)),
        verdicts: vec![
            Verdict::Odd(1, 2),
            Verdict::Fraud { score: 0.75, reason: "too far away".to_string() },
            Verdict::Fine,
        ],
        queue: VecDeque::from([("short".to_string(), 1), ("not so short".to_string(), 2)]),
        pair: [None, Some("half".to_string())],
        names: BTreeSet::from(["ada".to_string(), "grace".to_string()]),
        prices: (0..12).map(|key| (key, (u64::from(key) << 40, vec![key.to_string()]))).collect(),
        nothing: (),
    }
}

/// `shape` with a header that is right.
fn with_header(shape: &[u8]) -> Vec<u8> {
    let mut bytes = Schema::of::<()>().encode()[..24].to_vec();
    bytes[20..].copy_from_slice(&(shape.len() as u32).to_le_bytes());
    bytes.extend_from_slice(shape);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    bytes
}

fn what(bytes: &[u8]) -> (usize, &'static str) {
    match Schema::decode(bytes) {
        Err(SchemaError::Corrupt { offset, what }) => (offset, what),
        other => panic!("{other:?} is not damage"),
    }
}

#[test]
fn every_flipped_byte_of_a_schema_is_noticed() {
    let mut bytes = Schema::of::<Everything>().encode().to_vec();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            let (offset, _) = what(&bytes);
            assert!(offset < bytes.len());
            bytes[at] ^= 1 << bit;
        }
    }
    assert!(Schema::decode(&bytes).is_ok());
}

#[test]
fn a_shorter_or_longer_schema_is_noticed() {
    let mut bytes = Schema::of::<Everything>().encode().to_vec();
    for len in 0..bytes.len() {
        what(&bytes[..len]);
    }
    bytes.push(0);
    what(&bytes);
}

/// Shapes that are cut off or go on too long, under a checksum that is right.
#[test]
fn a_shape_that_is_not_whole_is_noticed() {
    let bytes = Schema::of::<Everything>().encode().to_vec();
    let shape = &bytes[24..];
    for len in 0..shape.len() {
        let (offset, what) = what(&with_header(&shape[..len]));
        assert!(offset <= 24 + len && what.contains("cut off"), "{len}: {what}");
    }
    let longer = with_header(&[shape, &[0]].concat());
    assert_eq!(what(&longer), (bytes.len(), "something follows the shape"));
}

#[test]
fn hostile_shapes_are_refused() {
    let (option, vec, array, unit) = (40, 42, 43, 1);
    let deep = with_header(&vec![option; 60_000]);
    assert_eq!(what(&deep), (24 + 32, "shapes are nested too deep"));
    let large = [array, 0xff, 0xff, 0xff, 0x7f].repeat(20);
    let large = with_header(&[&large[..], &[2]].concat());
    assert_eq!(what(&large).1, "no value of this shape can be archived");
    assert_eq!(what(&with_header(&[vec, unit])).1, "no value of this shape can be archived");
    assert_eq!(what(&with_header(&[array, 9, 9, 9, 9, unit])).1, what(&large).1);
    for (shape, expected) in [
        (&[0][..], "there is no such shape"),
        (&[21], "there is no such shape"),
        (&[29], "there is no such shape"),
        (&[255], "there is no such shape"),
        (&[48, 0, 2, 0, 0], "fields are of no known form"),
        (&[48, 1, 0x80, 0, 0, 0], "a name is not text"),
        (&[48, 0, 0, 1, 0, 0, 0, 1], "a name is empty or there twice"),
        (&[48, 0, 0, 2, 0, 1, b'a', 0, 1, 1, b'a', 0, 1], "a name is empty or there twice"),
        (&[48, 0, 0, 1, 0, 1, b'a', 2, 1], "a field has an unknown flag"),
        (&[48, 0, 1, 0xff, 0xff], "the shape is cut off"),
        (&[49, 0, 0, 0], "an enum has no or too many variants"),
        (&[49, 0, 1, 1], "an enum has no or too many variants"),
        (&[49, 0, 2, 0, 1, b'A', 0, 0, 0, 1, b'A', 0, 0, 0], "a name is empty or there twice"),
    ] {
        assert_eq!(what(&with_header(shape)).1, expected, "{shape:?}");
    }
    let long = vec![0; 1 << 20];
    assert_eq!(what(&long), (0, "it is shorter or longer than a schema"));
}

#[test]
fn later_releases_are_named() {
    let header = |at: usize, number: u8| {
        let mut bytes = Schema::of::<u8>().encode().to_vec();
        bytes[at] = number;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..12]);
        crc.update(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
        Schema::decode(&bytes).expect_err("it is of a later release").to_string()
    };
    assert_eq!(header(8, 2), "the schema is of version 2, this release reads up to 1");
    let layout = "the schema is of values in layout 7, this release reads layout 1";
    assert_eq!(header(16, 7), layout);
    assert_eq!(header(8, 0), "the schema is corrupt at byte 8: there is no version 0");
}

/// `bytes` are read as the value that `rkyv` finds in them, or not at all.
fn check_value(migration: &Migration, bytes: &[u8]) {
    let mut aligned = rkyv::util::AlignedVec::<16>::new();
    aligned.extend_from_slice(bytes);
    let view = Everything::view(&aligned).map(Everything::unarchive);
    match (migration.read::<Everything>(bytes), view) {
        (Ok(read), Ok(viewed)) => {
            assert!(*read.archive() == *viewed.archive(), "{read:?} is not {viewed:?}");
        }
        (Err(damage), Ok(_)) => panic!("{damage} in what is whole"),
        (Err(damage), Err(_)) => assert!(damage.offset <= bytes.len()),
        // `rkyv` also asks where parts lie, which makes no difference to what is read.
        (Ok(_), Err(_)) => {}
    }
}

#[test]
fn a_flipped_byte_of_a_value_is_no_panic() {
    let migration = same(&Schema::of::<Everything>());
    let mut bytes = everything().archive().to_vec();
    check_value(&migration, &bytes);
    for at in 0..bytes.len() {
        for mask in [1, 0x40, 0x80, 0xff] {
            bytes[at] ^= mask;
            check_value(&migration, &bytes);
            bytes[at] ^= mask;
        }
    }
}

#[test]
fn a_shorter_value_is_no_panic() {
    let migration = same(&Schema::of::<Everything>());
    let bytes = everything().archive();
    for len in 0..bytes.len() {
        check_value(&migration, &bytes[..len]);
        check_value(&migration, &bytes[len..]);
    }
    let damage = migration.read::<Everything>(&[]).expect_err("it is empty");
    assert_eq!(damage, Damage { offset: 0, what: "it is shorter than the value" });
}

/// Vectors of vectors whose pointers all lead to the same place would be more and more values with
/// each level.
#[test]
fn parts_that_are_used_twice_are_refused() {
    type Nested = Vec<Vec<Vec<Vec<u8>>>>;
    let migration = same(&Schema::of::<Nested>());
    let count = 1000_u32;
    let level = 8 * count as usize;
    let mut bytes = vec![0; level * 3 + 8];
    for at in (0..bytes.len()).step_by(8) {
        let target = (at / level).saturating_sub(1) * level;
        let distance = target as i32 - at as i32;
        bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        bytes[at + 4..at + 8].copy_from_slice(&count.to_le_bytes());
    }
    let damage = migration.value(&bytes).expect_err("it is too much");
    assert_eq!(damage.what, "a part is larger than the archive");
}

/// A map whose inner node leads to itself.
#[test]
fn a_map_that_leads_to_itself_is_refused() {
    let map: BTreeMap<u8, u8> = (0..30).map(|key| (key, key)).collect();
    let migration = same(&Schema::of::<BTreeMap<u8, u8>>());
    let archive = map.archive();
    let root = archive.len() - 8;
    let distance = i32::from_le_bytes(archive[root..root + 4].try_into().expect("four bytes"));
    let node = root.strict_add_signed(distance as isize);
    for pointer in 0..6 {
        let mut bytes = archive.to_vec();
        let at = node + 12 + 4 * pointer;
        bytes[at..at + 4].copy_from_slice(&(node as i32 - at as i32).to_le_bytes());
        migration.value(&bytes).expect_err("it has no end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any bytes under a checksum that is right are refused, or are a schema that is written the
    /// same.
    #[test]
    fn any_shape_is_decoded_or_refused(
        shape in prop::collection::vec(prop_oneof![0_u8..50, any::<u8>()], 0..60),
    ) {
        let bytes = with_header(&shape);
        if let Ok(schema) = Schema::decode(&bytes) {
            prop_assert_eq!(encoding::encode(schema.shape()), Some(bytes));
        }
    }

    /// As above, of bytes that are nearly right.
    #[test]
    fn a_shape_that_was_changed_is_decoded_or_refused(at: prop::sample::Index, to: u8) {
        let mut shape = Schema::of::<Everything>().encode()[24..].to_vec();
        let at = at.index(shape.len());
        shape[at] = to;
        let bytes = with_header(&shape);
        if let Ok(schema) = Schema::decode(&bytes) {
            prop_assert_eq!(encoding::encode(schema.shape()), Some(bytes));
        }
    }

    /// Any bytes are read, or refused.
    #[test]
    fn any_value_is_read_or_refused(bytes: Vec<u8>, repeat in 0_usize..20) {
        check_value(&same(&Schema::of::<Everything>()), &bytes.repeat(repeat));
    }
}
