//! Counts the lines before a place in a file, when an error must say in which line it is.
//!
//! A range of a file begins at a byte, and nobody has counted the lines before it. To count them,
//! all that stands there must be read, so it is done only for a record that cannot be read. A task
//! goes on from where it counted to last: however many records are bad, a file is counted once.

use millstream_storage::io::OpId;

use super::read_ahead::Wish;

/// Bytes of one read.
const PIECE_BYTES: u64 = 1 << 20;

/// A place whose line is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) path: String,
    pub(super) offset: u64,
    /// Line that begins, or goes on, there.
    pub(super) line: u64,
}

/// A count that is under way.
#[derive(Debug)]
pub(super) struct LineCount {
    /// Everything before it has been counted.
    mark: Mark,
    target: u64,
    asked: Option<(OpId, u64)>,
}

impl LineCount {
    /// Counts up to byte `target` of the file at `path`, from `known` if that helps.
    pub(super) fn new(path: &str, target: u64, known: Option<&Mark>) -> Self {
        let is_before = |mark: &&Mark| mark.path == path && mark.offset <= target;
        let begin = || Mark { path: path.to_string(), offset: 0, line: 1 };
        Self { mark: known.filter(is_before).cloned().unwrap_or_else(begin), target, asked: None }
    }

    /// The read to ask for next, if there should be one; to be followed by [`LineCount::asked`].
    pub(super) fn wish(&self) -> Option<Wish> {
        let len = (self.target - self.mark.offset).min(PIECE_BYTES);
        let is_due = self.asked.is_none() && len > 0;
        is_due.then_some(Wish { offset: self.mark.offset, len: len as usize })
    }

    /// `wish` is under way as `op`.
    pub(super) fn asked(&mut self, wish: Wish, op: OpId) {
        self.asked = Some((op, wish.len as u64));
    }

    /// Whether `op` is its read.
    pub(super) fn is_waiting_for(&self, op: OpId) -> bool {
        self.asked.is_some_and(|(asked, _)| asked == op)
    }

    /// The answer to its read. `false` if it is shorter than it must be: the file has shrunk.
    pub(super) fn on_read(&mut self, bytes: &[u8]) -> bool {
        let (_, len) = self.asked.take().expect("the answer to a read that is under way");
        self.mark.line += memchr::memchr_iter(b'\n', bytes).count() as u64;
        self.mark.offset += bytes.len() as u64;
        bytes.len() as u64 == len
    }

    /// The line at the place, once everything has been counted.
    pub(super) fn result(&self) -> Option<&Mark> {
        (self.mark.offset == self.target).then_some(&self.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts in `text` up to `target`: the mark, and how many bytes were read for it.
    fn count(text: &[u8], target: u64, known: Option<&Mark>) -> (Mark, usize) {
        let mut count = LineCount::new("a", target, known);
        let mut read_bytes = 0;
        while let Some(wish) = count.wish() {
            count.asked(wish, OpId(1));
            assert_eq!(count.wish(), None, "one read at a time");
            assert!(count.on_read(&text[wish.offset as usize..][..wish.len]));
            read_bytes += wish.len;
        }
        (count.result().expect("everything is counted").clone(), read_bytes)
    }

    #[test]
    fn lines_are_counted_once_however_often_somebody_asks() {
        let text = b"a\nbc\n".repeat(300_000);
        let (mark, read_bytes) = count(&text, 1_250_000, None);
        assert_eq!((mark.offset, mark.line, read_bytes), (1_250_000, 500_001, 1_250_000));
        let (next, read_bytes) = count(&text, 1_250_005, Some(&mark));
        assert_eq!((next.line, read_bytes), (500_003, 5));
        assert_eq!(count(&text, 0, Some(&next)).0.line, 1, "it does not lie behind");
    }
}
