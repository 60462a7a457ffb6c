//! Records, headers, quotes and everything that can be wrong with them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;

use super::super::line::too_long as too_long_fault;
use super::*;
use crate::limits::LINE_BYTES_MAX;

#[derive(Debug, PartialEq, Deserialize)]
struct Payment {
    id: u32,
    card: String,
    amount: f64,
    note: Option<String>,
}

fn payment(id: u32, card: &str, amount: f64, note: Option<&str>) -> Payment {
    Payment { id, card: card.to_string(), amount, note: note.map(ToString::to_string) }
}

/// Everything that `format` makes of `bytes`: records, or what is wrong with one and its line.
fn read<T: DeserializeOwned + 'static>(
    format: &CsvFormat<T>,
    bytes: &[u8],
) -> Vec<Result<T, String>> {
    let mut decoder = format.decoder();
    let mut found = Vec::new();
    let (mut at, mut line) = match decoder.header(bytes, true) {
        Header::Read(taken) => (taken.bytes, 1 + taken.lines),
        Header::Wrong(fault, before) => {
            let line = 1 + before.lines;
            return vec![Err(format!("header {line}{}: {}", fault.spot, fault.reason))];
        }
        Header::More => panic!("there is no more"),
    };
    while at < bytes.len() {
        let taken = match decoder.decode(&bytes[at..], true) {
            Decoded::Record(record, taken) => {
                found.push(Ok(record));
                taken
            }
            Decoded::Bad(fault, taken) => {
                found.push(Err(format!("{line}{}: {}", fault.spot, fault.reason)));
                taken
            }
            Decoded::Nothing(taken) => taken,
            Decoded::More => panic!("there is no more"),
        };
        assert!(taken.bytes > 0, "it goes on");
        at += taken.bytes;
        line += taken.lines;
    }
    found
}

fn check<T: DeserializeOwned + PartialEq + std::fmt::Debug + 'static>(
    text: &str,
    expected: Vec<Result<T, &str>>,
) {
    let expected: Vec<_> = expected.into_iter().map(|r| r.map_err(ToString::to_string)).collect();
    assert_eq!(read(&CsvFormat::<T>::default(), text.as_bytes()), expected);
}

#[test]
fn columns_are_found_by_name_in_any_order() {
    check(
        "amount,extra,id,card,note\n1.5,x,7,4711,hi\n2,,8,,\n",
        vec![Ok(payment(7, "4711", 1.5, Some("hi"))), Ok(payment(8, "", 2.0, None))],
    );
}

#[test]
fn quotes_hide_delimiters_line_breaks_and_quotes() {
    check(
        "id,card,amount,note\r\n1,\"4,7\",1,\"two\nlines, \"\"quoted\"\"\"\r\n2,b,2,\"\"\r\n",
        vec![
            Ok(payment(1, "4,7", 1.0, Some("two\nlines, \"quoted\""))),
            Ok(payment(2, "b", 2.0, None)),
        ],
    );
}

#[test]
fn a_quote_inside_an_unquoted_field_is_text() {
    check("id,card,amount,note\n1,4\"7\",1,x\n", vec![Ok(payment(1, "4\"7\"", 1.0, Some("x")))]);
}

#[test]
fn a_return_before_the_line_end_is_no_text() {
    check("id,card,amount,note\n1,\"a\",1,\"b\"\r\n", vec![Ok(payment(1, "a", 1.0, Some("b")))]);
    check(
        "id,card,amount,note\n1,\"a\",1,\"b\r\"\r\n",
        vec![Ok(payment(1, "a", 1.0, Some("b\r")))],
    );
    check("id,card,amount,note\n1,a,1,b", vec![Ok(payment(1, "a", 1.0, Some("b")))]);
    check("id,card,amount,note\n1,\"a\",1,\"b\"", vec![Ok(payment(1, "a", 1.0, Some("b")))]);
}

#[test]
fn blank_lines_are_nothing() {
    check(
        "\n\r\nid,card,amount,note\n\n1,a,1,b\r\n\r\n",
        vec![Ok(payment(1, "a", 1.0, Some("b")))],
    );
    check::<Payment>("", vec![]);
    check::<Payment>("\n\n", vec![]);
    check::<Payment>("id,card,amount,note\n", vec![]);
}

#[test]
fn a_bad_value_is_named_with_its_line_and_column() {
    check(
        "id,card,amount,note\n1,a,1,b\n2,\"x\ny\",abc,\n-3,c,1,d\n4294967296,e,,f\n5,f,,g\n",
        vec![
            Ok(payment(1, "a", 1.0, Some("b"))),
            Err("3, column 3 (amount): 'abc' is not a number"),
            Err("5, column 1 (id): '-3' does not fit; a whole number from 0 to 4294967295 is \
                 expected"),
            Err(
                "6, column 1 (id): '4294967296' does not fit; a whole number from 0 to 4294967295 \
                 is expected",
            ),
            Err("7, column 3 (amount): the field is empty; a number is expected"),
        ],
    );
}

#[test]
fn a_record_with_other_fields_than_the_header_is_bad() {
    check::<Payment>(
        "id,card,amount,note\n1,a\n2,a,3,4,5\n",
        vec![
            Err("2: 2 fields where the header has 4 (id, card, amount, note)"),
            Err("3: 5 fields where the header has 4 (id, card, amount, note); put fields that \
                 hold the delimiter in quotes"),
        ],
    );
}

#[test]
fn a_quote_that_is_never_closed_costs_its_line_only() {
    let expected = format!(
        "2: a quote that is opened in this line is not closed, neither before the end nor within \
         {LINE_BYTES_MAX} bytes; close it, or double it if it is text"
    );
    check(
        "id,card,amount,note\n1,\"a,1,b\n2,a,1,b\n3,a,1,b\n",
        vec![
            Err(expected.as_str()),
            Ok(payment(2, "a", 1.0, Some("b"))),
            Ok(payment(3, "a", 1.0, Some("b"))),
        ],
    );
}

#[test]
fn a_number_that_is_too_large_for_its_type_does_not_fit() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Measured {
        small: f32,
        large: f64,
    }
    let fits = |small, large| Ok(Measured { small, large });
    check(
        "small,large\n1e38,-1e308\n1e39,1\n1,-1e999\n-inf,infinity\n",
        vec![
            fits(1e38, -1e308),
            Err("3, column 1 (small): '1e39' does not fit; a number from -3.4028235e38 to \
                 3.4028235e38 is expected"),
            Err("4, column 2 (large): '-1e999' does not fit; a number from \
                 -1.7976931348623157e308 to 1.7976931348623157e308 is expected"),
            fits(f32::NEG_INFINITY, f64::INFINITY),
        ],
    );
}

#[test]
fn a_return_behind_the_last_quote_is_no_text() {
    check::<(String, String)>("a,b\n\"1\",\"2\"\r", vec![Ok(("1".into(), "2".into()))]);
}

#[test]
fn a_record_with_quotes_is_no_longer_than_a_line_may_be() {
    let too_long = "x\n".repeat(LINE_BYTES_MAX / 2 + 1);
    let text = format!("a\n\"{too_long}\"\n\"ok\"\n");
    let found = read(&CsvFormat::<(String,)>::default(), text.as_bytes());
    let reason = format!("2: {}", too_long_fault().reason);
    assert_eq!(found, [Err(reason), Ok(("ok".to_string(),))]);
}

#[test]
fn mistakes_in_the_settings_are_found_before_anything_is_read() {
    let columns = ["id", "card", "id", "amount", "note"];
    let format = CsvFormat::<Payment>::default().columns(columns).delimiter(b'"');
    assert_eq!(
        format.problems(),
        [
            "0x22 cannot separate fields; use an ASCII character such as ,",
            "the columns 1 and 3 are both called 'id'; rename one of them"
        ]
    );
    let unused_twice = ["id", "-", "card", "-", "amount"];
    let format = CsvFormat::<Payment>::default().columns(unused_twice);
    assert_eq!(format.problems(), Vec::<String>::new(), "nobody asks for those");
    let format = CsvFormat::<Payment>::default().columns(["id", "card"]);
    assert!(format.problems()[0].starts_with("there is no column 'amount'"));
    let format = CsvFormat::<Payment>::default().columns(Vec::<String>::new());
    assert_eq!(format.problems(), ["there are no columns; give their names to .columns(..)"]);
    assert_eq!(CsvFormat::<Payment>::default().delimiter(0xe4).problems().len(), 1);
}

#[test]
fn a_missing_column_is_found_in_the_header() {
    check::<Payment>(
        "id,card,amonut,note\n1,a,1,b\n2,a,1,b\n",
        vec![Err(
            "header 1: there is no column 'amount'; the columns are id, card, amonut, note; \
                  rename one of them or the record's field, or make the field an Option (if the \
                  file has no header, give the names with .columns(..))",
        )],
    );
}

#[test]
fn an_optional_column_may_be_missing() {
    check(
        "card,id,amount\na,1,2\nb,x,1\n",
        vec![Ok(payment(1, "a", 2.0, None)), Err("3, column 2 (id): 'x' is not a whole number")],
    );
}

#[test]
fn a_column_that_is_used_must_not_be_there_twice() {
    check::<Payment>(
        "id,card,amount,note,card\n1,a,1,b,c\n",
        vec![Err("header 1: the columns 2 and 5 are both called 'card'; rename one of them")],
    );
    check("id,x,card,amount,note,x\n1,2,a,1,b,3\n", vec![Ok(payment(1, "a", 1.0, Some("b")))]);
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    id: u32,
}

#[test]
fn a_strict_type_refuses_other_columns() {
    check::<Strict>(
        "id,x\n1,2\n",
        vec![Err(
            "header 1: the record type has no field for the column 'x'; remove the column, or \
                  let the type ignore it",
        )],
    );
}

#[derive(Debug, PartialEq, Deserialize)]
struct Lenient {
    #[serde(alias = "number")]
    id: u32,
    #[serde(default)]
    count: u64,
    #[serde(default, rename = "Kind")]
    kind: Kind,
    #[serde(flatten)]
    rest: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Default, Deserialize)]
enum Kind {
    #[default]
    Small,
    Large,
}

#[test]
fn aliases_defaults_enums_and_flattened_maps_work() {
    let rest = |text: &str| BTreeMap::from([("x".to_string(), text.to_string())]);
    check(
        "number,Kind,x\n1,Large,y\n2,Huge,z\n",
        vec![
            Ok(Lenient { id: 1, count: 0, kind: Kind::Large, rest: rest("y") }),
            Err("3, column 2 (Kind): 'Huge' is not one of Small, Large"),
        ],
    );
}

#[derive(Debug, PartialEq, Deserialize)]
struct Aliased {
    #[serde(alias = "a")]
    b: u32,
    c: u32,
}

#[test]
fn an_alias_does_not_move_the_other_fields() {
    check("a,c\n1,2\n", vec![Ok(Aliased { b: 1, c: 2 })]);
    check("c,b\n1,2\n", vec![Ok(Aliased { b: 2, c: 1 })]);
    check::<Aliased>("a,b,c\n1,2,3\n", vec![Err("2: duplicate field `b`")]);
}

#[derive(Debug, PartialEq, Deserialize)]
struct Nested {
    id: u32,
    of: Strict,
}

#[test]
fn tuples_maps_and_single_values_are_records_too() {
    check("a,b\n1,x\n", vec![Ok((1_u8, "x".to_string()))]);
    check("a\n1\n2\n", vec![Ok(1_u8), Ok(2)]);
    check(
        "a,b\n1,x\n",
        vec![Ok(BTreeMap::from([
            ("a".to_string(), "1".to_string()),
            ("b".to_string(), "x".to_string()),
        ]))],
    );
    check::<u8>(
        "a,b\n1,2\n",
        vec![Err(
            "2: the record type is a single value, but there are several columns; use a struct",
        )],
    );
    check::<Nested>(
        "id,of\n1,2\n",
        vec![Err(
            "2, column 2 (of): a CSV field holds a single value; the record's field is a structure \
         or list",
        )],
    );
}

#[derive(Debug, PartialEq, Deserialize)]
struct Mixed {
    flag: bool,
    letter: char,
    small: i8,
    real: Option<f32>,
}

#[test]
fn truth_values_characters_and_signs_are_read() {
    check(
        "flag,letter,small,real\nTRUE, ,-128, 1.5 \nmaybe,x,1,1\nfalse,xy,1,1\nfalse,x,-129,1\n\
         false,x,1,NA\n",
        vec![
            Ok(Mixed { flag: true, letter: ' ', small: -128, real: Some(1.5) }),
            Err("3, column 1 (flag): 'maybe' is not true or false"),
            Err("4, column 2 (letter): 'xy' is not a single character"),
            Err("5, column 3 (small): '-129' does not fit; a whole number from -128 to 127 is \
                 expected"),
            Err("6, column 4 (real): 'NA' is not a number"),
        ],
    );
    let with_null = CsvFormat::<Mixed>::default().null_text("NA");
    let expected = Mixed { flag: false, letter: 'x', small: 1, real: None };
    assert_eq!(read(&with_null, b"flag,letter,small,real\nfalse,x,1,NA\n"), [Ok(expected)]);
}

#[test]
fn a_file_without_header_and_another_delimiter_can_be_described() {
    let format =
        CsvFormat::<Payment>::default().columns(["id", "card", "amount", "note"]).delimiter(b';');
    assert_eq!(read(&format, b"1;a,b;2;\n"), [Ok(payment(1, "a,b", 2.0, None))]);
    assert!(format.problems().is_empty());
    assert_eq!(
        format.delimiter(b'"').problems(),
        ["0x22 cannot separate fields; use an ASCII character such as ,"]
    );
}

#[test]
fn bytes_that_are_not_utf8_are_named_in_quotes_and_without() {
    let reason = "is not UTF-8; save the file as UTF-8";
    let found = read(
        &CsvFormat::<Payment>::default(),
        b"id,card,amount,note\n1,\xff,1,x\n2,\"\xc3\",1,x\n\
          3,a,1,\"\xc3\"\n4,\"\xc3\",\xa9,1\n5,\xc3\xa9,1,\n",
    );
    assert_eq!(found[0], Err(format!("2, character 3: the byte 0xff {reason}")));
    assert_eq!(found[1], Err(format!("3, character 4: the byte 0xc3 {reason}")));
    assert_eq!(found[2], Err(format!("4, character 8: the byte 0xc3 {reason}")));
    assert_eq!(found[3], Err(format!("5, character 4: the byte 0xc3 {reason}")));
    assert_eq!(found[4], Ok(payment(5, "é", 1.0, None)));
}

#[test]
fn a_long_record_with_quotes_is_not_read_again_for_every_piece() {
    let mut text = b"a\n\"".to_vec();
    text.extend(b"line\n".repeat(600_000));
    text.extend_from_slice(b"\n\"\n");
    let mut decoder = CsvFormat::<String>::default().decoder();
    let Header::Read(header) = decoder.header(&text, false) else { panic!("a header") };
    let record = &text[header.bytes..];
    let mut attempt_count = 0;
    for end in (2..record.len()).step_by(10_000) {
        let before = decoder.cutter.attempt_at;
        assert!(matches!(decoder.decode(&record[..end], false), Decoded::More));
        attempt_count += u32::from(before != decoder.cutter.attempt_at);
    }
    assert!(attempt_count <= 22, "{attempt_count} attempts for 300 pieces");
    assert!(
        matches!(decoder.decode(record, true), Decoded::Record(text, _) if text.len() > 2_999_000)
    );
}

/// What the crate `csv` makes of `bytes`, as rows of texts.
fn reference(bytes: &[u8]) -> Vec<Vec<String>> {
    let mut reader = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .terminator(::csv::Terminator::Any(b'\n'))
        .from_reader(bytes);
    let rows = reader.records().map(|row| row.expect("text"));
    rows.map(|row| row.iter().map(ToString::to_string).collect()).collect()
}

proptest! {
    /// Records are those that the crate `csv` finds, however they are quoted.
    #[test]
    fn cutting_agrees_with_the_crate(
        rows in prop::collection::vec(
            prop::collection::vec("[ab,\n\"é]{0,4}", 1..4), 0..6),
        quotes_all: bool,
    ) {
        let style =
            if quotes_all { ::csv::QuoteStyle::Always } else { ::csv::QuoteStyle::Necessary };
        let mut writer =
            ::csv::WriterBuilder::new().flexible(true).quote_style(style).from_writer(Vec::new());
        for row in &rows {
            writer.write_record(row).expect("memory");
        }
        let bytes = writer.into_inner().expect("memory");
        let mut cutter = Cutter::new(b',');
        let mut found = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let taken = match cutter.cut(&bytes[at..], true) {
                Cut::Fields(fields, taken) => {
                    found.push(fields.iter().map(ToString::to_string).collect::<Vec<_>>());
                    taken
                }
                Cut::Blank(taken) => taken,
                other => panic!("{other:?}"),
            };
            at += taken.bytes;
        }
        prop_assert_eq!(found, reference(&bytes));
    }

    /// No bytes make it panic, stand still, or hold more than the window.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(prop::sample::select(
        b"abc,,\"\"\n\n\r\xff\xc3\xa9 19.-".to_vec()), 0..80)) {
        let mut text = b"id,card,amount,note\n".to_vec();
        text.extend_from_slice(&bytes);
        read(&CsvFormat::<Payment>::default(), &text);
        read(&CsvFormat::<Payment>::default(), &bytes);
        read(&CsvFormat::<BTreeMap<String, String>>::default(), &bytes);
    }
}
