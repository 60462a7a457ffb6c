//! What a type must be able to do to cross from one task to another: [`Record`].
//!
//! A user derives `rkyv`'s three traits; everything here follows by itself. The *low* level API of
//! `rkyv` is used on purpose: it does not compile for shared pointers (`Rc`, `Arc`), which have no
//! meaning on another shard.

use rkyv::api::low::{LowDeserializer, LowSerializer, LowValidator};
use rkyv::api::serialize_using;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Error as Rancor, Failure, Strategy};
use rkyv::ser::Serializer;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::ser::writer::Buffer as SliceWriter;
use rkyv::util::{AlignedVec, with_arena};
use rkyv::{Archive, Archived, Deserialize, Serialize};

use crate::data::row::Row;

/// A type whose values can be archived: records, keys and everything kept in state.
///
/// Implemented for every `Clone + Send` type that derives
/// `rkyv::{Archive, Serialize, Deserialize}`:
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
pub trait Record: Archive + Clone + Send + Sized + 'static {
    /// Writes the archive of `self` to the start of `out`, which is 16-aligned, and answers how
    /// many bytes it takes. Equal values give equal bytes.
    ///
    /// # Errors
    /// [`Overflow`] if it does not fit; `out` then holds a part of it.
    fn archive_into(&self, out: &mut [u8]) -> Result<usize, Overflow>;

    /// Writes the archive of a whole batch, as [`Record::archive_into`] does of one value.
    ///
    /// # Errors
    /// [`Overflow`] if it does not fit; `out` then holds a part of it.
    #[expect(clippy::ptr_arg, reason = "the archive of a `Vec` is read back as one")]
    fn archive_rows(rows: &Vec<Row<Self>>, out: &mut [u8]) -> Result<usize, Overflow>;

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
    fn view_rows(bytes: &[u8]) -> Result<&Archived<Vec<Row<Self>>>, Rancor>;

    /// The archive of `self` in a buffer of its own, 16-aligned.
    fn archive(&self) -> AlignedVec {
        let mut bytes = AlignedVec::new();
        let mut capacity = 256;
        loop {
            bytes.resize(capacity, 0);
            match self.archive_into(&mut bytes) {
                Ok(len) => {
                    bytes.resize(len, 0);
                    return bytes;
                }
                Err(Overflow) => capacity *= 2,
            }
        }
    }
}

/// An archive did not fit where it was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the archive does not fit")]
pub struct Overflow;

type Encoder<'a> = LowSerializer<SliceWriter<'a>, ArenaHandle<'a>, Failure>;

impl<T> Record for T
where
    T: Archive + Clone + Send + 'static,
    T: for<'a> Serialize<Encoder<'a>>,
    T::Archived: Deserialize<T, LowDeserializer<Failure>>,
    T::Archived: for<'a> CheckBytes<LowValidator<'a, Rancor>>,
{
    fn archive_into(&self, out: &mut [u8]) -> Result<usize, Overflow> {
        with_arena(|arena| {
            let mut encoder = Serializer::new(SliceWriter::from(out), arena.acquire(), ());
            serialize_using::<_, Failure>(self, &mut encoder).map_err(|Failure| Overflow)?;
            Ok(encoder.into_writer().len())
        })
    }

    fn archive_rows(rows: &Vec<Row<Self>>, out: &mut [u8]) -> Result<usize, Overflow> {
        with_arena(|arena| {
            let mut encoder = Serializer::new(SliceWriter::from(out), arena.acquire(), ());
            serialize_using::<_, Failure>(rows, &mut encoder).map_err(|Failure| Overflow)?;
            Ok(encoder.into_writer().len())
        })
    }

    fn unarchive(view: &Archived<Self>) -> Self {
        let mut nothing_shared = ();
        let decoder: &mut LowDeserializer<Failure> = Strategy::wrap(&mut nothing_shared);
        view.deserialize(decoder).expect("memory is there and the low API has nothing else to fail")
    }

    fn view(bytes: &[u8]) -> Result<&Archived<Self>, Rancor> {
        rkyv::api::low::access(bytes)
    }

    fn view_rows(bytes: &[u8]) -> Result<&Archived<Vec<Row<Self>>>, Rancor> {
        rkyv::api::low::access(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::row::Origin;

    #[derive(Debug, Clone, PartialEq, Archive, Serialize, Deserialize)]
    struct Named {
        id: u32,
        name: String,
        tags: Vec<String>,
    }

    fn named() -> Named {
        let tags = (0..20).map(|i| format!("a tag that is not stored inline {i}")).collect();
        Named { id: 7, name: "seven".to_string(), tags }
    }

    #[test]
    fn a_value_survives_its_archive() {
        let bytes = named().archive();
        assert_eq!(Named::unarchive(Named::view(&bytes).expect("just written")), named());
    }

    #[test]
    fn equal_values_give_equal_bytes() {
        assert_eq!(named().archive().as_slice(), named().archive().as_slice());
    }

    #[test]
    fn a_batch_that_does_not_fit_says_so() {
        let rows = vec![Row::new(named(), 5, Origin::NONE)];
        assert_eq!(Named::archive_rows(&rows, &mut AlignedVec::<16>::new()), Err(Overflow));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let mut bytes = named().archive();
        let last = bytes.len() - 1;
        bytes[last] ^= 0xff;
        assert!(Named::view(&bytes).is_err());
    }
}
