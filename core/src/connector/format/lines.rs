//! Raw lines: every line is a record, empty ones as well.

use super::line::{Line, LineFinder, too_long};
use super::{Decode, Decoded, Fault, Format};

/// Lines of UTF-8 text.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinesFormat;

impl Format for LinesFormat {
    type Record = String;
    type Decoder = LinesDecoder;

    fn decoder(&self) -> LinesDecoder {
        LinesDecoder::default()
    }

    fn describe(&self) -> &'static str {
        "lines"
    }

    fn is_splittable(&self) -> bool {
        true
    }
}

/// Reads lines.
#[derive(Debug, Default)]
pub struct LinesDecoder {
    finder: LineFinder,
}

impl Decode for LinesDecoder {
    type Record = String;

    fn decode(&mut self, bytes: &[u8], is_end: bool) -> Decoded<String> {
        match self.finder.find(bytes, is_end) {
            Line::Whole(line, taken) => match std::str::from_utf8(line) {
                Ok(text) => Decoded::Record(text.to_string(), taken),
                Err(_) => Decoded::Bad(Fault::not_utf8(line), taken),
            },
            Line::Rest(taken) => Decoded::Nothing(taken),
            Line::TooLong(taken) => Decoded::Bad(too_long(), taken),
            Line::More => Decoded::More,
        }
    }

    fn is_skipping(&self) -> bool {
        self.finder.is_skipping()
    }

    fn skip_line(&mut self) {
        self.finder.skip_line();
    }
}
