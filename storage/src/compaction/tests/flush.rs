//! From a write buffer to tables: what an epoch froze is in its delta, and stays when that is
//! compacted.

use super::*;
use crate::write_buffer::{Budget, Origin, RecordKey, WriteBuffer};

/// The delta of the epoch that ends now.
fn freeze(buffer: &mut WriteBuffer, budget: &mut Budget, band: &mut Band) -> Option<TableMeta> {
    let mut frozen = buffer.freeze()?;
    let mut writer = band.writer();
    let mut file = Vec::new();
    let sequence = u64::from(frozen.epoch());
    loop {
        let has_more = frozen.next(buffer, budget, 10, |key, change| {
            let entry = Entry { key, change, sequence, time_ms: None };
            writer.push(entry).expect("the values are small");
        });
        file.extend(writer.full_piece().into_iter().flat_map(|piece| piece.bytes));
        if !has_more {
            break;
        }
    }
    let mut ending = writer.finish();
    while let Some(piece) = ending.next_piece() {
        file.extend(piece.bytes);
    }
    buffer.on_written(frozen);
    let meta = ending.meta();
    band.files.insert(meta.id, file);
    Some(meta)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_a_write_buffer_froze_is_in_the_tables(
        epochs in prop::collection::vec(
            prop::collection::vec((0_u8..60, deed()), 0..40), 1..20,
        ),
    ) {
        let (mut band, mut model) = (Band::default(), BTreeMap::<Vec<u8>, Vec<u8>>::new());
        let (mut buffer, mut budget) = (WriteBuffer::new(0..1, 1), Budget::new(64 << 20));
        let space = buffer.open(0, 0, Origin::New);
        for deeds in &epochs {
            for (number, deed) in deeds {
                let stored = stored(*number);
                let (hash64, bytes) = (u64::from(number / 3), &stored[20..]);
                let key = RecordKey { hash64, spread: 0, bytes };
                match deed {
                    Deed::Put(value) => buffer.put(&mut budget, space, key, value),
                    Deed::Remove => buffer.remove(&mut budget, space, key),
                    Deed::Append(value) => buffer.append(&mut budget, space, key, value),
                }
                .expect("there is memory enough");
                deed.apply(stored, &mut model);
            }
            if let Some(meta) = freeze(&mut buffer, &mut budget, &mut band) {
                band.install(0, Tier::Merged(0), &meta);
                band.compact_all(1000);
            }
        }
        prop_assert_eq!(band.visible(), model);
    }
}
