//! Writes records as CSV, with a header at the start of every file.

use std::marker::PhantomData;

use csv::{Writer, WriterBuilder};
use serde::Serialize;

use super::super::Encode;
use super::delimiter_problem;

/// Bytes that the crate's writer gathers before it appends them to ours.
const GATHER_BYTES: usize = 8 << 10;

/// Writes `T` as CSV. `T` is a struct or tuple of single values; names of fields make the header.
pub struct CsvEncoder<T> {
    delimiter: u8,
    /// None before the first record.
    writer: Option<Writer<Vec<u8>>>,
    /// Memory for the next writer.
    spare: Vec<u8>,
    /// The next record is the first of a file.
    is_first: bool,
    record: PhantomData<fn(T)>,
}

impl<T> Default for CsvEncoder<T> {
    fn default() -> Self {
        Self {
            delimiter: b',',
            writer: None,
            spare: Vec::new(),
            is_first: true,
            record: PhantomData,
        }
    }
}

impl<T> Clone for CsvEncoder<T> {
    fn clone(&self) -> Self {
        Self { delimiter: self.delimiter, ..Self::default() }
    }
}

impl<T> CsvEncoder<T> {
    /// Separates fields by `delimiter`, an ASCII character.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }
}

impl<T: Serialize + 'static> Encode for CsvEncoder<T> {
    type Record = T;

    fn describe(&self) -> &'static str {
        "CSV"
    }

    fn problems(&self) -> Vec<String> {
        delimiter_problem(self.delimiter).into_iter().collect()
    }

    fn extension(&self) -> &'static str {
        "csv"
    }

    fn begin_file(&mut self) {
        assert!(self.writer.is_none(), "the encoded bytes of the last file were not taken");
        self.is_first = true;
    }

    fn encode(&mut self, record: &T) -> Result<(), String> {
        let writer = self.writer.get_or_insert_with(|| {
            WriterBuilder::new()
                .delimiter(self.delimiter)
                .has_headers(self.is_first)
                .buffer_capacity(GATHER_BYTES)
                .from_writer(std::mem::take(&mut self.spare))
        });
        self.is_first = false;
        writer.serialize(record).map_err(|reason| format!("it cannot be written as CSV: {reason}"))
    }

    fn encoded_bytes(&self) -> usize {
        self.writer.as_ref().map_or(0, |writer| writer.get_ref().len())
    }

    fn take(&mut self, mut spare: Vec<u8>) -> Vec<u8> {
        spare.clear();
        let encoded = match self.writer.take() {
            Some(writer) => writer.into_inner().expect("writing to memory does not fail"),
            None => std::mem::take(&mut self.spare),
        };
        self.spare = spare;
        encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize)]
    struct Alert<'a> {
        id: u32,
        reason: &'a str,
        score: Option<f64>,
    }

    #[test]
    fn every_file_begins_with_the_header_and_only_every_file() {
        let mut encoder = CsvEncoder::default();
        let mut text = Vec::new();
        for (id, begins_file) in [(1, true), (2, false), (3, true)] {
            if begins_file {
                encoder.begin_file();
            }
            encoder.encode(&Alert { id, reason: "a,\"b\"", score: None }).expect("flat");
            text.push(String::from_utf8(encoder.take(Vec::new())).expect("text"));
        }
        assert_eq!(
            text,
            [
                "id,reason,score\n1,\"a,\"\"b\"\"\",\n",
                "2,\"a,\"\"b\"\"\",\n",
                "id,reason,score\n3,\"a,\"\"b\"\"\",\n"
            ]
        );
    }

    #[test]
    fn what_cannot_separate_fields_is_a_problem() {
        let problems = |delimiter| CsvEncoder::<u8>::default().delimiter(delimiter).problems();
        assert_eq!(problems(b';'), Vec::<String>::new());
        for delimiter in [b'"', b'\n', b'\r', 0xe4] {
            assert_eq!(problems(delimiter).len(), 1, "{delimiter:#04x}");
        }
    }

    #[test]
    fn nothing_encoded_is_nothing_taken() {
        let mut encoder = CsvEncoder::<u8>::default();
        assert_eq!((encoder.encoded_bytes(), encoder.take(Vec::new()).len()), (0, 0));
    }

    #[test]
    fn a_map_within_a_record_is_refused() {
        #[derive(serde::Serialize)]
        struct Nested {
            counts: std::collections::BTreeMap<String, u32>,
        }
        let nested = Nested { counts: [("a".to_string(), 1)].into() };
        let reason = CsvEncoder::default().encode(&nested).expect_err("a field is one value");
        assert!(reason.starts_with("it cannot be written as CSV: "), "{reason}");
    }
}
