//! Cuts a CSV record into its fields.
//!
//! A line without a quote, by far the most common, is cut where the delimiters are, without copying
//! a byte. Everything else is left to the crate `csv-core`, of which this is a special case (the
//! tests hold the two against each other).

use super::super::line::{Line, LineFinder};
use super::super::{Fault, Taken};
use crate::limits::LINE_BYTES_MAX;

/// The fields of one record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    text: &'a str,
    /// Start and end of every field in `text`, on character boundaries.
    bounds: &'a [(usize, usize)],
}

impl<'a> Fields<'a> {
    pub(super) fn len(&self) -> usize {
        self.bounds.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&'a str> {
        self.bounds.get(index).map(|&(start, end)| &self.text[start..end])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'a str> {
        let text = self.text;
        self.bounds.iter().map(move |&(start, end)| &text[start..end])
    }
}

/// What stands at the start of a window.
#[derive(Debug)]
pub(super) enum Cut<'a> {
    /// A record.
    Fields(Fields<'a>, Taken),
    /// A blank line.
    Blank(Taken),
    /// The rest, or a part of the rest, of a line that was too long.
    Rest(Taken),
    /// A record that cannot be cut.
    Bad(Fault, Taken),
    /// A line that is too long.
    TooLong(Taken),
    /// The beginning of a record.
    More,
}

/// Cuts records.
#[derive(Debug)]
pub(super) struct Cutter {
    delimiter: u8,
    finder: LineFinder,
    bounds: Vec<(usize, usize)>,
    quotes: csv_core::Reader,
    /// What `quotes` wrote: the fields of a record without their quotes, back to back.
    unquoted: Vec<u8>,
    ends: Vec<usize>,
    /// A record with quotes is not complete in fewer bytes than these. Doubled at every attempt, so
    /// that a long record is read twice and not once per piece that arrives.
    pub(super) attempt_at: usize,
}

/// What `csv-core` made of a window.
enum Quoted {
    /// So many fields are in `unquoted` and `ends`; so many bytes of the window were theirs.
    Record {
        bytes: usize,
        fields: usize,
    },
    Unfinished,
}

impl Cutter {
    pub(super) fn new(delimiter: u8) -> Self {
        let terminator = csv_core::Terminator::Any(b'\n');
        let quotes =
            csv_core::ReaderBuilder::new().delimiter(delimiter).terminator(terminator).build();
        Self {
            delimiter,
            finder: LineFinder::default(),
            bounds: Vec::new(),
            quotes,
            unquoted: vec![0; 256],
            ends: vec![0; 32],
            attempt_at: 0,
        }
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.finder.is_skipping()
    }

    pub(super) fn skip_line(&mut self) {
        self.finder.skip_line();
    }

    /// The window begins elsewhere now.
    pub(super) fn restart(&mut self) {
        self.finder.restart();
        self.attempt_at = 0;
    }

    /// Cuts the record at the start of `bytes`; `is_end` says that nothing follows them.
    pub(super) fn cut<'a>(&'a mut self, bytes: &'a [u8], is_end: bool) -> Cut<'a> {
        if bytes.len() < self.attempt_at && !is_end {
            return Cut::More;
        }
        let (line, taken) = match self.finder.find(bytes, is_end) {
            Line::Whole(line, taken) => (line, taken),
            Line::Rest(taken) => return Cut::Rest(taken),
            Line::TooLong(taken) => return Cut::TooLong(taken),
            Line::More => return Cut::More,
        };
        if line.is_empty() {
            return Cut::Blank(taken);
        }
        if memchr::memchr(b'"', line).is_some() {
            return self.cut_quoted(bytes, is_end, taken);
        }
        let Ok(text) = std::str::from_utf8(line) else {
            return Cut::Bad(Fault::not_utf8(line), taken);
        };
        self.bounds.clear();
        let mut start = 0;
        for end in memchr::memchr_iter(self.delimiter, line) {
            self.bounds.push((start, end));
            start = end + 1;
        }
        self.bounds.push((start, line.len()));
        Cut::Fields(Fields { text, bounds: &self.bounds }, taken)
    }

    /// Cuts a record whose first line holds a quote.
    fn cut_quoted<'a>(&'a mut self, bytes: &'a [u8], is_end: bool, first_line: Taken) -> Cut<'a> {
        let (record_bytes, field_count) = match self.unquote(bytes, is_end) {
            Quoted::Record { bytes, fields } => (bytes, fields),
            Quoted::Unfinished if is_end || bytes.len() > LINE_BYTES_MAX => {
                self.attempt_at = 0;
                return Cut::Bad(never_closed(), first_line);
            }
            Quoted::Unfinished => {
                self.attempt_at = (bytes.len() * 2).min(LINE_BYTES_MAX + 1);
                return Cut::More;
            }
        };
        self.attempt_at = 0;
        let raw = &bytes[..record_bytes];
        let last_line = u64::from(!raw.ends_with(b"\n"));
        let lines = memchr::memchr_iter(b'\n', raw).count() as u64 + last_line;
        let taken = Taken { bytes: record_bytes, lines };
        if raw.strip_suffix(b"\n").unwrap_or(raw).len() > LINE_BYTES_MAX {
            return Cut::TooLong(taken);
        }
        let ends = &mut self.ends[..field_count];
        if raw.strip_suffix(b"\n").unwrap_or(raw).ends_with(b"\r") {
            // The return belongs to the line's end, but `csv-core` ends records at `\n` alone.
            if let Some(last) = ends.last_mut() {
                *last -= 1;
            }
        }
        let bounds = &mut self.bounds;
        bounds.clear();
        let mut start = 0;
        for &mut end in ends {
            bounds.push((start, end));
            start = end;
        }
        let fields = &self.unquoted[..start];
        match std::str::from_utf8(fields) {
            Ok(text) if bounds.iter().all(|&(_, end)| text.is_char_boundary(end)) => {
                Cut::Fields(Fields { text, bounds }, taken)
            }
            _ => Cut::Bad(Fault::not_utf8(raw), taken),
        }
    }

    /// Reads one record of `bytes` with `csv-core` from its beginning.
    fn unquote(&mut self, bytes: &[u8], is_end: bool) -> Quoted {
        use csv_core::ReadRecordResult::{End, InputEmpty, OutputEndsFull, OutputFull, Record};

        self.quotes.reset();
        let (mut read, mut written, mut ended) = (0, 0, 0);
        // A line end after the last byte ends the record, unless a quote is open.
        let mut tail: &[u8] = if is_end && !bytes.ends_with(b"\n") { b"\n" } else { b"" };
        loop {
            let rest = if read < bytes.len() { &bytes[read..] } else { tail };
            if rest.is_empty() {
                return Quoted::Unfinished;
            }
            let output = &mut self.unquoted[written..];
            let ends = &mut self.ends[ended..];
            let (result, read_now, written_now, ended_now) =
                self.quotes.read_record(rest, output, ends);
            if read < bytes.len() {
                read += read_now;
            } else {
                tail = &tail[read_now..];
            }
            written += written_now;
            ended += ended_now;
            match result {
                InputEmpty => {}
                OutputFull => self.unquoted.resize(self.unquoted.len() * 2, 0),
                OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                Record => {
                    return Quoted::Record { bytes: read, fields: ended };
                }
                End => return Quoted::Unfinished,
            }
        }
    }
}

fn never_closed() -> Fault {
    Fault::of_record(format!(
        "a quote that is opened in this line is not closed, neither before the end nor within \
         {LINE_BYTES_MAX} bytes; close it, or double it if it is text"
    ))
}
