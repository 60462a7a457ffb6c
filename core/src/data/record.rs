//! What a type must be able to do to cross from one task to another: [`Record`].
//!
//! A user derives `rkyv`'s three traits; everything here follows by itself. The *low* level API of
//! `rkyv` is used on purpose: it does not compile for shared pointers (`Rc`, `Arc`), which have no
//! meaning on another shard.
//!
//! Archives are written by a writer that never runs out of room: it writes what fits and counts the
//! rest. So an archive that does not fit says how much it needs, and whatever else fails is the
//! value's own fault.
//!
//! Not here: the archive of a row (`archived_row.rs`), reading a batch in place (`frame.rs`).

use rkyv::api::low::{LowDeserializer, LowSerializer, LowValidator};
use rkyv::api::serialize_using;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{BoxedError, Error as Rancor, Failure, Source, Strategy};
use rkyv::ser::allocator::{Arena, ArenaHandle};
use rkyv::ser::{Positional, Serializer, Writer};
use rkyv::util::{AlignedVec, with_arena};
use rkyv::vec::ArchivedVec;
use rkyv::{Archive, Archived, Deserialize, Serialize};

use crate::data::archived_row::{ArchivedRow, RowSlice};
use crate::data::row::Row;
use crate::limits::ARCHIVE_BYTES_MAX;

/// A type whose values can be archived: records, keys and everything kept in state.
///
/// Implemented for every `Clone + Send` type that derives
/// `rkyv::{Archive, Serialize, Deserialize}`, and by no other means:
///
/// ```
/// use millstream::prelude::*;
///
/// #[derive(Debug, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// struct Payment {
///     card: u64,
///     merchant: String,
/// }
///
/// fn crosses_shards<T: Record>() {}
/// crosses_shards::<Payment>();
/// ```
///
/// Frames are read in place without a second check, which relies on archives being what their type
/// says. An implementation by hand could write anything, so there can be none:
///
/// ```compile_fail,E0277
/// use millstream::data::record::ArchiveError;
/// use millstream::prelude::*;
/// use rkyv::util::AlignedVec;
///
/// #[derive(Clone, rkyv::Archive)]
/// struct Liar(String);
///
/// impl Record for Liar {
///     fn archive_into(&self, _: &mut [u8]) -> Result<usize, ArchiveError> { Ok(0) }
///     # fn archive_rows(_: &[Row<Self>], _: &mut [u8]) -> Result<usize, ArchiveError> { Ok(0) }
///     # fn measure(_: &Row<Self>, at: usize, _: usize, _: &mut rkyv::ser::allocator::Arena)
///     #     -> Result<usize, ArchiveError> { Ok(at) }
///     # fn unarchive(_: &rkyv::Archived<Self>) -> Self { Liar(String::new()) }
///     # fn view(_: &[u8]) -> Result<&rkyv::Archived<Self>, rkyv::rancor::Error> { panic!() }
///     # fn view_rows(_: &[u8])
///     #     -> Result<&rkyv::vec::ArchivedVec<millstream::data::archived_row::ArchivedRow<Self>>,
///     #         rkyv::rancor::Error> { panic!() }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a record, a key or state",
    note = "derive `Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize`, and use no `Rc` or \
            `Arc` in it: records are owned by one shard at a time"
)]
pub trait Record: sealed::Sealed + Archive + Clone + Send + Sized + 'static {
    /// Writes the archive of `self` to the start of `out`, which is 16-aligned, and answers how
    /// many bytes it takes. Equal values give equal bytes.
    ///
    /// # Errors
    /// Why not; `out` then holds a part of it.
    fn archive_into(&self, out: &mut [u8]) -> Result<usize, ArchiveError>;

    /// Writes the archive of a whole batch, as [`Record::archive_into`] does of one value.
    ///
    /// # Errors
    /// Why not; `out` then holds a part of it.
    fn archive_rows(rows: &[Row<Self>], out: &mut [u8]) -> Result<usize, ArchiveError>;

    /// Where the strings and vectors of `row` end in the archive of a batch in which those of the
    /// rows before it end `at`; see [`crate::data::archived_row::frame_bytes`]. Writes nothing.
    ///
    /// # Errors
    /// [`ArchiveError::Overflow`] if that is beyond `limit_bytes`, or that `row` cannot be
    /// archived.
    fn measure(
        row: &Row<Self>,
        at: usize,
        limit_bytes: usize,
        arena: &mut Arena,
    ) -> Result<usize, ArchiveError>;

    /// The value that `view` shows.
    fn unarchive(view: &Archived<Self>) -> Self;

    /// Shows the value archived in `bytes`, after checking every one of them.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    fn view(bytes: &[u8]) -> Result<&Archived<Self>, Rancor>;

    /// Shows the batch archived in `bytes`, after checking every one of them.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    fn view_rows(bytes: &[u8]) -> Result<&ArchivedVec<ArchivedRow<Self>>, Rancor>;

    /// The archive of `self` in a buffer of its own, 16-aligned.
    ///
    /// # Panics
    /// If a `Serialize` that was written by hand, or a wrapper of a field, refuses the value.
    fn archive(&self) -> AlignedVec {
        let mut bytes = AlignedVec::new();
        let len = self.archive_in(&mut bytes).len();
        bytes.resize(len, 0);
        bytes
    }

    /// The archive of `self` in `room`, which grows if it has to and is for the next value, too.
    ///
    /// # Panics
    /// As [`Record::archive`].
    fn archive_in<'a>(&self, room: &'a mut AlignedVec) -> &'a [u8] {
        room.resize(INLINE_BYTES.max(room.len()), 0);
        let written = match self.archive_into(room) {
            Err(ArchiveError::Overflow { needed_bytes }) if needed_bytes <= ARCHIVE_BYTES_MAX => {
                room.resize(needed_bytes, 0);
                self.archive_into(room)
            }
            written => written,
        };
        let len =
            written.unwrap_or_else(|error| panic!("{}: {error}", std::any::type_name::<Self>()));
        &room[..len]
    }
}

/// Most values that are archived on their own (keys, accumulators) are smaller.
const INLINE_BYTES: usize = 256;

/// Why a value was not archived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// It is larger than the room for it.
    #[error("the archive does not fit: it takes {needed_bytes} bytes or more")]
    Overflow {
        /// What it takes, or the point beyond the limit at which counting ended.
        needed_bytes: usize,
    },
    /// Its `Serialize` failed, and would fail again.
    #[error("the value cannot be archived: {reason}")]
    Unserializable {
        /// What `Serialize` says.
        reason: String,
    },
}

/// Writes as much as there is room for and counts the rest, up to a limit.
struct CountingWriter<'a> {
    out: &'a mut [u8],
    pos: usize,
    limit_bytes: usize,
}

/// Counting has reached its limit. Never seen: [`encode`] looks at the count.
#[derive(Debug, thiserror::Error)]
#[error("the archive is larger than its limit")]
struct BeyondLimit;

impl Positional for CountingWriter<'_> {
    #[inline]
    fn pos(&self) -> usize {
        self.pos
    }
}

impl<E: Source> Writer<E> for CountingWriter<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        let end = self.pos + bytes.len();
        if let Some(place) = self.out.get_mut(self.pos..end) {
            place.copy_from_slice(bytes);
        } else if self.limit_bytes < end {
            self.pos = end;
            return Err(E::new(BeyondLimit));
        }
        self.pos = end;
        Ok(())
    }
}

/// Boxed: says what went wrong in release builds, too.
type Encoder<'a> = LowSerializer<CountingWriter<'a>, ArenaHandle<'a>, BoxedError>;

/// Runs `serialize` with an encoder that begins `at` and writes to `out`; where it ends.
#[inline]
fn encode(
    out: &mut [u8],
    at: usize,
    limit_bytes: usize,
    arena: &mut Arena,
    serialize: impl FnOnce(&mut Encoder<'_>) -> Result<(), BoxedError>,
) -> Result<usize, ArchiveError> {
    let writer = CountingWriter { out, pos: at, limit_bytes };
    let mut encoder = Serializer::new(writer, arena.acquire(), ());
    let serialized = serialize(Strategy::wrap(&mut encoder));
    let pos = encoder.writer.pos;
    match serialized {
        _ if limit_bytes < pos => Err(ArchiveError::Overflow { needed_bytes: pos }),
        Ok(()) => Ok(pos),
        Err(error) => Err(ArchiveError::Unserializable { reason: error.to_string() }),
    }
}

/// As [`encode`], of a whole archive, which is to fit into `out`.
fn encode_whole(
    out: &mut [u8],
    serialize: impl FnOnce(&mut Encoder<'_>) -> Result<(), BoxedError>,
) -> Result<usize, ArchiveError> {
    let room_bytes = out.len();
    let end = with_arena(|arena| encode(out, 0, ARCHIVE_BYTES_MAX, arena, serialize))?;
    if room_bytes < end {
        return Err(ArchiveError::Overflow { needed_bytes: end });
    }
    Ok(end)
}

mod sealed {
    /// Implemented exactly where `Record` is, so that nobody else can implement `Record`.
    pub trait Sealed {}
}

impl<T> sealed::Sealed for T
where
    T: Archive + Clone + Send + 'static,
    T: for<'a> Serialize<Encoder<'a>>,
    T::Archived: Deserialize<T, LowDeserializer<Failure>>,
    T::Archived: for<'a> CheckBytes<LowValidator<'a, Rancor>>,
{
}

impl<T> Record for T
where
    T: Archive + Clone + Send + 'static,
    T: for<'a> Serialize<Encoder<'a>>,
    T::Archived: Deserialize<T, LowDeserializer<Failure>>,
    T::Archived: for<'a> CheckBytes<LowValidator<'a, Rancor>>,
{
    fn archive_into(&self, out: &mut [u8]) -> Result<usize, ArchiveError> {
        encode_whole(out, |encoder| serialize_using(self, encoder).map(drop))
    }

    fn archive_rows(rows: &[Row<Self>], out: &mut [u8]) -> Result<usize, ArchiveError> {
        encode_whole(out, |encoder| serialize_using(&RowSlice(rows), encoder).map(drop))
    }

    #[inline]
    fn measure(
        row: &Row<Self>,
        at: usize,
        limit_bytes: usize,
        arena: &mut Arena,
    ) -> Result<usize, ArchiveError> {
        encode(&mut [], at, limit_bytes, arena, |encoder| row.value.serialize(encoder).map(drop))
    }

    fn unarchive(view: &Archived<Self>) -> Self {
        let mut nothing_shared = ();
        let decoder: &mut LowDeserializer<Failure> = Strategy::wrap(&mut nothing_shared);
        view.deserialize(decoder).expect("memory is there and the low API has nothing else to fail")
    }

    fn view(bytes: &[u8]) -> Result<&Archived<Self>, Rancor> {
        rkyv::api::low::access(bytes)
    }

    fn view_rows(bytes: &[u8]) -> Result<&ArchivedVec<ArchivedRow<Self>>, Rancor> {
        rkyv::api::low::access(bytes)
    }
}

#[cfg(test)]
mod tests;
