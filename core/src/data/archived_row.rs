//! Rows as archives.
//!
//! ```text
//! Row<T>          │ hash64 │ event_time_ms │ origin │ value: T             │   native
//! ArchivedRow<T>  │ hash64 │ event_time_ms │ origin │ value: T::Archived   │   little endian
//!                   8 bytes      8 bytes     8 bytes
//! ```
//!
//! Both have their fields in this order. Where `T` and its archive are the same bytes (numbers,
//! arrays and structs of them without gaps), so are the row and its archive, and a batch is
//! archived by copying it as a whole: 1-2 ns a row instead of a loop over fields. `rkyv`'s derive
//! finds that out for types without parameters only, so for [`Row`] it is said here.
//!
//! The only unsafe idea in this file: **a row may be copied as bytes exactly if all its fields may,
//! none of them lies elsewhere in the archive, and there is no gap between them**, which
//! [`is_plain`] checks while compiling.

use std::mem::offset_of;

use rkyv::bytecheck::CheckBytes;
use rkyv::munge::munge;
use rkyv::rancor::Fallible;
use rkyv::ser::{Allocator, Writer};
use rkyv::traits::CopyOptimization;
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::{Archive, Archived, Deserialize, Place, Portable, Serialize};

use crate::data::record::Record;
use crate::data::row::{ArchivedOrigin, Origin, Row};

/// An archived [`Row`].
#[derive(Portable, CheckBytes)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(C)]
pub struct ArchivedRow<T: Archive> {
    /// See [`Row::hash64`].
    pub hash64: Archived<u64>,
    /// See [`Row::event_time_ms`].
    pub event_time_ms: Archived<i64>,
    /// See [`Row::origin`].
    pub origin: ArchivedOrigin,
    /// The record, in place.
    pub value: T::Archived,
}

/// Whether the archive of a row is the bytes of the row.
pub const fn is_plain<T: Archive>() -> bool {
    u64::COPY_OPTIMIZATION.is_enabled()
        && i64::COPY_OPTIMIZATION.is_enabled()
        && Origin::COPY_OPTIMIZATION.is_enabled()
        && T::COPY_OPTIMIZATION.is_enabled()
        && size_of::<Row<T>>() == size_of::<ArchivedRow<T>>()
        && size_of::<Row<T>>() == 2 * size_of::<u64>() + size_of::<Origin>() + size_of::<T>()
        && offset_of!(Row<T>, hash64) == offset_of!(ArchivedRow<T>, hash64)
        && offset_of!(Row<T>, event_time_ms) == offset_of!(ArchivedRow<T>, event_time_ms)
        && offset_of!(Row<T>, origin) == offset_of!(ArchivedRow<T>, origin)
        && offset_of!(Row<T>, value) == offset_of!(ArchivedRow<T>, value)
}

/// Size of the frame of `row_count` rows whose strings and vectors take `parts_bytes` together.
pub const fn frame_bytes<T: Archive>(parts_bytes: usize, row_count: usize) -> usize {
    parts_bytes.next_multiple_of(align_of::<ArchivedRow<T>>())
        + row_count * size_of::<ArchivedRow<T>>()
        + size_of::<ArchivedVec<ArchivedRow<T>>>()
}

impl<T: Archive> Archive for Row<T> {
    // SAFETY: the fields have no gap between them and are copyable as bytes themselves, hence free
    // of gaps inside, and each is where it is in the archive.
    const COPY_OPTIMIZATION: CopyOptimization<Self> =
        unsafe { CopyOptimization::enable_if(is_plain::<T>()) };

    type Archived = ArchivedRow<T>;
    type Resolver = (<Origin as Archive>::Resolver, T::Resolver);

    #[inline]
    fn resolve(&self, resolver: Self::Resolver, out: Place<ArchivedRow<T>>) {
        munge!(let ArchivedRow { hash64, event_time_ms, origin, value } = out);
        self.hash64.resolve((), hash64);
        self.event_time_ms.resolve((), event_time_ms);
        self.origin.resolve(resolver.0, origin);
        self.value.resolve(resolver.1, value);
    }
}

impl<T: Serialize<S>, S: Fallible + ?Sized> Serialize<S> for Row<T> {
    #[inline]
    fn serialize(&self, serializer: &mut S) -> Result<Self::Resolver, S::Error> {
        Ok((self.origin.serialize(serializer)?, self.value.serialize(serializer)?))
    }
}

impl<T: Archive, D: Fallible + ?Sized> Deserialize<Row<T>, D> for ArchivedRow<T>
where
    T::Archived: Deserialize<T, D>,
{
    fn deserialize(&self, deserializer: &mut D) -> Result<Row<T>, D::Error> {
        Ok(Row {
            hash64: self.hash64.to_native(),
            event_time_ms: self.event_time_ms.to_native(),
            origin: self.origin.into(),
            value: self.value.deserialize(deserializer)?,
        })
    }
}

impl<T: Record> ArchivedRow<T> {
    /// The row that this shows.
    #[inline]
    pub fn to_row(&self) -> Row<T> {
        Row {
            hash64: self.hash64.to_native(),
            event_time_ms: self.event_time_ms.to_native(),
            origin: self.origin.into(),
            value: T::unarchive(&self.value),
        }
    }
}

/// Some rows of a batch, archived as a vector of them would be.
pub(super) struct RowSlice<'a, T>(pub(super) &'a [Row<T>]);

impl<T: Archive> Archive for RowSlice<'_, T> {
    type Archived = ArchivedVec<ArchivedRow<T>>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: VecResolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_slice(self.0, resolver, out);
    }
}

impl<T, S> Serialize<S> for RowSlice<'_, T>
where
    T: Serialize<S>,
    S: Fallible + Allocator + Writer + ?Sized,
{
    fn serialize(&self, serializer: &mut S) -> Result<VecResolver, S::Error> {
        ArchivedVec::serialize_from_slice(self.0, serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Archive, Serialize, rkyv::Deserialize)]
    struct Fixed {
        id: u64,
        amount: i32,
        flags: [u8; 4],
    }

    #[derive(Clone, Archive, Serialize, rkyv::Deserialize)]
    struct Gap {
        id: u64,
        flag: u8,
    }

    // The optimisation is on where it should be. A change that loses it does not compile.
    const _: () = assert!(is_plain::<[u64; 8]>() && is_plain::<u64>() && is_plain::<()>());
    const _: () = assert!(is_plain::<Fixed>());
    const _: () = assert!(<Row<[u64; 8]> as Archive>::COPY_OPTIMIZATION.is_enabled());
    const _: () = assert!(!is_plain::<String>() && !is_plain::<Option<u64>>());
    const _: () = assert!(!is_plain::<Gap>(), "the padding of the record must not be copied");
    const _: () = assert!(!is_plain::<u8>(), "nor the padding of the row");
    const _: () = assert!(!is_plain::<u128>(), "nor that between origin and value");

    fn rows<T>(value: impl Fn(u64) -> T) -> Vec<Row<T>> {
        let row = |n: u64| Row {
            hash64: n << 40,
            event_time_ms: -(n as i64),
            origin: Origin::new(1, 2, n),
            value: value(n),
        };
        (1..100).map(row).collect()
    }

    /// The archive made field by field, whether or not there is a shorter way.
    fn by_field<T: Record>(rows: &[Row<T>]) -> Vec<u8>
    where
        Row<T>: for<'a> Serialize<
            rkyv::api::high::HighSerializer<
                rkyv::util::AlignedVec,
                rkyv::ser::allocator::ArenaHandle<'a>,
                rkyv::rancor::Error,
            >,
        >,
    {
        let rows: Vec<Each<'_, T>> = rows.iter().map(Each).collect();
        rkyv::to_bytes::<rkyv::rancor::Error>(&rows).expect("it fits").to_vec()
    }

    /// A row that nobody knows to be plain.
    struct Each<'a, T>(&'a Row<T>);

    impl<T: Archive> Archive for Each<'_, T> {
        type Archived = ArchivedRow<T>;
        type Resolver = <Row<T> as Archive>::Resolver;

        fn resolve(&self, resolver: Self::Resolver, out: Place<ArchivedRow<T>>) {
            self.0.resolve(resolver, out);
        }
    }

    impl<T, S: Fallible + ?Sized> Serialize<S> for Each<'_, T>
    where
        Row<T>: Serialize<S>,
        T: Archive,
    {
        fn serialize(&self, serializer: &mut S) -> Result<Self::Resolver, S::Error> {
            self.0.serialize(serializer)
        }
    }

    fn copied<T: Record>(rows: &[Row<T>]) -> Vec<u8> {
        let mut room = rkyv::util::AlignedVec::<16>::new();
        room.resize(1 << 15, 0);
        let len = T::archive_rows(rows, &mut room).expect("it fits");
        room[..len].to_vec()
    }

    #[test]
    fn copying_rows_gives_the_bytes_that_archiving_their_fields_gives() {
        let fixed = |n: u64| Fixed { id: n, amount: -(n as i32), flags: [n as u8; 4] };
        assert_eq!(copied(&rows(fixed)), by_field(&rows(fixed)));
        assert_eq!(copied(&rows(|n| [n; 8])), by_field(&rows(|n| [n; 8])));
        assert_eq!(copied(&rows(|_| ())), by_field(&rows(|_| ())));
    }

    #[test]
    fn rows_with_gaps_are_archived_field_by_field() {
        let gap = |n: u64| Gap { id: n, flag: n as u8 };
        let bytes = copied(&rows(gap));
        assert_eq!(bytes, by_field(&rows(gap)));
        let gaps = bytes.chunks(40).take(99).flat_map(|row| &row[33..]);
        assert!(gaps.copied().all(|byte| byte == 0), "what was in memory there does not leave");
        assert_eq!(copied(&rows(|n| n as u8)), by_field(&rows(|n| n as u8)));
    }
}
