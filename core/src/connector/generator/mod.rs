//! Deterministic records: the same streams in every language, on every machine, at every
//! parallelism.
//!
//! Record `n` of a stream is a function of `n` alone. So a split is a set of numbers, a position is
//! a number, and what an engine made of a stream can be compared with a checksum. The streams are
//! specified in `docs/generator.md`; its test vectors are the tests of this folder.

pub mod card;
pub mod checksum;
pub mod draw;
pub mod nexmark;
mod source;
mod text;

pub use card::{CardSource, CardTransaction};
pub use checksum::{Checksum, hash, tag};
pub use nexmark::{Auction, Bid, Nexmark, NexmarkSource, Person};
pub use source::{Generate, GeneratorReader, GeneratorSource};
