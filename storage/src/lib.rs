//! Sans-IO storage for stream processing: what a shard wants from its disk, as values.
//!
//! Nothing here opens a file. Bytes leave as [`io::FileOp`] and come back as [`io::FileDone`]; a
//! host (a real one, or a simulated disk) carries them out. [`arena`] holds the memory that frames
//! and blocks are built in. [`table`] is the format in which a store's entries lie in files, with
//! all it takes to write, open, look up and scan them; [`merge`] makes one of many, [`compaction`]
//! decides of which. [`write_buffer`] is the state that is in memory, and [`store`] all of it; a
//! [`manifest`] says what a store consists of, and an [`atomic_file`] takes the place of another.

pub mod arena;
pub mod atomic_file;
pub mod cache;
pub mod compaction;
pub mod huge_vec;
pub mod io;
pub mod key;
pub mod listing;
pub mod manifest;
pub mod merge;
pub mod prefetch;
pub mod store;
pub mod table;
#[cfg(test)]
mod test_disk;
pub mod version;
pub mod write_buffer;
