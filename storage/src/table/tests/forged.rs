//! Files whose checksums are right and whose contents are not: what a decoder has behind its
//! checksums. Nothing may panic, or ask for more than the file has.

use proptest::prelude::*;

use super::footer::Part;
use super::*;

const CORPUS: &str = include_str!("../../../golden/table_v1_edits.txt");

/// An edit of a file: what is at a place becomes something else.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    pub(super) at: usize,
    pub(super) bytes: Vec<u8>,
}

/// Makes the edits, and then all checksums right.
pub(super) fn forge(mut file: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    let table = open(&file, Filters::Load).expect("the file is a table");
    for Edit { at, bytes } in edits {
        let at = at % file.len();
        let end = file.len().min(at + bytes.len());
        file[at..end].copy_from_slice(&bytes[..end - at]);
    }
    let mut blocks = crc32fast::Hasher::new();
    for block in 0..table.fences.len() as u32 / 8 {
        let want = table.place(block).expect("the file was whole");
        let block = &mut file[want.offset as usize..][..want.len];
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&table.meta.id.0.to_le_bytes());
        hasher.update(&((want.offset / PAGE_BYTES as u64) as u32).to_le_bytes());
        hasher.update(&block[4..]);
        block[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
        blocks.update(block);
    }
    let footer = file.len() - PAGE_BYTES;
    file[footer + 36..footer + 40].copy_from_slice(&blocks.finalize().to_le_bytes());
    for part in 0..Part::ALL.len() {
        let row = footer + 40 + part * 24;
        let [offset, len] = [row, row + 8].map(|at| bytes::u64_at(&file, at));
        let end = offset.saturating_add(len);
        if let Some(bytes) = file.get(offset as usize..end as usize) {
            let crc = crc32fast::hash(bytes);
            file[row + 16..row + 20].copy_from_slice(&crc.to_le_bytes());
        }
    }
    let crc_at = file.len() - 4;
    let crc = crc32fast::hash(&file[footer..crc_at]);
    file[crc_at..].copy_from_slice(&crc.to_le_bytes());
    file
}

/// Uses the file in all ways. What comes out may be anything, as long as something does; but what
/// an audit lets pass is found.
fn use_all(file: &[u8], rows: &[Row]) {
    if audit(file).is_ok() {
        let view = view(file);
        let all = scan(&view, file, KeyRange::all(), PIECE_BYTES).expect("all was read before");
        for row in &all {
            let found = lookup(&view, file, &row.key).expect("all was read before");
            assert!(found.contains(row), "{:?} is not found", row.key);
        }
    }
    for filters in [Filters::Load, Filters::Leave] {
        let Ok(table) = open(file, filters) else { continue };
        let table = Arc::new(table);
        for hashes in [HashRange::ALL, HashRange { first: 1 << 60, last: 1 << 63 }] {
            let view = View::new(table.clone(), hashes);
            let is_bounded = |found: Result<Vec<Row>, Error>| {
                assert!(found.is_err() || found.is_ok_and(|found| found.len() <= file.len()));
            };
            for row in rows.iter().step_by(7) {
                is_bounded(lookup(&view, file, &row.key));
                let prefix = &row.key[..row.key.len() - 1];
                is_bounded(scan(&view, file, KeyRange::prefix(prefix), PAGE_BYTES));
            }
            is_bounded(scan(&view, file, KeyRange::all(), PIECE_BYTES));
        }
    }
}

fn edit(file_bytes: usize) -> impl Strategy<Value = Edit> {
    let pages = file_bytes / PAGE_BYTES;
    let at = prop_oneof![
        // Headers of blocks and the ends of pages, where offsets are.
        4 => (0..pages, 0..64_usize).prop_map(|(page, at)| page * PAGE_BYTES + at),
        2 => (1..=pages, 1..64_usize).prop_map(|(page, at)| page * PAGE_BYTES - at),
        // Metadata and footer.
        4 => file_bytes - 3 * PAGE_BYTES..file_bytes - PAGE_BYTES,
        2 => (0..200_usize).prop_map(move |at| file_bytes - PAGE_BYTES + at),
        1 => 0..file_bytes,
    ];
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..9),
        (prop_oneof![Just(0_u8), Just(255)], 1_usize..9).prop_map(|(byte, len)| vec![byte; len]),
        (0_u32..9000).prop_map(|number| number.to_le_bytes().to_vec()),
    ];
    (at, bytes).prop_map(|(at, bytes)| Edit { at, bytes })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_behind_right_checksums_does_harm(
        edits in prop::collection::vec(edit(golden::VERSION_1.len()), 1..4),
    ) {
        use_all(&forge(golden::VERSION_1.to_vec(), &edits), &golden::rows());
    }
}

/// Each line of the corpus has the edits of one file: place and bytes, in hexadecimal digits.
#[test]
fn the_corpus_does_no_harm() {
    let rows = golden::rows();
    let hex = |text: &str| usize::from_str_radix(text, 16).expect("a hexadecimal number");
    for line in CORPUS.lines() {
        let edits = line.split(' ').map(|edit| {
            let (at, digits) = edit.split_once(':').expect("place:bytes");
            let pairs = (0..digits.len()).step_by(2).map(|at| hex(&digits[at..at + 2]) as u8);
            Edit { at: hex(at), bytes: pairs.collect() }
        });
        let edits: Vec<Edit> = edits.collect();
        use_all(&forge(golden::VERSION_1.to_vec(), &edits), &rows);
    }
}

/// Shares of a table are counted in entries: there are as many as it says.
#[test]
fn the_sections_have_all_entries_of_the_table() {
    let file = golden::VERSION_1.to_vec();
    let table = open(&file, Filters::Load).expect("the file is a table");
    let at = table.parts[Part::Properties as usize].start as usize + 8;
    for count in [0_u64, 1, u64::MAX] {
        let edit = Edit { at, bytes: count.to_le_bytes().to_vec() };
        let error = open(&forge(file.clone(), &[edit]), Filters::Load).expect_err("too few");
        let Error::Corrupt { what, .. } = error else { panic!("{error}") };
        assert_eq!(what, "the sections have not all entries of the table");
    }
}

#[test]
fn a_forged_file_without_edits_is_the_file() {
    assert!(forge(golden::VERSION_1.to_vec(), &[]) == golden::VERSION_1);
}
