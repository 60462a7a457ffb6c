//! What flows: rows, keys and the elements of a channel.
//!
//! ```text
//! value ──► Row { value, event time, key hash, origin } ──► batch ──► Frame ──► Element
//!           one record inside a chain                        rows     bytes     in a channel
//! ```

pub mod ahead;
pub mod archived_row;
pub mod bytes;
pub mod either;
pub mod element;
pub mod frame;
pub mod key;
pub mod key_group;
pub mod record;
pub mod row;
pub mod slot;
