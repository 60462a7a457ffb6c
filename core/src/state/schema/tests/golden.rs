//! The released format: a schema of version 1, and a value of it, are read by every later release.

use super::damage::everything;
use super::types::Everything;
use super::*;

const SCHEMA_V1: &[u8] = include_bytes!("../../../../golden/schema_v1.bin");
const VALUE_V1: &[u8] = include_bytes!("../../../../golden/schema_v1_value.bin");

/// The shape in the file, part by part.
fn shape() -> Shape {
    let unsigned = |width| Shape::Number(Number::Unsigned(width));
    let signed = |width| Shape::Number(Number::Signed(width));
    let boxed = |shape: Shape| Box::new(shape);
    let field = |name: &str, shape| Field { name: name.to_string(), shape, has_default: false };
    let strings = Shape::Vec(boxed(Shape::Text));
    let verdict = Shape::Enum {
        name: "Verdict".to_string(),
        variants: vec![
            Variant { name: "Fine".to_string(), fields: Fields::Named(vec![]) },
            Variant {
                name: "Odd".to_string(),
                fields: Fields::Positional(vec![unsigned(Width::One), unsigned(Width::Eight)]),
            },
            Variant {
                name: "Fraud".to_string(),
                fields: Fields::Named(vec![
                    field("score", Shape::Number(Number::F64)),
                    Field { has_default: true, ..field("reason", Shape::Text) },
                ]),
            },
        ],
    };
    let newtype = Shape::Struct {
        name: "Newtype".to_string(),
        fields: Fields::Positional(vec![unsigned(Width::Four), unsigned(Width::One)]),
    };
    let (one, two) = (Width::One, Width::Two);
    let small = [signed(one), unsigned(one), signed(two), unsigned(two)];
    let (four, sixteen) = (Width::Four, Width::Sixteen);
    let wide = [unsigned(sixteen), signed(sixteen), unsigned(four), signed(four)];
    let floats = [Shape::Number(Number::F32), Shape::Number(Number::F64)];
    let price = Shape::tuple(vec![unsigned(Width::Eight), strings]);
    let maybe = Shape::Option(boxed(Shape::Option(boxed(unsigned(Width::Eight)))));
    let queued = Shape::tuple(vec![Shape::Text, signed(Width::Four)]);
    Shape::Struct {
        name: "Everything".to_string(),
        fields: Fields::Named(vec![
            field("flag", Shape::Bool),
            field("small", Shape::tuple(small.to_vec())),
            field("wide", Shape::tuple(wide.to_vec())),
            field("floats", Shape::tuple(floats.to_vec())),
            field("letter", Shape::Char),
            field("text", Shape::Text),
            field("bytes", Shape::Vec(boxed(unsigned(Width::One)))),
            field("maybe", maybe),
            field("boxed", Shape::Boxed(boxed(newtype))),
            field("verdicts", Shape::Vec(boxed(verdict))),
            field("queue", Shape::Vec(boxed(queued))),
            field("pair", Shape::Array(boxed(Shape::Option(boxed(Shape::Text))), 2)),
            field("names", Shape::Set(boxed(Shape::Text))),
            field("prices", Shape::Map(boxed(unsigned(Width::Two)), boxed(price))),
            field("nothing", Shape::Unit),
        ]),
    }
}

#[test]
fn a_schema_of_version_1_is_read() {
    let schema = Schema::decode(SCHEMA_V1).expect("it is whole");
    assert_eq!(schema.shape(), &shape());
    let value: Everything = same(&schema).read(VALUE_V1).expect("it is whole");
    assert_eq!(value, everything());
}

/// Readers of version 1 are out there: other bytes need another version, or another layout.
#[test]
fn the_same_bytes_are_written() {
    assert!(Schema::of::<Everything>().encode() == SCHEMA_V1, "other bytes than version 1");
    assert!(everything().archive().as_slice() == VALUE_V1, "other archives than layout 1");
}

#[test]
fn the_example_of_the_format_page_is_true() {
    crate::described! {
        #[derive(Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        struct Card {
            limit: u64,
            countries: Vec<String> = Vec::new(),
        }
    }
    let page = include_str!("../../../../../docs/formats/schema.md");
    let (_, table) = page.split_once("# An example").expect("the page has it");
    let rows = table.lines().filter_map(|line| line.strip_prefix("│ ")?.split_once('│'));
    let hex = rows.flat_map(|(hex, _)| hex.split_whitespace());
    let bytes: Vec<u8> =
        hex.map(|byte| u8::from_str_radix(byte, 16).expect("two digits")).collect();
    assert_eq!(bytes, Schema::of::<Card>().encode());
}
