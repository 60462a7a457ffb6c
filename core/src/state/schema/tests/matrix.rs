//! Every kind of change, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use super::*;

/// What becomes of `value`: what it is read as, and in parentheses what has changed; or why it
/// cannot be.
fn outcome<Old: Describe + Record, New: Describe + Debug>(value: &Old) -> String {
    let (old, new) = (Schema::of::<Old>(), Schema::of::<New>());
    match compatibility(&old, &new) {
        Ok(migration) => {
            let new: New = migration.read(&value.archive()).expect("the archive is whole");
            let changes = migration.changes().iter().map(ToString::to_string);
            let changes: Vec<String> = changes.collect();
            let text = format!("{new:?}");
            if changes.is_empty() { text } else { format!("{text} ({})", changes.join("; ")) }
        }
        Err(diff) => {
            let text = diff.to_string();
            let advice = "; write a migration or choose another uid";
            assert!(text.lines().all(|line| line.ends_with(advice)), "{text}");
            text.replace(advice, "").replace('\n', "; ")
        }
    }
}

/// The outcome for types that are defined on the spot.
macro_rules! change {
    ($value:expr => $new:ty, $([$($item:tt)*]),+) => {{
        $(crate::described! {
            #[derive(Debug, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
            $($item)*
        })+
        outcome::<_, $new>(&$value)
    }};
}

/// As [`change!`], of types that can be keys.
macro_rules! change_of_key {
    ($value:expr => $new:ty, $([$($item:tt)*]),+) => {{
        $(crate::described! {
            #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
            #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
            #[rkyv(derive(PartialEq, Eq, PartialOrd, Ord))]
            $($item)*
        })+
        outcome::<_, $new>(&$value)
    }};
}

/// A change, and what comes of it.
type Case = (&'static str, fn() -> String, &'static str);

const NUMBERS: &[Case] = &[
    ("the same number", || outcome::<u64, u64>(&7), "7"),
    ("u8 to u16", || outcome::<u8, u16>(&255), "255 (the value: u8 -> u16, widened)"),
    ("u32 to u128", || outcome::<u32, u128>(&7), "7 (the value: u32 -> u128, widened)"),
    ("i8 to i64", || outcome::<i8, i64>(&-7), "-7 (the value: i8 -> i64, widened)"),
    ("i64 to i128", || outcome::<i64, i128>(&-7), "-7 (the value: i64 -> i128, widened)"),
    (
        "a sign, with room for it",
        || outcome::<u32, i64>(&u32::MAX),
        "4294967295 (the value: u32 -> i64, widened)",
    ),
    ("a sign without", || outcome::<u32, i32>(&7), "the value: u32 -> i32, not a widening"),
    ("no sign", || outcome::<i32, u64>(&7), "the value: i32 -> u64, not a widening"),
    ("narrower", || outcome::<i64, i32>(&7), "the value: i64 -> i32, not a widening"),
    ("f32 to f64", || outcome::<f32, f64>(&0.5), "0.5 (the value: f32 -> f64, widened)"),
    ("f64 to f32", || outcome::<f64, f32>(&0.5), "the value: f64 -> f32, not a widening"),
    ("a float", || outcome::<i32, f64>(&7), "the value: i32 -> f64, not a widening"),
    ("an integer", || outcome::<f32, i64>(&7.0), "the value: f32 -> i64, not a widening"),
    ("sizes are of 32 bits", || outcome::<usize, u32>(&7), "7"),
];

const TYPES: &[Case] = &[
    ("a number of a truth", || outcome::<bool, u8>(&true), "the value: bool -> u8, another type"),
    (
        "a text of a character",
        || outcome::<char, String>(&'a'),
        "the value: char -> String, another type",
    ),
    (
        "bytes of a text",
        || outcome::<String, Vec<u8>>(&String::new()),
        "the value: String -> Vec<u8>, another type",
    ),
    (
        "an option",
        || outcome::<u8, Option<u8>>(&7),
        "Some(7) (the value: u8 -> Option<u8>, values become Some)",
    ),
    (
        "a wider option",
        || outcome::<Option<u8>, Option<u32>>(&Some(7)),
        "Some(7) (the value: u8 -> u32, widened)",
    ),
    (
        "no option",
        || outcome::<Option<u8>, u8>(&Some(7)),
        "the value: Option<u8> -> u8, and values may be None",
    ),
    ("a box", || outcome::<u8, Box<u8>>(&7), "7"),
    (
        "no box, and an option",
        || outcome::<Box<u8>, Option<u8>>(&Box::new(7)),
        "Some(7) (the value: u8 -> Option<u8>, values become Some)",
    ),
    (
        "another box",
        || outcome::<Box<u8>, Box<u16>>(&Box::new(7)),
        "7 (the value: u8 -> u16, widened)",
    ),
    (
        "wider elements",
        || outcome::<Vec<u8>, Vec<u16>>(&vec![1, 2]),
        "[1, 2] (field []: u8 -> u16, widened)",
    ),
    (
        "narrower elements",
        || outcome::<Vec<u16>, Vec<u8>>(&vec![1]),
        "field []: u16 -> u8, not a widening",
    ),
    (
        "a wider array",
        || outcome::<[i8; 2], [i16; 2]>(&[1, 2]),
        "[1, 2] (field []: i8 -> i16, widened)",
    ),
    (
        "a longer array",
        || outcome::<[u8; 2], [u8; 3]>(&[1, 2]),
        "the value: [u8; 2] -> [u8; 3], another length",
    ),
    (
        "a vector of an array",
        || outcome::<[u8; 2], Vec<u8>>(&[1, 2]),
        "the value: [u8; 2] -> Vec<u8>, another type",
    ),
    (
        "a wider element of a tuple",
        || outcome::<(u8, bool), (u32, bool)>(&(7, true)),
        "(7, true) (field 0: u8 -> u32, widened)",
    ),
    (
        "a longer tuple",
        || outcome::<(u8, u8), (u8, u8, u8)>(&(1, 2)),
        "the value: (u8, u8) -> (u8, u8, u8), and places are no names to go by",
    ),
    (
        "a wider key",
        || outcome::<BTreeMap<u8, u8>, BTreeMap<u16, u8>>(&BTreeMap::from([(1, 2)])),
        "{1: 2} (field {key}: u8 -> u16, widened)",
    ),
    (
        "a wider value of a map",
        || outcome::<BTreeMap<u8, u8>, BTreeMap<u8, u16>>(&BTreeMap::from([(1, 2)])),
        "{1: 2} (field {value}: u8 -> u16, widened)",
    ),
    (
        "a map with other keys and values",
        || outcome::<BTreeMap<u8, u8>, BTreeMap<i8, bool>>(&BTreeMap::new()),
        "field {key}: u8 -> i8, not a widening; field {value}: u8 -> bool, another type",
    ),
    (
        "a wider set",
        || outcome::<BTreeSet<u8>, BTreeSet<u16>>(&BTreeSet::from([3, 1])),
        "{1, 3} (field {key}: u8 -> u16, widened)",
    ),
    (
        "a vector of a set",
        || outcome::<BTreeSet<u8>, Vec<u8>>(&BTreeSet::new()),
        "the value: BTreeSet<u8> -> Vec<u8>, another type",
    ),
];

const FIELDS: &[Case] = &[
    (
        "another order",
        || {
            change!(
                Old { a: 1, b: 2 } => New,
                [struct Old { a: u8, b: u64 }], [struct New { b: u64, a: u8 }]
            )
        },
        "New { b: 2, a: 1 }",
    ),
    (
        "a field added with a default",
        || change!(Old { a: 1 } => New, [struct Old { a: u8 }], [struct New { b: u64 = 9, a: u8 }]),
        "New { b: 9, a: 1 } (field b: added, older values get its default)",
    ),
    (
        "a field added without one",
        || {
            change!(
                Old { a: 1 } => New,
                [struct Old { a: u8 }], [struct New { a: u8, b: Option<u64> }]
            )
        },
        "field b: Option<u64> added without a default",
    ),
    (
        "a field removed",
        || {
            change!(
                Old { a: 1, b: "gone".to_string() } => New,
                [struct Old { b: String, a: u8 }], [struct New { a: u8 }]
            )
        },
        "New { a: 1 } (field b: removed, what it held is dropped)",
    ),
    (
        "a field renamed",
        || change!(Old { a: 1 } => New, [struct Old { a: u8 }], [struct New { b: u8 }]),
        "field b: u8 added without a default",
    ),
    (
        "a field of the same place and another name",
        || change!(Old { a: 1 } => New, [struct Old { a: u8 }], [struct New { b: u8 = 3 }]),
        "New { b: 3 } (field b: added, older values get its default; field a: removed, what it \
         held is dropped)",
    ),
    (
        "all at once",
        || {
            change!(
                Old { gone: true, cents: 7, name: "ada".to_string() } => New,
                [struct Old { gone: bool, cents: u32, name: String }],
                [struct New { name: Option<String>, added: Vec<u8> = vec![4], cents: i64 }]
            )
        },
        "New { name: Some(\"ada\"), added: [4], cents: 7 } (field name: String -> Option<String>, \
         values become Some; field added: added, older values get its default; field cents: u32 \
         -> i64, widened; field gone: removed, what it held is dropped)",
    ),
    (
        "another type of a field",
        || {
            change!(
                Old { amount: 1 } => New,
                [struct Old { amount: i64 }], [struct New { amount: f32 }]
            )
        },
        "field amount: i64 -> f32, not a widening",
    ),
    (
        "every difference is named",
        || {
            change!(
                Old { a: 1, b: 2, c: 3 } => New,
                [struct Old { a: i64, b: u8, c: u8 }],
                [struct New { a: f32, b: String, c: u8, d: u8 }]
            )
        },
        "field a: i64 -> f32, not a widening; field b: u8 -> String, another type; field d: u8 \
         added without a default",
    ),
    (
        "a default of a field that was there",
        || change!(Old { a: 1 } => New, [struct Old { a: u8 }], [struct New { a: u8 = 5 }]),
        "New { a: 1 }",
    ),
    (
        "within a struct of a vector of an option",
        || {
            change!(
                Old { items: Some(vec![OldItem { price: 3 }]) } => New,
                [struct OldItem { price: u16 }], [struct Old { items: Option<Vec<OldItem>> }],
                [struct NewItem { price: u32, count: u8 = 1 }],
                [struct New { items: Option<Vec<NewItem>> }]
            )
        },
        "New { items: Some([NewItem { price: 3, count: 1 }]) } (field items[].price: u16 -> u32, \
         widened; field items[].count: added, older values get its default)",
    ),
    (
        "a difference deep within",
        || {
            change!(
                Old { items: BTreeMap::from([(1, vec![OldItem { price: 3 }])]) } => New,
                [struct OldItem { price: u16 }], [struct Old { items: BTreeMap<u8, Vec<OldItem>> }],
                [struct NewItem { price: u8 }], [struct New { items: BTreeMap<u8, Vec<NewItem>> }]
            )
        },
        "field items{value}[].price: u16 -> u8, not a widening",
    ),
    (
        "a tuple struct of a tuple",
        || {
            change!(
                Old { id: (7, 8) } => New,
                [struct Old { id: (u32, u8) }], [struct Id(u32, u8);], [struct New { id: Id }]
            )
        },
        "New { id: Id(7, 8) }",
    ),
    (
        "a tuple struct of a number",
        || {
            change!(
                Old { id: 7 } => New,
                [struct Old { id: u32 }], [struct Id(u32);], [struct New { id: Id }]
            )
        },
        "field id: u32 -> Id, another type",
    ),
    (
        "names for the fields of a tuple",
        || change!(Old(1) => New, [struct Old(u8);], [struct New { a: u8 }]),
        "the value: (u8,) -> { a: u8 }, and places are no names to go by",
    ),
    (
        "no fields left, and from none",
        || change!(Old { a: 1 } => New, [struct Old { a: u8 }], [struct New {}]),
        "New (field a: removed, what it held is dropped)",
    ),
];

const ENUMS: &[Case] = &[
    (
        "a variant added before the others",
        || change!(Old::B(7) => New, [enum Old { A, B(u8) }], [enum New { C, A, B(u8) }]),
        "B(7)",
    ),
    (
        "variants in another order",
        || change!(Old::A => New, [enum Old { A, B }], [enum New { B, A }]),
        "A",
    ),
    (
        "a variant removed",
        || change!(Old::A => New, [enum Old { A, B(u8) }], [enum New { A }]),
        "variant B: removed, and values may have it",
    ),
    (
        "a variant renamed",
        || change!(Old::A => New, [enum Old { A, B }], [enum New { A, C }]),
        "variant B: removed, and values may have it",
    ),
    (
        "a wider field of a variant",
        || change!(Old::A(7) => New, [enum Old { A(u8) }], [enum New { A(u64) }]),
        "A(7) (field A.0: u8 -> u64, widened)",
    ),
    (
        "a field of a variant added with a default",
        || {
            change!(
                Old::A { a: 7 } => New,
                [enum Old { A { a: u8 }, B }],
                [enum New { B { c: u8 = 4 }, A { b: u8 = 3, a: u8 } }]
            )
        },
        "A { b: 3, a: 7 } (field A.b: added, older values get its default; field B.c: added, \
         older values get its default)",
    ),
    (
        "a variant that gets its first fields",
        || change!(Old::B => New, [enum Old { A, B }], [enum New { A, B { c: u8 = 4 } }]),
        "B { c: 4 } (field B.c: added, older values get its default)",
    ),
    (
        "a field of a variant removed",
        || {
            change!(
                Old::A { a: 7, b: 8 } => New,
                [enum Old { A { a: u64, b: u8 } }], [enum New { A { b: u8 } }]
            )
        },
        "A { b: 8 } (field A.a: removed, what it held is dropped)",
    ),
    (
        "a variant of a tuple that gets longer",
        || change!(Old::A(7) => New, [enum Old { A(u8) }], [enum New { A(u8, u8) }]),
        "variant A: (u8,) -> (u8, u8), and places are no names to go by",
    ),
    (
        "within a field",
        || {
            change!(
                Old { kind: Some(OldKind::Paid { cents: -7 }) } => New,
                [enum OldKind { Paid { cents: i32 } }], [struct Old { kind: Option<OldKind> }],
                [enum NewKind { Due, Paid { cents: u32 } }], [struct New { kind: Option<NewKind> }]
            )
        },
        "field kind::Paid.cents: i32 -> u32, not a widening",
    ),
    (
        "a struct of an enum",
        || {
            change!(
                Old { kind: Kind::A } => New,
                [enum Kind { A }], [struct Old { kind: Kind }],
                [struct Other {}], [struct New { kind: Other }]
            )
        },
        "field kind: Kind -> Other, another type",
    ),
];

const KEYS: &[Case] = &[
    (
        "a field of a key added with a default",
        || {
            change_of_key!(
                BTreeMap::from([(OldKey { a: 1 }, 2_u8)]) => BTreeMap<NewKey, u8>,
                [struct OldKey { a: u8 }], [struct NewKey { b: u8 = 4, a: u8 }]
            )
        },
        "{NewKey { b: 4, a: 1 }: 2} (field {key}.b: added, older values get its default)",
    ),
    (
        "a field of a key removed",
        || {
            change_of_key!(
                BTreeMap::from([(OldKey { a: 1, b: 2 }, 3_u8)]) => BTreeMap<NewKey, u8>,
                [struct OldKey { a: u8, b: u8 }], [struct NewKey { a: u8 }]
            )
        },
        "field {key}.b: removed from a key, so that keys could become equal",
    ),
    (
        "a field within an element of a set removed",
        || {
            change_of_key!(
                BTreeSet::from([OldKey { a: vec![Part { x: 1 }] }]) => BTreeSet<NewKey>,
                [struct Part { x: u8 }], [struct OldKey { a: Vec<Part> }],
                [struct NewPart { y: u8 = 1 }], [struct NewKey { a: Vec<NewPart> }]
            )
        },
        "field {key}.a[].x: removed from a key, so that keys could become equal",
    ),
    (
        "a field of a value removed",
        || {
            change_of_key!(
                BTreeMap::from([(1_u8, Old { a: 1, b: 2 })]) => BTreeMap<u8, New>,
                [struct Old { a: u8, b: u8 }], [struct New { b: u8 }]
            )
        },
        "{1: New { b: 2 }} (field {value}.a: removed, what it held is dropped)",
    ),
];

#[test]
fn every_change_has_its_outcome() {
    let cases: Vec<&Case> = [NUMBERS, TYPES, FIELDS, ENUMS, KEYS].into_iter().flatten().collect();
    assert!(30 <= cases.len());
    for (name, outcome, expected) in cases {
        assert_eq!(outcome(), *expected, "{name}");
    }
}

#[test]
fn archives_are_the_same_where_only_names_of_types_and_defaults_differ() {
    crate::described! {
        #[derive(Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        struct Payment {
            card: u64,
            fee: Option<u32>,
        }
    }
    crate::described! {
        #[derive(Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        struct Renamed {
            card: u64,
            fee: Option<u32> = None,
        }
    }
    crate::described! {
        #[derive(Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        struct Reordered {
            fee: Option<u32>,
            card: u64,
        }
    }
    let payment = Schema::of::<Payment>();
    let to = |new: Schema| compatibility(&payment, &new).expect("all fields are there");
    assert!(to(Schema::of::<Renamed>()).is_identity());
    assert!(!to(Schema::of::<Reordered>()).is_identity());
    assert_ne!(payment.encode(), Schema::of::<Renamed>().encode());
}
