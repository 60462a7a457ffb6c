//! What `rkyv` makes of types is what their schemas say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;

use proptest::prelude::*;

use super::*;

crate::described! {
    /// One of each.
    #[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    pub(super) struct Everything {
        pub(super) flag: bool,
        pub(super) small: (i8, u8, i16, u16),
        pub(super) wide: (u128, i128, usize, isize),
        pub(super) floats: (f32, f64),
        pub(super) letter: char,
        pub(super) text: String,
        pub(super) bytes: Vec<u8>,
        pub(super) maybe: Option<Option<u64>>,
        pub(super) boxed: Box<Newtype>,
        pub(super) verdicts: Vec<Verdict>,
        pub(super) queue: VecDeque<(String, i32)>,
        pub(super) pair: [Option<String>; 2],
        pub(super) names: BTreeSet<String>,
        pub(super) prices: BTreeMap<u16, (u64, Vec<String>)>,
        pub(super) nothing: (),
    }
}

crate::described! {
    #[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    pub(super) struct Newtype(pub(super) u32, pub(super) u8);
}

crate::described! {
    #[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    pub(super) enum Verdict {
        Fine,
        Odd(u8, u64),
        /// With what it is based on.
        Fraud { score: f64, reason: String = String::new() },
    }
}

/// The value that a schema stored as bytes reads from an archive.
fn read_back<T: Describe + Record>(value: &T) -> T {
    let schema = Schema::decode(Schema::of::<T>().encode()).expect("it was just written");
    same(&schema).read(&value.archive()).expect("it was just archived")
}

fn check<T: Describe + Record + Debug + PartialEq>(value: &T) {
    assert_eq!(read_back(value), *value);
}

#[test]
fn values_are_read_as_they_were_archived() {
    for text in ["", "a", "1234567", "12345678", "123456789", "äöü", "\u{7f}\u{80}\u{7ff}"] {
        check(&text.to_string());
        check(&Some(vec![text.to_string(), "x".repeat(100)]));
    }
    for len in [62, 63, 64, 65, 255, 256, 1000, 70_000] {
        check(&"ä".repeat(len));
        check(&vec![7_u8; len]);
    }
    check(&(u64::MAX, i128::MIN, u128::MAX, i8::MIN));
    check(&(f32::MIN_POSITIVE, f64::MAX, f64::NEG_INFINITY));
    check(&vec![Verdict::Fine, Verdict::Odd(1, 2)]);
    check(&[[1_u32, 2], [3, 4]]);
    check::<[u64; 0]>(&[]);
    check(&Box::new(Some(Box::new(3_u8))));
    assert!(read_back(&f32::NAN).is_nan());
}

#[test]
fn maps_of_every_size_are_read() {
    for count in (0..50).chain([214, 215, 216, 217, 1295, 1296, 1297]) {
        check(&(0..count).map(|key| (key, key.to_string())).collect::<BTreeMap<u32, String>>());
        check(&(0..count).map(|key| (key as u8).to_string()).collect::<BTreeSet<String>>());
        check(&(0..count).map(|key| (key, (key % 2) as u8)).collect::<BTreeMap<u32, u8>>());
    }
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Fine),
        (any::<u8>(), any::<u64>()).prop_map(|(a, b)| Verdict::Odd(a, b)),
        (-1e9_f64..1e9, ".{0,12}").prop_map(|(score, reason)| Verdict::Fraud { score, reason }),
    ]
}

fn prices() -> impl Strategy<Value = BTreeMap<u16, (u64, Vec<String>)>> {
    let price = (any::<u64>(), prop::collection::vec(".{0,12}", 0..3));
    prop::collection::btree_map(any::<u16>(), price, 0..60)
}

prop_compose! {
    fn everything()(
        flag: bool,
        small: (i8, u8, i16, u16),
        (wide, sizes) in (any::<(u128, i128)>(), any::<(u32, i32)>()),
        floats in (-1e9_f32..1e9, -1e9_f64..1e9),
        letter: char,
        (text, bytes) in (".{0,12}", any::<Vec<u8>>()),
        maybe: Option<Option<u64>>,
        boxed: (u32, u8),
        verdicts in prop::collection::vec(verdict(), 0..8),
        queue in prop::collection::vec_deque((".{0,12}", any::<i32>()), 0..6),
        pair: [Option<String>; 2],
        (names, prices) in (prop::collection::btree_set(".{0,12}", 0..40), prices()),
    ) -> Everything {
        let wide = (wide.0, wide.1, sizes.0 as usize, sizes.1 as isize);
        let boxed = Box::new(Newtype(boxed.0, boxed.1));
        Everything {
            flag, small, wide, floats, letter, text, bytes, maybe, boxed, verdicts, queue, pair,
            names, prices, nothing: (),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any value of any type is read as it was archived.
    #[test]
    fn everything_is_read_as_it_was_archived(value in everything()) {
        prop_assert_eq!(read_back(&value), value);
    }
}

#[test]
fn an_archived_type_of_another_size_is_noticed() {
    #[derive(rkyv::Archive)]
    struct Liar(u64);

    impl Describe for Liar {
        fn shape(_: Depth) -> Shape {
            Shape::Number(Number::Unsigned(Width::Four))
        }

        fn build(_: Value) -> Option<Self> {
            Some(Self(0))
        }
    }
    let panic = std::panic::catch_unwind(Schema::of::<Liar>).expect_err("it is no u32");
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains("Liar is not archived as its definition says"), "{text}");
}

#[test]
fn what_has_no_end_or_no_size_is_refused() {
    type Deep = Option<Option<Option<Option<Option<Option<Option<Option<u8>>>>>>>>;
    type Deeper = Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Deep>>>>>>>>>>>>;
    type Deepest = Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Deeper>>>>>>>>>>>>;
    let message = |schema: fn() -> Schema| {
        let panic = std::panic::catch_unwind(schema).expect_err("it is refused");
        panic.downcast_ref::<String>().expect("a message").clone()
    };
    Schema::of::<Deeper>();
    assert!(message(Schema::of::<Deepest>).contains("is nested deeper than 32 types"));
    assert!(message(Schema::of::<Vec<()>>).contains("elements have no size"));
    assert!(message(Schema::of::<[u64; 1 << 28]>).contains("larger than an archive may be"));
}

#[test]
fn attributes_of_serde_stay_where_they_are() {
    crate::described! {
        #[derive(Debug, Clone, PartialEq, serde::Deserialize)]
        #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        #[serde(rename_all = "UPPERCASE")]
        struct Payment {
            /// In cents.
            #[serde(rename = "sum")]
            amount: u64,
            verdict: Judged = Judged::Odd { score: 1 },
        }
    }
    crate::described! {
        #[derive(Debug, Clone, PartialEq, serde::Deserialize)]
        #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        enum Judged {
            #[serde(rename = "ok")]
            #[serde(alias = "good")]
            Fine,
            Odd { #[serde(rename = "points")] score: u8 },
        }
    }
    let parse = |text| serde_json::from_str::<Payment>(text).expect("it has these names");
    let payment = Payment { amount: 7, verdict: Judged::Fine };
    assert_eq!(parse(r#"{"sum": 7, "VERDICT": "good"}"#), payment);
    let odd = Payment { amount: 7, verdict: Judged::Odd { score: 2 } };
    assert_eq!(parse(r#"{"sum": 7, "VERDICT": {"Odd": {"points": 2}}}"#), odd);
    check(&odd);
}

#[test]
fn shapes_are_written_as_in_rust() {
    let text = Schema::of::<(Vec<Option<u8>>, BTreeMap<char, [Verdict; 3]>, (Box<f32>,))>();
    assert_eq!(
        text.shape().to_string(),
        "(Vec<Option<u8>>, BTreeMap<char, [Verdict; 3]>, (Box<f32>,))"
    );
}
