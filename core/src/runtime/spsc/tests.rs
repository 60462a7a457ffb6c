//! Nothing is lost, doubled, reordered or leaked. Under loom: in every interleaving.

use std::sync::Arc as Counter;

use super::*;

#[cfg(not(loom))]
mod real {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_ring_gives_the_value_back() {
        let (mut producer, mut consumer) = ring(2);
        assert_eq!(producer.push('a'), Ok(()));
        assert_eq!(producer.push('b'), Ok(()));
        assert_eq!(producer.push('c'), Err('c'));
        assert_eq!(consumer.pop(), Some('a'));
        assert_eq!(producer.push('c'), Ok(()));
        assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some('b'), Some('c'), None));
    }

    #[test]
    fn staged_values_are_seen_after_publish() {
        let (mut producer, mut consumer) = ring(4);
        producer.stage('a').expect("there is room");
        producer.stage('b').expect("there is room");
        assert!(consumer.is_empty());
        producer.publish();
        let mut taken = Vec::new();
        assert_eq!(consumer.pop_into(&mut taken, 9), 2);
        assert_eq!(taken, ['a', 'b']);
    }

    #[test]
    fn a_batch_that_does_not_fit_is_cut() {
        let (mut producer, mut consumer) = ring(4);
        let mut values: VecDeque<u32> = (0..6).collect();
        assert_eq!(producer.push_batch(&mut values), 4);
        assert_eq!(values, [4, 5]);
        let mut taken = Vec::new();
        assert_eq!(consumer.pop_into(&mut taken, 3), 3);
        assert_eq!(producer.push_batch(&mut values), 2);
        assert_eq!(consumer.pop_into(&mut taken, 8), 3);
        assert_eq!(taken, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn values_left_in_the_ring_are_dropped_with_it() {
        let living = Counter::new(());
        let (mut producer, mut consumer) = ring(8);
        for number in 0..5 {
            producer.stage((number, Counter::clone(&living))).expect("there is room");
        }
        producer.publish();
        producer.stage((5, Counter::clone(&living))).expect("there is room");
        assert_eq!(consumer.pop().map(|(number, _)| number), Some(0));
        drop(consumer);
        drop(producer);
        assert_eq!(Counter::strong_count(&living), 1);
    }

    #[test]
    fn a_million_values_arrive_in_order() {
        let (mut producer, mut consumer) = ring(64);
        let sender = std::thread::spawn(move || {
            let mut batch = VecDeque::new();
            let mut next = 0_u64;
            while next < 1_000_000 || !batch.is_empty() {
                while batch.len() < 1 + (next % 13) as usize && next < 1_000_000 {
                    batch.push_back(next);
                    next += 1;
                }
                if producer.push_batch(&mut batch) == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let (mut taken, mut expected) = (Vec::new(), 0);
        while expected < 1_000_000 {
            if consumer.pop_into(&mut taken, 17) == 0 {
                std::thread::yield_now();
            }
            for value in taken.drain(..) {
                assert_eq!(value, expected);
                expected += 1;
            }
        }
        sender.join().expect("the sender does not panic");
        assert!(consumer.is_empty());
    }

    proptest! {
        /// The ring behaves like a queue that is cut at its capacity.
        #[test]
        fn is_a_bounded_queue(
            capacity_log in 0_u32..5,
            steps in prop::collection::vec((0_u8..5, 0_usize..9), 1..300),
        ) {
            let (mut producer, mut consumer) = ring(1 << capacity_log);
            let (mut staged, mut published) = (VecDeque::new(), VecDeque::new());
            let mut next = 0_u32;
            for (step, count) in steps {
                match step {
                    0 => {
                        let fits = staged.len() + published.len() < 1 << capacity_log;
                        prop_assert_eq!(producer.stage(next).is_ok(), fits);
                        if fits {
                            staged.push_back(next);
                        }
                        next += 1;
                    }
                    1 => {
                        producer.publish();
                        published.append(&mut staged);
                    }
                    2 => {
                        let mut batch: VecDeque<_> = (next..next + count as u32).collect();
                        let room = (1 << capacity_log) - staged.len() - published.len();
                        prop_assert_eq!(producer.push_batch(&mut batch), count.min(room));
                        published.append(&mut staged);
                        published.extend(next..next + count.min(room) as u32);
                        next += count as u32;
                    }
                    3 => prop_assert_eq!(consumer.pop(), published.pop_front()),
                    _ => {
                        let mut taken = Vec::new();
                        let expected = count.min(published.len());
                        prop_assert_eq!(consumer.pop_into(&mut taken, count), expected);
                        prop_assert!(published.drain(..expected).eq(taken));
                    }
                }
            }
        }
    }
}

#[cfg(loom)]
mod model {
    use loom::thread;

    use super::*;

    /// Sends `0..count` one way (`batched`) or the other (one by one) through `capacity` slots.
    fn check(capacity: usize, count: u32, batched: bool) {
        loom::model(move || {
            let (mut producer, mut consumer) = ring::<Box<u32>>(capacity);
            let sender = thread::spawn(move || {
                let mut values: VecDeque<Box<u32>> = (0..count).map(Box::new).collect();
                while !values.is_empty() {
                    let moved = if batched {
                        producer.push_batch(&mut values)
                    } else {
                        let value = values.pop_front().expect("the loop ends when empty");
                        match producer.push(value) {
                            Ok(()) => 1,
                            Err(value) => {
                                values.push_front(value);
                                0
                            }
                        }
                    };
                    if moved == 0 {
                        thread::yield_now();
                    }
                }
            });
            let mut taken = Vec::new();
            while taken.len() < count as usize {
                let moved = if batched {
                    consumer.pop_into(&mut taken, 2)
                } else {
                    let popped = consumer.pop();
                    let moved = usize::from(popped.is_some());
                    taken.extend(popped);
                    moved
                };
                if moved == 0 {
                    thread::yield_now();
                }
            }
            assert!(taken.iter().map(|value| **value).eq(0..count));
            sender.join().expect("the sender does not panic");
            assert!(consumer.pop().is_none());
        });
    }

    #[test]
    fn values_pushed_one_by_one_arrive_in_order() {
        check(2, 3, false);
    }

    #[test]
    fn values_pushed_in_batches_arrive_in_order() {
        check(2, 5, true);
    }

    #[test]
    fn a_single_slot_is_enough() {
        check(1, 3, false);
    }

    /// The slot is the ring's between the two: the producer finds it full, the consumer empty.
    #[test]
    fn a_single_slot_takes_the_next_value_once_the_staged_one_was_published_and_taken() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring::<Box<u32>>(1);
            let sender = thread::spawn(move || {
                producer.stage(Box::new(0)).expect("there is room");
                let mut next = producer.stage(Box::new(1)).expect_err("staged is not free");
                producer.publish();
                while let Err(value) = producer.stage(next) {
                    next = value;
                    thread::yield_now();
                }
                producer.publish();
            });
            for number in 0..2 {
                let value = loop {
                    match consumer.pop() {
                        Some(value) => break value,
                        None => thread::yield_now(),
                    }
                };
                assert_eq!(*value, number);
            }
            sender.join().expect("the sender does not panic");
            assert!(consumer.pop().is_none());
        });
    }

    #[test]
    fn whoever_goes_last_drops_what_is_left() {
        loom::model(|| {
            let living = Counter::new(());
            let (mut producer, mut consumer) = ring::<(u32, Counter<()>)>(4);
            let in_thread = Counter::clone(&living);
            let sender = thread::spawn(move || {
                producer.push((0, Counter::clone(&in_thread))).expect("there is room");
                producer.stage((1, Counter::clone(&in_thread))).expect("there is room");
                producer.stage((2, in_thread)).expect("there is room");
            });
            let taken = consumer.pop();
            assert!(taken.as_ref().is_none_or(|(number, _)| *number == 0));
            drop((taken, consumer));
            sender.join().expect("the sender does not panic");
            assert_eq!(Counter::strong_count(&living), 1);
        });
    }
}
