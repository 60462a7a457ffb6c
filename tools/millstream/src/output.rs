//! The output of a command, whose reader may leave: `millstream table dump x | head`.
//!
//! Once nobody reads any more, what is written is dropped and is no error; who writes much asks
//! [`Output::is_closed`] and stops.

use std::io::{self, ErrorKind, Write};

/// Writes to `W` as long as somebody reads.
#[derive(Debug)]
pub(crate) struct Output<W> {
    writer: W,
    is_closed: bool,
}

impl<W: Write> Output<W> {
    pub(crate) fn new(writer: W) -> Self {
        Self { writer, is_closed: false }
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// `result`, or `otherwise` if it only says that nobody reads.
    fn forgive<T>(&mut self, result: io::Result<T>, otherwise: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(otherwise)
            }
            result => result,
        }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_closed {
            return Ok(bytes.len());
        }
        let written = self.writer.write(bytes);
        self.forgive(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_closed {
            return Ok(());
        }
        let flushed = self.writer.flush();
        self.forgive(flushed, ())
    }
}

/// The digits of `bytes`, two for each.
pub(crate) fn write_hex(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |number: u8| DIGITS[usize::from(number)];
    bytes.iter().try_for_each(|byte| out.write_all(&[digit(byte >> 4), digit(byte & 15)]))
}
