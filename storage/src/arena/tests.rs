//! No two buffers share a byte, whatever is taken, put, sent or dropped in whatever order.

use proptest::prelude::*;

use super::*;

#[test]
fn take_gives_aligned_zeroed_buffers_until_the_budget_is_used_up() {
    let mut slab = Slab::new(32 << 10, 3);
    assert_eq!(slab.allocated_bytes(), 0);
    let mut taken = Vec::new();
    while let Some(mut buffer) = slab.take() {
        assert!(buffer.is_empty() && !buffer.is_heap());
        assert_eq!(buffer.capacity(), 32 << 10);
        assert!((buffer.start.as_ptr() as usize).is_multiple_of(BUFFER_ALIGNMENT_BYTES));
        assert!(buffer.spare_mut().iter().all(|byte| *byte == 0));
        taken.push(buffer);
    }
    assert_eq!((taken.len(), slab.outstanding(), slab.available()), (3, 3, 0));
    assert_eq!(slab.allocated_bytes(), 3 * (32 << 10), "a small slab asks for what it may use");

    slab.put(taken.pop().expect("three were taken"));
    assert_eq!((slab.outstanding(), slab.available()), (2, 1));
    assert!(slab.take().is_some());
    assert!(slab.take().is_none());
}

#[test]
fn memory_is_asked_for_chunk_by_chunk() {
    let mut slab = Slab::new(1 << 20, 5);
    let mut taken = vec![slab.take().expect("five may be taken")];
    assert_eq!(slab.allocated_bytes(), CHUNK_BYTES);
    taken.extend(std::iter::from_fn(|| slab.take()));
    assert_eq!(taken.len(), 5);
    assert_eq!(slab.allocated_bytes(), 2 * CHUNK_BYTES + (1 << 20));
}

#[test]
fn a_buffer_grows_within_its_capacity() {
    let mut buffer = Slab::new(64, 1).take().expect("one may be taken");
    buffer.extend_from_slice(b"frame");
    buffer.spare_mut()[..2].copy_from_slice(b"ab");
    buffer.set_len(7);
    buffer.as_mut_slice()[0] = b'F';
    assert_eq!(buffer.as_slice(), b"Frameab");
    assert_eq!((buffer.len(), buffer.spare_bytes()), (7, 57));
    buffer.clear();
    assert_eq!(buffer.as_ref(), b"");
}

#[test]
#[should_panic(expected = "do not fit")]
fn a_buffer_does_not_grow_beyond_its_capacity() {
    Buffer::heap(64).set_len(65);
}

#[test]
fn heap_buffers_are_aligned_and_rounded_up() {
    for (asked, given) in [(0, 64), (1, 64), (65, 128), (4095, 4096), (4096, 4096), (4097, 8192)] {
        let mut buffer = Buffer::heap(asked);
        assert_eq!(buffer.capacity(), given);
        assert!(buffer.is_heap());
        let alignment = if asked < PAGE_BYTES { BUFFER_ALIGNMENT_BYTES } else { PAGE_BYTES };
        assert!((buffer.start.as_ptr() as usize).is_multiple_of(alignment));
        buffer.spare_mut().fill(7);
        buffer.set_len(given);
        assert!(buffer.as_slice().iter().all(|byte| *byte == 7));
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "buffers cross threads in the host")]
fn a_buffer_outlives_its_slab() {
    let mut slab = Slab::new(4096, 2);
    let mut buffer = slab.take().expect("two may be taken");
    buffer.extend_from_slice(b"still here");
    drop(slab);
    let buffer = std::thread::spawn(move || buffer).join().expect("the thread returns it");
    assert_eq!(buffer.as_slice(), b"still here");
}

#[test]
#[should_panic(expected = "another slab")]
fn a_slab_refuses_the_buffer_of_another() {
    let mut one = Slab::new(64, 1);
    let mut other = Slab::new(64, 1);
    let foreign = other.take().expect("one may be taken");
    let _own = one.take();
    one.put(foreign);
}

#[test]
#[should_panic(expected = "another slab")]
fn a_slab_refuses_a_heap_buffer() {
    Slab::new(64, 1).put(Buffer::heap(64));
}

proptest! {
    /// Every outstanding buffer keeps what was written to it while others are taken, filled, put
    /// back and dropped; the counts always add up.
    #[test]
    fn buffers_never_share_bytes(
        lines in 1_usize..40,
        count_max in 1_usize..80,
        steps in prop::collection::vec((0_u8..8, any::<prop::sample::Index>()), 1..400),
    ) {
        // Close to a megabyte a buffer in the larger cases, so that chunks change often.
        let buffer_bytes = lines * 64 * 400;
        let mut slab = Slab::new(buffer_bytes, count_max);
        let mut taken: Vec<(u64, Buffer)> = Vec::new();
        let mut dropped_count = 0;
        for (number, (step, which)) in steps.into_iter().enumerate() {
            let stamp = number as u64 + 1;
            match step {
                0..4 => {
                    let expected = taken.len() + dropped_count < count_max;
                    let buffer = slab.take();
                    prop_assert_eq!(buffer.is_some(), expected);
                    if let Some(mut buffer) = buffer {
                        buffer.set_len(buffer_bytes);
                        let bytes = buffer.as_mut_slice();
                        bytes[..8].copy_from_slice(&stamp.to_le_bytes());
                        bytes[buffer_bytes - 8..].copy_from_slice(&stamp.to_le_bytes());
                        taken.push((stamp, buffer));
                    }
                }
                4..7 if !taken.is_empty() => {
                    let (stamp, buffer) = taken.swap_remove(which.index(taken.len()));
                    prop_assert_eq!(&buffer.as_slice()[..8], &stamp.to_le_bytes());
                    slab.put(buffer);
                }
                7 if !taken.is_empty() => {
                    taken.swap_remove(which.index(taken.len()));
                    dropped_count += 1;
                }
                _ => {}
            }
            prop_assert_eq!(slab.outstanding(), taken.len() + dropped_count);
            prop_assert_eq!(slab.available() + slab.outstanding(), count_max);
        }
        for (stamp, buffer) in &taken {
            prop_assert_eq!(&buffer.as_slice()[..8], &stamp.to_le_bytes());
            prop_assert_eq!(&buffer.as_slice()[buffer_bytes - 8..], &stamp.to_le_bytes());
        }
    }
}
