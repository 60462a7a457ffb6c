//! Lookups that are begun early, begun again, or whose readers do not come.

use super::cases::cold;
use super::*;

/// What is asked for before the tables are open is not absent.
#[test]
fn who_asks_before_the_store_is_open_waits_for_it() {
    let mut world = cold([1, 2]);
    world.begin_to_open(world.rows());
    for _ in 0..10 {
        let got = world.got(1).expect("nothing has failed");
        if got == Poll::Ready(Some(vec![1; 10])) {
            assert!(world.store.is_open().expect("the tables are sound"));
            return;
        }
        assert_eq!(got, Poll::Pending);
        assert!(world.answer_any(), "what is waited for is answered");
    }
    panic!("it is never read");
}

/// A reader forgets a key and asks again while its block is being read: one answer is enough.
#[test]
fn a_lookup_that_is_begun_again_is_not_forgotten() {
    let mut world = World::new();
    world.run(&Deed::Put(1, vec![1; 5000]));
    world.run(&Deed::Freeze);
    world.flush();
    world.restart();
    world.run(&Deed::Append(1, vec![2; 10]));
    world.run(&Deed::Freeze);
    world.flush();
    world.restart_from(world.rows());
    assert_eq!(world.got(1).expect("nothing has failed"), Poll::Pending);
    let space = world.spaces[0];
    world.store.forget_space(space);
    assert_eq!(world.got(1).expect("nothing has failed"), Poll::Pending);
    assert!(world.answer_any());
    assert_eq!(world.store.reads.lookups.len(), 1, "it waits for the other table");
    assert!(world.answer_any());
    let value = [vec![1; 5000], vec![2; 10]].concat();
    assert_eq!(world.got(1).expect("it was read"), Poll::Ready(Some(value)));
}

/// What has no room yet is kept for readers that may not come: a little of it.
#[test]
fn what_nobody_asks_for_again_does_not_pile_up() {
    const VALUE_BYTES: usize = 200 << 10;
    const COUNT: usize = 70;
    let mut world = World::new();
    let bytes = rest(1);
    let name = |number: usize| RecordKey {
        hash64: number as u64 * (u64::MAX / 200),
        spread: 0,
        bytes: &bytes,
    };
    for number in 0..COUNT {
        let value = vec![number as u8; VALUE_BYTES];
        while world.store.put(world.spaces[0], name(number), &value).is_err() {
            world.run(&Deed::Freeze);
            world.flush();
        }
    }
    world.run(&Deed::Freeze);
    world.flush();
    world.restart_from(world.rows());
    let space = world.spaces[0];
    let fill = (100..200)
        .take_while(|number| world.store.put(space, name(*number), &vec![0; VALUE_BYTES]).is_ok());
    assert!(fill.count() < 100, "memory is full of what is dirty");
    let kept_bytes = |world: &World| -> usize {
        let lookups = world.store.reads.lookups.values();
        lookups.map(super::super::read::Lookup::value_len).sum()
    };
    for number in 0..COUNT {
        let got = world.store.get(space, name(number));
        assert!(matches!(got, Ok(Got::Wait(_))), "{got:?}");
        world.settle();
        assert!(kept_bytes(&world) < 5 << 20, "{} bytes", kept_bytes(&world));
    }
    assert!(3 << 20 < kept_bytes(&world), "readers that come soon find it");
    world.run(&Deed::Freeze);
    world.flush();
    for number in 0..COUNT {
        let value = loop {
            match world.store.get(space, name(number)).expect("clean records make room") {
                Got::Ready(value) => break value.map(<[u8]>::to_vec),
                Got::Wait(_) => assert!(world.answer_any(), "a read that waits is answered"),
            }
        };
        assert!(value.is_some_and(|value| value == vec![number as u8; VALUE_BYTES]));
    }
}
