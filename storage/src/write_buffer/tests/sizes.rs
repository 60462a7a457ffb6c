//! What records take: the formulas of `docs/operations/sizing.md`.

use super::*;

/// Bytes for each of `count` records with keys and values of these lengths, while they are dirty
/// and when they are clean.
fn record_bytes(count: u64, key_len: usize, value_len: usize) -> [f64; 2] {
    let (mut buffer, mut budget) = (WriteBuffer::new(0..1, 1), Budget::new(64 << 20));
    let space = buffer.open(0, 0, Origin::New);
    let value = vec![1; value_len];
    for number in 0..count {
        let hash64 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut bytes = number.to_le_bytes().to_vec();
        // Behind the hash there are two lengths as well.
        bytes.resize(8 + key_len, 0);
        let key = RecordKey { hash64, spread: 0, bytes: &bytes };
        buffer.put(&mut budget, space, key, &value).expect("there is memory enough");
    }
    let bytes = |buffer: &WriteBuffer| buffer.used_bytes() as f64 / count as f64;
    let dirty = bytes(&buffer);
    let mut frozen = buffer.freeze().expect("nothing is frozen");
    while frozen.next(&mut buffer, &mut budget, 1000, |_, _| {}) {}
    buffer.on_written(frozen);
    [dirty, bytes(&buffer)]
}

#[test]
fn sizes_of_records() {
    for (key_len, value_len, slot) in
        [(16, 96, 160), (8, 8, 64), (16, 200, 320), (100, 300, 512), (16, 4000, 4096)]
    {
        for count in [6000, 8000, 10_000] {
            let [dirty, clean] = record_bytes(count, key_len, value_len);
            let (slot, count) = (f64::from(slot), count as f64);
            assert!(slot + 11.0 <= clean && clean <= slot + 23.0, "{clean} for {count} of {slot}");
            let list = dirty - clean;
            assert!((10.0..=12.0).contains(&list), "{list} for {count} of {slot}");
        }
    }
    assert_eq!(size_of::<Section>(), 64);
}
