//! Building a block: entries are staged until the next one would not fit a page.

use std::ops::Range;

use super::super::entry::{Entry, NO_TIME, hash_of, key_group_of, stored_time};
use super::{
    CRC_BYTES, Change, FLAG_ALIGNED, FLAG_OWN_SEQUENCE, FLAG_OWN_TIME, FORM_FIXED, FORM_VARIABLE,
    HEADER_BYTES, KIND_SHIFT, LENGTHS_BYTES, OFFSET_BYTES, PAGE_BYTES, TableId,
    VALUE_ALIGNMENT_BYTES, checksum, value_start,
};

/// Entries on their way into one block.
#[derive(Debug)]
pub(in super::super) struct BlockBuilder {
    is_aligned: bool,
    staged: Vec<Staged>,
    /// Keys and values of the staged entries.
    bytes: Vec<u8>,
    shape: Shape,
    /// Where the entries of the last key begin.
    chain_start: usize,
}

/// An entry, its parts in the builder's bytes.
#[derive(Debug, Clone)]
struct Staged {
    key: Range<usize>,
    value: Range<usize>,
    kind: u8,
    sequence: u64,
    time: i64,
}

/// What decides how large a block gets.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Shape {
    count: usize,
    /// What all keys begin with.
    prefix_len: usize,
    key_bytes: usize,
    value_bytes: usize,
    /// Keys and values have one length each, and the entries one kind.
    is_uniform: bool,
    has_own_sequence: bool,
    has_own_time: bool,
}

impl Shape {
    fn own_bytes(&self) -> usize {
        8 * (usize::from(self.has_own_sequence) + usize::from(self.has_own_time))
    }

    /// Bytes from one entry to the next in the fixed form.
    fn stride(&self, is_aligned: bool) -> usize {
        let suffix_len = self.key_bytes / self.count - self.prefix_len;
        let value_at = value_start(self.own_bytes() + suffix_len, is_aligned);
        value_start(value_at + self.value_bytes / self.count, is_aligned)
    }

    /// Bytes of the block, without the zeros at its end; in the variable form at most.
    fn size(&self, is_aligned: bool) -> usize {
        let start = value_start(HEADER_BYTES + self.prefix_len, is_aligned);
        if self.is_uniform {
            return start + self.count * self.stride(is_aligned);
        }
        let gap = if is_aligned { VALUE_ALIGNMENT_BYTES - 1 } else { 0 };
        let entry_bytes = LENGTHS_BYTES + OFFSET_BYTES + self.own_bytes() + gap;
        let suffix_bytes = self.key_bytes - self.count * self.prefix_len;
        start + suffix_bytes + self.value_bytes + self.count * entry_bytes
    }
}

impl BlockBuilder {
    /// A builder without entries.
    pub(in super::super) fn new(is_aligned: bool) -> Self {
        Self {
            is_aligned,
            staged: Vec::new(),
            bytes: Vec::new(),
            shape: Shape::default(),
            chain_start: 0,
        }
    }

    pub(in super::super) fn is_empty(&self) -> bool {
        self.staged.is_empty()
    }

    /// Bytes of a block of `shape`, without the zeros at its end.
    pub(in super::super) fn size(&self, shape: &Shape) -> usize {
        shape.size(self.is_aligned)
    }

    /// Whether the last key is that of `entry`.
    pub(in super::super) fn continues(&self, entry: &Entry<'_>) -> bool {
        self.last_key() == Some(entry.key)
    }

    /// Whether all entries are of one key.
    pub(in super::super) fn is_one_key(&self) -> bool {
        self.chain_start == 0
    }

    /// The sequence of the last entry.
    pub(in super::super) fn last_sequence(&self) -> Option<u64> {
        self.staged.last().map(|staged| staged.sequence)
    }

    /// The key of the first entry.
    pub(in super::super) fn first_key(&self) -> Option<&[u8]> {
        self.staged.first().map(|staged| &self.bytes[staged.key.clone()])
    }

    /// The key of the last entry.
    pub(in super::super) fn last_key(&self) -> Option<&[u8]> {
        self.staged.last().map(|staged| &self.bytes[staged.key.clone()])
    }

    /// The different hashes of the block, in order.
    pub(in super::super) fn hashes(&self) -> impl Iterator<Item = u64> {
        let mut last = None;
        self.staged.iter().filter_map(move |staged| {
            let key = &self.bytes[staged.key.clone()];
            let hash = (super::super::entry::section_of(key), hash_of(key));
            (last.replace(hash) != Some(hash)).then_some(hash.1)
        })
    }

    /// Stages `entry`, whose key is not smaller than the last and which gives the block `shape`.
    pub(in super::super) fn push(&mut self, entry: &Entry<'_>, shape: Shape) {
        if !self.continues(entry) {
            self.chain_start = self.staged.len();
        }
        self.shape = shape;
        let (key_at, value_at) = (self.bytes.len(), self.bytes.len() + entry.key.len());
        self.bytes.extend_from_slice(entry.key);
        self.bytes.extend_from_slice(entry.change.bytes());
        self.staged.push(Staged {
            key: key_at..value_at,
            value: value_at..self.bytes.len(),
            kind: entry.change.kind(),
            sequence: entry.sequence,
            time: stored_time(entry.time_ms),
        });
    }

    /// Takes the entries before those of the last key, into a builder of their own.
    pub(in super::super) fn split_off_last_key(&mut self) -> Self {
        let mut front = Self::new(self.is_aligned);
        let mut back = Self::new(self.is_aligned);
        for (index, staged) in self.staged.iter().enumerate() {
            let part = if index < self.chain_start { &mut front } else { &mut back };
            let entry = self.entry(staged);
            part.push(&entry, part.shape_with(&entry));
        }
        *self = back;
        front
    }

    fn entry(&self, staged: &Staged) -> Entry<'_> {
        Entry {
            key: &self.bytes[staged.key.clone()],
            change: Change::of(staged.kind, &self.bytes[staged.value.clone()]),
            sequence: staged.sequence,
            time_ms: super::given_time(staged.time),
        }
    }

    /// The shape of the block with `entry`.
    pub(in super::super) fn shape_with(&self, entry: &Entry<'_>) -> Shape {
        let (key_len, value_len) = (entry.key.len(), entry.change.bytes().len());
        let (Some(first), Some(first_key)) = (self.staged.first(), self.first_key()) else {
            return Shape {
                count: 1,
                prefix_len: key_len,
                key_bytes: key_len,
                value_bytes: value_len,
                is_uniform: true,
                ..Shape::default()
            };
        };
        let shape = &self.shape;
        let same = first_key.iter().zip(entry.key).take_while(|(a, b)| a == b).count();
        let is_alike = first_key.len() == key_len
            && first.value.len() == value_len
            && first.kind == entry.change.kind();
        Shape {
            count: shape.count + 1,
            prefix_len: shape.prefix_len.min(same),
            key_bytes: shape.key_bytes + key_len,
            value_bytes: shape.value_bytes + value_len,
            is_uniform: shape.is_uniform && is_alike,
            has_own_sequence: shape.has_own_sequence || first.sequence != entry.sequence,
            has_own_time: shape.has_own_time || first.time != stored_time(entry.time_ms),
        }
    }

    /// Appends the block, which begins at `page` of `table`, to `out`, and forgets the entries.
    pub(in super::super) fn seal(&mut self, table: TableId, page: u32, out: &mut Vec<u8>) {
        let shape = self.shape;
        let begin = out.len();
        let block_bytes = shape.size(self.is_aligned).next_multiple_of(PAGE_BYTES);
        self.encode_header(out);
        let mut offsets = Vec::new();
        for staged in &self.staged {
            offsets.extend_from_slice(&((out.len() - begin) as u32).to_le_bytes());
            let entry_start = out.len();
            self.encode_entry(staged, begin, out);
            if shape.is_uniform {
                out.resize(entry_start + shape.stride(self.is_aligned), 0);
            }
        }
        if shape.is_uniform {
            offsets.clear();
        }
        assert!(out.len() - begin + offsets.len() <= block_bytes, "the size was foreseen");
        out.resize(begin + block_bytes - offsets.len(), 0);
        out.extend_from_slice(&offsets);
        let crc = checksum(table, page, &out[begin + CRC_BYTES..]);
        out[begin..begin + CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        self.staged.clear();
        self.bytes.clear();
        self.shape = Shape::default();
        self.chain_start = 0;
    }

    fn encode_header(&self, out: &mut Vec<u8>) {
        let shape = self.shape;
        let first = self.staged.first().expect("a block has entries");
        let first_key = &self.bytes[first.key.clone()];
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = flag(shape.has_own_sequence, FLAG_OWN_SEQUENCE)
            | flag(shape.has_own_time, FLAG_OWN_TIME)
            | flag(self.is_aligned, FLAG_ALIGNED);
        let max_sequence = self.staged.iter().map(|staged| staged.sequence).max().unwrap_or(0);
        let max_time = self.staged.iter().map(|staged| staged.time).max().unwrap_or(NO_TIME);
        let (form, stride, suffix_len, value_len, kind) = if shape.is_uniform {
            let suffix_len = first.key.len() - shape.prefix_len;
            let stride = shape.stride(self.is_aligned);
            (FORM_FIXED, stride, suffix_len, first.value.len(), first.kind)
        } else {
            (FORM_VARIABLE, 0, 0, 0, 0)
        };
        let begin = out.len();
        out.extend_from_slice(&[0; CRC_BYTES]);
        out.extend_from_slice(&[form, flags]);
        out.extend_from_slice(&key_group_of(first_key).to_le_bytes());
        out.extend_from_slice(&max_sequence.to_le_bytes());
        out.extend_from_slice(&max_time.to_le_bytes());
        for number in [shape.count, shape.prefix_len, stride, suffix_len, value_len] {
            out.extend_from_slice(&(number as u32).to_le_bytes());
        }
        out.extend_from_slice(&[kind, 0, 0, 0]);
        debug_assert_eq!(out.len() - begin, HEADER_BYTES);
        out.extend_from_slice(&first_key[..shape.prefix_len]);
        let entries_start = value_start(HEADER_BYTES + shape.prefix_len, self.is_aligned);
        out.resize(begin + entries_start, 0);
    }

    fn encode_entry(&self, staged: &Staged, begin: usize, out: &mut Vec<u8>) {
        let suffix = &self.bytes[staged.key.clone()][self.shape.prefix_len..];
        let value = &self.bytes[staged.value.clone()];
        if !self.shape.is_uniform {
            let word = (u32::from(staged.kind) << KIND_SHIFT) | suffix.len() as u32;
            out.extend_from_slice(&word.to_le_bytes());
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        }
        if self.shape.has_own_sequence {
            out.extend_from_slice(&staged.sequence.to_le_bytes());
        }
        if self.shape.has_own_time {
            out.extend_from_slice(&staged.time.to_le_bytes());
        }
        out.extend_from_slice(suffix);
        out.resize(begin + value_start(out.len() - begin, self.is_aligned), 0);
        out.extend_from_slice(value);
    }
}
