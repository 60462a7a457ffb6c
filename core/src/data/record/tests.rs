//! Values survive their archives; what does not fit and what cannot be archived are told apart.

use super::*;
use crate::data::archived_row::frame_bytes;
use crate::data::row::Origin;
use rkyv::rancor::fail;
use rkyv::with::{ArchiveWith, DeserializeWith, SerializeWith};

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

/// A field that cannot be archived while it is odd.
#[derive(Debug, Clone, PartialEq, Archive, Serialize, Deserialize)]
struct Picky {
    #[rkyv(with = Even)]
    number: u32,
}

struct Even;

#[derive(Debug, thiserror::Error)]
#[error("{0} is odd")]
struct Odd(u32);

impl ArchiveWith<u32> for Even {
    type Archived = Archived<u32>;
    type Resolver = ();
    fn resolve_with(field: &u32, (): (), out: rkyv::Place<Archived<u32>>) {
        field.resolve((), out);
    }
}

impl<S: rkyv::rancor::Fallible<Error: Source> + ?Sized> SerializeWith<u32, S> for Even {
    fn serialize_with(field: &u32, _: &mut S) -> Result<(), S::Error> {
        if field % 2 == 1 {
            fail!(Odd(*field));
        }
        Ok(())
    }
}

impl<D: rkyv::rancor::Fallible + ?Sized> DeserializeWith<Archived<u32>, u32, D> for Even {
    fn deserialize_with(field: &Archived<u32>, _: &mut D) -> Result<u32, D::Error> {
        Ok(field.to_native())
    }
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
fn an_archive_that_does_not_fit_says_what_it_takes() {
    let needed_bytes = named().archive().len();
    let overflow = Err(ArchiveError::Overflow { needed_bytes });
    for room in [0, 1, needed_bytes / 2, needed_bytes - 1] {
        assert_eq!(named().archive_into(&mut vec![0; room]), overflow, "room for {room}");
    }
    assert_eq!(named().archive_into(&mut vec![0; needed_bytes]), Ok(needed_bytes));
}

#[test]
fn a_value_that_cannot_be_archived_is_not_taken_for_a_large_one() {
    let reason = "7 is odd".to_string();
    let refused = Err(ArchiveError::Unserializable { reason });
    let (picky, mut room) = (Picky { number: 7 }, [0; 64]);
    assert_eq!(picky.archive_into(&mut room), refused);
    let row = Row::new(picky, 5, Origin::NONE);
    assert_eq!(Picky::measure(&row, 0, 1 << 20, &mut Arena::new()), refused);
    assert_eq!(Picky::archive_rows(&[row], &mut room), refused);
    assert!(Picky { number: 8 }.archive_into(&mut room).is_ok());
}

#[test]
#[should_panic(expected = "Picky: the value cannot be archived: 7 is odd")]
fn archiving_what_cannot_be_archived_ends() {
    let _ = Picky { number: 7 }.archive();
}

#[test]
fn a_measure_is_exact_and_stops_at_its_limit() {
    let rows: Vec<_> = (0..5).map(|_| Row::new(named(), 5, Origin::NONE)).collect();
    let (mut end, mut arena) = (0, Arena::new());
    for row in &rows {
        end = Named::measure(row, end, 1 << 20, &mut arena).expect("small");
    }
    let mut room = AlignedVec::<16>::new();
    room.resize(1 << 16, 0);
    let len = Named::archive_rows(&rows, &mut room).expect("it fits");
    assert_eq!(frame_bytes::<Named>(end, rows.len()), len);
    let stopped = Named::measure(&rows[0], 0, 100, &mut arena);
    assert!(
        matches!(stopped, Err(ArchiveError::Overflow { needed_bytes }) if needed_bytes < 200),
        "{stopped:?}"
    );
}

#[test]
fn damaged_bytes_are_refused() {
    let mut bytes = named().archive();
    let last = bytes.len() - 1;
    bytes[last] ^= 0xff;
    assert!(Named::view(&bytes).is_err());
}
