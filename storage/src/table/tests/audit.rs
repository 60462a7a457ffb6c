//! An audit finds what a lookup would stumble over one day.

use super::footer::Part;
use super::forged::{Edit, forge};
use super::golden::VERSION_1;
use super::*;

/// What an audit says of the golden file once `byte` at `at` was written there, and all checksums
/// made right.
fn audit_with(at: u64, byte: u8) -> Result<(), Error> {
    let edit = Edit { at: at as usize, bytes: vec![byte] };
    audit(&forge(VERSION_1.to_vec(), &[edit]))
}

/// What is wrong after that.
fn what_with(at: u64, byte: u8) -> &'static str {
    match audit_with(at, byte) {
        Err(Error::Corrupt { file: FILE, what, .. }) => what,
        other => panic!("{other:?} after byte {at} became {byte}"),
    }
}

fn flipped(at: u64) -> u8 {
    VERSION_1[at as usize] ^ 1
}

#[test]
fn a_sound_table_passes() {
    assert_eq!(audit(VERSION_1), Ok(()));
    let (empty, _) = write(CONFIG, &[]);
    assert_eq!(audit(&empty), Ok(()));
}

#[test]
fn every_byte_of_every_block_is_looked_at() {
    let table = open(VERSION_1, Filters::Load).expect("the file is a table");
    let mut file = VERSION_1.to_vec();
    for at in (0..table.block_bytes() as usize).step_by(7) {
        file[at] ^= 1;
        match audit(&file) {
            Err(Error::Corrupt { offset, .. }) => {
                assert!(offset <= at as u64 && offset.is_multiple_of(PAGE_BYTES as u64));
            }
            other => panic!("{other:?} after byte {at} was flipped"),
        }
        file[at] ^= 1;
    }
}

#[test]
fn a_file_that_becomes_shorter_meanwhile_is_noticed() {
    let table = open(VERSION_1, Filters::Load).expect("the file is a table");
    let end = table.block_bytes() as usize;
    let mut audit = Audit::new(table).expect("there are blocks");
    let error = loop {
        let want = audit.want().expect("the last block is not there");
        if let Err(error) = audit.on_read(read(&VERSION_1[..end - 1], want)) {
            break error;
        }
    };
    assert!(error.to_string().ends_with("the file has become shorter"), "{error}");
}

/// Right checksums over a directory that says something else than the entries.
#[test]
fn the_directory_is_compared_with_the_entries() {
    let table = open(VERSION_1, Filters::Load).expect("the file is a table");
    for at in table.part(Part::Directory) {
        let is_unused = (20..24).contains(&((at - table.part(Part::Directory).start) % 72));
        assert_eq!(audit_with(at, flipped(at)).is_ok(), is_unused, "byte {at}");
    }
    let first_tombstone_count = table.part(Part::Directory).start + 32;
    let what = what_with(first_tombstone_count, flipped(first_tombstone_count));
    assert_eq!(what, "a section is not what its entries come to");
}

#[test]
fn the_properties_are_compared_with_the_entries() {
    let table = open(VERSION_1, Filters::Load).expect("the file is a table");
    let part = table.part(Part::Properties);
    for at in part.clone() {
        // Other counts of key groups have the few keys where they are as well.
        if !(40..48).contains(&(at - part.start)) {
            assert!(audit_with(at, flipped(at)).is_err(), "byte {at}");
        }
    }
    assert_eq!(what_with(part.start + 16, 70), "the properties are not those of the entries");
    assert_eq!(what_with(part.start + 40, 16), "a key is not in the key group of its hash");
}

/// In the last block of the map, whose entries have one shape and differ in their last byte.
#[test]
fn entries_out_of_order_are_noticed() {
    let rows = golden::rows();
    let last = rows.iter().rfind(|row| row.bytes.len() == 90).expect("the map has entries");
    let view = view(VERSION_1);
    let Ok(Located::Block(want)) = view.locate(&last.key) else { panic!("it is there") };
    let number = |at: u64| bytes::u32_at(VERSION_1, (want.offset + at) as usize);
    let (prefix_len, stride) = (number(28), number(32));
    let first = want.offset + u64::from(48 + prefix_len);
    let second = first + u64::from(stride);
    let map_key = VERSION_1[first as usize];
    assert_eq!(VERSION_1[second as usize], map_key + 1);
    assert_eq!(what_with(second, map_key - 1), "entries are not in order");
    assert_eq!(what_with(second, map_key + 3), "entries are not in order");
}

/// A block of another table of the same id, whose checksum is right.
#[test]
fn a_block_that_is_not_the_footers_is_noticed() {
    let mut rows = golden::rows();
    rows[0].bytes[0] ^= 1;
    let (mut file, _) = write(CONFIG, &rows);
    let footer = VERSION_1.len() - PAGE_BYTES;
    assert_eq!(file.len(), VERSION_1.len());
    file[footer..].copy_from_slice(&VERSION_1[footer..]);
    let error = audit(&file).expect_err("it is another block");
    assert_eq!(
        error.to_string(),
        format!("file 7 is corrupt at byte {footer}: the blocks are not those of the footer"),
    );
}

#[test]
fn a_filter_that_hides_an_entry_is_noticed() {
    let table = open(VERSION_1, Filters::Load).expect("the file is a table");
    let part = table.part(Part::Filters);
    let edit = |at: u64| Edit { at: at as usize, bytes: vec![0] };
    let edits: Vec<Edit> = part.map(edit).collect();
    let error = audit(&forge(VERSION_1.to_vec(), &edits)).expect_err("no key passes");
    assert!(error.to_string().ends_with("the index does not lead to an entry"), "{error}");
}
