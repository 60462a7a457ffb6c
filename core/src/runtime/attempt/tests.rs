//! Starting and ending threads, and where they run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::*;

#[test]
fn if_a_thread_cannot_be_started_the_others_end() {
    let (order, ended) = (Arc::new(AtomicBool::new(false)), mpsc::channel::<u32>());
    let (ended_in, ended) = ended;
    let start = |seat: u32| {
        if seat == 2 {
            return Err(system("start a shard's thread", std::io::ErrorKind::OutOfMemory.into()));
        }
        let (order, ended_in) = (Arc::clone(&order), ended_in.clone());
        Ok(std::thread::spawn(move || {
            while !order.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            ended_in.send(seat).expect("somebody listens");
            Some(seat)
        }))
    };
    let give_up = || order.store(true, Ordering::Release);
    let error = start_all((0..4).collect(), start, give_up).expect_err("one could not be started");
    assert_eq!(error.to_string(), "could not start a shard's thread");
    drop(ended_in);
    // Both have been waited for: their words are there.
    let mut ended: Vec<u32> = ended.try_iter().collect();
    ended.sort_unstable();
    assert_eq!(ended, [0, 1]);
}

#[test]
fn a_thread_that_does_not_end_is_left_behind() {
    let (release, released) = mpsc::channel::<()>();
    let stuck = std::thread::spawn(move || released.recv().ok().map(|()| 1));
    let quick = std::thread::spawn(|| Some(2));
    while !quick.is_finished() {
        std::thread::yield_now();
    }
    let (words, left_behind) = join(vec![stuck, quick], Duration::ZERO);
    assert_eq!(words.expect("nobody panicked"), [2]);
    assert_eq!(left_behind.len(), 1);
    drop(release);
}

#[test]
fn a_panic_at_the_end_of_a_thread_is_told() {
    let thread = std::thread::spawn(|| -> Option<u32> { panic!("for the test") });
    let (words, left_behind) = join(vec![thread], START_PATIENCE);
    let error = words.expect_err("it panicked").to_string();
    assert!(left_behind.is_empty(), "{left_behind:?}");
    assert!(error.contains("panicked at its end"), "{error}");
}
