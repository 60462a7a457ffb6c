//! Tables: immutable files of sorted entries, byte by byte.
//!
//! A table holds what a store has flushed or merged: entries in the order of their
//! [stored keys](crate::key), so every range of key groups, every state and every window of it is
//! one range of the file. It is written once, from sorted input, and never changed; [`View`]s clip
//! it. One process writes and reads it without a file handle: bytes leave as [`Piece`]s and are
//! asked for as [`Want`]s.
//!
//! ```text
//! │ block │ block │ … │ filters  0 │ fences │ places │ separators │ directory │ properties  0 │
//! │ footer, 4096 bytes │
//! ```
//!
//! Blocks, filters, fences and the footer begin at multiples of [`PAGE_BYTES`], as direct I/O
//! wants; the other sections follow one another. Numbers are little endian, but for those within a
//! stored key. Checksums are crc32.
//!
//! # A block
//!
//! One page, or as many as a larger entry needs. All entries of one stored key are in one block;
//! those of several key groups are only if the writer [may](Writer::sharing_blocks).
//!
//! ```text
//! byte 0      4      5       6       8         16          24      28        32
//!      │ crc  │ form │ flags │ key   │ sequence│ max time  │ count │ prefix  │
//!      │      │      │       │ group │         │           │       │ length  │
//! byte 32      36      40      44     45   48
//!      │stride │suffix │ value │ kind │  0  │ prefix │ entries │ 0 │ offsets │
//!      │       │length │length │      │     │
//! ```
//!
//! - key group: that of the first entry.
//! - crc: of the table's id, the number of the block's first page, and the block after this field.
//!   What another table wrote here, or this one elsewhere, is not believed.
//! - form: 1, all entries have one shape and lie at equal strides; 2, they differ, and their places
//!   are in the offsets.
//! - flags: 1, each entry has its own sequence; 2, each has its own time; 4, values begin at
//!   multiples of 16 from the block's beginning, so that archives can be read in place.
//! - sequence: the largest.
//! - max time: the latest time (ms); 2^63 - 1 if an entry has none. Before it, something is alive.
//! - prefix: what all stored keys of the block begin with.
//! - stride, suffix length, value length, kind: the shape of the entries of form 1; 0 in form 2.
//! - offsets: in form 2, where each entry begins, 4 bytes each, up to the end of the block.
//!
//! ```text
//! form 1                              │ sequence │ time │ suffix │ 0 │ value │ 0 │
//! form 2  │ kind, suffix │ value      │ sequence │ time │ suffix │ 0 │ value │
//!         │ length       │ length     │  if own  │if own│
//! ```
//!
//! The stored key is prefix and suffix. Kind: 1 a value, 2 a tombstone, 3 an operand; form 2 has it
//! in the upper four bits of the suffix length.
//!
//! # Sections
//!
//! - filters: 64 bytes for about 51 keys, Bloom filters whose probes stay in one cache line. A
//!   block has lines of its own.
//! - fences: per block, the `hash64` of its first entry, 8 bytes.
//! - places: per block, and once for the end, its first page and the first line of its filter, 4
//!   bytes each.
//! - separators: how many (4 bytes); for each block that begins with the hash that the one before
//!   it ends with, its number and the end of its text, 4 bytes each; then the texts. A text is what
//!   follows the hash in the block's first key, as short as tells it from the key before.
//! - directory: per key group, state and window bucket, a [`Section`] of 72 bytes.
//! - properties: what [`TableMeta`] says of the table.
//!
//! A key is found without reading: its section in the directory, its block by interpolation over
//! the fences (hashes are uniform), and within equal hashes by the separators. One line of filter
//! says whether the block is worth a read.
//!
//! # The footer
//!
//! ```text
//! byte 0       8        12        16         24            32         36       40
//!      │ magic │ length │ version │ table id │ file length │ sections │ blocks │ rows … 0 … crc │
//! ```
//!
//! `length`: bytes of the page that are used, which is how a later version finds room. `sections`:
//! how many there are; the row of each is its offset, its length (8 bytes each), checksum and 4
//! zeros. `blocks`: the checksum of all blocks, as if they were a section. The crc is that of the
//! page before it: so it depends on every byte of the file, and tells the table from any other.
//! Magic, version and crc stay where they are in all versions.
//!
//! # What is believed
//!
//! Nothing before its checksum is right and the places in it lie within what was read. Damage is an
//! [`Error`] with file and offset; it is never a panic, a wrong value, or a request for more
//! than the file holds. An [`Audit`] looks at everything that a lookup would look at one day.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use millstream_storage::io::FileId;
//! use millstream_storage::key::StoredKey;
//! use millstream_storage::table::{
//!     Change, Cursor, Entry, Filters, HashRange, KeyRange, Located, Opening, TableId, Values,
//!     View, Want, Writer, WriterConfig,
//! };
//!
//! // Write three entries. A host would write each piece to a file.
//! let stored = |hash64, key| {
//!     let (key_group, namespace, map_key) = ((hash64 >> 61) as u16, &[][..], &[][..]);
//!     StoredKey { key_group, state_id: 0, window_bucket: 0, hash64, key, namespace, map_key }
//! };
//! let keys = [stored(1 << 60, b"a"), stored(2 << 60, b"b"), stored(9 << 60, b"c")];
//! let keys = keys.map(|key| key.encode());
//! let values = Values::Packed;
//! let mut writer = Writer::new(WriterConfig { id: TableId(1), key_group_count: 8, values });
//! let mut file = Vec::new();
//! for key in &keys {
//!     let change = Change::Value(b"of the key");
//!     writer.push(Entry { key, change, sequence: 1, time_ms: None })?;
//!     file.extend(writer.full_piece().into_iter().flat_map(|piece| piece.bytes));
//! }
//! let mut ending = writer.finish();
//! while let Some(piece) = ending.next_piece() {
//!     file.extend(piece.bytes);
//! }
//!
//! // Open it. A host would answer each want with a read.
//! let read = |want: Want| &file[want.offset as usize..][..want.len];
//! let mut opening = Opening::new(FileId(0), file.len() as u64, Filters::Load)?;
//! while let Some(want) = opening.want() {
//!     opening.on_read(read(want))?;
//! }
//! let table = opening.into_table();
//! assert_eq!(table.meta(), &ending.meta());
//! let view = View::new(Arc::new(table), HashRange::ALL);
//!
//! // Look a key up.
//! let Located::Block(want) = view.locate(&keys[1])? else { panic!("it is there") };
//! let block = view.table().block(want, read(want))?;
//! let newest = block.search(&keys[1]).next().expect("it is there");
//! assert_eq!(newest.change, Change::Value(b"of the key"));
//!
//! // Scan a key group: that of the first key.
//! let range = KeyRange::prefix(&0_u16.to_be_bytes());
//! let mut cursor = Cursor::new(view, range, 4096)?;
//! let mut found = Vec::new();
//! loop {
//!     while let Some(want) = cursor.want() {
//!         cursor.on_read(read(want).to_vec())?;
//!     }
//!     let Some(entry) = cursor.entry() else { break };
//!     found.push(entry.key.to_vec());
//!     cursor.advance()?;
//! }
//! assert_eq!(found, keys[..1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Not here: which tables there are, and which are merged when (`compaction/`).

mod audit;
mod block;
mod bytes;
mod cursor;
mod directory;
mod entry;
mod error;
mod filter;
mod footer;
mod index;
mod opening;
mod range;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use audit::Audit;
pub use block::{Block, Chain};
pub use cursor::Cursor;
pub use directory::Section;
pub use entry::{Change, Entry};
pub use error::Error;
pub use footer::{Part, TableId, TableMeta, VERSION};
pub use opening::{Filters, Opening};
pub use range::{HashRange, KeyRange};
pub use reader::{Located, Table, View, Want};
pub use writer::{Ending, KeyTooLarge, Piece, Values, Writer, WriterConfig};

use crate::io::DIRECT_ALIGNMENT_BYTES;

/// Blocks are multiples of this, and so are the places and lengths of all reads and writes.
pub const PAGE_BYTES: usize = DIRECT_ALIGNMENT_BYTES;

/// Largest block: more than all entries of one stored key may take.
pub const BLOCK_BYTES_MAX: usize = 64 << 20;
const _: () = assert!(BLOCK_BYTES_MAX.is_multiple_of(PAGE_BYTES) && BLOCK_BYTES_MAX < 1 << 28);

/// Size of the pieces in which a table is written and its metadata is read.
pub const PIECE_BYTES: usize = 256 << 10;
const _: () = assert!(PIECE_BYTES.is_multiple_of(PAGE_BYTES));
