//! Reads one split: from the opening of its file to its last record.
//!
//! ```text
//! Opening ──► Header ──► Seeking ──► LineStart ──► Records ──► the end
//!               │            └──────────────────────┘  ▲
//!               └──────────────────────────────────────┘
//! ```
//!
//! *Header*: what stands before the first record is read wherever the split begins, because it says
//! what the columns are. *Seeking*: bytes up to the split, or up to where a snapshot was taken, are
//! passed over; in plain text without reading them. *`LineStart`*: a range that begins in the
//! middle of a record leaves it to the range before; it looks for a line end from one byte before
//! its start, so that a record beginning exactly there is its own.
//!
//! [`SplitReader::next`] takes what is there and never waits; [`SplitReader::wish`] says what
//! should be read. Neither knows who carries that out.

use std::cmp::Ordering;
use std::io;

use millstream_storage::io::OpId;

use super::content::{Compression, Content, Damage, MAGIC_BYTES, Step, unnamed_compression};
use super::read_ahead::{ReadAhead, Size, Wish};
use super::split::{FinishedSplit, Position, Progress, Split, SplitState};
use crate::connector::byte_window::{BYTE_ORDER_MARK, ByteWindow};
use crate::connector::format::{Decode, Decoded, Fault, Header, Place, Taken};

const MARK_BYTES: u64 = BYTE_ORDER_MARK.len() as u64;

/// Reads one split.
pub(super) struct SplitReader<D> {
    state: SplitState,
    /// Where a restored split goes on.
    resume: Option<Position>,
    decoder: D,
    phase: Phase,
    piece_bytes: usize,
    /// None until the file is open.
    content: Option<Content>,
    window: ByteWindow,
    /// Nothing follows what is in the window.
    is_complete: bool,
    /// The decoder needs more bytes than there are.
    is_starved: bool,
    /// Line of the next record, from 1; 0 if it is not known.
    line: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Start,
    Header,
    Seeking { target: u64 },
    LineStart,
    Records,
}

/// What a split has to say.
#[derive(Debug)]
pub(super) enum Next<T> {
    /// The record at `position`.
    Record { position: u64, value: T },
    /// A record that cannot be read; it is the first `taken` bytes of [`SplitReader::raw`], and
    /// [`SplitReader::pass`] goes on behind it.
    Bad { fault: Fault, taken: Taken },
    /// Something was done, and there is more to do.
    Busy,
    /// A read must be answered first.
    Wait,
    /// That was all.
    End,
    /// The file cannot be read: where in it, and why.
    Broken { place: String, fault: Fault },
}

impl<D: Decode> SplitReader<D> {
    /// A reader whose file is being opened, and will be read in pieces of `piece_bytes`.
    pub(super) fn new(state: SplitState, decoder: D, piece_bytes: usize) -> Self {
        let resume = match state.progress {
            Progress::At(position) => Some(position),
            Progress::Waiting | Progress::Begun => None,
        };
        Self {
            state,
            resume,
            decoder,
            phase: Phase::Opening,
            piece_bytes,
            content: None,
            window: ByteWindow::default(),
            is_complete: false,
            is_starved: false,
            line: 1,
        }
    }

    /// The split's number.
    pub(super) fn number(&self) -> u32 {
        self.state.number
    }

    /// Where its file is.
    pub(super) fn path(&self) -> &str {
        &self.state.split.path
    }

    /// What it reads.
    pub(super) fn split(&self) -> &Split {
        &self.state.split
    }

    /// Whether it had begun before a restore.
    pub(super) fn had_begun(&self) -> bool {
        self.state.progress != Progress::Waiting
    }

    /// What is remembered of it when it has been read.
    pub(super) fn finished(&self) -> FinishedSplit {
        let split = &self.state.split;
        FinishedSplit { key: split.key(), size_bytes: split.size_bytes }
    }

    /// The split and where it stands.
    pub(super) fn state(&self) -> SplitState {
        let mut state = self.state.clone();
        if self.phase == Phase::Records {
            state.progress = Progress::At(Position {
                offset: self.window.position(),
                line: self.line,
                is_skipping: self.decoder.is_skipping(),
            });
        }
        state
    }

    /// How the size of the file has changed since it was listed, if it is `size_bytes` now.
    pub(super) fn compare(&self, size_bytes: u64) -> Size {
        match size_bytes.cmp(&self.state.split.size_bytes) {
            Ordering::Equal => Size::Kept,
            Ordering::Less => Size::Shrunk,
            Ordering::Greater => Size::Grown,
        }
    }

    /// The file is open and has `size_bytes`.
    ///
    /// # Errors
    /// There is no memory for a decompressor.
    pub(super) fn on_opened(&mut self, size_bytes: u64) -> io::Result<()> {
        assert_eq!(self.phase, Phase::Opening, "a file is opened once");
        let compression = Compression::of(&self.state.split.path);
        let reads = ReadAhead::new(size_bytes, self.piece_bytes);
        self.content = Some(Content::new(compression, reads)?);
        self.phase = Phase::Start;
        if self.first_position() == 0 || compression != Compression::None {
            self.read_eagerly();
        } else if !self.decoder.has_header() && self.first_position() > MARK_BYTES {
            // Nothing at the beginning of the file matters to a split in its middle.
            self.phase = Phase::Header;
        }
        Ok(())
    }

    /// Where the first record to hand on is looked for.
    fn first_position(&self) -> u64 {
        self.resume.map_or(self.state.split.start, |position| position.offset)
    }

    fn read_eagerly(&mut self) {
        let end = match &self.content {
            Some(Content::Plain(_)) => self.state.split.end,
            _ => u64::MAX,
        };
        if let Some(content) = &mut self.content {
            content.reads_mut().set_eager_until(end);
        }
    }

    /// Whether it reads the file from its beginning.
    pub(super) fn reads_from_start(&self) -> bool {
        self.phase == Phase::Start
    }

    /// The read that should be asked for next, if there should be one; tell
    /// [`SplitReader::asked`] when it has been.
    pub(super) fn wish(&self) -> Option<Wish> {
        self.content.as_ref()?.reads().wish()
    }

    /// `wish` is under way as `op`.
    pub(super) fn asked(&mut self, wish: Wish, op: OpId) {
        if let Some(content) = &mut self.content {
            content.reads_mut().asked(wish, op);
        }
    }

    /// The reads behind it, once the file is open.
    pub(super) fn reads_mut(&mut self) -> Option<&mut ReadAhead> {
        self.content.as_mut().map(Content::reads_mut)
    }

    /// The bytes that begin with the record found bad.
    pub(super) fn raw(&self) -> &[u8] {
        self.window.rest()
    }

    /// Goes on behind the record found bad.
    pub(super) fn pass(&mut self, taken: Taken) {
        self.window.consume(taken.bytes);
        if self.line > 0 {
            self.line += taken.lines;
        }
    }

    /// The place of the next record. Its line must be known.
    pub(super) fn place(&self) -> Place<'_> {
        assert!(self.knows_line(), "lines are counted before something is reported");
        Place::File { path: self.path(), line: self.line }
    }

    /// Byte of the content at which the next record begins.
    pub(super) fn position(&self) -> u64 {
        self.window.position()
    }

    /// Whether somebody has counted the lines before the next record.
    pub(super) fn knows_line(&self) -> bool {
        self.line > 0
    }

    /// The next record begins in this line.
    pub(super) fn set_line(&mut self, line: u64) {
        self.line = line;
    }

    /// Takes the next step.
    #[inline]
    pub(super) fn next(&mut self) -> Next<D::Record> {
        if self.phase == Phase::Records { self.next_record() } else { self.approach() }
    }

    #[inline]
    fn next_record(&mut self) -> Next<D::Record> {
        let position = self.window.position();
        if position >= self.state.split.end {
            return Next::End;
        }
        let rest = self.window.rest();
        if self.is_starved || rest.is_empty() {
            return self.fill();
        }
        match self.decoder.decode(rest, self.is_complete) {
            Decoded::Record(value, taken) => {
                self.pass(taken);
                Next::Record { position, value }
            }
            Decoded::Nothing(taken) => {
                self.pass(taken);
                Next::Busy
            }
            Decoded::Bad(fault, taken) => Next::Bad { fault, taken },
            Decoded::More => {
                assert!(!self.is_complete, "a decoder asks for more than there is");
                self.is_starved = true;
                Next::Busy
            }
        }
    }

    /// Everything before the first record.
    fn approach(&mut self) -> Next<D::Record> {
        match self.phase {
            Phase::Opening => Next::Wait,
            Phase::Start => self.start(),
            Phase::Header => self.read_header(),
            Phase::Seeking { target } => self.seek(target),
            Phase::LineStart => self.find_line_start(),
            Phase::Records => self.next_record(),
        }
    }

    /// Passes over a byte order mark, and refuses what is no text.
    fn start(&mut self) -> Next<D::Record> {
        let rest = self.window.rest();
        if rest.len() < MAGIC_BYTES && !self.is_complete {
            return self.fill();
        }
        if let Some(reason) = unnamed_compression(rest) {
            let fault = Fault::of_record(reason);
            return Next::Broken { place: self.path().to_string(), fault };
        }
        if rest.starts_with(b"\xff\xfe") || rest.starts_with(b"\xfe\xff") {
            let fault = Fault::of_record("the file is UTF-16; save it as UTF-8");
            return Next::Broken { place: self.path().to_string(), fault };
        }
        if rest.starts_with(BYTE_ORDER_MARK) {
            self.window.consume(BYTE_ORDER_MARK.len());
        }
        self.phase = Phase::Header;
        Next::Busy
    }

    fn read_header(&mut self) -> Next<D::Record> {
        match self.decoder.header(self.window.rest(), self.is_complete) {
            Header::Read(taken) => {
                self.pass(taken);
                self.begin();
                Next::Busy
            }
            Header::More => {
                assert!(!self.is_complete, "a decoder asks for more than there is");
                self.fill()
            }
            Header::Wrong(fault, before) => {
                let place = Place::File { path: self.path(), line: self.line + before.lines };
                Next::Broken { place: format!("{place}{}", fault.spot), fault }
            }
        }
    }

    /// The header, if there is one, is behind: goes where the split's records are.
    fn begin(&mut self) {
        self.read_eagerly();
        let first = self.first_position();
        if first <= self.window.position() {
            // The split begins within what stands before the first record: that record is its own.
            self.phase = Phase::Records;
            return;
        }
        let target = match self.resume {
            Some(position) => {
                self.line = position.line;
                if position.is_skipping {
                    self.decoder.skip_line();
                }
                first
            }
            None => {
                self.line = 0;
                first - 1
            }
        };
        self.phase = Phase::Seeking { target };
    }

    fn seek(&mut self, target: u64) -> Next<D::Record> {
        let there = self.window.position() + self.window.rest().len() as u64;
        let content = self.content.as_mut().expect("the file is open");
        if there < target && content.is_seekable() {
            if content.reads().size_bytes() < target {
                return self.shrunk();
            }
            content.reads_mut().seek(target);
            self.window = ByteWindow::at(target);
        } else {
            let passed = self.window.rest().len().min((target - self.window.position()) as usize);
            self.window.consume(passed);
        }
        if self.window.position() == target {
            let is_resumed = self.resume.is_some();
            self.phase = if is_resumed { Phase::Records } else { Phase::LineStart };
            return Next::Busy;
        }
        if self.is_complete {
            return self.shrunk();
        }
        self.fill()
    }

    fn find_line_start(&mut self) -> Next<D::Record> {
        let rest = self.window.rest();
        match memchr::memchr(b'\n', rest) {
            Some(end) => {
                self.window.consume(end + 1);
                self.phase = Phase::Records;
                Next::Busy
            }
            None if self.window.position() >= self.state.split.end => Next::End,
            None => {
                let passed = rest.len();
                self.window.consume(passed);
                self.fill()
            }
        }
    }

    /// Brings some more of the file into the window.
    fn fill(&mut self) -> Next<D::Record> {
        if self.is_complete {
            return Next::End;
        }
        let content = self.content.as_mut().expect("the file is open");
        match content.step(self.window.end()) {
            Ok(Step::Some) => {
                self.is_starved = false;
                Next::Busy
            }
            Ok(Step::Wait) => Next::Wait,
            Ok(Step::End) => {
                self.is_starved = false;
                self.is_complete = true;
                Next::Busy
            }
            Err(Damage { offset, reason }) => {
                let place = format!("{}, compressed byte {offset}", self.path());
                Next::Broken { place, fault: Fault::of_record(reason) }
            }
        }
    }

    /// The file is shorter than it was.
    fn shrunk<T>(&self) -> Next<T> {
        Next::Broken { place: self.path().to_string(), fault: changed(Size::Shrunk) }
    }
}

/// A file is not as it was when it was found.
pub(super) fn changed(size: Size) -> Fault {
    let how = if size == Size::Grown { "longer" } else { "shorter" };
    Fault::of_record(format!(
        "the file has become {how} while it was read; put files in place when they are complete \
         (write them elsewhere, then rename), and leave them alone"
    ))
}
