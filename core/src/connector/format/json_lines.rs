//! JSON Lines: one JSON value a line.
//!
//! Blank lines are nothing. A value is parsed straight from the window into the record. Only a line
//! that cannot be read is parsed a second time, slower, to learn the name of the field.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fault::character_count;
use super::line::{Line, LineFinder, too_long};
use super::{Decode, Decoded, Encode, Fault, Format, Spot};

/// Reads `T` from JSON Lines.
pub struct JsonLinesFormat<T>(PhantomData<fn() -> T>);

impl<T> Default for JsonLinesFormat<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for JsonLinesFormat<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T: DeserializeOwned + 'static> Format for JsonLinesFormat<T> {
    type Record = T;
    type Decoder = JsonLinesDecoder<T>;

    fn decoder(&self) -> JsonLinesDecoder<T> {
        JsonLinesDecoder { finder: LineFinder::default(), record: PhantomData }
    }

    fn describe(&self) -> &'static str {
        "JSON Lines"
    }

    fn is_splittable(&self) -> bool {
        true
    }
}

/// Reads JSON Lines.
#[derive(Debug)]
pub struct JsonLinesDecoder<T> {
    finder: LineFinder,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + 'static> Decode for JsonLinesDecoder<T> {
    type Record = T;

    fn decode(&mut self, bytes: &[u8], is_end: bool) -> Decoded<T> {
        let (line, taken) = match self.finder.find(bytes, is_end) {
            Line::Whole(line, taken) => (line, taken),
            Line::Rest(taken) => return Decoded::Nothing(taken),
            Line::TooLong(taken) => return Decoded::Bad(too_long(), taken),
            Line::More => return Decoded::More,
        };
        match serde_json::from_slice(line) {
            Ok(value) => Decoded::Record(value, taken),
            Err(_) if line.trim_ascii().is_empty() => Decoded::Nothing(taken),
            Err(reason) => Decoded::Bad(fault::<T>(line, &reason), taken),
        }
    }

    fn is_skipping(&self) -> bool {
        self.finder.is_skipping()
    }

    fn skip_line(&mut self) {
        self.finder.skip_line();
    }
}

/// What is wrong with `line`, for which parsing gave `reason`.
fn fault<T: DeserializeOwned>(line: &[u8], reason: &serde_json::Error) -> Fault {
    if std::str::from_utf8(line).is_err() {
        return Fault::not_utf8(line);
    }
    let mut again = serde_json::Deserializer::from_slice(line);
    let field = serde_path_to_error::deserialize::<_, T>(&mut again)
        .err()
        .map(|error| error.path().to_string())
        .filter(|path| !matches!(path.as_str(), "." | "?"));
    // The message ends with a place in a text of one line: the column alone says it.
    let message = reason.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(said, _)| said);
    let character = character_count(&line[..reason.column().min(line.len())]);
    Fault { spot: Spot::Character(character, field), reason: message.to_string() }
}

/// Writes `T` as JSON Lines.
pub struct JsonLinesEncoder<T> {
    bytes: Vec<u8>,
    record: PhantomData<fn(T)>,
}

impl<T> Default for JsonLinesEncoder<T> {
    fn default() -> Self {
        Self { bytes: Vec::new(), record: PhantomData }
    }
}

impl<T> Clone for JsonLinesEncoder<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T: Serialize + 'static> Encode for JsonLinesEncoder<T> {
    type Record = T;

    fn describe(&self) -> &'static str {
        "JSON Lines"
    }

    fn extension(&self) -> &'static str {
        "jsonl"
    }

    fn encode(&mut self, record: &T) -> Result<(), String> {
        let len_before = self.bytes.len();
        if let Err(reason) = serde_json::to_writer(&mut self.bytes, record) {
            self.bytes.truncate(len_before);
            return Err(format!("it cannot be written as JSON: {reason}"));
        }
        self.bytes.push(b'\n');
        Ok(())
    }

    fn encoded_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn take(&mut self, spare: Vec<u8>) -> Vec<u8> {
        super::exchange(&mut self.bytes, spare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Payment {
        card: u64,
        to: Party,
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Party {
        country: u8,
    }

    fn check_bad(line: &[u8], spot: &str, reason: &str) {
        let mut decoder = JsonLinesFormat::<Payment>::default().decoder();
        match decoder.decode(line, true) {
            Decoded::Bad(fault, taken) => {
                assert_eq!(
                    (fault.spot.to_string().as_str(), fault.reason.as_str()),
                    (spot, reason)
                );
                assert_eq!(taken.bytes, line.len());
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bad_value_is_named_with_its_path() {
        check_bad(
            br#"{"card":1,"to":{"country":300}}"#,
            ", character 29 (field to.country)",
            "invalid value: integer `300`, expected u8",
        );
        check_bad(
            br#"{"card":"one","to":{"country":3}}"#,
            ", character 13 (field card)",
            "invalid type: string \"one\", expected u64",
        );
    }

    #[test]
    fn characters_are_counted_and_not_bytes() {
        check_bad(
            "{\"to\":{\"\u{e4}\u{f6}\":1,\"country\":300}}".as_bytes(),
            ", character 27 (field to.country)",
            "invalid value: integer `300`, expected u8",
        );
    }

    #[test]
    fn broken_json_is_shown_where_it_breaks() {
        check_bad(br#"{"card":1"#, ", character 9", "EOF while parsing an object");
        check_bad(br#"{"card":1,"to":{"country":1}} x"#, ", character 31", "trailing characters");
    }

    #[test]
    fn a_missing_field_is_named() {
        check_bad(br#"{"card":1}"#, ", character 10", "missing field `to`");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_named() {
        let reason = "the byte 0xe4 is not UTF-8; save the file as UTF-8";
        check_bad(b"{\"card\":\"\xe4\"}", ", character 10", reason);
    }

    #[test]
    fn blank_lines_are_nothing() {
        let mut decoder = JsonLinesFormat::<Payment>::default().decoder();
        assert!(matches!(decoder.decode(b" \r\n{}", false), Decoded::Nothing(t) if t.bytes == 3));
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_crash() {
        let deep = vec![b'['; 100_000];
        let mut decoder = JsonLinesFormat::<serde_json::Value>::default().decoder();
        let Decoded::Bad(fault, _) = decoder.decode(&deep, true) else { panic!("accepted") };
        assert_eq!(fault.reason, "recursion limit exceeded");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let payment = || Payment { card: 7, to: Party { country: 49 } };
        let mut encoder = JsonLinesEncoder::default();
        encoder.encode(&payment()).expect("numbers can be written");
        let bytes = encoder.take(Vec::new());
        let mut decoder = JsonLinesFormat::<Payment>::default().decoder();
        assert!(matches!(decoder.decode(&bytes, true), Decoded::Record(p, _) if p == payment()));
    }
}
