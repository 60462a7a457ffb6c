//! What happened in a simulation, as text and as a hash.
//!
//! Two runs of one seed must give the same bytes; the hash says so without keeping them.

use std::fmt::Write as _;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

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
        self.write(format_args!("{:>12} shard {shard} <- {event:?}", now.as_nanos()));
    }

    /// Shard `shard` asks for `effect`.
    pub fn effect(&mut self, now: Duration, shard: u32, effect: &Effect) {
        self.write(format_args!("{:>12} shard {shard} -> {effect:?}", now.as_nanos()));
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

    fn write(&mut self, line: std::fmt::Arguments<'_>) {
        self.line.clear();
        writeln!(self.line, "{line}").expect("a string takes everything");
        self.hash.update(self.line.as_bytes());
        self.line_count += 1;
        if let Some(text) = &mut self.text {
            text.push_str(&self.line);
        }
    }
}
