//! Views see every row in place and waste no memory on it.

use super::*;
use crate::data::key_group::KeyGroupCount;
use crate::data::row::Origin;
use crate::operator::env::TaskPlace;

fn env() -> TaskEnv {
    let key_group_count = KeyGroupCount::new(8).expect("in range");
    TaskEnv::new(TaskPlace { chain_index: 0, task_index: 0, parallelism: 1, key_group_count })
}

fn batch(texts: &[&str]) -> Batch {
    let row = |(n, text): (u64, &&str)| Row {
        hash64: n,
        ..Row::new((*text).to_string(), n as i64, Origin::new(0, 1, n))
    };
    Batch::of_rows((0..).zip(texts).map(row).collect::<Vec<_>>())
}

/// Reads a whole batch; the lengths that came out, and how many rows were seen.
fn read<D: Decoder<Out = usize>>(view: &mut D, batch: Batch, env: &TaskEnv) -> (Vec<usize>, u32) {
    let (mut lengths, mut seen) = (Vec::new(), 0);
    let mut open = view.open(0, batch);
    loop {
        match view.next(&mut open, env) {
            Decoded::Row(row) => lengths.push(row.value),
            Decoded::Nothing => {}
            Decoded::End => break,
        }
        seen += 1;
    }
    let Returned::Rows(rows) = view.close(open) else { panic!("rows came, rows go back") };
    assert!(rows.downcast::<Vec<Row<String>>>().is_ok_and(|rows| rows.is_empty()));
    (lengths, seen)
}

#[test]
fn rows_that_are_not_wanted_are_seen() {
    let long = |text: &Archived<String>| (text.len() > 2).then(|| text.len());
    let mut view = View::<String, usize, _>::new(long);
    let (lengths, seen) = read(&mut view, batch(&["a", "four", "b", "five5"]), &env());
    assert_eq!((lengths, seen), (vec![4, 5], 4));
}

#[test]
fn owned_batches_are_archived_in_one_buffer() {
    let mut view = View::<String, usize, _>::new(|text: &Archived<String>| Some(text.len()));
    read(&mut view, batch(&["a"]), &env());
    let first: *const u8 = view.spare[0].as_slice().as_ptr();
    let large = "x".repeat(FRAME_BYTES);
    assert_eq!(read(&mut view, batch(&[&large]), &env()).0, [FRAME_BYTES]);
    read(&mut view, batch(&["b", "c"]), &env());
    let buffers: Vec<_> = view.spare.iter().map(|buffer| buffer.as_slice().as_ptr()).collect();
    assert_eq!(buffers, [first], "and the large one is not kept");
}

/// The panic is blamed on the row that the closure saw.
#[test]
fn a_closure_that_panics_has_begun_its_row() {
    let env = env();
    let mut view = View::<String, usize, _>::new(|text: &Archived<String>| {
        assert!(text.as_str() != "bad", "it is bad");
        Some(text.len())
    });
    let mut open = view.open(0, batch(&["good", "bad"]));
    assert!(matches!(view.next(&mut open, &env), Decoded::Row(_)));
    let next = std::panic::AssertUnwindSafe(|| view.next(&mut open, &env));
    assert!(std::panic::catch_unwind(next).is_err());
    assert_eq!(env.origin(), Origin::new(0, 1, 1));
    assert_eq!(env.panicked_stage(), Some(VIEW_STAGE));
}
