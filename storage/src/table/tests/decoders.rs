//! Every decoder by itself, on any bytes: what comes out is what was read, and lies within it.
//!
//! A target is a function of bytes, with the checksum made right that would stop it. Its seeds are
//! cut out of the golden file; a line of the corpus names a target, a seed, the length to which it
//! is cut or filled up, and edits, all numbers in hexadecimal digits. The rounds of mutation make
//! such lines by themselves, always the same ones: one that fails prints its line, for the corpus.
//! `MILLSTREAM_FUZZ_ROUNDS` sets how many each target has.
//!
//! Not here: whole files (`forged.rs`, `damage.rs`).

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::block::{Block, Layout};
use super::bytes::{u32_at, u64_at};
use super::directory::{self, SECTION_ROW_BYTES};
use super::footer::{Extent, Footer, Part};
use super::forged::Edit;
use super::golden::VERSION_1;
use super::index::{self, Index};
use super::*;

const CORPUS: &str = include_str!("../../../golden/decoders.txt");

const ROUNDS: u64 = 2000;

/// A decoder, and inputs that it accepts.
struct Target {
    name: &'static str,
    run: fn(&[u8]),
    seeds: Vec<Vec<u8>>,
}

fn targets() -> Vec<Target> {
    let table = open(VERSION_1, Filters::Load).expect("the file is a table");
    let part = |part| {
        let range = table.part(part);
        VERSION_1[range.start as usize..range.end as usize].to_vec()
    };
    let block = |number| {
        let want = table.place(number).expect("the file is whole");
        read(VERSION_1, want).to_vec()
    };
    let mut index = vec![table.block_count() as u8];
    let sections = [Part::Fences, Part::Places, Part::Separators, Part::Filters];
    for of in sections {
        index.extend(part(of));
    }
    let footer = VERSION_1[VERSION_1.len() - PAGE_BYTES..].to_vec();
    let keys = golden::rows().into_iter().step_by(9).map(|row| row.key);
    let target = |name, run, seeds| Target { name, run, seeds };
    vec![
        target("key", run_key, keys.collect()),
        target("block", run_block, (0..table.block_count()).map(block).collect()),
        target("index", run_index, vec![index]),
        target("directory", run_directory, vec![part(Part::Directory)]),
        target("properties", run_properties, vec![part(Part::Properties)]),
        target("footer", run_footer, vec![footer]),
    ]
}

fn run_key(bytes: &[u8]) {
    if let Some(key) = StoredKey::decode(bytes) {
        assert_eq!(key.encode(), bytes);
    }
}

fn run_block(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if let Some(crc) = bytes.first_chunk_mut() {
        *crc = [0; 4];
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&CONFIG.id.0.to_le_bytes());
        hasher.update(&3_u32.to_le_bytes());
        hasher.update(&bytes[4..]);
        bytes[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
    }
    let Ok(layout) = Layout::verify(&bytes, CONFIG.id, 3) else { return };
    let block = Block::new(&bytes, layout);
    assert!((1..=bytes.len()).contains(&block.count()));
    let mut key = Vec::new();
    for index in 0..block.count() {
        block.copy_key(index, &mut key);
        assert!(entry::KEY_BYTES_MIN <= key.len() && key.len() < bytes.len());
        let entry = block.entry(index, &key);
        assert!(entry.change.bytes().len() < bytes.len());
        assert!(block.lower_bound(&key) <= block.count());
        assert!(block.search(&key).all(|found| found.key == key));
    }
}

/// How many blocks, their fences, their places, separators, and six lines of filters.
fn run_index(bytes: &[u8]) {
    let Some((count, rest)) = bytes.split_first() else { return };
    let count = usize::from(*count % 32);
    let Some((fences, rest)) = rest.split_at_checked(8 * count) else { return };
    let Some((places, rest)) = rest.split_at_checked(8 * (count + 1)) else { return };
    let filters_start = rest.len().saturating_sub(6 * filter::LINE_BYTES);
    let (separators, filters) = rest.split_at(filters_start);
    assert_eq!(index::block_count(fences.len(), places.len()), Some(count as u32));
    let index = Index { fences, places, separators };
    for block in 0..count as u32 {
        if let Ok((offset, len)) = index.place(block) {
            assert!(0 < len && len <= BLOCK_BYTES_MAX);
            assert!(offset + len as u64 <= u64::from(index.page_end()) * PAGE_BYTES as u64);
        }
        if let Ok(lines) = index.lines(block, filters) {
            // Whatever it says.
            let _passes = filter::may_contain(lines, u64::from(block));
        }
    }
    let Some(last_block) = count.checked_sub(1) else { return };
    let hashes = (0..count).map(|block| u64_at(fences, 8 * block));
    for hash in hashes.clone().chain([0, u64::MAX]) {
        for (first_hash, last_hash) in [(0, u64::MAX), (hash, hash)] {
            let section = Section {
                prefix: [0; 12],
                entry_count: 1,
                tombstone_count: 0,
                first_hash,
                last_hash,
                time_min_ms: None,
                time_max_ms: None,
                first_block: 0,
                last_block: last_block as u32,
            };
            for suffix in [&[][..], &[0; 9], &[255; 9]] {
                if let Ok(found) = index.find(&section, hash, suffix) {
                    assert!(found <= section.last_block);
                }
            }
        }
    }
}

fn run_directory(bytes: &[u8]) {
    let last = bytes.len().checked_sub(SECTION_ROW_BYTES);
    let named = last.map_or(0, |row| u32_at(bytes, row + 16).wrapping_add(1));
    for block_count in [named.wrapping_sub(1), named, named.wrapping_add(1)] {
        let Some(sections) = directory::decode(bytes, block_count) else { continue };
        assert_eq!(sections.len() * SECTION_ROW_BYTES, bytes.len());
        assert_eq!(block_count, named, "all blocks are in sections");
        assert!(sections.iter().all(|section| section.last_block < block_count));
        assert!(sections.is_sorted_by(|a, b| a.prefix < b.prefix));
        let mut encoded = Vec::new();
        for section in &sections {
            section.encode(&mut encoded);
        }
        for (at, (encoded, byte)) in encoded.iter().zip(bytes).enumerate() {
            let is_unused = (20..24).contains(&(at % SECTION_ROW_BYTES));
            assert!(encoded == byte || is_unused, "byte {at}");
        }
    }
}

fn run_properties(bytes: &[u8]) {
    let Some(id) = bytes.first_chunk() else { return };
    let extent = Extent { offset: 0, len: 0, crc: 0 };
    let table = TableId(u64::from_le_bytes(*id));
    let (length, blocks_crc) = (0, 0);
    let footer = Footer { table, length, blocks_crc, parts: [extent; Part::ALL.len()] };
    if let Some(meta) = TableMeta::decode(bytes, &footer, 0) {
        assert_eq!(meta.encode(), bytes);
    }
}

fn run_footer(bytes: &[u8]) {
    let mut page = bytes.to_vec();
    if let Some((used, crc)) = page.split_last_chunk_mut() {
        *crc = crc32fast::hash(used).to_le_bytes();
    }
    let named = if page.len() == PAGE_BYTES { u64_at(&page, 24) } else { 0 };
    for length in [named, VERSION_1.len() as u64] {
        if Opening::new(FILE, length, Filters::Load).is_err() {
            continue;
        }
        let Ok((footer, _)) = Footer::decode(FILE, &page, length) else { continue };
        let mut end = 0;
        for part in Part::ALL {
            let range = footer.part(part).range();
            assert!(end <= range.start && range.start <= range.end);
            end = range.end;
        }
        assert!(end <= length - PAGE_BYTES as u64);
        let mut encoded = Vec::new();
        footer.encode(&mut encoded);
        assert_eq!(Footer::decode(FILE, &encoded, length).map(|decoded| decoded.0), Ok(footer));
    }
}

/// An input of a target: a seed, its length, and edits.
#[derive(Debug)]
struct Input {
    seed: usize,
    len: usize,
    edits: Vec<Edit>,
}

impl Input {
    fn bytes(&self, target: &Target) -> Vec<u8> {
        let mut bytes = target.seeds[self.seed].clone();
        bytes.resize(self.len, 0);
        for Edit { at, bytes: edit } in &self.edits {
            let (start, end) = (self.len.min(*at), self.len.min(at + edit.len()));
            bytes[start..end].copy_from_slice(&edit[..end - start]);
        }
        bytes
    }

    fn line(&self, target: &Target) -> String {
        let mut line = format!("{} {:x} {:x}", target.name, self.seed, self.len);
        for Edit { at, bytes } in &self.edits {
            write!(line, " {at:x}:").expect("a string takes everything");
            for byte in bytes {
                write!(line, "{byte:02x}").expect("as before");
            }
        }
        line
    }

    /// The target's number and an input of it.
    fn parse(line: &str, targets: &[Target]) -> (usize, Self) {
        let hex = |text: &str| usize::from_str_radix(text, 16).expect("a hexadecimal number");
        let mut words = line.split(' ');
        let mut word = || words.next().expect("target, seed, length");
        let name = word();
        let target = targets.iter().position(|target| target.name == name);
        let (seed, len) = (hex(word()), hex(word()));
        let edits = words.map(|edit| {
            let (at, digits) = edit.split_once(':').expect("place:bytes");
            let pairs = (0..digits.len()).step_by(2).map(|at| hex(&digits[at..at + 2]) as u8);
            Edit { at: hex(at), bytes: pairs.collect() }
        });
        let edits = edits.collect();
        (target.expect("a target of that name"), Self { seed, len, edits })
    }

    /// The input of a round.
    fn of_round(target: &Target, round: u64) -> Self {
        let mut random = Random(round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let seed = random.below(target.seeds.len());
        let mut len = target.seeds[seed].len();
        if random.below(4) == 0 {
            len = random.below(len + 64);
        }
        let edits = (0..=random.below(3)).map(|_| random.edit(len)).collect();
        Self { seed, len, edits }
    }
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end.max(1)
    }

    /// Half of the edits are in the first bytes or the last ones: headers and offsets.
    fn edit(&mut self, len: usize) -> Edit {
        const EDGE_BYTES: usize = 128;
        let at = match self.below(4) {
            0 => self.below(len.min(EDGE_BYTES)),
            1 => len - 1_usize.min(len) - self.below(len.min(EDGE_BYTES)),
            _ => self.below(len),
        };
        let small = self.below(9000) as u32;
        let bytes = match self.below(5) {
            0 => vec![self.next() as u8],
            1 => vec![0; 1 + self.below(8)],
            2 => vec![255; 1 + self.below(8)],
            3 => small.to_le_bytes().to_vec(),
            _ => self.next().to_le_bytes().to_vec(),
        };
        Edit { at, bytes }
    }
}

fn run(target: &Target, input: &Input) {
    let bytes = input.bytes(target);
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
    assert!(outcome.is_ok(), "add this line to the corpus: {}", input.line(target));
}

#[test]
fn seeds_and_corpus_do_no_harm() {
    let targets = targets();
    for target in &targets {
        target.seeds.iter().for_each(|seed| (target.run)(seed));
    }
    for line in CORPUS.lines() {
        let (target, input) = Input::parse(line, &targets);
        assert_eq!(input.line(&targets[target]), line, "one way to write it");
        run(&targets[target], &input);
    }
}

#[test]
fn every_cut_of_a_seed_does_no_harm() {
    for target in targets() {
        for (seed, bytes) in target.seeds.iter().enumerate() {
            for len in (0..bytes.len()).step_by(1 + bytes.len() / 500) {
                run(&target, &Input { seed, len, edits: Vec::new() });
            }
        }
    }
}

#[test]
fn mutations_do_no_harm() {
    let rounds = std::env::var("MILLSTREAM_FUZZ_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |text| text.parse().expect("a number of rounds"));
    for target in targets() {
        for round in 0..rounds {
            run(&target, &Input::of_round(&target, round));
        }
    }
}
