//! Reads a file in order, a few pieces ahead.
//!
//! ```text
//!  taken │ front piece │ piece │ piece asked for │ ...            end of the file
//!        └─ offset                               └─ next_offset
//! ```
//!
//! Up to [`PIECES_AHEAD`] reads are under way or waiting to be taken; beyond `eager_until` only the
//! next piece is asked for, and only when nothing else is left. That bounds memory, and a byte
//! range of a file hardly reads beyond its end.
//!
//! Behind the last piece one more byte is asked for: it must not be there, or the file has grown
//! and what was taken for its last record may be half of one.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

use millstream_storage::io::OpId;

/// Bytes of one read: large enough that the cost of an operation (5-20 µs on the storage service)
/// is small beside that of parsing it (some 100 µs), small enough to be cheap to hold.
pub(super) const PIECE_BYTES: usize = 128 << 10;

/// Pieces under way or waiting. One is parsed, one waits, two cover a disk's latency.
const PIECES_AHEAD: usize = 4;

/// What is read of one open file.
#[derive(Debug)]
pub(super) struct ReadAhead {
    pieces: VecDeque<Piece>,
    piece_bytes: usize,
    /// Bytes of the file; more are not read, should it grow.
    size_bytes: u64,
    next_offset: u64,
    eager_until: u64,
    end: End,
    /// Place in the file of the next byte to take.
    offset: u64,
}

/// What is known of the file's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The byte behind it has not been asked for.
    Unknown,
    AskedFor(OpId),
    /// Nothing is there.
    Seen,
}

/// What an answer says of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// It is as large as it was when it was opened.
    Kept,
    /// It is smaller.
    Shrunk,
    /// It is larger.
    Grown,
}

#[derive(Debug)]
struct Piece {
    op: OpId,
    len: usize,
    /// None until it has been read.
    bytes: Option<Vec<u8>>,
    /// So many bytes of it have been taken.
    taken: usize,
    /// It was asked for before [`ReadAhead::seek`].
    is_stale: bool,
}

/// A read that should be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) offset: u64,
    pub(super) len: usize,
}

impl ReadAhead {
    /// A file of `size_bytes`, from its beginning, in reads of `piece_bytes`.
    pub(super) fn new(size_bytes: u64, piece_bytes: usize) -> Self {
        Self {
            pieces: VecDeque::new(),
            piece_bytes,
            size_bytes,
            next_offset: 0,
            eager_until: 0,
            end: End::Unknown,
            offset: 0,
        }
    }

    /// Goes on at `offset`. Reads under way are let come and are dropped.
    pub(super) fn seek(&mut self, offset: u64) {
        self.pieces.retain(|piece| piece.bytes.is_none());
        self.pieces.iter_mut().for_each(|piece| piece.is_stale = true);
        self.next_offset = offset.min(self.size_bytes);
        self.offset = self.next_offset;
    }

    /// Reads ahead up to byte `offset`.
    pub(super) fn set_eager_until(&mut self, offset: u64) {
        self.eager_until = offset;
    }

    /// The next read to ask for, if there should be one. It must be followed by
    /// [`ReadAhead::asked`].
    pub(super) fn wish(&self) -> Option<Wish> {
        let is_urgent = self.pieces.iter().all(|piece| piece.is_stale);
        let is_eager = self.next_offset < self.eager_until && self.pieces.len() < PIECES_AHEAD;
        let len = match self.size_bytes - self.next_offset {
            0 if self.end == End::Unknown => 1,
            left => left.min(self.piece_bytes as u64) as usize,
        };
        (len > 0 && (is_urgent || is_eager)).then_some(Wish { offset: self.next_offset, len })
    }

    /// `wish` is under way as `op`.
    pub(super) fn asked(&mut self, wish: Wish, op: OpId) {
        assert_eq!(wish.offset, self.next_offset, "reads are asked for in order");
        if wish.offset == self.size_bytes {
            self.end = End::AskedFor(op);
            return;
        }
        self.next_offset += wish.len as u64;
        let Wish { len, .. } = wish;
        self.pieces.push_back(Piece { op, len, bytes: None, taken: 0, is_stale: false });
    }

    /// Whether `op` is one of its reads.
    pub(super) fn is_waiting_for(&self, op: OpId) -> bool {
        self.ops().any(|waiting| waiting == op)
    }

    /// The reads under way.
    pub(super) fn ops(&self) -> impl Iterator<Item = OpId> {
        let end = match self.end {
            End::AskedFor(op) => Some(op),
            End::Unknown | End::Seen => None,
        };
        let pieces = self.pieces.iter().filter(|piece| piece.bytes.is_none());
        pieces.map(|piece| piece.op).chain(end)
    }

    /// The answer to read `op`.
    pub(super) fn on_read(&mut self, op: OpId, bytes: Vec<u8>) -> Size {
        if self.end == End::AskedFor(op) {
            self.end = End::Seen;
            return if bytes.is_empty() { Size::Kept } else { Size::Grown };
        }
        let index = self.pieces.iter().position(|piece| piece.op == op);
        let index = index.expect("the answer to a read that is under way");
        let piece = &mut self.pieces[index];
        if piece.is_stale {
            self.pieces.remove(index);
            return Size::Kept;
        }
        let is_whole = bytes.len() == piece.len;
        piece.bytes = Some(bytes);
        if is_whole { Size::Kept } else { Size::Shrunk }
    }

    /// Bytes of the file when it was opened.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Place in the file of the next byte to take.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether everything up to the end of the file has been taken, and nothing is behind it.
    pub(super) fn is_at_end(&self) -> bool {
        self.offset == self.size_bytes && self.end == End::Seen
    }

    /// What can be taken now, as far as it lies in one piece.
    pub(super) fn available(&self) -> &[u8] {
        let front = self.pieces.iter().find(|piece| !piece.is_stale);
        let ready = front.and_then(|piece| Some(&piece.bytes.as_ref()?[piece.taken..]));
        ready.unwrap_or_default()
    }

    /// `count` of the available bytes are taken.
    pub(super) fn advance(&mut self, count: usize) {
        assert!(count <= self.available().len(), "more is taken than is there");
        if count == 0 {
            return;
        }
        let index = self.pieces.iter().position(|piece| !piece.is_stale);
        let index = index.expect("bytes were available");
        let piece = &mut self.pieces[index];
        piece.taken += count;
        if piece.taken == piece.len {
            self.pieces.remove(index);
        }
        self.offset += count as u64;
    }
}

/// As a reader it says "would block" while a piece is on its way.
impl BufRead for ReadAhead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.available().is_empty() && !self.is_at_end() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(self.available())
    }

    fn consume(&mut self, count: usize) {
        self.advance(count);
    }
}

impl Read for ReadAhead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(out.len());
        out[..count].copy_from_slice(&available[..count]);
        self.advance(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for everything wished for; the operations are numbered from `first`.
    fn ask(reads: &mut ReadAhead, first: u64) -> Vec<(u64, usize)> {
        let mut asked = Vec::new();
        while let Some(wish) = reads.wish() {
            reads.asked(wish, OpId(first + asked.len() as u64));
            asked.push((wish.offset, wish.len));
        }
        asked
    }

    #[test]
    fn pieces_are_taken_in_order_however_they_come() {
        let mut reads = ReadAhead::new(25, 10);
        reads.set_eager_until(u64::MAX);
        assert_eq!(ask(&mut reads, 0), [(0, 10), (10, 10), (20, 5), (25, 1)]);
        assert_eq!(reads.on_read(OpId(1), vec![1; 10]), Size::Kept);
        assert_eq!(reads.available(), b"");
        assert_eq!(reads.on_read(OpId(0), vec![0; 10]), Size::Kept);
        assert_eq!(reads.on_read(OpId(2), vec![2; 5]), Size::Kept);
        for (count, byte) in [(10, 0), (10, 1), (5, 2)] {
            assert_eq!(reads.available(), vec![byte; count]);
            reads.advance(count);
        }
        assert!(!reads.is_at_end(), "something may follow");
        assert_eq!(reads.on_read(OpId(3), Vec::new()), Size::Kept);
        assert!(reads.is_at_end());
    }

    #[test]
    fn a_byte_behind_the_end_says_that_the_file_has_grown() {
        let mut reads = ReadAhead::new(0, 10);
        assert_eq!(ask(&mut reads, 0), [(0, 1)]);
        assert_eq!(reads.on_read(OpId(0), vec![7]), Size::Grown);
    }

    #[test]
    fn no_more_than_a_few_pieces_are_ahead() {
        let mut reads = ReadAhead::new(1000, 10);
        reads.set_eager_until(1000);
        assert_eq!(ask(&mut reads, 0).len(), PIECES_AHEAD);
        reads.on_read(OpId(0), vec![0; 10]);
        reads.advance(9);
        assert_eq!(ask(&mut reads, 10), []);
        reads.advance(1);
        assert_eq!(ask(&mut reads, 10), [(40, 10)]);
    }

    #[test]
    fn beyond_what_is_wanted_one_piece_is_read_at_a_time() {
        let mut reads = ReadAhead::new(100, 10);
        reads.set_eager_until(15);
        assert_eq!(ask(&mut reads, 0), [(0, 10), (10, 10)]);
        reads.on_read(OpId(0), vec![0; 10]);
        reads.advance(10);
        reads.on_read(OpId(1), vec![0; 10]);
        assert_eq!(ask(&mut reads, 10), []);
        reads.advance(10);
        assert_eq!(ask(&mut reads, 10), [(20, 10)]);
    }

    #[test]
    fn reads_from_before_a_seek_are_dropped() {
        let mut reads = ReadAhead::new(100, 10);
        assert_eq!(ask(&mut reads, 0), [(0, 10)]);
        reads.seek(50);
        assert_eq!(ask(&mut reads, 1), [(50, 10)]);
        assert_eq!(reads.on_read(OpId(1), vec![5; 10]), Size::Kept);
        assert_eq!((reads.available(), reads.offset()), (&[5; 10][..], 50));
        assert_eq!(reads.on_read(OpId(0), vec![0; 3]), Size::Kept, "nobody looks at it");
        assert_eq!(reads.available(), [5; 10]);
    }

    #[test]
    fn a_file_that_shrank_is_noticed() {
        let mut reads = ReadAhead::new(10, 10);
        ask(&mut reads, 0);
        assert_eq!(reads.on_read(OpId(0), vec![0; 9]), Size::Shrunk);
    }
}
