//! What can go wrong with tables.

use super::writer::KeyTooLarge;
use crate::io::FileId;

/// A file that is not the table it should be, or cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Bytes are not those that were written. Read them again or from another copy; if that does
    /// not help, restore from an earlier checkpoint.
    #[error("file {file} is corrupt at byte {offset}: {what}")]
    Corrupt {
        /// Which file.
        file: FileId,
        /// Where the part begins that cannot be believed.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A later release has written it.
    #[error("file {file} is a table of version {found}, this release reads up to {newest}")]
    Version {
        /// Which file.
        file: FileId,
        /// Its version.
        found: u32,
        /// The last version that is known here.
        newest: u32,
    },
    /// The entries of one key do not fit a block. Its state has to merge its operands more often.
    #[error(transparent)]
    KeyTooLarge(#[from] KeyTooLarge),
}
