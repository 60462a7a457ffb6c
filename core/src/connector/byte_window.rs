//! The bytes of a file or connection that have arrived and have not been read as records.

/// What UTF-8 texts of some programs begin with; it is no part of the text.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Bytes already read may stay in front of the others up to so many, so that moving the others to
/// the front happens rarely.
const SLACK_BYTES: usize = 64 << 10;

/// A piece of content that grows at its end and is read from its beginning.
#[derive(Debug, Default)]
pub(super) struct ByteWindow {
    bytes: Vec<u8>,
    /// So many of `bytes` have been read.
    read: usize,
    /// Place in the content of the first byte that has not been read.
    position: u64,
}

impl ByteWindow {
    /// An empty window at byte `position`.
    pub(super) fn at(position: u64) -> Self {
        Self { position, ..Self::default() }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.read..]
    }

    /// Place in the content of the first byte that has not been read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// `count` bytes have been read.
    pub(super) fn consume(&mut self, count: usize) {
        assert!(count <= self.rest().len(), "more was read than is there");
        self.read += count;
        self.position += count as u64;
    }

    /// Where to append what follows.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        if self.read == self.bytes.len() || self.read >= SLACK_BYTES {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_been_read_makes_room() {
        let mut window = ByteWindow::at(100);
        window.end().resize(SLACK_BYTES + 10, 7);
        window.consume(SLACK_BYTES);
        assert_eq!((window.position(), window.rest()), (100 + SLACK_BYTES as u64, &[7; 10][..]));
        window.end().push(8);
        assert_eq!(window.bytes, [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8]);
    }
}
