//! What a file contains: its bytes, decompressed if its name says so.
//!
//! Everything is done in steps of a few kilobytes: a step is a small part of a turn, and what a
//! step gives is all the memory it takes, however well the file was compressed. Besides, gzip needs
//! 32 KiB and zstd the window that the file was written with (8 MiB at most by default, 128 MiB for
//! `--long`; files that need more are refused).

use std::io::{ErrorKind, Read};

use flate2::bufread::GzDecoder;
use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use super::read_ahead::ReadAhead;

/// Bytes that one step appends at most: some 50 µs of decompression.
pub(super) const STEP_BYTES: usize = 16 << 10;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// What the name of a file says.
    pub(super) fn of(path: &str) -> Self {
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        match extension {
            _ if extension.eq_ignore_ascii_case("gz") => Self::Gzip,
            _ if extension.eq_ignore_ascii_case("zst") => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// What a file that is read as plain text begins with, if it is compressed; the program that
/// compresses so, and whether its files are decompressed as they are read.
const MAGIC: [(&[u8], &str, Option<&str>); 5] = [
    (b"\x1f\x8b\x08", "gzip", Some(".gz")),
    (b"\x28\xb5\x2f\xfd", "zstd", Some(".zst")),
    (b"BZh91A", "bzip2", None),
    (b"\xfd7zXZ\0", "xz", None),
    (b"PK\x03\x04", "zip", None),
];

/// Bytes of a file that show whether it is compressed.
pub(super) const MAGIC_BYTES: usize = 6;

/// What to do about a file that begins with `bytes` and is not called compressed; none if it is not
/// compressed.
pub(super) fn unnamed_compression(bytes: &[u8]) -> Option<String> {
    let (_, program, ending) = MAGIC.iter().find(|(magic, ..)| bytes.starts_with(magic))?;
    Some(match ending {
        Some(ending) => format!(
            "the file is compressed with {program}, and its name does not say so; let it end with \
             {ending}"
        ),
        None => format!(
            "the file is compressed with {program}, which is not supported; decompress it first, \
             or use gzip or zstd"
        ),
    })
}

/// The content of an open file.
pub(super) enum Content {
    Plain(ReadAhead),
    /// One member after another, as `gzip` itself reads them.
    Gzip(Members),
    /// One frame after another.
    Zstd(Box<Frames>),
}

/// The members of a gzip file.
pub(super) enum Members {
    /// Before the first.
    Before(ReadAhead),
    Within(Box<GzDecoder<ReadAhead>>),
    /// Behind one. What fills up the file with zeros, as tapes and block devices have it, is passed
    /// over.
    Behind(ReadAhead),
    /// For the moment in which one state becomes another.
    Moving,
}

/// The frames of a zstd file.
pub(super) struct Frames {
    reads: ReadAhead,
    decoder: ZstdDecoder<'static>,
    /// A frame has begun and has not ended.
    is_within: bool,
    /// There has been a frame: a file without any is no zstd file.
    has_begun: bool,
}

/// What a step gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// More content.
    Some,
    /// A read must be answered first.
    Wait,
    /// That was all.
    End,
}

/// A compressed file that cannot be decompressed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// About where, in the compressed file.
    pub(super) offset: u64,
    /// What is wrong and what to do.
    pub(super) reason: String,
}

impl Content {
    /// The content of the file that `reads` reads.
    ///
    /// # Errors
    /// There is no memory for a decompressor.
    pub(super) fn new(compression: Compression, reads: ReadAhead) -> std::io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(reads),
            Compression::Gzip => Self::Gzip(Members::Before(reads)),
            Compression::Zstd => {
                let decoder = ZstdDecoder::new()?;
                Self::Zstd(Box::new(Frames { reads, decoder, is_within: false, has_begun: false }))
            }
        })
    }

    /// The reads behind it.
    pub(super) fn reads(&self) -> &ReadAhead {
        match self {
            Self::Plain(reads) => reads,
            Self::Gzip(members) => members.reads(),
            Self::Zstd(frames) => &frames.reads,
        }
    }

    /// The reads behind it.
    pub(super) fn reads_mut(&mut self) -> &mut ReadAhead {
        match self {
            Self::Plain(reads) => reads,
            Self::Gzip(members) => members.reads_mut(),
            Self::Zstd(frames) => &mut frames.reads,
        }
    }

    /// Whether reading may go on anywhere.
    pub(super) fn is_seekable(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Appends at most [`STEP_BYTES`] to `out`.
    ///
    /// # Errors
    /// What is wrong with the compressed bytes.
    pub(super) fn step(&mut self, out: &mut Vec<u8>) -> Result<Step, Damage> {
        match self {
            Self::Plain(reads) => Ok(copy(reads, out)),
            Self::Gzip(members) => members.step(out),
            Self::Zstd(frames) => frames.step(out),
        }
    }
}

fn copy(reads: &mut ReadAhead, out: &mut Vec<u8>) -> Step {
    let available = reads.available();
    let count = available.len().min(STEP_BYTES);
    out.extend_from_slice(&available[..count]);
    reads.advance(count);
    match count {
        0 if reads.is_at_end() => Step::End,
        0 => Step::Wait,
        _ => Step::Some,
    }
}

impl Members {
    fn reads(&self) -> &ReadAhead {
        match self {
            Self::Before(reads) | Self::Behind(reads) => reads,
            Self::Within(decoder) => decoder.get_ref(),
            Self::Moving => unreachable!("a state has followed"),
        }
    }

    fn reads_mut(&mut self) -> &mut ReadAhead {
        match self {
            Self::Before(reads) | Self::Behind(reads) => reads,
            Self::Within(decoder) => decoder.get_mut(),
            Self::Moving => unreachable!("a state has followed"),
        }
    }

    fn step(&mut self, out: &mut Vec<u8>) -> Result<Step, Damage> {
        match std::mem::replace(self, Self::Moving) {
            Self::Before(reads) => Ok(self.begin(reads)),
            Self::Behind(mut reads) => {
                let zeros = reads.available().iter().take_while(|byte| **byte == 0).count();
                reads.advance(zeros);
                if reads.is_at_end() {
                    *self = Self::Behind(reads);
                    return Ok(Step::End);
                }
                if reads.available().is_empty() {
                    *self = Self::Behind(reads);
                    return Ok(Step::Wait);
                }
                Ok(self.begin(reads))
            }
            Self::Within(decoder) => self.decompress(decoder, out),
            Self::Moving => unreachable!("a state has followed"),
        }
    }

    fn begin(&mut self, reads: ReadAhead) -> Step {
        // It reads what is there of the member's header; what is wrong is said by the first read.
        *self = Self::Within(Box::new(GzDecoder::new(reads)));
        Step::Some
    }

    fn decompress(
        &mut self,
        mut decoder: Box<GzDecoder<ReadAhead>>,
        out: &mut Vec<u8>,
    ) -> Result<Step, Damage> {
        let len_before = out.len();
        out.resize(len_before + STEP_BYTES, 0);
        let result = decoder.read(&mut out[len_before..]);
        out.truncate(len_before + *result.as_ref().unwrap_or(&0));
        if let Ok(0) = result {
            *self = Self::Behind(decoder.into_inner());
            return Ok(Step::Some);
        }
        let offset = decoder.get_ref().offset();
        *self = Self::Within(decoder);
        match result {
            Ok(_) => Ok(Step::Some),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Step::Wait),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(truncated(offset)),
            Err(error) => Err(damaged(offset, &error)),
        }
    }
}

impl Frames {
    fn step(&mut self, out: &mut Vec<u8>) -> Result<Step, Damage> {
        let len_before = out.len();
        out.resize(len_before + STEP_BYTES, 0);
        let (read, written, result) = {
            let mut input = InBuffer::around(self.reads.available());
            let mut output = OutBuffer::around(&mut out[len_before..]);
            let result = if self.is_within || !input.src.is_empty() {
                self.decoder.run(&mut input, &mut output)
            } else {
                Ok(0)
            };
            (input.pos(), output.pos(), result)
        };
        out.truncate(len_before + written);
        let hint = result.map_err(|error| damaged(self.reads.offset(), &error))?;
        self.reads.advance(read);
        if read > 0 || written > 0 {
            // The decoder asks for nothing more exactly when a frame is complete.
            self.is_within = hint != 0;
            self.has_begun = true;
            if hint == 0 {
                let restart = self.decoder.reinit();
                restart.map_err(|error| damaged(self.reads.offset(), &error))?;
            }
            return Ok(Step::Some);
        }
        match (self.reads.is_at_end(), self.is_within) {
            (false, _) => Ok(Step::Wait),
            (true, false) if self.has_begun => Ok(Step::End),
            (true, _) => Err(truncated(self.reads.offset())),
        }
    }
}

fn truncated(offset: u64) -> Damage {
    let reason = "the compressed file ends before its content does; it was not copied or written \
                  completely: get it again";
    Damage { offset, reason: reason.to_string() }
}

/// How the zstd library says that a window is larger than it will have memory for.
const WINDOW_TOO_LARGE: &str = "requires too much memory";

fn damaged(offset: u64, error: &std::io::Error) -> Damage {
    if error.to_string().contains(WINDOW_TOO_LARGE) {
        let reason = "the file was compressed with a window of more than 128 MiB; compress it again \
                      with --long=27 or less";
        return Damage { offset, reason: reason.to_string() };
    }
    let reason = format!(
        "the compressed content is damaged ({error}); check that the name's ending says how it is \
         compressed, and get the file again"
    );
    Damage { offset, reason }
}
