//! What is written is read, as the golden file has it for ever; damage is seen.

use proptest::prelude::*;

use super::*;

/// A segment with two committed records, as version 1 has it for ever.
const GOLDEN: &[u8] = include_bytes!("../../../../golden/log_segment_v1.bin");

fn head() -> Head {
    let id = |base, generation| SegmentId { partition: 1, base, generation };
    Head { id: id(5, 2), partition_count: 4, previous: Some(id(3, 1)), format: "jsonl".to_string() }
}

fn slot() -> Slot {
    Slot {
        sequence: 2,
        end: 7,
        bytes: 12_363,
        last_time_ms: 1_700_000_000_123,
        committed_ms: 1_700_000_000_456,
    }
}

fn segment() -> Vec<u8> {
    let mut bytes = head().encode(1_700_000_000_000);
    let slot = slot();
    let at = slot.at() as usize;
    bytes[at..at + SLOT_BYTES].copy_from_slice(&slot.encode());
    let mut batch = BatchWriter::default();
    batch.push(1_700_000_000_123, b"{\"a\":1}\n");
    batch.push(NO_EVENT_TIME, b"{}\n");
    let (batch, last_time_ms) = batch.take(5, Vec::new());
    assert_eq!(last_time_ms, slot.last_time_ms);
    bytes.extend_from_slice(&batch);
    bytes
}

/// Event times and bytes.
type Records = Vec<(i64, Vec<u8>)>;

fn batch(bytes: &[u8]) -> Result<(BatchHead, Records), BadBytes> {
    let head = BatchHead::decode(bytes)?;
    let bytes = bytes.get(..head.bytes).ok_or(BadBytes { at: 0, what: "it is too short" })?;
    head.check(bytes)?;
    let (mut records, mut at) = (Vec::new(), BATCH_HEAD_BYTES);
    for _ in 0..head.record_count {
        let (event_time_ms, record, next) = record_at(bytes, at)?;
        records.push((event_time_ms, record.to_vec()));
        at = next;
    }
    assert_eq!(at, bytes.len(), "records fill their batch");
    Ok((head, records))
}

#[test]
fn the_golden_segment_is_what_is_written_and_read() {
    assert_eq!(segment(), GOLDEN);
    assert_eq!(Head::decode(GOLDEN), Ok(head()));
    assert_eq!(Slot::newest(GOLDEN), Ok(slot()));
    let (found, records) = batch(&GOLDEN[DATA_AT as usize..]).expect("it is sound");
    let times = (found.first_time_ms, found.last_time_ms);
    assert_eq!((found.base, found.end(), times), (5, 7, (NO_EVENT_TIME, 1_700_000_000_123)));
    let expected =
        [(1_700_000_000_123, b"{\"a\":1}\n".to_vec()), (NO_EVENT_TIME, b"{}\n".to_vec())];
    assert_eq!(records, expected);
    assert_eq!(slot().bytes, GOLDEN.len() as u64);
}

#[test]
fn a_wrong_byte_is_seen_wherever_it_is() {
    let is_padding = |at: usize| {
        let at_page = at % PAGE_BYTES;
        at < DATA_AT as usize && if at < PAGE_BYTES { 61 <= at_page } else { SLOT_BYTES <= at_page }
    };
    let mut bytes = GOLDEN.to_vec();
    for at in (0..GOLDEN.len()).filter(|at| !is_padding(*at)) {
        bytes[at] ^= 0x40;
        let is_seen = match at / PAGE_BYTES {
            0 => Head::decode(&bytes).is_err(),
            // The other slot is believed: of the second page the one that was committed.
            1 => Slot::newest(&bytes) == Ok(slot()),
            2 => Slot::newest(&bytes).is_ok_and(|slot| (slot.sequence, slot.end) == (1, 5)),
            _ => batch(&bytes[DATA_AT as usize..]).is_err(),
        };
        assert!(is_seen, "byte {at}");
        bytes[at] ^= 0x40;
    }
    bytes[PAGE_BYTES..].fill(0);
    assert_eq!(Slot::newest(&bytes).map_err(|bad| bad.at), Err(PAGE_BYTES));
    let later = [&GOLDEN[..8], &[2, 0, 0, 0], &GOLDEN[12..]].concat();
    let expected = BadBytes { at: 8, what: "it is of a version not known here" };
    assert_eq!(Head::decode(&later), Err(expected));
}

#[test]
fn slots_take_turns() {
    let at = |sequence| Slot { sequence, ..slot() }.at();
    assert_eq!([1, 2, 3, 4].map(at), [4096, 8192, 4096, 8192]);
}

proptest! {
    /// No bytes make a reader panic or take memory that they do not have.
    #[test]
    fn any_bytes_are_read_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0..GOLDEN.len(),
        at in any::<prop::sample::Index>(),
        value: u8,
    ) {
        let _ = (Head::decode(&bytes), Slot::newest(&bytes), batch(&bytes));
        bytes = GOLDEN[..cut].to_vec();
        let _ = (Head::decode(&bytes), Slot::newest(&bytes));
        bytes = GOLDEN.to_vec();
        let index = at.index(bytes.len());
        bytes[index] = value;
        let _ = (Head::decode(&bytes), Slot::newest(&bytes));
        let _ = batch(&bytes[cut..]);
    }

    /// What is put into a batch comes out of it.
    #[test]
    fn batches_keep_their_records(
        records in prop::collection::vec(
            (any::<i64>(), prop::collection::vec(any::<u8>(), 0..50)),
            1..50,
        ),
        base in 0..u64::MAX - 50,
    ) {
        let mut writer = BatchWriter::default();
        for (time, bytes) in &records {
            writer.push(*time, bytes);
        }
        let (bytes, _) = writer.take(base, Vec::new());
        let (head, found) = batch(&bytes).expect("it was just written");
        prop_assert_eq!(head.end(), base + records.len() as u64);
        prop_assert_eq!(Some(head.last_time_ms), records.iter().map(|(time, _)| *time).max());
        prop_assert_eq!(found, records);
        prop_assert_eq!((writer.bytes(), writer.record_count()), (0, 0));
    }
}
