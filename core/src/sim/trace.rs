//! What happened in a simulation, as text and as a hash.
//!
//! Two runs of one seed must give the same bytes; the hash says so without keeping them. Records
//! are part of it: a batch is written as a hash of its rows, whether it stays on its shard or not,
//! and so are the bytes of files, sockets and snapshots.

use std::fmt::{self, Write as _};
use std::time::Duration;

use millstream_net::io::{SocketDone, SocketOp};
use millstream_storage::io::{FileAnswer, FileDone, FileOp};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::shard::event::{Effect, Event};

/// The record of one simulation.
pub struct Trace {
    hash: Xxh3,
    line: String,
    text: Option<String>,
    line_count: u64,
}

impl Trace {
    /// An empty trace; `is_kept` says whether the text is kept or only its hash.
    pub fn new(is_kept: bool) -> Self {
        Self {
            hash: Xxh3::new(),
            line: String::new(),
            text: is_kept.then(String::new),
            line_count: 0,
        }
    }

    /// Shard `shard` is told `event`.
    pub fn event(&mut self, now: Duration, shard: u32, event: &Event) {
        let now_ns = now.as_nanos();
        match event {
            Event::File(FileDone { op, result: Ok(FileAnswer::Read { bytes }) }) => {
                self.write(format_args!("{now_ns:>12} shard {shard} <- {op:?}: {}", Hashed(bytes)));
            }
            Event::File(FileDone { op, result: Ok(FileAnswer::Written { .. }) }) => {
                self.write(format_args!("{now_ns:>12} shard {shard} <- {op:?}: Written"));
            }
            Event::Socket(SocketDone::Received { socket, bytes }) => self.write(format_args!(
                "{now_ns:>12} shard {shard} <- {socket:?}: received {}",
                Hashed(bytes)
            )),
            Event::Socket(SocketDone::Sent { socket, .. }) => {
                self.write(format_args!("{now_ns:>12} shard {shard} <- {socket:?}: sent"));
            }
            _ => self.write(format_args!("{now_ns:>12} shard {shard} <- {event:?}")),
        }
    }

    /// Shard `shard` asks for `effect`.
    pub fn effect(&mut self, now: Duration, shard: u32, effect: &Effect) {
        let now_ns = now.as_nanos();
        match effect {
            Effect::File(FileOp::Write { op, file, offset, bytes }) => self.write(format_args!(
                "{now_ns:>12} shard {shard} -> {op:?}: write {file} at {offset}, {}",
                Hashed(bytes)
            )),
            Effect::Socket(SocketOp::Send { socket, bytes }) => self.write(format_args!(
                "{now_ns:>12} shard {shard} -> {socket:?}: send {}",
                Hashed(bytes)
            )),
            Effect::Report(report) => {
                self.write(format_args!("{now_ns:>12} shard {shard} -> {report:?}"));
            }
            _ => self.write(format_args!("{now_ns:>12} shard {shard} -> {effect:?}")),
        }
    }

    /// A task of shard `shard` has sent another one `element`, in the words of the shard.
    pub fn local(&mut self, now: Duration, shard: u32, element: &str) {
        self.write(format_args!("{:>12} shard {shard} -- {element}", now.as_nanos()));
    }

    /// xxh3-64 of everything so far.
    pub fn hash64(&self) -> u64 {
        self.hash.digest()
    }

    /// How many lines there are.
    pub fn line_count(&self) -> u64 {
        self.line_count
    }

    /// The text, if it was kept.
    pub fn into_text(self) -> Option<String> {
        self.text
    }

    fn write(&mut self, line: fmt::Arguments<'_>) {
        self.line.clear();
        writeln!(self.line, "{line}").expect("a string takes everything");
        self.hash.update(self.line.as_bytes());
        self.line_count += 1;
        if let Some(text) = &mut self.text {
            text.push_str(&self.line);
        }
    }
}

/// Bytes that are too many to be read by anybody.
struct Hashed<'a>(&'a [u8]);

impl fmt::Display for Hashed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, hash64 {:016x}", self.0.len(), xxh3_64(self.0))
    }
}
